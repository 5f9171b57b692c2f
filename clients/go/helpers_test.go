package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

var background = context.Background()

// patient are settings for a busy machine: nothing is away because it is slow.
func patient() *Settings {
	return &Settings{Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second, WaitingTimeout: 20 * time.Second}
}

// gatewayOf makes a gateway that is closed with the test.
func gatewayOf(t *testing.T, client redis.UniversalClient, settings *Settings) *Gateway {
	t.Helper()
	if settings.Logger == nil {
		settings.Logger = slog.New(slog.DiscardHandler)
	}
	made, err := New(client, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { made.Close() })
	return made
}

// started is a server with a gateway.
func started(t *testing.T, settings *Settings) (*servers.Server, *Gateway) {
	t.Helper()
	server := servers.Start(t, servers.Options{})
	return server, gatewayOf(t, server.Client(), settings)
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// policies sets an account's policies, from a document.
func policies(t *testing.T, gw *Gateway, account, document string) {
	t.Helper()
	must(gw.Commands.PolicyPut(background, account, document, nil))(t)
}

// accountOf is the account's state.
func accountOf(t *testing.T, gw *Gateway, account string) commands.AccountState {
	t.Helper()
	return must(gw.Commands.Describe(background, account))(t).(commands.AccountState)
}

// spentOf is what an account has spent this month.
func spentOf(t *testing.T, gw *Gateway, account string) string {
	t.Helper()
	return must(gw.Budgets.Spent(background, account, commands.PeriodMonth))(t).String()
}

const oneBudget = `{"policies":[{"name":"month","kind":"budget","amount":"100","period":"month"}]}`

func rpm(limit string) string {
	return `{"policies":[{"name":"rpm","kind":"window","limit":` + limit + `,"per_ms":60000}]}`
}

// loggedTo is a logger that writes into a text.
type loggedTo struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *loggedTo) Write(line []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(line)
}

func (l *loggedTo) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

func (l *loggedTo) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// proxy passes connections on, until it is told to lose replies.
type proxy struct {
	listener net.Listener
	target   string
	accepted atomic.Int64 // Connections.
	mutex    sync.Mutex
	ends     []net.Conn
	lose     string // Replies to what has this in it are lost, and the connection with them.
	lost     int
	refuse   string // What has this in it is replied here, and not passed on.
	reply    string
	sent     []string // What has come from clients.
}

func proxyTo(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	made := &proxy{listener: listener, target: target}
	go made.accept()
	t.Cleanup(func() {
		listener.Close()
		made.drop()
	})
	return made
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) client(t *testing.T) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: p.address()})
	t.Cleanup(func() { client.Close() })
	return client
}

// drop ends all connections.
func (p *proxy) drop() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	for _, end := range p.ends {
		end.Close()
	}
	p.ends = nil
}

// loseReplies to what has this in it; none if it is empty.
func (p *proxy) loseReplies(to string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.lose, p.lost = to, 0
}

// refuseWith replies this error line to what has `what` in it; nothing is refused if it is empty.
func (p *proxy) refuseWith(what, line string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.refuse, p.reply = what, "-"+line+"\r\n"
}

func (p *proxy) lostReplies() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.lost
}

// leadTo has new connections go elsewhere.
func (p *proxy) leadTo(target string) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.target = target
}

// count is how often this has come from clients.
func (p *proxy) count(what string) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return strings.Count(strings.Join(p.sent, ""), what)
}

func (p *proxy) accept() {
	for {
		here, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		p.mutex.Lock()
		target := p.target
		p.mutex.Unlock()
		there, err := net.Dial("tcp", target)
		if err != nil {
			here.Close()
			continue
		}
		p.mutex.Lock()
		p.ends = append(p.ends, here, there)
		p.mutex.Unlock()
		go p.passOn(here, there)
	}
}

// passOn is one connection. What a client sends comes before its reply, so the reply that is to be lost is known.
func (p *proxy) passOn(here, there net.Conn) {
	losing := make(chan struct{})
	var once sync.Once
	go func() {
		buffer := make([]byte, 65_536)
		for {
			count, err := there.Read(buffer)
			select {
			case <-losing:
				here.Close()
				there.Close()
				return
			default:
			}
			if count > 0 {
				here.Write(buffer[:count])
			}
			if err != nil {
				here.Close()
				return
			}
		}
	}()
	buffer := make([]byte, 65_536)
	for {
		count, err := here.Read(buffer)
		if count > 0 {
			text := string(buffer[:count])
			p.mutex.Lock()
			p.sent = append(p.sent, text)
			if p.lose != "" && strings.Contains(text, p.lose) {
				p.lost++
				once.Do(func() { close(losing) })
			}
			refused := p.refuse != "" && strings.Contains(text, p.refuse)
			reply := p.reply
			p.mutex.Unlock()
			if refused {
				here.Write([]byte(reply))
			} else {
				there.Write(buffer[:count])
			}
		}
		if err != nil {
			there.Close()
			return
		}
	}
}
