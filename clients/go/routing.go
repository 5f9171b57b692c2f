package gateway

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"redis-gateway/clients/go/commands"
)

const mostTargets = 64 // In one call.

// CallFailedError says in an attempt that the target has failed, and that the next one is to be tried.
type CallFailedError struct {
	// RetryAfter is how long the provider wants no further call; zero if it does not say.
	RetryAfter time.Duration

	// Err is why.
	Err error
}

func (e *CallFailedError) Error() string {
	if e.Err == nil {
		return "the call failed"
	}
	return "the call failed: " + e.Err.Error()
}

func (e *CallFailedError) Unwrap() error { return e.Err }

// RouteOptions are what [Gateway.Route] and [Gateway.Request] may be told.
type RouteOptions struct {
	// Pick is how the target is chosen. Default: FIRST for Route, FAST for Request.
	Pick commands.Pick

	// Failures says which errors are failures of the target, besides [CallFailedError]: it returns nil for those that are none.
	Failures func(err error) *CallFailedError

	// Attempts are the most targets that Request tries. Default: 3.
	Attempts int

	// TTL, LeaseID, NoKeepAlive and Attributes are those of [AdmitOptions].
	AdmitOptions
}

// Attempt is a call of one target: an admission for it.
type Attempt struct {
	*Admission

	target    string
	began     time.Time
	failures  func(error) *CallFailedError
	succeeded bool
	err       error
}

// Target is the key of the target to call; empty if none has room.
func (a *Attempt) Target() string { return a.target }

// Settle ends the attempt as a success of the target, with the time that it took.
func (a *Attempt) Settle(ctx context.Context) (Settlement, error) {
	return a.succeed(ctx, time.Since(a.began))
}

// Close settles it, for `defer`. If how it went was not told before, how long the call took is not known. If the target is known to have
// answered, because a piece of its stream was passed on or Use has told an amount above 0, that counts as a success. If not, it says
// nothing about the target: it neither closes nor opens a breaker, the limits on the target's requests get this one back, and other
// meters keep their estimates.
func (a *Attempt) Close() error {
	_, err := a.succeed(context.Background(), -1)
	return err
}

func (a *Attempt) succeed(ctx context.Context, took time.Duration) (Settlement, error) {
	a.mutex.Lock()
	a.succeeded = a.succeeded || !a.ending
	silent := took < 0 && !a.hasAnswered()
	a.mutex.Unlock()
	return a.end(ctx, nil, howCalled{took: took, silent: silent})
}

// hasAnswered: a piece of an answer was passed on, or a use above 0 told.
func (a *Attempt) hasAnswered() bool {
	for _, amount := range a.used {
		if made, err := commands.ParseAmount(string(amount)); err == nil && made.IsPositive() {
			return true
		}
	}
	return a.Admission.began
}

// Fail ends the attempt as a failure of the target. retryAfter is for how long the provider wants no further call; zero: it does not
// say.
func (a *Attempt) Fail(ctx context.Context, retryAfter time.Duration) (Settlement, error) {
	a.mutex.Lock()
	var amounts Amounts
	if len(a.used) == 0 {
		amounts = zeros(a.estimates)
	}
	a.mutex.Unlock()
	return a.end(ctx, amounts, howCalled{failed: true, cooldown: retryAfter, took: -1})
}

// Done ends the attempt by the error of the call: nil is a success; a [CallFailedError], or what RouteOptions.Failures says, a failure
// of the target; any other, such as that the client has left, ends it as Close does.
func (a *Attempt) Done(ctx context.Context, err error) (Settlement, error) {
	if err == nil {
		return a.Settle(ctx)
	}
	if failure := a.failureOf(err); failure != nil {
		a.mutex.Lock()
		a.err = err
		a.mutex.Unlock()
		return a.Fail(ctx, failure.RetryAfter)
	}
	return a.succeed(ctx, -1)
}

func (a *Attempt) failureOf(err error) *CallFailedError {
	var failure *CallFailedError
	if errors.As(err, &failure) {
		return failure
	}
	if a.failures != nil {
		return a.failures(err)
	}
	return nil
}

// passedOn: once the client has a piece of an answer, no other target can go on with it.
func (a *Attempt) passedOn() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.Admission.began
}

func (a *Attempt) streamEnded(complete bool, failure error) {
	var err error
	switch {
	case failure != nil:
		_, err = a.Done(context.Background(), failure)
	case complete:
		_, err = a.Settle(context.Background())
	default:
		err = a.Close()
	}
	if err != nil {
		a.core.watch.count("settlements_refused", 1)
		a.core.settings.Logger.Error("a settlement was refused", "code", codeOf(err))
	}
}

// spent is what it has used, as the server charges it; nil if it was nothing.
func (a *Attempt) spent() Amounts {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if !a.succeeded && len(a.used) == 0 {
		return nil
	}
	made := Amounts{}
	for _, amounts := range []Amounts{a.estimates, a.used} {
		for meter, amount := range amounts {
			made[meter] = amount
		}
	}
	return made
}

type router struct {
	core     *core
	keeper   *keeper
	admitter *admitter
}

// Route picks one of several targets that has room for a request, and charges the estimates to it. An error is one of the call, or the
// context's. The options may be nil.
func (g *Gateway) Route(ctx context.Context, targets []string, estimates Amounts, options *RouteOptions) (*Attempt, error) {
	var given RouteOptions
	if options != nil {
		given = *options
	}
	orDefault(&given.Pick, commands.PickFirst)
	return g.router.route(ctx, targets, estimates, given)
}

func (r *router) route(ctx context.Context, targets []string, estimates Amounts, options RouteOptions) (*Attempt, error) {
	if len(targets) == 0 {
		return nil, errNoTargets
	}
	admission, err := r.admitter.prepare(nil, estimates, &options.AdmitOptions)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	made := &Attempt{Admission: admission, failures: options.Failures}
	// Of several targets that were asked the money is the chosen one's.
	admission.billed = func(group *group) []string {
		if target := admission.target; slices.Contains(group.accounts, target) {
			return []string{target}
		}
		return nil
	}
	if err := r.askEach(ctx, admission.admission, targets, options.Pick); err != nil {
		return nil, err
	}
	made.target, made.began = admission.target, time.Now()
	return made, r.admitter.decided(ctx, admission, "route", !options.NoKeepAlive)
}

// grouped are targets that can be named in one call. Those of different slots cannot be compared: the first that admits it is taken.
func (r *router) grouped(targets []string) [][]string {
	type place struct{ slot, part int }
	at := map[place]int{}
	counts := map[int]int{}
	var made [][]string
	for _, target := range targets {
		slot := r.core.placeOf(target)
		own := place{slot, counts[slot] / mostTargets}
		counts[slot]++
		if _, has := at[own]; !has {
			at[own] = len(made)
			made = append(made, nil)
		}
		made[at[own]] = append(made[at[own]], target)
	}
	return made
}

func (r *router) askEach(ctx context.Context, a *admission, targets []string, pick commands.Pick) error {
	missing := 0
	wait := time.Duration(-1)
	parts := r.grouped(targets)
	for _, part := range parts {
		// Whoever leaves meanwhile gives back whichever target has been charged.
		a.groups = nil
		for some := range slices.Chunk(part, mostAccounts) {
			a.groups = append(a.groups, &group{some, groupMaybe})
		}
		options := &commands.RouteOptions{Amounts: a.estimates, Pick: pick, Rows: commands.RouteRowsRefused}
		found, err := ask(ctx, r.core.transport, commands.RouteRequest(part, a.leaseID, milliseconds(a.ttl), options))
		away := unavailable(err)
		if codeOf(err) == "LEASEENDED" {
			away = &UnavailableError{"timeout", true, true}
		}
		switch {
		case codeOf(err) == "NOACCOUNT":
			missing++
			a.groups = nil
			continue
		case away != nil:
			if !away.Sent {
				a.groups = nil
			}
			r.decideAlone(a, targets, pick, away)
			return nil
		case err != nil:
			a.groups = nil
			return err
		case found.Target != nil:
			a.target = *found.Target
			a.groups = []*group{{[]string{a.target}, groupLive}}
			a.outcome = Admitted
			return nil
		}
		a.groups = nil
		a.rows = append(a.rows, found.Rows...)
		if own := durationOf(found.RetryAfterMs); own >= 0 && (wait < 0 || own < wait) {
			wait = own
		}
	}
	a.reason, a.retryAfter = ReasonLimit, wait
	if missing == len(parts) {
		a.reason = ReasonNoAccount
	}
	return nil
}

// decideAlone decides while the server is away.
func (r *router) decideAlone(a *admission, targets []string, pick commands.Pick, away *UnavailableError) {
	settings := r.core.settings
	a.reason = away.Reason
	order := slices.Clone(targets)
	if pick != commands.PickFirst {
		rand.Shuffle(len(order), func(one, other int) { order[one], order[other] = order[other], order[one] })
	}
	switch settings.Away.Admission {
	case ModeOpen:
		a.target = order[0]
	case ModeLocal:
		a.retryAfter = -1
		limit := share(settings.Away.Local.Requests, settings.Instances)
		for _, target := range order {
			allowed, _, retry := r.core.windows.take("route:"+target, limit, settings.Away.Local.Window, 1, false)
			if allowed {
				a.target = target
				break
			}
			if retry >= 0 && (a.retryAfter < 0 || retry < a.retryAfter) {
				a.retryAfter = retry
			}
		}
		if a.target == "" {
			a.reason = ReasonLocalLimit
		}
	default:
		a.retryAfter = settings.Pause
	}
	if a.target != "" {
		a.outcome, a.retryAfter = Degraded, 0
		asked := slices.ContainsFunc(a.groups, func(one *group) bool { return slices.Contains(one.accounts, a.target) })
		if !asked {
			a.groups = append(a.groups, &group{[]string{a.target}, groupNot})
		}
		return
	}
	for _, d := range a.deliveries(zeros(a.estimates), howCalled{took: -1}) {
		r.core.keep(d)
	}
	a.groups = nil
}

// RoutedRequest is a request that is paid by accounts and served by one of several targets. `defer request.Close()` settles what its
// attempts have used.
type RoutedRequest struct {
	router    *router
	admission *Admission
	targets   []string
	options   RouteOptions
	attempts  []*Attempt
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
	admission, err := g.admitter.admit(ctx, accounts, estimates, &given.AdmitOptions)
	if err != nil {
		return nil, err
	}
	given.LeaseID = "" // Each attempt has one of its own.
	return &RoutedRequest{g.router, admission, slices.Clone(targets), given, nil}, nil
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
			attempt, err := r.router.route(ctx, left, r.admission.estimates, r.options)
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
			if attempt.succeeded || attempt.passedOn() {
				return
			}
			if attempt.err != nil {
				last = attempt.err
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
	amounts := zeros(r.admission.estimates)
	if !r.costNothing() {
		amounts = nil
		failed = append(failed, r.admission.Use(r.used()))
	}
	_, err := r.admission.end(context.Background(), amounts, howCalled{took: -1})
	return errors.Join(append(failed, err)...)
}
