package gateway

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	slots = 16_384
	// How long a cluster's map may be wrong: it is asked for anew after a redirection or a failure, but not more often.
	refreshEvery = 500 * time.Millisecond
)

// cluster knows the nodes of a cluster, and which of them has which slots. go-redis's own cluster client sends a call again when its
// time is up, also one that must not be.
type cluster struct {
	settings *Settings
	options  *redis.ClusterOptions

	// circuit opens if no node tells which node has which slots while that is not known.
	circuit *circuit

	// For so long nothing is asked of a node that has left before its connections are closed.
	left time.Duration

	mutex     sync.Mutex
	byAddress map[string]*server
	bySlot    [slots]*server
	known     bool     // The slots are.
	seeds     []string // Where to begin. Those that answer, but do not tell, are first: they say what is wrong, or where a key is.
	askedAt   time.Time
	asking    chan struct{} // Closed when the nodes that are being asked have answered, or have not; nil if none is asked.
	silent    bool          // Then none of them answered.
	pruneAt   time.Time     // Zero: not at all.
	closed    bool
}

func newCluster(client *redis.ClusterClient, settings *Settings) (*cluster, error) {
	options := client.Options()
	if len(options.Addrs) == 0 && options.ClusterSlots == nil {
		return nil, errors.New("the cluster's client has neither addresses nor ClusterSlots")
	}
	return &cluster{
		settings: settings, options: options, circuit: newCircuit("the cluster", settings), left: time.Minute,
		byAddress: map[string]*server{}, seeds: slices.Clone(options.Addrs),
	}, nil
}

// server is the one at an address.
func (c *cluster) server(address string) *server {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	found := c.byAddress[address]
	if found == nil {
		found = newServer(address, address, c.nodeOptions(address), c.settings)
		c.byAddress[address] = found
		if c.closed {
			found.close()
		}
	}
	found.used()
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

// primaries are the nodes that have slots now. Calls without a key are not redirected, so no reply tells that there are others by now.
func (c *cluster) primaries(ctx context.Context) ([]*server, error) {
	if err := c.know(ctx); err != nil {
		return nil, err
	}
	c.refreshLater()
	c.mutex.Lock()
	asking := c.asking
	c.mutex.Unlock()
	if asking != nil {
		timer := time.NewTimer(c.settings.ConnectTimeout + c.settings.Timeout)
		defer timer.Stop()
		select {
		case <-asking:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	c.mutex.Lock()
	found := slices.Collect(maps.Keys(c.primarySet()))
	c.mutex.Unlock()
	if len(found) == 0 {
		one, err := c.seed() // It says what is wrong.
		return []*server{one}, err
	}
	return found, nil
}

// primarySet is called with the mutex.
func (c *cluster) primarySet() map[*server]bool {
	found := map[*server]bool{}
	for _, one := range c.bySlot {
		if one != nil {
			found[one] = true
		}
	}
	return found
}

// of is the server of a call.
func (c *cluster) of(one call) (*server, error) {
	slot := rand.IntN(slots)
	if key, is := keyOf(one); is {
		slot = slotOf(key)
	}
	if found := c.has(slot); found != nil {
		return found, nil
	}
	return c.seed()
}

// has is the server that has a slot; nil if that is not known.
func (c *cluster) has(slot int) *server {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.bySlot[slot]
}

func (c *cluster) seed() (*server, error) {
	c.mutex.Lock()
	seeds := c.seeds
	c.mutex.Unlock()
	if len(seeds) == 0 {
		return nil, &UnavailableError{Reason: "connection", Down: true}
	}
	return c.server(seeds[0]), nil
}

// know returns an UnavailableError if no node has told in time which node has which slots. Nodes are asked once for all who wait for
// that, in the background.
func (c *cluster) know(ctx context.Context) error {
	c.mutex.Lock()
	if !c.pruneAt.IsZero() && !time.Now().Before(c.pruneAt) {
		c.pruneAt = time.Time{}
		go c.prune()
	}
	if c.known {
		c.mutex.Unlock()
		return nil
	}
	asking, longest := c.asking, c.settings.ConnectTimeout+c.settings.Timeout
	switch {
	case asking == nil && c.circuit.mayAsk():
		asking = c.ask()
	case c.circuit.isOpen():
		longest = c.settings.Timeout // Another call tries.
	}
	c.mutex.Unlock()
	if asking == nil {
		return &UnavailableError{Reason: "circuit_open", Down: true}
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-asking:
	case <-timer.C:
		return &UnavailableError{Reason: "timeout", Down: true}
	case <-ctx.Done():
		return &UnavailableError{Reason: "timeout", Down: true}
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.silent {
		return &UnavailableError{Reason: "connection", Down: true}
	}
	return nil
}

func (c *cluster) refreshLater() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.asking == nil && !c.closed && time.Since(c.askedAt) > refreshEvery {
		c.ask()
	}
}

// ask has the nodes asked. It is called with the mutex.
func (c *cluster) ask() chan struct{} {
	c.asking, c.askedAt = make(chan struct{}), time.Now()
	go c.refresh(c.asking)
	return c.asking
}

func (c *cluster) refresh(asking chan struct{}) {
	answers := c.askForSlots()
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.silent = !answers
	switch {
	case answers:
		c.circuit.succeeded()
	case !c.known:
		c.circuit.failed("connection")
	}
	primaries := c.primarySet()
	for _, one := range c.byAddress {
		if !primaries[one] && c.pruneAt.IsZero() {
			c.pruneAt = time.Now().Add(c.left)
		}
	}
	c.asking = nil
	close(asking)
}

// askForSlots asks one node after another which node has which slots, until one tells. It tells whether any of them answers.
func (c *cluster) askForSlots() bool {
	if c.options.ClusterSlots != nil {
		return c.askApplication()
	}
	c.mutex.Lock()
	addresses := slices.Clone(c.options.Addrs)
	for one := range c.primarySet() {
		addresses = append(addresses, one.address)
	}
	c.mutex.Unlock()
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	rand.Shuffle(len(addresses), func(a, b int) { addresses[a], addresses[b] = addresses[b], addresses[a] })
	var refusing []string
	for _, address := range addresses {
		answers, err := c.server(address).ask(context.Background(), []call{{[]any{"CLUSTER", "SLOTS"}, true}}, false)
		if err == nil {
			err = answers[0].err
		}
		if err == nil && c.learn(answers[0].reply, address) {
			return true
		}
		if unavailable(err) == nil && awayReply(err) == nil {
			refusing = append(refusing, address)
		}
	}
	c.mutex.Lock()
	c.seeds = append(refusing, c.options.Addrs...)
	c.mutex.Unlock()
	return len(refusing) > 0
}

// askApplication: its client was told by a function of its own which node has which slots, as NewFailoverClusterClient's is.
func (c *cluster) askApplication() bool {
	ctx, cancel := context.WithTimeout(context.Background(), c.settings.ConnectTimeout+c.settings.Timeout)
	defer cancel()
	ranges, err := c.options.ClusterSlots(ctx)
	var found [slots]*server
	for _, one := range ranges {
		if len(one.Nodes) > 0 && one.Start >= 0 && one.End < slots {
			c.fill(&found, one.Start, one.End, one.Nodes[0].Addr)
		}
	}
	return err == nil && c.set(&found)
}

func (c *cluster) fill(found *[slots]*server, first, last int, address string) {
	server := c.server(address)
	for slot := first; slot <= last; slot++ {
		found[slot] = server
	}
}

// set tells whether there is any slot.
func (c *cluster) set(found *[slots]*server) bool {
	if *found == ([slots]*server{}) {
		return false
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.bySlot, c.known = *found, true
	return true
}

// prune closes the connections to nodes that have left, once nothing was asked of them for longer than any call takes.
func (c *cluster) prune() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	now := time.Now()
	primaries := c.primarySet()
	for address, one := range c.byAddress {
		switch {
		case primaries[one]:
		case now.Sub(one.usedAt()) > max(c.left, 2*c.settings.WaitingTimeout):
			delete(c.byAddress, address)
			one.close()
		default:
			c.pruneAt = now.Add(c.left)
		}
	}
}

func (c *cluster) close() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.closed = true
	for _, one := range c.byAddress {
		one.close()
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
		first, isFirst := parts[0].(int64)
		last, isLast := parts[1].(int64)
		node, _ := parts[2].([]any)
		if len(node) < 2 || !isFirst || !isLast || first < 0 || last >= slots {
			return false
		}
		host, _ := node[0].(string)
		port, _ := node[1].(int64)
		c.fill(&found, int(first), int(last), near(host, strconv.FormatInt(port, 10), asked))
	}
	return c.set(&found)
}

// near: a node that does not know its own address sends none, or `?`. It is where it was asked.
func near(host, port, asked string) string {
	if host == "" || host == "?" {
		host, _, _ = net.SplitHostPort(asked)
	}
	return net.JoinHostPort(host, port)
}
