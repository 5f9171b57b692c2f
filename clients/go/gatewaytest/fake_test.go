package gatewaytest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	gateway "redis-gateway/clients/go"
	"redis-gateway/clients/go/commands"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // It says so on each connection that cannot be made.
	os.Exit(m.Run())
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func gatewayOf(t *testing.T, fake *Fake, settings *gateway.Settings) *gateway.Gateway {
	t.Helper()
	if settings == nil {
		settings = &gateway.Settings{}
	}
	// A busy machine is slow.
	settings.Timeout, settings.ConnectTimeout, settings.WaitingTimeout = 20*time.Second, 20*time.Second, 20*time.Second
	made, err := gateway.New(fake.Client(), settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return made
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func TestTheGatewayWorksWithoutAServer(t *testing.T) {
	fake, ctx := New(t), t.Context()
	gw := gatewayOf(t, fake, &gateway.Settings{
		Away: gateway.Away{Admission: gateway.ModeOpen}, Kept: gateway.Kept{Every: time.Hour}, Failures: 1000,
	})
	document := `{"policies":[{"name":"rpm","kind":"window","limit":2,"per_ms":60000}]}`
	must(gw.Commands.PolicyPut(ctx, "a", document, nil))(t)
	admission := must(gw.Admit(ctx, []string{"a"}, gateway.Amounts{"usd": "1"}, nil))(t)
	must[any](nil, admission.Use(gateway.Amounts{"usd": "0.25"}))(t)
	equal(t, must(admission.Settle(ctx))(t), gateway.Settled)
	equal(t, must(gw.Budgets.Spent(ctx, "a", commands.PeriodMonth))(t).String(), "0.25")
	must(must(gw.Admit(ctx, []string{"a"}, nil, nil))(t).Settle(ctx))(t)
	denied := must(gw.Admit(ctx, []string{"a"}, nil, nil))(t)
	equal(t, denied.Reason()+" "+denied.Headers(nil)["Retry-After"], "limit 60")

	tenant := "ml"
	cache := gateway.NewCache(gw, "chat", &gateway.CacheOptions[string]{Tenant: &tenant})
	calls := 0
	for range 2 {
		equal(t, must(cache.GetOrCompute(ctx, "Hi", func(context.Context) (string, error) { calls++; return "Hello", nil }, nil))(t), "Hello")
	}
	equal(t, calls, 1)
	equal(t, must(cache.Clear(ctx))(t), 1)

	lock := must(gw.Lock(ctx, "l", nil))(t)
	equal(t, lock.OK(), true)
	equal(t, must(gw.Lock(ctx, "l", &gateway.SlotOptions{Wait: 20 * time.Millisecond}))(t).OK(), false)
	must[any](nil, lock.Close())(t)
	hold := must(gw.Budgets.Reserve(ctx, "l2", "1", []commands.Budget{{Amount: "5", Period: commands.PeriodMonth}}, 0))(t)
	must[any](nil, hold.Use("0.5"))(t)
	must[any](nil, hold.Close())(t)
	logs := gw.Logs("log", nil)
	must[any](nil, logs.Push(map[string]int{"id": 1}))(t)
	equal(t, logs.Flush(ctx), true)
	equal(t, string(must(gw.Commands.LogPeek(ctx, "log", nil))(t)[0]), `{"id":1}`)
	equal(t, gw.Health(ctx).OK, true)

	// Both are known not to have heard of it.
	request := must(gw.Request(ctx, []string{"b"}, []string{"{gpt}:eu"}, gateway.Amounts{"usd": "1"}, nil))(t)
	must[any](nil, request.Close())(t)
	fake.SetAway(true)
	equal(t, must(gw.Admit(ctx, []string{"a"}, nil, nil))(t).Outcome(), gateway.Degraded)
	equal(t, gw.Health(ctx).OK, false)
	equal(t, must(gw.Budgets.Charge(ctx, "l2", "1", nil))(t), gateway.KeptForLater)
	fake.SetAway(false)
	gw.SendKept(ctx)
	equal(t, must(gw.Budgets.Spent(ctx, "l2", commands.PeriodMonth))(t).String(), "1.5")
	calls = 0
	for _, words := range fake.Calls() {
		if strings.EqualFold(words[0], "GW.ADMIT") {
			calls++
		}
	}
	equal(t, calls, 4)
	fake.Flush()
	equal(t, must(gw.Budgets.Spent(ctx, "l2", commands.PeriodMonth))(t).String(), "0")
}

func TestTheClockIsTheTests(t *testing.T) {
	fake, ctx := New(t), t.Context()
	gw := gatewayOf(t, fake, nil)
	began := fake.Now()
	allowed := func() bool { return must(gw.Allow(ctx, "k", 2, nil))(t).OK() }
	equal(t, fmt.Sprint(allowed(), allowed(), allowed()), "true true false")
	fake.Advance(59_999 * time.Millisecond)
	equal(t, allowed(), false)
	fake.Advance(time.Millisecond)
	equal(t, allowed(), true)
	equal(t, fake.Now().Sub(began), time.Minute)
	cache := gateway.NewCache(gw, "chat", &gateway.CacheOptions[int]{TTL: 10 * time.Second})
	must[any](nil, cache.Set(ctx, "Hi", 1, nil))(t)
	fake.Advance(10 * time.Second)
	_, found, _ := cache.Get(ctx, "Hi")
	equal(t, found, false)
}

// TestInABubble: no call of it leaves the program, so the time of the whole test can be faked, too.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gw := gatewayOf(t, New(t), nil)
		began := time.Now()
		lock := must(gw.Lock(t.Context(), "l", &gateway.SlotOptions{TTL: time.Minute}))(t)
		time.Sleep(time.Hour)
		equal(t, lock.Lost(), false)
		must[any](nil, lock.Close())(t)
		equal(t, time.Since(began) >= time.Hour, true)
	})
}

// TestAPipelineThatIsLongerThanABuffer is sent before any reply is read.
func TestAPipelineThatIsLongerThanABuffer(t *testing.T) {
	client := New(t).Client()
	pipe := client.Pipeline()
	for range 3000 {
		pipe.Do(t.Context(), "GW.ALLOW", "k", 5000)
	}
	replies, err := pipe.Exec(t.Context())
	equal(t, fmt.Sprint(len(replies), err), "3000 <nil>")
}
