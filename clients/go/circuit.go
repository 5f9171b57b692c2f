package gateway

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// circuit stops asking a server that does not answer, so that an outage costs each request nothing.
//
// It is closed while calls succeed. After so many failures in a row it is open: nothing is asked for a pause. Then one call at a time
// tries, until one succeeds; calls that come meanwhile wait for its outcome. Each change is logged once.
type circuit struct {
	name   string
	limit  int
	pause  time.Duration
	logger *slog.Logger
	now    func() time.Time
	jitter func() float64

	mutex    sync.Mutex
	failures int
	openedAt time.Time // Zero while it is closed.
	retryAt  time.Time
	trying   chan struct{} // Closed when the call that has tried last has its outcome; nil before the first one.
	away     time.Duration
}

func newCircuit(name string, settings *Settings) *circuit {
	return &circuit{
		name: name, limit: settings.Failures, pause: settings.Pause, logger: settings.Logger, now: time.Now, jitter: rand.Float64,
	}
}

func (c *circuit) isOpen() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return !c.openedAt.IsZero()
}

// awayFor is for how long it was open, in all.
func (c *circuit) awayFor() time.Duration {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.openedAt.IsZero() {
		return c.away
	}
	return c.away + c.now().Sub(c.openedAt)
}

// mayAsk tells whether a call may ask now.
func (c *circuit) mayAsk() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.openedAt.IsZero() || c.tries()
}

// tries is called with the mutex while it is open: whether this call is the one that tries. The others go without the server until it
// is known how that went, or another pause has passed.
func (c *circuit) tries() bool {
	now := c.now()
	if now.Before(c.retryAt) {
		return false
	}
	c.retryAt = now.Add(c.nextPause())
	return true
}

// begin tells whether a call may ask. If it may, `end` is to be called when its outcome is known. While another call tries, this one
// waits for that outcome, for `longest` at most: whoever was let through without the server meanwhile, or refused, would be so for
// nothing if the server is back.
func (c *circuit) begin(ctx context.Context, longest time.Duration) (end func(), may bool) {
	c.mutex.Lock()
	if c.openedAt.IsZero() {
		c.mutex.Unlock()
		return func() {}, true
	}
	if c.tries() {
		trying := make(chan struct{})
		c.trying = trying
		c.mutex.Unlock()
		return func() { close(trying) }, true
	}
	trying := c.trying
	c.mutex.Unlock()
	if trying == nil {
		return nil, false
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-trying:
	case <-timer.C:
	case <-ctx.Done():
	}
	return func() {}, !c.isOpen()
}

func (c *circuit) succeeded() {
	c.mutex.Lock()
	c.failures = 0
	opened := c.openedAt
	if opened.IsZero() {
		c.mutex.Unlock()
		return
	}
	away := c.now().Sub(opened)
	c.away += away
	c.openedAt = time.Time{}
	c.mutex.Unlock()
	c.logger.Warn("the server answers again", "server", c.name, "away", away)
}

func (c *circuit) failed(reason string) {
	c.mutex.Lock()
	c.failures++
	now := c.now()
	switch {
	case !c.openedAt.IsZero():
		c.retryAt = now.Add(c.nextPause())
	case c.failures >= c.limit:
		c.openedAt, c.retryAt = now, now.Add(c.nextPause())
		defer c.logger.Warn("the server is away: it is asked again from time to time", "server", c.name, "reason", reason)
	}
	c.mutex.Unlock()
}

// nextPause differs between processes: those that lost the server together do not come back to it together.
func (c *circuit) nextPause() time.Duration {
	return time.Duration(float64(c.pause) * (0.75 + 0.5*c.jitter()))
}
