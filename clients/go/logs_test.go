package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"redis-gateway/clients/go/internal/servers"
)

func stored(t *testing.T, server *servers.Server) []string {
	t.Helper()
	var found []string
	for _, record := range server.Run("GW.LOGPEEK q COUNT 10000").([]any) {
		found = append(found, record.(string))
	}
	return found
}

func TestPushedInBatchesInTheBackground(t *testing.T) {
	server, gw := started(t, patient())
	logs := gw.Logs("q", &LogOptions{Batch: 10, Every: time.Hour})
	for at := range 25 {
		ok(t, logs.Push(map[string]int{"at": at}))
	}
	servers.Eventually(t, "full batches are pushed", func() bool { return len(stored(t, server)) >= 20 })
	logs = gw.Logs("q", &LogOptions{Every: time.Millisecond})
	ok(t, logs.Push(`{"at":"last"}`))
	servers.Eventually(t, "after a time", func() bool { return strings.Contains(strings.Join(stored(t, server), ""), "last") })
	if logs.Push(func() {}) == nil {
		t.Error("a function was taken")
	}
}

func TestBoundsDropTheOldestAndCountThem(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	gw := gatewayOf(t, server.Client(), &Settings{})
	logs := gw.Logs("q", &LogOptions{Records: 3, Every: time.Hour, AnyBytes: true})
	began := time.Now()
	for at := range 5 {
		ok(t, logs.Push(fmt.Sprint(at)))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v", took)
	}
	equal(t, logs.Len(), 3)
	equal(t, logs.Dropped(), 2)
	bounded := gw.Logs("q", &LogOptions{Bytes: 10, Every: time.Hour, AnyBytes: true})
	for range 4 {
		ok(t, bounded.Push("12345"))
	}
	equal(t, bounded.Len(), 2)
	ok(t, gw.Close())
	ok(t, logs.Push("after the end"))
	equal(t, logs.Dropped(), 6)
	equal(t, logs.Len(), 0)
	equal(t, gw.Figures()["log_dropped{reason=buffer_full}"], 4)
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	proxy := proxyTo(t, server.Address())
	gw := gatewayOf(t, proxy.client(t), patient())
	logs := gw.Logs("q", &LogOptions{Every: time.Hour, AnyBytes: true})
	for range 3 {
		ok(t, logs.Push(strings.Repeat("x", 300*1024)))
	}
	equal(t, logs.Flush(background), true)
	equal(t, proxy.count("GW.LOGPUSH"), 3)
}

func TestPushesHaveATimeoutAndConnectionsOfTheirOwn(t *testing.T) {
	server, gw := started(t, &Settings{Failures: 1})
	logs := gw.Logs("q", &LogOptions{Every: time.Hour})
	equal(t, gw.core.background.settings.Timeout, 3*time.Second)
	ok(t, logs.Push("{}"))
	server.Freeze()
	equal(t, logs.Flush(background), false)
	server.Thaw()
	equal(t, gw.core.transport.alone.circuit.isOpen(), false)
	equal(t, logs.Flush(background), true)
	equal(t, len(stored(t, server)), 1)
}

func TestPushedAtTheEnd(t *testing.T) {
	server, gw := started(t, patient())
	logs := gw.Logs("q", &LogOptions{Every: time.Hour})
	ok(t, logs.Push("1"))
	ok(t, gw.Close())
	equal(t, len(stored(t, server)), 1)
	server.Freeze()
	gw = gatewayOf(t, server.Client(), patient())
	logs = gw.Logs("q", &LogOptions{Every: time.Hour})
	ok(t, logs.Push("2"))
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	gw.Shutdown(ctx)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	server.Thaw()
	equal(t, gw.Figures()["log_dropped{reason=closed}"], 1)
}

func TestAPushWhoseReplyIsLostIsStoredOnce(t *testing.T) {
	server, proxy, gw := behindProxy(t, patient())
	logs := gw.Logs("q", &LogOptions{Every: time.Hour})
	for at := range 5 {
		ok(t, logs.Push(fmt.Sprint(at)))
	}
	proxy.loseReplies("GW.LOGPUSH")
	equal(t, logs.Flush(background), false)
	ok(t, logs.Push("5"))
	proxy.loseReplies("")
	equal(t, logs.Flush(background), true)
	equal(t, strings.Join(stored(t, server), ""), "012345")
	equal(t, logs.Dropped(), 0)
}

func TestRecordsThatArePushedOneByOneAreStoredOnce(t *testing.T) {
	server, proxy, gw := behindProxy(t, patient())
	logs := gw.Logs("q", &LogOptions{Every: time.Hour})
	for _, record := range []string{"1", "not JSON", "2", "3"} {
		ok(t, logs.Push(record))
	}
	equal(t, logs.Flush(background), true)
	equal(t, strings.Join(stored(t, server), ""), "123")
	equal(t, logs.Dropped(), 1)
	for _, record := range []string{"not JSON", "4", "5"} {
		ok(t, logs.Push(record))
	}
	// The batch is refused; of its records, pushed one by one, replies are lost.
	proxy.loseReplies("\r\n4\r\n")
	equal(t, logs.Flush(background), false)
	proxy.loseReplies("")
	for !logs.Flush(background) {
		continue
	}
	equal(t, strings.Join(stored(t, server), ""), "12345")
}

func TestAFullQueue(t *testing.T) {
	server, gw := started(t, patient())
	server.Run("CONFIG SET gw.log-max-records 2")
	rejecting := gw.Logs("q", &LogOptions{Every: time.Hour, Reject: true})
	dropping := gw.Logs("q", &LogOptions{Every: time.Hour})
	for at := range 3 {
		ok(t, rejecting.Push(at))
	}
	equal(t, rejecting.Flush(background), false)
	equal(t, rejecting.Len(), 3)
	for at := range 3 {
		ok(t, dropping.Push(at))
	}
	equal(t, dropping.Flush(background), true)
	equal(t, dropping.Dropped(), 1)
	equal(t, strings.Join(stored(t, server), ""), "12")
	server.Run("CONFIG SET gw.log-max-records 100")
	equal(t, rejecting.Flush(background), true)
	equal(t, strings.Join(stored(t, server), ""), "12012")
}

func TestACancelledFlushGoesOnAlone(t *testing.T) {
	server, gw := started(t, patient())
	logs := gw.Logs("q", &LogOptions{Every: time.Hour})
	ok(t, logs.Push("1"))
	server.Freeze()
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	equal(t, logs.Flush(ctx), false)
	server.Thaw()
	servers.Eventually(t, "it has arrived", func() bool { return logs.Len() == 0 })
	equal(t, len(stored(t, server)), 1)
}

// TestRecordsThatComeMeanwhileAreNoFailure: a flush that is told of one pauses, and the buffer fills.
func TestRecordsThatComeMeanwhileAreNoFailure(t *testing.T) {
	_, gw := started(t, patient())
	logs := gw.Logs("log", &LogOptions{Every: time.Hour, Records: 1_000_000, Batch: 1_000_000})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				logs.Push("{}")
				time.Sleep(10 * time.Microsecond)
			}
		}
	}()
	for range 30 {
		equal(t, logs.Flush(background), true)
	}
	close(stop)
	<-done
}
