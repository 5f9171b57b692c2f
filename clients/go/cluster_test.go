package gateway

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/internal/servers"
)

// asked waits until no node is asked for the slots, and each was so often.
func asked(t *testing.T, gw *Gateway, nodes []*proxy, want string) {
	t.Helper()
	own := gw.core.cluster
	servers.Eventually(t, "they are asked so often: "+want, func() bool {
		var counts []int64
		for _, node := range nodes {
			counts = append(counts, node.accepted.Load())
		}
		own.mutex.Lock()
		defer own.mutex.Unlock()
		return own.asking == nil && fmt.Sprint(counts) == want
	})
}

func TestAColdStartWithDeadNodesCostsNoMoreThanAnotherCall(t *testing.T) {
	nodes := servers.Cluster(t, 3)
	var proxies []*proxy
	var addresses []string
	for _, node := range nodes {
		node.Freeze()
		proxies = append(proxies, proxyTo(t, node.Address()))
		addresses = append(addresses, proxies[len(proxies)-1].address())
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addresses})
	t.Cleanup(func() { client.Close() })
	gw := gatewayOf(t, client, &Settings{
		Away: open, Timeout: 200 * time.Millisecond, ConnectTimeout: 200 * time.Millisecond, Failures: 2, Pause: time.Hour,
	})
	began := time.Now()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			decision, err := gw.Allow(background, "k", 1, nil)
			if err != nil || decision.Outcome != Degraded {
				t.Errorf("%+v, %v", decision, err)
			}
		})
	}
	group.Wait()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("they took %v", took)
	}
	// Each node was asked once, for all.
	asked(t, gw, proxies, "[1 1 1]")
	must(gw.Allow(background, "k", 1, nil))(t)
	asked(t, gw, proxies, "[2 2 2]")
	equal(t, must(gw.Allow(background, "k", 1, nil))(t).Reason, "circuit_open")
	asked(t, gw, proxies, "[2 2 2]")
	for _, node := range nodes {
		node.Thaw()
	}
	servers.Eventually(t, "the nodes are asked again", func() bool {
		// The pauses are over.
		for _, one := range append([]*circuit{gw.core.cluster.circuit}, circuitsOf(gw)...) {
			one.mutex.Lock()
			one.retryAt = time.Time{}
			one.mutex.Unlock()
		}
		return must(gw.Allow(background, "k", 1000, nil))(t).Outcome == Admitted
	})
}

func circuitsOf(gw *Gateway) (found []*circuit) {
	for _, one := range gw.core.servers() {
		found = append(found, one.circuit)
	}
	return found
}

// TestAClusterOfWhichNoNodeAnswers is not healthy, and has not cleared anything.
func TestAClusterOfWhichNoNodeAnswers(t *testing.T) {
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{fmt.Sprintf("127.0.0.1:%d", servers.FreePort(t))}})
	t.Cleanup(func() { client.Close() })
	gw := gatewayOf(t, client, patient())
	health := gw.Health(background)
	equal(t, fmt.Sprint(health.OK, " ", health.Reason), "false connection")
	if _, err := NewCache[int](gw, "chat", nil).Clear(background); unavailable(err) == nil {
		t.Errorf("%v", err)
	}
	if _, err := New(redis.NewClusterClient(&redis.ClusterOptions{}), nil); err == nil {
		t.Error("a cluster without addresses was taken")
	}
}

// TestAClusterThatTheApplicationKnows: its client asks no node which node has which slots.
func TestAClusterThatTheApplicationKnows(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	client := redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
		return []redis.ClusterSlot{{Start: 0, End: 16_383, Nodes: []redis.ClusterNode{{Addr: server.Address()}}}}, nil
	}})
	t.Cleanup(func() { client.Close() })
	gw := gatewayOf(t, client, patient())
	equal(t, must(gw.Allow(background, "k", 1, nil))(t).Outcome, Admitted)
	equal(t, gw.Health(background).OK, true)
}

func TestNodesThatHaveLeftAreForgotten(t *testing.T) {
	_, client := clusterOf(t)
	settings := patient()
	settings.WaitingTimeout = time.Second
	gw := gatewayOf(t, client, settings)
	own := gw.core.cluster
	own.left = 0
	must(gw.Allow(background, "k", 5, nil))(t)
	left, used := own.server("127.0.0.1:1"), own.server("127.0.0.1:2")
	left.lastUsed.Store(0)
	servers.Eventually(t, "the nodes are asked again", func() bool {
		own.refreshLater()
		own.mutex.Lock()
		defer own.mutex.Unlock()
		return !own.pruneAt.IsZero()
	})
	servers.Eventually(t, "it is forgotten", func() bool {
		equal(t, must(gw.Allow(background, "k", 1000, nil))(t).Outcome, Admitted)
		return !slices.Contains(own.servers(), left)
	})
	// It may be used yet.
	used.used()
	own.prune()
	equal(t, slices.Contains(own.servers(), used), true)
	equal(t, left.closed, true)
}

func whatIsKeptForASilentNode(t *testing.T, nodes []*servers.Server, client *redis.ClusterClient) {
	settings := patient()
	settings.Timeout, settings.Kept.Every = time.Second, time.Hour
	gw := gatewayOf(t, client, settings)
	own := gw.core
	ok(t, own.background.cluster.know(background))
	silent := own.background.cluster.server(nodes[0].Address())
	var charges [2][]*delivery
	for at := range 600 {
		d := &delivery{id: newID(), words: []string{"GW.ADDCOST", fmt.Sprintf("k:%d", at), "1", "ID", "1"}}
		which := 1
		if own.background.nodeOf(d.call()) == silent {
			which = 0
		}
		charges[which] = append(charges[which], d)
	}
	// More than a batch of those for the silent node comes first.
	for _, d := range append(slices.Clone(charges[0]), charges[1]...) {
		equal(t, own.kept.add(d), true)
	}
	count := len(charges[0])
	equal(t, batchCalls < count && count < 300, true)
	nodes[0].Freeze()
	sent := gw.SendKept(background)
	nodes[0].Thaw()
	equal(t, sent, 600-count)
	equal(t, gw.SendKept(background), count)
}
