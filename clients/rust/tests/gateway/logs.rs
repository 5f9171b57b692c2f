use std::time::Duration;

use gw_testkit::{Direction, Links, call};
use redis_gateway_client::{BatchOptions, Gateway, LogOptions, Settings};

use crate::support::*;

/// Records are pushed soon.
fn soon() -> LogOptions {
    LogOptions { every: Duration::from_millis(20), ..LogOptions::default() }
}

fn stored(server: &gw_testkit::Server) -> Vec<String> {
    call!(server.connect().unwrap(), "GW.LOGPEEK", "log", "COUNT", 10_000 => Vec<String>)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_pushed_in_their_order() {
    let (server, gateway) = started(patient());
    let logs = gateway.logs("log", LogOptions { batch: 7, ..soon() });
    let records: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    for record in &records {
        logs.push(record.as_str());
    }
    until("all to be taken", || logs.is_empty()).await;
    assert_eq!(stored(&server), records);
}

#[tokio::test(flavor = "multi_thread")]
async fn pushing_waits_for_nothing() {
    let gateway = Gateway::new(&client(1), Settings::default()).unwrap();
    let logs = gateway.logs("log", LogOptions { records: 10, ..soon() });
    for at in 0..25 {
        logs.push(at.to_string());
    }
    assert_eq!(logs.len() + logs.dropped(), 25);
    assert!(logs.dropped() >= 14, "{}", logs.dropped());
    let bytes = gateway.logs("log", LogOptions { bytes: 10, every: Duration::from_secs(3_600), ..soon() });
    bytes.push("123456");
    bytes.push("12345");
    bytes.push("12345678901");
    assert_eq!((bytes.len(), bytes.dropped()), (0, 3));
    assert_eq!(gateway.figures().log_dropped["buffer_full"] as usize, logs.dropped() + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_doubles_no_record() {
    let (server, proxy, gateway) = behind_proxy(patient());
    let logs = gateway.logs("log", LogOptions { every: Duration::from_secs(3_600), ..soon() });
    logs.push("1");
    assert!(logs.flush().await);
    logs.push("2");
    proxy.lose_next(Direction::Reply);
    assert!(logs.flush().await);
    assert!(!proxy.is_about_to_lose());
    assert_eq!(stored(&server), ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_kept_while_the_server_is_away() {
    let (server, proxy, gateway) = behind_proxy(Settings::default());
    let logs = gateway.logs("log", soon());
    proxy.cut(Links::All);
    for at in 0..10 {
        logs.push(at.to_string());
    }
    assert!(!logs.flush().await);
    assert_eq!((logs.len(), logs.dropped()), (10, 0));
    // That opens no circuit of the request path.
    assert_eq!(gateway.health().await.log_records, 10);
    proxy.heal();
    until("all to be taken", || logs.is_empty()).await;
    assert_eq!(stored(&server), (0..10).map(|at| at.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_keeps_the_records() {
    let (server, gateway) = started(patient());
    let mut connection = server.connect().unwrap();
    call!(connection, "CONFIG", "SET", "gw.log-max-records", 2 => ());
    let logs = gateway.logs("log", LogOptions { reject: true, ..soon() });
    for record in ["1", "2", "3"] {
        logs.push(record);
    }
    assert!(!logs.flush().await);
    assert_eq!((logs.len(), logs.dropped()), (3, 0));
    call!(connection, "CONFIG", "SET", "gw.log-max-records", 3 => ());
    until("all to be taken", || logs.is_empty()).await;
    assert_eq!(stored(&server), ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_record_spoils_no_other() {
    let (server, gateway) = started(patient());
    let logs = gateway.logs("log", soon());
    for record in ["1", "no json", "2"] {
        logs.push(record);
    }
    until("all to be done with", || logs.is_empty()).await;
    assert_eq!((stored(&server), logs.dropped()), (vec!["1".into(), "2".into()], 1));
    assert_eq!(gateway.figures().log_dropped["refused"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_is_pushed_at_the_end() {
    let (server, gateway) = started(patient());
    let never = LogOptions { every: Duration::from_secs(3_600), ..LogOptions::default() };
    let (one, other) = (gateway.logs("log", never), gateway.logs("log", never));
    one.push("1");
    other.push("2");
    gateway.close().await;
    let mut all = stored(&server);
    all.sort();
    assert_eq!(all, ["1", "2"]);
    one.push("3");
    assert_eq!((one.len(), one.dropped()), (0, 1));
    // One bound of time for all.
    let away = Gateway::new(&client(1), Settings::default()).unwrap();
    let lost: Vec<_> = (0..5).map(|_| away.logs("log", never)).collect();
    lost.iter().for_each(|logs| logs.push("1"));
    away.close_within(Duration::from_millis(300)).await;
    assert!(lost.iter().all(|logs| logs.dropped() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_leased_for_a_piece_of_work() {
    let (server, gateway) = started(patient());
    let mut connection = server.connect().unwrap();
    call!(connection, "GW.LOGPUSH", "log", "RECORDS", "1", "2" => redis::Value);
    let options = BatchOptions { lease: Duration::from_secs(2), ..BatchOptions::default() };
    let failed = gateway.lease_batch("log", &options).await.unwrap().unwrap();
    assert_eq!((failed.records(), failed.delivery()), (&[b"1".to_vec(), b"2".to_vec()][..], 1));
    let id = failed.id();
    drop(failed);
    let wait = BatchOptions { wait: Duration::from_secs(60), ..options };
    let again = gateway.lease_batch("log", &wait).await.unwrap().unwrap();
    assert_eq!((again.id(), again.delivery(), again.is_lost()), (id, 2, false));
    // It is renewed.
    let mut renewed = || call!(connection, "INFO", "commandstats" => String).contains("cmdstat_gw.logextend");
    until("a renewal", &mut renewed).await;
    assert!(again.done().await.unwrap());
    assert!(gateway.lease_batch("log", &options).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_records_is_made_of_several_calls() {
    let settings = Settings { waiting_timeout: Duration::from_millis(500), ..patient() };
    let (server, gateway) = started(settings);
    let own = gateway.clone();
    let wait = BatchOptions { wait: Duration::from_secs(60), ..BatchOptions::default() };
    let task = tokio::spawn(async move { own.lease_batch("log", &wait).await.unwrap().unwrap() });
    tokio::time::sleep(Duration::from_millis(900)).await;
    call!(server.connect().unwrap(), "GW.LOGPUSH", "log", "RECORDS", "1" => redis::Value);
    assert!(task.await.unwrap().done().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_for_nobody_is_given_back() {
    let (server, gateway) = started(patient());
    let own = gateway.clone();
    let wait = BatchOptions { wait: Duration::from_secs(60), ..BatchOptions::default() };
    let task = tokio::spawn(async move { own.lease_batch("log", &wait).await });
    let mut connection = server.connect().unwrap();
    let mut stat = |name: &str| call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>)[name];
    until("it to wait", || stat("log_waiting") == 1).await;
    task.abort();
    call!(server.connect().unwrap(), "GW.LOGPUSH", "log", "RECORDS", "1" => redis::Value);
    let again = gateway.lease_batch("log", &wait).await.unwrap().unwrap();
    assert!(again.done().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_another_has_is_left_alone() {
    let (server, gateway) = started(patient());
    let mut connection = server.connect().unwrap();
    call!(connection, "GW.LOGPUSH", "log", "RECORDS", "1" => redis::Value);
    let lost = gateway.lease_batch("log", &BatchOptions::default()).await.unwrap().unwrap();
    // Its lease ends, and another gets it.
    call!(connection, "GW.LOGNACK", "log", lost.id() => i64);
    let other = gateway.lease_batch("log", &BatchOptions::default()).await.unwrap().unwrap();
    assert_eq!((other.id(), other.delivery()), (lost.id(), 2));
    assert!(!lost.done().await.unwrap());
    assert!(other.done().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_batch_ended_is_told_later() {
    let (server, proxy, gateway) = behind_proxy(brisk());
    call!(server.connect().unwrap(), "GW.LOGPUSH", "log", "RECORDS", "1" => redis::Value);
    let batch = gateway.lease_batch("log", &BatchOptions::default()).await.unwrap().unwrap();
    proxy.cut(Links::All);
    assert!(batch.done().await.unwrap());
    assert_eq!(gateway.kept(), 1);
    proxy.heal();
    until("the acknowledgement to arrive", || gateway.kept() == 0).await;
    let mut connection = server.connect().unwrap();
    let stats = call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>);
    assert_eq!(stats["log_acked"], 1);
}
