package gateway

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

var question = map[string]any{"model": "small", "messages": []string{"Hi"}, "user": "u1"}

// counting is a computation that counts how often it is asked for.
type counting struct {
	calls atomic.Int64
	wait  chan struct{} // Nil: it does not wait.
	err   error
}

func (c *counting) compute(ctx context.Context) (string, error) {
	number := c.calls.Add(1)
	if c.wait != nil {
		select {
		case <-c.wait:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return fmt.Sprint("answer ", number), c.err
}

func cacheOf(gw *Gateway, options *CacheOptions[string]) *Cache[string] {
	if options == nil {
		options = &CacheOptions[string]{}
	}
	return NewCache(gw, "chat", options)
}

func TestAHitComputesNothing(t *testing.T) {
	server, gw := started(t, patient())
	cache := cacheOf(gw, &CacheOptions[string]{Tenant: commands.Text("ml"), Ignore: []string{"user"}, TTL: time.Minute})
	work := &counting{}
	options := &EntryOptions{Tags: []string{"model:small"}, Saved: "0.02"}
	for range 3 {
		equal(t, must(cache.GetOrCompute(background, question, work.compute, options))(t), "answer 1")
	}
	equal(t, work.calls.Load(), 1)
	key := must(cache.Key(question))(t)
	if !strings.HasPrefix(key, "chat:ml:") || server.Run("EXISTS "+key) != int64(1) {
		t.Error(key)
	}
	value, found, err := cache.Get(background, question)
	equal(t, fmt.Sprintln(value, found, err), "answer 1 true <nil>\n")
	state := must(gw.Commands.Describe(background, key))(t).(commands.CacheEntryState)
	equal(t, fmt.Sprintln(state.Category, state.Tags, state.Saved), "chat [model:small] 0.02\n")
	figures := must(cache.Figures(background))(t)
	equal(t, figures[0].Saved.String(), "0.06")
	equal(t, must(gw.ClearTag(background, "model:small"))(t), 1)
	equal(t, must(cache.GetOrCompute(background, question, work.compute, options))(t), "answer 2")
	equal(t, must(cache.Delete(background, question))(t), true)
	equal(t, must(cache.Delete(background, question))(t), false)
	ok(t, cache.Set(background, question, "mine", nil))
	equal(t, must(cache.GetOrCompute(background, question, work.compute, nil))(t), "mine")
	equal(t, must(cache.Clear(background))(t), 1)
	var refused *commands.NotCanonicalError
	if _, err := cache.GetOrCompute(background, "\xff", work.compute, nil); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
}

// together asks from so many goroutines at once, and returns the answers.
func together(count int, ask func() (string, error)) []string {
	answers := make([]string, count)
	var group sync.WaitGroup
	for at := range answers {
		group.Go(func() {
			answer, err := ask()
			answers[at] = answer
			if err != nil {
				answers[at] = err.Error()
			}
		})
	}
	group.Wait()
	return answers
}

func TestEqualCallsInAProcessComputeOnce(t *testing.T) {
	_, gw := started(t, patient())
	cache, work := cacheOf(gw, nil), &counting{wait: make(chan struct{})}
	time.AfterFunc(100*time.Millisecond, func() { close(work.wait) })
	for _, answer := range together(20, func() (string, error) {
		return cache.GetOrCompute(background, question, work.compute, nil)
	}) {
		equal(t, answer, "answer 1")
	}
	equal(t, work.calls.Load(), 1)
}

func TestProcessesComputeOnce(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	work := &counting{wait: make(chan struct{})}
	time.AfterFunc(200*time.Millisecond, func() { close(work.wait) })
	var gateways []*Gateway
	for range 6 {
		gateways = append(gateways, gatewayOf(t, server.Client(), patient()))
	}
	var next atomic.Int64
	for _, answer := range together(6, func() (string, error) {
		return cacheOf(gateways[next.Add(1)-1], nil).GetOrCompute(background, question, work.compute, nil)
	}) {
		equal(t, answer, "answer 1")
	}
	equal(t, work.calls.Load(), 1)
}

// ledBy makes another process lead the computation of the question, and returns what it lets it go with.
func ledBy(t *testing.T, server *servers.Server, key string) int64 {
	t.Helper()
	admin := server.Admin()
	defer admin.Close()
	answer := must(commands.New(admin).CacheLease(background, key, 60_000, &commands.CacheLeaseOptions{Holder: "other"}))(t)
	if answer.Token == 0 {
		t.Fatalf("%+v", answer)
	}
	return answer.Token
}

func TestACacheWaitIsMadeOfParts(t *testing.T) {
	settings := patient()
	settings.WaitingTimeout = 500 * time.Millisecond
	server, proxy, gw := behindProxy(t, settings)
	cache, work := cacheOf(gw, &CacheOptions[string]{Wait: 1200 * time.Millisecond}), &counting{}
	ledBy(t, server, must(cache.Key(question))(t))
	equal(t, must(cache.GetOrCompute(background, question, work.compute, nil))(t), "answer 1")
	if parts := proxy.count("\r\nWAIT\r\n"); parts < 3 {
		t.Errorf("%d parts", parts)
	}
}

func TestMoreWaitersThanConnections(t *testing.T) {
	settings := patient()
	settings.WaitingConnections, settings.Timeout = 1, time.Second
	server, gw := started(t, settings)
	caches := make([]*Cache[string], 4)
	for at := range caches {
		caches[at] = cacheOf(gw, nil) // Each has flights of its own.
	}
	key := must(caches[0].Key(question))(t)
	token := ledBy(t, server, key)
	time.AfterFunc(300*time.Millisecond, func() {
		admin := server.Admin()
		defer admin.Close()
		options := &commands.CacheSetOptions{Token: commands.Int(token)}
		commands.New(admin).CacheSet(background, key, []byte(`"theirs"`), options)
	})
	var next atomic.Int64
	for _, answer := range together(4, func() (string, error) {
		return caches[next.Add(1)-1].GetOrCompute(background, question, (&counting{}).compute, nil)
	}) {
		equal(t, answer, "theirs")
	}
}

func TestWaitsHoldUpNoOtherCall(t *testing.T) {
	settings := patient()
	settings.Connections, settings.WaitingConnections = 1, 1
	server, gw := started(t, settings)
	cache := cacheOf(gw, nil)
	key := must(cache.Key(question))(t)
	token := ledBy(t, server, key)
	done := make(chan string)
	go func() {
		answer, err := cache.GetOrCompute(background, question, (&counting{}).compute, nil)
		done <- fmt.Sprint(answer, err)
	}()
	servers.Eventually(t, "it waits", func() bool {
		return strings.Contains(fmt.Sprint(server.Run("CLIENT LIST")), "cmd=gw.cachefetch")
	})
	for range 10 {
		equal(t, must(gw.Allow(background, "k", 100, nil))(t).Outcome, Admitted)
	}
	must(gw.Commands.CacheRelease(background, key, token))(t)
	equal(t, <-done, "answer 1<nil>")
}

func TestIfItFailsTheNextOneComputes(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	first, second := cacheOf(gatewayOf(t, server.Client(), patient()), nil), cacheOf(gatewayOf(t, server.Client(), patient()), nil)
	failed := errors.New("the model")
	failing := &counting{wait: make(chan struct{}), err: failed}
	answers := make(chan string)
	go func() {
		_, err := first.GetOrCompute(background, question, failing.compute, nil)
		answers <- fmt.Sprint(err)
	}()
	servers.Eventually(t, "it computes", func() bool { return failing.calls.Load() == 1 })
	go func() {
		answer, err := second.GetOrCompute(background, question, (&counting{}).compute, nil)
		answers <- fmt.Sprint(answer, err)
	}()
	close(failing.wait)
	equal(t, <-answers, "the model")
	equal(t, <-answers, "answer 1<nil>")
	// Also if it panics.
	other := map[string]any{"other": true}
	func() {
		defer func() { equal(t, recover(), any("mine")) }()
		first.GetOrCompute(background, other, func(context.Context) (string, error) { panic("mine") }, nil)
	}()
	equal(t, must(second.GetOrCompute(background, other, (&counting{}).compute, nil))(t), "answer 1")
}

func TestACancelledComputationGivesItsLeaseUp(t *testing.T) {
	_, gw := started(t, patient())
	cache, work := cacheOf(gw, nil), &counting{wait: make(chan struct{})}
	ctx, cancel := context.WithCancel(background)
	done := make(chan error)
	go func() {
		_, err := cache.GetOrCompute(ctx, question, work.compute, nil)
		done <- err
	}()
	servers.Eventually(t, "it computes", func() bool { return work.calls.Load() == 1 })
	cancel()
	equal(t, <-done, context.Canceled)
	equal(t, must(cache.GetOrCompute(background, question, (&counting{}).compute, nil))(t), "answer 1")
}

func TestACancelledQuestionOfTheCacheGivesItsLeaseUp(t *testing.T) {
	server, gw := started(t, patient())
	cache := cacheOf(gw, &CacheOptions[string]{Lease: time.Hour})
	key := must(cache.Key(question))(t)
	token := ledBy(t, server, key)
	ctx, cancel := context.WithCancel(background)
	done := make(chan error)
	go func() {
		_, err := cache.GetOrCompute(ctx, question, (&counting{}).compute, nil)
		done <- err
	}()
	servers.Eventually(t, "it waits", func() bool {
		return strings.Contains(fmt.Sprint(server.Run("CLIENT LIST")), "cmd=gw.cachefetch")
	})
	cancel()
	equal(t, <-done, context.Canceled)
	// The one who has left is the next leader, and gives the lease up.
	must(gw.Commands.CacheRelease(background, key, token))(t)
	equal(t, must(cache.GetOrCompute(background, question, (&counting{}).compute, nil))(t), "answer 1")
}

func TestStaleIsServedAndRefreshed(t *testing.T) {
	_, gw := started(t, patient())
	cache := cacheOf(gw, &CacheOptions[string]{TTL: 50 * time.Millisecond, Stale: time.Hour})
	work := &counting{}
	equal(t, must(cache.GetOrCompute(background, question, work.compute, nil))(t), "answer 1")
	time.Sleep(60 * time.Millisecond)
	// A refresh that fails gives its lease up.
	failing := &counting{err: errors.New("the model")}
	equal(t, must(cache.GetOrCompute(background, question, failing.compute, nil))(t), "answer 1")
	servers.Eventually(t, "it has failed", func() bool { return gw.Figures()["cache{category=chat,result=refresh_failed}"] == 1 })
	servers.Eventually(t, "it is refreshed", func() bool {
		must(cache.GetOrCompute(background, question, work.compute, nil))(t)
		return work.calls.Load() >= 2
	})
}

func TestALostReplyLosesNoFillLease(t *testing.T) {
	server, proxy, gw := behindProxy(t, patient())
	cache, work := cacheOf(gw, &CacheOptions[string]{Lease: time.Hour}), &counting{}
	compute := func(ctx context.Context) (string, error) {
		proxy.loseReplies("")
		return work.compute(ctx)
	}
	proxy.loseReplies("GW.CACHEFETCH")
	equal(t, must(cache.GetOrCompute(background, question, compute, nil))(t), "answer 1")
	// It had the lease, and has stored the value.
	equal(t, server.Run("EXISTS "+must(cache.Key(question))(t)), any(int64(1)))
}

func TestAnErrorOfTheCacheIsAMiss(t *testing.T) {
	server, gw := started(t, patient())
	cache, work := cacheOf(gw, nil), &counting{}
	server.Run("SET " + must(cache.Key(question))(t) + " x")
	equal(t, must(cache.GetOrCompute(background, question, work.compute, nil))(t), "answer 1")
	_, found, err := cache.Get(background, question)
	equal(t, fmt.Sprint(found, err), "false <nil>")
	equal(t, gw.Figures()["cache{category=chat,result=error}"], 2)
	server.Run("FLUSHALL")
	must(gw.Commands.CacheSet(background, must(cache.Key(question))(t), []byte("not JSON"), nil))(t)
	equal(t, must(cache.GetOrCompute(background, question, work.compute, nil))(t), "answer 2")
	equal(t, gw.Figures()["cache{category=chat,result=not_decoded}"], 1)
}

func TestWithoutTheCacheABoundedNumberIsComputed(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	gw := gatewayOf(t, server.Client(), &Settings{})
	cache := cacheOf(gw, &CacheOptions[string]{Computing: 2})
	var now, most atomic.Int64
	var number atomic.Int64
	for _, answer := range together(10, func() (string, error) {
		request := map[string]int64{"number": number.Add(1)}
		return cache.GetOrCompute(background, request, func(context.Context) (string, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(5 * time.Millisecond) // The call of the model.
			now.Add(-1)
			return "computed", nil
		}, nil)
	}) {
		equal(t, answer, "computed")
	}
	if most.Load() > 2 {
		t.Errorf("%d at once", most.Load())
	}
	_, found, err := cache.Get(background, question)
	equal(t, fmt.Sprint(found, err), "false <nil>")
}

func TestWhatCannotBeStoredGivesItsLeaseUp(t *testing.T) {
	_, proxy, gw := behindProxy(t, patient())
	cache := cacheOf(gw, &CacheOptions[string]{Lease: time.Hour})
	proxy.refuseWith("GW.CACHESET", "OOM command not allowed when used memory > 'maxmemory'.")
	equal(t, must(cache.GetOrCompute(background, question, (&counting{}).compute, nil))(t), "answer 1")
	equal(t, proxy.count("GW.CACHERELEASE"), 1)
	proxy.refuseWith("", "")
	broken := NewCache(gw, "chat", &CacheOptions[func()]{Lease: time.Hour})
	value, err := broken.GetOrCompute(background, question, func(context.Context) (func(), error) { return func() {}, nil }, nil)
	if value == nil || err != nil {
		t.Errorf("%v", err)
	}
	equal(t, proxy.count("GW.CACHERELEASE"), 2)
}

func TestALeaseIsGivenUpWhenTheServerIsBack(t *testing.T) {
	settings := patient()
	settings.Kept.Every = 10 * time.Millisecond
	server, proxy, gw := behindProxy(t, settings)
	cache := cacheOf(gw, &CacheOptions[string]{Lease: time.Hour})
	failing := func(context.Context) (string, error) {
		proxy.refuseWith("GW.CACHERELEASE", "LOADING Redis is loading the dataset in memory")
		return "", errors.New("the model")
	}
	if _, err := cache.GetOrCompute(background, question, failing, nil); err == nil {
		t.Error("it has not failed")
	}
	proxy.refuseWith("", "")
	key := must(cache.Key(question))(t)
	servers.Eventually(t, "the lease is free", func() bool {
		admin := server.Admin()
		defer admin.Close()
		options := &commands.CacheLeaseOptions{Holder: "other"}
		return must(commands.New(admin).CacheLease(background, key, 1, options))(t).Token != 0
	})
}

func TestNilAndEmptyAreValues(t *testing.T) {
	_, gw := started(t, patient())
	for name, value := range map[string]*string{"nil": nil, "empty": new(string)} {
		cache := NewCache[*string](gw, name, nil)
		calls := 0
		for range 2 {
			found := must(cache.GetOrCompute(background, question, func(context.Context) (*string, error) {
				calls++
				return value, nil
			}, nil))(t)
			equal(t, found == nil, value == nil)
		}
		equal(t, calls, 1)
	}
	raw := NewCache(gw, "raw", &CacheOptions[[]byte]{
		Encode: func(value []byte) ([]byte, error) { return value, nil },
		Decode: func(text []byte) ([]byte, error) { return text, nil },
	})
	for at, value := range []string{"", "\xff\x00"} {
		request := map[string]int{"at": at}
		ok(t, raw.Set(background, request, []byte(value), nil))
		found, is, err := raw.Get(background, request)
		equal(t, fmt.Sprintf("%q %t %v", found, is, err), fmt.Sprintf("%q true <nil>", value))
	}
}

// Streams.

func words(count *atomic.Int64, text string, failure error) func(context.Context) iter.Seq2[string, error] {
	return func(context.Context) iter.Seq2[string, error] {
		count.Add(1)
		return func(yield func(string, error) bool) {
			for _, word := range strings.Fields(text) {
				if !yield(word, nil) {
					return
				}
			}
			if failure != nil {
				yield("", failure)
			}
		}
	}
}

func joined(source iter.Seq2[string, error]) (string, error) {
	found, err := collected(source)
	return strings.Join(found, " "), err
}

func TestStreamsAreStoredWhenComplete(t *testing.T) {
	_, gw := started(t, patient())
	cache := NewStreamCache[string](gw, "chat", nil)
	var calls atomic.Int64
	for range 3 {
		equal(t, must(joined(cache.Stream(background, question, words(&calls, "Hello , world", nil), nil)))(t), "Hello , world")
	}
	equal(t, calls.Load(), 1)
	other := map[string]any{"other": true}
	for _, answer := range together(5, func() (string, error) {
		return joined(cache.Stream(background, other, words(&calls, "a b c", nil), nil))
	}) {
		equal(t, answer, "a b c")
	}
	equal(t, calls.Load(), 2)
}

func TestAStreamThatBreaksOffIsNotStored(t *testing.T) {
	_, gw := started(t, patient())
	cache := NewStreamCache[string](gw, "chat", nil)
	var calls atomic.Int64
	broken := errors.New("broken")
	if _, err := joined(cache.Stream(background, question, words(&calls, "a b", broken), nil)); err != broken {
		t.Errorf("%v", err)
	}
	for range cache.Stream(background, question, words(&calls, "a b", nil), nil) {
		break
	}
	equal(t, must(joined(cache.Stream(background, question, words(&calls, "c d", nil), nil)))(t), "c d")
	equal(t, calls.Load(), 3)
}
