package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"runtime"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

const (
	mostAccounts = 16 // In one call.
	money        = "usd"
)

// What is known of an admission in a group of accounts.
type groupState int

const (
	groupNot   groupState = iota // The server has certainly not admitted it.
	groupMaybe                   // It may have.
	groupLive
)

// group are accounts of one slot, and what is known of the admission there.
type group struct {
	accounts []string
	state    groupState
}

// howCalled is what is told of the call of a target: whether it has failed, for how long the provider wants no further call, and how
// long it took (negative: that is not known). silent: nobody knows whether it has answered.
type howCalled struct {
	silent   bool
	failed   bool
	cooldown time.Duration
	took     time.Duration
}

// Admission is a request that was admitted, denied, or, while the server is away, let through as degraded.
//
// It is settled once: `defer admission.Close()` does so at the end, however that comes. Meters whose use nobody tells keep their
// estimates. One that is forgotten is settled at its estimates once the garbage collector finds it, and is counted as leaked.
type Admission struct {
	*admission
}

// admission is what the gateway keeps of it: it must not hold the Admission, or nobody would notice that it was forgotten.
type admission struct {
	core       *core
	leaseID    string
	estimates  Amounts
	attributes map[string]string
	// untold: the accounts' admission of the same request tells of its tokens.
	untold     bool
	ttl        time.Duration
	keepUntil  time.Time
	admittedAt time.Time

	// Of the question. They do not change afterwards.
	outcome    Outcome
	reason     string
	retryAfter time.Duration
	rows       []commands.AdmissionRow
	target     string // Of an attempt.
	groups     []*group
	// billed are the accounts of a group to which the money is booked if the server does not know the lease.
	billed func(*group) []string

	mutex      sync.Mutex
	used       Amounts
	lost       bool
	ending     bool
	began      bool // A piece of its stream was passed on.
	settlement Settlement
}

// watchLeaks has what is left of it settled when the garbage collector finds it.
func (a *Admission) watchLeaks() {
	runtime.AddCleanup(a, func(left *admission) { go left.forgotten("admissions_leaked") }, a.admission)
}

func (a *admission) ok() bool { return a.outcome != Denied }

// OK tells whether the request may go on: it is admitted or degraded.
func (a *Admission) OK() bool { return a.ok() }

// Outcome is what was decided.
func (a *Admission) Outcome() Outcome { return a.outcome }

// Reason is why: empty if it was admitted; limit, local_limit, no_account; or why the server is away, such as timeout.
func (a *Admission) Reason() string { return a.reason }

// RetryAfter is how long a denied request has to wait; negative if waiting does not help.
func (a *Admission) RetryAfter() time.Duration { return a.retryAfter }

// LeaseID is the name of this attempt.
func (a *Admission) LeaseID() string { return a.leaseID }

// Rows are what the policies say, as [AdmitOptions].Rows asks for.
func (a *Admission) Rows() []commands.AdmissionRow { return a.rows }

// Refusals are the rows of the policies that do not allow it.
func (a *Admission) Refusals() []commands.AdmissionRow {
	var found []commands.AdmissionRow
	for _, row := range a.rows {
		if !row.Allowed {
			found = append(found, row)
		}
	}
	return found
}

// StatusCode is the HTTP status: 200, 429 if a limit refuses, 403 without an account, 503 if the server is away.
func (a *Admission) StatusCode() int { return statusCode(a.outcome, a.reason) }

// Headers are those of the HTTP response: Retry-After, IETF's RateLimit and RateLimit-Policy, OpenAI's and Anthropic's. They need rows
// with details, as they are replied by default. The options may be nil.
func (a *Admission) Headers(options *commands.HeaderOptions) map[string]string {
	told := commands.Admission{Admitted: a.OK(), RetryAfterMs: msOf(a.retryAfter), Rows: a.rows}
	return commands.AdmissionHeaders(told, time.Now(), options)
}

// Err is a [DeniedError] if the request was denied, and else nil.
func (a *Admission) Err() error {
	if a.OK() {
		return nil
	}
	return &DeniedError{a.reason, a.retryAfter, a.Headers(nil), a.StatusCode(), nil}
}

// Lost tells whether the lease has ended although it was kept alive: the server has lost it, or the hard cap has come.
func (a *Admission) Lost() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.lost
}

// Settlement is how it has ended; empty if it has not.
func (a *Admission) Settlement() Settlement {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.settlement
}

// What was used.

// Use tells what the request has used so far, in all, by meter. Later words replace earlier ones, and a meter with an empty amount
// tells nothing. It returns an error if one is not an amount from 0, and then takes none of them.
func (a *Admission) Use(amounts Amounts) error { return a.usedSoFar(amounts) }

func (a *admission) usedSoFar(amounts Amounts) error {
	for meter, amount := range amounts {
		if err := checkAmount(meter, amount); amount != "" && err != nil {
			return err
		}
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for meter, amount := range amounts {
		if amount != "" {
			a.used[meter] = amount
		}
	}
	return nil
}

// checkAmount: a settlement is too late to find out that the server would refuse an amount.
func checkAmount(name string, amount Amount) error {
	if made, err := commands.ParseAmount(string(amount)); err != nil || made.IsNegative() {
		return fmt.Errorf("%s: an amount from 0 to 10^18", name)
	}
	return nil
}

func isAboveZero(amount Amount) bool {
	made, err := commands.ParseAmount(string(amount))
	return err == nil && made.IsPositive()
}

// Unused tells that the model was not asked, or refused: the request counts, but has used nothing.
func (a *Admission) Unused() { a.unused() }

func (a *admission) unused() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	for meter := range a.estimates {
		a.used[meter] = "0"
	}
}

// The end.

// Settle ends the admission. Only the first call does something; the others return how that went, empty while it is under way. It
// goes on when the context is cancelled. If the server refuses it, that is the error, and it can be settled again.
func (a *Admission) Settle(ctx context.Context) (Settlement, error) {
	defer runtime.KeepAlive(a) // Or it could be found by the garbage collector before it begins to end.
	return a.end(ctx, nil, howCalled{took: -1})
}

// Close settles it, for `defer`.
func (a *Admission) Close() error {
	_, err := a.Settle(context.Background())
	return err
}

// Undo ends it as if it had never been: nothing is charged, and limits get back what it took.
func (a *Admission) Undo(ctx context.Context) (Settlement, error) {
	defer runtime.KeepAlive(a)
	return a.end(ctx, zeros(a.estimates), howCalled{took: -1})
}

func zeros(estimates Amounts) Amounts {
	made := Amounts{"requests": "0"}
	for meter := range estimates {
		made[meter] = "0"
	}
	return made
}

// end settles it at these amounts, or at what was told if they are nil.
func (a *admission) end(ctx context.Context, amounts Amounts, how howCalled) (Settlement, error) {
	a.mutex.Lock()
	if a.ending {
		defer a.mutex.Unlock()
		return a.settlement, nil
	}
	a.ending = true
	if amounts == nil {
		amounts = maps.Clone(a.used)
	}
	if _, told := amounts["requests"]; how.silent && !told {
		amounts["requests"] = "0" // Neither a success of the target nor a failure.
	}
	a.mutex.Unlock()
	a.core.livesNoMore(a)
	settlement, err := a.core.deliverAll(ctx, a.deliveries(amounts, how))
	if err != nil {
		// An error reply has changed nothing: it can be settled again.
		a.mutex.Lock()
		a.ending = false
		a.mutex.Unlock()
		a.core.lives(a)
		return "", err
	}
	a.mutex.Lock()
	a.settlement = settlement
	a.mutex.Unlock()
	a.core.watch.count("settlements", 1, Label{"outcome", string(settlement)})
	if !a.untold {
		a.core.watch.used(amounts, a.attributes)
	}
	return settlement, nil
}

// deliveries are what the server has to be told.
func (a *admission) deliveries(used Amounts, how howCalled) []*delivery {
	spent, told := used[money]
	if !told {
		spent = a.estimates[money]
	}
	var made []*delivery
	for _, group := range a.groups {
		if group.state == groupNot && !a.ok() {
			continue
		}
		var charges []*delivery
		if isAboveZero(spent) {
			at := commands.Int(a.admittedAt.UnixMilli())
			for _, account := range a.billed(group) {
				charge := commands.AddCostRequest(account, spent, &commands.AddCostOptions{AtMs: at, ID: a.leaseID})
				charges = append(charges, newDelivery(charge))
			}
		}
		if group.state == groupNot {
			// The server has certainly not heard of it.
			made = append(made, charges...)
			continue
		}
		options := &commands.SettleOptions{Amounts: used, Failed: how.failed}
		if how.failed && how.cooldown > 0 {
			options.CooldownMs = commands.Int(milliseconds(how.cooldown))
		}
		if how.took >= 0 {
			options.TookMs = commands.Int(how.took.Milliseconds())
		}
		d := newDelivery(commands.SettleRequest(group.accounts, a.leaseID, options))
		for _, charge := range charges {
			d.fallback = append(d.fallback, charge.words)
		}
		// If the question is still on its way, it is admitted later: it has to be settled then, and not charged now.
		d.early = group.state == groupMaybe
		made = append(made, d)
	}
	return made
}

func allOf(group *group) []string { return group.accounts }

// forgotten: nobody can settle it any more, so it is settled at what is known. `figure` is what counts it.
func (a *admission) forgotten(figure string) {
	a.mutex.Lock()
	ended := a.ending
	a.ending = true
	used := maps.Clone(a.used)
	a.mutex.Unlock()
	if ended || !a.ok() {
		return
	}
	a.core.livesNoMore(a)
	a.core.watch.count(figure, 1)
	if figure == "admissions_leaked" {
		a.core.settings.Logger.Error("an admission was never settled: it is settled at its estimates")
	}
	settlement := KeptForLater
	for _, d := range a.deliveries(used, howCalled{took: -1}) {
		if a.core.keep(d) == GivenUp {
			settlement = GivenUp
		}
	}
	a.mutex.Lock()
	a.settlement = settlement
	a.mutex.Unlock()
}

// giveBack undoes it in the background: whoever asked has left before the answer.
func (a *admission) giveBack() {
	a.mutex.Lock()
	ended := a.ending
	a.ending = true
	a.mutex.Unlock()
	if ended {
		return
	}
	a.core.livesNoMore(a)
	for _, d := range a.deliveries(zeros(a.estimates), howCalled{took: -1}) {
		a.core.keep(d)
	}
}

// What keeps it alive.

// holds: the server has admitted it, or may have: also one that is degraded.
func (a *admission) holds() bool {
	for _, group := range a.groups {
		if a.ok() && group.state != groupNot {
			return true
		}
	}
	return false
}

func (a *admission) lifetime() (time.Duration, time.Time) { return a.ttl, a.keepUntil }

func (a *admission) keepAlive() []call {
	a.mutex.Lock()
	ended := a.ending
	a.mutex.Unlock()
	var calls []call
	for _, group := range a.groups {
		if !ended && group.state != groupNot {
			calls = append(calls, callOf(commands.KeepAliveRequest(group.accounts, a.leaseID, milliseconds(a.ttl))))
		}
	}
	return calls
}

func (a *admission) keptAlive(live bool) {
	a.mutex.Lock()
	// One that is degraded may go on without a lease.
	lost := !live && !a.ending && a.outcome == Admitted
	a.lost = a.lost || lost
	a.mutex.Unlock()
	if lost {
		a.core.watch.count("leases_lost", 1)
	}
}

// Streams.

// stream is told what becomes of a model's answer. An Attempt has more to tell.
type stream interface {
	piece()
	usedSoFar(Amounts) error
	streamEnded(complete bool, failure error)
}

func (a *admission) piece() {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.began = true
}

func (a *admission) streamEnded(_ bool, failure error) {
	if failure != nil {
		a.mutex.Lock()
		nothing := !a.began && len(a.used) == 0
		a.mutex.Unlock()
		if nothing {
			a.unused()
		}
	}
	a.settleLoudly()
}

// settleLoudly settles where nobody takes an error.
func (a *admission) settleLoudly() {
	if _, err := a.end(context.Background(), nil, howCalled{took: -1}); err != nil {
		a.core.watch.count("settlements_refused", 1)
		a.core.settings.Logger.Error("a settlement was refused", "code", codeOf(err))
	}
}

// Stream passes a model's answer on, piece by piece, and settles when it ends, breaks off, or nobody wants more of it. to is an
// [Admission] or an [Attempt].
//
// usage finds in a piece what was used so far; it may be nil, and so may what it returns. If the model fails before its first piece,
// nothing was used. A stream over which nobody ranges settles nothing: Close of the admission does.
func Stream[T any](to Streamed, source iter.Seq2[T, error], usage func(T) Amounts) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var failure error
		complete := false
		defer func() { to.streamEnded(complete, failure) }()
		for piece, err := range source {
			if err != nil {
				failure = err
				yield(piece, err)
				return
			}
			to.piece()
			if usage != nil {
				if err := to.usedSoFar(usage(piece)); err != nil {
					yield(piece, err)
					return
				}
			}
			if !yield(piece, nil) {
				return
			}
		}
		complete = true
	}
}

// Streamed is an [Admission] or an [Attempt].
type Streamed interface{ stream }

// Body passes the body of a provider's response on, and settles when it ends, breaks off, or is closed. It takes the place of
// http.Response.Body, also in httputil.ReverseProxy.ModifyResponse.
//
// usage is given each piece as it was read, and finds in it what was used so far; it may be nil.
func Body(to Streamed, body io.ReadCloser, usage func(piece []byte) Amounts) io.ReadCloser {
	return &settlingBody{to: to, body: body, usage: usage}
}

type settlingBody struct {
	to    Streamed
	body  io.ReadCloser
	usage func([]byte) Amounts
	once  sync.Once
}

func (b *settlingBody) Read(into []byte) (int, error) {
	count, err := b.body.Read(into)
	if count > 0 {
		b.to.piece()
		if b.usage != nil {
			if failed := b.to.usedSoFar(b.usage(into[:count])); failed != nil && err == nil {
				err = failed
			}
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		b.ended(true, nil)
	case err != nil:
		b.ended(false, err)
	}
	return count, err
}

func (b *settlingBody) ended(complete bool, failure error) {
	b.once.Do(func() { b.to.streamEnded(complete, failure) })
}

func (b *settlingBody) Close() error {
	b.ended(false, nil)
	return b.body.Close()
}
