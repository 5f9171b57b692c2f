package main

import (
	"context"
	"slices"
	"testing"
	"time"

	gateway "redis-gateway/clients/go"
	"redis-gateway/clients/go/gatewaytest"
)

// What the README's parts of a program need around them. The README's test puts each in the place of the comment that names it.

func TestRouting(t *testing.T) {
	gw, err := gateway.New(gatewaytest.New(t).Client(), &gateway.Settings{Timeout: time.Minute, ConnectTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Close()
	for _, key := range []string{"{ml}", "{gpt}:eu", "{gpt}:us"} {
		if _, err := gw.Commands.PolicyPut(t.Context(), key, `{"policies":[
			{"name":"tpm","kind":"window","limit":1520,"per_ms":60000,"meter":"tokens"}]}`, nil); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct{ Used gateway.Amounts }
	var called []string
	call := func(target string) (answer, error) {
		called = append(called, target)
		if len(called) == 1 {
			return answer{}, &gateway.CallFailedError{}
		}
		return answer{gateway.Amounts{"tokens": "20"}}, nil
	}
	err = func(ctx context.Context) error {
		// README: go routing
		return nil
	}(t.Context())
	if err != nil || !slices.Equal(called, []string{"{gpt}:eu", "{gpt}:us"}) {
		t.Fatal(called, err)
	}
	rest, err := gw.Admit(t.Context(), []string{"{ml}"}, gateway.Amounts{"tokens": "1500"}, nil)
	if err != nil || !rest.OK() {
		t.Fatal(rest.Reason(), err)
	}
}

func TestAway(t *testing.T) {
	// README: go away
	fake := gatewaytest.New(t)
	gw, err := gateway.New(fake.Client(), settings)
	if err != nil {
		t.Fatal(err)
	}
	defer gw.Close()
	fake.SetAway(true)
	limited, err := gw.Allow(t.Context(), "k", 10, nil)
	if err != nil || limited.Outcome != gateway.Degraded {
		t.Fatal(limited.Outcome, err)
	}
	admitted, err := gw.Admit(t.Context(), []string{"{ml}:key:7"}, nil, nil)
	if err != nil || admitted.Outcome() != gateway.Degraded {
		t.Fatal(admitted.Outcome(), err)
	}
}
