package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
)

// transport sends calls to the server, or to the nodes of a cluster that have their keys, within the time-outs.
type transport struct {
	settings *Settings
	watch    *telemetry
	alone    *server  // Nil for a cluster.
	cluster  *cluster // Nil for one server.
}

func newTransport(client redis.UniversalClient, settings *Settings, watch *telemetry) (*transport, error) {
	made := &transport{settings: settings, watch: watch}
	switch found := client.(type) {
	case *redis.Client:
		options := found.Options()
		name := options.Addr
		if name == "FailoverClient" {
			name = "the primary that the sentinels name"
		}
		made.alone = newServer(name, addressOf(options), options, settings)
	case *redis.ClusterClient:
		var err error
		if made.cluster, err = newCluster(found, settings); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("a gateway works with a *redis.Client or a *redis.ClusterClient, not with a %T", client)
	}
	return made, nil
}

// addressOf is empty if it changes.
func addressOf(options *redis.Options) string {
	if options.Addr == "FailoverClient" {
		return ""
	}
	return options.Addr
}

func (t *transport) servers() []*server {
	if t.cluster != nil {
		return t.cluster.servers()
	}
	return []*server{t.alone}
}

// isDown: the server is away, so that there is no need to try.
func (t *transport) isDown() bool {
	servers := t.servers()
	for _, one := range servers {
		if !one.circuit.isOpen() {
			return false
		}
	}
	return len(servers) > 0
}

// placeOf: keys with the same place can be named in one call.
func (t *transport) placeOf(key string) int {
	if t.cluster == nil {
		return 0
	}
	return slotOf(key)
}

// nodeOf tells the node to which such a call is sent from the others of a cluster; nil without a cluster, or if its nodes are not known.
func (t *transport) nodeOf(one call) *server {
	if t.cluster == nil {
		return nil
	}
	key, _ := keyOf(one)
	return t.cluster.has(slotOf(key))
}

func (t *transport) close() {
	if t.cluster != nil {
		t.cluster.close()
	} else {
		t.alone.close()
	}
}

// send returns the reply of one call.
func (t *transport) send(ctx context.Context, one call) (any, error) {
	found := t.many(ctx, []call{one})[0]
	return found.reply, found.err
}

// many returns the replies, of which each may be an error; in one round trip to each node.
func (t *transport) many(ctx context.Context, calls []call) []answer {
	if t.cluster == nil {
		answers, sent := t.ask(ctx, t.alone, calls, false)
		for at := range answers {
			answers[at].err = after(answers[at].err, sent)
		}
		return answers
	}
	return t.manyOfCluster(ctx, calls)
}

// wait returns the reply of a call that waits inside the server, for less than Settings.WaitingTimeout.
func (t *transport) wait(ctx context.Context, one call) (any, error) {
	if t.cluster != nil {
		return t.waitInCluster(ctx, one)
	}
	answers, sent := t.ask(ctx, t.alone, []call{one}, true)
	return answers[0].reply, after(answers[0].err, sent)
}

// everywhere returns the replies of all primaries, for calls that name no key. All are asked at once, so one that is away holds up no
// other; then there is an error of one. `waiting`: within Settings.WaitingTimeout.
func (t *transport) everywhere(ctx context.Context, one call, waiting bool) ([]any, error) {
	primaries := []*server{t.alone}
	if t.cluster != nil {
		var err error
		if primaries, err = t.cluster.primaries(ctx); err != nil {
			return nil, err
		}
	}
	replies, failed := make([]any, len(primaries)), make([]error, len(primaries))
	var group sync.WaitGroup
	for at, server := range primaries {
		group.Go(func() {
			answers, sent := t.ask(ctx, server, []call{one}, waiting)
			replies[at], failed[at] = answers[0].reply, after(answers[0].err, sent)
		})
	}
	group.Wait()
	return replies, cmp.Or(failed...)
}

// ask returns the replies of one server, and whether an earlier try, which had no reply, may have arrived.
func (t *transport) ask(ctx context.Context, server *server, calls []call, waiting bool) ([]answer, bool) {
	if err := ctx.Err(); err != nil {
		return answersOf(err, len(calls)), false
	}
	operation := "PIPELINE"
	if len(calls) == 1 {
		operation, _ = calls[0].words[0].(string)
	}
	tries := 2
	for _, one := range calls {
		if !one.repeatable {
			tries = 1
		}
	}
	sent := false
	for end := time.Now().Add(t.settings.Timeout); ; {
		tries--
		done := t.watch.call(ctx, operation, server.address)
		answers, err := server.ask(ctx, calls, waiting)
		done(err)
		if err == nil {
			return answers, sent
		}
		away := unavailable(err)
		if away == nil {
			// The server refuses the connection itself.
			return answersOf(err, len(calls)), sent
		}
		sent = sent || away.Sent
		// An idle connection that the server had closed: a new one may well do, if there is time for it.
		if tries == 0 || away.Reason != "connection" || !time.Now().Before(end) {
			if t.cluster != nil {
				t.cluster.refreshLater()
			}
			return answersOf(err, len(calls)), sent
		}
	}
}

// after says what an error means in the end: a reply that says that the server cannot serve is its absence; and if an earlier try may
// have arrived, this try's refusal says nothing about that one.
func after(err error, sent bool) error {
	if err == nil {
		return nil
	}
	if away := awayReply(err); away != nil {
		err = away
	}
	if !sent || !isNotNow(err) {
		return err
	}
	var away *UnavailableError
	if errors.As(err, &away) {
		return &UnavailableError{away.Reason, true, away.Down}
	}
	return &UnavailableError{"refused", true, false}
}

// ask sends a request, and reads its reply.
func ask[T any](ctx context.Context, t *transport, request commands.Request[T]) (T, error) {
	reply, err := t.send(ctx, callOf(request))
	return decoded(request, reply, err)
}

func decoded[T any](request commands.Request[T], reply any, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return request.Decode(reply)
}

// waitOrAsk asks with a wait inside the server. It asks without one if it is 0, if the server ends the wait early, or if all connections
// on which calls wait are taken: whoever wants to wait on asks now and then.
func waitOrAsk[T any](
	ctx context.Context, c *core, request func(wait time.Duration) commands.Request[T], wait time.Duration,
) (T, error) {
	if wait > 0 {
		waiting := request(wait)
		reply, err := c.wait(ctx, callOf(waiting))
		switch away := unavailable(err); {
		case away != nil && away.Reason == "connections":
			c.pause(min(wait, 100*time.Millisecond))
		case away != nil && away.Reason == "unblocked":
		default:
			return decoded(waiting, reply, err)
		}
	}
	return ask(ctx, c.transport, request(0))
}

// waitMs is the time of a wait as an option of a command; nil if it does not wait.
func waitMs(wait time.Duration) *int64 {
	if wait <= 0 {
		return nil
	}
	return commands.Int(milliseconds(wait))
}

// askEverywhere sends a request to all primaries.
func askEverywhere[T any](ctx context.Context, t *transport, request commands.Request[T]) ([]T, error) {
	replies, err := t.everywhere(ctx, callOf(request), false)
	return decodedAll(request, replies, err)
}

func decodedAll[T any](request commands.Request[T], replies []any, err error) ([]T, error) {
	if err != nil {
		return nil, err
	}
	made := make([]T, len(replies))
	for at, reply := range replies {
		if made[at], err = request.Decode(reply); err != nil {
			return nil, err
		}
	}
	return made, nil
}
