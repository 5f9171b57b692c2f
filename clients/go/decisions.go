package gateway

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"redis-gateway/clients/go/commands"
)

// Amount is an amount of money or of any meter, as a text such as "0.02" or "1500". [AmountOf] makes one of a number.
type Amount = commands.Amount

// Amounts are amounts by meter.
type Amounts = map[string]Amount

// AmountOf makes the amount of a number. A float is sent as the shortest text that reads as the same float.
func AmountOf[N commands.Number](number N) Amount { return commands.AmountOf(number) }

// Outcome is what was decided on a request.
type Outcome string

const (
	// Admitted: the request may go on.
	Admitted Outcome = "admitted"

	// Denied: it may not.
	Denied Outcome = "denied"

	// Degraded: let through without the server, which is away, as the settings allow.
	Degraded Outcome = "degraded"
)

// Reasons of outcomes. While the server is away, the reason is that of the [UnavailableError].
const (
	// ReasonLimit: a policy or a limit refuses.
	ReasonLimit = "limit"

	// ReasonLocalLimit: a limit of this process refuses, because the server is away.
	ReasonLocalLimit = "local_limit"

	// ReasonNoAccount: an account that is required does not exist.
	ReasonNoAccount = "no_account"
)

// DeniedError is a request that is not let through.
type DeniedError struct {
	// Reason is why.
	Reason string

	// RetryAfter is how long to wait; negative if waiting does not help.
	RetryAfter time.Duration

	// Headers are those of the HTTP response, and StatusCode its status.
	Headers    map[string]string
	StatusCode int

	// Err is the error of the last attempt, if there was one.
	Err error
}

func (e *DeniedError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("denied: %s: %v", e.Reason, e.Err)
	}
	return "denied: " + e.Reason
}

func (e *DeniedError) Unwrap() error { return e.Err }

// statusCode is the HTTP status of an outcome: 200, 429 if a limit refuses, 403 without an account, 503 if the server is away.
func statusCode(outcome Outcome, reason string) int {
	switch {
	case outcome != Denied:
		return 200
	case reason == ReasonLimit || reason == ReasonLocalLimit:
		return 429
	case reason == ReasonNoAccount:
		return 403
	}
	return 503
}

// LimitDecision is a limiter's answer.
type LimitDecision struct {
	Outcome Outcome

	// Reason is empty if it is admitted.
	Reason string

	// Limit, and what is left of it now.
	Limit, Remaining int64

	// RetryAfter is 0 if it is admitted, and negative if waiting does not help.
	RetryAfter time.Duration

	// ResetAfter is when the whole limit is free again.
	ResetAfter time.Duration

	// Period is the window, or the period of a bucket's rate.
	Period time.Duration
}

// OK tells whether the request may go on.
func (d LimitDecision) OK() bool { return d.Outcome != Denied }

// Headers are those of the HTTP response. The name is "requests" for a limit on requests, and "tokens" for one on tokens.
func (d LimitDecision) Headers(name string) map[string]string {
	told := commands.Verdict{
		Allowed: d.OK(), Limit: d.Limit, Remaining: d.Remaining, RetryAfterMs: msOf(d.RetryAfter), ResetAfterMs: msOf(d.ResetAfter),
	}
	return commands.VerdictHeaders(name, told, milliseconds(d.Period), time.Now(), nil)
}

// msOf is rounded up, and -1 if it is negative.
func msOf(length time.Duration) int64 {
	if length < 0 {
		return -1
	}
	return (length + time.Millisecond - 1).Milliseconds()
}

// BudgetDecision is whether a ledger is within its budgets. The amounts are of the tightest one, and zero if the server is away.
type BudgetDecision struct {
	Outcome Outcome
	Reason  string

	// Period is empty if the server is away.
	Period                         commands.Period
	Budget, Spent, Held, Remaining decimal.Decimal

	// ResetAfter is when the period ends; negative if it does not, or if the server is away.
	ResetAfter time.Duration
}

// OK tells whether the request may go on.
func (d BudgetDecision) OK() bool { return d.Outcome != Denied }
