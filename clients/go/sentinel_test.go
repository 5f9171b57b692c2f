package gateway

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/internal/servers"
)

// TestSentinelsThatDoNotAnswerHoldUpNobody: no call takes longer than its time-outs, however many of them come, and the one that answers
// is found.
func TestSentinelsThatDoNotAnswerHoldUpNobody(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	sentinel := servers.Start(t, servers.Options{Sentinel: true})
	sentinel.Run(fmt.Sprintf("SENTINEL MONITOR gw 127.0.0.1 %d 1", server.Port))
	var addresses []string
	for range 3 {
		// The kernel takes connections for it, and nobody reads from them.
		silent := must(net.Listen("tcp", "127.0.0.1:0"))(t)
		t.Cleanup(func() { silent.Close() })
		addresses = append(addresses, silent.Addr().String())
	}
	for _, some := range [][]string{addresses, append(addresses[:2:2], sentinel.Address())} {
		client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "gw", SentinelAddrs: some})
		t.Cleanup(func() { client.Close() })
		gw := gatewayOf(t, client, &Settings{Away: open, Connections: 5, Failures: 1 << 30})
		for range 3 {
			began := time.Now()
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					if decision, err := gw.Allow(background, "k", 1000, nil); err != nil || !decision.OK() {
						t.Errorf("%+v, %v", decision, err)
					}
				})
			}
			group.Wait()
			if took := time.Since(began); took > longest {
				t.Errorf("it took %v", took)
			}
		}
		if len(some) > 0 && some[2] == sentinel.Address() {
			servers.Eventually(t, "the one that answers is found", func() bool {
				return must(gw.Allow(background, "k", 1000, nil))(t).Outcome == Admitted
			})
		}
	}
}
