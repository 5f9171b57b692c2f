package gatewaytest

import (
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"
)

var periods = []string{"DAY", "WEEK", "MONTH", "TOTAL"}

// firstOf is the begin of the period that a time is in, in UTC; 0 for TOTAL.
func firstOf(period string, at int64) int64 {
	day := time.UnixMilli(at).UTC().Truncate(24 * time.Hour)
	switch period {
	case "TOTAL":
		return 0
	case "WEEK":
		day = day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
	case "MONTH":
		day = time.Date(day.Year(), day.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	return day.UnixMilli()
}

func nextOf(period string, at int64) int64 {
	first := time.UnixMilli(firstOf(period, at)).UTC()
	switch period {
	case "MONTH":
		return first.AddDate(0, 1, 0).UnixMilli()
	case "WEEK":
		return first.AddDate(0, 0, 7).UnixMilli()
	}
	return first.AddDate(0, 0, 1).UnixMilli()
}

// endOf is in how many milliseconds the period ends; -1 for TOTAL.
func endOf(period string, now int64) int64 {
	if period == "TOTAL" {
		return -1
	}
	return nextOf(period, now) - now
}

func lengthOf(period string, now int64) int64 {
	if period == "TOTAL" {
		return -1
	}
	return nextOf(period, now) - firstOf(period, now)
}

type hold struct {
	amount, charged decimal.Decimal
	at, end         int64
	state           string // Empty while it lives.
}

type charge struct {
	amount decimal.Decimal
	at     int64
}

type spending struct {
	period string
	first  int64
}

// ledger is what was spent, by period, and what is held.
type ledger struct {
	sums    map[spending]decimal.Decimal
	holds   map[string]*hold
	charges map[string]charge
}

func newLedger() *ledger {
	return &ledger{map[spending]decimal.Decimal{}, map[string]*hold{}, map[string]charge{}}
}

func (l *ledger) charge(amount decimal.Decimal, at int64) {
	for _, period := range periods {
		own := spending{period, firstOf(period, at)}
		l.sums[own] = l.sums[own].Add(amount)
	}
}

func (l *ledger) spent(period string, at int64) decimal.Decimal {
	return l.sums[spending{period, firstOf(period, at)}]
}

// The money of an account is its ledger's, and what its admissions hold is held there, too.
type moneyOf interface {
	spent(period string, at int64) decimal.Decimal
	held(period string, now int64) decimal.Decimal
}

func (l *ledger) held(period string, now int64) decimal.Decimal {
	sum := decimal.Zero
	for _, one := range l.holds {
		if one.state == "" && one.end > now && firstOf(period, one.at) == firstOf(period, now) {
			sum = sum.Add(one.amount)
		}
	}
	return sum
}

type budget struct {
	amount decimal.Decimal
	period string
}

// tightest are the fields that tell of the budget with the least left.
func tightest(of moneyOf, budgets []budget, now int64) []any {
	left := func(one budget) decimal.Decimal {
		return one.amount.Sub(of.spent(one.period, now)).Sub(of.held(one.period, now))
	}
	one := slices.MinFunc(budgets, func(a, b budget) int { return left(a).Cmp(left(b)) })
	return []any{
		one.period, one.amount.String(), of.spent(one.period, now).String(), of.held(one.period, now).String(),
		decimal.Max(decimal.Zero, left(one)).String(), endOf(one.period, now),
	}
}

// haveRoom: all budgets do. Without a cost: while anything is left.
func haveRoom(of moneyOf, budgets []budget, now int64, cost *decimal.Decimal) bool {
	for _, one := range budgets {
		used := of.spent(one.period, now).Add(of.held(one.period, now))
		if cost == nil && !used.LessThan(one.amount) || cost != nil && used.Add(*cost).GreaterThan(one.amount) {
			return false
		}
	}
	return true
}

// end commits a hold, or cancels it if there is no actual amount.
func (l *ledger) end(id string, actual *decimal.Decimal) any {
	if found, has := l.charges[id]; has {
		return []any{int64(0), "charged", found.amount.String(), int64(0), l.spent("MONTH", found.at).String()}
	}
	own := l.holds[id]
	if own == nil {
		panic(refusal("NOHOLD no such hold: it was never made, or is forgotten"))
	}
	changed := own.state == ""
	if changed {
		own.state = "cancelled"
		if actual != nil {
			own.state, own.charged = "committed", *actual
		}
		l.charge(own.charged, own.at)
	}
	over := own.charged.GreaterThan(own.amount)
	return []any{changed, own.state, own.charged.String(), over, l.spent("MONTH", own.at).String()}
}

// The commands.

// ledgerAt is the ledger under a key, which may be an account's; it may be made.
func (f *Fake) ledgerAt(key string, made bool) *ledger {
	if account, is := f.keys[key].(*account); is {
		return account.ledger
	}
	own, has := at[*ledger](f, key)
	if !has {
		own = newLedger()
		if made {
			f.keys[key] = own
		}
	}
	return own
}

func (f *Fake) moneyAt(key string) moneyOf {
	if account, is := f.keys[key].(*account); is {
		return money{account, f.now}
	}
	return f.ledgerAt(key, false)
}

func addCost(f *Fake, w *words) any {
	key, given := w.take("key"), w.take("amount")
	at, id, refund := f.now, "", false
	for w.more() {
		switch option := w.option(); option {
		case "AT":
			at = min(w.integer(option, 0, most), f.now) // Whoever sends it has the real clock: what is later than here is now.
		case "ID":
			id = w.name(option, 512)
		case "REFUND":
			refund = true
		default:
			unknownOption(option)
		}
	}
	amount := amountOf(given, "amount", refund)
	if refund && amount.IsPositive() {
		refuse("REFUND requires a negative amount: amount")
	}
	own := f.ledgerAt(key, true)
	before, charged := own.charges[id]
	held := own.holds[id]
	switch {
	case charged:
		at = before.at
	case held != nil && held.state == "committed":
		at = held.at
	case held != nil:
		refuse("a hold has this id: ID")
	default:
		if id != "" {
			own.charges[id] = charge{amount, at}
		}
		own.charge(amount, at)
	}
	return own.spent("MONTH", at).String()
}

func spent(f *Fake, w *words) any {
	own := f.ledgerAt(w.take("key"), false)
	period, at := "MONTH", f.now
	for w.more() {
		option := w.option()
		switch {
		case slices.Contains(periods, option):
			period = option
		case option == "DATE":
			at = dateOf(w.take(option))
		default:
			panic(notInFake(fmt.Sprintf("the option %s of GW.SPENT", option)))
		}
	}
	return own.spent(period, at).String()
}

func dateOf(text string) int64 {
	for _, form := range []string{time.DateOnly, "2006-01"} {
		if found, err := time.Parse(form, text); err == nil {
			return found.UnixMilli()
		}
	}
	panic(refusal("ERR not a date as yyyy-mm or yyyy-mm-dd: DATE"))
}

// budgets are read up to one of the options.
func (w *words) budgets(options ...string) []budget {
	var found []budget
	for w.more() && !slices.Contains(options, w.peek()) {
		one := budget{w.amount("budget"), "MONTH"}
		if slices.Contains(periods, w.peek()) {
			one.period = w.option()
		}
		found = append(found, one)
	}
	if len(found) == 0 {
		refuse("missing value: budget")
	}
	return found
}

func withinBudget(f *Fake, w *words) any {
	own := f.moneyAt(w.take("key"))
	budgets := w.budgets("COST")
	var cost *decimal.Decimal
	if w.more() {
		w.option()
		found := w.amount("COST")
		cost = &found
	}
	return append([]any{haveRoom(own, budgets, f.now, cost)}, tightest(own, budgets, f.now)...)
}

func reserve(f *Fake, w *words) any {
	key, estimate := w.take("key"), w.amount("estimate")
	budgets := w.budgets("TTL", "ID")
	ttl, id := int64(300_000), ""
	for w.more() {
		switch option := w.option(); option {
		case "TTL":
			ttl = w.integer(option, 1, longest)
		case "ID":
			id = w.name(option, 512)
		default:
			unknownOption(option)
		}
	}
	if id == "" {
		id = fmt.Sprint("fake:", len(f.calls))
	}
	own := f.ledgerAt(key, true)
	money := f.moneyAt(key)
	before := own.holds[id]
	if before != nil && before.state == "" && before.end > f.now {
		return append([]any{int64(1), id}, tightest(money, budgets, f.now)...)
	}
	if _, charged := own.charges[id]; charged || before != nil {
		refuse("id already used: ID")
	}
	if !haveRoom(money, budgets, f.now, &estimate) {
		return append([]any{int64(0), nil}, tightest(money, budgets, f.now)...)
	}
	own.holds[id] = &hold{amount: estimate, at: f.now, end: f.now + ttl}
	return append([]any{int64(1), id}, tightest(money, budgets, f.now)...)
}

func commit(f *Fake, w *words) any {
	own, id := f.ledgerAt(w.take("key"), false), w.name("hold-id", 512)
	actual := w.amount("actual")
	return own.end(id, &actual)
}

func cancel(f *Fake, w *words) any {
	own := f.ledgerAt(w.take("key"), false)
	return own.end(w.name("hold-id", 512), nil)
}
