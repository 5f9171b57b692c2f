package otel

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
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
		Timeout: 20 * time.Second, ConnectTimeout: 20 * time.Second, Observer: New(tracers, meters),
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
		"redis_gateway.kept", "redis_gateway.log.buffered",
	} {
		if !strings.Contains(text, name+" ") {
			t.Errorf("there is no %s in\n%s", name, text)
		}
	}
	return text
}
