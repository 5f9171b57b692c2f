package gateway

import (
	"context"
	"errors"
	"testing"
	"time"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

func TestWindowsAndBuckets(t *testing.T) {
	_, gw := started(t, patient())
	for at, want := range []Outcome{Admitted, Admitted, Denied} {
		window := must(gw.Allow(background, "k", 2, nil))(t)
		equal(t, window.Outcome, want)
		equal(t, window.OK(), want == Admitted)
		equal(t, window.Remaining, max(0, int64(1-at)))
		equal(t, must(gw.Tokens(background, "t", 1, 2, &TokensOptions{Per: time.Hour}))(t).Outcome, want)
	}
	denied := must(gw.Allow(background, "k", 2, nil))(t)
	equal(t, denied.Reason, ReasonLimit)
	if denied.RetryAfter <= 0 || denied.RetryAfter > time.Minute {
		t.Errorf("%v", denied.RetryAfter)
	}
	equal(t, must(gw.Allow(background, "k", 2, &AllowOptions{Cost: 3}))(t).RetryAfter, -1)
	equal(t, must(gw.Allow(background, "p", 2, &AllowOptions{Peek: true}))(t).Remaining, 2)
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := gw.Allow(ctx, "k", 2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestHeadersOfALimit(t *testing.T) {
	_, gw := started(t, patient())
	must(gw.Allow(background, "k", 1, nil))(t)
	headers := must(gw.Allow(background, "k", 1, nil))(t).Headers("requests")
	equal(t, headers["RateLimit-Policy"], `"requests";q=1;w=60`)
	if headers["Retry-After"] == "" || headers["x-ratelimit-remaining-requests"] != "0" {
		t.Errorf("%v", headers)
	}
}

func TestBudgetsAndHolds(t *testing.T) {
	_, gw := started(t, patient())
	within := must(gw.Budgets.Within(background, "l", tenDollars, "10"))(t)
	equal(t, within.OK(), true)
	equal(t, within.Remaining.String(), "10")
	equal(t, must(gw.Budgets.Within(background, "l", tenDollars, "10.5"))(t).Reason, ReasonLimit)
	hold := must(gw.Budgets.Reserve(background, "l", "6", tenDollars, 0))(t)
	equal(t, hold.OK(), true)
	equal(t, must(gw.Budgets.Reserve(background, "l", "6", tenDollars, 0))(t).OK(), false)
	ok(t, hold.Use("1.5"))
	equal(t, must(hold.Commit(background))(t), Settled)
	equal(t, spentOf(t, gw, "l"), "1.5")
	cancelled := must(gw.Budgets.Reserve(background, "l", "6", tenDollars, 0))(t)
	equal(t, must(cancelled.Cancel(background))(t), Settled)
	// One that the server has forgotten is charged under its id.
	forgotten := must(gw.Budgets.Reserve(background, "m", "6", tenDollars, 0))(t)
	must(gw.Commands.Cancel(background, "m", forgotten.ID()))(t)
	gone := &Hold{core: gw.core, key: "m", id: newID(), at: time.Now(), known: true, actual: "2", decision: forgotten.Decision()}
	equal(t, must(gone.Commit(background))(t), Charged)
	equal(t, spentOf(t, gw, "m"), "2")
	for range 2 {
		must(gw.Budgets.Charge(background, "l", "1", &ChargeOptions{ID: "once"}))(t)
	}
	must(gw.Budgets.Charge(background, "l", "-0.5", &ChargeOptions{Refund: true}))(t)
	equal(t, spentOf(t, gw, "l"), "2")
}

func TestHoldsEndOnce(t *testing.T) {
	server, gw := started(t, patient())
	hold := must(gw.Budgets.Reserve(background, "l", "6", tenDollars, 0))(t)
	if hold.Use("-1") == nil {
		t.Error("it was taken")
	}
	server.Run("RENAME l kept")
	wrongType(server, "l")
	if _, err := hold.Commit(background); err == nil {
		t.Error("it was not refused")
	}
	server.Run("DEL l")
	server.Run("RENAME kept l")
	ok(t, hold.Close())
	equal(t, must(hold.Cancel(background))(t), "")
	equal(t, spentOf(t, gw, "l"), "6")
	ctx, cancel := context.WithCancel(background)
	hold = must(gw.Budgets.Reserve(ctx, "l", "1", tenDollars, 0))(t)
	cancel()
	equal(t, must(hold.Commit(ctx))(t), Settled)
	equal(t, spentOf(t, gw, "l"), "7")
}

func TestACancelledReservationSetsNothingAside(t *testing.T) {
	settings := patient()
	settings.Kept.Every = time.Millisecond
	server, gw := started(t, settings)
	must(gw.Budgets.Charge(background, "l", "1", nil))(t)
	server.Freeze()
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	if _, err := gw.Budgets.Reserve(ctx, "l", "6", tenDollars, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	server.Thaw()
	held := func() string {
		return must(gw.Commands.Describe(background, "l"))(t).(commands.LedgerState).Held.String()
	}
	servers.Eventually(t, "nothing is set aside", func() bool { return held() == "0" && gw.Figures()["kept"] == 1 })
}
