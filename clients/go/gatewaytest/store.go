package gatewaytest

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"redis-gateway/clients/go/commands"
)

var one = decimal.NewFromInt(1)

// at is what a key has, of one kind; another kind ends the command.
func at[T any](f *Fake, key string) (found T, has bool) {
	stored, has := f.keys[key]
	if !has {
		return found, false
	}
	found, is := stored.(T)
	if !is {
		panic(refusal("WRONGTYPE Operation against a key holding the wrong kind of value"))
	}
	return found, true
}

var table = map[string]func(*Fake, *words) any{
	"GW.ALLOW": allow, "GW.TOKENS": tokens, "GW.ACQUIRE": acquire, "GW.RENEW": renew, "GW.RELEASE": release,
	"GW.ADDCOST": addCost, "GW.SPENT": spent, "GW.WITHINBUDGET": withinBudget, "GW.RESERVE": reserve, "GW.COMMIT": commit,
	"GW.CANCEL": cancel, "GW.POLICYSET": policySet, "GW.POLICYPUT": policyPut, "GW.POLICYDEL": policyDel, "GW.ADMIT": admit,
	"GW.ROUTE": route, "GW.SETTLE": settle, "GW.KEEPALIVE": keepAlive, "GW.CACHEGET": cacheGet, "GW.CACHEFETCH": cacheFetch,
	"GW.CACHESET": cacheSet, "GW.CACHERELEASE": cacheRelease, "GW.CACHEDEL": cacheDel, "GW.CACHECLEAR": cacheClear,
	"GW.CACHEKEY": cacheKey, "GW.LOGPUSH": logPush, "GW.LOGLEN": logLen, "GW.LOGPEEK": logPeek, "GW.STATS": stats,
}

func stats(f *Fake, _ *words) any { return []any{"calls", int64(len(f.calls))} }

// The cache.

type entry struct {
	value             string
	at, fresh, stale  int64
	freshUntil, until int64
	category          string
	tags              []string
}

func (f *Fake) entryAt(key string) *entry {
	found, has := at[*entry](f, key)
	if has && found.until <= f.now {
		delete(f.keys, key)
		return nil
	}
	return found
}

type fillLease struct {
	token, end int64
	holder     string
}

type cleared struct{ by, name string }

// fillLeases are who computes which key.
type fillLeases struct {
	leases  map[string]fillLease
	last    int64
	cleared map[cleared]int64 // The last token before each clear.
}

func newFillLeases() fillLeases {
	return fillLeases{map[string]fillLease{}, 1_000_000, map[cleared]int64{}}
}

// ask returns the token, 0 if another call has the lease; and how long the lease lasts.
func (l *fillLeases) ask(key string, now, length int64, holder string) (int64, int64) {
	own := l.leases[key]
	if own.end <= now {
		l.last++
		own = fillLease{l.last, now + length, holder}
		l.leases[key] = own
	} else if holder == "" || own.holder != holder {
		return 0, own.end - now
	}
	return own.token, own.end - now
}

func (l *fillLeases) end(key string, token, now int64) bool {
	own := l.leases[key]
	if own.end <= now || own.token != token {
		return false
	}
	delete(l.leases, key)
	return true
}

// mayStore: nothing that the value belongs to was cleared since the token was given.
func (l *fillLeases) mayStore(token int64, category string, tags []string) bool {
	names := []cleared{{"ALL", ""}, {"CATEGORY", category}}
	for _, tag := range tags {
		names = append(names, cleared{"TAG", tag})
	}
	return !slices.ContainsFunc(names, func(one cleared) bool { return l.cleared[one] >= token })
}

func (f *Fake) answer(own *entry) []any {
	if own == nil {
		return []any{"MISS", nil, int64(0), int64(0), int64(0)}
	}
	if f.now < own.freshUntil {
		return []any{"HIT", own.value, f.now - own.at, own.freshUntil - f.now, int64(0)}
	}
	return []any{"STALE", own.value, f.now - own.at, own.until - f.now, int64(0)}
}

func cacheGet(f *Fake, w *words) any {
	own := f.entryAt(w.take("key"))
	if w.peek() == "META" {
		return f.answer(own)
	}
	return f.answer(own)[1]
}

func cacheFetch(f *Fake, w *words) any {
	key, lease, holder, meta, touch := w.take("key"), int64(0), "", false, false
	for w.more() {
		switch option := w.option(); option {
		case "LEASE":
			lease = w.integer(option, 1, 3_600_000)
		case "HOLDER":
			holder = w.name(option, 512)
		case "WAIT":
			w.integer(option, 1, 3_600_000) // It never waits.
		case "CATEGORY":
			w.name(option, 64)
		case "META":
			meta = true
		case "TOUCH":
			touch = true
		default:
			unknownOption(option)
		}
	}
	own := f.entryAt(key)
	if own != nil && touch && f.now < own.freshUntil {
		own.freshUntil = f.now + own.fresh
		own.until = own.freshUntil + own.stale
	}
	made := f.answer(own)
	if lease > 0 && made[0] != "HIT" {
		token, left := f.fills.ask(key, f.now, lease, holder)
		made[4] = token
		if own == nil {
			made[3] = left
			if token == 0 {
				made[0] = "PENDING"
			}
		}
	}
	if meta || lease > 0 {
		return made
	}
	return made[1]
}

func cacheSet(f *Fake, w *words) any {
	key, value := w.take("key"), w.take("value")
	made := &entry{value: value, at: f.now, fresh: 3_600_000, category: "default"}
	if before, _, has := strings.Cut(key, ":"); has && len(before) >= 1 && len(before) <= 64 {
		made.category = before
	}
	token := int64(0)
	for w.more() {
		switch option := w.option(); option {
		case "EX":
			made.fresh = w.integer(option, 1, longest/1000) * 1000
		case "PX":
			made.fresh = w.integer(option, 1, longest)
		case "STALE":
			made.stale = w.integer(option, 0, longest)
		case "CATEGORY":
			made.category = w.name(option, 64)
		case "TAG":
			made.tags = append(made.tags, w.name(option, 256))
		case "SAVED":
			w.amount(option)
		case "TOKEN":
			token = w.integer(option, 1, most)
		default:
			unknownOption(option)
		}
	}
	at[*entry](f, key)
	if token > 0 && !(f.fills.end(key, token, f.now) && f.fills.mayStore(token, made.category, made.tags)) {
		return nil
	}
	delete(f.fills.leases, key)
	made.freshUntil = f.now + made.fresh
	made.until = made.freshUntil + made.stale
	f.keys[key] = made
	return "OK"
}

func cacheRelease(f *Fake, w *words) any {
	key := w.take("key")
	return f.fills.end(key, w.integer("token", 1, most), f.now)
}

func cacheDel(f *Fake, w *words) any {
	return f.clear(slices.DeleteFunc(w.rest(), func(key string) bool { return f.entryAt(key) == nil }))
}

func cacheClear(f *Fake, w *words) any {
	by, name := w.option(), ""
	if w.more() {
		name = w.take("name")
	}
	if by != "TAG" && by != "CATEGORY" && by != "ALL" {
		panic(notInFake("GW.CACHECLEAR " + by))
	}
	var found []string
	for key, stored := range maps.Clone(f.keys) {
		if _, is := stored.(*entry); !is {
			continue
		}
		own := f.entryAt(key)
		if own != nil && (by == "ALL" || by == "TAG" && slices.Contains(own.tags, name) || by == "CATEGORY" && own.category == name) {
			found = append(found, key)
		}
	}
	f.fills.cleared[cleared{by, name}] = f.fills.last
	return f.clear(found)
}

func (f *Fake) clear(keys []string) int64 {
	for _, key := range keys {
		delete(f.keys, key)
		delete(f.fills.leases, key)
	}
	return int64(len(keys))
}

func cacheKey(_ *Fake, w *words) any {
	category, tenant, has := strings.Cut(w.take("prefix"), ":")
	options := &commands.KeyOptions{}
	if has {
		options.Tenant = &tenant
	}
	text := w.take("json")
	if w.more() {
		w.option()
		options.Ignore = w.rest()
	}
	made, err := commands.CacheKey(category, json.RawMessage(text), options)
	if err != nil {
		refuse("not valid JSON: at byte 0")
	}
	return made
}

// Log queues.

type queue struct {
	records []string
	ids     map[string]bool
}

func logPush(f *Fake, w *words) any {
	key, count, bytes, reject, asJSON, id := w.take("key"), int64(1_000_000), int64(64<<20), false, false, ""
options:
	for {
		switch option := w.peek(); option {
		case "MAXLEN":
			w.option()
			count = w.integer(option, 1, 1<<62)
		case "MAXBYTES":
			w.option()
			bytes = w.integer(option, 1, 1<<62)
		case "ID":
			w.option()
			id = w.name(option, 512)
		case "REJECT":
			w.option()
			reject = true
		case "JSON":
			w.option()
			asJSON = true
		default:
			break options
		}
	}
	if w.peek() == "RECORDS" {
		w.option()
	}
	records := w.rest()
	if len(records) == 0 {
		refuse("missing value: record")
	}
	for at, record := range records {
		if asJSON && !json.Valid([]byte(record)) {
			refuse("not valid JSON: record %d at byte 0", at)
		}
	}
	own, has := at[*queue](f, key)
	if !has {
		own = &queue{ids: map[string]bool{}}
	}
	if own.ids[id] {
		return []any{int64(len(own.records)), int64(0)}
	}
	all := slices.Concat(own.records, records)
	size := int64(0)
	for _, record := range all {
		size += int64(len(record))
	}
	dropped := int64(0)
	for ; int64(len(all)) > count || size > bytes; dropped++ {
		if reject {
			panic(refusal("QUEUEFULL the queue is full: nothing was stored"))
		}
		size -= int64(len(all[0]))
		all = all[1:]
	}
	own.records = all
	if id != "" {
		own.ids[id] = true
	}
	f.keys[key] = own
	return []any{int64(len(own.records)), dropped}
}

func logLen(f *Fake, w *words) any {
	own, has := at[*queue](f, w.take("key"))
	if !has {
		return int64(0)
	}
	return int64(len(own.records))
}

func logPeek(f *Fake, w *words) any {
	own, has := at[*queue](f, w.take("key"))
	count, bytes := int64(10), int64(1<<62)
	for w.more() {
		switch option := w.option(); option {
		case "COUNT":
			count = w.integer(option, 1, 10_000)
		case "MAXBYTES":
			bytes = w.integer(option, 1, 1<<62)
		default:
			unknownOption(option)
		}
	}
	made := []any{}
	if !has {
		return made
	}
	for _, record := range own.records {
		if bytes -= int64(len(record)); int64(len(made)) == count || bytes < 0 {
			break
		}
		made = append(made, record)
	}
	return made
}
