package otel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	gateway "redis-gateway/clients/go"
	"redis-gateway/clients/go/internal/servers"
)

var background = context.Background()

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSpansAndMetrics(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	server.Run("CONFIG SET requirepass secret-password")
	spans, reader := tracetest.NewInMemoryExporter(), sdkmetric.NewManualReader()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	var log bytes.Buffer
	client := redis.NewClient(&redis.Options{Addr: server.Address(), Password: "secret-password"})
	defer client.Close()
	gw, err := gateway.New(client, &gateway.Settings{
		Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second, Observer: New(&Options{Tracers: tracers, Meters: meters}),
		Away: gateway.Away{Admission: gateway.ModeOpen}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	ok(t, err)
	defer gw.Close()

	ctx, parent := tracers.Tracer("test").Start(background, "parent")
	admission, err := gw.Admit(ctx, []string{"secret-key"}, gateway.Amounts{"input_tokens": "5"}, &gateway.AdmitOptions{
		Attributes: map[string]string{"gen_ai.request.model": "small"},
	})
	ok(t, err)
	ok(t, admission.Use(gateway.Amounts{"input_tokens": "2.6", "output_tokens": "7"}))
	_, err = admission.Settle(ctx)
	ok(t, err)
	cache := gateway.NewCache[string](gw, "chat", nil)
	_, err = cache.GetOrCompute(ctx, "secret-prompt", func(context.Context) (string, error) { return "secret-answer", nil }, nil)
	ok(t, err)
	logs := gw.Logs("q", &gateway.LogOptions{Every: time.Hour})
	ok(t, logs.Push("secret-record"))
	logs.Flush(ctx)
	server.Stop()
	_, err = gw.Admit(ctx, []string{"secret-key"}, nil, nil)
	ok(t, err)
	parent.End()

	checkSpans(t, spans.GetSpans(), parent.SpanContext().TraceID(), server.Port)
	found := metricdata.ResourceMetrics{}
	ok(t, reader.Collect(background, &found))
	text := checkMetrics(t, found)
	// What the server and its users say is nobody else's business.
	for _, told := range []string{text, fmt.Sprint(spans.GetSpans()), log.String()} {
		if strings.Contains(told, "secret-") {
			t.Error(told)
		}
	}
}

func checkSpans(t *testing.T, spans tracetest.SpanStubs, of trace.TraceID, port int) {
	t.Helper()
	failed := 0
	seen := map[string]bool{}
	for _, span := range spans {
		if span.Name == "parent" {
			continue
		}
		seen[span.Name] = true
		attributes := attribute.NewSet(span.Attributes...)
		value := func(name attribute.Key) attribute.Value { found, _ := attributes.Value(name); return found }
		if span.SpanKind != trace.SpanKindClient || value("db.system.name").AsString() != "redis" ||
			value("db.operation.name").AsString() != span.Name || value("server.address").AsString() != "127.0.0.1" ||
			value("server.port").AsInt64() != int64(port) || span.SpanContext.TraceID() != of {
			t.Errorf("%+v", span)
		}
		if span.Status.Code == codes.Error {
			failed++
			if value("error.type").AsString() != "connection" {
				t.Errorf("%+v", span)
			}
		}
	}
	if failed == 0 || !seen["GW.ADMIT"] || !seen["GW.SETTLE"] || !seen["GW.CACHEFETCH"] || !seen["GW.LOGPUSH"] {
		t.Errorf("%d have failed of %v", failed, seen)
	}
}

func checkMetrics(t *testing.T, found metricdata.ResourceMetrics) string {
	t.Helper()
	text := ""
	for _, scope := range found.ScopeMetrics {
		for _, one := range scope.Metrics {
			text += fmt.Sprintf("%s %+v\n", one.Name, one.Data)
			if one.Name == "gen_ai.client.token.usage" {
				for _, point := range one.Data.(metricdata.Histogram[int64]).DataPoints {
					kind, _ := point.Attributes.Value("gen_ai.token.type")
					model, _ := point.Attributes.Value("gen_ai.request.model")
					if want := map[string]int64{"input": 3, "output": 7}[kind.AsString()]; point.Sum != want || model.AsString() != "small" {
						t.Errorf("%+v", point)
					}
				}
			}
		}
	}
	for _, name := range []string{
		"db.client.operation.duration", "gen_ai.client.token.usage", "redis_gateway.decisions", "redis_gateway.settlements",
		"redis_gateway.cache", "redis_gateway.log_dropped", "redis_gateway.circuit.open", "redis_gateway.away.seconds",
		"redis_gateway.kept.waiting", "redis_gateway.log.buffered",
	} {
		if !strings.Contains(text, name+" ") {
			t.Errorf("there is no %s in\n%s", name, text)
		}
	}
	return text
}

// collectedFrom is what a reader collects of a name, which is of this kind and of no other.
func collectedFrom[T metricdata.Aggregation](t *testing.T, reader sdkmetric.Reader, name string) (found T) {
	t.Helper()
	collected := metricdata.ResourceMetrics{}
	ok(t, reader.Collect(background, &collected))
	for _, scope := range collected.ScopeMetrics {
		for _, one := range scope.Metrics {
			if one.Name != name {
				continue
			}
			data, is := one.Data.(T)
			if !is {
				t.Errorf("%s is also a %T", name, one.Data)
			}
			found = data
		}
	}
	return found
}

// TestTokensOfSeveralAttemptsAreToldOnce: the accounts' admission tells of those of all attempts. A target that is called without accounts
// tells of its own.
func TestTokensOfSeveralAttemptsAreToldOnce(t *testing.T) {
	server := servers.Start(t, servers.Options{})
	for _, key := range []string{"{a}", "{a}:eu", "{a}:us"} {
		server.Run("GW.POLICYSET " + key + " rpm WINDOW 5 PER 60000")
	}
	reader := sdkmetric.NewManualReader()
	gw, err := gateway.New(server.Client(), &gateway.Settings{
		Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second,
		Observer: New(&Options{Meters: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}),
	})
	ok(t, err)
	defer gw.Close()
	told := func() (count uint64, sum int64) {
		for _, point := range collectedFrom[metricdata.Histogram[int64]](t, reader, "gen_ai.client.token.usage").DataPoints {
			count, sum = count+point.Count, sum+point.Sum
		}
		return count, sum
	}
	targets := []string{"{a}:eu", "{a}:us"}
	request, err := gw.Request(background, []string{"{a}"}, targets, nil, nil)
	ok(t, err)
	uses := []gateway.Amount{"3", "4"}
	for attempt, err := range request.Attempts(background) {
		ok(t, err)
		ok(t, attempt.Use(gateway.Amounts{"input_tokens": uses[0]}))
		if uses = uses[1:]; len(uses) > 0 {
			_, err = attempt.Fail(background, 0)
		} else {
			_, err = attempt.Settle(background)
		}
		ok(t, err)
	}
	ok(t, request.Close())
	if count, sum := told(); count != 1 || sum != 7 {
		t.Errorf("%d tokens in %d figures", sum, count)
	}
	attempt, err := gw.Route(background, targets, nil, nil)
	ok(t, err)
	ok(t, attempt.Use(gateway.Amounts{"input_tokens": "5"}))
	_, err = attempt.Settle(background)
	ok(t, err)
	if count, sum := told(); count != 2 || sum != 12 {
		t.Errorf("%d tokens in %d figures", sum, count)
	}
}

func TestHistogramsHaveTheBucketsOfTheConventions(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	told := New(&Options{Meters: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	told.Call(background, "GW.ADMIT", "")("")
	told.Tokens("input", 5, nil)
	duration := collectedFrom[metricdata.Histogram[float64]](t, reader, "db.client.operation.duration").DataPoints[0].Bounds
	if got := fmt.Sprint(duration); got != "[0.001 0.005 0.01 0.05 0.1 0.5 1 5 10]" {
		t.Error(got)
	}
	tokens := collectedFrom[metricdata.Histogram[int64]](t, reader, "gen_ai.client.token.usage").DataPoints[0].Bounds
	for at, bound := range tokens {
		if bound != math.Pow(4, float64(at)) || len(tokens) != 14 {
			t.Error(tokens)
		}
	}
}

// TestGatewaysOfAProcessShareGauges: OpenTelemetry keeps one value for each set of attributes. None of the gateways must be missing in
// it.
func TestGatewaysOfAProcessShareGauges(t *testing.T) {
	one, other := servers.Start(t, servers.Options{}), servers.Start(t, servers.Options{})
	reader := sdkmetric.NewManualReader()
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	gatewayTo := func(server *servers.Server, name string) *gateway.Gateway {
		gw, err := gateway.New(server.Client(), &gateway.Settings{
			Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second, Failures: 1, Pause: time.Hour,
			Kept: gateway.Kept{Every: time.Hour}, Logger: slog.New(slog.DiscardHandler),
			Observer: New(&Options{Meters: meters, Gateway: name}),
		})
		ok(t, err)
		t.Cleanup(func() { gw.Close() })
		return gw
	}
	gauge := func(name string, label attribute.Key) map[string]float64 {
		made := map[string]float64{}
		for _, point := range collectedFrom[metricdata.Gauge[float64]](t, reader, "redis_gateway."+name).DataPoints {
			value, is := point.Attributes.Value(label)
			if is {
				made[value.Emit()] = point.Value
			} else {
				made[""] = point.Value
			}
		}
		return made
	}
	equal := func(got, want map[string]float64) {
		t.Helper()
		if !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	first, second, third := gatewayTo(one, ""), gatewayTo(other, ""), gatewayTo(other, "third")
	for at, key := range []string{"a", "b", "b"} {
		ok(t, first.Logs(key, &gateway.LogOptions{Every: time.Hour}).Push(at))
	}
	equal(gauge("log.buffered", "gateway"), map[string]float64{"": 3, "third": 0})
	other.Stop()
	for _, gw := range []*gateway.Gateway{second, third, third} {
		_, err := gw.Budgets.Charge(background, "l", "1", nil)
		ok(t, err)
	}
	equal(gauge("kept.waiting", "gateway"), map[string]float64{"": 1, "third": 2})
	equal(gauge("circuit.open", "server.port"), map[string]float64{strconv.Itoa(one.Port): 0, strconv.Itoa(other.Port): 1})
	ended, cancel := context.WithCancel(background)
	cancel()
	third.Shutdown(ended)
	equal(gauge("kept.waiting", "gateway"), map[string]float64{"": 1})
	first.Shutdown(ended)
	second.Shutdown(ended)
	equal(gauge("kept.waiting", "gateway"), map[string]float64{})
	// A gateway that comes later is there again.
	gatewayTo(one, "")
	equal(gauge("kept.waiting", "gateway"), map[string]float64{"": 0})
}
