package gateway

import (
	"testing"
	"time"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

// TestConnectionsAreLeftOnce although many calls find out at the same time that a node was demoted.
func TestConnectionsAreLeftOnce(t *testing.T) {
	settings := patient()
	ok(t, settings.complete())
	server := newServer("n", "", servers.Start(t, servers.Options{}).Client().Options(), settings)
	asked := server.now
	server.leave(asked)
	left := server.now
	equal(t, left == asked, false)
	server.leave(asked)
	equal(t, server.now == left, true)
	server.close()
	server.leave(left)
	equal(t, server.now == left, true)
	asked.Close()
}

// TestCommandsWaitForLessThanTheirTimeOut, or the server would seem to be away.
func TestCommandsWaitForLessThanTheirTimeOut(t *testing.T) {
	settings := patient()
	settings.Timeout, settings.WaitingTimeout, settings.Failures = time.Second, time.Second, 1
	_, gw := started(t, settings)
	servers.Eventually(t, "it is had", func() bool {
		return must(gw.Slot(background, "BLOCK", 1, &SlotOptions{TTL: time.Hour}))(t).Outcome() != Degraded
	})
	for _, block := range []int64{0, 3_600_000} {
		options := &commands.AcquireOptions{BlockMs: commands.Int(block)}
		found, err := gw.Commands.Acquire(background, "BLOCK", 1, "h", 1000, options)
		ok(t, err)
		equal(t, found.Acquired, false)
	}
	equal(t, gw.Health(background).CircuitsOpen, 0)
}
