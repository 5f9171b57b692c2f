package gateway

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
)

// UnavailableError tells that the server is away: no reply in time, no connection, or a reply that says that it cannot serve now.
type UnavailableError struct {
	// Reason is such as timeout, connection, connections (all are taken), circuit_open, loading, oom.
	Reason string

	// Sent: the server may have done what it was asked to.
	Sent bool

	// Down: it is the server as a whole. Else only this call was refused: oom, tryagain, connections.
	Down bool
}

func (e *UnavailableError) Error() string { return "the server is away: " + e.Reason }

// Replies that say that the server cannot serve now. None of them has changed anything. The value: is the server as a whole away?
var awayCodes = map[string]bool{
	"LOADING": true, "READONLY": true, "MASTERDOWN": true, "CLUSTERDOWN": true, "NOREPLICAS": true, "MISCONF": true, "BUSY": true,
	"UNBLOCKED": false, "TRYAGAIN": false, "OOM": false, "MOVED": false, "ASK": false,
}

// codeOf is the code of an error reply; empty if it is none.
func codeOf(err error) string {
	var refused *commands.ReplyError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// isDemoted: the node says that it is not, or no longer, the primary: a new connection may lead to another node.
func isDemoted(err error) bool {
	code := codeOf(err)
	return code == "READONLY" || code == "MASTERDOWN" || code == "UNBLOCKED"
}

// isNotNow: what must arrive is to be sent again later. The server is away, or refuses whatever comes: because of how it or its users
// are set up, or because of a bug.
func isNotNow(err error) bool {
	var (
		away     *UnavailableError
		login    *commands.NotAuthenticatedError
		right    *commands.NoPermissionError
		missing  *commands.ModuleMissingError
		internal *commands.InternalErrorError
	)
	return errors.As(err, &away) || errors.As(err, &login) || errors.As(err, &right) || errors.As(err, &missing) ||
		errors.As(err, &internal)
}

// isReply: it is an error reply about the call, not the server's absence.
func isReply(err error) bool { return codeOf(err) != "" }

func unavailable(err error) *UnavailableError {
	var away *UnavailableError
	errors.As(err, &away)
	return away
}

// awayReply makes an UnavailableError of a reply that says that the server cannot serve now; nil if it says something else.
func awayReply(err error) *UnavailableError {
	code := codeOf(err)
	if down, is := awayCodes[code]; is {
		return &UnavailableError{Reason: strings.ToLower(code), Down: down}
	}
	return nil
}

// dialError is an error of a connection that has not been made: nothing was sent on it.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// failureOf says what an error of go-redis means if it is not the server's reply. `sent`: the command may have been sent.
func failureOf(err error, sent bool) *UnavailableError {
	var dial *dialError
	var operation *net.OpError
	if errors.As(err, &dial) || errors.As(err, &operation) && operation.Op == "dial" {
		sent = false
	}
	switch {
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return &UnavailableError{Reason: "connections"}
	case isTimeout(err):
		return &UnavailableError{Reason: "timeout", Sent: sent, Down: true}
	}
	return &UnavailableError{Reason: "connection", Sent: sent, Down: true}
}

func isTimeout(err error) bool {
	var timed net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timed) && timed.Timeout()
}
