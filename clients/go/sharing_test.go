package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"redis-gateway/clients/go/internal/servers"
)

type choices map[string][]string

// TestEachCallerHasAnAnswerOfItsOwn: whoever changes it changes nobody else's, nor what is stored.
func TestEachCallerHasAnAnswerOfItsOwn(t *testing.T) {
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprint(cached), func(t *testing.T) {
			server, gw := started(t, patient())
			cache := NewCache[choices](gw, "chat", nil)
			if cached {
				ok(t, cache.Set(background, question, choices{"choices": {"Hello"}}, nil))
				server.Freeze()
			}
			var asking atomic.Int64
			all := func() bool { return asking.Load() == 5 }
			var group sync.WaitGroup
			answers := make([]choices, 5)
			for at := range answers {
				group.Go(func() {
					asking.Add(1)
					answer, err := cache.GetOrCompute(background, question, func(context.Context) (choices, error) {
						for !all() {
							time.Sleep(time.Millisecond)
						}
						time.Sleep(50 * time.Millisecond)
						return choices{"choices": {"Hello"}}, nil
					}, nil)
					if err != nil {
						t.Error(err)
						return
					}
					answer["choices"] = append(answer["choices"], "changed")
					answers[at] = answer
				})
			}
			servers.Eventually(t, "all have asked", all)
			if cached {
				time.Sleep(50 * time.Millisecond)
				server.Thaw()
			}
			group.Wait()
			for _, answer := range answers {
				equal(t, fmt.Sprint(answer), "map[choices:[Hello changed]]")
			}
			stored, _, err := cache.Get(background, question)
			ok(t, err)
			equal(t, fmt.Sprint(stored), "map[choices:[Hello]]")
		})
	}
}

// TestBytesThatAreTheirOwnCodeAreNotShared: neither Encode nor Decode copies them.
func TestBytesThatAreTheirOwnCodeAreNotShared(t *testing.T) {
	_, gw := started(t, patient())
	own := func(value []byte) ([]byte, error) { return value, nil }
	cache := NewCache(gw, "chat", &CacheOptions[[]byte]{Encode: own, Decode: own})
	var made flight
	text := []byte("answer")
	made.share(text)
	text[0] = 'X'
	for range 2 {
		value, is := cache.shared(&made)
		equal(t, fmt.Sprint(string(value), " ", is), "answer true")
		value[0] = 'X'
	}
	made.share(nil)
	_, is := cache.shared(&made)
	equal(t, is, true) // An empty answer is one.
}

func TestEachCallerOfAStreamHasPiecesOfItsOwn(t *testing.T) {
	_, gw := started(t, patient())
	cache := NewStreamCache[choices](gw, "chat", nil)
	model := func(context.Context) iter.Seq2[choices, error] {
		return func(yield func(choices, error) bool) {
			for _, text := range []string{"a", "b"} {
				if !yield(choices{"delta": {text}}, nil) {
					return
				}
			}
		}
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			found := ""
			for piece, err := range cache.Stream(background, question, model, nil) {
				if err != nil {
					t.Error(err)
				}
				piece["delta"][0] += "!"
				found += fmt.Sprint(piece)
			}
			equal(t, found, "map[delta:[a!]]map[delta:[b!]]")
		})
	}
	group.Wait()
	stored, _, err := cache.Cache().Get(background, question)
	ok(t, err)
	equal(t, fmt.Sprint(stored), "[map[delta:[a]] map[delta:[b]]]")
	for kind, plain := range map[reflect.Type]bool{
		reflect.TypeFor[string](): true, reflect.TypeFor[struct{ A [2]float64 }](): true, reflect.TypeFor[[]byte](): false,
		reflect.TypeFor[struct{ A *int }](): false, reflect.TypeFor[any](): false, reflect.TypeFor[json.Number](): true,
	} {
		equal(t, isPlain(kind), plain)
	}
}

func TestAnAnswerThatCannotBeEncodedIsSharedWithNobody(t *testing.T) {
	_, gw := started(t, patient())
	cache := NewCache(gw, "chat", &CacheOptions[*int]{Encode: func(*int) ([]byte, error) { return nil, errors.New("no") }})
	var calls atomic.Int64
	var mutex sync.Mutex
	answers := map[*int]bool{}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			answer, err := cache.GetOrCompute(background, question, func(context.Context) (*int, error) {
				calls.Add(1)
				time.Sleep(20 * time.Millisecond)
				return new(int), nil
			}, nil)
			if err != nil {
				t.Error(err)
			}
			mutex.Lock()
			answers[answer] = true
			mutex.Unlock()
		})
	}
	group.Wait()
	equal(t, fmt.Sprint(len(answers), calls.Load()), "3 3")
}

// TestARefreshThatPanics does not end the program: the request that it was for has had its answer.
func TestARefreshThatPanics(t *testing.T) {
	_, gw := started(t, patient())
	cache := cacheOf(gw, &CacheOptions[string]{TTL: time.Millisecond, Stale: time.Hour})
	ok(t, cache.Set(background, question, "old", nil))
	servers.Eventually(t, "the refresh has panicked", func() bool {
		value := must(cache.GetOrCompute(background, question, func(context.Context) (string, error) { panic("mine") }, nil))(t)
		equal(t, value, "old")
		return gw.Figures()["cache{category=chat,result=refresh_failed}"] > 0
	})
}

// TestWithoutTheCacheABoundedNumberOfStreamsIsComputed at a time.
func TestWithoutTheCacheABoundedNumberOfStreamsIsComputed(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Stop()
	gw := gatewayOf(t, server.Client(), patient())
	cache := NewStreamCache(gw, "chat", &CacheOptions[[]string]{Computing: 2})
	var running, most atomic.Int64
	model := func(context.Context) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			now := running.Add(1)
			defer running.Add(-1)
			for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
			}
			time.Sleep(20 * time.Millisecond)
			yield("piece", nil)
		}
	}
	var group sync.WaitGroup
	for at := range 8 {
		group.Go(func() {
			for piece, err := range cache.Stream(background, map[string]int{"n": at}, model, nil) {
				if piece != "piece" || err != nil {
					t.Error(piece, err)
				}
			}
		})
	}
	group.Wait()
	equal(t, most.Load() <= 2, true)
}
