use std::time::Duration;

use gw_testkit::{Direction, Links, call};
use redis_gateway_client::{AdmitOptions, Away, ChargeOptions, Gateway, Mode, Outcome, Settings, Settlement};

use crate::support::*;

fn open() -> Away {
    Away { admission: Mode::Open, budgets: Mode::Open, ..Away::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_charges_arrive_once() {
    let (server, proxy, gateway) = behind_proxy(Settings { away: open(), ..brisk() });
    policies(&server, "a", &[BUDGET]);
    proxy.cut(Links::All);
    let degraded = gateway.admit(["a"], amounts(&[("usd", "5")]), &AdmitOptions::default()).await.unwrap();
    assert_eq!(degraded.outcome(), Outcome::Degraded);
    degraded.use_so_far("usd", amount("1.5")).unwrap();
    assert_eq!(degraded.settle().await.unwrap(), Settlement::Kept);
    assert_eq!(gateway.charge("k", amount("2"), &ChargeOptions::default()).await.unwrap(), Settlement::Kept);
    assert_eq!(gateway.kept(), 2);
    proxy.heal();
    until("what was kept to arrive", || gateway.kept() == 0).await;
    assert_eq!([spent_of(&server, "a"), spent_of(&server, "k")], [amount("1.5"), amount("2")]);
    let figures = gateway.figures();
    assert_eq!([figures.count("kept"), figures.count("kept_sent")], [2, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_settlement_is_sent_again() {
    let (server, proxy, gateway) = behind_proxy(patient());
    policies(&server, "a", &[BUDGET]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    proxy.lose_next(Direction::Reply);
    assert_eq!(admission.settle().await.unwrap(), Settlement::Repeated);
    assert_eq!(spent_of(&server, "a"), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_without_an_answer_is_remembered_as_sent() {
    let mut settings = brisk();
    settings.kept.settle_within = Duration::ZERO;
    let (mut server, gateway) = started(settings);
    policies(&server, "a", &[BUDGET]);
    let admission = loop {
        let asked = gateway.admit(["a"], amounts(&[("usd", "2")]), &AdmitOptions::default()).await.unwrap();
        if asked.is_ok() {
            break asked;
        }
    };
    server.pause().unwrap();
    assert_eq!(admission.settle().await.unwrap(), Settlement::Kept);
    // It may have arrived, and is too old at once.
    until("it to be given up", || gateway.kept() == 0).await;
    assert!(gateway.figures().count("kept_given_up") >= 1);
    server.go_on().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_unknown_is_not_final() {
    let (server, proxy, gateway) = behind_proxy(Settings { away: open(), ..brisk() });
    policies(&server, "a", &[BUDGET, IN_FLIGHT]);
    ready(&gateway).await;
    // The question gets to the server after its settlement.
    proxy.delay(Duration::from_millis(400));
    let degraded = gateway.admit(["a"], amounts(&[("usd", "2")]), &AdmitOptions::default()).await.unwrap();
    assert_eq!((degraded.outcome(), degraded.reason()), (Outcome::Degraded, Some("timeout")));
    proxy.delay(Duration::ZERO);
    degraded.settle().await.unwrap();
    until("the settlement", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("2"));
    assert_eq!(account(&server, "a").in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_is_dropped_and_counted() {
    let mut settings = brisk();
    settings.kept.count = 2;
    let gateway = Gateway::new(&client(1), settings).unwrap();
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(gateway.charge("k", amount("1"), &ChargeOptions::default()).await.unwrap());
    }
    assert_eq!(ends, [Settlement::Kept, Settlement::Kept, Settlement::GivenUp]);
    assert_eq!(gateway.figures().count("kept_dropped"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_for_now_is_kept() {
    let (server, gateway) = started(patient_but_brisk());
    let mut admin = server.connect().unwrap();
    call!(admin, "ACL", "SETUSER", "default", "-gw.addcost" => ());
    assert_eq!(gateway.charge("k", amount("2"), &ChargeOptions::default()).await.unwrap(), Settlement::Kept);
    call!(admin, "ACL", "SETUSER", "default", "+gw.addcost" => ());
    until("the charge to arrive", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&server, "k"), amount("2"));
}

fn patient_but_brisk() -> Settings {
    let mut made = patient();
    made.kept.every = Duration::from_millis(20);
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_keeps_what_must_arrive() {
    let (server, gateway) = started(patient_but_brisk());
    policies(&server, "a", &[BUDGET]);
    let mut admin = server.connect().unwrap();
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    call!(admin, "CONFIG", "SET", "requirepass", "secret" => ());
    call!(admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes" => i64);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(admission.settle().await.unwrap(), Settlement::Kept);
    call!(admin, "CONFIG", "SET", "requirepass", "" => ());
    until("the settlement to arrive", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_forgotten_is_not_booked() {
    let mut settings = brisk();
    settings.kept.book_within = Duration::ZERO;
    let (server, proxy, gateway) = behind_proxy(settings);
    policies(&server, "a", &[BUDGET]);
    let admission = loop {
        let asked = gateway.admit(["a"], amounts(&[("usd", "2")]), &AdmitOptions::default()).await.unwrap();
        if asked.is_ok() {
            break asked;
        }
    };
    proxy.delay(Duration::from_millis(300));
    assert_eq!(admission.settle().await.unwrap(), Settlement::Kept);
    call!(server.connect().unwrap(), "FLUSHALL" => ());
    proxy.delay(Duration::ZERO);
    until("the settlement to be done", || gateway.kept() == 0).await;
    until("its end", || gateway.figures().count("kept_given_up") + gateway.figures().count("kept_sent") > 0).await;
    assert_eq!(gateway.figures().count("settlements_unknown"), 0);
}

/// A directory that is gone at the end of the test.
fn directory(server: &gw_testkit::Server) -> std::path::PathBuf {
    server.dir().join("kept")
}

fn on_disk(directory: &std::path::Path) -> Settings {
    let mut made = brisk();
    made.kept.directory = Some(directory.to_owned());
    made
}

fn files(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory).map_or(0, |names| names.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_charges_survive_the_process() {
    let (server, proxy, first) = behind_proxy(patient());
    let directory = directory(&server);
    drop(first);
    proxy.cut(Links::All);
    let gateway = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    for at in 0..3 {
        let options = ChargeOptions { id: Some(at.to_string()), ..Default::default() };
        assert_eq!(gateway.charge(b"k\xff", amount("1"), &options).await.unwrap(), Settlement::Kept);
    }
    gateway.close().await;
    assert_eq!(files(&directory), 1);
    proxy.heal();
    let next = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    until("what was left to be sent", || next.figures().count("kept_sent") == 3).await;
    assert_eq!(next.kept(), 0);
    next.close().await;
    assert_eq!(files(&directory), 0);
    let spent: String = call!(server.connect().unwrap(), "GW.SPENT", &b"k\xff"[..]);
    assert_eq!(spent, "3");
}

#[test]
fn what_a_process_that_just_ends_has_left_is_sent() {
    let server = gw_testkit::Server::start().unwrap();
    let directory = directory(&server);
    let start = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let first = start();
    first.block_on(async {
        let gateway = Gateway::new(&client(1), on_disk(&directory)).unwrap();
        for _ in 0..3 {
            gateway.charge("k", amount("1"), &ChargeOptions::default()).await.unwrap();
        }
    });
    // Its tasks end wherever they are, and nothing was closed.
    first.shutdown_background();
    let second = start();
    second.block_on(async {
        let next = Gateway::new(&client(server.port()), on_disk(&directory)).unwrap();
        let began = std::time::Instant::now();
        // The file is free once the last task of the first one is gone.
        while spent_of(&server, "k") != amount("3") {
            assert!(began.elapsed() < gw_testkit::DEADLINE);
            drop(Gateway::new(&client(server.port()), on_disk(&directory)).unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        next.close().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_process_keeps_is_left_alone() {
    let (server, proxy, first) = behind_proxy(patient());
    let directory = directory(&server);
    drop(first);
    proxy.cut(Links::All);
    let gateway = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    gateway.charge("k", amount("1"), &ChargeOptions::default()).await.unwrap();
    let other = Gateway::new(&client(server.port()), on_disk(&directory)).unwrap();
    other.charge("other", amount("1"), &ChargeOptions::default()).await.unwrap();
    other.close().await;
    assert_eq!((gateway.kept(), other.kept(), spent_of(&server, "k")), (1, 0, amount("0")));
    proxy.heal();
    until("it to be sent by its own", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&server, "k"), amount("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_raises_nothing() {
    let (server, proxy, first) = behind_proxy(patient());
    drop(first);
    proxy.cut(Links::All);
    // It is a file, so it cannot be a directory.
    let directory = directory(&server);
    std::fs::write(&directory, "").unwrap();
    let gateway = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    assert_eq!(gateway.charge("k", amount("1"), &ChargeOptions::default()).await.unwrap(), Settlement::Kept);
    proxy.heal();
    until("it to be sent", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&server, "k"), amount("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_room_stays_on_the_disk() {
    let (server, proxy, first) = behind_proxy(patient());
    let directory = directory(&server);
    drop(first);
    proxy.cut(Links::All);
    let gateway = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    for _ in 0..3 {
        gateway.charge("k", amount("1"), &ChargeOptions::default()).await.unwrap();
    }
    gateway.close().await;
    let mut small = on_disk(&directory);
    small.kept.count = 1;
    let second = Gateway::new(&client(proxy.port()), small).unwrap();
    until("one to be taken over", || second.kept() == 1).await;
    second.close().await;
    proxy.heal();
    let third = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    until("all to be sent", || third.figures().count("kept_sent") == 3).await;
    assert_eq!(spent_of(&server, "k"), amount("3"));
    third.close().await;
    assert_eq!(files(&directory), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_does_not_grow_while_nothing_changes() {
    let (server, proxy, first) = behind_proxy(patient());
    let directory = directory(&server);
    drop(first);
    proxy.cut(Links::All);
    let gateway = Gateway::new(&client(proxy.port()), on_disk(&directory)).unwrap();
    gateway.charge("k", amount("1"), &ChargeOptions::default()).await.unwrap();
    let lines = || -> usize {
        let names = std::fs::read_dir(&directory).unwrap();
        names.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap().lines().count()).sum()
    };
    // A word at the begin and the end of each time, until the file is written anew.
    for _ in 0..5_100 {
        gateway.send_kept().await;
    }
    assert!(lines() < 10_000, "{}", lines());
    gateway.close().await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_settles_what_lives() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    admission.use_so_far("usd", amount("0.5")).unwrap();
    gateway.close().await;
    assert_eq!(account(&server, "a").in_flight, 0);
    assert_eq!(spent_of(&server, "a"), amount("0.5"));
    assert_eq!(gateway.figures().count("admissions_closed"), 1);
    assert_eq!(admission.settle().await.unwrap(), Settlement::Kept);
    // The gateway's connections are gone.
    let mut client = server.connect().unwrap();
    until("connections to close", || {
        let list: String = call!(client, "CLIENT", "LIST" => String);
        list.lines().count() == 1
    })
    .await;
}
