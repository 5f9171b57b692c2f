package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

func admitted(t *testing.T, gw *Gateway, accounts []string, estimates Amounts, options *AdmitOptions) *Admission {
	t.Helper()
	made := must(gw.Admit(background, accounts, estimates, options))(t)
	if !made.OK() {
		t.Fatalf("denied: %s, %v", made.Reason(), made.Rows())
	}
	return made
}

func TestAdmittedAndSettled(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "5", "tokens": "100"}, nil)
	equal(t, admission.Outcome(), Admitted)
	equal(t, admission.Reason(), "")
	equal(t, admission.StatusCode(), 200)
	ok(t, admission.Err())
	ok(t, admission.Use(Amounts{"usd": "0.5"}))
	equal(t, must(admission.Settle(background))(t), Settled)
	equal(t, spentOf(t, gw, "a"), "0.5")
	equal(t, accountOf(t, gw, "a").InFlight, 0)
	if figures := gw.Figures().String(); !strings.Contains(figures, "decisions{family=admission,outcome=admitted,reason=none} 1") {
		t.Error(figures)
	}
}

func TestDeniedSaysWhyAndWhen(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", rpm("1"))
	ok(t, admitted(t, gw, []string{"a"}, nil, nil).Close())
	denied := must(gw.Admit(background, []string{"a"}, nil, nil))(t)
	equal(t, denied.Outcome(), Denied)
	equal(t, denied.Reason(), ReasonLimit)
	equal(t, denied.StatusCode(), 429)
	if rows := denied.Refusals(); len(rows) != 1 || rows[0].Policy != "rpm" || denied.RetryAfter() <= 0 {
		t.Errorf("%+v, %v", rows, denied.RetryAfter())
	}
	headers := denied.Headers(nil)
	equal(t, headers["RateLimit-Policy"], `"rpm";q=1;w=60`)
	equal(t, headers["x-ratelimit-limit-requests"], "1")
	var refused *DeniedError
	if err := denied.Err(); !errors.As(err, &refused) || refused.Headers["Retry-After"] == "" {
		t.Errorf("%v", err)
	}
	equal(t, must(denied.Settle(background))(t), NothingToSettle)
	never := must(gw.Admit(background, []string{"a"}, Amounts{"requests": "2"}, nil))(t)
	equal(t, never.RetryAfter(), -1)
}

func TestLeaseIDsAreRandom(t *testing.T) {
	_, gw := started(t, patient())
	seen := map[string]bool{}
	for range 50 {
		admission := admitted(t, gw, []string{"a"}, nil, nil)
		seen[admission.LeaseID()] = true
		equal(t, len(admission.LeaseID()), 32)
	}
	equal(t, len(seen), 50)
}

func TestSettlesOnceWhenSeveralSettle(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := admission.Settle(background); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	equal(t, admission.Settlement(), Settled)
	equal(t, must(admission.Settle(background))(t), Settled)
	equal(t, must(admission.Undo(background))(t), Settled)
	equal(t, spentOf(t, gw, "a"), "2")
	equal(t, gw.Figures()["settlements{outcome=settled}"], 1)
}

// wrongType makes an account a key of another type, which commands about it refuse.
func wrongType(server *servers.Server, account string) {
	server.Run("DEL " + account)
	server.Run("SET " + account + " x")
}

func TestASettlementThatIsRefusedCanBeRepeated(t *testing.T) {
	server, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	server.Run("RENAME a kept")
	wrongType(server, "a")
	var kind *commands.WrongTypeError
	if _, err := admission.Settle(background); !errors.As(err, &kind) {
		t.Fatalf("%v", err)
	}
	equal(t, admission.Settlement(), "")
	server.Run("DEL a")
	server.Run("RENAME kept a")
	equal(t, must(admission.Settle(background))(t), Settled)
	equal(t, spentOf(t, gw, "a"), "2")
}

func TestOneRefusedDeliveryHoldsUpNoOther(t *testing.T) {
	server, gw := started(t, patient())
	policies(t, gw, "a16", oneBudget)
	// The seventeenth account is asked for in a call of its own.
	var accounts []string
	for at := range 17 {
		accounts = append(accounts, fmt.Sprintf("a%d", at))
	}
	admission := admitted(t, gw, accounts, Amounts{"usd": "2"}, nil)
	wrongType(server, "a0")
	if _, err := admission.Settle(background); err == nil {
		t.Error("it was not refused")
	}
	equal(t, spentOf(t, gw, "a16"), "2")
	equal(t, accountOf(t, gw, "a16").InFlight, 0)
}

func TestSettledWhenTheFunctionPanics(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	func() {
		defer func() { equal(t, recover(), any("mine")) }()
		admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
		defer admission.Close()
		ok(t, admission.Use(Amounts{"usd": "1"}))
		panic("mine")
	}()
	equal(t, spentOf(t, gw, "a"), "1")
	equal(t, accountOf(t, gw, "a").InFlight, 0)
}

func TestACancelledRequestSettles(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	ctx, cancel := context.WithCancel(background)
	admission := must(gw.Admit(ctx, []string{"a"}, Amounts{"usd": "2"}, nil))(t)
	cancel()
	equal(t, must(admission.Settle(ctx))(t), Settled)
	equal(t, spentOf(t, gw, "a"), "2")
}

func TestUnknownMetersStayAtTheirEstimate(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", `{"policies":[{"name":"tpm","kind":"window","limit":1000,"per_ms":60000,"meter":"tokens"},
		{"name":"rpm","kind":"window","limit":10,"per_ms":60000},{"name":"month","kind":"budget","amount":"100","period":"month"}]}`)
	counts := func() string {
		state := accountOf(t, gw, "a")
		return fmt.Sprint(state.Counts["rpm"].IntPart(), " ", state.Counts["tpm"].IntPart(), " ", spentOf(t, gw, "a"))
	}
	estimates := Amounts{"tokens": "100", "usd": "2"}
	admission := admitted(t, gw, []string{"a"}, estimates, nil)
	ok(t, admission.Use(Amounts{"tokens": "7", "usd": ""}))
	ok(t, admission.Close())
	equal(t, counts(), "1 7 2")
	admission = admitted(t, gw, []string{"a"}, estimates, nil)
	ok(t, admission.Use(Amounts{"usd": "0"}))
	ok(t, admission.Close())
	equal(t, counts(), "2 107 2")
	admission = admitted(t, gw, []string{"a"}, estimates, nil)
	admission.Unused()
	ok(t, admission.Close())
	equal(t, counts(), "3 107 2")
	admission = admitted(t, gw, []string{"a"}, estimates, nil)
	equal(t, must(admission.Undo(background))(t), Settled)
	equal(t, counts(), "3 107 2")
}

func TestUseTakesNoAmountThatTheServerWouldRefuse(t *testing.T) {
	_, gw := started(t, patient())
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	defer admission.Close()
	for _, wrong := range []Amount{"-1", "x", "1e30", "NaN", AmountOf(0.1) + "x"} {
		if admission.Use(Amounts{"tokens": "1", "usd": wrong}) == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
	equal(t, len(admission.used), 0)
	if _, err := gw.Admit(background, []string{"a"}, Amounts{"usd": "x"}, nil); err == nil {
		t.Error("a wrong estimate was taken")
	}
	if _, err := gw.Admit(background, nil, nil, nil); err == nil {
		t.Error("no account was taken")
	}
}

// Streams.

type piece struct{ tokens int }

func (p piece) usage() Amounts { return Amounts{"tokens": AmountOf(p.tokens)} }

func pieces(count int, failure error) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		for at := range count {
			if !yield(piece{at + 1}, nil) {
				return
			}
		}
		if failure != nil {
			yield(piece{}, failure)
		}
	}
}

const oneWindowOfTokens = `{"policies":[{"name":"tpm","kind":"window","limit":1000,"per_ms":60000,"meter":"tokens"}]}`

func usedTokens(t *testing.T, gw *Gateway) int64 {
	t.Helper()
	equal(t, accountOf(t, gw, "a").InFlight, 0)
	return accountOf(t, gw, "a").Counts["tpm"].IntPart()
}

func TestStreams(t *testing.T) {
	broken := errors.New("broken")
	for name, one := range map[string]struct {
		source iter.Seq2[piece, error]
		take   int
		want   int64
		err    error
	}{
		"that ends":                     {pieces(3, nil), 10, 3, nil},
		"that fails":                    {pieces(2, broken), 10, 2, broken},
		"that fails before its first":   {pieces(0, broken), 10, 0, broken},
		"that is left":                  {pieces(3, nil), 1, 1, nil},
		"that says nothing of its use":  {pieces(0, nil), 10, 100, nil},
		"that is left by a cancelled":   {pieces(3, nil), 2, 2, nil},
		"that fails after many pieces":  {pieces(50, broken), 100, 50, broken},
		"that ends with its last piece": {pieces(1, nil), 1, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, gw := started(t, patient())
			policies(t, gw, "a", oneWindowOfTokens)
			admission := admitted(t, gw, []string{"a"}, Amounts{"tokens": "100"}, nil)
			var failed error
			taken := 0
			for _, err := range Stream(admission, one.source, piece.usage) {
				if failed = err; err != nil {
					continue
				}
				if taken++; taken == one.take {
					break
				}
			}
			equal(t, failed, one.err)
			equal(t, admission.Settlement(), Settled)
			equal(t, usedTokens(t, gw), one.want)
		})
	}
}

func TestBodies(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneWindowOfTokens)
	usage := func(read []byte) Amounts { return Amounts{"tokens": AmountOf(len(read))} }
	admission := admitted(t, gw, []string{"a"}, Amounts{"tokens": "100"}, nil)
	body := Body(admission, io.NopCloser(strings.NewReader("12345")), usage)
	equal(t, string(must(io.ReadAll(body))(t)), "12345")
	equal(t, admission.Settlement(), Settled)
	ok(t, body.Close())
	equal(t, usedTokens(t, gw), 5)
	admission = admitted(t, gw, []string{"a"}, Amounts{"tokens": "100"}, nil)
	body = Body(admission, io.NopCloser(strings.NewReader("12345")), usage)
	must(body.Read(make([]byte, 2)))(t)
	ok(t, body.Close())
	equal(t, admission.Settlement(), Settled)
	equal(t, usedTokens(t, gw), 7)
}

// forget makes an admission that nobody has any more, and with it a stream that nobody begins.
//
//go:noinline
func forget(t *testing.T, gw *Gateway) {
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	_ = Stream(admission, pieces(3, nil), piece.usage)
}

func TestAnAdmissionThatNobodySettles(t *testing.T) {
	var log loggedTo
	settings := patient()
	settings.Logger, settings.Kept.Every = log.logger(), time.Millisecond
	_, gw := started(t, settings)
	policies(t, gw, "a", oneBudget)
	forget(t, gw)
	servers.Eventually(t, "it is settled", func() bool {
		runtime.GC()
		return accountOf(t, gw, "a").InFlight == 0
	})
	equal(t, spentOf(t, gw, "a"), "2")
	equal(t, gw.Figures()["admissions_leaked"], 1)
	if !strings.Contains(log.String(), "never settled") {
		t.Error(log.String())
	}
}

// Leases.

func TestKeptAliveUntilTheCap(t *testing.T) {
	settings := patient()
	settings.LeaseCap = 1500 * time.Millisecond
	_, gw := started(t, settings)
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, &AdmitOptions{TTL: 300 * time.Millisecond})
	began := time.Now()
	servers.Eventually(t, "it is lost at the cap", admission.Lost)
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("it lived for %v", took)
	}
	equal(t, gw.Figures()["leases_lost"], 1)
	servers.Eventually(t, "its lease has ended", func() bool { return accountOf(t, gw, "a").InFlight == 0 })
	equal(t, must(admission.Settle(background))(t), SettledLate)
}

func TestAFailedAttemptToProlongEndsNothing(t *testing.T) {
	server, _ := started(t, patient())
	proxy := proxyTo(t, server.Address())
	gw := gatewayOf(t, proxy.client(t), patient())
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, &AdmitOptions{TTL: 3 * time.Second})
	proxy.loseReplies("GW.KEEPALIVE")
	servers.Eventually(t, "an attempt has failed", func() bool { return gw.Figures()["keep_alive_failed"] > 0 })
	proxy.loseReplies("")
	before := proxy.count("GW.KEEPALIVE")
	servers.Eventually(t, "it is prolonged again", func() bool { return proxy.count("GW.KEEPALIVE") > before })
	equal(t, admission.Lost(), false)
	equal(t, must(admission.Settle(background))(t), Settled)
}

func TestDegradedAdmissionsAreKeptAliveIfTheServerMayHaveThem(t *testing.T) {
	server, _ := started(t, patient())
	proxy := proxyTo(t, server.Address())
	settings := patient()
	settings.Away.Admission = ModeOpen
	gw := gatewayOf(t, proxy.client(t), settings)
	policies(t, gw, "a", oneBudget)
	proxy.loseReplies("GW.ADMIT")
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, &AdmitOptions{TTL: time.Second})
	equal(t, admission.Outcome(), Degraded)
	equal(t, admission.Reason(), "connection")
	servers.Eventually(t, "it is kept alive", func() bool { return proxy.count("GW.KEEPALIVE") > 0 })
	equal(t, must(admission.Settle(background))(t), Settled)
	equal(t, spentOf(t, gw, "a"), "2")
}

// What the server does not know.

func TestUnknownIsBookedOnceUnderTheLease(t *testing.T) {
	server, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	server.Run("DEL a") // As after a failover that lost it.
	policies(t, gw, "a", oneBudget)
	ok(t, admission.Use(Amounts{"usd": "3"}))
	equal(t, must(admission.Settle(background))(t), Charged)
	equal(t, spentOf(t, gw, "a"), "3")
	must(gw.Budgets.Charge(background, "a", "3", &ChargeOptions{ID: admission.LeaseID()}))(t)
	equal(t, spentOf(t, gw, "a"), "3")
	equal(t, gw.Figures()["settlements_unknown"], 1)
}

func TestMoneyIsBookedAtTheTimeOfTheAdmission(t *testing.T) {
	_, gw := started(t, patient())
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	for _, d := range admission.deliveries(Amounts{"usd": "3"}, howCalled{took: -1}) {
		words := strings.Join(d.fallback[0], " ")
		want := fmt.Sprintf("GW.ADDCOST a 3 AT %d ID %s", admission.admittedAt.UnixMilli(), admission.LeaseID())
		equal(t, words, want)
	}
	ok(t, admission.Close())
}

func TestLateAndRepeatedBookNothing(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	options := &AdmitOptions{TTL: time.Millisecond, NoKeepAlive: true}
	late := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, options)
	servers.Eventually(t, "its lease has ended", func() bool { return accountOf(t, gw, "a").InFlight == 0 })
	equal(t, must(late.Settle(background))(t), SettledLate)
	again := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	must(gw.Commands.Settle(background, []string{"a"}, again.LeaseID(), nil))(t)
	equal(t, must(again.Settle(background))(t), SettledBefore)
	equal(t, spentOf(t, gw, "a"), "4")
}

func TestALostQuestionIsChargedAtTheEnd(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	settings := patient()
	settings.Away.Admission = ModeOpen
	settings.Kept.Every = time.Millisecond
	gw := gatewayOf(t, server.Client(), settings)
	policies(t, gw, "a", oneBudget)
	admission := admitted(t, gw, []string{"a"}, Amounts{"usd": "2"}, nil)
	// As if its reply was lost, and the question, too.
	admission.groups[0].state = groupMaybe
	must(gw.Commands.Settle(background, []string{"a"}, admission.LeaseID(), &commands.SettleOptions{
		Amounts: map[string]commands.Amount{"usd": "0", "requests": "0"},
	}))(t)
	server.Run("DEL a")
	policies(t, gw, "a", oneBudget)
	equal(t, must(admission.Settle(background))(t), KeptForLater)
	gw.SendKept(background)
	equal(t, gw.Kept(), 1)
	// The grace counts from the first answer.
	for _, d := range gw.core.kept.first(1) {
		gw.core.kept.mutex.Lock()
		if left := time.Until(d.againUntil); left <= 0 || left > grace {
			t.Errorf("%v", left)
		}
		d.againUntil = time.Now()
		gw.core.kept.mutex.Unlock()
	}
	servers.Eventually(t, "it is booked", func() bool { return gw.Kept() == 0 })
	equal(t, spentOf(t, gw, "a"), "2")
}

func TestACancelledQuestionIsUndone(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	settings := patient()
	settings.Kept.Every = time.Millisecond
	gw := gatewayOf(t, server.Client(), settings)
	policies(t, gw, "a", rpm("1"))
	server.Freeze()
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	if _, err := gw.Admit(ctx, []string{"a"}, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	server.Thaw()
	servers.Eventually(t, "it is undone", func() bool { return gw.Kept() == 0 && accountOf(t, gw, "a").Counts["rpm"].IntPart() == 0 })
	equal(t, gw.core.transport.alone.circuit.failures, 0)
	stopped, stop := context.WithCancel(background)
	stop()
	if _, err := gw.Admit(stopped, []string{"a"}, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestAccountsThatDoNotExist(t *testing.T) {
	settings := patient()
	settings.Plans = func(account string) (Plan, bool) {
		return Plan{rpm("1"), time.Hour}, strings.HasPrefix(account, "planned")
	}
	_, gw := started(t, settings)
	denied := must(gw.Admit(background, []string{"none"}, nil, &AdmitOptions{Require: true}))(t)
	equal(t, denied.Reason(), ReasonNoAccount)
	equal(t, denied.StatusCode(), 403)
	equal(t, denied.RetryAfter(), -1)
	ok(t, admitted(t, gw, []string{"none"}, nil, nil).Close())
	accounts := []string{"planned1", "planned2"}
	ok(t, admitted(t, gw, accounts, nil, &AdmitOptions{Require: true}).Close())
	equal(t, must(gw.Admit(background, accounts, nil, &AdmitOptions{Require: true}))(t).Reason(), ReasonLimit)
	if idle := accountOf(t, gw, "planned1").IdleMs; idle == nil || *idle != time.Hour.Milliseconds() {
		t.Errorf("%v", idle)
	}
}

// TestEachIsSettledExactlyOnce runs many interleavings of admitting, streaming, cancelling, failing and leaving.
func TestEachIsSettledExactlyOnce(t *testing.T) {
	_, gw := started(t, patient())
	policies(t, gw, "a", oneWindowOfTokens[:len(oneWindowOfTokens)-2]+`,{"name":"slots","kind":"inflight","max":10000}]}`)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const each = 125
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(worker)))
			for range each {
				interleave(t, gw, random)
			}
		})
	}
	group.Wait()
	servers.Eventually(t, "all is sent", func() bool { return gw.Kept() == 0 })
	equal(t, accountOf(t, gw, "a").InFlight, 0)
	settled := int64(0)
	for name, count := range gw.Figures() {
		if strings.HasPrefix(name, "settlements{") && name != "settlements{outcome=nothing}" {
			settled += count
		}
	}
	admittedCount := gw.Figures()["decisions{family=admission,outcome=admitted,reason=none}"]
	equal(t, settled, admittedCount)
	if admittedCount < 500 {
		t.Errorf("%d were admitted", admittedCount)
	}
}

func interleave(t *testing.T, gw *Gateway, random *rand.Rand) {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	if random.IntN(4) == 0 {
		delay := time.Duration(random.IntN(2000)) * time.Microsecond
		go func() {
			time.Sleep(delay) // The client leaves at some time.
			cancel()
		}()
	}
	admission, err := gw.Admit(ctx, []string{"a"}, Amounts{"tokens": "0"}, nil)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return
	}
	defer admission.Close()
	var failure error
	if random.IntN(3) == 0 {
		failure = errors.New("broken")
	}
	leave := random.IntN(6)
	for _, err := range Stream(admission, pieces(random.IntN(5), failure), func(piece) Amounts { return nil }) {
		if leave--; leave == 0 || err != nil || ctx.Err() != nil {
			break
		}
	}
	if random.IntN(3) == 0 {
		go admission.Settle(ctx)
	}
	if random.IntN(5) == 0 {
		admission.Undo(ctx)
	}
}

// TestARequestThatCountsNothingHasItsMoneyBooked: the use of the meter requests says nothing about the money.
func TestARequestThatCountsNothingHasItsMoneyBooked(t *testing.T) {
	server, gw := started(t, patient())
	policies(t, gw, "a", oneBudget)
	estimates := Amounts{"usd": "1"}
	admission := admitted(t, gw, []string{"a"}, estimates, nil)
	estimates["usd"] = "wrong" // They are the caller's.
	server.Run("DEL a")
	ok(t, admission.Use(Amounts{"requests": "0", "usd": "0.5"}))
	equal(t, must(admission.Settle(background))(t), Charged)
	equal(t, spentOf(t, gw, "a"), "0.5")
	// No money: there is nothing to book.
	policies(t, gw, "b", oneBudget)
	free := admitted(t, gw, []string{"b"}, Amounts{"usd": "1"}, nil)
	server.Run("DEL b")
	ok(t, free.Use(Amounts{"usd": "0"}))
	equal(t, must(free.Settle(background))(t), NotKnown)
	equal(t, server.Run("EXISTS b"), any(int64(0)))
}
