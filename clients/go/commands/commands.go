// Package commands has a typed method for each call of the module, over any client of go-redis. It is the low level: it asks the
// server and reads the reply, and neither waits, repeats nor decides anything by itself.
//
//	gw := commands.New(client)
//	admission, err := gw.Admit(ctx, []string{"user:42", "team:ml"}, leaseID, 30_000, &commands.AdmitOptions{
//		Amounts: map[string]commands.Amount{"usd": "0.02"},
//		Rows:    commands.RowsRefused,
//	})
//
// Each method has a function that makes its [Request] without sending it, such as [AdmitRequest], for pipelines and transactions.
//
// Keys, names and ids may be any bytes: they are strings, and come back as they were. Of a cluster, go-redis finds the node by the
// first key. Calls that name no key, such as GW.STATS, ask one node, and their answer is that node's alone.
package commands

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Doer sends a command: a client of go-redis (a Client, a ClusterClient, what NewFailoverClient returns), or one of its
// connections.
type Doer interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}

// Execute sends a command, its name first, and returns the reply as go-redis reads it. A nil reply is nil without an error.
// `repeatable` is that of [Request].
type Execute func(ctx context.Context, words []any, repeatable bool) (any, error)

// Commands has a method for each call of the module.
type Commands struct{ execute Execute }

// New makes the commands of a client. The errors of their methods are those of the client, and for error replies types of this
// package, see [ReplyError].
func New(client Doer) *Commands {
	return Over(func(ctx context.Context, words []any, _ bool) (any, error) {
		return ReplyOf(client.Do(ctx, words...))
	})
}

// Over makes the commands of whatever sends them, such as a client with time-outs of its own.
func Over(execute Execute) *Commands { return &Commands{execute} }

// Request is a call that was not sent yet: its words, and how its reply is read.
type Request[T any] struct {
	// Words are the command's name and its arguments: strings, byte slices and integers.
	Words []any

	// Decode makes the typed result of a reply as go-redis reads it.
	Decode func(reply any) (T, error)

	// Repeatable tells whether sending it again, after nobody knows whether it took effect, changes nothing more.
	Repeatable bool
}

// Queue puts the call into a pipeline or a transaction. [Request.Read] reads its reply once that was executed.
func (r Request[T]) Queue(ctx context.Context, pipe redis.Pipeliner) *redis.Cmd {
	return pipe.Do(ctx, r.Words...)
}

// Read returns the typed result of a command that go-redis has executed.
func (r Request[T]) Read(cmd *redis.Cmd) (T, error) {
	reply, err := ReplyOf(cmd)
	if err != nil {
		var none T
		return none, err
	}
	return r.Decode(reply)
}

// ReplyOf returns the reply of a command, with nil for a nil reply and a typed error for an error reply.
func ReplyOf(cmd *redis.Cmd) (any, error) {
	reply, err := cmd.Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, Typed(err)
	}
	return reply, nil
}

func run[T any](ctx context.Context, c *Commands, request Request[T]) (T, error) {
	reply, err := c.execute(ctx, request.Words, request.Repeatable)
	if err != nil {
		var none T
		return none, err
	}
	return request.Decode(reply)
}

// CommandInfo is what the server tells of a command.
type CommandInfo struct {
	// Name is in upper case.
	Name string

	// Family is the command's family, such as admission.
	Family string

	// Keyed: its first argument is a key.
	Keyed bool

	// Reads: it changes nothing but the node's counters, and replicas answer it.
	Reads bool

	// Waits: it may wait, if it is asked to.
	Waits bool

	// Grows: it grows memory, and the server refuses it with OOM when its memory is full.
	Grows bool
}

var byName = func() map[string]CommandInfo {
	found := make(map[string]CommandInfo, len(table))
	for _, one := range table {
		found[one.Name] = one
	}
	return found
}()

// Info tells of a command, by its name in upper case.
func Info(name string) (CommandInfo, bool) {
	found, known := byName[name]
	return found, known
}
