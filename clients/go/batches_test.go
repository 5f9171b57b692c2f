package gateway

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"redis-gateway/clients/go/internal/servers"
)

// push puts records into the queue q.
func push(t *testing.T, gw *Gateway, records ...string) {
	t.Helper()
	var made [][]byte
	for _, record := range records {
		made = append(made, []byte(record))
	}
	must(gw.Commands.LogPush(background, "q", made, nil))(t)
}

func leased(t *testing.T, gw *Gateway, options *LeaseOptions) *LogBatch {
	t.Helper()
	return must(gw.Lease(background, "q", options))(t)
}

func recordsOf(batch *LogBatch) string {
	var made []string
	for _, record := range batch.Records() {
		made = append(made, string(record))
	}
	return strings.Join(made, " ")
}

func ackedOf(t *testing.T, gw *Gateway) int64 {
	t.Helper()
	return must(gw.Commands.LogStats(background, "q"))(t).Acked
}

func TestAcknowledgedOrGivenBack(t *testing.T) {
	_, gw := started(t, patient())
	push(t, gw, "a", "b", "c")
	batch := leased(t, gw, &LeaseOptions{Count: 2})
	equal(t, recordsOf(batch), "a b")
	equal(t, batch.Delivery(), 1)
	equal(t, batch.Err(), nil)
	equal(t, must(batch.Acknowledge(background))(t), true)
	equal(t, must(batch.Acknowledge(background))(t), false)
	ok(t, batch.Close())
	equal(t, ackedOf(t, gw), 2)
	for delivery := range int64(2) {
		func() {
			defer func() { equal(t, recover(), any("the work panics")) }()
			batch := leased(t, gw, &LeaseOptions{Wait: 20 * time.Second, RetryAfter: time.Millisecond, MaxDeliveries: 2})
			defer batch.Close()
			equal(t, recordsOf(batch), "c")
			equal(t, batch.Delivery(), delivery+1)
			panic("the work panics")
		}()
	}
	letters := must(gw.Commands.LogDeadList(background, "q", nil))(t)
	equal(t, len(letters), 1)
	none := leased(t, gw, nil)
	equal(t, none.OK() || none.Lost() || none.Delivery() != 0 || none.ID() != "", false)
	equal(t, must(none.Acknowledge(background))(t), false)
	equal(t, must(none.GiveBack(background, 0))(t), false)
	ok(t, none.Close())
}

// TestWaitsForRecords: also for longer than a call of the server may wait.
func TestWaitsForRecords(t *testing.T) {
	settings := patient()
	settings.WaitingTimeout = time.Second
	_, gw := started(t, settings)
	go func() {
		time.Sleep(1500 * time.Millisecond)
		gw.Commands.LogPush(background, "q", [][]byte{[]byte("a")}, nil)
	}()
	batch := leased(t, gw, &LeaseOptions{Wait: time.Minute, TTL: time.Minute})
	equal(t, recordsOf(batch), "a")
	equal(t, must(batch.Acknowledge(background))(t), true)
	equal(t, leased(t, gw, &LeaseOptions{Wait: 10 * time.Millisecond}).OK(), false)
}

func TestALeaseIsRenewedWhileTheWorkGoesOn(t *testing.T) {
	_, gw := started(t, patient())
	push(t, gw, "a")
	batch := leased(t, gw, &LeaseOptions{TTL: 3 * time.Second})
	until := func() time.Time {
		batch.mutex.Lock()
		defer batch.mutex.Unlock()
		return batch.liveUntil
	}
	first := until()
	servers.Eventually(t, "it is renewed for longer than its lease", func() bool { return until().Sub(first) > 3*time.Second })
	equal(t, leased(t, gw, nil).OK(), false)
	equal(t, must(batch.Acknowledge(background))(t), true)
	equal(t, ackedOf(t, gw), 1)
}

func TestALostBatchLeavesThatOfAnotherAlone(t *testing.T) {
	_, gw := started(t, patient())
	push(t, gw, "a")
	slow := leased(t, gw, &LeaseOptions{TTL: time.Second})
	// As if its lease had ended, and another program had got the records.
	must(gw.Commands.LogNack(background, "q", slow.ID(), nil))(t)
	other := leased(t, gw, &LeaseOptions{TTL: time.Minute})
	equal(t, other.ID(), slow.ID())
	equal(t, other.Delivery(), 2)
	servers.Eventually(t, "it is told to be lost", func() bool { return gw.Figures()["batches_lost"] == 1 })
	equal(t, errors.Is(slow.Err(), ErrBatchLost), true)
	equal(t, must(slow.Acknowledge(background))(t), false)
	equal(t, must(other.GiveBack(background, 0))(t), true)
	third := leased(t, gw, &LeaseOptions{Wait: 20 * time.Second})
	equal(t, third.Delivery(), 3)
	equal(t, must(third.Acknowledge(background))(t), true)
}

func TestAnAcknowledgementIsSentLater(t *testing.T) {
	server, gw := started(t, &Settings{
		Timeout: 2 * time.Second, ConnectTimeout: 2 * time.Second, Logger: (&loggedTo{}).logger(), Kept: Kept{Every: time.Hour},
	})
	push(t, gw, "a")
	batch := leased(t, gw, &LeaseOptions{TTL: 10 * time.Minute})
	server.Freeze()
	equal(t, must(batch.Acknowledge(background))(t), true)
	equal(t, gw.Kept(), 1)
	if _, err := gw.Lease(background, "q", nil); unavailable(err) == nil {
		t.Errorf("%v", err)
	}
	server.Thaw()
	servers.Eventually(t, "it is sent", func() bool { gw.SendKept(background); return gw.Kept() == 0 })
	servers.Eventually(t, "it is acknowledged", func() bool {
		stats, err := gw.Commands.LogStats(background, "q")
		return err == nil && stats.Acked == 1
	})
}

// TestRecordsOfWhoHasLeftAreGivenBack: whoever waits for them leaves, and then they come.
func TestRecordsOfWhoHasLeftAreGivenBack(t *testing.T) {
	server, gw := started(t, patient())
	ctx, cancel := context.WithCancel(background)
	left := make(chan error)
	go func() {
		_, err := gw.Lease(ctx, "q", &LeaseOptions{Wait: time.Minute, TTL: time.Hour})
		left <- err
	}()
	servers.Eventually(t, "it waits in the server", func() bool {
		return strings.Contains(server.Run("INFO clients").(string), "blocked_clients:1")
	})
	cancel()
	equal(t, errors.Is(<-left, context.Canceled), true)
	push(t, gw, "a")
	batch := leased(t, gw, &LeaseOptions{Wait: 20 * time.Second})
	equal(t, recordsOf(batch), "a")
	equal(t, must(batch.Acknowledge(background))(t), true)
	ended, cancelled := context.WithCancel(background)
	cancelled()
	if _, err := gw.Lease(ended, "q", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	ok(t, gw.Close())
	if _, err := gw.Lease(background, "q", nil); !errors.Is(err, errClosed) {
		t.Errorf("%v", err)
	}
}
