//! A gateway over the fake, and the fake's clock.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gw_testkit::DEADLINE;
use redis_gateway_client::commands::{Budget, Period, SpentOptions, cache_set, log_peek, policy_put, spent};
use redis_gateway_client::testing::Fake;
use redis_gateway_client::{
    AdmitOptions, AllowOptions, Amount, Amounts, Away, CacheOptions, ChargeOptions, EntryOptions, Gateway,
    HeaderOptions, LogOptions, Mode, Outcome, RouteOptions, Settings, Settlement, SlotOptions, blocking,
};

/// A busy machine is slow.
fn patient() -> Settings {
    let patience = Duration::from_secs(20);
    let away = Away { admission: Mode::Open, ..Away::default() };
    let mut made = Settings {
        timeout: patience,
        connect_timeout: patience,
        waiting_timeout: patience,
        away,
        ..Settings::default()
    };
    // The test itself sends what is kept, and the circuit stays closed.
    made.kept.every = Duration::from_secs(3_600);
    made.failures = 1_000;
    made
}

fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

fn usd(text: &str) -> Amounts {
    [("usd".into(), amount(text))].into()
}

async fn month_of(gateway: &Gateway, key: &str) -> String {
    let month = SpentOptions { period: Some(Period::Month), ..Default::default() };
    gateway.run(&spent(key, &month)).await.unwrap().to_string()
}

const TWO_A_MINUTE: &str = r#"{"policies":[{"name":"rpm","kind":"window","limit":2,"per_ms":60000}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_works_without_a_server() {
    let fake = Fake::start().unwrap();
    let gateway = Gateway::new(&fake.client(), patient()).unwrap();
    gateway.run(&policy_put("a", TWO_A_MINUTE, &Default::default())).await.unwrap();
    let options = AdmitOptions::default();
    let admission = gateway.admit(["a"], usd("1"), &options).await.unwrap();
    admission.use_so_far("usd", amount("0.25")).unwrap();
    assert_eq!(admission.settle().await.unwrap(), Settlement::Settled);
    assert_eq!(month_of(&gateway, "a").await, "0.25");
    gateway.admit(["a"], [].into(), &options).await.unwrap().settle().await.unwrap();
    let denied = gateway.admit(["a"], [].into(), &options).await.unwrap();
    assert_eq!((denied.reason(), denied.retry_after()), (Some("limit"), Some(Duration::from_secs(60))));
    assert!(denied.headers(&HeaderOptions::default()).contains(&("Retry-After".to_owned(), "60".to_owned())));

    let lock = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    assert!(lock.is_ok());
    let wait = Duration::from_millis(20);
    assert!(!gateway.lock("l", &SlotOptions { wait, ..Default::default() }).await.unwrap().is_ok());
    assert!(lock.release().await.unwrap());
    assert!(gateway.lock("l", &SlotOptions::default()).await.unwrap().is_ok());

    let logs = gateway.logs("log", LogOptions::default());
    logs.push(r#"{"id":1}"#);
    assert!(logs.flush().await);
    assert_eq!(gateway.run(&log_peek("log", &Default::default())).await.unwrap(), [br#"{"id":1}"#]);
    for target in ["b", "{gpt}:eu"] {
        gateway.run(&policy_put(target, TWO_A_MINUTE, &Default::default())).await.unwrap();
    }
    let targets = ["{gpt}:none", "{gpt}:eu"];
    let mut request = gateway.request(["b"], targets, usd("1"), &RouteOptions::default()).await.unwrap();
    let attempt = request.next().await.unwrap().unwrap();
    assert_eq!(attempt.target().unwrap(), &"{gpt}:eu");
    assert_eq!(attempt.fail(Some(Duration::from_secs(30))).await.unwrap(), Settlement::Settled);
    assert_eq!(request.next().await.unwrap().unwrap_err().reason, "every_target_failed");
    assert_eq!(request.settle().await.unwrap(), Settlement::Settled);
    let health = gateway.health().await;
    assert!(health.ok, "{health:?}");
    assert_eq!(fake.missing(), Vec::<String>::new());
    gateway.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_computed_once() {
    let fake = Fake::start().unwrap();
    let gateway = Gateway::new(&fake.client(), patient()).unwrap();
    let cache = gateway.cache("chat", CacheOptions { tenant: Some("ml".into()), ..Default::default() });
    static COMPUTED: AtomicUsize = AtomicUsize::new(0);
    let computed = || COMPUTED.load(Ordering::Relaxed);
    let compute = || async {
        COMPUTED.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>("Hello")
    };
    for _ in 0..2 {
        let text = cache.get_or_compute(r#""Hi""#, &EntryOptions::default(), compute).await.unwrap();
        assert_eq!(&*text, b"Hello");
    }
    assert_eq!((computed(), cache.clear().await.unwrap()), (1, 1));
    cache.get_or_compute(r#""Hi""#, &EntryOptions::default(), compute).await.unwrap();
    assert_eq!(computed(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_comes_back() {
    let fake = Fake::start().unwrap();
    let gateway = Gateway::new(&fake.client(), patient()).unwrap();
    gateway.run(&policy_put("a", TWO_A_MINUTE, &Default::default())).await.unwrap();
    let five = Budget { amount: 5.into(), period: Period::Month };
    let hold = gateway.reserve("l", amount("1"), &[five], Duration::from_secs(60)).await.unwrap();
    assert_eq!(hold.commit(amount("0.5")).await.unwrap(), Settlement::Settled);
    let admission = gateway.admit(["a"], usd("1"), &AdmitOptions::default()).await.unwrap();

    fake.set_away(true);
    let asked = fake.calls().len();
    // The first call to find its connection closed may have arrived, for all that the gateway knows. The others have not.
    assert!(!gateway.health().await.ok);
    let degraded = gateway.admit(["a"], [].into(), &AdmitOptions::default()).await.unwrap();
    assert_eq!((degraded.outcome(), degraded.settle().await.unwrap()), (Outcome::Degraded, Settlement::Nothing));
    assert_eq!(gateway.allow("k", 1, &AllowOptions::default()).await.unwrap().outcome, Outcome::Degraded);
    assert!(!gateway.within_budget("l", &[five], None).await.unwrap().is_ok());
    assert_eq!(gateway.charge("l", amount("1"), &ChargeOptions::default()).await.unwrap(), Settlement::Kept);
    assert_eq!(admission.settle().await.unwrap(), Settlement::Kept);
    assert_eq!(fake.calls().len(), asked, "{:?}", fake.calls());

    fake.set_away(false);
    let began = Instant::now();
    while gateway.kept() > 0 {
        assert!(began.elapsed() < DEADLINE, "still kept: {}", gateway.kept());
        gateway.send_kept().await;
    }
    assert_eq!([month_of(&gateway, "l").await, month_of(&gateway, "a").await], ["1.5", "1"]);
    assert!(fake.calls()[asked..].iter().any(|words| words[0] == "GW.ADDCOST" && words[1] == "l"));
    fake.flush();
    assert_eq!((month_of(&gateway, "l").await, fake.calls().len()), ("0".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_the_tests() {
    let fake = Fake::start().unwrap();
    let gateway = Gateway::new(&fake.client(), patient()).unwrap();
    let began = fake.now();
    let allowed = async || gateway.allow("k", 2, &AllowOptions::default()).await.unwrap().is_ok();
    assert_eq!([allowed().await, allowed().await, allowed().await], [true, true, false]);
    fake.advance(Duration::from_millis(59_999));
    assert!(!allowed().await);
    fake.advance(Duration::from_millis(1));
    assert!(allowed().await);
    assert_eq!(fake.now().duration_since(began).unwrap(), Duration::from_secs(60));
    let cache = gateway.cache("chat", CacheOptions { ttl: Some(Duration::from_secs(10)), ..Default::default() });
    cache.set("1", "one", &EntryOptions::default()).await.unwrap();
    assert_eq!(cache.get("1").await.unwrap().as_deref(), Some(&b"one"[..]));
    fake.advance(Duration::from_secs(10));
    assert_eq!(cache.get("1").await.unwrap(), None);
}

#[test]
fn blocking_programs_use_it_too() {
    let fake = Fake::start().unwrap();
    let gateway = blocking::Gateway::new(&fake.client(), patient()).unwrap();
    gateway.run(&policy_put("a", TWO_A_MINUTE, &Default::default())).unwrap();
    let admission = gateway.admit(["a"], usd("1"), &AdmitOptions::default()).unwrap();
    assert_eq!(admission.settle().unwrap(), Settlement::Settled);
}

/// A program may send all before it reads a reply: more than the connection has room for.
#[test]
fn a_pipeline_that_is_longer_than_a_buffer() {
    let fake = Fake::start().unwrap();
    let mut connection = fake.client().get_connection().unwrap();
    let value = vec![b'x'; 1 << 20];
    cache_set("chat:1", &value, &Default::default()).query(&mut connection).unwrap();
    let mut pipe = redis::pipe();
    for _ in 0..20 {
        pipe.cmd("GW.CACHEGET").arg("chat:1");
    }
    for _ in 0..20 {
        pipe.cmd("GW.CACHESET").arg("chat:2").arg(&value);
    }
    let replies: Vec<redis::Value> = pipe.query(&mut connection).unwrap();
    assert_eq!(replies.len(), 40);
    assert_eq!(replies[19], redis::Value::BulkString(value));
}
