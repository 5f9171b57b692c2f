package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

// quiet are settings with which nothing is sent in the background while a test looks.
func quiet() *Settings {
	settings := patient()
	settings.Away, settings.Kept.Every, settings.Failures = open, time.Hour, 1000
	return settings
}

// behindProxy is a server with a gateway that reaches it through a proxy.
func behindProxy(t *testing.T, settings *Settings) (*servers.Server, *proxy, *Gateway) {
	t.Helper()
	server := servers.Start(t, servers.Options{})
	proxy := proxyTo(t, server.Address())
	return server, proxy, gatewayOf(t, proxy.client(t), settings)
}

func keptIn(directory string, count int) *keptDeliveries {
	settings := &Settings{Kept: Kept{Count: count, Directory: directory}}
	if err := settings.complete(); err != nil {
		panic(err)
	}
	return newKeptDeliveries(&settings.Kept, (&loggedTo{}).logger())
}

// leftByAnother is the file of a process that is gone.
func leftByAnother(t *testing.T, directory string, all ...*delivery) string {
	t.Helper()
	kept := keptIn(directory, 100)
	for _, d := range all {
		equal(t, kept.add(d), true)
	}
	kept.close()
	names := must(filepath.Glob(filepath.Join(directory, "*"+keptSuffix)))(t)
	equal(t, len(names), 1)
	return names[0]
}

func chargeOf(number int, age time.Duration) *delivery {
	made := &delivery{id: fmt.Sprint(number), words: strings.Fields(fmt.Sprintf("GW.ADDCOST l 1 ID charge-%d", number))}
	if age > 0 {
		made.firstSent = time.Now().Add(-age)
	}
	return made
}

// settlementOld is a settlement that the server does not know, and that may have arrived so long ago.
func settlementOld(age time.Duration) *delivery {
	return &delivery{
		id: newID(), words: []string{"GW.SETTLE", "l", "LEASE", "old"}, firstSent: time.Now().Add(-age),
		fallback: [][]string{{"GW.ADDCOST", "l", "1", "ID", "old"}},
	}
}

func idsOf(all []*delivery) string {
	var found []string
	for _, d := range all {
		found = append(found, d.id)
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

func TestANodeThatWasDemotedIsLeft(t *testing.T) {
	server, proxy, gw := behindProxy(t, quiet())
	other := servers.Start(t, servers.Options{})
	must(gw.Allow(background, "k", 5, nil))(t)
	server.Run("REPLICAOF 127.0.0.1 1")
	proxy.leadTo(other.Address())
	equal(t, must(gw.Allow(background, "k", 5, nil))(t).Reason, "readonly")
	// It connects anew, and the address leads to the new primary.
	equal(t, must(gw.Allow(background, "k", 5, nil))(t).Outcome, Admitted)
}

func TestASecondTryDoesNotHideTheFirst(t *testing.T) {
	server, proxy, gw := behindProxy(t, quiet())
	proxy.loseReplies("GW.ADMIT")
	admission := admitted(t, gw, []string{"k"}, Amounts{"usd": "1"}, nil)
	equal(t, admission.Outcome(), Degraded)
	equal(t, admission.groups[0].state, groupMaybe)
	ok(t, admission.Close())
	// The first try may have arrived. The second one is refused by a replica: that says nothing about the first.
	options := &ChargeOptions{ID: "x"}
	proxy.loseReplies("GW.ADDCOST")
	equal(t, must(gw.Budgets.Charge(background, "l", "1", options))(t), KeptForLater)
	equal(t, gw.core.kept.first(9)[gw.Kept()-1].firstSent.IsZero(), false)
	err := after(commands.ErrorOf("READONLY You can't write against a read only replica."), true)
	if away := unavailable(err); away == nil || !away.Sent {
		t.Errorf("%v", err)
	}
	server.Stop()
	proxy.loseReplies("")
	proxy.drop()
	proxy.listener.Close()
	_, err = gw.Commands.Release(background, "k", "h")
	if away := unavailable(err); away == nil || away.Sent {
		t.Errorf("nothing was sent: %+v", away)
	}
}

// TestABatchThatIsLostIsKept: of a pipeline without a connection go-redis's commands have no error of their own.
func TestABatchThatIsLostIsKept(t *testing.T) {
	_, proxy, gw := behindProxy(t, quiet())
	for number := range 3 {
		gw.core.kept.add(chargeOf(number, 0))
	}
	proxy.loseReplies("GW.ADDCOST")
	equal(t, gw.SendKept(background), 0)
	proxy.loseReplies("")
	proxy.listener.Close()
	proxy.drop()
	equal(t, gw.SendKept(background), 0)
	equal(t, gw.Kept(), 3)
}

func TestALostSettlementIsRememberedAsSent(t *testing.T) {
	server, proxy, gw := behindProxy(t, quiet())
	proxy.loseReplies("GW.ADDCOST")
	equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), KeptForLater)
	equal(t, gw.core.kept.first(1)[0].firstSent.IsZero(), false)
	server.Stop()
	proxy.listener.Close()
	proxy.drop()
	equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), KeptForLater)
	equal(t, gw.core.kept.first(2)[1].firstSent.IsZero(), true)
}

// TestAHandshakeThatIsNotAnsweredSendsNothing: of a server that accepts and never replies, a new connection never gets so far that
// the call is sent.
func TestAHandshakeThatIsNotAnsweredSendsNothing(t *testing.T) {
	settings := quiet()
	settings.Timeout = 100 * time.Millisecond
	server := servers.Start(t, servers.Options{})
	gw := gatewayOf(t, server.Client(), settings)
	server.Freeze()
	_, err := gw.Commands.Release(background, "k", "h")
	server.Thaw()
	if away := unavailable(err); away == nil || *away != (UnavailableError{"timeout", false, true}) {
		t.Errorf("%+v", away)
	}
}

func TestWhatTheServerRefusesForNowIsKept(t *testing.T) {
	for _, line := range []string{
		"NOPERM this user has no permissions to run the 'gw.addcost' command", "NOAUTH Authentication required.",
		"ERR unknown command 'GW.ADDCOST', with args beginning with: 'l'", "ERR internal error: a bug",
	} {
		t.Run(line[:10], func(t *testing.T) {
			_, proxy, gw := behindProxy(t, quiet())
			proxy.refuseWith("GW.", line)
			equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), KeptForLater)
			equal(t, gw.SendKept(background), 0)
			equal(t, gw.Kept(), 1)
			logs := gw.Logs("q", &LogOptions{Every: time.Hour})
			ok(t, logs.Push(map[string]int{"id": 1}))
			equal(t, logs.Flush(background), false)
			equal(t, logs.Len(), 1)
			equal(t, logs.Dropped(), 0)
			proxy.refuseWith("", "")
			equal(t, logs.Flush(background), true)
			equal(t, gw.SendKept(background), 1)
			equal(t, spentOf(t, gw, "l"), "1")
		})
	}
}

func TestAWrongPasswordKeepsWhatMustArrive(t *testing.T) {
	server, gw := started(t, quiet())
	server.Run("CONFIG SET requirepass secret")
	equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), KeptForLater)
	d := gw.core.kept.first(1)[0]
	equal(t, d.firstSent.IsZero(), true)
}

func TestALeaseIsNotLostBecauseAPasswordChanges(t *testing.T) {
	_, proxy, gw := behindProxy(t, quiet())
	admission := admitted(t, gw, []string{"k"}, Amounts{"usd": "1"}, &AdmitOptions{TTL: 3 * time.Second})
	proxy.refuseWith("GW.KEEPALIVE", "NOAUTH Authentication required.")
	servers.Eventually(t, "it could not be prolonged", func() bool { return gw.Figures()["keep_alive_failed"] > 0 })
	equal(t, admission.Lost(), false)
}

func TestWhatIsTooOldIsNotSent(t *testing.T) {
	directory := t.TempDir()
	settings := quiet()
	settings.Kept.Directory = directory
	leftByAnother(t, directory, settlementOld(3400*time.Second), chargeOf(1, 90_000*time.Second), chargeOf(2, 3400*time.Second))
	_, proxy, gw := behindProxy(t, settings)
	servers.Eventually(t, "it is taken over", func() bool { return gw.Kept() == 1 })
	gw.SendKept(background)
	gw.core.kept.add(settlementOld(3400 * time.Second))
	gw.SendKept(background)
	equal(t, proxy.count("GW.SETTLE"), 0)
	equal(t, proxy.count("charge-1"), 0)
	equal(t, proxy.count("charge-2"), 1)
	equal(t, gw.Kept(), 0)
	equal(t, gw.Figures()["kept_given_up"], 3)
	equal(t, must(gw.core.deliver(background, settlementOld(3400*time.Second)))(t), GivenUp)
}

func TestWhatABusyAccountMayHaveForgottenIsNotBooked(t *testing.T) {
	_, gw := started(t, quiet())
	gw.core.kept.add(settlementOld(700 * time.Second))
	gw.SendKept(background)
	equal(t, must(gw.core.deliver(background, settlementOld(700*time.Second)))(t), GivenUp)
	equal(t, spentOf(t, gw, "l"), "0")
	equal(t, gw.Figures()["kept_given_up"], 2)
	equal(t, must(gw.core.deliver(background, settlementOld(60*time.Second)))(t), Charged)
	equal(t, spentOf(t, gw, "l"), "1")
}

// The file.

func TestTheFileDoesNotGrowWhileNothingChanges(t *testing.T) {
	kept := keptIn(t.TempDir(), 1000)
	defer kept.close()
	for number := range 100 {
		kept.add(chargeOf(number, 0))
	}
	size := func() int64 { return must(kept.disk.file.Stat())(t).Size() }
	before := size()
	for range 300 {
		for _, d := range kept.first(100) {
			kept.later(d)
		}
	}
	equal(t, size(), before)
	// What changes is written, and the file is made anew now and then.
	for at := range 300 {
		for _, d := range kept.first(100) {
			d.firstSent = time.UnixMilli(int64(at + 1))
			kept.later(d)
		}
	}
	if size() > 150*before {
		t.Errorf("%d bytes, %d before", size(), before)
	}
}

// TestAFullDiskIsNoError limits the size of files: there is room for a part of the next line.
func TestAFullDiskIsNoError(t *testing.T) {
	directory := t.TempDir()
	kept := keptIn(directory, 1000)
	kept.add(chargeOf(1, 0))
	size := uint64(must(kept.disk.file.Stat())(t).Size())
	var before syscall.Rlimit
	ok(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	// The kernel tells the process of the limit by a signal that ends it, unless it is ignored.
	signal.Ignore(syscall.SIGXFSZ)
	ok(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size + 10, Max: before.Max}))
	added := kept.add(chargeOf(2, 0))
	ok(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
	equal(t, added, true)
	equal(t, kept.first(2)[1].stored, false)
	kept.add(chargeOf(3, 0))
	kept.later(kept.first(2)[1]) // It is tried again, and there is room now.
	kept.close()
	other := keptIn(directory, 1000)
	defer other.close()
	equal(t, other.adopt(), 3)
	equal(t, idsOf(other.first(10)), "1 2 3")
}

func TestNoDirectoryIsNoError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	kept := keptIn(file, 10)
	equal(t, kept.add(chargeOf(1, 0)), true)
	equal(t, kept.count(), 1)
}

func TestHalfALineSpoilsNoOther(t *testing.T) {
	directory := t.TempDir()
	path := leftByAnother(t, directory, chargeOf(1, 0))
	text := string(must(os.ReadFile(path))(t))
	ok(t, os.WriteFile(path, []byte(text+"{\"id\": \"tr\n"+strings.Replace(text, `"1"`, `"2"`, 1)), 0o600))
	kept := keptIn(directory, 10)
	defer kept.close()
	kept.adopt()
	if kept.count() != 2 {
		t.Errorf("%s", idsOf(kept.first(9)))
	}
}

func TestWhatHasNoRoomStaysOnTheDisk(t *testing.T) {
	directory := t.TempDir()
	var all []*delivery
	for number := range 5 {
		all = append(all, chargeOf(number, 0))
	}
	path := leftByAnother(t, directory, all...)
	small, other := keptIn(directory, 2), keptIn(directory, 10)
	defer small.close()
	defer other.close()
	equal(t, small.adopt(), 2)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	equal(t, other.adopt(), 3)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	equal(t, idsOf(append(small.first(9), other.first(9)...)), "0 1 2 3 4")
}

// TestWhatWasLeftStaysAsOld although a part of it was taken over: the rest may have arrived as long ago as before.
func TestWhatWasLeftStaysAsOld(t *testing.T) {
	directory := t.TempDir()
	path := leftByAnother(t, directory, chargeOf(1, 0), chargeOf(2, 0))
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	ok(t, os.Chtimes(path, old, old))
	size := must(os.Stat(path))(t).Size()
	small, full := keptIn(directory, 1), keptIn(directory, 1)
	defer small.close()
	defer full.close()
	full.add(chargeOf(9, 0))
	equal(t, full.adopt(), 0)
	equal(t, must(os.Stat(path))(t).Size(), size)
	equal(t, small.adopt(), 1)
	equal(t, must(os.Stat(path))(t).ModTime().Equal(old), true)
}

// TestWhatIsWrongOnTheDiskIsLeftOut: whatever is in a file, no process fails because of it.
func TestWhatIsWrongOnTheDiskIsLeftOut(t *testing.T) {
	directory := t.TempDir()
	path := leftByAnother(t, directory, chargeOf(1, 0))
	lines := "null\n[]\n7\n\"x\"\n{\"id\":\"a\",\"words\":[]}\n{\"id\":\"b\",\"words\":[\"GW.SETTLE\"],\"fallback\":[[]]}\n\xff\n"
	ok(t, os.WriteFile(path, append([]byte(lines), must(os.ReadFile(path))(t)...), 0o600))
	kept := keptIn(directory, 10)
	defer kept.close()
	equal(t, kept.adopt(), 1)
}

func TestOnlyWhatWasUnderWayMayHaveArrived(t *testing.T) {
	directory := t.TempDir()
	leftByAnother(t, directory, chargeOf(1, 0))
	one := keptIn(directory, 10)
	one.adopt()
	equal(t, one.first(1)[0].firstSent.IsZero(), true)
	one.underWay(true)
	one.close()
	two := keptIn(directory, 10)
	defer two.close()
	two.adopt()
	equal(t, two.first(1)[0].firstSent.IsZero(), false)
}

// The end.

func TestClosingSettlesWhatLives(t *testing.T) {
	server, gw := started(t, quiet())
	policies(t, gw, "k", oneBudget)
	admission := admitted(t, gw, []string{"k"}, Amounts{"usd": "1"}, nil)
	ok(t, admission.Use(Amounts{"usd": "0.25"}))
	ok(t, gw.Close())
	ok(t, gw.Close())
	equal(t, server.Run("GW.SPENT k"), any("0.25"))
	equal(t, admission.Settlement(), KeptForLater)
	equal(t, gw.Figures()["admissions_closed"], 1)
}

// TestTheEndHasABound also while what is kept is being sent, and nothing is kept after it that nobody would send.
func TestTheEndHasABound(t *testing.T) {
	settings := quiet()
	settings.Kept.Every = time.Millisecond
	server, gw := started(t, settings)
	server.Freeze()
	gw.core.keep(chargeOf(1, 0))
	ctx, cancel := context.WithCancel(background)
	servers.Eventually(t, "it is being sent", func() bool { return len(gw.core.sending) == 1 })
	cancel()
	equal(t, gw.Shutdown(ctx), context.Canceled)
	server.Thaw()
	equal(t, must(gw.Budgets.Charge(background, "l", "1", nil))(t), GivenUp)
}

// TestTheEndSettlesWhatLivesAlsoIfItIsLate, because something else has not ended in time.
func TestTheEndSettlesWhatLivesAlsoIfItIsLate(t *testing.T) {
	server, gw := started(t, quiet())
	policies(t, gw, "k", oneBudget)
	admission := admitted(t, gw, []string{"k"}, Amounts{"usd": "1"}, nil)
	ok(t, admission.Use(Amounts{"usd": "0.25"}))
	block := make(chan struct{})
	defer close(block)
	equal(t, gw.core.start(func() { <-block }), true)
	ctx, cancel := context.WithCancel(background)
	cancel()
	equal(t, gw.Shutdown(ctx), context.Canceled)
	equal(t, server.Run("GW.SPENT k"), any("0.25"))
}
