//! What OpenTelemetry is told of a gateway, by an SDK that keeps it in memory.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use gw_testkit::{Server, call};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, TraceId, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use redis::IntoConnectionInfo;
use redis_gateway_client::{
    AdmitOptions, AllowOptions, Amount, Away, CacheOptions, EntryOptions, Gateway, LogOptions, Mode, Observer,
    OpenTelemetry, RouteOptions, Settings,
};

/// Providers of a test's own, with what they were told.
struct Told {
    spans: InMemorySpanExporter,
    tracers: SdkTracerProvider,
    metrics: InMemoryMetricExporter,
    meters: SdkMeterProvider,
}

impl Told {
    fn new() -> Self {
        let (spans, metrics) = (InMemorySpanExporter::default(), InMemoryMetricExporter::default());
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics.clone()).build();
        Self { spans, tracers, metrics, meters }
    }

    fn observer(&self) -> OpenTelemetry {
        OpenTelemetry::with_providers(&self.tracers, &self.meters)
    }

    /// Has the metrics collected, and looks at each of them.
    fn collected(&self, mut look: impl FnMut(&Metric)) {
        self.metrics.reset();
        self.meters.force_flush().unwrap();
        let all = self.metrics.get_finished_metrics().unwrap();
        all.iter().flat_map(|all| all.scope_metrics()).flat_map(|scope| scope.metrics()).for_each(&mut look);
    }

    /// The sums of a gauge's values by an attribute; with an empty name if they do not have it.
    fn gauge(&self, name: &str, attribute: &str) -> BTreeMap<String, f64> {
        let mut made = BTreeMap::new();
        self.collected(|metric| {
            if metric.name() != format!("redis_gateway.{name}") {
                return;
            }
            let AggregatedMetrics::F64(MetricData::Gauge(gauge)) = metric.data() else { panic!("{metric:?}") };
            for point in gauge.data_points() {
                let attribute = value(point.attributes(), attribute).unwrap_or_default();
                *made.entry(attribute).or_default() += point.value();
            }
        });
        made
    }
}

fn value<'a>(attributes: impl Iterator<Item = &'a KeyValue>, name: &str) -> Option<String> {
    let mut found = attributes.filter(|attribute| attribute.key.as_str() == name);
    found.next().map(|attribute| attribute.value.to_string())
}

/// A busy machine is slow.
fn settings(observer: OpenTelemetry) -> Settings {
    let patience = Duration::from_secs(20);
    Settings { timeout: patience, connect_timeout: patience, observer: Some(Arc::new(observer)), ..Settings::default() }
}

fn client(server: &Server) -> redis::Client {
    let user = redis::RedisConnectionInfo::default().set_password("secret-password");
    let info = ("127.0.0.1", server.port()).into_connection_info().unwrap().set_redis_settings(user);
    redis::Client::open(info).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_and_metrics() {
    let mut server = Server::start().unwrap();
    call!(server.connect().unwrap(), "CONFIG", "SET", "requirepass", "secret-password" => ());
    let told = Told::new();
    let away = Away { admission: Mode::Open, ..Away::default() };
    let gateway = Gateway::new(&client(&server), Settings { away, ..settings(told.observer()) }).unwrap();

    let parent = told.tracers.tracer("test").start("parent");
    let context = Context::current_with_span(parent);
    let trace = context.span().span_context().trace_id();
    let work = async {
        let model = ("gen_ai.request.model".to_owned(), "small".to_owned());
        let options = AdmitOptions { attributes: vec![model], ..AdmitOptions::default() };
        let estimates = [("input_tokens".into(), Amount::from(5))].into();
        let admission = gateway.admit(["secret-key"], estimates, &options).await.unwrap();
        admission.use_so_far("input_tokens", "2.6".parse().unwrap()).unwrap();
        admission.use_so_far("output_tokens", Amount::from(7)).unwrap();
        admission.settle().await.unwrap();
        let cache = gateway.cache("chat", CacheOptions::default());
        let compute = || async { Ok::<_, Infallible>("secret-answer") };
        cache.get_or_compute(r#"{"prompt":"secret-prompt"}"#, &EntryOptions::default(), compute).await.unwrap();
        let logs = gateway.logs("secret-log", LogOptions { every: Duration::from_secs(3_600), ..Default::default() });
        logs.push("secret-record, which is no JSON");
        logs.flush().await;
        assert_eq!(logs.dropped(), 1);
        server.kill();
        gateway.admit(["secret-key"], [].into(), &AdmitOptions::default()).await.unwrap();
    };
    work.with_context(context.clone()).await;
    context.span().end();

    check_spans(&told.spans.get_finished_spans().unwrap(), trace, server.port());
    let mut names = Vec::new();
    let mut tokens = BTreeMap::new();
    told.collected(|metric| {
        names.push(metric.name().to_owned());
        assert!(!format!("{metric:?}").contains("secret-"), "{metric:?}");
        if let AggregatedMetrics::U64(MetricData::Histogram(found)) = metric.data() {
            for point in found.data_points() {
                assert_eq!(value(point.attributes(), "gen_ai.request.model").as_deref(), Some("small"));
                tokens.insert(value(point.attributes(), "gen_ai.token.type").unwrap(), point.sum());
            }
        }
    });
    assert_eq!(tokens, [("input".to_owned(), 3), ("output".to_owned(), 7)].into());
    for name in [
        "db.client.operation.duration",
        "gen_ai.client.token.usage",
        "redis_gateway.decisions",
        "redis_gateway.settlements",
        "redis_gateway.cache",
        "redis_gateway.log_dropped",
        "redis_gateway.circuit.open",
        "redis_gateway.away.seconds",
        "redis_gateway.kept.waiting",
        "redis_gateway.log.buffered",
    ] {
        assert!(names.iter().any(|found| found == name), "there is no {name} in {names:?}");
    }
}

fn check_spans(spans: &[SpanData], trace: TraceId, port: u16) {
    let mut failed = 0;
    let mut seen = Vec::new();
    for span in spans.iter().filter(|span| span.name != "parent") {
        assert!(!format!("{span:?}").contains("secret-"), "{span:?}");
        let attribute = |name: &str| value(span.attributes.iter(), name);
        assert_eq!(span.span_kind, SpanKind::Client);
        assert_eq!(attribute("db.system.name").as_deref(), Some("redis"));
        assert_eq!(attribute("db.operation.name").as_deref(), Some(&*span.name));
        assert_eq!(attribute("server.address").as_deref(), Some("127.0.0.1"));
        assert_eq!(attribute("server.port"), Some(port.to_string()));
        assert_eq!(span.span_context.trace_id(), trace, "{span:?}");
        let kind = attribute("error.type");
        match (&*span.name, &span.status) {
            // What the server refuses, and what it cannot be asked.
            ("GW.LOGPUSH", Status::Error { .. }) => assert_eq!(kind.as_deref(), Some("InvalidArgument"), "{span:?}"),
            (_, Status::Error { .. }) => {
                assert_eq!(kind.as_deref(), Some("connection"), "{span:?}");
                failed += 1;
            }
            _ => assert_eq!(kind, None, "{span:?}"),
        }
        seen.push(span.name.to_string());
    }
    assert!(failed > 0, "{seen:?}");
    for name in ["GW.ADMIT", "GW.SETTLE", "GW.CACHEFETCH", "GW.LOGPUSH"] {
        assert!(seen.iter().any(|found| found == name), "there is no {name} in {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_several_attempts_are_told_once() {
    let server = Server::start().unwrap();
    let told = Told::new();
    let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
    let gateway = Gateway::new(&client, settings(told.observer())).unwrap();
    for key in ["{a}", "{a}:eu", "{a}:us"] {
        call!(server.connect().unwrap(), "GW.POLICYSET", key, "rpm", "WINDOW", 5, "PER", 60_000 => ());
    }
    let targets = ["{a}:eu", "{a}:us"];
    let mut request = gateway.request(["{a}"], targets, [].into(), &RouteOptions::default()).await.unwrap();
    let first = request.next().await.unwrap().unwrap();
    first.use_so_far("input_tokens", Amount::from(3)).unwrap();
    first.fail(None).await.unwrap();
    let second = request.next().await.unwrap().unwrap();
    second.use_so_far("input_tokens", Amount::from(4)).unwrap();
    second.settle().await.unwrap();
    request.settle().await.unwrap();
    let mut sums = Vec::new();
    told.collected(|metric| {
        if let AggregatedMetrics::U64(MetricData::Histogram(found)) = metric.data() {
            sums.extend(found.data_points().map(|point| (point.count(), point.sum())));
        }
    });
    assert_eq!(sums, [(1, 7)]);
}

/// Whoever does not wait for the answer any more leaves a call that has ended, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_waits_for_is_told() {
    let mut server = Server::start().unwrap();
    let told = Told::new();
    let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
    let gateway = Gateway::new(&client, settings(told.observer())).unwrap();
    assert!(gateway.health().await.ok);
    server.pause().unwrap();
    let options = AllowOptions::default();
    let left = gateway.allow("k", 1, &options);
    assert!(tokio::time::timeout(Duration::from_millis(20), left).await.is_err());
    server.go_on().unwrap();
    let spans = told.spans.get_finished_spans().unwrap();
    let span = spans.iter().find(|span| span.name == "GW.ALLOW").unwrap();
    assert_eq!(value(span.attributes.iter(), "error.type").as_deref(), Some("cancelled"));
}

#[test]
fn histograms_have_the_buckets_of_the_conventions() {
    let told = Told::new();
    let observer = told.observer();
    observer.call("GW.ADMIT", "/run/redis.sock")(None);
    observer.tokens("input", 5, &[]);
    let mut bounds = BTreeMap::new();
    told.collected(|metric| {
        let found: Vec<f64> = match metric.data() {
            AggregatedMetrics::F64(MetricData::Histogram(found)) => {
                found.data_points().next().unwrap().bounds().collect()
            }
            AggregatedMetrics::U64(MetricData::Histogram(found)) => {
                found.data_points().next().unwrap().bounds().collect()
            }
            _ => panic!("{metric:?}"),
        };
        bounds.insert(metric.name().to_owned(), found);
    });
    let seconds = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
    assert_eq!(bounds["db.client.operation.duration"], seconds);
    let tokens: Vec<f64> = (0..14).map(|power| f64::from(4_u32.pow(power))).collect();
    assert_eq!(bounds["gen_ai.client.token.usage"], tokens);
}

/// OpenTelemetry keeps one value for each set of attributes. None of the gateways must be missing in it.
#[tokio::test(flavor = "multi_thread")]
async fn gateways_of_a_process_share_gauges() {
    let (one, mut other) = (Server::start().unwrap(), Server::start().unwrap());
    let (told, hour) = (Told::new(), Duration::from_secs(3_600));
    let observer = told.observer();
    let gateway_to = |server: &Server, observer: OpenTelemetry| {
        let mut settings = Settings { failures: 1, pause: hour, ..settings(observer) };
        settings.kept.every = hour;
        let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
        Gateway::new(&client, settings).unwrap()
    };
    let all = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    };
    let first = gateway_to(&one, observer.clone());
    let second = gateway_to(&other, observer.clone());
    let third = gateway_to(&other, observer.named("third"));
    let _logs = ["a", "b", "b"].map(|key| {
        let logs = first.logs(key, LogOptions { every: hour, ..LogOptions::default() });
        logs.push("{}");
        logs
    });
    assert_eq!(told.gauge("log.buffered", "gateway"), all(&[("", 3.0), ("third", 0.0)]));
    other.shut_down().unwrap();
    for gateway in [&second, &third, &third] {
        gateway.charge("l", Amount::from(1), &Default::default()).await.unwrap();
    }
    assert_eq!(told.gauge("kept.waiting", "gateway"), all(&[("", 1.0), ("third", 2.0)]));
    let ports = [one.port(), other.port()].map(|port| port.to_string());
    // Two gateways, one of which has a name.
    assert_eq!(told.gauge("circuit.open", "server.port"), all(&[(&ports[0], 0.0), (&ports[1], 2.0)]));
    assert!(told.gauge("away.seconds", "server.port")[&ports[1]] > 0.0);
    third.close_within(Duration::ZERO).await;
    assert_eq!(told.gauge("kept.waiting", "gateway"), all(&[("", 1.0)]));
    first.close_within(Duration::ZERO).await;
    second.close_within(Duration::ZERO).await;
    assert_eq!(told.gauge("kept.waiting", "gateway"), all(&[]));
    // A gateway that comes later is there again.
    let _fourth = gateway_to(&one, observer);
    assert_eq!(told.gauge("kept.waiting", "gateway"), all(&[("", 0.0)]));
}

/// Those without providers of their own use the global ones, and share their gauges, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_global_providers() {
    let told = Told::new();
    opentelemetry::global::set_tracer_provider(told.tracers.clone());
    opentelemetry::global::set_meter_provider(told.meters.clone());
    let server = Server::start().unwrap();
    let client = redis::Client::open(("127.0.0.1", server.port())).unwrap();
    let gateways = [0, 1].map(|_| Gateway::new(&client, settings(OpenTelemetry::new())).unwrap());
    let hour = Duration::from_secs(3_600);
    let _logs = gateways.each_ref().map(|gateway| {
        let logs = gateway.logs("q", LogOptions { every: hour, ..LogOptions::default() });
        logs.push("{}");
        logs
    });
    assert!(gateways[0].health().await.ok);
    assert_eq!(told.gauge("log.buffered", "gateway"), [(String::new(), 2.0)].into());
    assert!(told.spans.get_finished_spans().unwrap().iter().any(|span| span.name == "GW.STATS"));
}
