package gateway

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"redis-gateway/clients/go/commands"
)

// call is what is sent: its words, and whether it can be sent again.
type call struct {
	words      []any
	repeatable bool
}

func callOf[T any](request commands.Request[T]) call { return call{request.Words, request.Repeatable} }

// answer is a reply as go-redis reads it, or an error: a typed error reply, or an UnavailableError.
type answer struct {
	reply any
	err   error
}

func answersOf(err error, count int) []answer {
	made := make([]answer, count)
	for at := range made {
		made[at].err = err
	}
	return made
}

// server is one server: two small clients of go-redis, one for calls that are answered at once and one for those that wait.
//
// In go-redis time-outs and retries belong to a client, and its defaults (seconds, and three retries of whatever was sent) would
// count a charge twice and keep a request waiting. So the gateway takes the options of the client that it is given, and leaves that
// client and its pool alone.
type server struct {
	address  string
	circuit  *circuit
	settings *Settings
	options  *redis.Options

	lastUsed atomic.Int64 // When it was asked for the last time, in unix nanoseconds.

	mutex        sync.Mutex
	now, waiting *redis.Client
	closed       bool
}

func newServer(name, address string, options *redis.Options, settings *Settings) *server {
	made := &server{address: address, circuit: newCircuit(name, settings), settings: settings, options: options}
	made.now, made.waiting = made.clients()
	made.used()
	return made
}

func (s *server) used() { s.lastUsed.Store(time.Now().UnixNano()) }

func (s *server) usedAt() time.Time { return time.Unix(0, s.lastUsed.Load()) }

func (s *server) clients() (now, waiting *redis.Client) {
	return s.client(s.settings.Timeout, s.settings.Connections), s.client(s.settings.WaitingTimeout, s.settings.WaitingConnections)
}

// client is one with the application's options, but other time-outs and no retries.
func (s *server) client(timeout time.Duration, connections int) *redis.Client {
	options := *s.options
	options.ReadTimeout, options.WriteTimeout = timeout, timeout
	options.DialTimeout, options.DialerRetries = s.settings.ConnectTimeout, 1
	options.DialerRetryTimeout = 1 // It waits for that also after the last try.
	options.ContextTimeoutEnabled = true
	options.MaxRetries = -1
	options.PoolSize, options.MaxActiveConns = connections, 0
	options.MinIdleConns, options.MaxIdleConns = 0, 0
	options.PoolTimeout = s.settings.Timeout
	options.DisableIdentity = true // A round trip less on each new connection.
	// The server's notices of maintenance change the time-outs of connections.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if dial := options.Dialer; dial != nil {
		options.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, s.settings.ConnectTimeout)
			defer cancel()
			connection, err := dial(ctx, network, address)
			if err != nil {
				return nil, &dialError{err}
			}
			return connection, nil
		}
	}
	made := redis.NewClient(&options)
	made.AddHook(handshakes{})
	return made
}

// ask returns the replies, of which each may be an error; or an error if there are none. `ctx` may have a deadline, but is not
// cancelled: what was asked is asked to its end.
func (s *server) ask(ctx context.Context, calls []call, waiting bool) ([]answer, error) {
	tried, may := s.circuit.begin(ctx, s.settings.Timeout)
	if !may {
		return nil, &UnavailableError{Reason: "circuit_open", Down: true}
	}
	defer tried()
	s.used()
	limit := s.settings.Timeout
	if waiting {
		limit = s.settings.WaitingTimeout
	}
	end := time.Now().Add(s.settings.ConnectTimeout + limit)
	hurried := false
	if deadline, is := ctx.Deadline(); is && deadline.Before(end) {
		end, hurried = deadline, true
	}
	asker := ctx
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	defer cancel()
	s.mutex.Lock()
	client := s.now
	if waiting {
		client = s.waiting
	}
	s.mutex.Unlock()
	answers, err := s.exchange(ctx, client, calls)
	var away *UnavailableError
	if errors.As(err, &away) {
		if hurried && away.Reason == "timeout" && !time.Now().Before(end) {
			// That whoever asks has no more time says nothing about the server.
			<-asker.Done()
		} else if away.Down {
			s.circuit.failed(away.Reason)
		}
		if s.options.TLSConfig != nil && away.Reason == "connection" && away.Sent {
			s.leave(client) // Below TLS go-redis does not see that the others have been closed, too.
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	s.judge(answers, client)
	return answers, nil
}

// exchange is that of a client. go-redis panics at some replies that no server sends, and would use the connection again, with the
// rest of the reply on it.
func (s *server) exchange(ctx context.Context, client *redis.Client, calls []call) (answers []answer, err error) {
	defer func() {
		if found := recover(); found != nil {
			s.settings.Logger.Error("a reply cannot be read", "server", s.address, "panic", found)
			s.leave(client)
			answers, err = nil, &UnavailableError{"connection", true, true}
		}
	}()
	return exchange(ctx, client, calls)
}

// judge: the last reply speaks for the server, since they came together.
func (s *server) judge(answers []answer, client *redis.Client) {
	for _, one := range answers {
		if isDemoted(one.err) {
			s.leave(client)
			break
		}
	}
	if away := awayReply(answers[len(answers)-1].err); away != nil && away.Down {
		s.circuit.failed(away.Reason)
	} else {
		s.circuit.succeeded()
	}
}

// leave drops the connections: the address may lead to another node by now, behind a proxy or a name, and only new connections get
// there. Calls that are under way end first. `asked` is the client that has got there: many calls find out at the same time, and the
// first of them drops the connections.
func (s *server) leave(asked *redis.Client) {
	s.mutex.Lock()
	old := []*redis.Client{s.now, s.waiting}
	if s.closed || !slices.Contains(old, asked) {
		s.mutex.Unlock()
		return
	}
	s.now, s.waiting = s.clients()
	s.mutex.Unlock()
	longest := s.settings.ConnectTimeout + max(s.settings.Timeout, s.settings.WaitingTimeout)
	time.AfterFunc(longest, func() {
		for _, client := range old {
			client.Close()
		}
	})
}

func (s *server) close() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
	s.now.Close()
	s.waiting.Close()
}

// exchange sends the calls together, and returns their replies.
func exchange(ctx context.Context, client *redis.Client, calls []call) ([]answer, error) {
	shake := &handshake{}
	ctx = context.WithValue(ctx, handshakeKey{}, shake)
	sent := make([]*redis.Cmd, len(calls))
	var failed error
	if len(calls) == 1 {
		sent[0] = client.Do(ctx, calls[0].words...)
	} else {
		pipe := client.Pipeline()
		for at, one := range calls {
			sent[at] = pipe.Do(ctx, one.words...)
		}
		_, failed = pipe.Exec(ctx)
	}
	answers := make([]answer, len(calls))
	for at, cmd := range sent {
		if failed != nil && cmd.Err() == nil && cmd.Val() == nil {
			cmd.SetErr(failed) // Of a pipeline that got no connection go-redis does not always tell its commands.
		}
		reply, err := commands.ReplyOf(cmd)
		refused := shake.hasEndedWith(cmd.Err())
		switch {
		case err != nil && !isReply(err):
			return nil, failureOf(err, !refused)
		case refused:
			// The server refuses the connection itself, such as for a wrong password.
			if away := awayReply(err); away != nil {
				return nil, away
			}
			return nil, err
		}
		answers[at] = answer{reply, err}
	}
	return answers, nil
}

// handshake is what is known of the first commands on a new connection, which go-redis sends by itself before the call.
type handshake struct {
	depth int
	err   error // Of the last of them.
}

// hasEndedWith: the call has the error of the handshake, of which go-redis may have taken off the outermost layer.
func (h *handshake) hasEndedWith(err error) bool {
	return err != nil && h.err != nil && (errors.Is(err, h.err) || errors.Is(h.err, err))
}

type handshakeKey struct{}

// handshakes tells calls apart that were never sent because the handshake had failed.
type handshakes struct{}

func (handshakes) DialHook(next redis.DialHook) redis.DialHook { return next }

func (handshakes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return watched(ctx, func() error { return next(ctx, cmd) })
	}
}

func (handshakes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return watched(ctx, func() error { return next(ctx, cmds) })
	}
}

func watched(ctx context.Context, work func() error) error {
	shake, is := ctx.Value(handshakeKey{}).(*handshake)
	if !is {
		return work()
	}
	// A command within a command is one of the handshake.
	shake.depth++
	err := work()
	shake.depth--
	if shake.depth > 0 {
		shake.err = err
	}
	return err
}
