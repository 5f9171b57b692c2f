package otel

import (
	"context"
	"reflect"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	gateway "redis-gateway/clients/go"
)

// gauges are the figures of all gateways of this process that have one provider. OpenTelemetry has one instrument of a name, and one
// value of it for each set of attributes: values with the same attributes are added.
type gauges struct {
	mutex  sync.Mutex
	byName map[string]*gauge
}

// gauge is a figure, with those that read it. It is registered while there is one.
type gauge struct {
	watched      map[*watched]bool
	registration metric.Registration
}

type watched struct {
	observer *observer
	read     func() []gateway.Reading
}

var (
	providersMutex sync.Mutex
	providers      = map[metric.MeterProvider]*gauges{}
)

// gaugesOf are those of a provider; nil is OpenTelemetry's global one.
func gaugesOf(provider metric.MeterProvider) *gauges {
	made := &gauges{byName: map[string]*gauge{}}
	if provider != nil && !reflect.TypeOf(provider).Comparable() {
		return made // It cannot be told from others.
	}
	providersMutex.Lock()
	defer providersMutex.Unlock()
	if known := providers[provider]; known != nil {
		return known
	}
	providers[provider] = made
	return made
}

// Watch has the figure read whenever the metrics are collected.
func (o *observer) Watch(name string, read func() []gateway.Reading) (stop func()) {
	g, own := o.gauges, &watched{o, read}
	g.mutex.Lock()
	defer g.mutex.Unlock()
	found := g.byName[name]
	if found == nil {
		found = &gauge{watched: map[*watched]bool{}}
		g.byName[name] = found
		g.register(o.meter, name, found)
	}
	found.watched[own] = true
	return func() {
		g.mutex.Lock()
		defer g.mutex.Unlock()
		delete(found.watched, own)
		if len(found.watched) == 0 && g.byName[name] == found {
			delete(g.byName, name)
			if found.registration != nil {
				handled(found.registration.Unregister())
			}
		}
	}
}

func (g *gauges) register(meter metric.Meter, name string, found *gauge) {
	instrument, err := meter.Float64ObservableGauge(scope + "." + name)
	handled(err)
	if err != nil {
		return
	}
	found.registration, err = meter.RegisterCallback(func(_ context.Context, into metric.Observer) error {
		for attributes, value := range g.sums(found) {
			into.ObserveFloat64(instrument, value, metric.WithAttributeSet(attributes))
		}
		return nil
	}, instrument)
	handled(err)
}

// sums are the values by their attributes.
func (g *gauges) sums(found *gauge) map[attribute.Set]float64 {
	g.mutex.Lock()
	reading := make([]*watched, 0, len(found.watched))
	for one := range found.watched {
		reading = append(reading, one)
	}
	g.mutex.Unlock()
	made := map[attribute.Set]float64{}
	for _, one := range reading {
		for _, own := range one.read() {
			made[one.observer.attributesOf(own.Labels)] += own.Value
		}
	}
	return made
}
