package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

// The server remembers the id of a push for `gw.log-id-ms`, ten minutes by default.
const pushRemembered = 540 * time.Second

// LogOptions are what [Gateway.Logs] may be told. What is zero has its default.
type LogOptions struct {
	// Records are the most in the buffer. Default: 10,000.
	Records int

	// Bytes are the most in the buffer. Default: 16 MiB.
	Bytes int

	// Batch: so many records are pushed together. Default: 500.
	Batch int

	// Every is the longest time that a record waits, unless the server is away. Default: a second.
	Every time.Duration

	// AnyBytes: the records may be anything. Else the server checks that each is valid JSON.
	AnyBytes bool

	// Reject: if the server's queue is full, keep the records here, instead of dropping the queue's oldest ones.
	Reject bool
}

// Logs are a buffer in front of a log queue. Nobody waits for it, and it takes what its bounds allow.
type Logs struct {
	core    *core
	key     string
	options LogOptions
	wake    chan struct{}
	turn    chan struct{} // Held by whoever pushes: two would push the same batch.

	mutex   sync.Mutex
	buffer  [][]byte
	bytes   int
	batch   *logBatch // It is being pushed.
	running bool
	closed  bool
	dropped int
}

// logBatch are records that are pushed together, under one id, until the server has taken them.
type logBatch struct {
	records [][]byte
	id      string
	// firstSent is when it may have arrived for the first time. If its records are pushed one by one: when the first of them may have.
	firstSent time.Time
	// oneByOne: one of them was refused, so each gets a push of its own.
	oneByOne bool
}

// Logs makes a buffer in front of the log queue under a key. The options may be nil.
func (g *Gateway) Logs(key string, options *LogOptions) *Logs {
	made := &Logs{core: g.core, key: key, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	if options != nil {
		made.options = *options
	}
	orDefault(&made.options.Records, 10_000)
	orDefault(&made.options.Bytes, 16*1024*1024)
	orDefault(&made.options.Batch, 500)
	orDefault(&made.options.Every, time.Second)
	g.mutex.Lock()
	g.logs = append(g.logs, made)
	g.mutex.Unlock()
	return made
}

// Len is how many records the server has not taken yet.
func (l *Logs) Len() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.length()
}

func (l *Logs) length() int {
	found := len(l.buffer)
	if l.batch != nil {
		found += len(l.batch.records)
	}
	return found
}

// Dropped is how many records had no room in the buffer or the queue, or were refused by the server.
func (l *Logs) Dropped() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.dropped
}

// Push takes a record: bytes and strings as they are, anything else as JSON. It waits for nothing. If the buffer is full, its oldest
// records are dropped, and counted; after the end so is every record. An error is one of json.Marshal.
func (l *Logs) Push(record any) error {
	var encoded []byte
	switch found := record.(type) {
	case []byte:
		encoded = append([]byte(nil), found...) // The caller may use its bytes again.
	case string:
		encoded = []byte(found)
	default:
		made, err := json.Marshal(record)
		if err != nil {
			return fmt.Errorf("a log record: %w", err)
		}
		encoded = made
	}
	l.mutex.Lock()
	if l.closed || l.core.isClosed() {
		l.mutex.Unlock()
		l.drop(1, "closed")
		return nil
	}
	l.buffer = append(l.buffer, encoded)
	l.bytes += len(encoded)
	dropped := 0
	for len(l.buffer) > l.options.Records || l.bytes > l.options.Bytes && len(l.buffer) > 0 {
		l.bytes -= len(l.buffer[0])
		l.buffer[0] = nil
		l.buffer = l.buffer[1:]
		dropped++
	}
	full := len(l.buffer) >= l.options.Batch || l.bytes >= batchBytes
	if !l.running {
		l.running = l.core.start(l.run)
	}
	l.mutex.Unlock()
	if dropped > 0 {
		l.drop(dropped, "buffer_full")
	}
	if full {
		l.wakeUp()
	}
	return nil
}

func (l *Logs) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Logs) drop(count int, reason string) {
	l.mutex.Lock()
	l.dropped += count
	l.mutex.Unlock()
	l.core.watch.count("log_dropped", int64(count), Label{"reason", reason})
}

// run pushes when a batch is full, or some time after the first record, until there is none.
func (l *Logs) run() {
	timer := time.NewTimer(l.options.Every)
	defer timer.Stop()
	for {
		select {
		case <-l.core.closing:
			return
		case <-l.wake:
		case <-timer.C:
		}
		l.mutex.Lock()
		closed := l.closed
		l.mutex.Unlock()
		if closed {
			return
		}
		if !l.Flush(context.Background()) && l.core.pause(l.options.Every) {
			return // The server was away, or its queue full.
		}
		l.mutex.Lock()
		if l.length() == 0 {
			l.running = false
			l.mutex.Unlock()
			return
		}
		l.mutex.Unlock()
		timer.Reset(l.options.Every)
	}
}

// Flush pushes all there is, and tells whether the server has taken it. If the context is cancelled, it goes on alone with the batch
// that is under way.
func (l *Logs) Flush(ctx context.Context) bool {
	// One at a time.
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	done := make(chan bool, 1)
	go func() {
		defer func() { <-l.turn }()
		more, taken := true, true
		for more && taken && ctx.Err() == nil {
			more, taken = l.pushNext(context.WithoutCancel(ctx))
		}
		done <- taken && !more
	}()
	select {
	case all := <-done:
		return all
	case <-ctx.Done():
		return false
	}
}

// pushNext pushes a batch. It tells whether there was one, and whether it was taken.
func (l *Logs) pushNext(ctx context.Context) (more, taken bool) {
	l.mutex.Lock()
	if l.batch == nil {
		l.batch = l.filled()
	}
	batch := l.batch
	l.mutex.Unlock()
	if batch == nil {
		return false, true
	}
	if !l.push(ctx, batch) {
		return true, false
	}
	l.mutex.Lock()
	l.batch = nil
	l.mutex.Unlock()
	return true, true
}

// filled are the oldest records, as many as a batch may have.
func (l *Logs) filled() *logBatch {
	count, size := 0, 0
	for count < len(l.buffer) && count < l.options.Batch {
		if count > 0 && size+len(l.buffer[count]) > batchBytes {
			break
		}
		size += len(l.buffer[count])
		count++
	}
	if count == 0 {
		return nil
	}
	made := &logBatch{records: append([][]byte(nil), l.buffer[:count]...), id: newID()}
	clear(l.buffer[:count])
	l.buffer = l.buffer[count:]
	l.bytes -= size
	return made
}

// push tells whether the batch is done with: taken, or refused for good.
func (l *Logs) push(ctx context.Context, batch *logBatch) bool {
	if batch.oneByOne {
		return l.pushEach(ctx, batch)
	}
	if !batch.firstSent.IsZero() && time.Since(batch.firstSent) > pushRemembered {
		// It may have arrived, and the server may have forgotten its id: to send it again could store it twice.
		l.drop(len(batch.records), "unknown")
		return true
	}
	options := &commands.LogPushOptions{JSON: !l.options.AnyBytes, Reject: l.options.Reject, ID: batch.id}
	began := time.Now()
	pushed, err := ask(ctx, l.core.background, commands.LogPushRequest(l.key, batch.records, options))
	switch away := unavailable(err); {
	case err == nil:
		if pushed.Dropped > 0 {
			l.drop(int(pushed.Dropped), "queue_full")
		}
		return true
	case away != nil:
		if away.Sent && batch.firstSent.IsZero() {
			batch.firstSent = began
		}
		return false
	case codeOf(err) == "QUEUEFULL" || isNotNow(err):
		return false
	case len(batch.records) == 1:
		l.core.settings.Logger.Error("a log record was refused", "code", codeOf(err))
		l.drop(1, "refused")
		return true
	}
	// One of them cannot be stored. From now on each gets its own push, so that the others are: none of them has arrived yet, and none
	// may be pushed under the batch's id again.
	batch.oneByOne, batch.firstSent = true, time.Time{}
	return l.pushEach(ctx, batch)
}

func (l *Logs) pushEach(ctx context.Context, batch *logBatch) bool {
	for len(batch.records) > 0 {
		one := &logBatch{
			records: batch.records[:1], id: fmt.Sprintf("%s:%d", batch.id, len(batch.records)), firstSent: batch.firstSent,
		}
		done := l.push(ctx, one)
		batch.firstSent = one.firstSent
		if !done {
			return false
		}
		batch.firstSent = time.Time{}
		l.mutex.Lock()
		batch.records = batch.records[1:]
		l.mutex.Unlock()
	}
	return true
}

// close pushes what there is, once. What the server does not take is dropped, and counted.
func (l *Logs) close(ctx context.Context) {
	l.mutex.Lock()
	closed := l.closed
	l.closed = true
	l.mutex.Unlock()
	if closed {
		return
	}
	l.wakeUp()
	if l.Flush(ctx) {
		return
	}
	l.mutex.Lock()
	left := l.length()
	l.buffer, l.bytes, l.batch = nil, 0, nil
	l.mutex.Unlock()
	if left > 0 {
		l.drop(left, "closed")
	}
}
