package gateway

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// circuit stops asking a server that does not answer, so that an outage costs each request nothing.
//
// It is closed while calls succeed. After so many failures in a row it is open: nothing is asked for a pause. Then one call at a time
// tries, until one succeeds. Each change is logged once.
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

func (c *circuit) mayAsk() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.openedAt.IsZero() {
		return true
	}
	now := c.now()
	if now.Before(c.retryAt) {
		return false
	}
	// This call tries; the others wait until it is known how that went, or another pause has passed.
	c.retryAt = now.Add(c.nextPause())
	return true
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
