package gateway

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"redis-gateway/clients/go/commands"
)

const redirections = 5

func (t *transport) manyOfCluster(ctx context.Context, calls []call) []answer {
	if err := t.cluster.know(ctx); err != nil {
		return answersOf(err, len(calls))
	}
	answers := make([]answer, len(calls))
	places := map[*server][]int{}
	for at, one := range calls {
		server, err := t.cluster.of(one)
		if answers[at].err = err; err == nil {
			places[server] = append(places[server], at)
		}
	}
	// One that does not answer holds up no other.
	var group sync.WaitGroup
	for server, own := range places {
		work := func() { t.askNode(ctx, server, calls, own, answers) }
		if len(places) == 1 {
			work()
		} else {
			group.Go(work)
		}
	}
	group.Wait()
	return answers
}

// askNode asks one node for the calls at these places.
func (t *transport) askNode(ctx context.Context, server *server, calls []call, places []int, answers []answer) {
	part := make([]call, len(places))
	for at, place := range places {
		part[at] = calls[place]
	}
	found, sent := t.ask(ctx, server, part, false)
	for at, place := range places {
		answers[place] = t.followed(ctx, calls[place], server, found[at], sent, false)
	}
}

func (t *transport) waitInCluster(ctx context.Context, one call) (any, error) {
	if err := t.cluster.know(ctx); err != nil {
		return nil, err
	}
	server, err := t.cluster.of(one)
	if err != nil {
		return nil, err
	}
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
			if server, err := t.cluster.of(one); err == nil {
				asked = server
			}
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
