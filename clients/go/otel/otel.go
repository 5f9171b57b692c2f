// Package otel tells OpenTelemetry what a gateway decides and how it goes: a span and a duration for each call to the server by the
// `db.client` conventions, tokens by those for generative AI, and counts and figures of its own under `redis_gateway.`.
//
//	gw, err := gateway.New(client, &gateway.Settings{Observer: otel.New(nil, nil)})
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

type observer struct {
	tracer   trace.Tracer
	meter    metric.Meter
	duration metric.Float64Histogram
	tokens   metric.Int64Histogram

	mutex    sync.Mutex
	counters map[string]metric.Int64Counter
}

// New makes an observer for [gateway.Settings]. Of what is nil it takes OpenTelemetry's global provider.
func New(tracers trace.TracerProvider, meters metric.MeterProvider) gateway.Observer {
	if tracers == nil {
		tracers = otel.GetTracerProvider()
	}
	if meters == nil {
		meters = otel.GetMeterProvider()
	}
	made := &observer{tracer: tracers.Tracer(scope), meter: meters.Meter(scope), counters: map[string]metric.Int64Counter{}}
	var err error
	made.duration, err = made.meter.Float64Histogram("db.client.operation.duration",
		metric.WithUnit("s"), metric.WithDescription("How long the server took to answer."))
	handled(err)
	made.tokens, err = made.meter.Int64Histogram("gen_ai.client.token.usage",
		metric.WithUnit("{token}"), metric.WithDescription("Tokens that requests have used."))
	handled(err)
	return made
}

// handled hands an error to OpenTelemetry's handler: what is measured must not fail because of how it is measured.
func handled(err error) {
	if err != nil {
		otel.Handle(err)
	}
}

func attributesOf(labels []gateway.Label) attribute.Set {
	made := make([]attribute.KeyValue, len(labels))
	for at, label := range labels {
		made[at] = attribute.String(label.Name, label.Value)
	}
	return attribute.NewSet(made...)
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
	counter.Add(context.Background(), amount, metric.WithAttributeSet(attributesOf(labels)))
}

func (o *observer) Call(ctx context.Context, operation, server string) func(errorKind string) {
	labels := []attribute.KeyValue{attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", operation)}
	if host, port, err := net.SplitHostPort(server); err == nil {
		labels = append(labels, attribute.String("server.address", host))
		if number, err := strconv.Atoi(port); err == nil {
			labels = append(labels, attribute.Int("server.port", number))
		}
	}
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

func (o *observer) Watch(name string, read func() []gateway.Reading) {
	_, err := o.meter.Float64ObservableGauge(scope+"."+name, metric.WithFloat64Callback(
		func(_ context.Context, into metric.Float64Observer) error {
			for _, reading := range read() {
				into.Observe(reading.Value, metric.WithAttributeSet(attributesOf(reading.Labels)))
			}
			return nil
		}))
	handled(err)
}
