package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

// CacheOptions are what [NewCache] may be told. What is zero has its default.
type CacheOptions[T any] struct {
	// Tenant is who may see the answers: a team, a customer. Two tenants never share one. Nil: all may.
	Tenant *string

	// TTL is for how long an answer is fresh. Default: what the server's `gw.cache-ttl` says of the category, else an hour.
	TTL time.Duration

	// Stale is for how long after that it is served while it is refreshed; negative: not at all. Default: what the server's
	// `gw.cache-stale` says of the category, else not at all.
	Stale time.Duration

	// Lease is longer than a computation may take. Default: 2 minutes.
	Lease time.Duration

	// Wait is the longest wait for the computation of another. Then it computes by itself. Default: a minute.
	Wait time.Duration

	// Ignore are members of requests that do not change the answer, such as stream and user.
	Ignore []string

	// Computing: so many are computed at a time while the cache is away. Default: 64.
	Computing int

	// Encode makes the bytes of a value, and Decode a value of bytes. JSON by default.
	Encode func(T) ([]byte, error)
	Decode func([]byte) (T, error)
}

// EntryOptions are what is told of an entry.
type EntryOptions struct {
	// Tags are names under which entries are cleared.
	Tags []string

	// Saved is what each hit saves, such as the price of the call.
	Saved Amount
}

// Cache is the response cache: one computation for all who ask for the same, in this process and in all others.
type Cache[T any] struct {
	core      *core
	category  string
	options   CacheOptions[T]
	computing chan struct{} // A place for each computation without the cache.

	mutex   sync.Mutex
	flights map[string]*flight
}

// flight is a computation that others in this process wait for.
type flight struct {
	done chan struct{}
	// text is the encoded answer, of which each of them makes its own: none can change what another gets. Nil if there is none to share.
	text []byte
}

// share has the others get an answer of their own. The text may be the caller's own value.
func (f *flight) share(text []byte) { f.text = append([]byte{}, text...) }

// NewCache makes a cache of answers. The category is the kind of request, by which statistics and expiry go, and the beginning of the
// keys. The options may be nil.
func NewCache[T any](gateway *Gateway, category string, options *CacheOptions[T]) *Cache[T] {
	made := &Cache[T]{core: gateway.core, category: category, flights: map[string]*flight{}}
	if options != nil {
		made.options = *options
	}
	own := &made.options
	orDefault(&own.Lease, 2*time.Minute)
	orDefault(&own.Wait, time.Minute)
	orDefault(&own.Computing, 64)
	if own.Encode == nil {
		own.Encode = func(value T) ([]byte, error) { return json.Marshal(value) }
	}
	if own.Decode == nil {
		own.Decode = func(text []byte) (made T, err error) { return made, json.Unmarshal(text, &made) }
	}
	made.computing = make(chan struct{}, own.Computing)
	return made
}

// count counts what a request of the cache got, or what became of an answer.
func (c *Cache[T]) count(result string, labels ...Label) {
	c.core.watch.count("cache", 1, append([]Label{{"category", c.category}, {"result", result}}, labels...)...)
}

// Key is the key of a request: the same in all languages, and never that of another tenant. See [commands.CacheKey] for what a
// request may be.
func (c *Cache[T]) Key(request any) (string, error) {
	return commands.CacheKey(c.category, request, &commands.KeyOptions{Tenant: c.options.Tenant, Ignore: c.options.Ignore})
}

// GetOrCompute is the cached answer to a request, or else the computed one, which is stored.
//
// Of all who ask for it at the same time, one computes, and each gets an answer of its own. If that fails, or the answer cannot be
// encoded, the next one computes. A stale answer is returned at once, and
// refreshed in the background, with a context that outlives the request's. While the server is away, it computes. An error is one of
// compute, the context's, or a [commands.NotCanonicalError]. The options may be nil.
func (c *Cache[T]) GetOrCompute(
	ctx context.Context, request any, compute func(context.Context) (T, error), options *EntryOptions,
) (none T, err error) {
	key, err := c.Key(request)
	if err != nil {
		return none, err
	}
	end := time.Now().Add(c.options.Wait)
	for {
		own, leads := c.fly(key)
		if leads {
			defer c.land(key, own)
			return c.lead(ctx, key, compute, options, end, own)
		}
		switch waited(ctx, own.done, time.Until(end)) {
		case waitLong:
			c.count("wait_timeout")
			return compute(ctx)
		case waitCancelled:
			return none, ctx.Err()
		}
		if value, is := c.shared(own); is {
			return value, nil
		}
	}
}

// shared is an answer of one's own of another's computation; none if there is nothing to share.
func (c *Cache[T]) shared(own *flight) (value T, is bool) {
	if own.text == nil {
		return value, false
	}
	value, is = c.decoded(bytes.Clone(own.text))
	if is {
		c.count("coalesced")
	}
	return value, is
}

// fly joins the computation of a key, or begins it.
func (c *Cache[T]) fly(key string) (own *flight, leads bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found := c.flights[key]; found != nil {
		return found, false
	}
	made := &flight{done: make(chan struct{})}
	c.flights[key] = made
	return made, true
}

func (c *Cache[T]) land(key string, own *flight) {
	c.mutex.Lock()
	delete(c.flights, key)
	c.mutex.Unlock()
	close(own.done)
}

type waitEnd int

const (
	waitDone waitEnd = iota
	waitLong
	waitCancelled
)

func waited(ctx context.Context, done <-chan struct{}, longest time.Duration) waitEnd {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-done:
		return waitDone
	case <-ctx.Done():
		return waitCancelled
	case <-timer.C:
		return waitLong
	}
}

func (c *Cache[T]) lead(
	ctx context.Context, key string, compute func(context.Context) (T, error), options *EntryOptions, end time.Time, own *flight,
) (none T, err error) {
	found, err := c.fetch(ctx, key, end)
	if err != nil {
		return none, err
	}
	if value, is := c.cached(found, own); is {
		if found.token != 0 {
			c.core.start(func() { c.refresh(context.WithoutCancel(ctx), key, compute, found.token, options) })
		}
		return value, nil
	}
	complete := false
	// Also if it panics.
	defer func() {
		if !complete {
			c.giveUp(key, found)
		}
	}()
	value, err := c.computed(ctx, compute, found, end)
	if err != nil {
		return none, err
	}
	text, is := c.encoded(value)
	if is {
		own.share(text)
	}
	complete = true
	c.keep(ctx, key, text, is, found, options)
	return value, nil
}

func (c *Cache[T]) computed(
	ctx context.Context, compute func(context.Context) (T, error), found *fetched, end time.Time,
) (none T, err error) {
	free, err := c.place(ctx, found, end)
	if err != nil {
		return none, err
	}
	defer free()
	return compute(ctx)
}

// place is one to compute in, until it is freed: without the cache all misses come together, so a bounded number is computed at a time.
func (c *Cache[T]) place(ctx context.Context, found *fetched, end time.Time) (free func(), err error) {
	if found.answer != nil {
		return func() {}, nil
	}
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case c.computing <- struct{}{}:
		return func() { <-c.computing }, nil
	case <-timer.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cached is the value that the server has. None if it is of another form than this program's, such as that of an older version.
func (c *Cache[T]) cached(found *fetched, own *flight) (value T, is bool) {
	if found.answer == nil || found.answer.Value == nil {
		return value, false
	}
	own.share(found.answer.Value)
	if value, is = c.decoded(found.answer.Value); !is {
		own.text = nil
	}
	return value, is
}

func (c *Cache[T]) encoded(value T) (text []byte, is bool) {
	text, err := c.options.Encode(value)
	if err != nil {
		c.count("not_encoded")
		c.core.settings.Logger.Error("an answer cannot be cached: it cannot be encoded")
	}
	return text, err == nil
}

func (c *Cache[T]) decoded(text []byte) (none T, is bool) {
	value, err := c.options.Decode(text)
	if err != nil {
		c.count("not_decoded")
		c.core.settings.Logger.Warn("a cached answer cannot be read")
		return none, false
	}
	return value, true
}

// keep stores it, if the server has given the right to. Whoever has computed a value gets it, also if it cannot be stored.
func (c *Cache[T]) keep(ctx context.Context, key string, text []byte, encoded bool, found *fetched, options *EntryOptions) {
	ctx = context.WithoutCancel(ctx)
	if found.answer == nil && found.asked && !c.tryAgain(ctx, key, found) {
		c.core.start(func() { c.releaseLater(key, found) })
		return
	}
	if found.token != 0 || found.answer != nil && found.answer.State != commands.CacheStatePending {
		c.store(ctx, key, text, encoded, found.token, options)
	}
}

func (c *Cache[T]) refresh(
	ctx context.Context, key string, compute func(context.Context) (T, error), token int64, options *EntryOptions,
) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Lease)
	defer cancel()
	complete := false
	defer func() {
		if complete {
			return
		}
		// A panic is that of the request's own function, which has its answer: it must not end the program.
		panicked := recover()
		c.count("refresh_failed")
		c.core.settings.Logger.Warn("a cached answer could not be refreshed", "panicked", panicked != nil)
		c.giveUp(key, &fetched{token: token})
	}()
	value, err := compute(ctx)
	if err != nil {
		return
	}
	text, is := c.encoded(value)
	complete = true
	c.store(ctx, key, text, is, token, options)
}

// store gives the fill lease up if it cannot be stored: others must not wait until it ends by itself.
func (c *Cache[T]) store(ctx context.Context, key string, text []byte, encoded bool, token int64, options *EntryOptions) {
	if encoded && c.set(ctx, key, text, token, options) == nil {
		return
	}
	if encoded {
		c.count("not_stored")
	}
	c.giveUp(key, &fetched{token: token})
}

func (c *Cache[T]) set(ctx context.Context, key string, text []byte, token int64, options *EntryOptions) error {
	_, err := ask(ctx, c.core.transport, c.setting(key, text, token, options))
	return err
}

func (c *Cache[T]) setting(key string, text []byte, token int64, options *EntryOptions) commands.Request[bool] {
	given := &commands.CacheSetOptions{}
	if c.options.TTL > 0 {
		given.PxMs = commands.Int(milliseconds(c.options.TTL))
	}
	if c.options.Stale > 0 {
		given.StaleMs = commands.Int(milliseconds(c.options.Stale))
	} else if c.options.Stale < 0 {
		given.StaleMs = commands.Int(0)
	}
	if options != nil {
		given.Tags, given.Saved = options.Tags, options.Saved
	}
	if token != 0 {
		given.Token = commands.Int(token)
	}
	return commands.CacheSetRequest(key, text, given)
}
