package commands

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/shopspring/decimal"
)

func TestAmounts(t *testing.T) {
	var vectors struct {
		Texts  []struct{ Given, Value, Error string }
		Floats []struct {
			Given float64
			Value string
		}
		Sums []struct {
			Given []string
			Value string
		}
	}
	load(t, "amounts.json", &vectors)
	for _, one := range vectors.Texts {
		made, err := ParseAmount(one.Given)
		switch {
		case one.Error != "" && (err == nil || err.Error() != one.Error):
			t.Errorf("%q: %v, %v, want the error %s", one.Given, made, err, one.Error)
		case one.Error == "" && (err != nil || made.String() != one.Value):
			t.Errorf("%q: %v, %v, want %s", one.Given, made, err, one.Value)
		}
	}
	for _, one := range vectors.Floats {
		words := AddCostRequest("k", AmountOf(one.Given), nil).Words
		if made, err := ParseAmount(words[2].(string)); err != nil || made.String() != one.Value {
			t.Errorf("%v: %v, %v, want %s", one.Given, made, err, one.Value)
		}
	}
	for _, one := range vectors.Sums {
		total := decimal.Zero
		for _, text := range one.Given {
			made, err := ParseAmount(text)
			if err != nil {
				t.Fatal(err)
			}
			total = total.Add(made)
		}
		if total.String() != one.Value {
			t.Errorf("%v: %s, want %s", one.Given, total, one.Value)
		}
	}
	if len(vectors.Texts) == 0 || len(vectors.Floats) == 0 || len(vectors.Sums) == 0 {
		t.Error("there are no vectors")
	}
}

func TestAmountsOfNumbers(t *testing.T) {
	type cents float64
	for _, one := range []struct{ got, want Amount }{
		{AmountOf(7), "7"}, {AmountOf(-7), "-7"}, {AmountOf(uint64(math.MaxUint64)), "18446744073709551615"},
		{AmountOf(0.1), "0.1"}, {AmountOf(float32(0.1)), "0.1"}, {AmountOf(cents(0.5)), "0.5"}, {AmountOf(1.5e-7), "1.5e-07"},
		{AmountOfDecimal(decimal.RequireFromString("0.10")), "0.1"},
	} {
		if one.got != one.want {
			t.Errorf("%s, want %s", one.got, one.want)
		}
	}
	if _, err := ParseAmount(strings.Repeat("1", 2049)); err == nil {
		t.Error("a long text is taken")
	}
	if made, err := ParseAmount(strings.Repeat("0", 2047) + "1"); err != nil || made.String() != "1" {
		t.Errorf("%v, %v", made, err)
	}
	if made, err := ParseAmount("1e-" + strings.Repeat("9", 2000)); err != nil || !made.IsZero() {
		t.Errorf("%v, %v", made, err)
	}
}

type keyCase struct {
	Name, JSON, Canonical, SHA256 string
	Ignore                        []string
	Category, Key                 string
}

type keyVectors struct {
	Keys       []keyCase
	NotObjects []keyCase `json:"not_objects"`
	Large      []keyCase
	Tenants    []struct {
		keyCase
		Tenant *string
	}
	Refused      []struct{ JSON anyBytes }
	RefusedBytes []anyBytes `json:"refused_bytes"`
	Categories   []string   `json:"refused_categories"`
	NoTenants    []string   `json:"refused_tenants"`
}

func TestCacheKeys(t *testing.T) {
	var vectors keyVectors
	load(t, "cache-keys.json", &vectors)
	cases := append(append(vectors.Keys, vectors.NotObjects...), vectors.Large...)
	for _, one := range cases {
		made, err := canonical([]byte(one.JSON), one.Ignore)
		if err != nil || string(made) != one.Canonical {
			t.Errorf("%s: %s, %v, want %s", one.Name, made, err, one.Canonical)
		}
		if sum := sha256.Sum256(made); hex.EncodeToString(sum[:]) != one.SHA256 {
			t.Errorf("%s: another hash", one.Name)
		}
		// As a value that a program has read, with its numbers as they were written.
		decoder := json.NewDecoder(strings.NewReader(one.JSON))
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		for _, request := range []any{json.RawMessage(one.JSON), value} {
			if key, err := CacheKey("llm", request, &KeyOptions{Ignore: one.Ignore}); err != nil || key != "llm:"+one.SHA256 {
				t.Errorf("%s: %s, %v", one.Name, key, err)
			}
		}
	}
	for _, one := range vectors.Tenants {
		options := &KeyOptions{one.Tenant, one.Ignore}
		if key, err := CacheKey(one.Category, []byte(one.JSON), options); err != nil || key != one.Key {
			t.Errorf("%s, %v, want %s", key, err, one.Key)
		}
	}
	if len(cases) == 0 || len(vectors.Tenants) == 0 {
		t.Error("there are no vectors")
	}
}

func TestCacheKeysRefused(t *testing.T) {
	var vectors keyVectors
	load(t, "cache-keys.json", &vectors)
	texts := vectors.RefusedBytes
	for _, one := range vectors.Refused {
		texts = append(texts, one.JSON)
	}
	for _, text := range texts {
		var refused *NotCanonicalError
		if made, err := Canonical([]byte(text)); !errors.As(err, &refused) {
			t.Errorf("%.100q: %.100s, %v", string(text), made, err)
		}
	}
	for _, tenant := range vectors.NoTenants {
		if key, err := CacheKey("chat", map[string]any{}, &KeyOptions{Tenant: Text(tenant)}); err == nil {
			t.Errorf("%s: %s", tenant, key)
		}
	}
	for _, category := range vectors.Categories {
		if key, err := CacheKey(category, map[string]any{}, nil); err == nil {
			t.Errorf("%s: %s", category, key)
		}
	}
	if len(texts) == 0 || len(vectors.NoTenants) == 0 || len(vectors.Categories) == 0 {
		t.Error("there are no vectors")
	}
	for _, value := range []any{
		math.NaN(), math.Inf(1), 1<<53 + 1, -(1<<53 + 1), json.Number("1" + strings.Repeat("0", 400)), "\xff", map[string]int{"\xff": 1},
		`\` + "\xff", func() {},
	} {
		var refused *NotCanonicalError
		if made, err := Canonical(value); !errors.As(err, &refused) {
			t.Errorf("%#v: %s, %v", value, made, err)
		}
	}
	for _, value := range []any{"\ufffd", `\ufffd`, `\\ufffd`} {
		if _, err := Canonical(value); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestNestingHasABound(t *testing.T) {
	deep := bytes.Repeat([]byte("["), 128)
	deep = append(append(deep, '1'), bytes.Repeat([]byte("]"), 128)...)
	if made, err := Canonical(deep); err != nil || !bytes.Equal(made, deep) {
		t.Errorf("%s, %v", made, err)
	}
	if _, err := Canonical(map[string]any{"a": json.RawMessage(deep)}); err == nil {
		t.Error("129 are taken")
	}
}

type headerCase struct {
	Name     string
	Reply    []any
	PeriodMs int64 `json:"period_ms"`
	Meters   map[string]string
	Families []HeaderFamily
	Headers  map[string]string
}

func headerVectors(t *testing.T) (now time.Time, verdicts, admissions []headerCase) {
	var vectors struct {
		NowMs                int64 `json:"now_ms"`
		Verdicts, Admissions []headerCase
	}
	load(t, "headers.json", &vectors)
	if len(vectors.Verdicts) == 0 || len(vectors.Admissions) == 0 {
		t.Error("there are no vectors")
	}
	return time.UnixMilli(vectors.NowMs), vectors.Verdicts, vectors.Admissions
}

// asRead makes of a reply in JSON what go-redis makes of its bytes.
func asRead(value any) any {
	switch found := value.(type) {
	case float64:
		return int64(found)
	case []any:
		made := make([]any, len(found))
		for at := range found {
			made[at] = asRead(found[at])
		}
		return made
	}
	return value
}

func TestHeadersOfVerdicts(t *testing.T) {
	now, verdicts, _ := headerVectors(t)
	for _, one := range verdicts {
		verdict, err := AllowRequest("k", 1, nil).Decode(asRead(one.Reply))
		if made := VerdictHeaders(one.Name, verdict, one.PeriodMs, now, nil); err != nil || !reflect.DeepEqual(made, one.Headers) {
			t.Errorf("%v: %v\n%v, want\n%v", one.Reply, err, made, one.Headers)
		}
	}
}

func TestHeadersOfAdmissions(t *testing.T) {
	now, _, admissions := headerVectors(t)
	for _, one := range admissions {
		admission, err := AdmitRequest([]string{"a"}, "l", 1, nil).Decode(asRead(one.Reply))
		made := AdmissionHeaders(admission, now, &HeaderOptions{one.Meters, one.Families})
		if err != nil || !reflect.DeepEqual(made, one.Headers) {
			t.Errorf("%s: %v\n%v, want\n%v", one.Name, err, made, one.Headers)
		}
	}
	bare := []any{int64(0), int64(1500), []any{[]any{"a", "rpm", int64(0), int64(1), int64(0), int64(1500), int64(60000)}}}
	admission, err := AdmitRequest([]string{"a"}, "l", 1, nil).Decode(bare)
	want := map[string]string{"Retry-After": "2"}
	if made := AdmissionHeaders(admission, now, nil); err != nil || !reflect.DeepEqual(made, want) {
		t.Errorf("rows without details: %v, %v", made, err)
	}
}

func TestErrors(t *testing.T) {
	var vectors struct {
		Cases []struct {
			Name, Line, Type, Code, Text string
			Away, Retry                  bool
			Fields                       map[string]*string
		}
	}
	load(t, "errors.json", &vectors)
	for _, one := range vectors.Cases {
		made := []error{ErrorOf(one.Line), ErrorWith(one.Code, one.Text), Typed(replied(one.Line))}
		if one.Code == "ERR" {
			made = append(made, ErrorOf(one.Text)) // Some clients leave this code out.
		}
		for _, err := range made {
			kind := reflect.TypeOf(err).Elem().Name()
			want := one.Type + "Error"
			if one.Type == "GatewayError" {
				want = "ReplyError" // The base.
			}
			if kind != want {
				t.Errorf("%s: a %s, want a %s", one.Line, kind, want)
			}
			var base *ReplyError
			if !errors.As(err, &base) {
				t.Fatalf("%s is no ReplyError", one.Line)
			}
			if *base != (ReplyError{one.Code, one.Text, one.Away, one.Retry}) || err.Error() != one.Line {
				t.Errorf("%s: %+v, %v", one.Line, base, err)
			}
			for name, value := range one.Fields {
				if value != nil && reflect.ValueOf(err).Elem().FieldByName(goName(name)).String() != *value {
					t.Errorf("%s: %s of %+v is not %s", one.Line, name, err, *value)
				}
			}
		}
	}
	if len(vectors.Cases) == 0 {
		t.Error("there are no vectors")
	}
}

// replied is an error reply as go-redis hands it on.
type replied string

func (r replied) Error() string { return string(r) }
func (replied) RedisError()     {}

func TestWhatIsNoErrorReplyStaysAsItIs(t *testing.T) {
	for _, err := range []error{redis.Nil, redis.ErrClosed, context.Canceled} {
		if got := Typed(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
