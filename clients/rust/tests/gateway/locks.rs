use std::time::Duration;

use gw_testkit::{Direction, Links, call};
use redis_gateway_client::{Away, Gateway, Mode, Outcome, Settings, SlotOptions};

use crate::support::*;

fn waiting(wait: Duration) -> SlotOptions {
    SlotOptions { wait, ..SlotOptions::default() }
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_taken_once() {
    let (_server, gateway) = started(patient());
    let first = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    assert_eq!((first.outcome(), first.in_use(), first.is_lost()), (Outcome::Admitted, 1, false));
    let second = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    assert_eq!((second.is_ok(), second.reason(), second.fencing_token()), (false, Some("limit"), 0));
    assert!(first.release().await.unwrap());
    assert!(!first.release().await.unwrap());
    let third = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    assert!(third.fencing_token() > first.fencing_token());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_with_the_lock_or_without() {
    let (server, gateway) = started(Settings { waiting_timeout: Duration::from_millis(500), ..patient() });
    let first = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    let short = gateway.lock("l", &waiting(Duration::from_millis(100))).await.unwrap();
    assert_eq!((short.outcome(), short.reason()), (Outcome::Denied, Some("limit")));
    let own = gateway.clone();
    let task = tokio::spawn(async move { own.lock("l", &waiting(LONG)).await.unwrap() });
    // Longer than one call may wait.
    tokio::time::sleep(Duration::from_millis(900)).await;
    first.release().await.unwrap();
    let second = task.await.unwrap();
    assert!(second.is_ok() && !second.is_lost());
    // It was renewed after the wait, so its whole time is left.
    let mut connection = server.connect().unwrap();
    let stats = call!(connection, "INFO", "commandstats" => String);
    assert!(stats.contains("cmdstat_gw.renew:calls=1,"), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_renews_itself_and_tells_when_it_is_lost() {
    let (server, gateway) = started(patient());
    let options = SlotOptions { ttl: Duration::from_millis(900), ..SlotOptions::default() };
    let lock = gateway.lock("l", &options).await.unwrap();
    let mut connection = server.connect().unwrap();
    let mut renewed = || {
        let stats = call!(connection, "INFO", "commandstats" => String);
        let calls = stats.split("cmdstat_gw.renew:calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
        calls.is_some_and(|calls: u64| calls >= 3)
    };
    until("three renewals", &mut renewed).await;
    assert!(!lock.is_lost());
    // Somebody takes it away, and another has it.
    call!(server.connect().unwrap(), "DEL", "l" => i64);
    let other = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    assert!(other.is_ok());
    lock.lost().await;
    assert!(lock.is_lost());
    assert!(!lock.release().await.unwrap());
    assert!(!gateway.lock("l", &SlotOptions::default()).await.unwrap().is_ok());
    assert_eq!(gateway.figures().count("locks_lost"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_lost_if_the_server_is_silent_for_its_time() {
    let (mut server, gateway) = started(Settings::default());
    let options = SlotOptions { ttl: Duration::from_millis(600), ..SlotOptions::default() };
    let lock = loop {
        let lock = gateway.lock("l", &options).await.unwrap();
        if lock.is_ok() {
            break lock;
        }
    };
    server.pause().unwrap();
    lock.lost().await;
    assert!(lock.is_lost());
    server.go_on().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_lock_is_released() {
    let (_server, gateway) = started(patient());
    let own = gateway.clone();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let lock = own.lock("l", &SlotOptions::default()).await.unwrap();
        sender.send(lock.is_ok()).unwrap();
        std::future::pending::<()>().await;
    });
    assert!(receiver.await.unwrap());
    task.abort();
    assert!(gateway.lock("l", &waiting(LONG)).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_leaves_nothing_taken() {
    let mut settings = patient();
    settings.kept.every = Duration::from_millis(50);
    let (server, gateway) = started(settings);
    let first = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    let own = gateway.clone();
    let task = tokio::spawn(async move { own.lock("l", &waiting(LONG)).await });
    let mut connection = server.connect().unwrap();
    let mut stat = |name: &str| call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>)[name];
    until("it to wait", || stat("leases_waiting") == 1).await;
    task.abort();
    until("nobody to wait", || stat("leases_waiting") == 0).await;
    first.release().await.unwrap();
    until("what was left to be told", || gateway.kept() == 0).await;
    assert!(gateway.lock("l", &SlotOptions::default()).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_without_an_answer_is_sent_later() {
    let (_server, proxy, gateway) = behind_proxy(brisk());
    let lock = loop {
        let lock = gateway.lock("l", &SlotOptions::default()).await.unwrap();
        if lock.is_ok() {
            break lock;
        }
    };
    proxy.cut(Links::All);
    assert!(lock.release().await.unwrap());
    assert_eq!(gateway.kept(), 1);
    proxy.heal();
    until("the release to arrive", || gateway.kept() == 0).await;
    assert!(gateway.lock("l", &waiting(LONG)).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_takes_no_second_slot() {
    let (_server, proxy, gateway) = behind_proxy(patient());
    gateway.lock("other", &SlotOptions::default()).await.unwrap();
    proxy.lose_next(Direction::Reply);
    let slot = gateway.slot("s", 2, &SlotOptions::default()).await.unwrap();
    assert_eq!((slot.is_ok(), slot.in_use(), proxy.is_about_to_lose()), (true, 1, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_never_degraded() {
    let away = Away { slots: Mode::Open, ..Away::default() };
    let gateway = Gateway::new(&client(1), Settings { away, ..patient() }).unwrap();
    let lock = gateway.lock("l", &SlotOptions::default()).await.unwrap();
    assert_eq!((lock.outcome(), lock.reason()), (Outcome::Denied, Some("connection")));
    assert_eq!(gateway.slot("s", 1, &SlotOptions::default()).await.unwrap().outcome(), Outcome::Degraded);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_slots_are_a_share() {
    let gateway = Gateway::new(&client(1), Settings { instances: 2, ..Settings::default() }).unwrap();
    let options = SlotOptions::default();
    let first = gateway.slot("s", 4, &options).await.unwrap();
    let second = gateway.slot("s", 4, &options).await.unwrap();
    let third = gateway.slot("s", 4, &options).await.unwrap();
    assert_eq!(
        [first.outcome(), second.outcome(), third.outcome()],
        [Outcome::Degraded, Outcome::Degraded, Outcome::Denied]
    );
    assert_eq!(third.reason(), Some("local_limit"));
    assert!(first.release().await.unwrap());
    assert!(gateway.slot("s", 4, &options).await.unwrap().is_ok());
}
