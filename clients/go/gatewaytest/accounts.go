package gatewaytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

var nano = decimal.New(1, -9)

// policy is a policy and what it has counted.
type policy struct {
	name, kind, meter         string
	limit, rate               decimal.Decimal // Of a bucket the limit is its burst.
	perMs, most, until        int64           // until: -1 is for ever.
	period                    string
	shadow, billionths, fixed bool
	window                    *window
	bucket                    *bucket
}

// units are whole ones, or billionths: rounded up.
func (p *policy) units(value decimal.Decimal) decimal.Decimal {
	if p.billionths {
		return value.RoundCeil(9)
	}
	return value.Ceil()
}

func (p *policy) told(value decimal.Decimal) any {
	if p.billionths || p.kind == "BUDGET" {
		return value.String()
	}
	return value.IntPart()
}

// flown is the bucket as it is now, and how much it holds.
func (p *policy) flown(now int64) (*bucket, decimal.Decimal) {
	full := p.limit.Mul(decimal.NewFromInt(p.perMs))
	if p.bucket == nil {
		p.bucket = &bucket{full, now}
	}
	p.bucket.flow(now, p.rate, full)
	return p.bucket, full
}

// count adds to what a window or bucket has counted, or takes from it.
func (p *policy) count(units decimal.Decimal, at, now int64) {
	switch p.kind {
	case "WINDOW":
		p.window.take(at, p.units(units), p.fixed)
	case "BUCKET":
		own, full := p.flown(now)
		own.level = decimal.Min(full, own.level.Sub(p.units(units).Mul(decimal.NewFromInt(p.perMs))))
	}
}

type amounts map[string]decimal.Decimal

type admission struct {
	at, end int64
	amounts amounts
	settled bool
}

// account is a ledger with policies, and the admissions that live in it.
type account struct {
	*ledger
	policies   []*policy
	admissions map[string]*admission
	meters     map[string]*ledger
	cooldown   int64 // Until then.
}

func (a *account) of(meter string) *ledger {
	if meter == "usd" {
		return a.ledger
	}
	if a.meters[meter] == nil {
		a.meters[meter] = newLedger()
	}
	return a.meters[meter]
}

func (a *account) live(now int64) (found []*admission) {
	for _, one := range a.admissions {
		if !one.settled && one.end > now {
			found = append(found, one)
		}
	}
	return found
}

func (a *account) heldByAdmissions(meter string, now int64) decimal.Decimal {
	sum := decimal.Zero
	for _, one := range a.live(now) {
		sum = sum.Add(one.amounts[meter])
	}
	return sum
}

// money is an account's, with what its admissions hold.
type money struct {
	*account
	now int64
}

func (m money) held(period string, now int64) decimal.Decimal {
	return m.ledger.held(period, now).Add(m.heldByAdmissions("usd", m.now))
}

func (a *account) policy(name string) *policy {
	for _, one := range a.policies {
		if one.name == name {
			return one
		}
	}
	return nil
}

// row is what a policy says, before anything is taken.
type row struct {
	account, policy string
	allowed         bool
	limit, left     any
	retry, reset    int64
	kind, meter     string
	period          int64
	used            any
	shadow          bool
}

func (r row) fields(detail bool) []any {
	made := []any{r.account, r.policy, r.allowed, r.limit, r.left, r.retry, r.reset}
	if detail {
		made = append(made, r.kind, r.meter, r.period, r.used)
	}
	return made
}

func (a *account) rows(name string, asked amounts, now int64) []row {
	var made []row
	for _, one := range a.policies {
		made = append(made, a.row(name, one, asked, now))
	}
	if wait := a.cooldown - now; wait > 0 {
		none := int64(0)
		made = append(made, row{name, "COOLDOWN", false, none, none, wait, wait, "COOLDOWN", "", -1, none, false})
	}
	return made
}

func (a *account) row(name string, p *policy, asked amounts, now int64) row {
	amount, named := asked[p.meter]
	cost := p.units(amount)
	// A meter that is not named takes nothing, and passes while anything is left.
	least := cost
	if !named {
		least = decimal.NewFromInt(1)
		if p.billionths {
			least = nano
		}
	}
	made := row{account: name, policy: p.name, kind: p.kind, meter: p.meter, period: -1, shadow: p.shadow}
	limit, used := p.limit, decimal.Zero
	left := func() decimal.Decimal { return decimal.Max(decimal.Zero, limit.Sub(used)) }
	switch p.kind {
	case "WINDOW":
		made.period = p.perMs
		made.allowed, made.retry = p.window.ask(now, limit, p.perMs, least, p.fixed)
		used, made.reset = p.window.used(), p.window.resetAfter(now, p.perMs)
	case "BUCKET":
		made.period = p.perMs
		own, full := p.flown(now)
		per := decimal.NewFromInt(p.perMs)
		made.allowed, made.retry = own.ask(p.rate, full, least.Mul(per))
		used, made.reset = full.Sub(own.level).Div(per), own.resetAfter(p.rate, full)
		used = p.units(used) // Of a token that is there in part, nothing is left.
	case "INFLIGHT":
		limit = decimal.NewFromInt(p.most)
		var ends []int64
		for _, one := range a.live(now) {
			ends = append(ends, one.end)
			made.reset = max(made.reset, one.end-now)
		}
		slices.Sort(ends)
		used = decimal.NewFromInt(int64(len(ends)))
		made.allowed = used.LessThan(limit)
		if made.retry = -1; made.allowed {
			made.retry = 0
		} else if p.most > 0 {
			made.retry = ends[int64(len(ends))-p.most] - now
		}
	case "BUDGET":
		held := a.heldByAdmissions(p.meter, now)
		if p.meter == "usd" {
			held = held.Add(a.ledger.held(p.period, now))
		}
		used = a.of(p.meter).spent(p.period, now).Add(held)
		made.allowed = used.LessThan(limit)
		if named {
			made.allowed = used.Add(amount).LessThanOrEqual(limit)
		}
		made.reset, made.period = endOf(p.period, now), lengthOf(p.period, now)
		switch {
		case made.allowed:
		case amount.GreaterThan(limit):
			made.retry = -1
		default:
			made.retry = made.reset
		}
	default:
		limit = decimal.Zero
		made.allowed = p.until >= 0 && p.until <= now
		if made.retry = -1; made.allowed {
			made.retry = 0
		} else if p.until >= 0 {
			made.retry = p.until - now
		}
		made.reset = made.retry
	}
	made.limit, made.left, made.used = p.told(limit), p.told(left()), p.told(used)
	return made
}

func refuses(rows []row) bool {
	return slices.ContainsFunc(rows, func(one row) bool { return !one.allowed && !one.shadow })
}

func (a *account) take(lease string, asked amounts, now, end int64) {
	a.admissions[lease] = &admission{at: now, end: end, amounts: maps.Clone(asked)}
	for _, one := range a.policies {
		one.count(asked[one.meter], now, now)
	}
}

func (a *account) settle(lease string, used amounts, now int64) string {
	own := a.admissions[lease]
	switch {
	case own == nil:
		return "UNKNOWN"
	case own.settled:
		return "REPEATED"
	}
	own.settled = true
	actual := maps.Clone(own.amounts)
	maps.Copy(actual, used)
	budgets := map[string]bool{"usd": true}
	for _, one := range a.policies {
		one.count(one.units(actual[one.meter]).Sub(one.units(own.amounts[one.meter])), own.at, now)
		if one.kind == "BUDGET" {
			budgets[one.meter] = true
		}
	}
	for meter, value := range actual {
		if budgets[meter] {
			a.of(meter).charge(value, own.at)
		}
	}
	if own.end <= now {
		return "LATE"
	}
	return "SETTLED"
}

// Policies.

// put tells whether it is new. It keeps what it has counted if it counts the same.
func (a *account) put(made *policy) bool {
	for at, old := range a.policies {
		if old.name == made.name {
			if old.kind == made.kind && old.meter == made.meter && old.billionths == made.billionths {
				made.window, made.bucket = old.window, old.bucket
			}
			a.policies[at] = made
			return false
		}
	}
	a.policies = append(a.policies, made)
	return true
}

func (a *account) putDocument(document string, now int64) {
	var found struct{ Policies []map[string]any }
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.UseNumber()
	if decoder.Decode(&found) != nil || found.Policies == nil {
		refuse("not a document of policies: json")
	}
	var all []*policy
	for _, members := range found.Policies {
		all = append(all, policyOfMembers(members, now))
	}
	a.policies = slices.DeleteFunc(a.policies, func(old *policy) bool {
		return !slices.ContainsFunc(all, func(one *policy) bool { return one.name == old.name })
	})
	for _, one := range all {
		a.put(one)
	}
	a.policies = all // In the document's order.
}

var (
	policyWords = map[string][]string{
		"WINDOW": {"limit"}, "BUCKET": {"rate", "burst"}, "INFLIGHT": {"max"}, "BUDGET": {"amount", "period"}, "BLOCK": {},
	}
	policyOptions = map[string]string{
		"per_ms": "PER", "meter": "METER", "soft_percent": "SOFT", "anchor_ms": "ANCHOR", "for_ms": "FOR", "until_ms": "UNTIL",
	}
	policyFlags = map[string]string{"decimal": "DECIMAL", "fixed": "FIXED", "give_back": "GIVEBACK", "shadow": "SHADOW"}
)

// policyOfMembers is a policy of GW.POLICYPUT's document, by way of GW.POLICYSET's words.
func policyOfMembers(members map[string]any, now int64) *policy {
	kind := strings.ToUpper(fmt.Sprint(members["kind"]))
	taken, known := policyWords[kind]
	if !known {
		panic(notInFake("a policy of the kind " + kind))
	}
	given := []string{kind}
	for _, name := range taken {
		given = append(given, fmt.Sprint(members[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if option, is := policyOptions[name]; is {
			given = append(given, option, fmt.Sprint(members[name]))
		} else if flag, is := policyFlags[name]; is {
			if members[name] == true {
				given = append(given, flag)
			}
		} else if name != "name" && name != "kind" && !slices.Contains(taken, name) {
			refuse("unknown word: %s (policies)", name)
		}
	}
	return policyOfWords(fmt.Sprint(members["name"]), &words{left: given}, now)
}

func policyOfWords(name string, w *words, now int64) *policy {
	made := &policy{name: name, kind: w.option(), until: -1, window: &window{}}
	var texts []string
	switch made.kind {
	case "WINDOW":
		texts = []string{w.take("limit")}
	case "BUCKET":
		texts = []string{w.take("rate"), w.take("burst")}
	case "INFLIGHT":
		made.most = w.integer("max", 0, most)
	case "BUDGET":
		made.limit, made.period, made.meter = w.amount("amount"), w.option(), "usd"
		if !slices.Contains(periods, made.period) {
			refuse("not DAY, WEEK, MONTH or TOTAL: %s", made.period)
		}
	case "BLOCK":
	default:
		panic(notInFake("a policy of the kind " + made.kind))
	}
	if texts != nil {
		made.meter = "requests"
	}
	for w.more() {
		switch option := w.option(); option {
		case "PER":
			made.perMs = w.integer(option, 1, longest)
		case "METER":
			made.meter = w.name(option, 64)
		case "DECIMAL":
			made.billionths = true
		case "FIXED":
			made.fixed = true
		case "SHADOW":
			made.shadow = true
		case "SOFT":
			w.integer(option, 1, 100)
		case "FOR":
			made.until = now + w.integer(option, 1, longest)
		case "UNTIL":
			made.until = w.integer(option, 0, most)
		default:
			panic(notInFake(fmt.Sprintf("the option %s of a policy", option)))
		}
	}
	if texts != nil {
		if made.perMs == 0 {
			refuse("missing option: PER")
		}
		made.limit = amountOf(texts[len(texts)-1], "limit", false)
		made.rate = amountOf(texts[0], "limit", false)
	}
	return made
}
