//! Servers, gateways and questions of these tests.

use std::time::Duration;

use gw_testkit::{DEADLINE, Proxy, Server, call};
use redis::Client;
use redis_gateway_client::commands::{AccountState, Description, Period, describe, policy_put, spent};
use redis_gateway_client::{Admission, AdmitOptions, Amount, Amounts, Gateway, Settings};

/// A busy machine is slow: for tests that are not about time-outs.
pub fn patient() -> Settings {
    Settings { timeout: Duration::from_secs(20), connect_timeout: Duration::from_secs(20), ..Settings::default() }
}

/// What is kept is sent at once, and the circuit opens for a moment only.
pub fn brisk() -> Settings {
    let mut made = Settings { pause: Duration::from_millis(20), ..Settings::default() };
    made.kept.every = Duration::from_millis(20);
    made
}

pub fn client(port: u16) -> Client {
    Client::open(format!("redis://127.0.0.1:{port}")).unwrap()
}

pub fn started(settings: Settings) -> (Server, Gateway) {
    let server = Server::start().unwrap();
    let gateway = Gateway::new(&client(server.port()), settings).unwrap();
    (server, gateway)
}

/// A server behind a proxy that loses things, and a gateway that knows the proxy.
pub fn behind_proxy(settings: Settings) -> (Server, Proxy, Gateway) {
    let server = Server::start().unwrap();
    let proxy = Proxy::start().unwrap();
    proxy.forward_to(server.port());
    let gateway = Gateway::new(&client(proxy.port()), settings).unwrap();
    (server, proxy, gateway)
}

pub fn amount(text: &str) -> Amount {
    text.parse().unwrap()
}

pub fn amounts(pairs: &[(&str, &str)]) -> Amounts {
    pairs.iter().map(|(meter, text)| ((*meter).into(), amount(text))).collect()
}

pub const BUDGET: &str = r#"{"name":"month","kind":"budget","amount":"100","period":"month"}"#;
pub const IN_FLIGHT: &str = r#"{"name":"now","kind":"inflight","max":1}"#;

pub fn rpm(limit: u64) -> String {
    format!(r#"{{"name":"rpm","kind":"window","limit":{limit},"per_ms":60000}}"#)
}

/// Gives an account these policies, over a connection of the test's own.
pub fn policies(server: &Server, account: &str, policies: &[&str]) {
    let document = format!(r#"{{"policies":[{}]}}"#, policies.join(","));
    policy_put(account, document, &Default::default()).query(&mut server.connect().unwrap()).unwrap();
}

pub fn account(server: &Server, account: &str) -> AccountState {
    match describe(account).query(&mut server.connect().unwrap()).unwrap() {
        Some(Description::Account(found)) => *found,
        other => panic!("{other:?}"),
    }
}

pub fn spent_of(server: &Server, key: &str) -> Amount {
    let mut connection = server.connect().unwrap();
    let kind: String = call!(connection, "TYPE", key => String);
    if kind == "none" {
        return Amount::ZERO;
    }
    match describe(key).query(&mut connection).unwrap() {
        Some(Description::Account(found)) => found.ledgers.values().next().map_or(Amount::ZERO, |ledger| ledger.month),
        _ => spent(
            key,
            &redis_gateway_client::commands::SpentOptions { period: Some(Period::Month), ..Default::default() },
        )
        .query(&mut connection)
        .unwrap(),
    }
}

pub async fn admitted(gateway: &Gateway, accounts: &[&str], estimates: &[(&str, &str)]) -> Admission {
    let made = gateway.admit(accounts.to_vec(), amounts(estimates), &AdmitOptions::default()).await.unwrap();
    assert!(made.is_ok(), "{made:?}");
    made
}

/// Waits until a condition holds, while the runtime goes on.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "still waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Waits until a gateway with short time-outs has its connection.
pub async fn ready(gateway: &Gateway) {
    let began = std::time::Instant::now();
    while !gateway.health().await.ok {
        assert!(began.elapsed() < DEADLINE, "the server does not answer");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
