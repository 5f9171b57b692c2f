package gateway

import (
	"context"
	"errors"
	"maps"
	"time"

	"redis-gateway/clients/go/commands"
)

// AdmitOptions are what [Gateway.Admit] may be told.
type AdmitOptions struct {
	// TTL is how long the admission lives without a sign of life. It is kept alive until it ends. Default: Settings.LeaseTTL.
	TTL time.Duration

	// LeaseID is the name of this attempt, new for each, and never of what comes from a client's request. Made here if it is empty.
	LeaseID string

	// Rows are which policies' rows to reply. DETAIL has what Headers needs, and is the default; REFUSED is cheaper.
	Rows commands.Rows

	// Require: deny if one of the accounts does not exist. If Settings.Plans knows a plan for it, it is made.
	Require bool

	// NoKeepAlive: it is not kept alive.
	NoKeepAlive bool

	// Attributes are for the observer's figures of tokens, such as gen_ai.request.model.
	Attributes map[string]string
}

type admitter struct {
	core   *core
	keeper *keeper
}

func (m *admitter) prepare(groups []*group, estimates Amounts, options *AdmitOptions) (*Admission, error) {
	for meter, amount := range estimates {
		if err := checkAmount(meter, amount); err != nil {
			return nil, err
		}
	}
	ttl, leaseID := options.TTL, options.LeaseID
	orDefault(&ttl, m.core.settings.LeaseTTL)
	if leaseID == "" {
		leaseID = newID()
	}
	now := time.Now()
	return &Admission{&admission{
		core: m.core, leaseID: leaseID, estimates: maps.Clone(estimates), attributes: maps.Clone(options.Attributes), ttl: ttl,
		outcome: Denied, admittedAt: now, keepUntil: now.Add(m.core.settings.LeaseCap), groups: groups, used: Amounts{}, billed: allOf,
	}}, nil
}

// grouped are accounts that can be named in one call, in their order.
func (m *admitter) grouped(accounts []string) []*group {
	last := map[int]*group{}
	var made []*group
	for _, account := range accounts {
		place := m.core.placeOf(account)
		own := last[place]
		if own == nil || len(own.accounts) == mostAccounts {
			own = &group{}
			last[place] = own
			made = append(made, own)
		}
		own.accounts = append(own.accounts, account)
	}
	return made
}

func (m *admitter) admit(ctx context.Context, accounts []string, estimates Amounts, options *AdmitOptions) (*Admission, error) {
	if options == nil {
		options = &AdmitOptions{}
	}
	made, err := m.prepareFor(ctx, accounts, estimates, options)
	if err != nil {
		return nil, err
	}
	return m.admitPrepared(ctx, made, options)
}

func (m *admitter) prepareFor(ctx context.Context, accounts []string, estimates Amounts, options *AdmitOptions) (*Admission, error) {
	if len(accounts) == 0 {
		return nil, errors.New("accounts: at least one")
	}
	made, err := m.prepare(m.grouped(accounts), estimates, options)
	if err == nil {
		err = ctx.Err()
	}
	return made, err
}

func (m *admitter) admitPrepared(ctx context.Context, made *Admission, options *AdmitOptions) (*Admission, error) {
	if err := m.askEach(ctx, made.admission, options, m.core.send); err != nil {
		return nil, err
	}
	if err := m.decided(ctx, made, "admission", !options.NoKeepAlive); err != nil {
		return nil, err
	}
	return made, nil
}

// sender sends a call, or has its reply already, because it was sent together with others.
type sender func(ctx context.Context, one call) (any, error)

// send is that of an answer that has come already.
func (a answer) send(context.Context, call) (any, error) { return a.reply, a.err }

func askBy[T any](ctx context.Context, send sender, request commands.Request[T]) (T, error) {
	reply, err := send(ctx, callOf(request))
	return decoded(request, reply, err)
}

// decided is called with the answer. Whoever has left meanwhile gets nothing, and what it brought is given back.
func (m *admitter) decided(ctx context.Context, made *Admission, family string, keepAlive bool) error {
	if err := ctx.Err(); err != nil {
		made.giveBack()
		return err
	}
	m.core.watch.decided(family, made.outcome, made.reason)
	if !made.OK() {
		return nil
	}
	m.core.lives(made.admission)
	made.watchLeaks()
	if keepAlive && made.holds() {
		m.keeper.add(made.admission)
	}
	return nil
}

// askEach asks slot by slot. An error is one of the call.
func (m *admitter) askEach(ctx context.Context, a *admission, options *AdmitOptions, send sender) error {
	for _, group := range a.groups {
		group.state = groupMaybe
		found, err := m.askGroup(ctx, group, a, options, send)
		away := unavailable(err)
		var missing *commands.NoAccountError
		switch {
		case away != nil:
			if !away.Sent {
				group.state = groupNot
			}
			m.decideAlone(ctx, a, away)
			return nil
		case errors.As(err, &missing):
			group.state = groupNot
			a.reason, a.retryAfter = ReasonNoAccount, -1
			return m.undo(ctx, a)
		case err != nil:
			if isReply(err) {
				group.state = groupNot
			}
			return errors.Join(err, m.undo(ctx, a))
		}
		a.rows = append(a.rows, found.Rows...)
		if !found.Admitted {
			group.state = groupNot
			a.reason, a.retryAfter = ReasonLimit, durationOf(found.RetryAfterMs)
			return m.undo(ctx, a)
		}
		group.state = groupLive
	}
	a.outcome = Admitted
	return nil
}

// question is what a group is asked.
func (m *admitter) question(group *group, a *admission, options *AdmitOptions) commands.Request[commands.Admission] {
	rows := options.Rows
	orDefault(&rows, commands.RowsDetail)
	return commands.AdmitRequest(group.accounts, a.leaseID, milliseconds(a.ttl), &commands.AdmitOptions{
		Amounts: a.estimates, Require: options.Require, Rows: rows,
	})
}

func (m *admitter) askGroup(
	ctx context.Context, group *group, a *admission, options *AdmitOptions, send sender,
) (commands.Admission, error) {
	asked := m.question(group, a, options)
	for made := 0; ; made++ {
		found, err := askBy(ctx, send, asked)
		send = m.core.send // What was sent together with others has had its reply.
		var ended *commands.LeaseEndedError
		var missing *commands.NoAccountError
		switch {
		case errors.As(err, &ended):
			// An answer was lost for so long that the lease has ended meanwhile.
			return found, &UnavailableError{"timeout", true, true}
		case errors.As(err, &missing) && made < len(group.accounts):
			if is, failed := m.make(ctx, missing.Account); failed != nil {
				return found, failed
			} else if is {
				continue
			}
		}
		return found, err
	}
}

// make makes an account from its plan, unless another gateway is quicker.
func (m *admitter) make(ctx context.Context, account string) (bool, error) {
	if m.core.settings.Plans == nil {
		return false, nil
	}
	plan, is := m.core.settings.Plans(account)
	if !is {
		return false, nil
	}
	options := &commands.PolicyPutOptions{NX: true}
	if plan.Idle > 0 {
		options.IdleMs = commands.Int(milliseconds(plan.Idle))
	}
	_, err := ask(ctx, m.core.transport, commands.PolicyPutRequest(account, plan.Policies, options))
	return true, err
}

// decideAlone decides while the server is away.
func (m *admitter) decideAlone(ctx context.Context, a *admission, away *UnavailableError) {
	settings := m.core.settings
	a.reason = away.Reason
	switch settings.Away.Admission {
	case ModeOpen:
		a.outcome = Degraded
		return
	case ModeLocal:
		limit := share(settings.Away.Local.Requests, settings.Instances)
		key := "admission:" + a.groups[0].accounts[0]
		allowed, _, retry := m.core.windows.take(key, limit, settings.Away.Local.Window, 1, false)
		if allowed {
			a.outcome = Degraded
			return
		}
		a.reason, a.retryAfter = ReasonLocalLimit, retry
	default:
		a.retryAfter = settings.Pause
	}
	m.undo(ctx, a) // What the server refuses of it is counted.
}

// undo gives back what the slots before have admitted, and what may have been admitted.
func (m *admitter) undo(ctx context.Context, a *admission) error {
	var known []*delivery
	for _, d := range a.deliveries(zeros(a.estimates), howCalled{took: -1}) {
		if d.early {
			m.core.keep(d)
		} else {
			known = append(known, d)
		}
	}
	for _, group := range a.groups {
		group.state = groupNot
	}
	_, err := m.core.deliverAll(ctx, known)
	return err
}
