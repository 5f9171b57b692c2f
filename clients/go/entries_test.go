package gateway

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/internal/servers"
)

func TestLifetimesAreTheServersOrTheCallers(t *testing.T) {
	server, gw := started(t, patient())
	server.Run("CONFIG SET gw.cache-ttl chat=600")
	server.Run("CONFIG SET gw.cache-stale chat=60")
	lives := func(cache *Cache[string], want time.Duration) {
		t.Helper()
		left := time.Duration(server.Run("PTTL "+must(cache.Key(question))(t)).(int64)) * time.Millisecond
		if left > want || left < want-30*time.Second {
			t.Errorf("%v, want %v", left, want)
		}
	}
	for _, one := range []struct {
		options CacheOptions[string]
		want    time.Duration
	}{
		{CacheOptions[string]{}, 660 * time.Second},
		{CacheOptions[string]{Stale: -1}, 600 * time.Second},
		{CacheOptions[string]{TTL: 100 * time.Second}, 160 * time.Second},
		{CacheOptions[string]{TTL: 100 * time.Second, Stale: 50 * time.Second}, 150 * time.Second},
	} {
		cache := cacheOf(gw, &one.options)
		ok(t, cache.Set(background, question, "answer", nil))
		lives(cache, one.want)
	}
	other := NewCache[string](gw, "title", nil)
	must(other.GetOrCompute(background, question, (&counting{}).compute, nil))(t)
	lives(other, time.Hour)
}

func cacheFigures(gw *Gateway) string {
	var found []string
	for line := range strings.Lines(gw.Figures().String()) {
		if strings.HasPrefix(line, "cache{") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return strings.Join(found, "\n")
}

// TestFiguresAreToldByCategory: also those of streams, whose callers wait for each other as well.
func TestFiguresAreToldByCategory(t *testing.T) {
	_, gw := started(t, patient())
	streams := NewStreamCache[string](gw, "chat", nil)
	one := func(piece string, when func() bool) func(context.Context) iter.Seq2[string, error] {
		return func(context.Context) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				servers.Eventually(t, "it may go on", when)
				yield(piece, nil)
			}
		}
	}
	ask := func(streams *StreamCache[string], request any, compute func(context.Context) iter.Seq2[string, error]) string {
		found, err := collected(streams.Stream(background, request, compute, nil))
		return fmt.Sprint(found, err)
	}
	var group sync.WaitGroup
	begun := make(chan struct{})
	group.Go(func() {
		equal(t, ask(streams, question, one("piece", func() bool {
			close(begun)
			return true
		})), "[piece] <nil>")
	})
	<-begun
	for range 2 {
		// They come while it is computed, or after it: then it is a hit.
		group.Go(func() { equal(t, ask(streams, question, one("another", func() bool { return true })), "[piece] <nil>") })
	}
	group.Wait()
	_, _, err := NewCache[string](gw, "title", nil).Get(background, question)
	ok(t, err)
	figures := gw.Figures()
	equal(t, figures["cache{category=chat,result=miss}"], 1)
	equal(t, figures["cache{category=chat,result=coalesced}"]+figures["cache{category=chat,result=hit}"], 2)
	equal(t, figures["cache{category=title,result=miss}"], 1)
	equal(t, len(figures) <= 4, true)

	impatient := NewStreamCache(gw, "chat", &CacheOptions[[]string]{Wait: 10 * time.Millisecond})
	timedOut := func() bool { return gw.Figures()["cache{category=chat,result=wait_timeout}"] == 1 }
	group.Go(func() { equal(t, ask(impatient, "slow", one("piece", timedOut)), "[piece] <nil>") })
	servers.Eventually(t, "it is computed", func() bool {
		impatient.cache.mutex.Lock()
		defer impatient.cache.mutex.Unlock()
		return len(impatient.cache.flights) > 0
	})
	equal(t, ask(impatient, "slow", one("another", func() bool { return true })), "[another] <nil>")
	group.Wait()
	if text := cacheFigures(gw); strings.Contains(text, "cache{result") {
		t.Error(text)
	}
}

// TestManyEntriesGoTogether: each as it would alone, in a hundredth of the round trips.
func TestManyEntriesGoTogether(t *testing.T) {
	settings := patient()
	told := &trips{}
	settings.Observer = told
	server, gw := started(t, settings)
	raw := &CacheOptions[[]byte]{
		Encode: func(value []byte) ([]byte, error) {
			if value == nil {
				return nil, errors.New("it cannot be encoded")
			}
			return value, nil
		},
		Decode: func(text []byte) ([]byte, error) { return text, nil },
	}
	cache := NewCache(gw, "embed", raw)
	var requests []any
	var entries []Entry[[]byte]
	for at := range 250 {
		text := fmt.Sprint("text ", at)
		requests = append(requests, text)
		if at < 200 {
			entries = append(entries, Entry[[]byte]{text, []byte(text)})
		}
	}
	ok(t, cache.SetMany(background, entries, &EntryOptions{Tags: []string{"m"}, Saved: "0.1"}))
	key := must(cache.Key("text 1"))(t)
	server.Run("GW.CACHEDEL " + key)
	server.Run("SET " + key + " other")
	for at, one := range must(cache.GetMany(background, requests))(t) {
		if is := at < 200 && at != 1; one.Found != is || is && string(one.Value) != requests[at] {
			t.Errorf("%d: %v %q", at, one.Found, one.Value)
		}
	}
	equal(t, told.count.Load(), 5)
	equal(t, cacheFigures(gw), "cache{category=embed,result=error} 1\ncache{category=embed,result=hit} 199\n"+
		"cache{category=embed,result=miss} 50")
	equal(t, must(gw.ClearTag(background, "m"))(t), 199)
	// Large ones, of which one cannot be stored; and one that cannot be encoded, so that none is.
	before := told.count.Load()
	large := make([]byte, 200*1024)
	ok(t, cache.SetMany(background, []Entry[[]byte]{
		{requests[0], large}, {requests[1], large}, {requests[2], large}, {requests[3], large},
	}, nil))
	equal(t, told.count.Load()-before, 2)
	equal(t, gw.Figures()["cache{category=embed,result=not_stored}"], 1)
	for at, one := range must(cache.GetMany(background, requests[:4]))(t) {
		equal(t, one.Found, at != 1)
	}
	if err := cache.SetMany(background, []Entry[[]byte]{{"new", large}, {"newer", nil}}, nil); err == nil {
		t.Error("what cannot be encoded was stored")
	}
	equal(t, must(cache.GetMany(background, []any{"new"}))(t)[0].Found, false)
	equal(t, len(must(cache.GetMany(background, nil))(t)), 0)
	ok(t, cache.SetMany(background, nil, nil))
	ended, cancel := context.WithCancel(background)
	cancel()
	if _, err := cache.GetMany(ended, requests[:1]); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	server.Stop()
	for _, one := range must(cache.GetMany(background, requests[:2]))(t) {
		equal(t, one.Found, false)
	}
	away := int64(0)
	for name, count := range gw.Figures() {
		if strings.Contains(name, "result=away") {
			away += count
		}
	}
	equal(t, away, 2)
}

// clearsReachEveryPrimary: with a time-out that is not that of the request path, and also primaries that have joined since the last
// call.
func clearsReachEveryPrimary(t *testing.T, nodes []*servers.Server, client *redis.ClusterClient) {
	filling := NewCache[int](gatewayOf(t, client, patient()), "title", nil)
	gw := gatewayOf(t, client, &Settings{Timeout: time.Millisecond, ConnectTimeout: 5 * time.Second})
	request := func(at int) any { return map[string]int{"n": at} }
	var entries []Entry[int]
	for at := range 20 {
		entries = append(entries, Entry[int]{request(at), at})
	}
	fill := func() { ok(t, filling.SetMany(background, entries, &EntryOptions{Tags: []string{"all"}})) }
	equal(t, must(gw.ClearTag(background, "all"))(t), 0)
	for _, clear := range []func() (int64, error){
		func() (int64, error) { return gw.ClearTag(background, "all") },
		func() (int64, error) { return gw.ClearPattern(background, "title:*") },
		func() (int64, error) { return NewCache[int](gw, "title", nil).Clear(background) },
	} {
		fill()
		// As it was before the other two had slots.
		known := gw.core.background.cluster
		first := known.server(nodes[0].Address())
		known.mutex.Lock()
		for slot := range known.bySlot {
			known.bySlot[slot] = first
		}
		known.askedAt = time.Time{}
		known.mutex.Unlock()
		equal(t, must(clear())(t), 20)
	}
	fill()
	nodes[0].Freeze()
	_, err := gw.ClearTag(background, "all")
	nodes[0].Thaw()
	if unavailable(err) == nil {
		t.Errorf("%v", err)
	}
	left := 0
	for at := range 20 {
		_, found, err := filling.Get(background, request(at))
		ok(t, err)
		if slotOf(must(filling.Key(request(at)))(t)) > 5_460 {
			equal(t, found, false)
		} else {
			left++
		}
	}
	equal(t, left > 0, true)
}
