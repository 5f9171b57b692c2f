package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Mode is what is decided while the server is away.
type Mode string

// Open lets everything pass, ModeLocal limits within this process, and ModeClosed refuses everything.
const (
	ModeOpen   Mode = "open"
	ModeLocal  Mode = "local"
	ModeClosed Mode = "closed"
)

// Local is a limit of this deployment's own for admissions while the server is away. Each of [Settings].Instances gets its share.
type Local struct {
	// Requests in Window, for each first account. Range: 0 and more.
	Requests int64

	// Window is the length of the window. Default: a minute.
	Window time.Duration
}

// Away is what is decided while the server is away, by family.
type Away struct {
	// Limits is for Allow and Tokens. Local: the call's own limit, divided by [Settings].Instances. Default: local.
	Limits Mode

	// Slots is for Slot. Local: the call's maximum, divided by [Settings].Instances. Locks are always closed. Default: local.
	Slots Mode

	// Budgets is for Within and Reserve: open or closed. Default: closed.
	Budgets Mode

	// Admission is for Admit and Route. Closed suits prepaid accounts. Local needs Local. Default: closed.
	Admission Mode

	// Local is the limit of admissions if Admission is local.
	Local Local
}

// Kept is how settlements and charges are kept that the server has not taken yet. They are sent again until it takes them, each
// once.
type Kept struct {
	// Count is the most that are kept. Further ones are dropped, and counted. Default: 100,000.
	Count int

	// Directory is where they survive the process. Empty: they are kept in memory only.
	Directory string

	// Every is the time between two tries. Default: a second.
	Every time.Duration

	// SettleWithin: a settlement that may have arrived is given up after this time, since the server forgets settled leases after an
	// hour. Default: 55 minutes.
	SettleWithin time.Duration

	// ChargeWithin is the same for charges: the server forgets their ids after `gw.idempotency-ms`, a day by default. Default: 22 hours
	// and 13 minutes.
	ChargeWithin time.Duration

	// BookWithin: if the server does not know the admission of a settlement that may have arrived, its money is booked only within this
	// time. An account remembers the last 65,536 that it settled, for an hour at most: at more than 18 a second it forgets sooner, and
	// the money would be booked twice. The default suits up to 109 settlements a second for each account; set it to 65,536 divided
	// by your rate if that is higher. Default: 10 minutes.
	BookWithin time.Duration
}

// Settings are how a gateway behaves. What is zero has its default.
type Settings struct {
	// Timeout is the longest wait for a reply on the request path. Default: 50 ms.
	Timeout time.Duration

	// ConnectTimeout is the longest wait for a connection. Default: 100 ms.
	ConnectTimeout time.Duration

	// Connections are the most to one server, besides those of WaitingConnections. Default: 50.
	Connections int

	// WaitingConnections are the most on which calls wait inside the server: for an answer that another is computing, or for a slot.
	// Default: 8.
	WaitingConnections int

	// WaitingTimeout is the longest wait for a reply on these. A longer wait is made of several calls. Range: 500 ms and more.
	// Default: 5 s.
	WaitingTimeout time.Duration

	// Failures in a row, so many of them, open the circuit: the server is not asked for Pause. Default: 5.
	Failures int

	// Pause is how long the server is not asked. Default: a second.
	Pause time.Duration

	// Instances is how many processes share the limits. Each gets its part of a local limit while the server is away. Default: 1.
	Instances int64

	// LeaseTTL is how long an admission's lease lives without a sign of life. It is prolonged every third of this time. Default: 30 s.
	LeaseTTL time.Duration

	// LeaseCap: an admission is not prolonged beyond this time after it was admitted. Default: 10 minutes.
	LeaseCap time.Duration

	// Away is what is decided while the server is away.
	Away Away

	// Kept is how settlements and charges are kept meanwhile.
	Kept Kept

	// Plans finds the plan of an account that does not exist. None if it is nil: then such accounts limit nothing, or are denied if
	// [AdmitOptions].Require says so.
	Plans func(account string) (Plan, bool)

	// Observer is told what is decided and how it went: see the package otel. None if it is nil.
	Observer Observer

	// Logger is told what an operator should know, without keys or contents. Default: [slog.Default].
	Logger *slog.Logger
}

// Plan is what an account is made of that does not exist yet.
type Plan struct {
	// Policies are the document of GW.POLICYPUT.
	Policies string

	// Idle: the account expires so long after its last request. Zero: never.
	Idle time.Duration
}

func orDefault[T comparable](value *T, otherwise T) {
	var none T
	if *value == none {
		*value = otherwise
	}
}

// complete sets what has its default, and checks the rest.
func (s *Settings) complete() error {
	orDefault(&s.Timeout, 50*time.Millisecond)
	orDefault(&s.ConnectTimeout, 100*time.Millisecond)
	orDefault(&s.Connections, 50)
	orDefault(&s.WaitingConnections, 8)
	orDefault(&s.WaitingTimeout, 5*time.Second)
	orDefault(&s.Failures, 5)
	orDefault(&s.Pause, time.Second)
	orDefault(&s.Instances, 1)
	orDefault(&s.LeaseTTL, 30*time.Second)
	orDefault(&s.LeaseCap, 10*time.Minute)
	orDefault(&s.Away.Limits, ModeLocal)
	orDefault(&s.Away.Slots, ModeLocal)
	orDefault(&s.Away.Budgets, ModeClosed)
	orDefault(&s.Away.Admission, ModeClosed)
	orDefault(&s.Away.Local.Window, time.Minute)
	orDefault(&s.Kept.Count, 100_000)
	orDefault(&s.Kept.Every, time.Second)
	orDefault(&s.Kept.SettleWithin, 3_300*time.Second)
	orDefault(&s.Kept.ChargeWithin, 80_000*time.Second)
	orDefault(&s.Kept.BookWithin, 10*time.Minute)
	orDefault(&s.Logger, slog.Default())
	return s.check()
}

func (s *Settings) check() error {
	for name, value := range map[string]time.Duration{
		"Timeout": s.Timeout, "ConnectTimeout": s.ConnectTimeout, "Pause": s.Pause, "LeaseTTL": s.LeaseTTL, "LeaseCap": s.LeaseCap,
		"Away.Local.Window": s.Away.Local.Window, "Kept.Every": s.Kept.Every, "Kept.SettleWithin": s.Kept.SettleWithin,
		"Kept.ChargeWithin": s.Kept.ChargeWithin, "Kept.BookWithin": s.Kept.BookWithin,
	} {
		if value < 0 {
			return fmt.Errorf("the setting %s is above 0", name)
		}
	}
	if s.Connections < 1 || s.WaitingConnections < 1 || s.Failures < 1 || s.Instances < 1 || s.Kept.Count < 1 {
		return errors.New("the settings Connections, WaitingConnections, Failures, Instances and Kept.Count are 1 at least")
	}
	if s.WaitingTimeout < 500*time.Millisecond {
		return errors.New("the setting WaitingTimeout is 500 ms at least")
	}
	if s.Away.Local.Requests < 0 {
		return errors.New("the setting Away.Local.Requests is from 0")
	}
	for name, mode := range map[string]Mode{"Limits": s.Away.Limits, "Slots": s.Away.Slots, "Admission": s.Away.Admission} {
		if mode != ModeOpen && mode != ModeLocal && mode != ModeClosed {
			return fmt.Errorf("the setting Away.%s is open, local or closed", name)
		}
	}
	if s.Away.Budgets != ModeOpen && s.Away.Budgets != ModeClosed {
		return errors.New("the setting Away.Budgets is open or closed")
	}
	return nil
}

// longestWait is a part of the waiting time-out: so that time-out tells in time that the server is away.
func (s *Settings) longestWait() time.Duration { return s.WaitingTimeout * 4 / 5 }
