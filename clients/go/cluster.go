package gateway

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
)

const (
	slots        = 16_384
	redirections = 5
	// How long a cluster's map may be wrong: it is asked for anew after a redirection or a failure, but not more often.
	refreshEvery = 500 * time.Millisecond
)

// cluster knows the nodes of a cluster, and which of them has which slots. go-redis's own cluster client sends a call again when its
// time is up, also one that must not be.
type cluster struct {
	settings *Settings
	options  *redis.ClusterOptions

	mutex      sync.Mutex
	byAddress  map[string]*server
	bySlot     [slots]*server
	known      bool // The slots are.
	askedAt    time.Time
	refreshing bool
}

func newCluster(client *redis.ClusterClient, settings *Settings) *cluster {
	return &cluster{settings: settings, options: client.Options(), byAddress: map[string]*server{}}
}

// server is the one at an address.
func (c *cluster) server(address string) *server {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found := c.byAddress[address]
	if found == nil {
		found = newServer(address, address, c.nodeOptions(address), c.settings)
		c.byAddress[address] = found
	}
	return found
}

// nodeOptions are the application's options of a cluster, for one of its nodes.
func (c *cluster) nodeOptions(address string) *redis.Options {
	from := c.options
	return &redis.Options{
		Addr: address, ClientName: from.ClientName, Dialer: from.Dialer, OnConnect: from.OnConnect, Protocol: from.Protocol,
		Username: from.Username, Password: from.Password, CredentialsProvider: from.CredentialsProvider,
		CredentialsProviderContext: from.CredentialsProviderContext, StreamingCredentialsProvider: from.StreamingCredentialsProvider,
		TLSConfig: from.TLSConfig, PoolFIFO: from.PoolFIFO, ConnMaxIdleTime: from.ConnMaxIdleTime, ConnMaxLifetime: from.ConnMaxLifetime,
		ReadBufferSize: from.ReadBufferSize, WriteBufferSize: from.WriteBufferSize,
	}
}

func (c *cluster) servers() []*server {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found := make([]*server, 0, len(c.byAddress))
	for _, one := range c.byAddress {
		found = append(found, one)
	}
	return found
}

// primaries are the nodes that have slots.
func (c *cluster) primaries(ctx context.Context) []*server {
	c.know(ctx)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var found []*server
	seen := map[*server]bool{}
	for _, one := range c.bySlot {
		if one != nil && !seen[one] {
			seen[one] = true
			found = append(found, one)
		}
	}
	return found
}

// of is the server of a call.
func (c *cluster) of(ctx context.Context, one call) *server {
	c.know(ctx)
	slot := rand.IntN(slots)
	if key, is := keyOf(one); is {
		slot = slotOf(key)
	}
	c.mutex.Lock()
	found := c.bySlot[slot]
	c.mutex.Unlock()
	if found == nil {
		found = c.server(c.options.Addrs[rand.IntN(len(c.options.Addrs))])
	}
	return found
}

// keyOf is the first key of a call.
func keyOf(one call) (string, bool) {
	name, _ := one.words[0].(string)
	info, known := commands.Info(name)
	if len(one.words) < 2 || known && !info.Keyed {
		return "", false
	}
	key, is := one.words[1].(string)
	return key, is
}

func (c *cluster) know(ctx context.Context) {
	c.mutex.Lock()
	known := c.known
	c.mutex.Unlock()
	if !known {
		c.refresh(ctx)
	}
}

func (c *cluster) refreshLater() {
	c.mutex.Lock()
	start := !c.refreshing && time.Since(c.askedAt) > refreshEvery
	c.refreshing = c.refreshing || start
	c.mutex.Unlock()
	if start {
		go c.refresh(context.Background())
	}
}

// refresh asks any node which node has which slots.
func (c *cluster) refresh(ctx context.Context) {
	c.mutex.Lock()
	c.askedAt = time.Now()
	addresses := append([]string(nil), c.options.Addrs...)
	for address := range c.byAddress {
		addresses = append(addresses, address)
	}
	c.mutex.Unlock()
	defer func() {
		c.mutex.Lock()
		c.refreshing = false
		c.mutex.Unlock()
	}()
	rand.Shuffle(len(addresses), func(a, b int) { addresses[a], addresses[b] = addresses[b], addresses[a] })
	for _, address := range addresses {
		answers, err := c.server(address).ask(ctx, []call{{[]any{"CLUSTER", "SLOTS"}, true}}, false)
		if err == nil && answers[0].err == nil && c.learn(answers[0].reply, address) {
			return
		}
	}
}

// learn reads the reply of CLUSTER SLOTS.
func (c *cluster) learn(reply any, asked string) bool {
	ranges, _ := reply.([]any)
	var found [slots]*server
	for _, one := range ranges {
		parts, _ := one.([]any)
		if len(parts) < 3 {
			return false
		}
		first, _ := parts[0].(int64)
		last, _ := parts[1].(int64)
		node, _ := parts[2].([]any)
		if len(node) < 2 || first < 0 || last >= slots {
			return false
		}
		host, _ := node[0].(string)
		port, _ := node[1].(int64)
		server := c.server(near(host, strconv.FormatInt(port, 10), asked))
		for slot := first; slot <= last; slot++ {
			found[slot] = server
		}
	}
	if len(ranges) == 0 {
		return false
	}
	c.mutex.Lock()
	c.bySlot, c.known = found, true
	c.mutex.Unlock()
	return true
}

// near: a node that does not know its own address sends none, or `?`. It is where it was asked.
func near(host, port, asked string) string {
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port)
}

// Calls to a cluster.

func (t *transport) manyOfCluster(ctx context.Context, calls []call) []answer {
	places := map[*server][]int{}
	for at, one := range calls {
		server := t.cluster.of(ctx, one)
		places[server] = append(places[server], at)
	}
	answers := make([]answer, len(calls))
	for server, own := range places {
		part := make([]call, len(own))
		for at, place := range own {
			part[at] = calls[place]
		}
		found, sent := t.ask(ctx, server, part, false)
		for at, place := range own {
			answers[place] = t.followed(ctx, calls[place], server, found[at], sent, false)
		}
	}
	return answers
}

func (t *transport) waitInCluster(ctx context.Context, one call) (any, error) {
	server := t.cluster.of(ctx, one)
	found, sent := t.ask(ctx, server, []call{one}, true)
	answer := t.followed(ctx, one, server, found[0], sent, true)
	return answer.reply, answer.err
}

// followed returns the reply from where the cluster says that the key is. `sent`: an earlier try may have arrived.
func (t *transport) followed(ctx context.Context, one call, asked *server, found answer, sent, waiting bool) answer {
	end := time.Now().Add(t.settings.Timeout)
	for range redirections {
		code := codeOf(found.err)
		calls := []call{one}
		switch code {
		case "MOVED", "ASK":
			asked = t.cluster.redirected(found.err, asked)
			if code == "ASK" {
				calls = []call{{[]any{"ASKING"}, one.repeatable}, one}
			}
		case "TRYAGAIN":
			time.Sleep(5 * time.Millisecond) // The slot is on its way.
			asked = t.cluster.of(ctx, one)
		default:
			return answer{found.reply, after(found.err, sent)}
		}
		answers, arrived := t.ask(ctx, asked, calls, waiting)
		sent = sent || arrived
		found = answers[len(answers)-1]
		if found.err != nil && !waiting && !time.Now().Before(end) {
			break
		}
	}
	return answer{found.reply, after(found.err, sent)}
}

// redirected is the server that MOVED or ASK names.
func (c *cluster) redirected(err error, asked *server) *server {
	code := codeOf(err)
	slot, place, _ := strings.Cut(strings.TrimPrefix(err.Error(), code+" "), " ")
	host, port, splitFailed := net.SplitHostPort(place)
	if splitFailed != nil {
		return asked
	}
	found := c.server(near(host, port, asked.address))
	if number, failed := strconv.Atoi(slot); failed == nil && code == "MOVED" && number >= 0 && number < slots {
		c.mutex.Lock()
		c.bySlot[number] = found
		c.mutex.Unlock()
		c.refreshLater()
	}
	return found
}

// slotOf is the slot of a key: CRC16 (XMODEM) of what is between its first braces, or of all of it.
func slotOf(key string) int {
	if from := strings.IndexByte(key, '{'); from >= 0 {
		if length := strings.IndexByte(key[from+1:], '}'); length > 0 {
			key = key[from+1 : from+1+length]
		}
	}
	sum := uint16(0)
	for at := range len(key) {
		sum ^= uint16(key[at]) << 8
		for range 8 {
			if sum&0x8000 != 0 {
				sum = sum<<1 ^ 0x1021
			} else {
				sum <<= 1
			}
		}
	}
	return int(sum) % slots
}
