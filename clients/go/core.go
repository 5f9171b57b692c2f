package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// What other processes have left is looked for this often.
	adoptEvery        = time.Minute
	backgroundTimeout = 3 * time.Second
	// For a command that looks at every key of a server.
	scanTimeout = time.Minute
	// The most commands that are sent together, and their bytes: few enough to arrive within the time-out over a slow network, and to
	// hold up no other command of the server for long. A longer one is sent alone.
	batchCalls = 100
	batchBytes = 512 * 1024
)

// newID makes an id at random, of which no two are alike.
func newID() string {
	var made [16]byte
	rand.Read(made[:]) // It never fails.
	return hex.EncodeToString(made[:])
}

// Settlement is how an admission or a hold has ended, or what became of a charge.
type Settlement string

const (
	// Settled: the server has taken it.
	Settled Settlement = "settled"

	// SettledLate: the lease had ended before, and the estimates stay charged.
	SettledLate Settlement = "late"

	// SettledBefore: it had been settled already.
	SettledBefore Settlement = "repeated"

	// Charged: no account knew the lease, so the money was booked under its id.
	Charged Settlement = "charged"

	// NotKnown: the same, with no money to book.
	NotKnown Settlement = "unknown"

	// KeptForLater: the server is away, and gets it later.
	KeptForLater Settlement = "kept"

	// GivenUp: the server is away, and there is no room to keep more, or it is too late to send it.
	GivenUp Settlement = "given_up"

	// NothingToSettle: the request was denied.
	NothingToSettle Settlement = "nothing"
)

// core is what all parts of a gateway share: the way to the server, what runs in the background, what is counted and kept.
type core struct {
	settings *Settings
	watch    *telemetry
	*transport

	// background is for what no request waits for and may be large, such as log records and clears: a few connections of its own with a
	// time-out of seconds. How it goes says nothing about the request path, so it does not open that circuit.
	background *transport

	windows *localWindows
	slots   *localSlots
	kept    *keptDeliveries

	tasks sync.WaitGroup
	// alive ends when the gateway closes, and closing is its end.
	alive   context.Context
	end     context.CancelFunc
	closing <-chan struct{}
	sending chan struct{} // Held while what is kept is sent.

	mutex  sync.Mutex
	closed bool
	living map[*admission]struct{} // Admissions that have not ended.
	sender bool                    // The goroutine that sends what is kept runs.
}

func newCore(client redis.UniversalClient, settings *Settings) (*core, error) {
	made := &core{
		settings: settings, watch: newTelemetry(settings.Observer), windows: newLocalWindows(time.Now), slots: newLocalSlots(time.Now),
		kept: newKeptDeliveries(&settings.Kept, settings.Logger), sending: make(chan struct{}, 1), living: map[*admission]struct{}{},
	}
	made.alive, made.end = context.WithCancel(context.Background())
	made.closing = made.alive.Done()
	patient := *settings
	patient.Timeout = max(settings.Timeout, backgroundTimeout)
	patient.Connections, patient.WaitingConnections = 2, 1
	patient.WaitingTimeout = max(settings.WaitingTimeout, scanTimeout)
	patient.Failures = 1 << 30 // Its calls are few, so they need no circuit: each of them tries.
	var err error
	if made.transport, err = newTransport(client, settings, made.watch); err != nil {
		return nil, err
	}
	if made.background, err = newTransport(client, &patient, made.watch); err != nil {
		return nil, err
	}
	made.watch.watch("kept.waiting", func() []Reading { return []Reading{{Value: float64(made.kept.count())}} })
	made.watch.watch("circuit.open", made.readings(func(one *circuit) float64 {
		if one.isOpen() {
			return 1
		}
		return 0
	}))
	made.watch.watch("away.seconds", made.readings(func(one *circuit) float64 { return one.awayFor().Seconds() }))
	if settings.Kept.Directory != "" {
		made.start(made.adoptAlways)
	}
	return made, nil
}

func (c *core) readings(read func(*circuit) float64) func() []Reading {
	return func() []Reading {
		var found []Reading
		for _, one := range c.servers() {
			found = append(found, Reading{read(one.circuit), []Label{{"server", one.address}}})
		}
		return found
	}
}

// start runs something in the background, unless the gateway is closed; it is waited for when the gateway closes.
func (c *core) start(work func()) bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Go(work)
	return true
}

// pause waits, and tells whether the gateway closes meanwhile.
func (c *core) pause(length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-c.closing:
		return true
	case <-timer.C:
		return false
	}
}

func (c *core) isClosed() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}

func (c *core) adoptAlways() {
	for {
		c.adopt()
		if c.pause(adoptEvery) {
			return
		}
	}
}

// adopt takes over what processes that are gone have left to be sent.
func (c *core) adopt() {
	found := c.kept.adopt()
	if lost := c.kept.takeGivenUp(); lost > 0 {
		c.watch.count("kept_given_up", int64(lost))
		c.settings.Logger.Error("settlements and charges were given up: they were left too long ago", "count", lost)
	}
	if found > 0 {
		c.startSending()
	}
}

// Admissions that nobody settles.

func (c *core) lives(a *admission) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.living[a] = struct{}{}
}

func (c *core) livesNoMore(a *admission) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	delete(c.living, a)
}

func (c *core) settleLiving() {
	c.mutex.Lock()
	found := make([]*admission, 0, len(c.living))
	for one := range c.living {
		found = append(found, one)
	}
	c.mutex.Unlock()
	for _, one := range found {
		one.forgotten("admissions_closed")
	}
}

// close sends what there is to send. It waits for what runs until the context ends.
func (c *core) close(ctx context.Context) error {
	c.mutex.Lock()
	if c.closed {
		c.mutex.Unlock()
		return nil
	}
	c.closed = true
	c.mutex.Unlock()
	c.end()
	done := make(chan struct{})
	go func() {
		c.tasks.Wait()
		close(done)
	}()
	var late error
	select {
	case <-done:
	case <-ctx.Done():
		late = ctx.Err()
	}
	c.settleLiving()
	if late != nil {
		// Those that were still running have been settled a moment ago: there is a last try for them.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.Background(), backgroundTimeout)
		defer cancel()
	}
	// The second time for charges that take the place of settlements that nobody knows.
	if c.kept.count() > 0 && c.sendKept(ctx) > 0 && c.kept.count() > 0 {
		c.sendKept(ctx)
	}
	if left := c.kept.count(); left > 0 {
		c.settings.Logger.Warn("settlements and charges were not sent", "count", left)
	}
	c.watch.close()
	c.kept.close()
	c.transport.close()
	c.background.close()
	return late
}

// milliseconds is at least 1.
func milliseconds(length time.Duration) int64 {
	return max(1, (length + time.Millisecond/2).Milliseconds())
}

func durationOf(ms int64) time.Duration {
	if ms < 0 {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}
