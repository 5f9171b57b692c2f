package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HeaderFamily is whose headers: those of the IETF draft ratelimit-headers, OpenAI's, or Anthropic's.
type HeaderFamily string

// The families of headers.
const (
	HeadersIETF      HeaderFamily = "ietf"
	HeadersOpenAI    HeaderFamily = "openai"
	HeadersAnthropic HeaderFamily = "anthropic"
)

// HeaderOptions are what [VerdictHeaders] and [AdmissionHeaders] may be told.
type HeaderOptions struct {
	// Meters gives the usual names of meters that are called otherwise here, such as "tokens" for "tpm".
	Meters map[string]string

	// Families are whose headers are made; all if it is nil.
	Families []HeaderFamily
}

func (o *HeaderOptions) wants(family HeaderFamily) bool {
	return o == nil || o.Families == nil || slices.Contains(o.Families, family)
}

// The meters that OpenAI's and Anthropic's headers are about, by what they are called there.
var (
	openAI    = map[string]string{"requests": "requests", "tokens": "tokens"}
	anthropic = map[string]string{
		"requests": "requests", "tokens": "tokens", "input_tokens": "input-tokens", "output_tokens": "output-tokens",
	}
)

// counted is a limit in whole units, as headers tell of it.
type counted struct {
	name, meter                              string
	allowed                                  bool
	limit, remaining, resetAfterMs, periodMs int64
}

// before: whether a client meets this limit first.
func (c counted) before(other counted) bool {
	if c.allowed != other.allowed {
		return !c.allowed
	}
	if c.remaining != other.remaining {
		return c.remaining < other.remaining
	}
	return c.resetAfterMs > other.resetAfterMs
}

// VerdictHeaders makes the headers of one limiter. name is "requests" for a limit on requests, and "tokens" for one on tokens.
// periodMs is the window, or the period of a bucket's rate. It returns them by the names that the families have for them.
func VerdictHeaders(name string, verdict Verdict, periodMs int64, now time.Time, options *HeaderOptions) map[string]string {
	limit := counted{
		name, name, verdict.Allowed, verdict.Limit, verdict.Remaining, verdict.ResetAfterMs, periodMs,
	}
	made := headers([]counted{limit}, now, options)
	addRetryAfter(made, verdict.Allowed, verdict.RetryAfterMs)
	return made
}

// AdmissionHeaders makes the headers of a decision with ROWS DETAIL.
//
// They tell of windows and buckets that count whole units. If several count one meter, OpenAI's and Anthropic's headers tell of the
// one that a client meets first. Budgets are left out, since their amounts are decimals.
func AdmissionHeaders(admission Admission, now time.Time, options *HeaderOptions) map[string]string {
	var limits []counted
	for _, row := range admission.Rows {
		if limit, counts := countedOf(row, admission.Admitted, options); counts {
			limits = append(limits, limit)
		}
	}
	made := headers(limits, now, options)
	addRetryAfter(made, admission.Admitted, admission.RetryAfterMs)
	return made
}

func countedOf(row AdmissionRow, admitted bool, options *HeaderOptions) (counted, bool) {
	if row.Kind == nil || *row.Kind != "WINDOW" && *row.Kind != "BUCKET" || row.Meter == nil || row.PeriodMs == nil {
		return counted{}, false
	}
	if row.ResetAfterMs < 0 || !row.Limit.Whole || !row.Remaining.Whole {
		return counted{}, false
	}
	if admitted && !row.Allowed {
		return counted{}, false // The policy is in SHADOW: it refuses nobody.
	}
	meter := *row.Meter
	if options != nil && options.Meters[meter] != "" {
		meter = options.Meters[meter]
	}
	limit, remaining := row.Limit.IntPart(), row.Remaining.IntPart()
	return counted{row.Policy, meter, row.Allowed, limit, remaining, row.ResetAfterMs, *row.PeriodMs}, true
}

// addRetryAfter adds it unless waiting does not help.
func addRetryAfter(made map[string]string, allowed bool, retryAfterMs int64) {
	if !allowed && retryAfterMs >= 0 {
		made["Retry-After"] = strconv.FormatInt(seconds(retryAfterMs), 10)
	}
}

// tightest keeps of each name the limit that a client meets first, in the order in which the names came.
func tightest(limits []counted, nameOf func(counted) string) []counted {
	var found []counted
	for _, limit := range limits {
		at := slices.IndexFunc(found, func(other counted) bool { return nameOf(other) == nameOf(limit) })
		if at < 0 {
			found = append(found, limit)
		} else if limit.before(found[at]) {
			found[at] = limit
		}
	}
	return found
}

func headers(limits []counted, now time.Time, options *HeaderOptions) map[string]string {
	made := map[string]string{}
	if options.wants(HeadersIETF) && len(limits) > 0 {
		var policies, states []string
		for _, one := range tightest(limits, func(limit counted) string { return limit.name }) {
			name := quoted(one.name)
			policies = append(policies, fmt.Sprintf("%s;q=%d;w=%d", name, one.limit, seconds(one.periodMs)))
			states = append(states, fmt.Sprintf("%s;r=%d;t=%d", name, one.remaining, seconds(one.resetAfterMs)))
		}
		made["RateLimit-Policy"] = strings.Join(policies, ", ")
		made["RateLimit"] = strings.Join(states, ", ")
	}
	for _, one := range tightest(limits, func(limit counted) string { return limit.meter }) {
		if name := openAI[one.meter]; name != "" && options.wants(HeadersOpenAI) {
			made["x-ratelimit-limit-"+name] = strconv.FormatInt(one.limit, 10)
			made["x-ratelimit-remaining-"+name] = strconv.FormatInt(one.remaining, 10)
			made["x-ratelimit-reset-"+name] = duration(one.resetAfterMs)
		}
		if name := anthropic[one.meter]; name != "" && options.wants(HeadersAnthropic) {
			made["anthropic-ratelimit-"+name+"-limit"] = strconv.FormatInt(one.limit, 10)
			made["anthropic-ratelimit-"+name+"-remaining"] = strconv.FormatInt(one.remaining, 10)
			reset := time.UnixMilli(now.UnixMilli() + one.resetAfterMs).UTC()
			made["anthropic-ratelimit-"+name+"-reset"] = reset.Format("2006-01-02T15:04:05.000Z07:00")
		}
	}
	return made
}

// quoted makes a string of RFC 9651, which has printable ASCII alone.
func quoted(name string) string {
	var made strings.Builder
	made.WriteByte('"')
	for _, letter := range name {
		switch {
		case letter < ' ' || letter > '~':
			letter = '?'
		case letter == '\\' || letter == '"':
			made.WriteByte('\\')
		}
		made.WriteRune(letter)
	}
	made.WriteByte('"')
	return made.String()
}

// seconds rounds up: a client that waits so long is admitted.
func seconds(ms int64) int64 { return (ms + 999) / 1000 }

// duration writes a time as OpenAI does: 1h2m3.5s.
func duration(ms int64) string {
	if ms == 0 {
		return "0s"
	}
	if ms < 1000 {
		return fmt.Sprintf("%dms", ms)
	}
	return (time.Duration(ms) * time.Millisecond).String()
}
