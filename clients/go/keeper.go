package gateway

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// lease is what is kept alive: an admission, or a lock.
type lease interface {
	// keepAlive are the calls that prolong it; none if it has ended. Each replies 0 if it is gone.
	keepAlive() []call

	// keptAlive is told how that went.
	keptAlive(live bool)

	// lifetime is how long it lives without a sign of life, and until when it is prolonged at most; zero: as long as it takes.
	lifetime() (ttl time.Duration, until time.Time)
}

type dueLease struct {
	at    time.Time
	lease lease
}

type dueLeases []dueLease

func (d dueLeases) Len() int           { return len(d) }
func (d dueLeases) Less(a, b int) bool { return d[a].at.Before(d[b].at) }
func (d dueLeases) Swap(a, b int)      { d[a], d[b] = d[b], d[a] }
func (d *dueLeases) Push(one any)      { *d = append(*d, one.(dueLease)) }
func (d *dueLeases) Pop() any {
	last := len(*d) - 1
	one := (*d)[last]
	(*d)[last] = dueLease{}
	*d = (*d)[:last]
	return one
}

// keeper keeps leases alive while their requests run: one goroutine for all of them.
type keeper struct {
	core *core
	wake chan struct{}

	mutex   sync.Mutex
	due     dueLeases
	running bool
}

func newKeeper(core *core) *keeper { return &keeper{core: core, wake: make(chan struct{}, 1)} }

// add has it prolonged every third of its time, until it ends or its hard cap comes.
func (k *keeper) add(one lease) {
	ttl, _ := one.lifetime()
	k.push(time.Now().Add(ttl/3), one)
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if !k.running {
		k.running = k.core.start(k.run)
	}
}

func (k *keeper) push(at time.Time, one lease) {
	k.mutex.Lock()
	first := len(k.due) == 0 || at.Before(k.due[0].at)
	heap.Push(&k.due, dueLease{at, one})
	k.mutex.Unlock()
	if first {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	}
}

func (k *keeper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		k.mutex.Lock()
		if len(k.due) == 0 {
			k.running = false
			k.mutex.Unlock()
			return
		}
		timer.Reset(time.Until(k.due[0].at))
		k.mutex.Unlock()
		select {
		case <-k.core.closing:
			return
		case <-k.wake:
		case <-timer.C:
			k.extend(k.next())
		}
	}
}

func (k *keeper) next() []lease {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	var found []lease
	for now := time.Now(); len(k.due) > 0 && len(found) < batchCalls && !k.due[0].at.After(now); {
		found = append(found, heap.Pop(&k.due).(dueLease).lease)
	}
	return found
}

func (k *keeper) extend(due []lease) {
	now := time.Now()
	var asked []lease
	var counts []int
	var calls []call
	for _, one := range due {
		if _, until := one.lifetime(); !until.IsZero() && !now.Before(until) {
			one.keptAlive(false)
		} else if own := one.keepAlive(); len(own) > 0 {
			asked, counts, calls = append(asked, one), append(counts, len(own)), append(calls, own...)
		}
	}
	if len(calls) == 0 {
		return
	}
	answers := k.core.many(context.Background(), calls)
	for at, one := range asked {
		own := answers[:counts[at]]
		answers = answers[counts[at]:]
		ttl, _ := one.lifetime()
		switch live, known := alive(own); {
		case !known:
			k.core.watch.count("keep_alive_failed", 1)
			k.push(time.Now().Add(ttl/6), one)
		case live:
			one.keptAlive(true)
			k.push(time.Now().Add(ttl/3), one)
		default:
			one.keptAlive(false)
		}
	}
}

// alive tells whether one of the answers says that it lives, and whether that is known.
func alive(answers []answer) (live, known bool) {
	for _, one := range answers {
		if isNotNow(one.err) {
			return false, false
		}
		live = live || one.err == nil && one.reply != int64(0)
	}
	return live, true
}
