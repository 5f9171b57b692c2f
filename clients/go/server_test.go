package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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

// TestRepliesThatNoServerSends end no program, and leave no part of them for the next call.
func TestRepliesThatNoServerSends(t *testing.T) {
	for _, reply := range []string{
		"%1\r\n*1\r\n:1\r\n:1\r\n", "*2\r\n:1\r\n%1\r\n%1\r\n:1\r\n:1\r\n:2\r\n", "*-5\r\n", "$-7\r\n", "*1\r\n*0\r\n", "+\r\n",
		":\r\n", "x\r\n", "\r\n", "$3\r\nabcdef\r\n", "*5\r\n:1\r\n$1\r\na\r\n:1\r\n:1\r\n:1\r\n", "-\r\n", "-MOVED\r\n", "_\r\n",
		"%1\r\n+a\r\n+b\r\n", ",nan\r\n", "#x\r\n",
	} {
		t.Run(reply, func(t *testing.T) {
			listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
			t.Cleanup(func() { listener.Close() })
			go func() {
				for {
					connection, err := listener.Accept()
					if err != nil {
						return
					}
					go answerWith(connection, reply)
				}
			}()
			settings := patient()
			settings.Failures, settings.Kept.Every = 1000, time.Hour
			settings.Away = closed
			client := redis.NewClient(&redis.Options{Addr: listener.Addr().String()})
			t.Cleanup(func() { client.Close() })
			gw := gatewayOf(t, client, settings)
			for range 3 {
				decision, err := gw.Allow(background, "k", 1, nil)
				if err == nil && decision.OK() {
					t.Errorf("%+v", decision)
				}
				if admission, err := gw.Admit(background, []string{"k"}, Amounts{"usd": "1"}, nil); err == nil && admission.OK() {
					t.Errorf("%+v", admission.Rows())
				}
				if attempt, err := gw.Route(background, []string{"k"}, nil, nil); err == nil && attempt.OK() {
					t.Error(attempt.Target())
				}
				if hold, err := gw.Budgets.Reserve(background, "k", "1", tenDollars, 0); err == nil && hold.OK() {
					t.Errorf("%+v", hold.Decision())
				}
				if lock, err := gw.Lock(background, "l", nil); err == nil && lock.OK() {
					t.Error("it has the lock")
				}
			}
			// What may have been charged by a reply that cannot be read is given back.
			if _, err := gw.Route(background, []string{"k"}, nil, nil); errors.As(err, new(*commands.UnexpectedReplyError)) {
				equal(t, gw.Kept() > 0, true)
			}
		})
	}
}

// answerWith replies the same to each command of the module.
func answerWith(connection net.Conn, reply string) {
	defer connection.Close()
	for reader := bufio.NewReader(connection); ; {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.ToUpper(strings.TrimSpace(line))
		switch {
		case line == "HELLO":
			io.WriteString(connection, "-ERR unknown command\r\n")
		case strings.HasPrefix(line, "GW."):
			io.WriteString(connection, reply)
		}
	}
}
