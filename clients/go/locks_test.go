package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"redis-gateway/clients/go/internal/servers"
)

func locked(t *testing.T, gw *Gateway, options *SlotOptions) *Slot {
	t.Helper()
	lock := must(gw.Lock(background, "l", options))(t)
	if !lock.OK() {
		t.Fatalf("it is not had: %s", lock.Reason())
	}
	return lock
}

func TestOneAtATimeWithGrowingTokens(t *testing.T) {
	_, gw := started(t, patient())
	last := int64(0)
	for range 3 {
		lock := locked(t, gw, nil)
		other := must(gw.Lock(background, "l", nil))(t)
		equal(t, other.OK(), false)
		equal(t, other.Reason(), ReasonLimit)
		if other.Err() == nil || lock.Err() != nil || lock.FencingToken() <= last {
			t.Errorf("%v, %v, %d", other.Err(), lock.Err(), lock.FencingToken())
		}
		last = lock.FencingToken()
		equal(t, must(lock.Release(background))(t), true)
		equal(t, must(lock.Release(background))(t), false)
	}
	slots := []*Slot{}
	for range 3 {
		slots = append(slots, must(gw.Slot(background, "s", 2, nil))(t))
	}
	equal(t, slots[1].InUse(), 2)
	equal(t, slots[2].OK(), false)
}

func TestWaitsForItsTurn(t *testing.T) {
	_, gw := started(t, patient())
	first := locked(t, gw, nil)
	got := make(chan *Slot)
	go func() {
		second, err := gw.Lock(background, "l", &SlotOptions{Wait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	servers.Eventually(t, "it waits", func() bool { return must(gw.Commands.Stats(background))(t)["acquire_waiting"] >= 0 })
	equal(t, must(first.Release(background))(t), true)
	second := <-got
	equal(t, second.OK(), true)
	began := time.Now()
	third := must(gw.Lock(background, "l", &SlotOptions{Wait: 100 * time.Millisecond}))(t)
	equal(t, third.OK(), false)
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("it waited for %v", took)
	}
}

func TestAWaitIsMadeOfParts(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	proxy := proxyTo(t, server.Address())
	settings := patient()
	settings.WaitingTimeout = 500 * time.Millisecond
	gw := gatewayOf(t, proxy.client(t), settings)
	first := locked(t, gw, nil)
	equal(t, must(gw.Lock(background, "l", &SlotOptions{Wait: 1200 * time.Millisecond}))(t).Reason(), ReasonLimit)
	if parts := proxy.count("BLOCK"); parts < 3 {
		t.Errorf("%d parts", parts)
	}
	ok(t, first.Close())
	// A grant after a wait is renewed at once.
	must(gw.Lock(background, "l", &SlotOptions{Wait: time.Second}))(t)
	equal(t, proxy.count("GW.RENEW") > 0, true)
}

func TestRenewedUntilItIsLost(t *testing.T) {
	server, gw := started(t, patient())
	lock := locked(t, gw, &SlotOptions{TTL: 500 * time.Millisecond})
	ctx := lock.Context(background)
	for range 4 {
		select {
		case <-ctx.Done():
			t.Fatal("it is lost")
		case <-time.After(250 * time.Millisecond):
		}
		equal(t, lock.Lost(), false)
	}
	server.Run("DEL l")
	<-ctx.Done() // It is told at once.
	equal(t, context.Cause(ctx), ErrLockLost)
	servers.Eventually(t, "it is lost", lock.Lost)
	equal(t, lock.Err(), ErrLockLost)
	equal(t, gw.Figures()["locks_lost"], 1)
}

func TestLostWhenNobodyAnswers(t *testing.T) {
	settings := patient()
	settings.Timeout, settings.ConnectTimeout = 200*time.Millisecond, 200*time.Millisecond
	server := servers.Start(t, servers.Options{})
	gw := gatewayOf(t, server.Client(), settings)
	var lock *Slot
	servers.Eventually(t, "it is had", func() bool {
		lock = must(gw.Lock(background, "l", &SlotOptions{TTL: 500 * time.Millisecond}))(t)
		return lock.OK()
	})
	ctx := lock.Context(background)
	server.Freeze()
	<-ctx.Done()
	equal(t, context.Cause(ctx), ErrLockLost)
	equal(t, lock.Lost(), true)
	server.Thaw()
}

func TestReleasesOnlyItsOwn(t *testing.T) {
	server, gw := started(t, patient())
	first := locked(t, gw, nil)
	server.Run("DEL l")
	second := locked(t, gw, nil)
	equal(t, must(first.Release(background))(t), false)
	equal(t, must(gw.Lock(background, "l", nil))(t).OK(), false)
	equal(t, must(second.Release(background))(t), true)
}

func TestReleasedOnPanics(t *testing.T) {
	_, gw := started(t, patient())
	func() {
		defer func() { equal(t, recover(), any("mine")) }()
		lock := locked(t, gw, nil)
		defer lock.Close()
		panic("mine")
	}()
	lock := locked(t, gw, nil)
	ctx, cancel := context.WithCancel(background)
	cancel()
	equal(t, must(lock.Release(ctx))(t), true)
}

func TestACancelledAcquireLeavesNothingTaken(t *testing.T) {
	settings := patient()
	settings.Kept.Every = time.Millisecond
	_, gw := started(t, settings)
	first := locked(t, gw, nil)
	for round := range 10 {
		ctx, cancel := context.WithTimeout(background, time.Duration(round)*5*time.Millisecond)
		if _, err := gw.Lock(ctx, "l", &SlotOptions{Wait: 300 * time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		cancel()
	}
	ok(t, first.Close())
	servers.Eventually(t, "it is free", func() bool {
		lock := must(gw.Lock(background, "l", nil))(t)
		defer lock.Close()
		return lock.OK() && gw.Kept() == 0
	})
}

func TestMoreWhoWaitThanConnections(t *testing.T) {
	settings := patient()
	settings.WaitingConnections, settings.Timeout = 1, time.Second
	_, gw := started(t, settings)
	done := make(chan error, 4)
	for worker := range cap(done) {
		go func() {
			lock, err := gw.Lock(background, "l", &SlotOptions{Wait: time.Minute})
			if err == nil && !lock.OK() {
				err = fmt.Errorf("%d: %s", worker, lock.Reason())
			}
			if err == nil {
				err = lock.Close()
			}
			done <- err
		}()
	}
	for range cap(done) {
		ok(t, <-done)
	}
}

func TestTheContextOfALockHasItsCause(t *testing.T) {
	_, gw := started(t, patient())
	mine := errors.New("mine")
	for range 20 {
		lock := locked(t, gw, nil)
		parent, cancel := context.WithCancelCause(background)
		ctx := lock.Context(parent)
		cancel(mine)
		<-ctx.Done()
		equal(t, context.Cause(ctx), mine)
		ctx = lock.Context(background)
		ok(t, lock.Close())
		<-ctx.Done()
		equal(t, context.Cause(ctx), context.Canceled)
	}
}
