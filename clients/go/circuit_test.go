package gateway

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// clock is one that a test sets.
type clock struct{ at time.Time }

func newClock() *clock                        { return &clock{time.Unix(1_000_000, 0)} }
func (c *clock) now() time.Time               { return c.at }
func (c *clock) advance(length time.Duration) { c.at = c.at.Add(length) }

func circuitOf(clock *clock, failures int, jitter float64, log *loggedTo) *circuit {
	made := newCircuit("the server", &Settings{Failures: failures, Pause: time.Second, Logger: log.logger()})
	made.now, made.jitter = clock.now, func() float64 { return jitter }
	return made
}

func TestOpensAfterFailuresInARowAndLetsOneTry(t *testing.T) {
	var log loggedTo
	clock := newClock()
	circuit := circuitOf(clock, 3, 0.5, &log)
	circuit.failed("timeout")
	circuit.failed("timeout")
	circuit.succeeded()
	for range 3 {
		equal(t, circuit.mayAsk(), true)
		circuit.failed("timeout")
	}
	equal(t, circuit.isOpen(), true)
	clock.advance(990 * time.Millisecond)
	equal(t, circuit.mayAsk(), false)
	clock.advance(20 * time.Millisecond)
	equal(t, circuit.mayAsk(), true)
	equal(t, circuit.mayAsk(), false) // One tries.
	circuit.failed("timeout")
	equal(t, circuit.mayAsk(), false)
	clock.advance(1490 * time.Millisecond)
	equal(t, circuit.mayAsk(), true)
	circuit.succeeded()
	for range 2 {
		equal(t, circuit.mayAsk(), true)
	}
	equal(t, circuit.isOpen(), false)
	equal(t, circuit.awayFor(), 2500*time.Millisecond)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "is away") || !strings.Contains(lines[1], "answers again") {
		t.Error(log.String())
	}
}

func TestPausesDiffer(t *testing.T) {
	ends := map[time.Duration]bool{}
	for _, jitter := range []float64{0, 0.5, 1} {
		clock := newClock()
		circuit := circuitOf(clock, 1, jitter, &loggedTo{})
		circuit.failed("timeout")
		began := clock.at
		for !circuit.mayAsk() {
			clock.advance(50 * time.Millisecond)
		}
		ends[clock.at.Sub(began)] = true
	}
	equal(t, len(ends), 3)
}

func TestShares(t *testing.T) {
	var found []int64
	for _, limit := range []int64{0, 1, 3, 4, 10} {
		found = append(found, share(limit, 4))
	}
	equal(t, fmt.Sprint(found), "[0 1 1 1 2]")
}

// TestLocalWindowsNeverLetTooMuchThrough compares them with a model that remembers everything.
func TestLocalWindowsNeverLetTooMuchThrough(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	clock := newClock()
	windows := newLocalWindows(clock.now)
	type taking struct {
		at   time.Time
		cost int64
	}
	var taken []taking
	for range 20_000 {
		clock.advance(time.Duration(random.IntN(50_000)) * time.Microsecond)
		cost := random.Int64N(3)
		allowed, _, retry := windows.take("k", 10, time.Second, cost, false)
		used := cost
		for _, one := range taken {
			if clock.at.Sub(one.at) < time.Second {
				used += one.cost
			}
		}
		if allowed {
			taken = append(taken, taking{clock.at, cost})
			if used > 10 {
				t.Fatalf("%d in a window", used)
			}
		} else if retry <= 0 {
			t.Fatalf("it says to wait for %v", retry)
		}
		if len(taken) > 200 {
			taken = taken[100:]
		}
	}
	allowed, _, retry := windows.take("k", 10, time.Second, 11, false)
	equal(t, allowed, false)
	equal(t, retry, -1)
}

func TestLocalSlotsEndByThemselves(t *testing.T) {
	clock := newClock()
	slots := newLocalSlots(clock.now)
	take := func(key string, most int64, holder string) string {
		return fmt.Sprint(slots.take(key, most, holder, 5*time.Second))
	}
	equal(t, take("k", 1, "a"), "true 1 0s")
	equal(t, take("k", 1, "a"), "true 1 0s")
	equal(t, take("k", 1, "b"), "false 1 5s")
	clock.advance(5100 * time.Millisecond)
	equal(t, take("k", 1, "b"), "true 1 0s")
	slots.free("k", "b")
	equal(t, take("k", 1, "c"), "true 1 0s")
	equal(t, take("other", 0, "d"), "false 0 -1ns")
}
