package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

// ErrBatchLost is that the records of a batch may be delivered to another program by now.
var ErrBatchLost = errors.New("the batch is lost")

// LeaseOptions are what [Gateway.Lease] may be told. What is zero has its default.
type LeaseOptions struct {
	// Count is the most records of the batch. Range: 1 to 10,000. Default: 1.
	Count int64

	// TTL is how long the lease lives without a sign of life. It is renewed every third of this time until the batch ends. Default: 30 s.
	TTL time.Duration

	// Wait is how long to wait for a record. Default: not at all.
	Wait time.Duration

	// RetryAfter: so long after they were given back the records can be delivered again. Default: a second.
	RetryAfter time.Duration

	// MaxDeliveries: records that are not acknowledged after so many deliveries become a dead letter. Range: 1 to 1,000,000. Default: the
	// server's `gw.log-max-deliveries`.
	MaxDeliveries int64
}

// LogBatch are records of a log queue that are leased to this program, or none. `defer batch.Close()` gives them back, unless they were
// acknowledged.
//
// What it tells the server has the number of its delivery: once its lease has ended, and the records were delivered to another program,
// nothing of it concerns them.
type LogBatch struct {
	core       *core
	key        string
	ttl        time.Duration
	retryAfter time.Duration
	batch      commands.Batch

	mutex     sync.Mutex
	askedAt   time.Time
	liveUntil time.Time
	lost      bool
	ended     bool
}

// Lease leases the oldest records of a log queue. The lease is renewed in the background until the batch ends; if the program dies, the
// records are delivered again. They may be delivered twice: make the work harmless to repeat.
//
// An error is an [UnavailableError] if the server is away, one of the call, or the context's: then nothing is leased. The options may be
// nil.
//
//	batch, err := gw.Lease(ctx, "log:jobs", &gateway.LeaseOptions{Wait: 10 * time.Second})
//	if err != nil {
//		return err
//	}
//	defer batch.Close() // Gives back what is not acknowledged, also if this panics.
//	for _, record := range batch.Records() { // None, if there was none in time.
//		if err := work(ctx, record); err != nil {
//			return err
//		}
//	}
//	_, err = batch.Acknowledge(ctx)
//	return err
func (g *Gateway) Lease(ctx context.Context, key string, options *LeaseOptions) (*LogBatch, error) {
	var given LeaseOptions
	if options != nil {
		given = *options
	}
	orDefault(&given.TTL, 30*time.Second)
	orDefault(&given.RetryAfter, time.Second)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	batch := &LogBatch{core: g.core, key: key, ttl: given.TTL, retryAfter: given.RetryAfter}
	// Whoever leaves while it is asked for must not keep it: the asking goes on to its end.
	asked := make(chan error, 1)
	if !g.core.start(func() { asked <- batch.ask(ctx, &given) }) {
		return nil, errClosed
	}
	var err error
	select {
	case err = <-asked:
	case <-ctx.Done():
		g.core.start(func() {
			<-asked
			batch.abandon()
		})
		return nil, ctx.Err()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		batch.abandon()
		return nil, err
	}
	if batch.OK() {
		g.keeper.add(batch)
	}
	return batch, nil
}

// OK tells whether there were records.
func (b *LogBatch) OK() bool { return len(b.batch.Records) > 0 }

// Records are the records, oldest first.
func (b *LogBatch) Records() [][]byte { return b.batch.Records }

// ID is the same in every delivery; empty without records.
func (b *LogBatch) ID() string { return b.batch.BatchID }

// Delivery is the number of this delivery: 1 the first time; 0 without records.
func (b *LogBatch) Delivery() int64 { return b.batch.Delivery }

// Lost tells that it is not known any more that the records are still leased: they may be delivered to another program.
func (b *LogBatch) Lost() bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.isLost()
}

func (b *LogBatch) isLost() bool { return b.lost || b.OK() && time.Now().After(b.liveUntil) }

// Err is [ErrBatchLost] if the batch was lost, and else nil.
func (b *LogBatch) Err() error {
	if b.Lost() {
		return ErrBatchLost
	}
	return nil
}

// Acknowledge says that the work is done: the records are removed. It tells whether they were still leased, as far as is known, and goes
// on when the context is cancelled. If the server is away, it is told later.
func (b *LogBatch) Acknowledge(ctx context.Context) (bool, error) {
	return b.end(ctx, commands.LogAckRequest(b.key, b.batch.BatchID, &commands.LogAckOptions{Delivery: &b.batch.Delivery}))
}

// GiveBack has the records delivered again after this time, or makes them a dead letter if this was the last delivery. The rest is as in
// Acknowledge.
func (b *LogBatch) GiveBack(ctx context.Context, retryAfter time.Duration) (bool, error) {
	return b.end(ctx, b.nack(retryAfter))
}

// Close gives the records back, unless the batch has ended, for `defer`.
func (b *LogBatch) Close() error {
	_, err := b.GiveBack(context.Background(), b.retryAfter)
	return err
}

func (b *LogBatch) nack(retryAfter time.Duration) commands.Request[bool] {
	options := &commands.LogNackOptions{DelayMs: commands.Int(max(0, retryAfter.Milliseconds())), Delivery: &b.batch.Delivery}
	return commands.LogNackRequest(b.key, b.batch.BatchID, options)
}

func (b *LogBatch) end(ctx context.Context, request commands.Request[bool]) (bool, error) {
	b.mutex.Lock()
	ended, lost := b.ended || !b.OK(), b.isLost()
	b.ended = true
	b.mutex.Unlock()
	if ended {
		return false, nil
	}
	return b.core.tell(ctx, request, !lost)
}

// abandon: nobody works on it, so others may have it at once.
func (b *LogBatch) abandon() {
	b.mutex.Lock()
	b.ended = true
	b.mutex.Unlock()
	if b.OK() {
		b.core.keep(newDelivery(b.nack(0)))
	}
}

// What keeps it alive.

func (b *LogBatch) lifetime() (time.Duration, time.Time) { return b.ttl, time.Time{} }

func (b *LogBatch) keepAlive() []call {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.ended {
		return nil
	}
	b.askedAt = time.Now()
	return []call{callOf(b.extension())}
}

func (b *LogBatch) extension() commands.Request[bool] {
	options := &commands.LogExtendOptions{Delivery: &b.batch.Delivery}
	return commands.LogExtendRequest(b.key, b.batch.BatchID, milliseconds(b.ttl), options)
}

func (b *LogBatch) keptAlive(live bool) {
	b.mutex.Lock()
	if live {
		b.liveUntil = b.askedAt.Add(b.ttl)
	}
	lost := !live && !b.ended
	b.lost = b.lost || lost
	b.mutex.Unlock()
	if lost {
		b.core.watch.count("batches_lost", 1)
	}
}

// ask asks until there are records, or the wait is over.
func (b *LogBatch) ask(ctx context.Context, options *LeaseOptions) error {
	for end := time.Now().Add(options.Wait); ; {
		left := time.Until(end)
		askedAt := time.Now()
		found, err := b.once(context.WithoutCancel(ctx), options, min(left, b.core.settings.longestWait()))
		if err != nil {
			return err
		}
		if found != nil {
			b.batch, b.liveUntil = *found, askedAt.Add(b.ttl)
			// Of records after a wait it is not known when they came: from now on the time is.
			if options.Wait <= 0 || b.renewed(ctx) {
				return nil
			}
			b.batch = commands.Batch{}
		}
		if left <= 0 || ctx.Err() != nil || b.core.isClosed() {
			return nil
		}
	}
}

// renewed tells whether the records are still leased, as far as is known.
func (b *LogBatch) renewed(ctx context.Context) bool {
	askedAt := time.Now()
	leased, err := ask(context.WithoutCancel(ctx), b.core.transport, b.extension())
	if err != nil {
		return unavailable(err) != nil
	}
	b.liveUntil = askedAt.Add(b.ttl)
	return leased
}

func (b *LogBatch) once(ctx context.Context, given *LeaseOptions, wait time.Duration) (*commands.Batch, error) {
	return waitOrAsk(ctx, b.core, func(wait time.Duration) commands.Request[*commands.Batch] {
		options := &commands.LogLeaseOptions{BlockMs: waitMs(wait)}
		if given.Count > 0 {
			options.Count = &given.Count
		}
		if given.MaxDeliveries > 0 {
			options.MaxDeliveries = &given.MaxDeliveries
		}
		return commands.LogLeaseRequest(b.key, milliseconds(b.ttl), options)
	}, wait)
}
