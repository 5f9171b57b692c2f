package gateway

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"redis-gateway/clients/go/commands"
)

// RoutedRequest is a request that is paid by accounts and served by one of several targets. `defer request.Close()` settles what its
// attempts have used.
type RoutedRequest struct {
	router    *router
	admission *Admission
	targets   []string
	options   RouteOptions
	// first is the first attempt, if its target was asked for together with the accounts, and until it is begun.
	first    *Attempt
	attempts []*Attempt
}

// Request admits a request for its accounts. Attempts of the result then goes from target to target until one serves it. An error is
// one of the call, or the context's. The options may be nil.
//
//	request, err := gw.Request(ctx, []string{"{ml}:key:7"}, []string{"{gpt}:eu", "{gpt}:us"}, gateway.Amounts{"tokens": "1500"}, nil)
//	if err != nil {
//		return err
//	}
//	defer request.Close()
//	for attempt, err := range request.Attempts(ctx) {
//		if err != nil {
//			return err // A DeniedError: no target is left, or the accounts may not.
//		}
//		answer, err := call(attempt.Target()) // A CallFailedError: the next target is tried.
//		attempt.Use(answer.Used)
//		attempt.Done(ctx, err)
//	}
func (g *Gateway) Request(
	ctx context.Context, accounts, targets []string, estimates Amounts, options *RouteOptions,
) (*RoutedRequest, error) {
	var given RouteOptions
	if options != nil {
		given = *options
	}
	orDefault(&given.Pick, commands.PickFast)
	orDefault(&given.Attempts, 3)
	admission, err := g.admitter.prepareFor(ctx, accounts, estimates, &given.AdmitOptions)
	if err != nil {
		return nil, err
	}
	admit := given.AdmitOptions
	given.LeaseID = "" // Each attempt has one of its own.
	given.untold = true
	attempt, err := g.router.prepare(targets, estimates, given)
	if err != nil {
		return nil, err
	}
	made := &RoutedRequest{router: g.router, admission: admission, targets: slices.Clone(targets), options: given}
	if err := made.ask(ctx, attempt, &admit); err != nil {
		return nil, err
	}
	return made, nil
}

// ask asks for the accounts' admission and for the first target: in one round trip, if one server has all of them. Else the target is
// asked for later.
func (r *RoutedRequest) ask(ctx context.Context, attempt *Attempt, admit *AdmitOptions) error {
	router, admission := r.router, r.admission
	var asked []call
	for _, group := range admission.groups {
		asked = append(asked, callOf(router.admitter.question(group, admission.admission, admit)))
	}
	for _, part := range router.grouped(r.targets) {
		asked = append(asked, callOf(router.question(attempt.Admission.admission, part, r.options.Pick)))
	}
	transport := router.core.transport
	if len(asked) != 2 || transport.nodeOf(asked[0]) != transport.nodeOf(asked[1]) {
		_, err := router.admitter.admitPrepared(ctx, admission, admit)
		return err
	}
	answers := transport.many(ctx, asked)
	failed := router.admitter.askEach(ctx, admission.admission, admit, answers[0].send)
	away := router.core.settings.Away.Admission
	if !admission.OK() {
		away = ModeClosed
	}
	err := router.askEach(ctx, attempt.Admission.admission, r.targets, r.options.Pick, away, answers[1].send)
	// A target that was picked for accounts that refuse is free again at once.
	if !admission.OK() && attempt.OK() {
		_, undone := attempt.Undo(ctx)
		err = errors.Join(err, undone)
	}
	if failed != nil || err != nil {
		admission.giveBack()
		return cmp.Or(failed, err)
	}
	if err := router.admitter.decided(ctx, admission, "admission", !admit.NoKeepAlive); err != nil || !admission.OK() {
		attempt.giveBack()
		return err
	}
	if err := router.decided(ctx, attempt, r.options); err != nil {
		admission.giveBack()
		return err
	}
	r.first = attempt
	return nil
}

// next is the next attempt.
func (r *RoutedRequest) next(ctx context.Context, targets []string) (*Attempt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if first := r.first; first != nil {
		r.first, first.began = nil, time.Now()
		return first, nil
	}
	return r.router.route(ctx, targets, r.admission.estimates, r.options)
}

// Admission is that of the accounts.
func (r *RoutedRequest) Admission() *Admission { return r.admission }

// OK tells whether the accounts may go on.
func (r *RoutedRequest) OK() bool { return r.admission.OK() }

// Err is a [DeniedError] if the accounts may not go on, and else nil.
func (r *RoutedRequest) Err() error { return r.admission.Err() }

// Attempts goes from target to target, until one has served the request. An attempt that nobody has ended by Done, Settle or Fail when
// the loop goes on has succeeded, without a time. After the last one has failed, it yields a [DeniedError], and the request costs its
// accounts nothing but what failed attempts have told.
func (r *RoutedRequest) Attempts(ctx context.Context) iter.Seq2[*Attempt, error] {
	return func(yield func(*Attempt, error) bool) {
		if err := r.Err(); err != nil {
			yield(nil, err)
			return
		}
		reason, retry := "every_target_failed", time.Duration(-1)
		var last error
		left := slices.Clone(r.targets)
		for tried := 1; len(left) > 0 && tried <= r.options.Attempts; tried++ {
			attempt, err := r.next(ctx, left)
			if err != nil {
				yield(nil, err)
				return
			}
			if !attempt.OK() {
				if tried == 1 {
					reason, retry = attempt.Reason(), attempt.RetryAfter()
				}
				break
			}
			r.attempts = append(r.attempts, attempt)
			if !yield(attempt, nil) {
				return
			}
			if err := attempt.Close(); err != nil {
				yield(nil, err)
				return
			}
			over, failure := attempt.howEnded()
			if over {
				return
			}
			if failure != nil {
				last = failure
			}
			left = slices.DeleteFunc(left, func(target string) bool { return target == attempt.target })
		}
		if len(r.used()) == 0 {
			if _, err := r.admission.Undo(ctx); err != nil {
				last = errors.Join(last, err)
			}
		}
		yield(nil, r.denied(reason, retry, last))
	}
}

func (r *RoutedRequest) denied(reason string, retry time.Duration, last error) error {
	told := commands.Admission{RetryAfterMs: msOf(retry)}
	status := 503
	if reason == ReasonLimit || reason == ReasonLocalLimit {
		status = 429
	}
	return &DeniedError{reason, retry, commands.AdmissionHeaders(told, time.Now(), nil), status, last}
}

// used is what all attempts have used together: it is the request's, too. A meter of which none of them has told anything keeps the
// request's estimate.
func (r *RoutedRequest) used() Amounts {
	told := map[string]bool{}
	for _, attempt := range r.attempts {
		attempt.mutex.Lock()
		for meter := range attempt.Admission.used {
			told[meter] = true
		}
		attempt.mutex.Unlock()
	}
	totals := map[string]decimal.Decimal{}
	for _, attempt := range r.attempts {
		for meter, amount := range attempt.spent() {
			// What Use and the estimates take are amounts.
			if made, err := commands.ParseAmount(string(amount)); err == nil && told[meter] {
				totals[meter] = totals[meter].Add(made)
			}
		}
	}
	made := Amounts{}
	for meter, total := range totals {
		made[meter] = commands.AmountOfDecimal(total)
	}
	return made
}

// costNothing: all attempts have failed before they used anything.
func (r *RoutedRequest) costNothing() bool {
	for _, attempt := range r.attempts {
		if attempt.spent() != nil {
			return false
		}
	}
	return len(r.attempts) > 0
}

// Close settles the attempts and the accounts, for `defer`. The error of one holds up no other.
func (r *RoutedRequest) Close() error {
	var failed []error
	for _, attempt := range r.attempts {
		failed = append(failed, attempt.Close())
	}
	if r.first != nil { // Its target was not called.
		_, err := r.first.Undo(context.Background())
		failed = append(failed, err)
	}
	amounts := zeros(r.admission.estimates)
	if !r.costNothing() {
		amounts = nil
		failed = append(failed, r.admission.Use(r.used()))
	}
	_, err := r.admission.end(context.Background(), amounts, howCalled{took: -1})
	return errors.Join(append(failed, err)...)
}
