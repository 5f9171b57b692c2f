use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gw_testkit::{Direction, Links, Server, call};
use redis_gateway_client::{
    AdmitOptions, AllowOptions, Away, Error, Gateway, LocalLimit, Mode, Outcome, ReplyErrorKind, Settings,
};

use crate::support::*;

/// Decisions of a server that is paused: they come within the time-outs, with room for a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn away(mode: Mode) -> Away {
    Away {
        limits: mode,
        slots: mode,
        budgets: if mode == Mode::Open { Mode::Open } else { Mode::Closed },
        admission: mode,
        local: LocalLimit { requests: 4, ..Default::default() },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_costs_no_more_than_the_time_out() {
    let (mut server, gateway) = started(Settings { away: away(Mode::Open), ..Settings::default() });
    server.pause().unwrap();
    let began = Instant::now();
    for _ in 0..8 {
        let decision = gateway.allow("k", 1, &AllowOptions::default()).await.unwrap();
        assert_eq!(decision.outcome, Outcome::Degraded);
        assert!(["timeout", "circuit_open"].contains(&decision.reason.unwrap()), "{decision:?}");
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    server.go_on().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_decide_by_family() {
    for mode in [Mode::Open, Mode::Local, Mode::Closed] {
        let gateway =
            Gateway::new(&client(1), Settings { away: away(mode), instances: 2, ..Settings::default() }).unwrap();
        let options = AllowOptions::default();
        let mut limits = Vec::new();
        let mut admissions = Vec::new();
        for _ in 0..3 {
            limits.push(gateway.allow("k", 4, &options).await.unwrap().outcome);
            let admission = gateway.admit(["a"], amounts(&[]), &AdmitOptions::default()).await.unwrap();
            admissions.push(admission.outcome());
        }
        let (let_through, refused) = (Outcome::Degraded, Outcome::Denied);
        let expected = match mode {
            Mode::Open => [let_through; 3],
            Mode::Local => [let_through, let_through, refused],
            Mode::Closed => [refused; 3],
        };
        assert_eq!((limits, admissions), (expected.to_vec(), expected.to_vec()), "{mode:?}");
        let budget = gateway.within_budget("b", &[], None).await.unwrap();
        assert_eq!(budget.is_ok(), mode == Mode::Open);
        let figures = gateway.figures().decisions;
        let reasons = ["connection", "timeout", "circuit_open", "local_limit"];
        assert!(figures.keys().all(|(_, _, reason)| reasons.contains(reason)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_above_0_has_a_local_share() {
    let gateway = Gateway::new(&client(1), Settings { instances: 100, ..Settings::default() }).unwrap();
    let options = AllowOptions::default();
    assert!(gateway.allow("k", 5, &options).await.unwrap().is_ok());
    assert_eq!(gateway.allow("k", 5, &options).await.unwrap().reason, Some("local_limit"));
    assert!(!gateway.allow("none", 0, &options).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_circuit_opens_and_closes() {
    let (server, proxy, gateway) = behind_proxy(brisk());
    let options = AllowOptions::default();
    ready(&gateway).await;
    proxy.cut(Links::All);
    let mut reason = None;
    until("an open circuit", || {
        let own = gateway.clone();
        let found = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current()
                .block_on(async move { own.allow("k", 100, &AllowOptions::default()).await })
        });
        reason = found.unwrap().reason;
        reason == Some("circuit_open")
    })
    .await;
    assert_eq!(gateway.health().await.circuits_open, 1);
    proxy.heal();
    let began = Instant::now();
    while gateway.allow("k", 100, &options).await.unwrap().outcome != Outcome::Admitted {
        assert!(began.elapsed() < gw_testkit::DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let health = gateway.health().await;
    assert!(health.ok && health.circuits_open == 0 && !health.away.is_zero(), "{health:?}");
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_wait_for_the_one_that_tries() {
    let settings = Settings {
        failures: 1,
        pause: Duration::from_millis(200),
        timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        ..Settings::default()
    };
    let (_server, proxy, gateway) = behind_proxy(settings);
    proxy.cut(Links::All);
    assert_eq!(gateway.allow("k", 100, &AllowOptions::default()).await.unwrap().reason, Some("connection"));
    proxy.heal();
    proxy.delay(Duration::from_millis(50));
    tokio::time::sleep(Duration::from_millis(300)).await;
    // One of them tries, and the others go on with its outcome: none is let through or refused meanwhile.
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let own = gateway.clone();
            tokio::spawn(async move { own.allow("k", 100, &AllowOptions::default()).await.unwrap().outcome })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Outcome::Admitted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_call_are_no_absence() {
    let (server, gateway) = started(Settings { failures: 1, away: away(Mode::Open), ..patient() });
    call!(server.connect().unwrap(), "SET", "s", "x" => ());
    for _ in 0..3 {
        let refused = gateway.allow("s", 1, &AllowOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind(), Some(&ReplyErrorKind::WrongType));
        let wrong = gateway.admit(["s"], amounts(&[]), &AdmitOptions::default()).await.unwrap_err();
        assert_eq!(wrong.kind(), Some(&ReplyErrorKind::WrongType));
    }
    assert_eq!(gateway.health().await.circuits_open, 0);
    assert_eq!(gateway.allow("k", 1, &AllowOptions::default()).await.unwrap().outcome, Outcome::Admitted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limiters_call_is_sent_once() {
    let (server, proxy, gateway) = behind_proxy(Settings { away: away(Mode::Open), ..patient() });
    let options = AllowOptions::default();
    gateway.allow("k", 100, &options).await.unwrap();
    proxy.lose_next(Direction::Reply);
    let lost = gateway.allow("k", 100, &options).await.unwrap();
    assert_eq!((lost.outcome, lost.reason), (Outcome::Degraded, Some("connection")));
    assert_eq!(gateway.allow("k", 100, &options).await.unwrap().remaining, 97);
    // An admission can be repeated.
    policies(&server, "a", &[&rpm(10)]);
    proxy.lose_next(Direction::Reply);
    let admission = gateway.admit(["a"], amounts(&[]), &AdmitOptions::default()).await.unwrap();
    assert_eq!(admission.outcome(), Outcome::Admitted);
    assert!(!proxy.is_about_to_lose());
    assert_eq!(account(&server, "a").in_flight, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_replaced() {
    let (server, gateway) = started(patient());
    let options = AllowOptions::default();
    let mut client = server.connect().unwrap();
    for left in (95..100).rev() {
        assert_eq!(gateway.allow("k", 100, &options).await.unwrap().remaining, left);
        call!(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes" => i64);
        // The client has heard of it.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_doubles_nothing() {
    let (mut server, gateway) = started(Settings { away: away(Mode::Open), ..Settings::default() });
    policies(&server, "a", &[r#"{"name":"month","kind":"budget","amount":"1000000","period":"month"}"#]);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (own, done) = (gateway.clone(), done.clone());
            tokio::spawn(async move {
                let mut settled = 0_u32;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let asked = own.admit(["a"], amounts(&[("usd", "1")]), &AdmitOptions::default()).await.unwrap();
                    assert!(asked.is_ok());
                    asked.settle().await.unwrap();
                    settled += 1;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                settled
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.pause().unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.go_on().unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut settled = 0;
    for task in tasks {
        settled += task.await.unwrap();
    }
    until("all that was kept to arrive", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&server, "a"), redis_gateway_client::Amount::from(settled));
    assert_eq!(account(&server, "a").in_flight, 0);
}

#[tokio::test]
async fn a_busy_runtime_is_no_time_out() {
    let (_server, gateway) = started(Settings { away: away(Mode::Open), ..Settings::default() });
    ready(&gateway).await;
    for _ in 0..3 {
        let own = gateway.clone();
        let asked = tokio::spawn(async move { own.allow("k", 100, &AllowOptions::default()).await.unwrap() });
        // The call is sent, and then nobody reads.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(asked.await.unwrap().outcome, Outcome::Admitted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_module_is_told() {
    let server = Server::options().without_module().start().unwrap();
    let gateway = Gateway::new(&client(server.port()), patient()).unwrap();
    let refused = gateway.allow("k", 1, &AllowOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), Some(&ReplyErrorKind::ModuleMissing));
    let health = gateway.health().await;
    assert_eq!((health.ok, health.reason.as_deref()), (false, Some("ModuleMissing")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_primary_is_found_behind_a_name() {
    let mut nodes: HashMap<&str, Server> = HashMap::new();
    nodes.insert("old", Server::start().unwrap());
    nodes.insert("new", Server::start().unwrap());
    let proxy = gw_testkit::Proxy::start().unwrap();
    proxy.forward_to(nodes["old"].port());
    let gateway = Gateway::new(&client(proxy.port()), patient()).unwrap();
    gateway.charge("k", amount("1"), &Default::default()).await.unwrap();
    // The name leads to the new primary, while connections to the old one live on.
    proxy.forward_to(nodes["new"].port());
    let mut old = nodes["old"].connect().unwrap();
    call!(old, "REPLICAOF", "127.0.0.1", nodes["new"].port() => ());
    let demoted = gateway.run(&redis_gateway_client::commands::add_cost("k", amount("1"), &Default::default())).await;
    assert!(matches!(&demoted, Err(Error::Unavailable(away)) if away.reason == "readonly"), "{demoted:?}");
    gateway.run(&redis_gateway_client::commands::add_cost("k", amount("1"), &Default::default())).await.unwrap();
    assert_eq!(spent_of(&nodes["new"], "k"), amount("1"));
}
