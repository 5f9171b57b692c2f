//! Budgets under load, with clients and servers that crash: short in the ordinary suite, in full with GW_LIVE=full.

use crate::support::{DEADLINE, Random, live, run};
use gw_testkit::redis::{self, Connection, RedisResult};
use gw_testkit::{Server, await_until, call, try_call};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Cents as an amount.
fn amount(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn cents(amount: &str) -> u64 {
    let (whole, places) = amount.split_once('.').unwrap_or((amount, ""));
    whole.parse::<u64>().unwrap() * 100 + format!("{places:0<2}").parse::<u64>().unwrap()
}

type Reserved = (i64, Option<String>, String, String, String, String, String, i64);

/// Far longer than any of the clients takes between its reservation and its commit.
const TTL_MS: u64 = 6_000;

/// What one client does until the time is over: it reserves, and commits up to what it reserved, or cancels, or crashes
/// before or while it does. Counts what was certainly charged, and what may have been.
fn spend(server: &Server, budget: u64, seed: u64, until: Instant, certain: &AtomicU64, possible: &AtomicU64) {
    let mut random = Random(seed);
    let mut client = server.connect().unwrap();
    // On a busy machine for longer, until enough has happened.
    let enough = || certain.load(Ordering::Relaxed) > budget / 4 && possible.load(Ordering::Relaxed) > 0;
    while Instant::now() < until || !enough() {
        let estimate = 1 + random.below(100) as u64;
        let reserved: Reserved =
            call!(client, "GW.RESERVE", "k", amount(estimate), amount(budget), "TOTAL", "TTL", TTL_MS);
        let (Some(hold), true) = (reserved.1, reserved.0 == 1) else { continue };
        let actual = random.below(estimate as usize + 1) as u64;
        match random.below(20) {
            0 => client = server.connect().unwrap(),
            1 => {
                possible.fetch_add(actual, Ordering::Relaxed);
                let commit = redis::cmd("GW.COMMIT").arg("k").arg(&hold).arg(amount(actual)).get_packed_command();
                client.send_packed_command(&commit).unwrap();
                client = server.connect().unwrap();
            }
            2..5 => drop(call!(client, "GW.CANCEL", "k", &hold => redis::Value)),
            _ => {
                let (changed, ..): (i64, String, String, i64, String) =
                    call!(client, "GW.COMMIT", "k", &hold, amount(actual));
                assert_eq!(changed, 1);
                certain.fetch_add(actual, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn no_number_of_clients_overspends_and_what_crashed_ones_held_comes_back() {
    const CLIENTS: u64 = 64;
    let seconds = live(6, 30);
    // Spent about half way through.
    let budget = seconds * 40_000;
    let server = Server::start().unwrap();
    let until = Instant::now() + Duration::from_secs(seconds);
    let (certain, possible) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for seed in 1..=CLIENTS {
            let (server, certain, possible) = (&server, &certain, &possible);
            scope.spawn(move || spend(server, budget, seed * 0x9e37_79b9, until, certain, possible));
        }
        let mut client = server.connect().unwrap();
        while Instant::now() < until {
            let standing: (i64, String, String, String, String, String, i64) =
                call!(client, "GW.WITHINBUDGET", "k", amount(budget), "TOTAL");
            let (spent, held) = (cents(&standing.3), cents(&standing.4));
            assert!(spent + held <= budget, "{spent} spent and {held} held of {budget}");
        }
    });
    let (certain, possible) = (certain.into_inner(), possible.into_inner());
    let mut client = server.connect().unwrap();
    let mut spent = 0;
    await_until("all holds to expire", DEADLINE, || {
        let standing: (i64, String, String, String, String, String, i64) =
            call!(client, "GW.WITHINBUDGET", "k", amount(budget), "TOTAL");
        spent = cents(&standing.3);
        standing.4 == "0"
    })
    .unwrap();
    assert!((certain..=certain + possible).contains(&spent), "{spent} is not {certain} to {}", certain + possible);
    assert!(spent <= budget);
    // Every unspent cent is there, and not one more.
    let rest = budget - spent;
    let all_but = |cents: u64| format!("GW.RESERVE k {} {} TOTAL ID last", amount(cents), amount(budget));
    assert!(run(&mut client, &all_but(rest + 1)).starts_with("[0, "));
    assert!(run(&mut client, &all_but(rest)).starts_with("[1, "));
}

/// Charges until the server is gone: `k` under ids, of which the last may have to be repeated, and `plain` without.
struct Charger {
    number: u64,
    /// Of the id that `next` is part of.
    next: u64,
    acknowledged: u64,
    plain_acknowledged: u64,
    plain_unsure: u64,
}

impl Charger {
    fn charge(&mut self, client: &mut Connection) {
        loop {
            let id = format!("{}:{}", self.number, self.next);
            let charged: RedisResult<String> = try_call!(*client, "GW.ADDCOST", "k", "0.000001", "ID", id);
            if charged.is_err() {
                return;
            }
            self.next += 1;
            self.acknowledged += 1;
            let charged: RedisResult<String> = try_call!(*client, "GW.ADDCOST", "plain", "0.000001");
            if charged.is_err() {
                self.plain_unsure += 1;
                return;
            }
            self.plain_acknowledged += 1;
        }
    }
}

#[test]
fn every_acknowledged_charge_is_there_once_however_often_the_server_is_killed() {
    const CHARGERS: u64 = 4;
    let kills = live(8, 200);
    let mut server = Server::options().config("appendonly yes").config("appendfsync always").start().unwrap();
    let mut random = Random(0x000f_f1ce);
    let new = |number| Charger { number, next: 0, acknowledged: 0, plain_acknowledged: 0, plain_unsure: 0 };
    let mut chargers: Vec<_> = (0..CHARGERS).map(new).collect();
    let micros = |client: &mut Connection, key: &str| -> u64 {
        let spent: String = call!(*client, "GW.SPENT", key, "TOTAL");
        (spent.parse::<f64>().unwrap() * 1e6).round() as u64
    };
    for kill in 0..kills {
        let started = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for charger in &mut chargers {
                let (mut client, started) = (server.connect().unwrap(), &started);
                scope.spawn(move || {
                    started.store(true, Ordering::Relaxed);
                    charger.charge(&mut client);
                });
            }
            // In the middle of traffic, wherever that is.
            std::thread::sleep(Duration::from_millis(20 + random.below(150) as u64));
            server.kill();
        });
        server.crash_and_restart().unwrap();
        let mut client = server.connect().unwrap();
        let acknowledged: u64 = chargers.iter().map(|charger| charger.acknowledged).sum();
        let spent = micros(&mut client, "k");
        // What was sent and not answered may be there, once.
        assert!((acknowledged..=acknowledged + CHARGERS).contains(&spent), "{kill}: {spent} of {acknowledged}");
        let (sure, unsure) = chargers
            .iter()
            .fold((0, 0), |sum, charger| (sum.0 + charger.plain_acknowledged, sum.1 + charger.plain_unsure));
        let spent = micros(&mut client, "plain");
        assert!((sure..=sure + unsure).contains(&spent), "{kill}: {spent} of {sure} and perhaps {unsure}");
    }
    // The last that nobody answered, again: then the sum is exact.
    let mut client = server.connect().unwrap();
    for charger in &mut chargers {
        call!(client, "GW.ADDCOST", "k", "0.000001", "ID", format!("{}:{}", charger.number, charger.next) => String);
        charger.acknowledged += 1;
    }
    let acknowledged: u64 = chargers.iter().map(|charger| charger.acknowledged).sum();
    assert_eq!(micros(&mut client, "k"), acknowledged);
    assert!(acknowledged > kills * CHARGERS, "{acknowledged} charges: hardly a test");
}
