package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

var (
	open   = Away{Limits: ModeOpen, Slots: ModeOpen, Budgets: ModeOpen, Admission: ModeOpen}
	closed = Away{Limits: ModeClosed, Slots: ModeClosed, Budgets: ModeClosed, Admission: ModeClosed}
)

// longest is how long a decision may take with the shipped time-outs, and what a busy machine adds.
const longest = 150*time.Millisecond + time.Second

var tenDollars = []commands.Budget{{Amount: "10", Period: commands.PeriodMonth}}

// decided is an outcome with its reason.
type decided struct {
	outcome Outcome
	reason  string
}

// decisions asks for one of each kind.
func decisions(t *testing.T, gw *Gateway) []decided {
	t.Helper()
	allow := must(gw.Allow(background, "k", 1, nil))(t)
	tokens := must(gw.Tokens(background, "t", 1, 1, nil))(t)
	within := must(gw.Budgets.Within(background, "b", tenDollars, ""))(t)
	hold := must(gw.Budgets.Reserve(background, "b", "1", tenDollars, 0))(t).Decision()
	admission := must(gw.Admit(background, []string{"a"}, Amounts{"usd": "1"}, nil))(t)
	attempt := must(gw.Route(background, []string{"t1", "t2"}, Amounts{"usd": "1"}, nil))(t)
	slot := must(gw.Slot(background, "s", 1, nil))(t)
	return []decided{
		{allow.Outcome, allow.Reason}, {tokens.Outcome, tokens.Reason}, {within.Outcome, within.Reason}, {hold.Outcome, hold.Reason},
		{admission.Outcome(), admission.Reason()}, {attempt.Outcome(), attempt.Reason()}, {slot.Outcome(), slot.Reason()},
	}
}

func TestDecisionsWhileItIsDead(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	for _, away := range []Away{open, closed} {
		var log loggedTo
		gw := gatewayOf(t, server.Client(), &Settings{Away: away, Logger: log.logger()})
		want := Degraded
		if away == closed {
			want = Denied
		}
		for range 8 {
			began := time.Now()
			for _, one := range decisions(t, gw) {
				if one.outcome != want || one.reason != "connection" && one.reason != "circuit_open" {
					t.Errorf("%+v", one)
				}
			}
			if took := time.Since(began); took > 7*longest {
				t.Errorf("they took %v", took)
			}
		}
		admission := must(gw.Admit(background, []string{"a"}, nil, nil))(t)
		if want == Denied {
			equal(t, admission.StatusCode(), 503)
			equal(t, admission.Headers(nil)["Retry-After"], "1")
		}
		lock := must(gw.Lock(background, "l", nil))(t)
		equal(t, lock.Outcome(), Denied)
		equal(t, gw.Health(background).OK, false)
		counted := int64(0)
		for name, count := range gw.Figures() {
			if strings.HasPrefix(name, "decisions{family=limits,outcome="+string(want)) {
				counted += count
			}
		}
		equal(t, counted, 16)
		equal(t, strings.Count(log.String(), "is away"), 1)
	}
}

func TestDecisionsWhileItAcceptsAndNeverReplies(t *testing.T) {
	server, gw := started(t, &Settings{Away: open})
	must(gw.Allow(background, "warm", 1, nil))(t)
	server.Freeze()
	began := time.Now()
	decision := must(gw.Allow(background, "k", 1, nil))(t)
	took := time.Since(began)
	equal(t, decision.Outcome, Degraded)
	equal(t, decision.Reason, "timeout")
	if took < 45*time.Millisecond || took > longest {
		t.Errorf("it took %v", took)
	}
	servers.Eventually(t, "the circuit opens", func() bool {
		return must(gw.Allow(background, "k", 1, nil))(t).Reason == "circuit_open"
	})
	server.Thaw()
}

// TestWhoComesWhileOneTriesHasItsOutcome: when the server is back, none is let through without it because another's answer is on its
// way.
func TestWhoComesWhileOneTriesHasItsOutcome(t *testing.T) {
	settings := &Settings{Away: open, Timeout: 2 * time.Second, ConnectTimeout: 2 * time.Second, Pause: time.Hour, Failures: 5}
	server, gw := started(t, settings)
	circuit := gw.core.transport.alone.circuit
	must(gw.Allow(background, "warm", 1, nil))(t)
	ask := func(count int, want Outcome) {
		t.Helper()
		var group sync.WaitGroup
		for range count {
			group.Go(func() {
				if decision, err := gw.Allow(background, "k", 10_000, nil); err != nil || decision.Outcome != want {
					t.Errorf("%+v, %v", decision, err)
				}
			})
		}
		group.Wait()
	}
	pauseIsOver := func() {
		circuit.mutex.Lock()
		defer circuit.mutex.Unlock()
		circuit.retryAt = time.Time{}
	}
	server.Freeze()
	ask(settings.Failures, Degraded)
	equal(t, circuit.isOpen(), true)
	pauseIsOver()
	began := time.Now()
	ask(20, Degraded)
	if took := time.Since(began); took > settings.Timeout+longest {
		t.Errorf("they took %v", took)
	}
	equal(t, circuit.isOpen(), true)
	began = time.Now()
	ask(20, Degraded) // None tries, so none waits.
	if took := time.Since(began); took > settings.Timeout {
		t.Errorf("they took %v", took)
	}
	server.Thaw()
	pauseIsOver()
	ask(20, Admitted)
}

func TestLocalLimitsAreAShare(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	away := Away{Admission: ModeLocal, Local: Local{4, time.Hour}}
	gw := gatewayOf(t, server.Client(), &Settings{Away: away, Instances: 2})
	var outcomes []string
	for range 8 {
		decision := must(gw.Allow(background, "k", 10, &AllowOptions{Window: time.Hour}))(t)
		equal(t, decision.Limit, 5)
		outcomes = append(outcomes, string(decision.Outcome))
		if decision.Outcome == Denied && (decision.Reason != ReasonLocalLimit || decision.RetryAfter <= 0) {
			t.Errorf("%+v", decision)
		}
	}
	equal(t, strings.Join(outcomes, " "), "degraded degraded degraded degraded degraded denied denied denied")
	for _, want := range []int{200, 200, 429} {
		equal(t, must(gw.Admit(background, []string{"a"}, nil, nil))(t).StatusCode(), want)
	}
	var slots []*Slot
	for _, want := range []Outcome{Degraded, Degraded, Denied} {
		slot := must(gw.Slot(background, "s", 4, nil))(t)
		equal(t, slot.Outcome(), want)
		slots = append(slots, slot)
	}
	equal(t, must(slots[0].Release(background))(t), true)
	equal(t, must(gw.Slot(background, "s", 4, nil))(t).Outcome(), Degraded)
	for _, want := range []string{"t1", "t1", "t2", "t2", ""} {
		equal(t, must(gw.Route(background, []string{"t1", "t2"}, nil, nil))(t).Target(), want)
	}
}

func TestErrorsOfTheCallAreNoAbsence(t *testing.T) {
	settings := patient()
	settings.Failures = 2
	server, gw := started(t, settings)
	server.Run("SET k v")
	for range 5 {
		var kind *commands.WrongTypeError
		if _, err := gw.Allow(background, "k", 1, nil); !errors.As(err, &kind) {
			t.Errorf("%v", err)
		}
		var argument *commands.InvalidArgumentError
		if _, err := gw.Allow(background, "l", -1, nil); !errors.As(err, &argument) {
			t.Errorf("%v", err)
		}
	}
	equal(t, gw.Health(background).CircuitsOpen, 0)
	equal(t, must(gw.Allow(background, "m", 1, nil))(t).Outcome, Admitted)
}

func TestRepliesThatSayThatItCannotServe(t *testing.T) {
	settings := patient()
	settings.Away = open
	server, gw := started(t, settings)
	server.Run("CONFIG SET maxmemory 1")
	equal(t, must(gw.Allow(background, "k", 5, nil))(t).Reason, "oom")
	_, err := gw.Commands.Allow(background, "k", 5, nil)
	if away := unavailable(err); away == nil || *away != (UnavailableError{"oom", false, false}) {
		t.Errorf("%v", err)
	}
	server.Run("CONFIG SET maxmemory 0")
	server.Run("REPLICAOF 127.0.0.1 1")
	equal(t, must(gw.Allow(background, "k", 5, nil))(t).Reason, "readonly")
	server.Run("REPLICAOF NO ONE")
	servers.Eventually(t, "it serves again", func() bool {
		return must(gw.Allow(background, "k", 500, nil))(t).Outcome == Admitted
	})
}

func TestALimitersCallIsSentOnce(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	proxy := proxyTo(t, server.Address())
	settings := patient()
	settings.Away = open
	gw := gatewayOf(t, proxy.client(t), settings)
	proxy.loseReplies("GW.ALLOW")
	equal(t, must(gw.Allow(background, "k", 10, nil))(t).Reason, "connection")
	equal(t, proxy.lostReplies(), 1)
	// What only peeks is sent again.
	equal(t, must(gw.Allow(background, "k", 10, &AllowOptions{Peek: true}))(t).Reason, "connection")
	equal(t, proxy.lostReplies(), 3)
	proxy.loseReplies("")
	equal(t, must(gw.Allow(background, "k", 10, &AllowOptions{Peek: true}))(t).Remaining, 9)
}

func TestLostConnectionsAreReplaced(t *testing.T) {
	server, gw := started(t, patient())
	for range 3 {
		equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), Settled)
		server.Run("CLIENT KILL TYPE normal SKIPME yes")
	}
	equal(t, server.Run("GW.SPENT l"), any("3"))
}

func TestKeptChargesArriveOnce(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	settings := patient()
	settings.Away, settings.Kept.Every, settings.Pause = open, 10*time.Millisecond, 10*time.Millisecond
	gw := gatewayOf(t, server.Client(), settings)
	policies(t, gw, "{a}", `{"policies":[{"name":"month","kind":"budget","amount":"1000","period":"month"}]}`)
	before := admitted(t, gw, []string{"{a}"}, Amounts{"usd": "100"}, nil)
	reserved := must(gw.Budgets.Reserve(background, "{a}", "50", []commands.Budget{{Amount: "1000", Period: "MONTH"}}, 0))(t)
	equal(t, reserved.OK(), true)
	server.Run("SAVE")
	server.Stop()
	ok(t, before.Use(Amounts{"usd": "0.25"}))
	equal(t, must(before.Settle(background))(t), KeptForLater)
	ok(t, reserved.Use("0.5"))
	equal(t, must(reserved.Commit(background))(t), KeptForLater)
	for range 10 {
		admission := admitted(t, gw, []string{"{a}"}, Amounts{"usd": "100"}, nil)
		equal(t, admission.Outcome(), Degraded)
		ok(t, admission.Use(Amounts{"usd": "1"}))
		equal(t, must(admission.Settle(background))(t), KeptForLater)
	}
	equal(t, must(gw.Budgets.Charge(background, "{a}", "0.125", nil))(t), KeptForLater)
	equal(t, gw.Kept(), 13)
	server.Start()
	servers.Eventually(t, "all is sent", func() bool { return gw.Kept() == 0 })
	equal(t, server.Run("GW.SPENT {a}"), any("10.875"))
	equal(t, gw.Figures()["kept"], 13)
	equal(t, gw.Figures()["kept_sent"], 13)
}

func TestKeptChargesSurviveTheProcess(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	directory := t.TempDir()
	settings := patient()
	settings.Away, settings.Kept = open, Kept{Directory: directory, Every: 10 * time.Millisecond}
	gw := gatewayOf(t, server.Client(), settings)
	equal(t, must(gw.Budgets.Charge(background, "l\xff", "0.5", nil))(t), KeptForLater)
	admission := admitted(t, gw, []string{"l"}, nil, nil)
	ok(t, admission.Use(Amounts{"usd": "2"}))
	ok(t, admission.Close())
	ok(t, gw.Close())
	equal(t, len(must(os.ReadDir(directory))(t)), 1)
	server.Start()
	gw = gatewayOf(t, server.Client(), settings)
	servers.Eventually(t, "what was left is sent", func() bool { return gw.Figures()["kept_sent"] == 2 })
	equal(t, spentOf(t, gw, "l"), "2")
	equal(t, spentOf(t, gw, "l\xff"), "0.5")
	ok(t, gw.Close())
	equal(t, len(must(os.ReadDir(directory))(t)), 0)
}

// TestMain is also the program that TestWhatAKilledProcessHasLeftIsSent kills.
func TestMain(m *testing.M) {
	if address := os.Getenv("GW_TEST_KEEP_AND_DIE"); address != "" {
		keepAndDie(address, os.Getenv("GW_TEST_DIRECTORY"))
	}
	redis.SetLogger(silent{}) // It says so on each connection that cannot be made.
	os.Exit(m.Run())
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func keepAndDie(address, directory string) {
	gw, err := New(redis.NewClient(&redis.Options{Addr: address}), &Settings{Kept: Kept{Directory: directory}})
	for at := 0; at < 20 && err == nil; at++ {
		_, err = gw.Budgets.Charge(background, "l", "1", &ChargeOptions{ID: fmt.Sprint("charge ", at)})
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	self, _ := os.FindProcess(os.Getpid())
	self.Kill()
	select {}
}

func TestWhatAKilledProcessHasLeftIsSent(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	directory := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "GW_TEST_KEEP_AND_DIE="+server.Address(), "GW_TEST_DIRECTORY="+directory)
	var failed *exec.ExitError
	if out, err := child.CombinedOutput(); !errors.As(err, &failed) || failed.Exited() {
		t.Fatalf("it was not killed: %v, %s", err, out)
	}
	equal(t, len(must(os.ReadDir(directory))(t)), 1)
	server.Start()
	settings := patient()
	settings.Kept = Kept{Directory: directory, Every: 10 * time.Millisecond}
	gw := gatewayOf(t, server.Client(), settings)
	servers.Eventually(t, "all is sent", func() bool { return gw.Figures()["kept_sent"] == 20 })
	equal(t, spentOf(t, gw, "l"), "20")
	ok(t, gw.Close())
	equal(t, len(must(os.ReadDir(directory))(t)), 0)
}

func TestAFullBufferOfChargesCountsWhatItDrops(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	gw := gatewayOf(t, server.Client(), &Settings{Kept: Kept{Count: 3}})
	for at := range 5 {
		want := KeptForLater
		if at >= 3 {
			want = GivenUp
		}
		equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), want)
	}
	equal(t, gw.Figures()["kept_dropped"], 2)
}

// TestAPauseDoublesNothing freezes the server under load, with the shipped settings.
func TestAPauseDoublesNothing(t *testing.T) {
	server, gw := started(t, &Settings{Away: open, Kept: Kept{Every: 100 * time.Millisecond}})
	server.Run("GW.POLICYSET {a} month BUDGET 1000000 MONTH")
	server.Run("GW.POLICYSET {a} all WINDOW 1000000 PER 3600000")
	server.Run("GW.POLICYSET {a} parallel INFLIGHT 10000")
	logs := gw.Logs("log", &LogOptions{Every: 20 * time.Millisecond})
	var stop atomic.Bool
	var mutex sync.Mutex
	var served []string
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			for at := 0; !stop.Load(); at++ {
				admission, err := gw.Admit(background, []string{"{a}"}, Amounts{"usd": "5"}, nil)
				if err != nil || !admission.OK() {
					t.Errorf("%v, %v", admission, err)
					return
				}
				time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // The call of the model.
				admission.Use(Amounts{"usd": "0.01"})
				if err := admission.Close(); err != nil {
					t.Error(err)
				}
				mutex.Lock()
				served = append(served, admission.LeaseID())
				mutex.Unlock()
				logs.Push(map[string]string{"id": admission.LeaseID()})
				charge := &ChargeOptions{ID: fmt.Sprintf("%d:%d", worker, at)}
				if _, err := gw.Budgets.Charge(background, "{a}:extra", "1", charge); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		server.Freeze()
		time.Sleep(600 * time.Millisecond)
		server.Thaw()
	}
	time.Sleep(300 * time.Millisecond)
	stop.Store(true)
	group.Wait()
	servers.Eventually(t, "all is sent", func() bool { return gw.Kept() == 0 && logs.Len() == 0 })
	if figures := gw.Figures().String(); !strings.Contains(figures, "decisions{family=admission,outcome=degraded") {
		t.Error(figures)
	}
	want := AmountOf(float64(len(served)) / 100)
	equal(t, server.Run("GW.SPENT {a}"), any(string(want)))
	equal(t, server.Run("GW.SPENT {a}:extra"), any(fmt.Sprint(len(served))))
	var stored []string
	for _, record := range server.Run("GW.LOGPEEK log COUNT 10000").([]any) {
		var found struct{ ID string }
		ok(t, json.Unmarshal([]byte(record.(string)), &found))
		stored = append(stored, found.ID)
	}
	slices.Sort(stored)
	slices.Sort(served)
	equal(t, slices.Equal(stored, served), true)
	admin := server.Admin()
	defer admin.Close()
	low := commands.New(admin)
	// No admission counts twice. One that was let through without the server does not count.
	asked := must(low.Admit(background, []string{"{a}"}, "x", 1, &commands.AdmitOptions{Shadow: true, Rows: commands.RowsDetail}))(t)
	for _, row := range asked.Rows {
		if row.Policy == "all" && row.Used.IntPart() > int64(len(served)) {
			t.Errorf("%v of %d", row.Used, len(served))
		}
	}
	servers.Eventually(t, "nothing is in flight", func() bool {
		return must(low.Describe(background, "{a}"))(t).(commands.AccountState).InFlight == 0
	})
}
