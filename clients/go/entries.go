package gateway

import (
	"context"

	"redis-gateway/clients/go/commands"
)

// Get is the cached answer, fresh or stale. It computes nothing and asks for no lease. If the server is away or refuses, there is
// none, and that is counted. An error is that of the key, or the context's.
func (c *Cache[T]) Get(ctx context.Context, request any) (value T, found bool, err error) {
	got, err := c.GetMany(ctx, []any{request})
	if err != nil {
		return value, false, err
	}
	return got[0].Value, got[0].Found, nil
}

// Cached is an answer of [Cache.GetMany], if there is one.
type Cached[T any] struct {
	Value T
	Found bool
}

// GetMany is what Get returns for each of the requests, in their order: a hundred are asked for in one round trip to each server. If a
// key cannot be made, nothing is asked.
func (c *Cache[T]) GetMany(ctx context.Context, requests []any) ([]Cached[T], error) {
	asked := make([]call, len(requests))
	for at, request := range requests {
		key, err := c.Key(request)
		if err != nil {
			return nil, err
		}
		asked[at] = callOf(commands.CacheGetRequest(key))
	}
	found := make([]Cached[T], 0, len(asked))
	for len(asked) > 0 {
		batch := asked[:min(batchCalls, len(asked))]
		asked = asked[len(batch):]
		answers := c.core.many(ctx, batch)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, one := range answers {
			found = append(found, c.got(one))
		}
	}
	return found, nil
}

func (c *Cache[T]) got(found answer) (made Cached[T]) {
	text, err := decoded(commands.CacheGetRequest(""), found.reply, found.err)
	if err != nil {
		c.failed(err)
		return made
	}
	if text != nil {
		made.Value, made.Found = c.decoded(text)
	}
	if made.Found {
		c.count("hit")
	} else {
		c.count("miss")
	}
	return made
}

// failed counts an error of the cache, which is a miss.
func (c *Cache[T]) failed(err error) {
	if away := unavailable(err); away != nil {
		c.count("away", Label{"reason", away.Reason})
		return
	}
	c.count("error")
	c.core.settings.Logger.Warn("the cache refuses to answer", "code", codeOf(err))
}

// Set stores an answer; if the server is away or refuses, it is not stored, and that is counted. An error is that of the key or of
// Encode. The options may be nil.
func (c *Cache[T]) Set(ctx context.Context, request any, value T, options *EntryOptions) error {
	return c.SetMany(ctx, []Entry[T]{{request, value}}, options)
}

// Entry is a request with its answer.
type Entry[T any] struct {
	Request any
	Value   T
}

// SetMany does for each entry what Set does, all with the same options: a hundred, or what has 512 KiB, are stored in one round trip to
// each server. If one has an error, none is stored.
func (c *Cache[T]) SetMany(ctx context.Context, entries []Entry[T], options *EntryOptions) error {
	keys, texts := make([]string, len(entries)), make([][]byte, len(entries))
	for at, one := range entries {
		var err error
		if keys[at], err = c.Key(one.Request); err != nil {
			return err
		}
		if texts[at], err = c.options.Encode(one.Value); err != nil {
			return err
		}
	}
	var batch []call
	size := 0
	for at, text := range texts {
		if len(batch) > 0 && (len(batch) == batchCalls || size+len(text) > batchBytes) {
			c.storeAll(ctx, batch)
			batch, size = nil, 0
		}
		batch = append(batch, callOf(c.setting(keys[at], text, 0, options)))
		size += len(text)
	}
	if len(batch) > 0 {
		c.storeAll(ctx, batch)
	}
	return nil
}

func (c *Cache[T]) storeAll(ctx context.Context, batch []call) {
	for _, one := range c.core.many(ctx, batch) {
		if one.err != nil {
			c.count("not_stored")
		}
	}
}

// Delete tells whether there was an entry. It returns an [UnavailableError] if the server is away.
func (c *Cache[T]) Delete(ctx context.Context, request any) (bool, error) {
	key, err := c.Key(request)
	if err != nil {
		return false, err
	}
	count, err := ask(ctx, c.core.transport, commands.CacheDelRequest([]string{key}))
	return count > 0, err
}

// Clear clears the category, of all tenants, on every primary of a cluster, and returns how many entries those were. A server has 3
// seconds. If one is away, it returns an [UnavailableError], and the others are cleared.
func (c *Cache[T]) Clear(ctx context.Context) (int64, error) {
	return c.core.clear(ctx, commands.CacheClearCategoryRequest(c.category), false)
}

// ClearTag clears all cache entries with the tag, of all categories, as [Cache.Clear] does.
func (g *Gateway) ClearTag(ctx context.Context, tag string) (int64, error) {
	return g.core.clear(ctx, commands.CacheClearTagRequest(tag), false)
}

// ClearPattern clears all cache entries whose keys match, as in `SCAN ... MATCH`, such as `chat:acme:*`, in the client's database, as
// [Cache.Clear] does. It takes as long as a scan of all keys: a server has a minute, and if its reason is `timeout`, its scan goes on.
// Prefer tags and categories.
func (g *Gateway) ClearPattern(ctx context.Context, pattern string) (int64, error) {
	return g.core.clear(ctx, commands.CacheClearPatternRequest(pattern), true)
}

func (c *core) clear(ctx context.Context, request commands.Request[int64], scans bool) (total int64, _ error) {
	replies, err := c.background.everywhere(ctx, callOf(request), scans)
	counts, err := decodedAll(request, replies, err)
	for _, count := range counts {
		total += count
	}
	return total, err
}

// Figures are hits, misses and what was saved, of each server.
func (c *Cache[T]) Figures(ctx context.Context) ([]commands.CacheFigures, error) {
	found, err := askEverywhere(ctx, c.core.transport, commands.CacheStatsCategoryRequest(c.category))
	var made []commands.CacheFigures
	for _, figures := range found {
		if figures != nil {
			made = append(made, *figures)
		}
	}
	return made, err
}
