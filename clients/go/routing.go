package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

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

	// untold: the admission of a request tells the observer of the tokens of all its attempts.
	untold bool
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
	defer runtime.KeepAlive(a.Admission)
	a.mutex.Lock()
	a.succeeded = a.succeeded || !a.ending
	silent := took < 0 && !a.hasAnswered()
	a.mutex.Unlock()
	return a.end(ctx, nil, howCalled{took: took, silent: silent})
}

// hasAnswered: a piece of an answer was passed on, or a use above 0 told.
func (a *Attempt) hasAnswered() bool {
	for _, amount := range a.used {
		if isAboveZero(amount) {
			return true
		}
	}
	return a.Admission.began
}

// Fail ends the attempt as a failure of the target. retryAfter is for how long the provider wants no further call; zero: it does not
// say.
func (a *Attempt) Fail(ctx context.Context, retryAfter time.Duration) (Settlement, error) {
	defer runtime.KeepAlive(a.Admission)
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

// howEnded tells whether no other target is to be tried, and else why it has failed, if that is known. Once the client has a piece of an
// answer, no other target can go on with it.
func (a *Attempt) howEnded() (over bool, failure error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.succeeded || a.Admission.began, a.err
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
	made, err := r.prepare(targets, estimates, options)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if err := r.askEach(ctx, made.Admission.admission, targets, options.Pick, r.core.settings.Away.Admission, r.core.send); err != nil {
		return nil, err
	}
	if err := r.decided(ctx, made, options); err != nil {
		return nil, err
	}
	return made, nil
}

func (r *router) prepare(targets []string, estimates Amounts, options RouteOptions) (*Attempt, error) {
	if len(targets) == 0 {
		return nil, errNoTargets
	}
	admission, err := r.admitter.prepare(nil, estimates, &options.AdmitOptions)
	if err != nil {
		return nil, err
	}
	// Of several targets that were asked the money is the chosen one's.
	own := admission.admission
	own.untold = options.untold
	own.billed = func(group *group) []string {
		if slices.Contains(group.accounts, own.target) {
			return []string{own.target}
		}
		return nil
	}
	return &Attempt{Admission: admission, failures: options.Failures}, nil
}

func (r *router) decided(ctx context.Context, made *Attempt, options RouteOptions) error {
	made.target, made.began = made.Admission.target, time.Now()
	return r.admitter.decided(ctx, made.Admission, "route", !options.NoKeepAlive)
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

func (r *router) question(a *admission, targets []string, pick commands.Pick) commands.Request[commands.Routed] {
	options := &commands.RouteOptions{Amounts: a.estimates, Pick: pick, Rows: commands.RouteRowsRefused}
	return commands.RouteRequest(targets, a.leaseID, milliseconds(a.ttl), options)
}

// askEach asks slot by slot. `away` is what is decided while the server is away.
func (r *router) askEach(ctx context.Context, a *admission, targets []string, pick commands.Pick, away Mode, send sender) error {
	missing := 0
	wait := time.Duration(-1)
	parts := r.grouped(targets)
	for _, part := range parts {
		// Whoever leaves meanwhile gives back whichever target has been charged.
		a.groups = nil
		for some := range slices.Chunk(part, mostAccounts) {
			a.groups = append(a.groups, &group{some, groupMaybe})
		}
		found, err := askBy(ctx, send, r.question(a, part, pick))
		why := unavailable(err)
		if codeOf(err) == "LEASEENDED" {
			why = &UnavailableError{"timeout", true, true}
		}
		switch {
		case codeOf(err) == "NOACCOUNT":
			missing++
			a.groups = nil
			continue
		case why != nil:
			if !why.Sent {
				a.groups = nil
			}
			r.decideAlone(a, targets, pick, away, why)
			return nil
		case err != nil:
			if !isReply(err) && !isEnded(err) {
				r.undo(a) // A reply that cannot be read.
			}
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
func (r *router) decideAlone(a *admission, targets []string, pick commands.Pick, away Mode, why *UnavailableError) {
	settings := r.core.settings
	a.reason = why.Reason
	order := slices.Clone(targets)
	if pick != commands.PickFirst {
		rand.Shuffle(len(order), func(one, other int) { order[one], order[other] = order[other], order[one] })
	}
	switch away {
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
	r.undo(a)
	a.groups = nil
}

// undo gives back what may have been charged.
func (r *router) undo(a *admission) {
	for _, d := range a.deliveries(zeros(a.estimates), howCalled{took: -1}) {
		r.core.keep(d)
	}
}
