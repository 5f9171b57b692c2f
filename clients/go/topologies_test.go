package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
	"redis-gateway/clients/go/internal/servers"
)

// allParts makes a call of each part, with keys and values of any bytes.
func allParts(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	gw := gatewayOf(t, client, patient())
	key := "\xff{a}\x00"
	policies(t, gw, key, rpm("2"))
	admission := admitted(t, gw, []string{key, "{a}"}, Amounts{"tokens": "1", "usd": "0.1"}, nil)
	equal(t, admission.Rows()[0].Account, key)
	equal(t, admission.Headers(nil)["x-ratelimit-limit-requests"], "2")
	equal(t, must(admission.Settle(background))(t), Settled)
	raw := NewCache(gw, "chat", &CacheOptions[[]byte]{
		Encode: func(value []byte) ([]byte, error) { return value, nil },
		Decode: func(text []byte) ([]byte, error) { return text, nil },
	})
	for range 2 {
		compute := func(context.Context) ([]byte, error) { return []byte("\xff\x00value"), nil }
		equal(t, string(must(raw.GetOrCompute(background, map[string]int{"a": 1}, compute, nil))(t)), "\xff\x00value")
	}
	equal(t, len(must(raw.Figures(background))(t)) >= 1, true)
	lock := must(gw.Lock(background, "l", &SlotOptions{Wait: time.Second}))(t)
	equal(t, lock.OK(), true)
	ok(t, lock.Close())
	logs := gw.Logs("log", &LogOptions{AnyBytes: true})
	ok(t, logs.Push([]byte("\xff\x00")))
	equal(t, logs.Flush(background), true)
	equal(t, string(must(gw.Commands.LogPeek(background, "log", nil))(t)[0]), "\xff\x00")
	equal(t, must(gw.Allow(background, "k", 1, nil))(t).OK(), true)
	equal(t, spentOf(t, gw, key), "0.1")
	equal(t, accountOf(t, gw, key).InFlight, 0)
	if health := gw.Health(background); !health.OK {
		t.Errorf("%+v", health)
	}
	_, waits := gw.Commands.LogLease(background, "empty", 1000, &commands.LogLeaseOptions{BlockMs: commands.Int(10)})
	ok(t, waits)
}

func TestProtocols(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", protocol), func(t *testing.T) {
			server.Run("FLUSHALL")
			client := redis.NewClient(&redis.Options{Addr: server.Address(), Protocol: protocol})
			defer client.Close()
			allParts(t, client)
		})
	}
}

func TestTheClientsSettingsAreLeftAlone(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	client := server.Client()
	before := *client.Options()
	dialer := reflect.ValueOf(before.Dialer).Pointer()
	allParts(t, client)
	after := *client.Options()
	equal(t, reflect.ValueOf(after.Dialer).Pointer(), dialer)
	equal(t, fmt.Sprint(after.ReadTimeout, after.MaxRetries, after.PoolSize), fmt.Sprint(before.ReadTimeout, before.MaxRetries, before.PoolSize))
	ok(t, client.Set(background, "other", "ü", 0).Err())
	equal(t, client.Get(background, "other").Val(), "ü")
	if _, err := New(redis.NewRing(&redis.RingOptions{}), nil); err == nil {
		t.Error("a ring was taken")
	}
	for _, wrong := range []Settings{
		{Timeout: -1}, {Instances: -1}, {WaitingTimeout: 1}, {Away: Away{Budgets: ModeLocal}}, {Away: Away{Limits: "x"}},
		{Away: Away{Local: Local{Requests: -1}}},
	} {
		if _, err := New(client, &wrong); err == nil {
			t.Errorf("%+v was taken", wrong)
		}
	}
}

func TestUsers(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Run("ACL SETUSER gw on >secret ~a* +gw.allow +gw.policyset")
	client := redis.NewClient(&redis.Options{Addr: server.Address(), Username: "gw", Password: "secret"})
	defer client.Close()
	gw := gatewayOf(t, client, patient())
	equal(t, must(gw.Allow(background, "a", 1, nil))(t).OK(), true)
	var right *commands.NoPermissionError
	if _, err := gw.Allow(background, "b", 1, nil); !errors.As(err, &right) {
		t.Errorf("%v", err)
	}
	wrong := redis.NewClient(&redis.Options{Addr: server.Address(), Username: "gw", Password: "wrong"})
	defer wrong.Close()
	var login *commands.NotAuthenticatedError
	if _, err := gatewayOf(t, wrong, patient()).Allow(background, "a", 1, nil); !errors.As(err, &login) {
		t.Errorf("%v", err)
	}
	equal(t, gw.Health(background).OK, true) // It may not ask for figures, but the server answers.
}

// TestTheShippedRole: all parts work for a user with the gateway's role in redis.conf.
func TestTheShippedRole(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	text := string(must(os.ReadFile("../../redis.conf"))(t))
	_, line, found := strings.Cut(text, "#user gateway ")
	if !found {
		t.Fatal("redis.conf has no role of the gateway")
	}
	line, _, _ = strings.Cut(line, "\n")
	server.Run("ACL SETUSER gateway " + strings.ReplaceAll(line, "CHANGE-ME", "secret"))
	server.Run("GW.POLICYSET {ml} rpm WINDOW 5 PER 60000")
	client := redis.NewClient(&redis.Options{Addr: server.Address(), Username: "gateway", Password: "secret"})
	defer client.Close()
	gw := gatewayOf(t, client, patient())
	equal(t, gw.Health(background).OK, true)
	request := must(gw.Request(background, []string{"{ml}"}, []string{"{gpt}:eu"}, Amounts{"usd": "1"}, nil))(t)
	equal(t, request.OK(), true)
	ok(t, request.Close())
	equal(t, must(gw.Allow(background, "rpm:user", 1, nil))(t).Outcome, Admitted)
	cache := cacheOf(gw, nil)
	equal(t, must(cache.GetOrCompute(background, question, (&counting{}).compute, nil))(t), "answer 1")
	_, is, err := cache.Get(background, question)
	equal(t, fmt.Sprint(is, err), "true <nil>")
	slot := must(gw.Slot(background, "inflight:a", 2, &SlotOptions{Wait: time.Second}))(t)
	equal(t, slot.OK(), true)
	ok(t, slot.Close())
	hold := must(gw.Budgets.Reserve(background, "spend:a", "1", tenDollars, 0))(t)
	equal(t, hold.OK(), true)
	ok(t, hold.Close())
	logs := gw.Logs("log:requests", nil)
	ok(t, logs.Push("{}"))
	equal(t, logs.Flush(background), true)
	equal(t, logs.Dropped(), 0)
}

func TestHealth(t *testing.T) {
	settings := patient()
	settings.Failures = 1
	server, gw := started(t, settings)
	health := gw.Health(background)
	if !health.OK || health.Took <= 0 || health.CircuitsOpen != 0 {
		t.Errorf("%+v", health)
	}
	ended, cancel := context.WithCancel(background)
	cancel()
	equal(t, gw.Health(ended).Reason, "cancelled")
	ok(t, gw.Logs("log", &LogOptions{Every: time.Hour}).Push("{}"))
	equal(t, gw.Health(background).LogRecords, 1)
	server.Stop()
	must(gw.Budgets.Charge(background, "l", "1", nil))(t)
	health = gw.Health(background)
	equal(t, fmt.Sprint(health.OK, health.Kept, health.CircuitsOpen), "false 1 1")
	without := servers.Start(t, servers.Options{WithoutModule: true})
	equal(t, gatewayOf(t, without.Client(), patient()).Health(background).Reason, "ModuleMissingError")
}

// certificate writes one for this machine, and returns who trusts it.
func certificate(t *testing.T, directory string) *x509.CertPool {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	made := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)
	for name, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: made}, "key": {Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(t)},
	} {
		ok(t, os.WriteFile(filepath.Join(directory, name), pem.EncodeToMemory(block), 0o600))
	}
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(made))(t))
	return pool
}

// tlsServer is one that wants a certificate of its clients, with such a client.
func tlsServer(t *testing.T) (*servers.Server, *redis.Client) {
	t.Helper()
	directory, port := t.TempDir(), servers.FreePort(t)
	pool := certificate(t, directory)
	cert, key := filepath.Join(directory, "cert"), filepath.Join(directory, "key")
	server := servers.Start(t, servers.Options{Optional: true, Arguments: []string{
		"--tls-port", strconv.Itoa(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert,
		"--tls-auth-clients", "yes",
	}})
	own := must(tls.LoadX509KeyPair(cert, key))(t)
	client := redis.NewClient(&redis.Options{
		Addr: fmt.Sprintf("localhost:%d", port), TLSConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}},
	})
	t.Cleanup(func() { client.Close() })
	return server, client
}

func TestTLS(t *testing.T) {
	_, client := tlsServer(t)
	allParts(t, client)
	trusting := &tls.Config{RootCAs: client.Options().TLSConfig.RootCAs}
	without := redis.NewClient(&redis.Options{Addr: client.Options().Addr, TLSConfig: trusting})
	defer without.Close()
	gw := gatewayOf(t, without, &Settings{Timeout: 5 * time.Second, ConnectTimeout: 5 * time.Second})
	if health := gw.Health(background); health.OK || health.Reason != "connection" {
		t.Errorf("%+v", health)
	}
}

// TestConnectionsThatWereClosedUnderTLSAreLeft: after a restart each call would fail that finds one of them in the pool.
func TestConnectionsThatWereClosedUnderTLSAreLeft(t *testing.T) {
	server, client := tlsServer(t)
	gw := gatewayOf(t, client, patient())
	connections := func() int { return int(gw.core.alone.now.PoolStats().IdleConns) }
	for connections() < 5 {
		server.Freeze()
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() { gw.Allow(background, "k", 1_000, nil) })
		}
		time.Sleep(10 * time.Millisecond)
		server.Thaw()
		group.Wait()
	}
	server.Run("CLIENT KILL TYPE normal SKIPME yes")
	equal(t, gw.Health(background).OK, true)
	equal(t, must(gw.Allow(background, "k", 1_000, nil))(t).Outcome, Admitted)
}

// TestTLSUnderLoad: connections are killed meanwhile, in the middle of whatever they do. Nothing is doubled, lost or held.
func TestTLSUnderLoad(t *testing.T) {
	server, client := tlsServer(t)
	gw := gatewayOf(t, client, &Settings{
		Away: open, Kept: Kept{Every: 100 * time.Millisecond}, Timeout: 10 * time.Second, ConnectTimeout: 10 * time.Second, Failures: 1_000,
	})
	for _, policy := range []string{"month BUDGET 1000000 MONTH", "all WINDOW 1000000 PER 3600000", "parallel INFLIGHT 1000"} {
		server.Run("GW.POLICYSET {a} " + policy)
	}
	const workers, rounds = 10, 30
	var served, admissions atomic.Int64
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for round := range rounds {
				admission, err := gw.Admit(background, []string{"{a}"}, Amounts{"usd": "5"}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				err = errors.Join(admission.Use(Amounts{"usd": "0.01"}), admission.Close())
				_, failed := gw.Budgets.Charge(background, "{a}:extra", "1", &ChargeOptions{ID: fmt.Sprint(worker, ":", round)})
				if err != nil || failed != nil || !admission.OK() {
					t.Error(err, failed, admission.Reason())
				}
				if admission.Outcome() == Admitted {
					admissions.Add(1)
				}
				served.Add(1)
			}
		})
	}
	for kills := int64(15); kills < workers*rounds; kills += 30 {
		servers.Eventually(t, "so many are served", func() bool { return served.Load() >= kills || t.Failed() })
		server.Run("CLIENT KILL TYPE normal SKIPME yes")
	}
	group.Wait()
	servers.Eventually(t, "what is kept has arrived", func() bool { return gw.Kept() == 0 })
	state := accountOf(t, gw, "{a}")
	equal(t, state.InFlight, 0)
	equal(t, len(state.Leases), 0)
	equal(t, spentOf(t, gw, "{a}"), "3")
	equal(t, spentOf(t, gw, "{a}:extra"), fmt.Sprint(workers*rounds))
	// One that was let through without the server may not have been counted.
	if counted, err := strconv.ParseInt(fmt.Sprint(state.Counts["all"]), 10, 64); err != nil || counted < admissions.Load() ||
		counted > workers*rounds {
		t.Error(counted, err, admissions.Load())
	}
}

// Clusters.

func clusterOf(t *testing.T) ([]*servers.Server, *redis.ClusterClient) {
	t.Helper()
	nodes := servers.Cluster(t, 3)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[0].Address()}})
	t.Cleanup(func() { client.Close() })
	return nodes, client
}

func TestCluster(t *testing.T) {
	nodes, client := clusterOf(t)
	allParts(t, client)
	gw := gatewayOf(t, client, patient())
	t.Run("every primary is asked", func(t *testing.T) {
		flush(nodes)
		cache := NewCache[int](gw, "chat", nil)
		for at := range 20 {
			ok(t, cache.Set(background, map[string]int{"n": at}, at, &EntryOptions{Tags: []string{"all"}}))
		}
		total := int64(0)
		for _, node := range nodes {
			size := node.Run("DBSIZE").(int64)
			equal(t, size > 0, true)
			total += size
		}
		equal(t, total, 20)
		equal(t, len(must(cache.Figures(background))(t)), 3)
		equal(t, must(gw.ClearTag(background, "all"))(t), 20)
		var entries []Entry[int]
		var requests []any
		for at := range 20 {
			entries = append(entries, Entry[int]{at, at})
			requests = append(requests, at)
		}
		ok(t, cache.SetMany(background, entries, nil))
		for at, one := range must(cache.GetMany(background, append(requests, 20)))(t) {
			equal(t, one, Cached[int]{at % 20, at < 20})
		}
	})
	t.Run("clears reach every primary", func(t *testing.T) { clearsReachEveryPrimary(t, flush(nodes), client) })
	t.Run("accounts in several slots", func(t *testing.T) { accountsInSeveralSlots(t, flush(nodes), gw) })
	t.Run("targets in several slots", func(t *testing.T) { targetsInSeveralSlots(t, flush(nodes), gw) })
	t.Run("accounts and targets are anywhere", func(t *testing.T) { requestsAnywhere(t, nodes, gw) })
	t.Run("slots that move", func(t *testing.T) { slotsThatMove(t, flush(nodes), gw) })
	t.Run("what is kept for a silent node", func(t *testing.T) { whatIsKeptForASilentNode(t, flush(nodes), client) })
	t.Run("a node that is dead", func(t *testing.T) { aNodeThatIsDead(t, flush(nodes), client) })
}

func flush(nodes []*servers.Server) []*servers.Server {
	for _, node := range nodes {
		node.Run("FLUSHALL")
	}
	return nodes
}

// accountsInSeveralSlots are admitted slot by slot, and undone where one refuses.
func accountsInSeveralSlots(t *testing.T, _ []*servers.Server, gw *Gateway) {
	var accounts []string
	for at := range 6 {
		limit := 5
		if at == 4 {
			limit = 1
		}
		accounts = append(accounts, fmt.Sprintf("account:%d", at))
		policies(t, gw, accounts[at], fmt.Sprintf(`{"policies":[{"name":"rpm","kind":"window","limit":%d,"per_ms":3600000},
			{"name":"parallel","kind":"inflight","max":9},{"name":"month","kind":"budget","amount":"9","period":"month"}]}`, limit))
	}
	admission := admitted(t, gw, accounts, Amounts{"usd": "1"}, nil)
	equal(t, len(admission.Rows()), 18)
	ok(t, admission.Use(Amounts{"usd": "0.5"}))
	ok(t, admission.Close())
	refused := must(gw.Admit(background, accounts, Amounts{"usd": "1"}, nil))(t)
	equal(t, refused.Reason(), ReasonLimit)
	equal(t, refused.Refusals()[0].Account, "account:4")
	for _, account := range accounts {
		state := accountOf(t, gw, account)
		equal(t, fmt.Sprint(state.InFlight, len(state.Leases), state.Counts["rpm"].IntPart()), "0 0 1")
		equal(t, spentOf(t, gw, account), "0.5")
	}
}

func targetsInSeveralSlots(t *testing.T, _ []*servers.Server, gw *Gateway) {
	names := []string{"target:0", "target:1", "target:2", "target:3"}
	for _, name := range names[1:] {
		policies(t, gw, name, `{"policies":[{"name":"f","kind":"inflight","max":1}]}`)
	}
	found := map[string]bool{}
	for range 4 {
		attempt := must(gw.Route(background, names, Amounts{"tokens": "1"}, nil))(t)
		found[attempt.Target()] = true
		defer attempt.Close()
	}
	equal(t, len(found), 4)
	equal(t, found[""] && !found["target:0"], true)
}

// slotsThatMove under load double nothing and lose nothing.
func slotsThatMove(t *testing.T, nodes []*servers.Server, gw *Gateway) {
	var stop atomic.Bool
	var counts [12]atomic.Int64
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for !stop.Load() {
				for key := worker; key < len(counts); key += 4 {
					settlement, err := gw.Budgets.Charge(background, fmt.Sprintf("moving:%d", key), "1", nil)
					if err != nil || settlement != Settled {
						t.Errorf("%s, %v", settlement, err)
					}
					counts[key].Add(1)
				}
			}
		})
	}
	for key := range 6 {
		before := counts[key].Load()
		moveSlot(t, nodes, fmt.Sprintf("moving:%d", key))
		servers.Eventually(t, "it is charged there", func() bool { return counts[key].Load() > before+2 })
	}
	stop.Store(true)
	group.Wait()
	for key := range counts {
		equal(t, spentOf(t, gw, fmt.Sprintf("moving:%d", key)), fmt.Sprint(counts[key].Load()))
	}
}

func moveSlot(t *testing.T, nodes []*servers.Server, key string) {
	t.Helper()
	slot := nodes[0].Run("CLUSTER KEYSLOT " + key).(int64)
	equal(t, int64(slotOf(key)), slot)
	var ids []string
	owner := -1
	for at, node := range nodes {
		ids = append(ids, node.Run("CLUSTER MYID").(string))
		for _, one := range node.Run("CLUSTER SLOTS").([]any) {
			parts := one.([]any)
			if parts[0].(int64) <= slot && slot <= parts[1].(int64) && parts[2].([]any)[2] == ids[at] {
				owner = at
			}
		}
	}
	target := (owner + 1) % len(nodes)
	nodes[target].Run(fmt.Sprintf("CLUSTER SETSLOT %d IMPORTING %s", slot, ids[owner]))
	nodes[owner].Run(fmt.Sprintf("CLUSTER SETSLOT %d MIGRATING %s", slot, ids[target]))
	admin := nodes[owner].Admin()
	defer admin.Close()
	for {
		keys := nodes[owner].Run(fmt.Sprintf("CLUSTER GETKEYSINSLOT %d 100", slot)).([]any)
		if len(keys) == 0 {
			break
		}
		words := append([]any{"MIGRATE", "127.0.0.1", nodes[target].Port, "", 0, 5000, "KEYS"}, keys...)
		ok(t, admin.Do(background, words...).Err())
	}
	for _, at := range []int{target, owner, (owner + 2) % len(nodes)} {
		nodes[at].Run(fmt.Sprintf("CLUSTER SETSLOT %d NODE %s", slot, ids[target]))
	}
}

// aNodeThatIsDead does not hold up the others.
func aNodeThatIsDead(t *testing.T, nodes []*servers.Server, client *redis.ClusterClient) {
	settings := &Settings{Away: open, Timeout: time.Second, ConnectTimeout: 20 * time.Second}
	gw := gatewayOf(t, client, settings)
	ask := func() map[string]Outcome {
		found := map[string]Outcome{}
		for at := range 30 {
			key := fmt.Sprintf("k:%d", at)
			found[key] = must(gw.Allow(background, key, 100, nil))(t).Outcome
		}
		return found
	}
	for _, outcome := range ask() {
		equal(t, outcome, Admitted)
	}
	nodes[0].Freeze()
	defer nodes[0].Thaw()
	outcomes := ask()
	for key, outcome := range outcomes {
		frozen := slotOf(key) < 16_384/3
		equal(t, outcome == Degraded, frozen)
	}
	equal(t, reflect.DeepEqual(ask(), outcomes), true)
}

// Sentinel.

// TestSentinelFailover: the primary dies under load; charges go on, and those made meanwhile arrive once.
func TestSentinelFailover(t *testing.T) {
	primary, replica := servers.Start(t, servers.Options{}), servers.Start(t, servers.Options{})
	replica.Run(fmt.Sprintf("REPLICAOF 127.0.0.1 %d", primary.Port))
	servers.Eventually(t, "the replica is there", func() bool {
		return strings.Contains(fmt.Sprint(replica.Run("INFO replication")), "master_link_status:up")
	})
	sentinel := servers.Start(t, servers.Options{Sentinel: true})
	sentinel.Run(fmt.Sprintf("SENTINEL MONITOR gw 127.0.0.1 %d 1", primary.Port))
	sentinel.Run("SENTINEL SET gw down-after-milliseconds 500")
	sentinel.Run("SENTINEL SET gw failover-timeout 3000")
	servers.Eventually(t, "the sentinel knows the replica", func() bool {
		return strings.Contains(fmt.Sprint(sentinel.Run("SENTINEL MASTER gw")), "num-slaves 1")
	})
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "gw", SentinelAddrs: []string{sentinel.Address()}})
	defer client.Close()
	settings := &Settings{
		Away: open, Kept: Kept{Every: 100 * time.Millisecond}, Timeout: time.Second, ConnectTimeout: time.Second,
		Pause: 200 * time.Millisecond,
	}
	gw := gatewayOf(t, client, settings)
	var stop atomic.Bool
	var charged atomic.Int64
	var group sync.WaitGroup
	group.Go(func() {
		for ; !stop.Load(); time.Sleep(2 * time.Millisecond) {
			if _, err := gw.Budgets.Charge(background, "l", "1", nil); err != nil {
				t.Error(err)
			}
			charged.Add(1)
		}
	})
	servers.Eventually(t, "it is charged", func() bool { return charged.Load() > 50 })
	// What the primary has acknowledged is on the replica before it dies.
	primary.Run("CLIENT PAUSE 60000 WRITE")
	servers.Eventually(t, "the replica has it all", func() bool {
		return primary.Run("GW.SPENT l") == replica.Run("GW.SPENT l")
	})
	primary.Stop()
	servers.Eventually(t, "the replica is the primary", func() bool {
		admin := replica.Admin()
		defer admin.Close()
		return strings.Contains(admin.Info(background, "replication").Val(), "role:master")
	})
	before := charged.Load()
	servers.Eventually(t, "it is charged there", func() bool { return charged.Load() > before+50 && gw.Kept() < 50 })
	stop.Store(true)
	group.Wait()
	servers.Eventually(t, "all is sent", func() bool { return gw.Kept() == 0 })
	equal(t, replica.Run("GW.SPENT l"), any(fmt.Sprint(charged.Load())))
}
