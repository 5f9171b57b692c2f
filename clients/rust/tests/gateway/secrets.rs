use std::convert::Infallible;
use std::sync::Mutex;

use gw_testkit::{Links, call};
use redis::IntoConnectionInfo;
use redis_gateway_client::{
    AdmitOptions, AllowOptions, CacheOptions, ChargeOptions, EntryOptions, Gateway, LogOptions, SlotOptions,
};

use crate::support::*;

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("redis_gateway_client") {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Whatever goes wrong, neither log lines nor figures nor what is printed for debugging tell a key, a value or a password.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_written() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (server, proxy, first) = behind_proxy(patient());
    drop(first);
    let mut admin = server.connect().unwrap();
    call!(admin, "CONFIG", "SET", "requirepass", "hush-password" => ());
    let user = redis::RedisConnectionInfo::default().set_password("hush-password");
    let info = ("127.0.0.1", proxy.port()).into_connection_info().unwrap().set_redis_settings(user);
    let gateway = Gateway::new(&redis::Client::open(info).unwrap(), brisk()).unwrap();
    ready(&gateway).await;
    let cache = gateway.cache("chat", CacheOptions { tenant: Some("hush-tenant".into()), ..Default::default() });
    let request = r#"{"prompt":"hush-prompt"}"#;
    call!(admin, "SET", cache.key(request).unwrap(), "hush-value" => ());
    call!(admin, "SET", "hush-account", "hush-value" => ());
    call!(admin, "SET", "hush-log", "hush-value" => ());
    let logs = gateway.logs("hush-log", LogOptions::default());
    let mut printed = Vec::new();
    for _ in 0..3 {
        let compute = || async { Ok::<_, Infallible>("hush-answer") };
        cache.get_or_compute(request, &EntryOptions::default(), compute).await.unwrap();
        cache.set(request, "hush-answer", &EntryOptions::default()).await.unwrap();
        let asked = gateway.admit(["hush-account"], amounts(&[("usd", "1")]), &AdmitOptions::default()).await;
        printed.push(format!("{:?}", asked.ok()));
        printed.push(format!("{:?}", gateway.allow("hush-key", 1, &AllowOptions::default()).await));
        printed.push(format!("{:?}", gateway.charge("hush-key", amount("1"), &ChargeOptions::default()).await.ok()));
        printed.push(format!("{:?}", gateway.lock("hush-lock", &SlotOptions::default()).await));
        logs.push("hush-record, which is no JSON");
        logs.flush().await;
        proxy.cut(Links::All);
    }
    proxy.heal();
    gateway.close().await;
    printed.push(format!("{gateway:?} {:?} {cache:?} {logs:?}", gateway.figures()));
    let request = redis_gateway_client::commands::cache_get("hush-key");
    printed.push(format!("{request:?}"));
    printed.extend(LINES.0.lock().unwrap().iter().cloned());
    assert!(printed.len() > 15, "{printed:?}");
    for line in printed {
        assert!(!line.contains("hush"), "{line}");
    }
}
