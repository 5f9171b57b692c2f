package gateway

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"redis-gateway/clients/go/internal/servers"
)

const (
	overheadPairs = 7
	overheadCalls = 1_000
)

// BenchmarkOverhead is what the client adds to a call: in each pair of runs go-redis itself sends the commands, then the client's
// method. It reports medians of the pairs.
//
//	go test -run '^$' -bench Overhead -benchtime 1x
func BenchmarkOverhead(b *testing.B) {
	server := servers.Start(b, servers.Options{})
	raw := server.Client()
	settings := patient()
	gw, err := New(raw, settings)
	check := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	check(err)
	b.Cleanup(func() { gw.Close() })
	document := `{"policies":[{"name":"rpm","kind":"window","limit":1000000000,"per_ms":60000},
		{"name":"tpm","kind":"bucket","rate":1000000000,"burst":1000000000,"per_ms":60000,"meter":"tokens"},
		{"name":"month","kind":"budget","amount":"1000000000","period":"month"}]}`
	for _, account := range []string{"{a}:raw", "{a}:client"} {
		_, err := gw.Commands.PolicyPut(background, account, document, nil)
		check(err)
	}
	cache := NewCache[string](gw, "overhead", nil)
	request := map[string]any{"model": "small", "messages": []map[string]string{{"role": "user", "content": "Hi"}}}
	answer := func(context.Context) (string, error) { return "an answer", nil }
	_, err = cache.GetOrCompute(background, request, answer, nil)
	check(err)
	entry, err := cache.Key(request)
	check(err)
	for _, one := range []struct {
		name        string
		raw, client func(number int) error
	}{
		{
			"allow",
			func(int) error { return raw.Do(background, "GW.ALLOW", "raw", 1_000_000_000).Err() },
			func(int) error {
				_, err := gw.Allow(background, "client", 1_000_000_000, nil)
				return err
			},
		},
		{
			"admit and settle",
			func(number int) error {
				lease := fmt.Sprint(number, ":", time.Now().UnixNano())
				err := raw.Do(background, "GW.ADMIT", "{a}:raw", "LEASE", lease, "TTL", 60_000, "tokens", 100, "usd", "0.01").Err()
				if err != nil {
					return err
				}
				return raw.Do(background, "GW.SETTLE", "{a}:raw", "LEASE", lease, "tokens", 90, "usd", "0.009").Err()
			},
			func(int) error {
				admission, err := gw.Admit(background, []string{"{a}:client"}, Amounts{"tokens": "100", "usd": "0.01"}, nil)
				if err != nil {
					return err
				}
				if err := admission.Use(Amounts{"tokens": "90", "usd": "0.009"}); err != nil {
					return err
				}
				return admission.Close()
			},
		},
		{
			"a cached answer",
			func(int) error { return raw.Do(background, "GW.CACHEGET", entry).Err() },
			func(int) error {
				_, err := cache.GetOrCompute(background, request, answer, nil)
				return err
			},
		},
	} {
		b.Run(one.name, func(b *testing.B) {
			run := func(call func(int) error) float64 {
				began := time.Now()
				for number := range overheadCalls {
					check(call(number))
				}
				return float64(time.Since(began).Nanoseconds()) / overheadCalls / 1000
			}
			var raws, clients, ratios []float64
			for range overheadPairs * b.N {
				with, without := run(one.raw), run(one.client)
				raws, clients, ratios = append(raws, with), append(clients, without), append(ratios, without/with)
			}
			for unit, found := range map[string][]float64{"go-redis-µs/call": raws, "client-µs/call": clients, "ratio": ratios} {
				slices.Sort(found)
				b.ReportMetric(found[len(found)/2], unit)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
