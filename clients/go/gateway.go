// Package gateway is the client of the redis-gateway module for Redis and Valkey: rate limits, budgets, admission, a response cache
// and a log queue for LLM gateways, over the client of go-redis that the application has.
//
//	gw, err := gateway.New(client, nil)
//	defer gw.Close()
//
//	admission, err := gw.Admit(ctx, []string{"{ml}:key:7", "{ml}"}, gateway.Amounts{"tokens": "1500", "usd": "0.02"}, nil)
//	if err != nil {
//		return err
//	}
//	defer admission.Close() // Settles it, once.
//	if err := admission.Err(); err != nil {
//		return err // A DeniedError, with a status and headers.
//	}
//	answer := callTheModel()
//	admission.Use(gateway.Amounts{"tokens": gateway.AmountOf(answer.Tokens), "usd": answer.Price})
//
// While the server is away, what is decided is what [Settings].Away says, and the decision says that it is degraded. A request waits
// tens of milliseconds at most; settlements and charges are kept, and sent later, each once.
//
// A context that is cancelled ends the waiting, not what was sent: a question is asked to its end, which takes no longer than the
// time-outs, and what it has brought is given back. Settling goes on when the request's context has ended.
package gateway

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
)

// Gateway has limits, budgets, admissions, caches and logs over the application's own client of go-redis. It is safe for many
// goroutines at once.
type Gateway struct {
	// Commands has each command of the module, typed. They return an [UnavailableError] if the server is away. None waits inside the
	// server for longer than four fifths of [Settings].WaitingTimeout: whoever wants to wait longer asks again.
	Commands *commands.Commands

	// Budgets are ledgers that are asked for by themselves.
	Budgets *Budgets

	core     *core
	keeper   *keeper
	admitter *admitter
	router   *router

	mutex sync.Mutex
	logs  []*Logs
}

// New makes a gateway. The client is a *redis.Client, also one of NewFailoverClient, or a *redis.ClusterClient. The settings may be
// nil.
//
// It takes the client's options, such as the address, credentials and TLS, and makes clients of its own with its own time-outs and
// without retries: at most Settings.Connections and Settings.WaitingConnections to each server. The application's client is not
// changed, not used, and not closed.
func New(client redis.UniversalClient, settings *Settings) (*Gateway, error) {
	own := Settings{}
	if settings != nil {
		own = *settings
	}
	if err := own.complete(); err != nil {
		return nil, err
	}
	core, err := newCore(client, &own)
	if err != nil {
		return nil, err
	}
	keeper := newKeeper(core)
	admitter := &admitter{core, keeper}
	made := &Gateway{
		Commands: commands.Over(core.execute), Budgets: &Budgets{core}, core: core, keeper: keeper,
		admitter: admitter, router: &router{core, admitter},
	}
	core.watch.watch("log.buffered", func() []Reading {
		records, _ := made.logged()
		return []Reading{{Value: float64(records)}}
	})
	return made, nil
}

// execute sends a command of Gateway.Commands.
func (c *core) execute(ctx context.Context, words []any, repeatable bool) (any, error) {
	name, _ := words[0].(string)
	if info, _ := commands.Info(name); info.Waits {
		if at := waitOf(words); at >= 0 {
			// A longer one would time out, as if the server were away.
			words = slices.Clone(words)
			longest := c.settings.longestWait().Milliseconds()
			if asked := words[at].(int64); asked > longest || asked == 0 && words[at-1] == "BLOCK" { // 0 waits for ever.
				words[at] = longest
			}
			return c.wait(ctx, call{words, repeatable})
		}
	}
	return c.send(ctx, call{words, repeatable})
}

// waitOf is the place of the time that a command waits inside the server; -1 if it does not wait. The first words are the command's
// name and its key.
func waitOf(words []any) int {
	for at := len(words) - 1; at > 2; at-- {
		if _, is := words[at].(int64); is && (words[at-1] == "BLOCK" || words[at-1] == "WAIT") {
			return at
		}
	}
	return -1
}

// Admit asks whether a request may go on, and charges its estimates to all accounts, or to none.
//
// accounts are the keys of the accounts, such as the API key's and its team's. In a cluster they may be in several slots. estimates are
// what the request will probably use, by meter. Estimate high: the settlement gives back the rest. The options may be nil.
//
// An error is one of the call, or the context's; that a limit refuses is none.
func (g *Gateway) Admit(ctx context.Context, accounts []string, estimates Amounts, options *AdmitOptions) (*Admission, error) {
	return g.admitter.admit(ctx, accounts, estimates, options)
}

// Health tells whether the server answers, and has the module; how long that took, and what waits to be sent.
func (g *Gateway) Health(ctx context.Context) Health {
	began := time.Now()
	_, err := askEverywhere(ctx, g.core.transport, commands.StatsRequest())
	made := Health{Took: time.Since(began), Kept: g.core.kept.count()}
	switch away := unavailable(err); {
	case away != nil:
		made.Reason = away.Reason
	case isEnded(err):
		made.Reason = "cancelled"
	case codeOf(err) == "NOPERM":
		// It answers, and has the module; this user may not ask for its figures.
	case err != nil:
		made.Reason = reflect.Indirect(reflect.ValueOf(err)).Type().Name()
	}
	made.OK = made.Reason == ""
	for _, one := range g.core.servers() {
		if one.circuit.isOpen() {
			made.CircuitsOpen++
		}
	}
	made.LogRecords, made.LogDropped = g.logged()
	return made
}

// logged is how many log records wait in all buffers, and how many were dropped.
func (g *Gateway) logged() (records, dropped int) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	for _, logs := range g.logs {
		records += logs.Len()
		dropped += logs.Dropped()
	}
	return records, dropped
}

// Figures are what was decided and how it went, since the gateway was made.
func (g *Gateway) Figures() Figures { return g.core.watch.figures() }

// SendKept tries now to send what is kept, and returns how much the server has taken. It is sent in the background, too.
func (g *Gateway) SendKept(ctx context.Context) int { return g.core.sendKept(ctx) }

// Kept is how many settlements and charges the server has not taken yet.
func (g *Gateway) Kept() int { return g.core.kept.count() }

// Close is Shutdown with five seconds, for `defer`.
func (g *Gateway) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return g.Shutdown(ctx)
}

// Shutdown sends what there is to send, waits for what runs until the context ends, and closes the connections. Requests that are
// still running are settled at what they have used so far; if the context has ended by then, there are three seconds more for that.
// What is not sent stays in Settings.Kept.Directory for the next process. It returns the context's error if something still ran.
func (g *Gateway) Shutdown(ctx context.Context) error {
	g.mutex.Lock()
	logs := g.logs
	g.mutex.Unlock()
	for _, one := range logs {
		one.close(ctx)
	}
	return g.core.close(ctx)
}
