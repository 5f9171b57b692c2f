package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sendBatch = 100
	// What other processes have left is looked for this often.
	adoptEvery        = time.Minute
	backgroundTimeout = 3 * time.Second
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

	// background is for what nobody waits for and may be large, such as log records: a few connections of its own with a time-out of
	// seconds. How it goes says nothing about the request path, so it does not open that circuit.
	background *transport

	windows *localWindows
	slots   *localSlots
	kept    *keptDeliveries

	tasks   sync.WaitGroup
	closing chan struct{} // Closed when the gateway closes.

	mutex   sync.Mutex
	closed  bool
	living  map[*admission]struct{} // Admissions that have not ended.
	sender  bool                    // The goroutine that sends what is kept runs.
	sending sync.Mutex              // Held while it is sent.
}

func newCore(client redis.UniversalClient, settings *Settings) (*core, error) {
	made := &core{
		settings: settings, watch: newTelemetry(settings.Observer), windows: newLocalWindows(time.Now), slots: newLocalSlots(time.Now),
		kept: newKeptDeliveries(&settings.Kept, settings.Logger), closing: make(chan struct{}), living: map[*admission]struct{}{},
	}
	patient := *settings
	patient.Timeout = max(settings.Timeout, backgroundTimeout)
	patient.Connections, patient.WaitingConnections = 2, 1
	patient.Failures = 1 << 30 // Its calls are few, so they need no circuit: each of them tries.
	var err error
	if made.transport, err = newTransport(client, settings, made.watch); err != nil {
		return nil, err
	}
	if made.background, err = newTransport(client, &patient, made.watch); err != nil {
		return nil, err
	}
	made.watch.watch("kept", func() []Reading { return []Reading{{Value: float64(made.kept.count())}} })
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

// Deliveries: what must arrive.

// deliver tells the server at once, or keeps it for later if the server is away.
func (c *core) deliver(ctx context.Context, d *delivery) (Settlement, error) {
	// It outlives whoever asks for it.
	ctx = context.WithoutCancel(ctx)
	if c.kept.tooOld(d) {
		return c.giveUp(d), nil
	}
	if c.kept.count() > 0 && c.isDown() {
		return c.keep(d), nil
	}
	began := time.Now()
	reply, err := c.send(ctx, d.call())
	switch {
	case isNotNow(err):
		if away := unavailable(err); away != nil && away.Sent {
			d.mayHaveArrived(began)
		}
		return c.keep(d), nil
	case codeOf(err) == "NOHOLD":
		reply = "UNKNOWN"
	case err != nil:
		return "", err
	}
	if reply != "UNKNOWN" {
		return settlementOf(reply), nil
	}
	if c.askAgain(d) {
		d.mayHaveArrived(began)
		return c.keep(d), nil
	}
	if len(d.fallback) == 0 {
		return NotKnown, nil
	}
	if !c.kept.mayBook(d) {
		return c.giveUp(d), nil
	}
	c.watch.count("settlements_unknown", 1)
	charged, err := c.deliverAll(ctx, d.charges())
	if err != nil {
		return "", err
	}
	if charged == KeptForLater || charged == GivenUp {
		return KeptForLater, nil
	}
	return Charged, nil
}

func settlementOf(reply any) Settlement {
	switch reply {
	case "LATE":
		return SettledLate
	case "REPEATED":
		return SettledBefore
	}
	return Settled
}

// askAgain: UNKNOWN is no answer yet. At the end only a next process has time for another one.
func (c *core) askAgain(d *delivery) bool {
	return c.kept.askAgain(d) && (!c.isClosed() || c.settings.Kept.Directory != "")
}

// keep keeps it, and sees to it that it is sent.
func (c *core) keep(d *delivery) Settlement {
	if !c.kept.add(d) {
		c.watch.count("kept_dropped", 1)
		return GivenUp
	}
	c.watch.count("kept", 1)
	c.startSending()
	return KeptForLater
}

func (c *core) giveUp(d *delivery) Settlement {
	c.kept.done(d)
	c.watch.count("kept_given_up", 1)
	c.settings.Logger.Error("it was given up: the server was away for too long", "command", d.words[0])
	return GivenUp
}

func (c *core) startSending() {
	c.mutex.Lock()
	start := !c.sender && !c.closed
	if start {
		c.sender = true
		c.tasks.Go(c.sendAlways)
	}
	c.mutex.Unlock()
}

// sendAlways sends what is kept until nothing is.
func (c *core) sendAlways() {
	for !c.pause(time.Duration(float64(c.settings.Kept.Every) * (0.75 + 0.5*mathrand.Float64()))) {
		c.mutex.Lock()
		if c.kept.count() == 0 {
			c.sender = false
			c.mutex.Unlock()
			return
		}
		c.mutex.Unlock()
		c.sendKept(context.Background())
	}
}

// sendKept tries once to send what is kept, and returns how much was taken.
func (c *core) sendKept(ctx context.Context) int {
	c.sending.Lock()
	defer c.sending.Unlock()
	// A process that is killed meanwhile leaves the first without the second.
	c.kept.underWay(true)
	defer c.kept.underWay(false)
	taken := 0
	for left := c.kept.count(); left > 0 && ctx.Err() == nil; {
		batch := c.kept.first(min(sendBatch, left))
		if len(batch) == 0 {
			break
		}
		left -= len(batch)
		found, away := c.sendTogether(ctx, batch)
		taken += found
		if away {
			break
		}
	}
	return taken
}

// sendTogether returns how many were taken, and whether the server is away.
func (c *core) sendTogether(ctx context.Context, batch []*delivery) (taken int, away bool) {
	var sent []*delivery
	var calls []call
	for _, d := range batch {
		if c.kept.tooOld(d) {
			c.giveUp(d)
			continue
		}
		sent = append(sent, d)
		calls = append(calls, d.call())
	}
	if len(sent) == 0 {
		return 0, false
	}
	began := time.Now()
	refused := 0
	for at, found := range c.many(context.WithoutCancel(ctx), calls) {
		d := sent[at]
		if !isNotNow(found.err) {
			taken++
			c.taken(d, found, began)
			continue
		}
		refused++
		if away := unavailable(found.err); away != nil && away.Sent {
			c.kept.arrived(d, began)
		}
		if c.kept.tooOld(d) {
			c.giveUp(d)
		} else {
			c.kept.later(d)
		}
	}
	return taken, refused == len(sent)
}

// taken: the server has answered.
func (c *core) taken(d *delivery, found answer, began time.Time) {
	unknown := found.reply == "UNKNOWN" && found.err == nil || codeOf(found.err) == "NOHOLD"
	switch {
	case found.err != nil && !unknown:
		c.kept.done(d)
		c.watch.count("kept_refused", 1)
		c.settings.Logger.Error("a kept call was refused", "command", d.words[0], "code", codeOf(found.err))
	case unknown && c.askAgain(d):
		c.kept.arrived(d, began)
		c.kept.later(d)
	case unknown && len(d.fallback) > 0 && !c.kept.mayBook(d):
		c.giveUp(d)
	case unknown:
		if len(d.fallback) > 0 {
			c.watch.count("settlements_unknown", 1)
		}
		c.kept.done(d, d.charges()...)
	default:
		c.kept.done(d)
		c.watch.count("kept_sent", 1)
	}
}

// deliverAll returns the outcome of the first one, unless another was kept. An error of one holds up no other: it is returned at the
// end.
func (c *core) deliverAll(ctx context.Context, all []*delivery) (Settlement, error) {
	made := NothingToSettle
	var failed error
	for at, d := range all {
		found, err := c.deliver(ctx, d)
		if err != nil && failed == nil {
			failed = err
		}
		if at == 0 || found == KeptForLater || found == GivenUp {
			made = found
		}
	}
	if failed != nil {
		return "", failed
	}
	return made, nil
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
	close(c.closing)
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
	// The second time for charges that take the place of settlements that nobody knows.
	if c.kept.count() > 0 && c.sendKept(ctx) > 0 && c.kept.count() > 0 {
		c.sendKept(ctx)
	}
	if left := c.kept.count(); left > 0 {
		c.settings.Logger.Warn("settlements and charges were not sent", "count", left)
	}
	c.kept.close()
	for _, way := range []*transport{c.transport, c.background} {
		for _, one := range way.servers() {
			one.close()
		}
	}
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
