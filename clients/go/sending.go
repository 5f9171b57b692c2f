package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"redis-gateway/clients/go/commands"
)

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

// tell tells the server that a slot or a batch has ended, and returns what it replies: whether it was still held. If the server is away,
// it is told when it is back, and this returns `otherwise`. By then it may have ended by itself; nobody else's is concerned.
func (c *core) tell(ctx context.Context, request commands.Request[bool], otherwise bool) (bool, error) {
	began := time.Now()
	held, err := ask(context.WithoutCancel(ctx), c.transport, request)
	away := unavailable(err)
	if away == nil {
		return held, err
	}
	d := newDelivery(request)
	if away.Sent {
		d.mayHaveArrived(began)
	}
	c.keep(d)
	return otherwise, nil
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

// sendAlways sends what is kept until nothing is, or the gateway closes: whoever closes it sends the rest.
func (c *core) sendAlways() {
	for !c.pause(time.Duration(float64(c.settings.Kept.Every) * (0.75 + 0.5*rand.Float64()))) {
		c.mutex.Lock()
		if c.kept.count() == 0 {
			c.sender = false
			c.mutex.Unlock()
			return
		}
		c.mutex.Unlock()
		c.sendKept(c.alive)
	}
}

// sendKept tries once to send what is kept, until the context ends, and returns how much was taken.
func (c *core) sendKept(ctx context.Context) int {
	select {
	case c.sending <- struct{}{}:
		defer func() { <-c.sending }()
	case <-ctx.Done():
		return 0
	}
	// A process that is killed meanwhile leaves the first without the second.
	c.kept.underWay(true)
	defer c.kept.underWay(false)
	taken := 0
	// The nodes that do not answer, or refuse whatever comes: each is waited for once.
	silent := map[*server]bool{}
	for left := c.kept.count(); left > 0 && ctx.Err() == nil && !silent[nil]; {
		batch := c.kept.first(min(batchCalls, left))
		if len(batch) == 0 {
			break
		}
		left -= len(batch)
		taken += c.sendTogether(ctx, batch, silent)
	}
	return taken
}

// sendTogether returns how many were taken. What is for a silent node has to wait.
func (c *core) sendTogether(ctx context.Context, batch []*delivery, silent map[*server]bool) (taken int) {
	var sent []*delivery
	var calls []call
	for _, d := range batch {
		own := d.call()
		if c.kept.tooOld(d) {
			c.giveUp(d)
		} else if silent[c.background.nodeOf(own)] {
			c.kept.later(d)
		} else {
			sent, calls = append(sent, d), append(calls, own)
		}
	}
	if len(sent) == 0 {
		return 0
	}
	began := time.Now()
	refused := 0
	for at, found := range c.background.many(ctx, calls) {
		d := sent[at]
		if !isNotNow(found.err) && !isEnded(found.err) {
			taken++
			c.taken(d, found, began)
			continue
		}
		refused++
		if away := unavailable(found.err); away != nil {
			if away.Sent {
				c.kept.arrived(d, began)
			}
			if away.Down {
				silent[c.background.nodeOf(calls[at])] = true
			}
		}
		if c.kept.tooOld(d) {
			c.giveUp(d)
		} else {
			c.kept.later(d)
		}
	}
	if refused == len(sent) {
		for _, one := range calls {
			silent[c.background.nodeOf(one)] = true
		}
	}
	return taken
}

// isEnded: the context had ended before anything was sent.
func isEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
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
