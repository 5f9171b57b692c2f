package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

// trips counts round trips.
type trips struct{ count atomic.Int64 }

func (*trips) Count(string, int64, []Label)            {}
func (*trips) Tokens(string, int64, map[string]string) {}
func (*trips) Watch(string, func() []Reading) func()   { return func() {} }
func (o *trips) Call(context.Context, string, string) func(string) {
	o.count.Add(1)
	return func(string) {}
}

func TestAccountsAndTargetsAreAskedInOneRoundTrip(t *testing.T) {
	server, _ := routed(t)
	counted := &trips{}
	settings := patient()
	settings.Observer = counted
	gw := gatewayOf(t, server.Client(), settings)
	request := must(gw.Request(background, []string{"{ml}"}, targets, Amounts{"usd": "1"}, inOrder))(t)
	equal(t, request.OK(), true)
	equal(t, counted.count.Load(), 1)
	for attempt, err := range request.Attempts(background) {
		ok(t, err)
		equal(t, attempt.Target(), targets[0])
		equal(t, counted.count.Load(), 1)
		ok(t, attempt.Use(Amounts{"usd": "0.5"}))
		must(attempt.Done(background, nil))(t)
	}
	ok(t, request.Close())
	equal(t, spentOf(t, gw, "{ml}"), "0.5")
	equal(t, spentOf(t, gw, targets[0]), "0.5")
	// Its target is not called.
	ok(t, must(gw.Request(background, []string{"{ml}"}, targets, Amounts{"usd": "1"}, inOrder))(t).Close())
	noneInFlight(t, gw)
	equal(t, spentOf(t, gw, targets[0]), "0.5")
	// One that leaves before the first attempt gives both back.
	ctx, cancel := context.WithCancel(background)
	request = must(gw.Request(ctx, []string{"{ml}"}, targets, Amounts{"usd": "1"}, inOrder))(t)
	cancel()
	for _, err := range request.Attempts(ctx) {
		equal(t, errors.Is(err, context.Canceled), true)
	}
	ok(t, request.Close())
	noneInFlight(t, gw)
}

func TestAccountsThatRefuseTakeNothingOfATarget(t *testing.T) {
	server, gw := routed(t)
	server.Run("GW.POLICYSET {ml} rpm WINDOW 0 PER 3600000")
	request := must(gw.Request(background, []string{"{ml}"}, targets, Amounts{"usd": "1"}, nil))(t)
	equal(t, fmt.Sprint(request.OK(), " ", request.Admission().Reason()), "false limit")
	noneInFlight(t, gw)
	server.Run("SET text other")
	var kind *commands.WrongTypeError
	if _, err := gw.Request(background, []string{"text"}, targets, Amounts{"usd": "1"}, nil); !errors.As(err, &kind) {
		t.Errorf("%v", err)
	}
	noneInFlight(t, gw)
	server.Run("GW.POLICYSET {ml} rpm WINDOW 9 PER 3600000")
	server.Run("GW.POLICYSET {ml} flight INFLIGHT 9")
	if _, err := gw.Request(background, []string{"{ml}"}, []string{"text"}, Amounts{"usd": "1"}, nil); !errors.As(err, &kind) {
		t.Errorf("%v", err)
	}
	gw.SendKept(background)
	equal(t, accountOf(t, gw, "{ml}").InFlight, 0)
	equal(t, spentOf(t, gw, "{ml}"), "0")
}

// TestAPlanOfARequestsAccount: the account is made, and asked for again, alone.
func TestAPlanOfARequestsAccount(t *testing.T) {
	settings := patient()
	settings.Plans = func(string) (Plan, bool) { return Plan{Policies: rpm("1")}, true }
	server, gw := started(t, settings)
	server.Run("GW.POLICYSET {gpt}:eu flight INFLIGHT 9")
	options := &RouteOptions{AdmitOptions: AdmitOptions{Require: true}}
	for _, want := range []bool{true, false} {
		request := must(gw.Request(background, []string{"{ml}"}, targets[:1], nil, options))(t)
		equal(t, request.OK(), want)
		ok(t, request.Close())
	}
	equal(t, accountOf(t, gw, targets[0]).InFlight, 0)
}

func requestsAnywhere(t *testing.T, nodes []*servers.Server, gw *Gateway) {
	for _, refuses := range []bool{false, true} {
		flush(nodes)
		for at := range 9 {
			accounts := []string{fmt.Sprintf("{a%d}:key", at), fmt.Sprintf("{a%d}", at)}
			targets := []string{fmt.Sprintf("{t%d}:eu", at), fmt.Sprintf("{t%d}:us", at)}
			for place, key := range append(accounts[:2:2], targets...) {
				most := 9
				if refuses && place == 1 {
					most = 0
				}
				policies(t, gw, key, fmt.Sprintf(`{"policies":[{"name":"f","kind":"inflight","max":%d}]}`, most))
			}
			request := must(gw.Request(background, accounts, targets, Amounts{"usd": "1"}, inOrder))(t)
			equal(t, request.OK(), !refuses)
			for attempt, err := range request.Attempts(background) {
				equal(t, err != nil, refuses)
				if err == nil {
					ok(t, attempt.Use(Amounts{"usd": "0.5"}))
					must(attempt.Done(background, nil))(t)
				}
			}
			ok(t, request.Close())
			want := "[0.5 0.5 0.5 0]"
			if refuses {
				want = "[0 0 0 0]"
			}
			var spent []string
			for _, key := range append(accounts[:2:2], targets...) {
				spent = append(spent, spentOf(t, gw, key))
				equal(t, accountOf(t, gw, key).InFlight, 0)
			}
			equal(t, fmt.Sprint(spent), want)
		}
	}
}
