package gateway

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

// Label is a name with its value, such as family and admission. No label has a key, a prompt, an answer or a credential in it.
type Label struct{ Name, Value string }

// Observer is told what is decided and how it went. The package otel makes one for OpenTelemetry. Its methods are called by many
// goroutines at once, and are to return soon.
type Observer interface {
	// Count adds to a count, such as decisions.
	Count(name string, amount int64, labels []Label)

	// Call is told that a call to the server begins. What it returns is called at the end, with the kind of the error: empty, or such
	// as timeout. `server` is its address, empty if that is not known.
	Call(ctx context.Context, operation, server string) func(errorKind string)

	// Tokens is told of tokens that a settled request has used. `kind` is input or output. The attributes are those of the admission.
	Tokens(kind string, tokens int64, attributes map[string]string)

	// Watch is told of a figure that can be read at any time, such as the length of a queue, until `stop` is called: the gateway closes.
	Watch(name string, read func() []Reading) (stop func())
}

// Reading is the value of a figure at the time when it is read.
type Reading struct {
	Value  float64
	Labels []Label
}

// telemetry counts for one gateway, and tells its observer.
type telemetry struct {
	observer Observer
	mutex    sync.Mutex
	counts   map[string]int64
	watched  []func() // Stop that.
}

func newTelemetry(observer Observer) *telemetry {
	return &telemetry{observer: observer, counts: map[string]int64{}}
}

func (t *telemetry) count(name string, amount int64, labels ...Label) {
	key := name
	if len(labels) > 0 {
		parts := make([]string, len(labels))
		for at, label := range labels {
			parts[at] = label.Name + "=" + label.Value
		}
		key += "{" + strings.Join(parts, ",") + "}"
	}
	t.mutex.Lock()
	t.counts[key] += amount
	t.mutex.Unlock()
	if t.observer != nil {
		t.observer.Count(name, amount, labels)
	}
}

func (t *telemetry) decided(family string, outcome Outcome, reason string) {
	if reason == "" {
		reason = "none"
	}
	t.count("decisions", 1, Label{"family", family}, Label{"outcome", string(outcome)}, Label{"reason", reason})
}

var nothing = func(error) {}

// call is told of the beginning of a call to the server, and returns what is to be told of its end.
func (t *telemetry) call(ctx context.Context, operation, server string) func(error) {
	if t.observer == nil {
		return nothing
	}
	done := t.observer.Call(ctx, operation, server)
	return func(err error) {
		kind := ""
		if away := unavailable(err); away != nil {
			kind = away.Reason
		} else if err != nil {
			kind = strings.TrimPrefix(fmt.Sprintf("%T", err), "*commands.")
		}
		done(kind)
	}
}

// used tells of the tokens of a settled request.
func (t *telemetry) used(amounts Amounts, attributes map[string]string) {
	if t.observer == nil {
		return
	}
	for meter, kind := range map[string]string{"input_tokens": "input", "output_tokens": "output"} {
		if amount, told := amounts[meter]; told {
			// Meters may count parts of a token, which the conventions do not.
			if number, err := commands.ParseAmount(string(amount)); err == nil {
				t.observer.Tokens(kind, number.Round(0).IntPart(), attributes)
			}
		}
	}
}

func (t *telemetry) watch(name string, read func() []Reading) {
	if t.observer == nil {
		return
	}
	stop := t.observer.Watch(name, read)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.watched = append(t.watched, stop)
}

// close: nothing is read any more.
func (t *telemetry) close() {
	t.mutex.Lock()
	watched := t.watched
	t.watched = nil
	t.mutex.Unlock()
	for _, stop := range watched {
		stop()
	}
}

// figures are all counts, by their names and labels.
func (t *telemetry) figures() map[string]int64 {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	made := make(map[string]int64, len(t.counts))
	for name, count := range t.counts {
		made[name] = count
	}
	return made
}

// Figures are counts by their names and labels, as in `decisions{family=admission,outcome=denied,reason=limit}`.
type Figures map[string]int64

// String has a line for each, in the order of their names.
func (f Figures) String() string {
	lines := make([]string, 0, len(f))
	for name, count := range f {
		lines = append(lines, fmt.Sprintf("%s %d", name, count))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Health is whether the gateway works, and what waits.
type Health struct {
	OK bool

	// Reason is why it does not, such as timeout or ModuleMissingError; cancelled if the context had ended.
	Reason string

	// Took is how long the server took to answer.
	Took time.Duration

	// CircuitsOpen are servers that are not asked, because they do not answer.
	CircuitsOpen int

	// Kept are settlements and charges that the server has not taken yet.
	Kept int

	// LogRecords are records that the server has not taken yet, and LogDropped those that it never gets.
	LogRecords, LogDropped int
}
