use std::time::Duration;

use gw_testkit::call;
use redis_gateway_client::commands::{Budget, Period};
use redis_gateway_client::{
    AllowOptions, Amount, ChargeOptions, HeaderOptions, Outcome, ReplyErrorKind, Settlement, TokensOptions,
};

use crate::support::*;

const MINUTES: Duration = Duration::from_secs(300);

fn budgets(text: &str) -> Vec<Budget> {
    vec![Budget { amount: amount(text), period: Period::Month }]
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_admit_and_deny() {
    let (_server, gateway) = started(patient());
    let options = AllowOptions::default();
    let first = gateway.allow("k", 1, &options).await.unwrap();
    assert_eq!((first.outcome, first.reason, first.remaining), (Outcome::Admitted, None, 0));
    let denied = gateway.allow("k", 1, &options).await.unwrap();
    assert_eq!((denied.outcome, denied.reason, denied.status()), (Outcome::Denied, Some("limit"), 429));
    assert!(denied.retry_after.is_some_and(|wait| !wait.is_zero()));
    let headers = denied.headers("requests", &HeaderOptions::default());
    assert!(headers.contains(&("RateLimit-Policy".into(), "\"requests\";q=1;w=60".into())));
    let tokens = TokensOptions { cost: 7, ..Default::default() };
    assert_eq!(gateway.tokens("t", 100, 50, &tokens).await.unwrap().remaining, 43);
    let peek = TokensOptions { peek: true, ..tokens };
    assert_eq!(gateway.tokens("t", 100, 50, &peek).await.unwrap().outcome, Outcome::Admitted);
    assert_eq!(gateway.allow("k", 1, &AllowOptions { cost: 2, ..options }).await.unwrap().retry_after, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_and_charges() {
    let (server, gateway) = started(patient());
    let within = gateway.within_budget("k", &budgets("2"), Some(amount("1"))).await.unwrap();
    assert_eq!((within.outcome, within.tightest.unwrap().budget), (Outcome::Admitted, amount("2")));
    let options = ChargeOptions { id: Some("c".into()), ..Default::default() };
    for _ in 0..2 {
        assert_eq!(gateway.charge("k", amount("1.5"), &options).await.unwrap(), Settlement::Settled);
    }
    gateway.charge("k", amount("0.25"), &ChargeOptions::default()).await.unwrap();
    assert_eq!(spent_of(&server, "k"), amount("1.75"));
    let over = gateway.within_budget("k", &budgets("2"), Some(amount("1"))).await.unwrap();
    assert_eq!((over.outcome, over.reason), (Outcome::Denied, Some("limit")));
    call!(server.connect().unwrap(), "SET", "s", "x" => ());
    let refused = gateway.charge("s", amount("1"), &ChargeOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), Some(&ReplyErrorKind::WrongType));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_ends_once() {
    let (server, gateway) = started(patient());
    let hold = gateway.reserve("k", amount("2"), &budgets("10"), MINUTES).await.unwrap();
    assert!(hold.is_ok());
    assert_eq!(hold.decision().tightest.unwrap().held, amount("2"));
    let (first, second) = tokio::join!(hold.commit(amount("1.5")), hold.commit(amount("1.5")));
    assert_eq!([first.unwrap(), second.unwrap()], [Settlement::Settled; 2]);
    assert_eq!(hold.cancel().await.unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "k"), amount("1.5"));
    let cancelled = gateway.reserve("k", amount("2"), &budgets("10"), MINUTES).await.unwrap();
    cancelled.cancel().await.unwrap();
    drop(cancelled);
    // What a dropped hold has cost is not known.
    drop(gateway.reserve("k", amount("2"), &budgets("10"), MINUTES).await.unwrap());
    until("the hold's end", || spent_of(&server, "k") == amount("3.5")).await;
    let refused = gateway.reserve("k", amount("20"), &budgets("10"), MINUTES).await.unwrap();
    assert_eq!((refused.is_ok(), refused.commit(amount("1")).await.unwrap()), (false, Settlement::Nothing));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_before_a_hold_is_granted_holds_nothing() {
    let (server, proxy, gateway) = behind_proxy(patient());
    gateway.within_budget("k", &budgets("10"), None).await.unwrap();
    proxy.delay(Duration::from_millis(100));
    let all = budgets("10");
    let asked = gateway.reserve("k", amount("2"), &all, MINUTES);
    assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err());
    let mut client = server.connect().unwrap();
    let stats = move || call!(client, "GW.STATS" => std::collections::HashMap<String, i64>);
    let mut stats = stats;
    until("the hold to be cancelled", || stats()["budget_cancels"] == 1).await;
    proxy.delay(Duration::ZERO);
    assert_eq!(spent_of(&server, "k"), Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_forgotten_is_charged() {
    let (server, gateway) = started(patient());
    let hold = gateway.reserve("k", amount("2"), &budgets("10"), MINUTES).await.unwrap();
    call!(server.connect().unwrap(), "FLUSHALL" => ());
    assert_eq!(hold.commit(amount("1.5")).await.unwrap(), Settlement::Charged);
    assert_eq!(spent_of(&server, "k"), amount("1.5"));
}
