package gatewaytest

import "slices"

// accountAt is an account; a ledger without policies is none.
func (f *Fake) accountAt(key string) *account {
	found, is := f.keys[key].(*account)
	if !is {
		f.ledgerAt(key, false) // Or it is of another kind.
		return nil
	}
	if len(found.policies) == 0 && found.cooldown <= f.now {
		return nil
	}
	return found
}

func (f *Fake) madeAccount(key string) *account {
	if found, is := f.keys[key].(*account); is {
		return found
	}
	made := &account{ledger: f.ledgerAt(key, true), admissions: map[string]*admission{}, meters: map[string]*ledger{}}
	f.keys[key] = made
	return made
}

func policySet(f *Fake, w *words) any {
	key, name := w.take("key"), w.name("name", 64)
	made := policyOfWords(name, w, f.now)
	return f.madeAccount(key).put(made)
}

func policyPut(f *Fake, w *words) any {
	key, document := w.take("key"), w.take("json")
	for w.more() {
		switch option := w.option(); option {
		case "NX":
			if f.accountAt(key) != nil {
				return int64(0)
			}
		case "IDLE":
			w.integer(option, 1, longest) // It stays.
		default:
			unknownOption(option)
		}
	}
	f.madeAccount(key).putDocument(document, f.now)
	return int64(1)
}

func policyDel(f *Fake, w *words) any {
	own, name := f.accountAt(w.take("key")), w.take("name")
	if own == nil || own.policy(name) == nil {
		return int64(0)
	}
	own.policies = slices.DeleteFunc(own.policies, func(one *policy) bool { return one.name == name })
	return int64(1)
}

// question is what is asked of accounts.
type question struct {
	keys             []string
	lease, rows      string
	ttl, cooldown    int64
	required, shadow bool
	amounts          amounts
}

func (w *words) question(most int64) question {
	made := question{keys: w.keys(most), amounts: amounts{}}
	for w.more() {
		word := w.take("word")
		switch option := (&words{left: []string{word}}).option(); option {
		case "LEASE":
			made.lease = w.name(option, 512)
		case "TTL":
			made.ttl = w.integer(option, 1, longest)
		case "COOLDOWN":
			made.cooldown = w.integer(option, 1, longest)
		case "TOOK":
			w.integer(option, 0, longest)
		case "ROWS":
			made.rows = (&words{left: []string{w.take(option)}}).option()
		case "PICK":
			w.take(option) // The first that admits it, whatever this says.
		case "REQUIRE":
			made.required = true
		case "SHADOW":
			made.shadow = true
		case "FAILED":
		default:
			made.amounts[word] = w.amount(word)
		}
	}
	if made.lease == "" {
		refuse("missing option: LEASE")
	}
	return made
}

// count: it is asked for one request, unless it says otherwise.
func (q *question) count() {
	if q.ttl == 0 {
		refuse("missing option: TTL")
	}
	if _, told := q.amounts["requests"]; !told {
		q.amounts["requests"] = one
	}
}

func told(rows []row, which string) []any {
	made := []any{}
	for _, row := range rows {
		if which != "NONE" && (which != "REFUSED" || !row.allowed) {
			made = append(made, row.fields(which == "DETAIL"))
		}
	}
	return made
}

func noAccount(key string) { panic(refusal("NOACCOUNT no such account: " + key)) }

func admit(f *Fake, w *words) any {
	asked := w.question(15)
	asked.count()
	var keys []string
	for _, key := range asked.keys {
		if f.accountAt(key) != nil {
			keys = append(keys, key)
		} else if asked.required {
			noAccount(key)
		}
	}
	allowed, retry, rows := f.decide(keys, asked)
	return []any{allowed, retry, told(rows, asked.rows)}
}

// decide takes what is asked for from all accounts, or from none.
func (f *Fake) decide(keys []string, asked question) (allowed bool, retry int64, rows []row) {
	known := map[string]bool{}
	for _, key := range keys {
		if own := f.accountAt(key).admissions[asked.lease]; own != nil {
			if own.settled || own.end <= f.now {
				panic(refusal("LEASEENDED lease has ended: " + asked.lease))
			}
			known[key] = true
		}
	}
	before := map[string][]row{}
	refused := false
	for _, key := range keys {
		if known[key] {
			continue
		}
		before[key] = f.accountAt(key).rows(key, asked.amounts, f.now)
		if wait := waitOf(before[key]); refuses(before[key]) {
			if refused = true; wait < 0 || retry < 0 {
				retry = -1
			} else {
				retry = max(retry, wait)
			}
		}
	}
	if !refused && !asked.shadow {
		for key := range before {
			f.accountAt(key).take(asked.lease, asked.amounts, f.now, f.now+asked.ttl)
		}
	}
	for _, key := range keys {
		after := f.accountAt(key).rows(key, asked.amounts, f.now)
		for at := range after {
			switch {
			case known[key]:
				after[at].allowed, after[at].retry = true, 0
			case !refused || asked.shadow:
				// What is left now, and what was decided before.
				after[at].allowed, after[at].retry = before[key][at].allowed, before[key][at].retry
			}
		}
		rows = append(rows, after...)
	}
	return !refused || asked.shadow, retry, rows
}

// waitOf is the longest wait of the rows that refuse; -1 if waiting does not help.
func waitOf(rows []row) (wait int64) {
	for _, one := range rows {
		if !one.allowed {
			if one.retry < 0 {
				return -1
			}
			wait = max(wait, one.retry)
		}
	}
	return wait
}

func route(f *Fake, w *words) any {
	asked := w.question(63)
	asked.count()
	chosen := ""
	exists := false
	for _, key := range asked.keys {
		own := f.accountAt(key)
		exists = exists || own != nil
		if own != nil && own.admissions[asked.lease] != nil {
			chosen = key
			break
		}
	}
	if !exists {
		noAccount(asked.keys[0])
	}
	for _, key := range asked.keys {
		if own := f.accountAt(key); chosen == "" && own != nil && !refuses(own.rows(key, asked.amounts, f.now)) {
			chosen = key
		}
	}
	var rows []row
	retry := int64(-1)
	for _, key := range asked.keys {
		own := f.accountAt(key)
		switch {
		case own == nil:
			none := int64(0)
			rows = append(rows, row{account: key, policy: "NOACCOUNT", limit: none, left: none, retry: -1, reset: -1})
		case key == chosen:
			_, _, found := f.decide([]string{key}, asked)
			rows = append(rows, found...)
		default:
			found := own.rows(key, asked.amounts, f.now)
			rows = append(rows, found...)
			if wait := waitOf(found); refuses(found) && wait >= 0 && (retry < 0 || wait < retry) {
				retry = wait
			}
		}
	}
	if asked.rows == "" {
		asked.rows = "NONE"
	}
	if chosen == "" {
		return []any{nil, retry, told(rows, asked.rows)}
	}
	return []any{chosen, int64(0), told(rows, asked.rows)}
}

func settle(f *Fake, w *words) any {
	asked := w.question(15)
	outcomes := []string{"SETTLED", "LATE", "REPEATED", "UNKNOWN"}
	best := len(outcomes) - 1
	for _, key := range asked.keys {
		own, is := f.keys[key].(*account)
		if !is {
			f.ledgerAt(key, false) // Or it is of another kind.
			continue
		}
		found := slices.Index(outcomes, own.settle(asked.lease, asked.amounts, f.now))
		best = min(best, found)
		if asked.cooldown > 0 && found < 2 {
			own.cooldown = max(own.cooldown, f.now+asked.cooldown)
		}
	}
	return outcomes[best]
}

func keepAlive(f *Fake, w *words) any {
	asked := w.question(15)
	live := int64(0)
	for _, key := range asked.keys {
		own, is := f.keys[key].(*account)
		if !is {
			f.ledgerAt(key, false)
			continue
		}
		if one := own.admissions[asked.lease]; one != nil && !one.settled && one.end > f.now {
			one.end = f.now + asked.ttl
			live++
		}
	}
	return live
}
