use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use gw_testkit::{SENTINEL_NAME, Server, Watched, await_in_sync, call};
use redis::Client;
use redis_gateway_client::{AllowOptions, Amount, Away, ChargeOptions, Gateway, Mode, Outcome, Settings};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_under_load() {
    let mut watched = Watched::start(&Server::options(), 1, Duration::from_secs(2)).unwrap();
    let sentinels: Vec<Client> = watched.sentinels().into_iter().map(client).collect();
    let mut settings = brisk();
    (settings.timeout, settings.connect_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    let gateway = Gateway::sentinel(&sentinels, SENTINEL_NAME, &client(1), settings).unwrap();
    let (stop, charged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (own, ends, counted) = (gateway.clone(), stop.clone(), charged.clone());
    let load = tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            own.charge("l", amount("1"), &ChargeOptions::default()).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    until("it to be charged", || charged.load(Ordering::Relaxed) > 50).await;
    // What the primary has acknowledged is on the replica before it dies.
    let [primary, replica] = [0, 1].map(|at| watched.servers()[at].connect().unwrap());
    let (mut primary, mut replica) = (primary, replica);
    call!(primary, "CLIENT", "PAUSE", 60_000, "WRITE" => ());
    await_in_sync(&mut primary, &mut replica);
    tokio::task::block_in_place(|| watched.kill_primary()).unwrap();
    until("it to be charged there", || spent_of(watched.primary().unwrap(), "l") > Amount::from(60)).await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    until("all that was kept to arrive", || gateway.kept() == 0).await;
    assert_eq!(spent_of(watched.primary().unwrap(), "l"), Amount::from(charged.load(Ordering::Relaxed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_that_do_not_answer_hold_up_nobody() {
    let watched = Watched::start(&Server::options(), 0, Duration::from_secs(60)).unwrap();
    // The kernel takes connections for them, and nobody reads.
    let silent: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let mut sentinels: Vec<Client> =
        silent.iter().map(|listener| client(listener.local_addr().unwrap().port())).collect();
    for answers in [false, true] {
        if answers {
            sentinels[2] = client(watched.sentinels()[0]);
        }
        let away = Away { limits: Mode::Open, ..Away::default() };
        let settings = Settings { away, failures: u32::MAX, ..Settings::default() };
        let gateway = Gateway::sentinel(&sentinels, SENTINEL_NAME, &client(1), settings).unwrap();
        let began = Instant::now();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let own = gateway.clone();
                tokio::spawn(async move { own.allow("k", 1_000_000, &AllowOptions::default()).await.unwrap() })
            })
            .collect();
        for task in tasks {
            assert!(task.await.unwrap().is_ok());
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        // The one that answers is found.
        let found = async || gateway.allow("k", 1_000_000, &AllowOptions::default()).await.unwrap().outcome;
        while answers && found().await != Outcome::Admitted {
            assert!(began.elapsed() < gw_testkit::DEADLINE);
        }
    }
}
