// Package otel tells OpenTelemetry what a gateway decides and how it goes: a span and a duration for each call to the server by the
// `db.client` conventions, tokens by those for generative AI, and counts and figures of its own under `redis_gateway.`.
//
//	gw, err := gateway.New(client, &gateway.Settings{Observer: otel.New(nil)})
//
// No key, prompt, answer or credential is in any of them. It depends on the API of OpenTelemetry alone.
package otel

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	gateway "redis-gateway/clients/go"
)

const scope = "redis_gateway"

// The boundaries that the conventions advise. Those of OpenTelemetry itself are meant for milliseconds.
var (
	seconds    = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10}
	tokenSteps = []float64{
		1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864,
	}
)

// Options are what [New] may be told. What is nil or empty has its default.
type Options struct {
	// Tracers makes the spans. Default: OpenTelemetry's global provider.
	Tracers trace.TracerProvider

	// Meters makes the metrics. Default: OpenTelemetry's global provider.
	Meters metric.MeterProvider

	// Gateway is a name that tells the counts and gauges of this gateway from those of the process's other gateways: the attribute
	// `gateway`. Without names they are added.
	Gateway string
}

type observer struct {
	tracer   trace.Tracer
	meter    metric.Meter
	gauges   *gauges
	name     []attribute.KeyValue
	duration metric.Float64Histogram
	tokens   metric.Int64Histogram

	mutex    sync.Mutex
	counters map[string]metric.Int64Counter
}

// New makes an observer for [gateway.Settings]. The options may be nil.
func New(options *Options) gateway.Observer {
	own := Options{}
	if options != nil {
		own = *options
	}
	made := &observer{counters: map[string]metric.Int64Counter{}, gauges: gaugesOf(own.Meters)}
	if own.Tracers == nil {
		own.Tracers = otel.GetTracerProvider()
	}
	if own.Meters == nil {
		own.Meters = otel.GetMeterProvider()
	}
	if own.Gateway != "" {
		made.name = []attribute.KeyValue{attribute.String("gateway", own.Gateway)}
	}
	made.tracer, made.meter = own.Tracers.Tracer(scope), own.Meters.Meter(scope)
	var err error
	made.duration, err = made.meter.Float64Histogram("db.client.operation.duration", metric.WithUnit("s"),
		metric.WithDescription("How long the server took to answer."), metric.WithExplicitBucketBoundaries(seconds...))
	handled(err)
	made.tokens, err = made.meter.Int64Histogram("gen_ai.client.token.usage", metric.WithUnit("{token}"),
		metric.WithDescription("Tokens that requests have used."), metric.WithExplicitBucketBoundaries(tokenSteps...))
	handled(err)
	return made
}

// handled hands an error to OpenTelemetry's handler: what is measured must not fail because of how it is measured.
func handled(err error) {
	if err != nil {
		otel.Handle(err)
	}
}

// attributesOf are the labels and the gateway's name.
func (o *observer) attributesOf(labels []gateway.Label) attribute.Set {
	made := make([]attribute.KeyValue, 0, len(labels)+2)
	for _, label := range labels {
		if label.Name == "server" {
			made = append(made, serverAttributes(label.Value)...)
		} else {
			made = append(made, attribute.String(label.Name, label.Value))
		}
	}
	return attribute.NewSet(append(made, o.name...)...)
}

func (o *observer) Count(name string, amount int64, labels []gateway.Label) {
	o.mutex.Lock()
	counter, has := o.counters[name]
	if !has {
		var err error
		counter, err = o.meter.Int64Counter(scope + "." + name)
		handled(err)
		o.counters[name] = counter
	}
	o.mutex.Unlock()
	counter.Add(context.Background(), amount, metric.WithAttributeSet(o.attributesOf(labels)))
}

// serverAttributes are those of `host:port`, or of the path of a socket.
func serverAttributes(server string) []attribute.KeyValue {
	if server == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(server)
	if number, failed := strconv.Atoi(port); err == nil && failed == nil {
		return []attribute.KeyValue{attribute.String("server.address", host), attribute.Int("server.port", number)}
	}
	return []attribute.KeyValue{attribute.String("server.address", server)}
}

func (o *observer) Call(ctx context.Context, operation, server string) func(errorKind string) {
	labels := []attribute.KeyValue{attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", operation)}
	labels = append(labels, serverAttributes(server)...)
	began := time.Now()
	_, span := o.tracer.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(labels...))
	return func(errorKind string) {
		if errorKind != "" {
			failed := attribute.String("error.type", errorKind)
			span.SetAttributes(failed)
			span.SetStatus(codes.Error, "")
			labels = append(labels, failed)
		}
		span.End()
		o.duration.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(labels...))
	}
}

func (o *observer) Tokens(kind string, tokens int64, attributes map[string]string) {
	labels := []attribute.KeyValue{attribute.String("gen_ai.token.type", kind)}
	for name, value := range attributes {
		labels = append(labels, attribute.String(name, value))
	}
	o.tokens.Record(context.Background(), tokens, metric.WithAttributes(labels...))
}
