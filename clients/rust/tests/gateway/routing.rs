use std::time::Duration;

use redis_gateway_client::commands::Pick;
use redis_gateway_client::{Amount, Away, Gateway, LocalLimit, Mode, Outcome, RouteOptions, Settings, Settlement};

use crate::support::*;

const BREAKER: &str = r#"{"name":"broken","kind":"breaker","failures":1,"per_ms":60000,"open_ms":60000}"#;

fn options() -> RouteOptions {
    RouteOptions { pick: Some(Pick::First), ..RouteOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_target_with_room_is_chosen() {
    let (server, gateway) = started(patient());
    policies(&server, "{t}1", &[&rpm(1)]);
    policies(&server, "{t}2", &[&rpm(1)]);
    let targets = ["{t}1", "{t}2"];
    let first = gateway.route(targets, amounts(&[]), &options()).await.unwrap();
    assert_eq!((first.target().unwrap().to_string().as_str(), first.outcome()), ("{t}1", Outcome::Admitted));
    assert_eq!(first.settle().await.unwrap(), Settlement::Settled);
    let second = gateway.route(targets, amounts(&[]), &options()).await.unwrap();
    assert_eq!(second.target().unwrap(), &"{t}2");
    second.settle().await.unwrap();
    let denied = gateway.route(targets, amounts(&[]), &options()).await.unwrap();
    assert_eq!((denied.target(), denied.reason(), denied.status()), (None, Some("limit"), 429));
    assert!(denied.retry_after().is_some_and(|wait| !wait.is_zero()));
    assert_eq!(denied.refusals().count(), 2);
    let none = gateway.route(["{t}none"], amounts(&[]), &options()).await.unwrap();
    assert_eq!((none.reason(), none.status()), (Some("no_account"), 403));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_target_is_not_tried_again() {
    let (server, gateway) = started(patient());
    for target in ["{t}1", "{t}2", "{t}3"] {
        policies(&server, target, &[BREAKER]);
    }
    policies(&server, "a", &[BUDGET]);
    let targets = ["{t}1", "{t}2", "{t}3"];
    let mut request =
        gateway.request(["a"], targets, amounts(&[("usd", "2"), ("tokens", "10")]), &options()).await.unwrap();
    let first = request.next().await.unwrap().unwrap();
    first.use_so_far("usd", amount("0.25")).unwrap();
    first.fail(Some(Duration::from_secs(30))).await.unwrap();
    let second = request.next().await.unwrap().unwrap();
    assert_ne!(first.lease_id(), second.lease_id());
    assert_eq!([first.target().unwrap(), second.target().unwrap()], [&"{t}1", &"{t}2"]);
    second.use_so_far("usd", amount("1")).unwrap();
    second.settle().await.unwrap();
    assert_eq!(request.next().await.unwrap().unwrap_err().reason, "every_target_failed");
    assert_eq!(request.settle().await.unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "a"), amount("1.25"));
    let (failed, served) = (account(&server, "{t}1"), account(&server, "{t}2"));
    assert!(failed.cooldown_ms > 0 && failed.in_flight == 0);
    assert_eq!(failed.breakers.values().next().unwrap().state.as_str(), "open");
    assert_eq!(served.breakers.values().next().unwrap().state.as_str(), "closed");
    assert!(served.latency_ms.is_some() && failed.latency_ms.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_after_the_last_target() {
    let (server, gateway) = started(patient());
    policies(&server, "{t}1", &[&rpm(100)]);
    policies(&server, "{t}2", &[&rpm(100)]);
    policies(&server, "a", &[BUDGET, &rpm(1)]);
    for bound in [5, 1] {
        let own = RouteOptions { attempts: Some(bound), ..options() };
        let mut request = gateway.request(["a"], ["{t}1", "{t}2"], amounts(&[("usd", "2")]), &own).await.unwrap();
        let mut tried = 0;
        let denied = loop {
            match request.next().await.unwrap() {
                Ok(attempt) => attempt.fail(None).await.unwrap(),
                Err(denied) => break denied,
            };
            tried += 1;
        };
        assert_eq!((tried, denied.reason, denied.status), (bound.min(2), "every_target_failed", 503));
        // All have failed before they used anything: it costs nothing, and does not count.
        request.settle().await.unwrap();
    }
    assert_eq!(spent_of(&server, "a"), Amount::ZERO);
    let late = RouteOptions { within: Some(Duration::ZERO), ..options() };
    let mut request = gateway.request(["a"], ["{t}1"], amounts(&[]), &late).await.unwrap();
    assert_eq!(request.next().await.unwrap().unwrap_err().reason, "every_target_failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_may_not_end_a_request() {
    let (server, gateway) = started(patient());
    policies(&server, "{t}1", &[&rpm(100)]);
    policies(&server, "a", &[&rpm(0)]);
    let mut request = gateway.request(["a"], ["{t}1"], amounts(&[]), &options()).await.unwrap();
    let denied = request.next().await.unwrap().unwrap_err();
    assert_eq!((denied.reason, denied.status), ("limit", 429));
    // What was picked for them is free again.
    until("the target to be free", || account(&server, "{t}1").in_flight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_a_success() {
    let (server, gateway) = started(patient());
    policies(&server, "{t}1", &[BREAKER, &rpm(1)]);
    let route = || async { gateway.route(["{t}1"], amounts(&[("tokens", "5")]), &options()).await.unwrap() };
    // Nobody knows whether it would have answered: its limit has room again.
    drop(route().await);
    until("the end", || account(&server, "{t}1").in_flight == 0).await;
    let broken = route().await;
    assert!(broken.is_ok());
    broken.break_off().await.unwrap();
    let answered = route().await;
    assert!(answered.is_ok());
    answered.began();
    answered.break_off().await.unwrap();
    assert!(!route().await.is_ok());
    assert_eq!(account(&server, "{t}1").latency_ms, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_an_answer_has_begun_no_other_target_is_tried() {
    let (server, gateway) = started(patient());
    policies(&server, "{t}1", &[&rpm(100)]);
    policies(&server, "{t}2", &[&rpm(100)]);
    let mut request = gateway.request(["a"], ["{t}1", "{t}2"], amounts(&[]), &options()).await.unwrap();
    let attempt = request.next().await.unwrap().unwrap();
    attempt.began();
    attempt.fail(None).await.unwrap();
    assert!(request.next().await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meter_that_an_attempt_does_not_tell_counts_at_its_estimate() {
    let (server, gateway) = started(patient());
    policies(&server, "{t}1", &[&rpm(100)]);
    policies(&server, "{t}2", &[&rpm(100)]);
    policies(&server, "a", &[BUDGET]);
    let targets = ["{t}1", "{t}2"];
    let mut request = gateway.request(["a"], targets, amounts(&[("usd", "2")]), &options()).await.unwrap();
    let first = request.next().await.unwrap().unwrap();
    first.use_so_far("tokens", amount("10")).unwrap();
    first.fail(None).await.unwrap();
    let second = request.next().await.unwrap().unwrap();
    second.use_so_far("usd", amount("1")).unwrap();
    second.settle().await.unwrap();
    drop(request);
    until("the request to be settled", || account(&server, "a").in_flight == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_targets_are_asked_in_one_round_trip() {
    let (server, proxy, gateway) = behind_proxy(patient());
    policies(&server, "{t}1", &[IN_FLIGHT]);
    policies(&server, "a", &[r#"{"name":"now","kind":"inflight","max":2}"#]);
    let own = RouteOptions::default();
    let ask = || gateway.request(["a"], ["{t}1"], amounts(&[("usd", "1")]), &own);
    let mut first = ask().await.unwrap();
    assert_eq!((account(&server, "a").in_flight, account(&server, "{t}1").in_flight), (1, 1));
    // The question is not asked again: its connection is gone.
    proxy.cut(gw_testkit::Links::All);
    let attempt = first.next().await.unwrap().unwrap();
    proxy.heal();
    attempt.settle().await.unwrap();
    first.settle().await.unwrap();
    // A target that refuses is told by the first attempt, and the accounts pay nothing.
    let busy = gateway.route(["{t}1"], amounts(&[]), &options()).await.unwrap();
    let mut second = ask().await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap_err().reason, "limit");
    second.settle().await.unwrap();
    busy.settle().await.unwrap();
    // Accounts that refuse have what was picked for them given back.
    policies(&server, "a", &[&rpm(0)]);
    let mut third = ask().await.unwrap();
    assert_eq!(third.next().await.unwrap().unwrap_err().reason, "limit");
    until("the target to be free", || account(&server, "{t}1").in_flight == 0).await;
    // A request that nobody begins.
    policies(&server, "a", &[BUDGET]);
    drop(ask().await.unwrap());
    until("all to be free", || account(&server, "{t}1").in_flight + account(&server, "a").in_flight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_the_settings_decide() {
    for (mode, expected) in [(Mode::Open, 3), (Mode::Local, 2), (Mode::Closed, 0)] {
        let away = Away { admission: mode, local: LocalLimit { requests: 1, ..Default::default() }, ..Away::default() };
        let gateway = Gateway::new(&client(1), Settings { away, ..Settings::default() }).unwrap();
        let mut through = 0;
        for _ in 0..3 {
            let attempt = gateway.route(["{t}1", "{t}2"], amounts(&[]), &options()).await.unwrap();
            assert_eq!(attempt.target().is_some(), attempt.is_ok());
            through += usize::from(attempt.outcome() == Outcome::Degraded);
        }
        assert_eq!(through, expected, "{mode:?}");
    }
}
