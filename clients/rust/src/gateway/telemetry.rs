//! OpenTelemetry, by its API alone.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Instant;

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{Counter, Histogram, Meter, MeterProvider};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{KeyValue, Value};

use super::observer::{CallEnd, Label, Observer, ReadFigure};

const SCOPE: &str = "redis_gateway";

/// The boundaries that the conventions advise. Those of OpenTelemetry itself are meant for milliseconds.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// Tells OpenTelemetry what a gateway decides and how it goes: a span and a duration for each call to the server by the `db.client`
/// conventions, tokens by those for generative AI, and counts and figures of its own under `redis_gateway.`. No key, prompt, answer or
/// credential is in any of them.
///
/// Gateways of one process share one, or have clones of one: figures with the same attributes are added. [`named`](Self::named) tells
/// them apart.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use redis_gateway_client::{OpenTelemetry, Settings};
///
/// let settings = Settings { observer: Some(Arc::new(OpenTelemetry::new())), ..Settings::default() };
/// ```
#[derive(Clone)]
pub struct OpenTelemetry {
    tracer: Arc<BoxedTracer>,
    meter: Meter,
    duration: Histogram<f64>,
    tokens: Histogram<u64>,
    counters: Arc<Mutex<HashMap<&'static str, Counter<u64>>>>,
    gauges: Arc<Gauges>,
    gateway: Option<Arc<str>>,
}

impl OpenTelemetry {
    /// Uses OpenTelemetry's global providers, as they are set by now.
    pub fn new() -> Self {
        /// Those of the whole process.
        static GAUGES: LazyLock<Arc<Gauges>> = LazyLock::new(Arc::default);
        Self { gauges: GAUGES.clone(), ..Self::with_providers(&global::tracer_provider(), &*global::meter_provider()) }
    }

    /// Uses providers of the application's own. For one meter provider, make one and clone it.
    pub fn with_providers<T>(tracers: &T, meters: &dyn MeterProvider) -> Self
    where
        T: TracerProvider,
        T::Tracer: Tracer<Span: Send + Sync + 'static> + Send + Sync + 'static,
    {
        let meter = meters.meter(SCOPE);
        let duration = meter
            .f64_histogram("db.client.operation.duration")
            .with_unit("s")
            .with_description("How long the server took to answer.")
            .with_boundaries(SECONDS.to_vec());
        let tokens = meter
            .u64_histogram("gen_ai.client.token.usage")
            .with_unit("{token}")
            .with_description("Tokens that requests have used.")
            .with_boundaries((0..14).map(|power| 4_f64.powi(power)).collect());
        Self {
            tracer: Arc::new(BoxedTracer::new(Box::new(tracers.tracer(SCOPE)))),
            duration: duration.build(),
            tokens: tokens.build(),
            counters: Arc::default(),
            gauges: Arc::default(),
            gateway: None,
            meter,
        }
    }

    /// The same for a gateway whose counts and figures are told apart from those of others: by the attribute `gateway`.
    pub fn named(&self, gateway: &str) -> Self {
        Self { gateway: Some(gateway.into()), ..self.clone() }
    }

    fn name(&self) -> Option<KeyValue> {
        self.gateway.as_ref().map(|name| KeyValue::new("gateway", name.clone()))
    }
}

impl Default for OpenTelemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for OpenTelemetry {
    fn count(&self, name: &'static str, amount: u64, labels: &[Label<'_>]) {
        let counter = lock(&self.counters)
            .entry(name)
            .or_insert_with(|| self.meter.u64_counter(format!("{SCOPE}.{name}")).build())
            .clone();
        let labels = labels.iter().map(|(label, value)| KeyValue::new(*label, (*value).to_owned()));
        counter.add(amount, &labels.chain(self.name()).collect::<Vec<_>>());
    }

    fn call(&self, operation: &str, server: &str) -> CallEnd {
        let operation = operation.to_owned();
        let mut labels =
            vec![KeyValue::new("db.system.name", "redis"), KeyValue::new("db.operation.name", operation.clone())];
        labels.extend(server_attributes(server));
        let span = self.tracer.span_builder(operation).with_kind(SpanKind::Client).with_attributes(labels.clone());
        let mut span = span.start(&*self.tracer);
        let (duration, began) = (self.duration.clone(), Instant::now());
        Box::new(move |error| {
            if let Some(error) = error {
                let kind = KeyValue::new("error.type", error.to_owned());
                span.set_attribute(kind.clone());
                span.set_status(Status::error(Cow::Borrowed("")));
                labels.push(kind);
            }
            span.end();
            duration.record(began.elapsed().as_secs_f64(), &labels);
        })
    }

    fn tokens(&self, kind: &'static str, tokens: u64, attributes: &[(String, String)]) {
        let attributes = attributes.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        let labels: Vec<_> = [KeyValue::new("gen_ai.token.type", kind)].into_iter().chain(attributes).collect();
        self.tokens.record(tokens, &labels);
    }

    fn watch(&self, name: &'static str, read: ReadFigure) {
        let watched = Watched { gateway: self.gateway.clone(), read };
        if self.gauges.add(name, watched) {
            return;
        }
        // OpenTelemetry keeps it until its provider ends.
        let gauges = self.gauges.clone();
        let gauge = self.meter.f64_observable_gauge(format!("{SCOPE}.{name}"));
        gauge.with_callback(move |into| gauges.observe(name, |value, labels| into.observe(value, labels))).build();
    }
}

/// The figures of all gateways that share them. OpenTelemetry has one instrument of a name, and one value of it for each set of
/// attributes: values with the same attributes are added.
#[derive(Default)]
struct Gauges(Mutex<HashMap<&'static str, Vec<Arc<Watched>>>>);

struct Watched {
    gateway: Option<Arc<str>>,
    read: ReadFigure,
}

impl Gauges {
    /// Whether there is such a gauge already.
    fn add(&self, name: &'static str, watched: Watched) -> bool {
        let mut all = lock(&self.0);
        let is_known = all.contains_key(name);
        all.entry(name).or_default().push(Arc::new(watched));
        is_known
    }

    fn observe(&self, name: &'static str, mut into: impl FnMut(f64, &[KeyValue])) {
        let all = lock(&self.0).get(name).cloned().unwrap_or_default();
        let mut sums: BTreeMap<(Option<String>, Option<Arc<str>>), f64> = BTreeMap::new();
        let mut ended = Vec::new();
        for one in all {
            let Some(readings) = (one.read)() else {
                ended.push(one);
                continue;
            };
            for reading in readings {
                *sums.entry((reading.server, one.gateway.clone())).or_default() += reading.value;
            }
        }
        if let Some(all) = lock(&self.0).get_mut(name) {
            all.retain(|one| !ended.iter().any(|ended| Arc::ptr_eq(one, ended)));
        }
        for ((server, gateway), value) in sums {
            let mut labels = server.as_deref().map(server_attributes).unwrap_or_default();
            labels.extend(gateway.map(|name| KeyValue::new("gateway", name)));
            into(value, &labels);
        }
    }
}

/// Those of `host:port`, or of the path of a socket.
fn server_attributes(server: &str) -> Vec<KeyValue> {
    let address = |host: &str| KeyValue::new("server.address", host.to_owned());
    match server.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) => vec![address(host), KeyValue::new("server.port", Value::I64(i64::from(port)))],
        _ => vec![address(server)],
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl fmt::Debug for OpenTelemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenTelemetry").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}
