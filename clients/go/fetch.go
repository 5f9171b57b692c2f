package gateway

import (
	"context"
	"strings"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

// fetched is what the server has said of a key, to a call of one name.
type fetched struct {
	holder string
	answer *commands.CacheAnswer

	// token is that of the fill lease; 0 without one.
	token int64

	// asked: no reply has come, so the server may have given the fill lease.
	asked bool

	mutex     sync.Mutex
	abandoned bool // Whoever asked has left.
}

func (f *fetched) isAbandoned() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.abandoned
}

// fetch is what the server says; no answer if it is away, or says that it cannot be asked for this key. An error is the context's.
func (c *Cache[T]) fetch(ctx context.Context, key string, end time.Time) (*fetched, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := &fetched{holder: newID(), asked: true}
	answer, err := c.asked(ctx, key, found.holder, 0)
	if err != nil || answer.State != commands.CacheStatePending {
		c.told(found, answer, err)
		if ctx.Err() != nil {
			c.giveUp(key, found)
			return nil, ctx.Err()
		}
		return found, nil
	}
	// To the end, even if whoever asks is cancelled: the reply may bring a lease, which nobody else can give up.
	done := make(chan struct{})
	if !c.core.start(func() {
		defer close(done)
		c.waitFor(context.WithoutCancel(ctx), key, found, end)
	}) {
		return found, errClosed
	}
	select {
	case <-done:
		return found, nil
	case <-ctx.Done():
	}
	found.mutex.Lock()
	found.abandoned = true
	found.mutex.Unlock()
	c.core.start(func() {
		<-done
		c.giveUp(key, found)
	})
	return nil, ctx.Err()
}

// waitFor waits for another's computation.
func (c *Cache[T]) waitFor(ctx context.Context, key string, found *fetched, end time.Time) {
	answer, err := commands.CacheAnswer{State: commands.CacheStatePending}, error(nil)
	for err == nil && answer.State == commands.CacheStatePending && !found.isAbandoned() && !c.core.isClosed() {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		// A part of the wait: so the connection's time-out tells in time that the server is away.
		answer, err = c.asked(ctx, key, found.holder, min(left, c.core.settings.longestWait()))
	}
	c.told(found, answer, err)
}

// told takes the answer, or the error, down.
func (c *Cache[T]) told(found *fetched, answer commands.CacheAnswer, err error) {
	if err != nil {
		away := unavailable(err)
		found.asked = away != nil && away.Sent
		c.failed(err)
		return
	}
	found.asked = false
	found.answer, found.token = &answer, answer.Token
	c.count(strings.ToLower(string(answer.State)))
}

func (c *Cache[T]) asked(ctx context.Context, key, holder string, wait time.Duration) (commands.CacheAnswer, error) {
	return waitOrAsk(ctx, c.core, func(wait time.Duration) commands.Request[commands.CacheAnswer] {
		options := &commands.CacheLeaseOptions{Holder: holder, WaitMs: waitMs(wait)}
		return commands.CacheLeaseRequest(key, milliseconds(c.options.Lease), options)
	}, wait)
}

// tryAgain: the reply was lost. Under the same name the lease can be had again. It tells whether it is known now.
func (c *Cache[T]) tryAgain(ctx context.Context, key string, found *fetched) bool {
	answer, err := c.asked(ctx, key, found.holder, 0)
	if unavailable(err) != nil {
		return false
	}
	found.asked, found.token = false, 0
	if err == nil {
		found.token = answer.Token
	}
	return true
}

// giveUp has the next one who waits compute. If the server is away, it is told later.
func (c *Cache[T]) giveUp(key string, found *fetched) {
	if found.token == 0 && !found.asked {
		return
	}
	if !c.released(key, found) {
		c.count("not_released")
		c.core.start(func() { c.releaseLater(key, found) })
	}
}

// released tells whether the server has taken it. A token that was used meanwhile releases nothing.
func (c *Cache[T]) released(key string, found *fetched) bool {
	ctx := context.Background()
	if found.asked && !c.tryAgain(ctx, key, found) {
		return false
	}
	if found.token == 0 {
		return true
	}
	_, err := ask(ctx, c.core.transport, commands.CacheReleaseRequest(key, found.token))
	if unavailable(err) != nil {
		return false
	}
	if err != nil {
		c.core.settings.Logger.Warn("a fill lease could not be given up", "code", codeOf(err))
	}
	return true
}

// releaseLater: if the server is back before the lease has ended by itself, it is told.
func (c *Cache[T]) releaseLater(key string, found *fetched) {
	for end := time.Now().Add(c.options.Lease); time.Now().Before(end) && !c.core.pause(c.core.settings.Kept.Every); {
		if c.released(key, found) {
			return
		}
	}
}
