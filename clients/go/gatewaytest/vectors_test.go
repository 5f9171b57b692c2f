package gatewaytest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"redis-gateway/clients/go/commands"
)

// The calls that the fake has. The cases of others are refused by name.
var methods = strings.Fields(`acquire add-cost admit allow cache-clear-all cache-clear-category cache-clear-tag cache-del cache-fetch
	cache-fetch-meta cache-get cache-get-meta cache-key cache-lease cache-release cache-set cancel commit keep-alive log-len log-peek
	log-push policy-del policy-put policy-set release renew reserve route settle spent tokens within-budget`)

// Of these calls it does not have what the case is about: breakers, credits, windows with an anchor.
var without = map[string]bool{
	"a window's policy": true, "a breaker's policy": true, "a commit of a credit's id": true,
	"admitted, every kind of policy in detail": true,
}

func load(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "spec", "vectors", name))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// anyBytes is a word of a vector: a JSON string, a number, or base64.
type anyBytes string

func (b *anyBytes) UnmarshalJSON(text []byte) error {
	var coded struct{ Base64 []byte }
	if json.Unmarshal(text, &coded) == nil {
		*b = anyBytes(coded.Base64)
	} else if json.Unmarshal(text, (*string)(b)) != nil {
		*b = anyBytes(text)
	}
	return nil
}

// setupCall is one before the recorded one: its words, or a text of them.
type setupCall []any

func (c *setupCall) UnmarshalJSON(text []byte) error {
	var line string
	if json.Unmarshal(text, &line) == nil {
		for _, word := range strings.Fields(line) {
			*c = append(*c, word)
		}
		return nil
	}
	var words []anyBytes
	err := json.Unmarshal(text, &words)
	for _, word := range words {
		*c = append(*c, string(word))
	}
	return err
}

// outer is a test that takes note of what the fake says that it does not have.
type outer struct {
	testing.TB
	missing []string
}

func (o *outer) Errorf(format string, values ...any) {
	o.missing = append(o.missing, fmt.Sprintf(format, values...))
}

// read reads a recorded reply.
func read(t *testing.T, reader *bufio.Reader) any {
	t.Helper()
	line, err := reader.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSpace(line[1:])
	number, _ := strconv.ParseInt(text, 10, 64)
	switch line[0] {
	case ':':
		return number
	case '+':
		return text
	case '*':
		made := []any{}
		for range number {
			made = append(made, read(t, reader))
		}
		return made
	}
	if number < 0 {
		return nil
	}
	made := make([]byte, number+2)
	for at := range made {
		made[at], _ = reader.ReadByte()
	}
	return string(made[:number])
}

// alike: they are equal, but for what is random or follows the clock of the server that was recorded.
func alike(found, wanted any) bool {
	switch want := wanted.(type) {
	case []any:
		all, is := found.([]any)
		same := is && len(all) == len(want)
		for at := 0; same && at < len(want); at++ {
			same = alike(all[at], want[at])
		}
		return same
	case int64:
		number, is := found.(int64)
		return is && (number == want || number > 1_000_000 && want > 1_000_000)
	}
	return found == wanted
}

func TestReplies(t *testing.T) {
	var given struct {
		Cases []struct {
			Name  string
			Setup []setupCall
		}
	}
	load(t, "replies.in.json", &given)
	setups := map[string][]setupCall{}
	for _, one := range given.Cases {
		setups[one.Name] = one.Setup
	}
	var recorded struct {
		Cases []struct {
			Name, Method string
			Request      []anyBytes
			RESP2        struct{ Reply anyBytes }
		}
	}
	load(t, "replies.json", &recorded)
	has := map[string]bool{}
	for _, method := range methods {
		has[method] = true
	}
	count := 0
	for _, one := range recorded.Cases {
		if one.Method == "stats" {
			continue
		}
		t.Run(one.Name, func(t *testing.T) {
			around := &outer{TB: t}
			fake := New(around)
			client := fake.Client()
			if has[one.Method] {
				count++
				for _, words := range setups[one.Name] {
					if words[0] == "BLPOP" { // A pause.
						fake.Advance(50 * time.Millisecond)
					} else if err := client.Do(t.Context(), words...).Err(); err != nil && err != redis.Nil && !without[one.Name] {
						t.Fatalf("%v: %v", words, err)
					}
				}
			}
			var words []any
			for _, word := range one.Request {
				words = append(words, string(word))
			}
			if one.Name == "a fill lease is given up" {
				words[2] = fake.fills.last
			}
			reply, err := client.Do(t.Context(), words...).Result()
			if without[one.Name] || !has[one.Method] {
				if len(around.missing) == 0 || !strings.Contains(around.missing[0], "the fake has no") {
					t.Errorf("%v, %v, %v", reply, err, around.missing)
				}
				return
			}
			if err != nil && err != redis.Nil {
				t.Fatal(err)
			}
			if want := read(t, bufio.NewReader(strings.NewReader(string(one.RESP2.Reply)))); !alike(reply, want) {
				t.Errorf("replied %v\nwant    %v", reply, want)
			}
			if len(around.missing) > 0 {
				t.Error(around.missing)
			}
		})
	}
	if count < 60 {
		t.Errorf("%d cases", count)
	}
}

func TestAmounts(t *testing.T) {
	var vectors struct {
		Texts []struct{ Given, Value, Error string }
	}
	load(t, "amounts.json", &vectors)
	client := New(t).Client()
	for _, one := range vectors.Texts {
		words := []any{"GW.ADDCOST", "ledger:" + one.Given, one.Given}
		if strings.HasPrefix(one.Given, "-") {
			words = append(words, "REFUND")
		}
		reply, err := client.Do(t.Context(), words...).Result()
		if one.Error != "" {
			if err == nil || err.Error() != "ERR "+one.Error+": amount" {
				t.Errorf("%.40s: %v, %v", one.Given, reply, err)
			}
		} else if err != nil || reply != one.Value {
			t.Errorf("%.40s: %v, %v, want %s", one.Given, reply, err, one.Value)
		}
	}
}

func TestErrors(t *testing.T) {
	fake := New(t)
	client := fake.Client()
	for _, line := range []string{"GW.POLICYSET a rpm WINDOW 1 PER 60000", "GW.ADMIT a LEASE 1 TTL 1"} {
		if err := client.Do(t.Context(), wordsOf(line)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	fake.Advance(time.Millisecond)
	for line, want := range map[string]string{
		"GW.ADMIT a LEASE 1 TTL 1":                 "LEASEENDED lease has ended: 1",
		"GW.ADMIT b LEASE 1 TTL 1 REQUIRE":         "NOACCOUNT no such account: b",
		"GW.ROUTE b LEASE 1 TTL 1":                 "NOACCOUNT no such account: b",
		"GW.COMMIT l h 1":                          "NOHOLD no such hold: it was never made, or is forgotten",
		"GW.LOGPUSH q MAXLEN 1 REJECT RECORDS a b": "QUEUEFULL the queue is full: nothing was stored",
		"GW.ALLOW a 1":                             "WRONGTYPE Operation against a key holding the wrong kind of value",
		"GW.ALLOW k -1":                            "ERR not an integer from 0 to 9007199254740992: limit",
		"GW.LOGPUSH q JSON RECORDS {":              "ERR not valid JSON: record 0 at byte 0",
	} {
		_, err := commands.ReplyOf(client.Do(t.Context(), wordsOf(line)...))
		var refused *commands.ReplyError
		if !errors.As(err, &refused) || err.Error() != want {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func wordsOf(line string) (made []any) {
	for _, word := range strings.Fields(line) {
		made = append(made, word)
	}
	return made
}
