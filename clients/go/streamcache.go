package gateway

import (
	"context"
	"iter"
	"time"
)

// StreamCache is a cache of answers that come in pieces. An answer is stored when it is complete, and replayed piece by piece.
type StreamCache[T any] struct{ cache *Cache[[]T] }

// NewStreamCache makes a cache of streams. Its options encode and decode slices of pieces, and may be nil.
func NewStreamCache[T any](gateway *Gateway, category string, options *CacheOptions[[]T]) *StreamCache[T] {
	return &StreamCache[T]{NewCache(gateway, category, options)}
}

// Cache is the same cache, of whole answers.
func (s *StreamCache[T]) Cache() *Cache[[]T] { return s.cache }

// Stream is the pieces of the cached answer, or else those that are computed, as they come.
//
// Who asks for the same meanwhile gets the pieces when the answer is complete. If it is broken off, the next one computes. An error
// ends the stream. The options may be nil.
func (s *StreamCache[T]) Stream(
	ctx context.Context, request any, compute func(context.Context) iter.Seq2[T, error], options *EntryOptions,
) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		cache := s.cache
		var none T
		key, err := cache.Key(request)
		if err != nil {
			yield(none, err)
			return
		}
		end := time.Now().Add(cache.options.Wait)
		for {
			own, leads := cache.fly(key)
			if leads {
				defer cache.land(key, own)
				s.lead(ctx, key, compute, options, end, own, yield)
				return
			}
			switch waited(ctx, own.done, time.Until(end)) {
			case waitLong:
				cache.core.watch.cache("wait_timeout")
				compute(ctx)(yield)
				return
			case waitCancelled:
				yield(none, ctx.Err())
				return
			}
			if own.value != nil {
				cache.core.watch.cache("coalesced")
				replay(*own.value, yield)
				return
			}
		}
	}
}

func replay[T any](pieces []T, yield func(T, error) bool) {
	for _, piece := range pieces {
		if !yield(piece, nil) {
			return
		}
	}
}

func (s *StreamCache[T]) lead(
	ctx context.Context, key string, compute func(context.Context) iter.Seq2[T, error], options *EntryOptions, end time.Time,
	own *flight[[]T], yield func(T, error) bool,
) {
	cache := s.cache
	found, err := cache.fetch(ctx, key, end)
	if err != nil {
		var none T
		yield(none, err)
		return
	}
	if pieces, is := cache.cached(found); is {
		if found.token != 0 {
			collect := func(ctx context.Context) ([]T, error) { return collected(compute(ctx)) }
			cache.core.start(func() { cache.refresh(context.WithoutCancel(ctx), key, collect, found.token, options) })
		}
		own.value = &pieces
		replay(pieces, yield)
		return
	}
	complete := false
	// Also if it panics, or if nobody wants more of it.
	defer func() {
		if !complete {
			cache.giveUp(key, found)
		}
	}()
	pieces := []T{}
	for piece, err := range compute(ctx) {
		if err != nil {
			yield(piece, err)
			return
		}
		pieces = append(pieces, piece)
		if !yield(piece, nil) {
			return
		}
	}
	complete = true
	own.value = &pieces
	cache.keep(ctx, key, pieces, found, options)
}

func collected[T any](source iter.Seq2[T, error]) ([]T, error) {
	pieces := []T{}
	for piece, err := range source {
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, piece)
	}
	return pieces, nil
}
