package gateway

import (
	"bytes"
	"context"
	"iter"
	"reflect"
	"time"
)

// StreamCache is a cache of answers that come in pieces. An answer is stored when it is complete, and replayed piece by piece.
type StreamCache[T any] struct {
	cache *Cache[[]T]
	plain bool // Whoever changes a piece changes only its own.
}

// NewStreamCache makes a cache of streams. Its options encode and decode slices of pieces, and may be nil.
func NewStreamCache[T any](gateway *Gateway, category string, options *CacheOptions[[]T]) *StreamCache[T] {
	return &StreamCache[T]{NewCache(gateway, category, options), isPlain(reflect.TypeFor[T]())}
}

// isPlain: a copy shares nothing that can be changed.
func isPlain(kind reflect.Type) bool {
	switch kind.Kind() {
	case reflect.Array:
		return isPlain(kind.Elem())
	case reflect.Struct:
		for at := range kind.NumField() {
			if !isPlain(kind.Field(at).Type) {
				return false
			}
		}
		return true
	}
	return kind.Kind() <= reflect.Complex128 || kind.Kind() == reflect.String
}

// copied is a piece of the cache's own: the caller may change its one.
func (s *StreamCache[T]) copied(piece T) (T, bool) {
	if s.plain {
		return piece, true
	}
	if text, is := s.cache.encoded([]T{piece}); is {
		if made, is := s.cache.decoded(bytes.Clone(text)); is && len(made) == 1 {
			return made[0], true
		}
	}
	return piece, false
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
				cache.count("wait_timeout")
				compute(ctx)(yield)
				return
			case waitCancelled:
				yield(none, ctx.Err())
				return
			}
			if pieces, is := cache.shared(own); is {
				replay(pieces, yield)
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
	own *flight, yield func(T, error) bool,
) {
	cache := s.cache
	found, err := cache.fetch(ctx, key, end)
	if err != nil {
		var none T
		yield(none, err)
		return
	}
	if pieces, is := cache.cached(found, own); is {
		if found.token != 0 {
			collect := func(ctx context.Context) ([]T, error) { return collected(compute(ctx)) }
			cache.core.start(func() { cache.refresh(context.WithoutCancel(ctx), key, collect, found.token, options) })
		}
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
	free, err := cache.place(ctx, found, end)
	if err != nil {
		var none T
		yield(none, err)
		return
	}
	defer free()
	pieces := []T{}
	all := true
	for piece, err := range compute(ctx) {
		if err != nil {
			yield(piece, err)
			return
		}
		if all {
			var copy T
			copy, all = s.copied(piece)
			pieces = append(pieces, copy)
		}
		if !yield(piece, nil) {
			return
		}
	}
	var text []byte
	if all {
		if text, all = cache.encoded(pieces); all {
			own.share(text)
		}
	}
	complete = true
	cache.keep(ctx, key, text, all, found, options)
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
