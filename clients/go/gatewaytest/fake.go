// Package gatewaytest has a fake of the server, in memory, with a clock that tests set: for the tests of programs that use a gateway.
//
//	fake := gatewaytest.New(t)
//	gw, err := gateway.New(fake.Client(), nil)
//	…
//	fake.Advance(time.Minute)
//	fake.SetAway(true) // As if the server did not answer.
//
// It has the commands that a gateway uses. Of any other, and of options that it does not have, it says so by its name, and the test
// fails: use a real server for that one.
//
// It differs from a server in this: GW.ROUTE takes the first target that has room, whatever PICK says; no call waits for another; and
// accounts whose IDLE time has passed stay.
package gatewaytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Fake is a server in memory. It is safe for many goroutines at once.
type Fake struct {
	t     testing.TB
	tasks sync.WaitGroup // Those of its connections.

	mutex sync.Mutex
	now   int64 // Unix milliseconds.
	away  bool
	ended bool
	open  map[net.Conn]struct{}
	calls [][]string
	keys  map[string]any
	fills fillLeases
}

// New makes a fake that ends with the test. Its clock begins at the beginning of 2026.
func New(t testing.TB) *Fake {
	made := &Fake{
		t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), open: map[net.Conn]struct{}{},
	}
	made.Flush()
	t.Cleanup(made.end)
	return made
}

// Client is a client of the fake, such as gateway.New takes. It ends with the test.
func (f *Fake) Client() *redis.Client {
	made := redis.NewClient(&redis.Options{
		Addr: "fake:6379", Dialer: f.dial, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	f.t.Cleanup(func() { made.Close() })
	return made
}

// Now is the server's clock.
func (f *Fake) Now() time.Time {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return time.UnixMilli(f.now)
}

// Advance sets the clock on, by whole milliseconds.
func (f *Fake) Advance(by time.Duration) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.now += by.Milliseconds()
}

// SetAway tells whether the server is away: then no call reaches it.
func (f *Fake) SetAway(away bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.away = away
}

// Calls are all commands that were sent, the last one last.
func (f *Fake) Calls() [][]string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Clone(f.calls)
}

// Flush forgets everything but the clock.
func (f *Fake) Flush() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.calls, f.keys, f.fills = nil, map[string]any{}, newFillLeases()
}

// end closes the connections, and waits until nothing is served any more.
func (f *Fake) end() {
	f.mutex.Lock()
	f.ended = true
	for one := range f.open {
		one.Close()
	}
	f.mutex.Unlock()
	f.tasks.Wait()
}

// execute returns the reply of a command.
func (f *Fake) execute(given []string) (reply any) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.calls = append(f.calls, given)
	name := strings.ToUpper(given[0])
	command := table[name]
	defer func() {
		// Whoever reads a command's words ends it by a panic of one of these.
		switch found := recover().(type) {
		case nil:
		case refusal:
			reply = found
		case notInFake:
			f.t.Errorf("the fake has no %s: use a real server for this test", string(found))
			reply = refusal("ERR the fake has no " + string(found))
		default:
			panic(found)
		}
	}()
	if command == nil {
		panic(notInFake(name))
	}
	return command(f, &words{left: given[1:]})
}

// Connections.

var errAway = errors.New("the fake is away")

// unreachable says that nothing was sent.
func unreachable() error { return &net.OpError{Op: "dial", Net: "fake", Err: errAway} }

func (f *Fake) isAway() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.away || f.ended
}

// connection is a client's end.
type connection struct {
	net.Conn
	fake *Fake
}

func (c *connection) Write(data []byte) (int, error) {
	if c.fake.isAway() {
		return 0, unreachable()
	}
	return c.Conn.Write(data)
}

func (f *Fake) dial(context.Context, string, string) (net.Conn, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.away || f.ended {
		return nil, unreachable()
	}
	here, there := net.Pipe()
	f.open[there] = struct{}{}
	replies := &outbox{}
	replies.change = sync.NewCond(&replies.mutex)
	f.tasks.Go(func() {
		f.serve(there, replies)
		there.Close()
		replies.close()
		f.mutex.Lock()
		delete(f.open, there)
		f.mutex.Unlock()
	})
	f.tasks.Go(func() { replies.writeTo(there) })
	return &connection{here, f}, nil
}

// serve reads commands, and puts their replies out, until the connection ends.
func (f *Fake) serve(from net.Conn, replies *outbox) {
	for reader := bufio.NewReader(from); ; {
		given, err := readWords(reader)
		if err != nil {
			return
		}
		name := strings.ToUpper(given[0])
		switch name {
		case "HELLO": // Then the client speaks RESP2.
			replies.add(refusal("ERR unknown command 'HELLO'"))
		case "CLIENT", "SELECT", "AUTH":
			replies.add("OK")
		case "PING":
			replies.add("PONG")
		default:
			if strings.HasPrefix(name, "GW.") && (slices.Contains(given, "BLOCK") || slices.Contains(given, "WAIT")) {
				time.Sleep(10 * time.Millisecond) // It waits for nobody, and whoever asks again does so after a moment.
			}
			replies.add(f.execute(given))
		}
	}
}

// outbox are replies on their way. A client may send more before it reads them.
type outbox struct {
	mutex  sync.Mutex
	change *sync.Cond
	text   []byte
	closed bool
}

func (o *outbox) add(reply any) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.text = appendReply(o.text, reply)
	o.change.Signal()
}

func (o *outbox) close() {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.closed = true
	o.change.Signal()
}

func (o *outbox) writeTo(to net.Conn) {
	for {
		o.mutex.Lock()
		for len(o.text) == 0 && !o.closed {
			o.change.Wait()
		}
		text := o.text
		o.text = nil
		o.mutex.Unlock()
		if len(text) == 0 {
			return
		}
		if _, err := to.Write(text); err != nil {
			to.Close()
			return
		}
	}
}

// appendReply writes a reply in RESP2.
func appendReply(text []byte, reply any) []byte {
	switch found := reply.(type) {
	case nil:
		return append(text, "$-1\r\n"...)
	case refusal:
		line := strings.NewReplacer("\r", " ", "\n", " ").Replace(string(found))
		return fmt.Appendf(text, "-%s\r\n", line)
	case string:
		return fmt.Appendf(text, "$%d\r\n%s\r\n", len(found), found)
	case bool:
		if found {
			return append(text, ":1\r\n"...)
		}
		return append(text, ":0\r\n"...)
	case int64:
		return fmt.Appendf(text, ":%d\r\n", found)
	case []any:
		text = fmt.Appendf(text, "*%d\r\n", len(found))
		for _, one := range found {
			text = appendReply(text, one)
		}
		return text
	}
	panic(fmt.Sprintf("a reply of the fake is a %T", reply))
}
