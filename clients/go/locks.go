package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

// ErrLockLost is that somebody else may have the lock by now, or that it was never had.
var ErrLockLost = errors.New("the lock is lost")

// SlotOptions are what [Gateway.Slot] and [Gateway.Lock] may be told.
type SlotOptions struct {
	// TTL is how long it is held without a sign of life. It is renewed every third of this time until it is released. Default: 30 s.
	TTL time.Duration

	// Wait is how long to wait for it, first come, first served. Default: not at all.
	Wait time.Duration

	// NoRenew: it is not renewed.
	NoRenew bool
}

// Slot is one of the slots of a key, or no slot. With one slot in all it is a lock. `defer slot.Close()` releases it.
type Slot struct {
	core   *core
	key    string
	most   int64
	holder string
	ttl    time.Duration
	isLock bool

	mutex        sync.Mutex
	outcome      Outcome
	reason       string
	inUse        int64
	retryAfter   time.Duration
	fencingToken int64
	askedAt      time.Time
	liveUntil    time.Time
	ended        bool
	lost         context.Context
	lose         context.CancelFunc
}

// Slot takes one of so many slots of a key. An error is one of the call, or the context's: then none is taken. The options may be nil.
func (g *Gateway) Slot(ctx context.Context, key string, slots int64, options *SlotOptions) (*Slot, error) {
	return g.acquire(ctx, &Slot{core: g.core, key: key, most: slots}, options)
}

// Lock takes a lock. While the server is away nobody gets it. An error is one of the call, or the context's: then it is not taken. The
// options may be nil.
//
//	lock, err := gw.Lock(ctx, "lock:export", &gateway.SlotOptions{Wait: 10 * time.Second})
//	if err != nil || !lock.OK() {
//		return err
//	}
//	defer lock.Close()
//	for _, part := range parts {
//		store(lock.Context(ctx), part, lock.FencingToken()) // The context ends when the lock is lost.
//	}
func (g *Gateway) Lock(ctx context.Context, key string, options *SlotOptions) (*Slot, error) {
	return g.acquire(ctx, &Slot{core: g.core, key: key, most: 1, isLock: true}, options)
}

// OK tells whether there was a slot.
func (s *Slot) OK() bool { return s.Outcome() != Denied }

// Outcome is what was decided.
func (s *Slot) Outcome() Outcome { return s.outcome }

// Reason is why: empty if there was a slot.
func (s *Slot) Reason() string { return s.reason }

// InUse is how many slots were taken then.
func (s *Slot) InUse() int64 { return s.inUse }

// RetryAfter is when a slot is free by itself; negative if waiting does not help.
func (s *Slot) RetryAfter() time.Duration { return s.retryAfter }

// FencingToken is larger than those of all grants before it; 0 without a slot, and while the server is away.
func (s *Slot) FencingToken() int64 { return s.fencingToken }

// Holder is the name under which it is taken, new for each.
func (s *Slot) Holder() string { return s.holder }

// Lost tells that it is not known any more that the slot is still taken: somebody else may have it.
func (s *Slot) Lost() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.isLost()
}

func (s *Slot) isLost() bool {
	return s.lost.Err() != nil || s.outcome == Admitted && time.Now().After(s.liveUntil)
}

// Err is [ErrLockLost] if the slot was lost, or never taken, and else nil.
func (s *Slot) Err() error {
	if !s.OK() || s.Lost() {
		return ErrLockLost
	}
	return nil
}

// Context is one that ends when the slot is lost, with [ErrLockLost] as its cause, when it is released, or when `parent` ends, with
// the parent's cause.
func (s *Slot) Context(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	go func() {
		for {
			s.mutex.Lock()
			left, lost, ended := time.Until(s.liveUntil), s.isLost(), s.ended
			s.mutex.Unlock()
			switch {
			case ended:
				cancel(nil)
				return
			case lost:
				cancel(ErrLockLost)
				return
			}
			// Without a reply of the server nobody tells: the time for which it is held ends by itself.
			timer := time.NewTimer(left + time.Millisecond)
			if s.outcome == Degraded {
				timer.Stop()
			}
			select {
			case <-s.lost.Done():
			case <-parent.Done():
				timer.Stop()
				cancel(context.Cause(parent))
				return
			case <-timer.C:
			}
			timer.Stop()
		}
	}()
	return ctx
}

// Release gives it back. It tells whether it was still taken, as far as is known, and goes on when the context is cancelled.
func (s *Slot) Release(ctx context.Context) (bool, error) {
	s.mutex.Lock()
	ended := s.ended || s.outcome == Denied
	s.ended = true
	lost := s.isLost()
	s.mutex.Unlock()
	s.lose() // Whoever waits for the end need not wait any more.
	if ended {
		return false, nil
	}
	if s.outcome == Degraded {
		s.core.slots.free(s.key, s.holder)
		return true, nil
	}
	return s.core.tell(ctx, commands.ReleaseRequest(s.key, s.holder), !lost)
}

// Close releases it, for `defer`.
func (s *Slot) Close() error {
	_, err := s.Release(context.Background())
	return err
}

// What keeps it alive.

func (s *Slot) lifetime() (time.Duration, time.Time) { return s.ttl, time.Time{} }

func (s *Slot) keepAlive() []call {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.ended {
		return nil
	}
	s.askedAt = time.Now()
	return []call{callOf(commands.RenewRequest(s.key, s.holder, milliseconds(s.ttl)))}
}

func (s *Slot) keptAlive(live bool) {
	s.mutex.Lock()
	lost := !live && !s.ended
	if live {
		s.liveUntil = s.askedAt.Add(s.ttl)
	}
	s.mutex.Unlock()
	if lost {
		s.lose()
		s.core.watch.count("locks_lost", 1)
	}
}

func (g *Gateway) acquire(ctx context.Context, slot *Slot, options *SlotOptions) (*Slot, error) {
	var given SlotOptions
	if options != nil {
		given = *options
	}
	orDefault(&given.TTL, 30*time.Second)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slot.holder, slot.ttl, slot.outcome = newID(), given.TTL, Denied
	slot.lost, slot.lose = context.WithCancel(context.Background())
	// Whoever leaves while it is asked for must not keep it: the asking goes on to its end.
	asked := make(chan error, 1)
	work := func() { asked <- slot.ask(ctx, given.Wait) }
	if given.Wait <= 0 {
		work()
	} else if !g.core.start(work) {
		return nil, errClosed
	}
	var err error
	select {
	case err = <-asked:
	case <-ctx.Done():
		g.core.start(func() {
			<-asked
			slot.abandon()
		})
		return nil, ctx.Err()
	}
	if ctx.Err() != nil {
		slot.abandon()
		return nil, ctx.Err()
	}
	if err != nil {
		slot.abandon()
		return nil, err
	}
	family := "slots"
	if slot.isLock {
		family = "locks"
	}
	g.core.watch.decided(family, slot.outcome, slot.reason)
	if !given.NoRenew && slot.outcome == Admitted {
		g.keeper.add(slot)
	}
	return slot, nil
}

var errClosed = errors.New("the gateway is closed")

// abandon gives it back, whatever is known of it.
func (s *Slot) abandon() {
	s.mutex.Lock()
	s.ended = true
	s.mutex.Unlock()
	if s.outcome == Degraded {
		s.core.slots.free(s.key, s.holder)
		return
	}
	s.core.keep(newDelivery(commands.ReleaseRequest(s.key, s.holder)))
}

// ask asks until it has a slot, or the wait is over.
func (s *Slot) ask(ctx context.Context, wait time.Duration) error {
	end := time.Now().Add(wait)
	for {
		left := time.Until(end)
		askedAt := time.Now()
		found, err := s.once(ctx, min(left, s.core.settings.longestWait()))
		if away := unavailable(err); away != nil {
			if left > 0 && !away.Down && away.Reason != "connections" && ctx.Err() == nil {
				s.core.pause(min(left, 50*time.Millisecond))
				continue
			}
			s.decideAlone(away)
			return nil
		}
		if err != nil {
			return err
		}
		s.inUse, s.retryAfter, s.fencingToken = found.InUse, durationOf(found.RetryAfterMs), found.FencingToken
		if found.Acquired {
			s.liveUntil = askedAt.Add(s.ttl)
			// Of a grant after a wait it is not known when it came: from now on the time is.
			if left > 0 && !s.renewed(ctx) {
				continue
			}
			s.outcome, s.reason = Admitted, ""
			return nil
		}
		s.reason = ReasonLimit
		if left <= 0 || found.RetryAfterMs < 0 || ctx.Err() != nil || s.core.isClosed() {
			return nil
		}
	}
}

// renewed tells whether it is still held, as far as is known.
func (s *Slot) renewed(ctx context.Context) bool {
	askedAt := time.Now()
	held, err := ask(context.WithoutCancel(ctx), s.core.transport, commands.RenewRequest(s.key, s.holder, milliseconds(s.ttl)))
	if err != nil {
		return unavailable(err) != nil
	}
	s.liveUntil = askedAt.Add(s.ttl)
	return held
}

func (s *Slot) once(ctx context.Context, wait time.Duration) (commands.Slot, error) {
	return waitOrAsk(ctx, s.core, func(wait time.Duration) commands.Request[commands.Slot] {
		options := &commands.AcquireOptions{BlockMs: waitMs(wait)}
		return commands.AcquireRequest(s.key, s.most, s.holder, milliseconds(s.ttl), options)
	}, wait)
}

func (s *Slot) decideAlone(away *UnavailableError) {
	s.reason = away.Reason
	if away.Sent {
		s.core.keep(newDelivery(commands.ReleaseRequest(s.key, s.holder)))
	}
	mode := s.core.settings.Away.Slots
	switch {
	case s.isLock || mode == ModeClosed:
		s.retryAfter = s.core.settings.Pause
	case mode == ModeOpen:
		s.outcome = Degraded
	default:
		own := share(s.most, s.core.settings.Instances)
		taken, inUse, retry := s.core.slots.take(s.key, own, s.holder, s.ttl)
		s.inUse, s.retryAfter = inUse, retry
		if taken {
			s.outcome = Degraded
		} else {
			s.reason = ReasonLocalLimit
		}
	}
}
