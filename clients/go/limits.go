package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"redis-gateway/clients/go/commands"
)

// AllowOptions are what [Gateway.Allow] may be told.
type AllowOptions struct {
	// Window is the length of the window. Default: a minute.
	Window time.Duration

	// Cost is how many units the request takes. Default: 1.
	Cost int64

	// Peek asks, and takes nothing.
	Peek bool
}

// TokensOptions are what [Gateway.Tokens] may be told.
type TokensOptions struct {
	// Per is the period of the rate. Default: a minute.
	Per time.Duration

	// Cost is how many tokens the request takes. Default: 1.
	Cost int64

	// Peek asks, and takes nothing.
	Peek bool
}

func modeOf(peek bool) commands.LimitMode {
	if peek {
		return commands.LimitModePeek
	}
	return ""
}

// Allow tells whether so many units fit into a sliding window under a key. An error is one of the call, or the context's. The options
// may be nil.
func (g *Gateway) Allow(ctx context.Context, key string, limit int64, options *AllowOptions) (LimitDecision, error) {
	var given AllowOptions
	if options != nil {
		given = *options
	}
	orDefault(&given.Window, time.Minute)
	orDefault(&given.Cost, 1)
	request := commands.AllowRequest(key, limit, &commands.AllowOptions{
		WindowMs: commands.Int(milliseconds(given.Window)), Cost: commands.Int(given.Cost), Mode: modeOf(given.Peek),
	})
	return g.limited(ctx, request, given.Window, localLimit{key, limit, given.Window, given.Cost, given.Peek})
}

// Tokens tells whether a bucket has so many tokens: it holds `burst`, and gets `rate` tokens in every period. An error is one of the
// call, or the context's. The options may be nil.
func (g *Gateway) Tokens(ctx context.Context, key string, rate, burst int64, options *TokensOptions) (LimitDecision, error) {
	var given TokensOptions
	if options != nil {
		given = *options
	}
	orDefault(&given.Per, time.Minute)
	orDefault(&given.Cost, 1)
	request := commands.TokensRequest(key, rate, burst, &commands.TokensOptions{
		PerMs: commands.Int(milliseconds(given.Per)), Cost: commands.Int(given.Cost), Mode: modeOf(given.Peek),
	})
	// A window in which as much is let through as the bucket would let through in that time.
	window := time.Duration(min(float64(given.Per)*max(1, float64(burst)/float64(max(rate, 1))), 1<<62))
	return g.limited(ctx, request, given.Per, localLimit{key, max(rate, burst), window, given.Cost, given.Peek})
}

// localLimit is what is asked of this process while the server is away.
type localLimit struct {
	key    string
	limit  int64
	window time.Duration
	cost   int64
	peek   bool
}

func (g *Gateway) limited(
	ctx context.Context, request commands.Request[commands.Verdict], period time.Duration, local localLimit,
) (LimitDecision, error) {
	verdict, err := ask(ctx, g.core.transport, request)
	var made LimitDecision
	if away := unavailable(err); away != nil && ctx.Err() == nil {
		made = g.limitedAlone(local, away.Reason)
	} else if err != nil {
		return LimitDecision{}, errorOf(ctx, err)
	} else {
		made = LimitDecision{
			Admitted, "", verdict.Limit, verdict.Remaining, durationOf(verdict.RetryAfterMs), durationOf(verdict.ResetAfterMs), period,
		}
		if !verdict.Allowed {
			made.Outcome, made.Reason = Denied, ReasonLimit
		}
	}
	g.core.watch.decided("limits", made.Outcome, made.Reason)
	return made, nil
}

// errorOf is the context's own error if it has ended: then that the server did not answer says nothing.
func errorOf(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return err
}

func (g *Gateway) limitedAlone(local localLimit, reason string) LimitDecision {
	settings := g.core.settings
	switch settings.Away.Limits {
	case ModeOpen:
		return LimitDecision{Degraded, reason, local.limit, local.limit, 0, 0, local.window}
	case ModeClosed:
		return LimitDecision{Denied, reason, local.limit, 0, settings.Pause, settings.Pause, local.window}
	}
	own := share(local.limit, settings.Instances)
	allowed, left, retry := g.core.windows.take("limits:"+local.key, own, local.window, local.cost, local.peek)
	if allowed {
		return LimitDecision{Degraded, reason, own, left, 0, local.window, local.window}
	}
	return LimitDecision{Denied, ReasonLocalLimit, own, left, retry, local.window, local.window}
}

// Budgets are ledgers that are asked for by themselves, outside an admission.
type Budgets struct{ core *core }

// Within tells whether a ledger is within its budgets, and would be with so much more; cost may be empty. An error is one of the call,
// or the context's.
func (b *Budgets) Within(ctx context.Context, key string, budgets []commands.Budget, cost Amount) (BudgetDecision, error) {
	options := &commands.WithinBudgetOptions{Estimate: cost}
	found, err := ask(ctx, b.core.transport, commands.WithinBudgetRequest(key, budgets, options))
	if away := unavailable(err); away != nil && ctx.Err() == nil {
		return b.alone(away), nil
	} else if err != nil {
		return BudgetDecision{}, errorOf(ctx, err)
	}
	return b.told(BudgetDecision{
		Admitted, "", found.Period, found.Budget, found.Spent, found.Held, found.Remaining, durationOf(found.ResetAfterMs),
	}, found.Within), nil
}

func (b *Budgets) told(made BudgetDecision, admitted bool) BudgetDecision {
	if !admitted {
		made.Outcome, made.Reason = Denied, ReasonLimit
	}
	b.core.watch.decided("budgets", made.Outcome, made.Reason)
	return made
}

func (b *Budgets) alone(away *UnavailableError) BudgetDecision {
	made := BudgetDecision{Outcome: Denied, Reason: away.Reason, ResetAfter: -1}
	if b.core.settings.Away.Budgets == ModeOpen {
		made.Outcome = Degraded
	}
	b.core.watch.decided("budgets", made.Outcome, made.Reason)
	return made
}

// Reserve sets money aside for a request if all budgets have room for it. ttl is for how long; zero: five minutes. An error is one of
// the call, or the context's: then nothing stays set aside.
func (b *Budgets) Reserve(
	ctx context.Context, key string, estimate Amount, budgets []commands.Budget, ttl time.Duration,
) (*Hold, error) {
	orDefault(&ttl, 5*time.Minute)
	made := &Hold{core: b.core, key: key, id: newID(), actual: estimate, at: time.Now(), known: true}
	options := &commands.ReserveOptions{TTLMs: commands.Int(milliseconds(ttl)), ID: made.id}
	found, err := ask(ctx, b.core.transport, commands.ReserveRequest(key, estimate, budgets, options))
	if ended := ctx.Err(); ended != nil {
		if err == nil || !isReply(err) {
			b.core.keep(made.cancelled())
		}
		return nil, ended
	}
	if away := unavailable(err); away != nil {
		made.decision, made.known = b.alone(away), away.Sent
		if away.Sent && !made.OK() {
			b.core.keep(made.cancelled())
		}
		return made, nil
	}
	if err != nil {
		return nil, err
	}
	made.decision = b.told(BudgetDecision{
		Admitted, "", found.Period, found.Budget, found.Spent, found.Held, found.Remaining, durationOf(found.ResetAfterMs),
	}, found.Granted)
	return made, nil
}

// ChargeOptions are what [Budgets.Charge] may be told.
type ChargeOptions struct {
	// ID names the charge: a repeat with the same id changes nothing. Made here if it is empty.
	ID string

	// At is the time of which it is. Default: now.
	At time.Time

	// Refund: the amount may be below 0.
	Refund bool
}

// Charge adds to a ledger, once. While the server is away the charge is kept, and booked later on the day of now, or of its time. It
// goes on when the context is cancelled. The options may be nil.
func (b *Budgets) Charge(ctx context.Context, key string, amount Amount, options *ChargeOptions) (Settlement, error) {
	var given ChargeOptions
	if options != nil {
		given = *options
	}
	if given.ID == "" {
		given.ID = newID()
	}
	orDefault(&given.At, time.Now())
	return b.core.deliver(ctx, newDelivery(commands.AddCostRequest(key, amount, &commands.AddCostOptions{
		AtMs: commands.Int(given.At.UnixMilli()), ID: given.ID, Refund: given.Refund,
	})))
}

// Spent is what a ledger has spent in the current period. It returns an [UnavailableError] if the server is away.
func (b *Budgets) Spent(ctx context.Context, key string, period commands.Period) (decimal.Decimal, error) {
	return ask(ctx, b.core.transport, commands.SpentRequest(key, &commands.SpentOptions{Period: period}))
}

// Hold is money set aside for a request. `defer hold.Close()` charges it at the end, at what Use told, or else at its estimate.
type Hold struct {
	core     *core
	key, id  string
	at       time.Time
	known    bool // The server may have heard of it.
	decision BudgetDecision

	mutex  sync.Mutex
	actual Amount
	ended  bool
}

// OK tells whether the request may go on.
func (h *Hold) OK() bool { return h.decision.OK() }

// Decision is the answer to the question.
func (h *Hold) Decision() BudgetDecision { return h.decision }

// ID is the hold's.
func (h *Hold) ID() string { return h.id }

// Use tells what the request has really cost. It returns an error if that is not an amount from 0.
func (h *Hold) Use(actual Amount) error {
	if err := checkAmount("actual", actual); err != nil {
		return err
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.actual = actual
	return nil
}

// Commit charges what the request has cost, once: the others return an empty settlement. It goes on when the context is cancelled.
func (h *Hold) Commit(ctx context.Context) (Settlement, error) {
	return h.end(ctx, func(actual Amount) *delivery {
		options := &commands.AddCostOptions{AtMs: commands.Int(h.at.UnixMilli()), ID: h.id}
		charge := newDelivery(commands.AddCostRequest(h.key, actual, options))
		if !h.known {
			return charge // The server has certainly not heard of it.
		}
		made := newDelivery(commands.CommitRequest(h.key, h.id, actual))
		made.fallback = [][]string{charge.words}
		return made
	})
}

// Close commits it, for `defer`.
func (h *Hold) Close() error {
	_, err := h.Commit(context.Background())
	return err
}

// Cancel gives the money free again.
func (h *Hold) Cancel(ctx context.Context) (Settlement, error) {
	return h.end(ctx, func(Amount) *delivery { return newDelivery(commands.CancelRequest(h.key, h.id)) })
}

// cancelled is for a question that may still be on its way: that nobody knows the hold is no answer yet.
func (h *Hold) cancelled() *delivery {
	made := newDelivery(commands.CancelRequest(h.key, h.id))
	made.early = true
	return made
}

func (h *Hold) end(ctx context.Context, make func(actual Amount) *delivery) (Settlement, error) {
	h.mutex.Lock()
	ended := h.ended || !h.OK()
	h.ended = true
	actual := h.actual
	h.mutex.Unlock()
	if ended {
		return "", nil
	}
	made, err := h.core.deliver(ctx, make(actual))
	if err != nil {
		// An error reply has changed nothing: it can be ended again.
		h.mutex.Lock()
		h.ended = false
		h.mutex.Unlock()
	}
	return made, err
}

var errNoTargets = errors.New("targets: at least one")
