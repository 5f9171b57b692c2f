package gatewaytest

import (
	"slices"

	"github.com/shopspring/decimal"
)

// window is exact, in whole milliseconds: what was taken at t counts up to and including t + length - 1.
type window struct{ taken []taken }

type taken struct {
	at    int64
	units decimal.Decimal
}

func (w *window) used() decimal.Decimal {
	sum := decimal.Zero
	for _, one := range w.taken {
		sum = sum.Add(one.units)
	}
	return sum
}

func (w *window) began(otherwise int64) int64 {
	for at, one := range w.taken {
		if at == 0 || one.at < otherwise {
			otherwise = one.at
		}
	}
	return otherwise
}

// ask tells whether it is allowed, and in how many milliseconds it would be.
func (w *window) ask(now int64, limit decimal.Decimal, length int64, cost decimal.Decimal, fixed bool) (bool, int64) {
	if fixed && len(w.taken) > 0 {
		if now >= w.began(now)+length {
			w.taken = nil
		}
	} else {
		w.taken = slices.DeleteFunc(w.taken, func(one taken) bool { return now >= one.at+length })
	}
	used := w.used()
	if used.Add(cost).LessThanOrEqual(limit) {
		return true, 0
	}
	if cost.GreaterThan(limit) {
		return false, -1
	}
	ordered := slices.Clone(w.taken)
	slices.SortFunc(ordered, func(a, b taken) int { return int(a.at - b.at) })
	for _, one := range ordered {
		if used = used.Sub(one.units); used.Add(cost).LessThanOrEqual(limit) {
			return false, one.at + length - now
		}
	}
	return false, -1
}

func (w *window) take(now int64, cost decimal.Decimal, fixed bool) {
	if cost.IsZero() {
		return
	}
	if fixed {
		now = w.began(now)
	}
	for at := range w.taken {
		if w.taken[at].at == now {
			w.taken[at].units = w.taken[at].units.Add(cost)
			return
		}
	}
	w.taken = append(w.taken, taken{now, cost})
}

func (w *window) resetAfter(now, length int64) (reset int64) {
	for _, one := range w.taken {
		if !one.units.IsZero() {
			reset = max(reset, one.at+length-now)
		}
	}
	return reset
}

// bucket has a level in parts of a token, of which `rate` flow in each millisecond.
type bucket struct {
	level decimal.Decimal
	at    int64
}

func (b *bucket) flow(now int64, rate, full decimal.Decimal) {
	b.level = decimal.Min(full, b.level.Add(rate.Mul(decimal.NewFromInt(now-b.at))))
	b.at = now
}

func (b *bucket) ask(rate, full, cost decimal.Decimal) (bool, int64) {
	switch {
	case cost.LessThanOrEqual(b.level):
		return true, 0
	case cost.GreaterThan(full):
		return false, -1
	}
	return false, dividedUp(cost.Sub(b.level), rate)
}

func (b *bucket) resetAfter(rate, full decimal.Decimal) int64 {
	return dividedUp(full.Sub(b.level), rate)
}

// dividedUp is rounded up, and not below 0.
func dividedUp(value, by decimal.Decimal) int64 {
	whole, rest := value.QuoRem(by, 0)
	if rest.IsPositive() {
		whole = whole.Add(decimal.NewFromInt(1))
	}
	return max(0, whole.IntPart())
}

// slots are taken by holders.
type slots struct {
	holders map[string]slot
	last    int64
}

type slot struct{ end, token int64 }

func (s *slots) prune(now int64) {
	for holder, one := range s.holders {
		if one.end <= now {
			delete(s.holders, holder)
		}
	}
}

func (s *slots) acquire(now, most int64, holder string, ttl int64) []any {
	s.prune(now)
	one, has := s.holders[holder]
	if !has {
		if inUse := int64(len(s.holders)); inUse >= most {
			retry := int64(-1)
			if most > 0 {
				var ends []int64
				for _, one := range s.holders {
					ends = append(ends, one.end)
				}
				slices.Sort(ends)
				retry = ends[inUse-most] - now
			}
			return []any{int64(0), inUse, most, retry, int64(0)}
		}
		s.last = max(s.last+1, now*1024)
		one.token = s.last
	}
	s.holders[holder] = slot{now + ttl, one.token}
	return []any{int64(1), int64(len(s.holders)), most, int64(0), one.token}
}

// The commands.

func limitMode(option string, mode *string) {
	if option != "PEEK" && option != "FORCE" {
		unknownOption(option)
	}
	*mode = option
}

// leastCost: only FORCE gives back.
func leastCost(mode string) int64 {
	if mode == "FORCE" {
		return -most
	}
	return 0
}

func allow(f *Fake, w *words) any {
	key, limit := w.take("key"), w.integer("limit", 0, most)
	length, given, fixed, mode := int64(60_000), "1", false, ""
	for w.more() {
		switch option := w.option(); option {
		case "WINDOW":
			length = w.integer(option, 1, longest)
		case "COST":
			given = w.take(option)
		case "FIXED":
			fixed = true
		default:
			limitMode(option, &mode)
		}
	}
	cost := decimal.NewFromInt(whole(given, "COST", leastCost(mode), most))
	own, has := at[*window](f, key)
	if !has {
		own = &window{}
	}
	allowed, retry := own.ask(f.now, decimal.NewFromInt(limit), length, cost, fixed)
	if mode == "FORCE" {
		allowed, retry = true, 0
	}
	if allowed && mode != "PEEK" && !cost.IsZero() {
		own.take(f.now, cost, fixed)
		f.keys[key] = own
	}
	return []any{allowed, limit, max(0, limit-own.used().IntPart()), retry, own.resetAfter(f.now, length)}
}

func tokens(f *Fake, w *words) any {
	key, rate, burst := w.take("key"), w.integer("rate", 1, most), w.integer("burst", 0, most)
	per, given, mode := int64(60_000), "1", ""
	for w.more() {
		switch option := w.option(); option {
		case "PER":
			per = w.integer(option, 1, longest)
		case "COST":
			given = w.take(option)
		default:
			limitMode(option, &mode)
		}
	}
	parts := decimal.NewFromInt(per)
	cost := decimal.NewFromInt(whole(given, "COST", leastCost(mode), most)).Mul(parts)
	flow, full := decimal.NewFromInt(rate), decimal.NewFromInt(burst).Mul(parts)
	own, has := at[*bucket](f, key)
	if !has {
		own = &bucket{full, f.now}
	}
	own.flow(f.now, flow, full)
	allowed, retry := own.ask(flow, full, cost)
	if mode == "FORCE" {
		allowed, retry = true, 0
	}
	if allowed && mode != "PEEK" {
		own.level = decimal.Min(full, own.level.Sub(cost))
		f.keys[key] = own
	}
	left, _ := own.level.QuoRem(parts, 0)
	return []any{allowed, burst, max(0, left.IntPart()), retry, own.resetAfter(flow, full)}
}

func acquire(f *Fake, w *words) any {
	key, most, holder := w.take("key"), w.integer("max", 0, most), w.name("holder", 512)
	ttl := int64(0)
	for w.more() {
		switch option := w.option(); option {
		case "TTL":
			ttl = w.integer(option, 1, longest)
		case "BLOCK":
			w.integer(option, 0, longest) // It never waits.
		default:
			unknownOption(option)
		}
	}
	if ttl == 0 {
		refuse("missing option: TTL")
	}
	own, has := at[*slots](f, key)
	if !has {
		own = &slots{holders: map[string]slot{}}
	}
	reply := own.acquire(f.now, most, holder, ttl)
	if len(own.holders) > 0 {
		f.keys[key] = own
	}
	return reply
}

func renew(f *Fake, w *words) any {
	own, has := at[*slots](f, w.take("key"))
	holder := w.name("holder", 512)
	w.option()
	ttl := w.integer("TTL", 1, longest)
	if !has || own.holders[holder].end <= f.now {
		return int64(0)
	}
	own.holders[holder] = slot{f.now + ttl, own.holders[holder].token}
	return int64(1)
}

func release(f *Fake, w *words) any {
	own, has := at[*slots](f, w.take("key"))
	holder := w.name("holder", 512)
	if !has {
		return int64(0)
	}
	own.prune(f.now)
	_, held := own.holders[holder]
	delete(own.holders, holder)
	return held
}
