package gateway

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

var targets = []string{"{gpt}:eu", "{gpt}:us", "{gpt}:asia"}

func routed(t *testing.T) (*servers.Server, *Gateway) {
	t.Helper()
	server, gw := started(t, patient())
	server.Run("GW.POLICYSET {ml} rpm WINDOW 4 PER 3600000")
	server.Run("GW.POLICYSET {ml} month BUDGET 100 MONTH")
	for _, target := range targets {
		server.Run("GW.POLICYSET " + target + " flight INFLIGHT 1")
		server.Run("GW.POLICYSET " + target + " up BREAKER 2 PER 3600000 OPEN 3600000")
	}
	return server, gw
}

func noneInFlight(t *testing.T, gw *Gateway) {
	t.Helper()
	for _, target := range targets {
		equal(t, accountOf(t, gw, target).InFlight, 0)
	}
}

// try goes through a request's attempts; call serves them.
func try(t *testing.T, gw *Gateway, from []string, estimates Amounts, options *RouteOptions, call func(*Attempt) error) (
	request *RoutedRequest, failed error,
) {
	t.Helper()
	request = must(gw.Request(background, []string{"{ml}"}, from, estimates, options))(t)
	for attempt, err := range request.Attempts(background) {
		if err != nil {
			failed = err
			break
		}
		if _, err := attempt.Done(background, call(attempt)); err != nil {
			t.Error(err)
		}
	}
	if err := request.Close(); err != nil {
		t.Error(err)
	}
	return request, failed
}

var inOrder = &RouteOptions{Pick: commands.PickFirst}

func TestTheFirstThatHasRoom(t *testing.T) {
	_, gw := routed(t)
	one := must(gw.Route(background, targets, Amounts{"tokens": "10"}, nil))(t)
	two := must(gw.Route(background, targets, Amounts{"tokens": "10"}, nil))(t)
	equal(t, one.Target(), targets[0])
	equal(t, two.Target(), targets[1])
	three := must(gw.Route(background, targets[:2], nil, nil))(t)
	equal(t, three.OK(), false)
	equal(t, three.Reason(), ReasonLimit)
	if three.RetryAfter() <= 0 || three.Target() != "" {
		t.Errorf("%v, %s", three.RetryAfter(), three.Target())
	}
	equal(t, must(one.Settle(background))(t), Settled)
	ok(t, two.Close())
	noneInFlight(t, gw)
	equal(t, accountOf(t, gw, targets[0]).LatencyMs != nil, true)
	equal(t, accountOf(t, gw, targets[1]).LatencyMs == nil, true) // Close does not know how it went.
	nobody := must(gw.Route(background, []string{"nobody", "nothing"}, nil, nil))(t)
	equal(t, nobody.StatusCode(), 403)
}

func TestTheNextOneIfItFails(t *testing.T) {
	_, gw := routed(t)
	var called []string
	_, err := try(t, gw, targets, Amounts{"usd": "1"}, inOrder, func(attempt *Attempt) error {
		called = append(called, attempt.Target())
		switch len(called) {
		case 1:
			return &CallFailedError{RetryAfter: time.Hour}
		case 2:
			return &CallFailedError{}
		}
		return attempt.Use(Amounts{"usd": "0.25"})
	})
	ok(t, err)
	equal(t, slices.Equal(called, targets), true)
	equal(t, accountOf(t, gw, targets[0]).CooldownMs > 0, true)
	equal(t, spentOf(t, gw, "{ml}"), "0.25")
	equal(t, spentOf(t, gw, targets[2]), "0.25")
	equal(t, spentOf(t, gw, targets[0]), "0")
	noneInFlight(t, gw)
}

func TestNobodyPaysIfAllFail(t *testing.T) {
	_, gw := routed(t)
	request, err := try(t, gw, targets, Amounts{"usd": "1"}, &RouteOptions{Pick: commands.PickFirst, Attempts: 2},
		func(*Attempt) error { return &CallFailedError{} })
	var denied *DeniedError
	if !errors.As(err, &denied) || denied.Reason != "every_target_failed" || denied.StatusCode != 503 {
		t.Errorf("%v", err)
	}
	equal(t, len(request.attempts), 2)
	equal(t, request.Admission().Settlement(), Settled)
	equal(t, spentOf(t, gw, "{ml}"), "0")
	equal(t, accountOf(t, gw, "{ml}").Counts["rpm"].IntPart(), 0)
}

func TestEndsWithTheLastError(t *testing.T) {
	_, gw := routed(t)
	overloaded := errors.New("overloaded")
	_, err := try(t, gw, targets[:1], Amounts{"usd": "1"}, nil, func(*Attempt) error { return &CallFailedError{Err: overloaded} })
	if !errors.Is(err, overloaded) || !strings.Contains(err.Error(), "overloaded") {
		t.Errorf("%v", err)
	}
}

func TestDeniedAccountsAskNoTarget(t *testing.T) {
	_, gw := routed(t)
	for range 4 {
		ok(t, admitted(t, gw, []string{"{ml}"}, nil, nil).Close())
	}
	request, err := try(t, gw, targets, nil, nil, func(*Attempt) error { return nil })
	var denied *DeniedError
	if !errors.As(err, &denied) || denied.StatusCode != 429 || denied.Headers["Retry-After"] == "" {
		t.Errorf("%v", err)
	}
	equal(t, len(request.attempts), 0)
	equal(t, request.OK(), false)
}

func TestErrorsOfAProvidersPackageAreFailures(t *testing.T) {
	_, gw := routed(t)
	overloaded := errors.New("overloaded")
	options := &RouteOptions{Pick: commands.PickFirst, Failures: func(err error) *CallFailedError {
		if errors.Is(err, overloaded) {
			return &CallFailedError{RetryAfter: time.Hour}
		}
		return nil
	}}
	var called []string
	_, err := try(t, gw, targets, Amounts{"usd": "1"}, options, func(attempt *Attempt) error {
		if called = append(called, attempt.Target()); len(called) == 1 {
			return overloaded
		}
		return nil
	})
	ok(t, err)
	equal(t, len(called), 2)
	equal(t, accountOf(t, gw, targets[0]).CooldownMs > 0, true)
	// A stream, whose target fails before its first piece.
	attempt := must(gw.Route(background, targets[1:2], nil, options))(t)
	for _, err := range Stream(attempt, pieces(0, overloaded), nil) {
		equal(t, err, overloaded)
	}
	equal(t, attempt.err, overloaded)
	equal(t, attempt.succeeded, false)
}

func TestAnErrorOfTheProgramTellsNoTime(t *testing.T) {
	_, gw := routed(t)
	mine := errors.New("mine")
	attempt := must(gw.Route(background, targets[:1], nil, nil))(t)
	equal(t, must(attempt.Done(background, mine))(t), Settled)
	attempt = must(gw.Route(background, targets[:1], nil, nil))(t)
	for _, err := range Stream(attempt, pieces(1, mine), nil) {
		_ = err
	}
	attempt = must(gw.Route(background, targets[:1], nil, nil))(t)
	for range Stream(attempt, pieces(3, nil), nil) {
		break
	}
	equal(t, accountOf(t, gw, targets[0]).LatencyMs == nil, true)
	noneInFlight(t, gw)
	attempt = must(gw.Route(background, targets[:1], nil, nil))(t)
	for range Stream(attempt, pieces(3, nil), nil) {
		continue
	}
	equal(t, accountOf(t, gw, targets[0]).LatencyMs != nil, true)
}

func TestNoOtherTargetOnceAPieceWasPassedOn(t *testing.T) {
	_, gw := routed(t)
	broken := &CallFailedError{}
	var called []string
	request := must(gw.Request(background, []string{"{ml}"}, targets, Amounts{"usd": "1"}, inOrder))(t)
	for attempt, err := range request.Attempts(background) {
		ok(t, err)
		called = append(called, attempt.Target())
		// The first one fails before it has sent anything.
		var source iter.Seq2[piece, error] = pieces(len(called)-1, broken)
		for _, err := range Stream(attempt, source, nil) {
			_ = err
		}
	}
	ok(t, request.Close())
	equal(t, slices.Equal(called, targets[:2]), true)
	noneInFlight(t, gw)
}

func TestTheSumOfTheAttemptsHasTheEstimateOfWhatWasNotTold(t *testing.T) {
	_, gw := routed(t)
	called := 0
	_, err := try(t, gw, targets, Amounts{"usd": "1", "tokens": "10"}, inOrder, func(attempt *Attempt) error {
		if called++; called == 1 {
			ok(t, attempt.Use(Amounts{"usd": "0.25"}))
			return &CallFailedError{}
		}
		return nil
	})
	ok(t, err)
	equal(t, spentOf(t, gw, "{ml}"), "1.25")
	equal(t, spentOf(t, gw, targets[0]), "0.25")
	equal(t, spentOf(t, gw, targets[1]), "1")
}

func TestNothingIsPaidIfTheLoopIsLeftAfterAFailure(t *testing.T) {
	_, gw := routed(t)
	request := must(gw.Request(background, []string{"{ml}"}, targets, Amounts{"usd": "1"}, nil))(t)
	for attempt, err := range request.Attempts(background) {
		ok(t, err)
		must(attempt.Fail(background, 0))(t)
		break
	}
	ok(t, request.Close())
	equal(t, spentOf(t, gw, "{ml}"), "0")
}

func TestWhatSaysNothingAboutATargetDoesNotMoveItsBreaker(t *testing.T) {
	server, gw := routed(t)
	target := targets[0]
	server.Run("GW.POLICYSET " + target + " rpm WINDOW 100 PER 3600000")
	server.Run("GW.POLICYSET " + target + " month BUDGET 100 MONTH")
	mine := errors.New("mine")
	failures := func() int64 { return accountOf(t, gw, target).Breakers["up"].Failures }
	attempt := must(gw.Route(background, []string{target}, Amounts{"usd": "1"}, nil))(t)
	must(attempt.Fail(background, 0))(t)
	equal(t, failures(), 1)
	requests := accountOf(t, gw, target).Counts["rpm"].IntPart()
	for _, end := range []func(*Attempt){
		func(a *Attempt) { must(a.Done(background, mine))(t) },
		func(a *Attempt) { ok(t, a.Close()) },
		func(a *Attempt) {
			for _, err := range Stream(a, pieces(0, mine), nil) {
				equal(t, err, mine)
			}
		},
	} {
		attempt = must(gw.Route(background, []string{target}, Amounts{"usd": "1"}, nil))(t)
		end(attempt)
		equal(t, attempt.Settlement(), Settled)
		equal(t, failures(), 1)
		equal(t, accountOf(t, gw, target).Counts["rpm"].IntPart(), requests)
	}
	// Other meters keep their estimates, also if the server has forgotten it.
	equal(t, spentOf(t, gw, target), "3")
	attempt = must(gw.Route(background, []string{target}, Amounts{"usd": "1"}, nil))(t)
	server.Run("DEL " + target)
	ok(t, attempt.Close())
	equal(t, attempt.Settlement(), Charged)
	equal(t, server.Run("GW.SPENT "+target), any("1"))
	server.Run("GW.POLICYSET " + target + " rpm WINDOW 100 PER 3600000")
	attempt = must(gw.Route(background, []string{target}, nil, nil))(t)
	ok(t, attempt.Use(Amounts{"tokens": "1"}))
	ok(t, attempt.Close())
	equal(t, accountOf(t, gw, target).Counts["rpm"].IntPart(), 1)
}
