//! A gateway's traffic through GW.ADMIT and GW.SETTLE over a hundred connections, ten of which die at random, against
//! limits that bind. What was admitted is judged by the effects' own times.
//!
//! With GW_LIVE=full an hour of Azure's LLM inference trace of 2023, where it is in `shared/data` beside the project;
//! or else some generated seconds.

use crate::support::{DEADLINE, Random, aof_commands, command, live};
use gw_testkit::redis::Connection;
use gw_testkit::{Server, await_in_sync, await_until, call, digest, redis, try_call};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 100;
const DYING: usize = 10;

/// How many times as fast as the trace.
const SPEED: f64 = 200.0;

/// A minute of the trace.
const MINUTE_MS: i64 = 300;

const TTL_MS: i64 = 400;

#[derive(Debug, Clone, Copy)]
struct Request {
    due: Duration,
    key: usize,
    context: u64,
    generated: u64,
}

impl Request {
    /// Whole tokens.
    fn tokens(&self) -> u64 {
        self.context + self.generated
    }

    /// What a gateway knows beforehand: the context, and a usual answer.
    fn estimate(&self) -> u64 {
        self.context + 250
    }
}

/// Prices in picodollars by the token.
fn cost_picos(context: u64, generated: u64) -> u64 {
    context * 150_000 + generated * 600_000
}

fn money(picos: u64) -> String {
    format!("{}.{:012}", picos / 1_000_000_000_000, picos % 1_000_000_000_000)
}

/// Keys, each of a user, each of a team; shared out as in practice, a few have most of the traffic.
const KEYS: usize = 24;

fn accounts(key: usize) -> [String; 3] {
    let (user, team) = (key % 8, key % 2);
    [format!("{{t{team}}}:u{user}:k{key}"), format!("{{t{team}}}:u{user}"), format!("{{t{team}}}")]
}

fn policies() -> BTreeMap<String, Vec<&'static str>> {
    let mut policies = BTreeMap::new();
    for key in 0..KEYS {
        let [key, user, team] = accounts(key);
        policies.insert(
            key,
            vec!["rpm WINDOW 25 PER 300", "tpm BUCKET 30000 30000 PER 300 METER tokens", "inflight INFLIGHT 4"],
        );
        policies.insert(
            user,
            vec!["tpm WINDOW 60000 PER 300 METER tokens", "inflight INFLIGHT 10", "budget BUDGET 0.5 TOTAL"],
        );
        policies.insert(team, vec!["rpm WINDOW 150 PER 300", "inflight INFLIGHT 25", "budget BUDGET 1.5 MONTH"]);
    }
    policies
}

fn requests() -> Vec<Request> {
    let mut random = Random(0xad317);
    let key = |random: &mut Random| {
        let most = 1 + random.below(KEYS);
        random.below(most)
    };
    let trace = gw_testkit::project_root().join("../shared/data/azure_llm_conv_2023.csv");
    let text = match live(0, 1) {
        1 => std::fs::read_to_string(trace).ok(),
        _ => None,
    };
    let Some(text) = text else {
        // About as many a second as in the trace.
        let arrivals = (0..4_000).map(|index| {
            let (context, generated) = (1 + random.next() % 2_000, 1 + random.next() % 400);
            let due = Duration::from_micros(index * 900 + random.next() % 900);
            Request { due, key: key(&mut random), context, generated }
        });
        return arrivals.collect();
    };
    let mut first_s = None;
    let lines = text.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split(',').collect();
        let clock: Vec<f64> =
            fields[0].split(' ').nth(1).unwrap().split(':').map(|part| part.parse().unwrap()).collect();
        let at_s = clock[0] * 3_600.0 + clock[1] * 60.0 + clock[2];
        let due = Duration::from_secs_f64((at_s - *first_s.get_or_insert(at_s)).max(0.0) / SPEED);
        Request {
            due,
            key: key(&mut random),
            context: fields[1].parse().unwrap(),
            generated: fields[2].trim().parse().unwrap(),
        }
    });
    lines.collect()
}

/// What the gateways saw.
#[derive(Default)]
struct Seen {
    admitted: HashSet<usize>,
    refused: usize,
    settled: HashMap<String, usize>,
    /// The gateways that died, each with one admission that is not settled.
    died: usize,
}

fn chain(key: usize) -> String {
    let [key, user, team] = accounts(key);
    format!("{key} WITH 2 {user} {team}")
}

/// One gateway's connection, until there is nothing to do or it dies: between any two replies.
fn serve(
    mut client: Connection,
    requests: &[Request],
    next: &AtomicUsize,
    start: Instant,
    dies: bool,
    seed: u64,
) -> Seen {
    let (mut seen, mut random) = (Seen::default(), Random(seed));
    let mut lives = if dies { 2 + random.below(30) } else { usize::MAX };
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(index) else { return seen };
        std::thread::sleep(request.due.saturating_sub(start.elapsed()));
        let estimate = money(cost_picos(request.context, 250));
        let words =
            format!("{} LEASE r{index} TTL {TTL_MS} tokens {} usd {estimate}", chain(request.key), request.estimate());
        let (admitted, _, _): (bool, i64, redis::Value) =
            command(&format!("GW.ADMIT {words}")).query(&mut client).unwrap();
        if !admitted {
            seen.refused += 1;
            continue;
        }
        seen.admitted.insert(index);
        lives -= 1;
        if lives == 0 {
            seen.died = 1;
            return seen;
        }
        // The model answers, some of them slowly.
        std::thread::sleep(Duration::from_micros(1_000 + request.generated * 20));
        if request.generated % 50 == 0 {
            call!(client, "GW.KEEPALIVE", &accounts(request.key)[0], "LEASE", format!("r{index}"), "TTL", TTL_MS => i64);
        }
        let cost = money(cost_picos(request.context, request.generated));
        let words = format!("{} LEASE r{index} tokens {} usd {cost}", chain(request.key), request.tokens());
        for _ in 0..=usize::from(random.below(20) == 0) {
            let outcome: String = command(&format!("GW.SETTLE {words}")).query(&mut client).unwrap();
            *seen.settled.entry(outcome).or_default() += 1;
        }
    }
}

fn replay(server: &Server, requests: &[Request]) -> Seen {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let all = Mutex::new(Seen::default());
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let client = server.connect().unwrap();
            let (next, all) = (&next, &all);
            scope.spawn(move || {
                let seen = serve(client, requests, next, start, connection < DYING, connection as u64 + 1);
                let mut all = all.lock().unwrap();
                all.admitted.extend(seen.admitted);
                all.refused += seen.refused;
                all.died += seen.died;
                for (outcome, count) in seen.settled {
                    *all.settled.entry(outcome).or_default() += count;
                }
            });
        }
    });
    all.into_inner().unwrap()
}

/// What the effects say of one admission.
#[derive(Debug, Clone)]
struct Admission {
    at_ms: i64,
    accounts: Vec<String>,
    /// When it was settled, or its lease ended.
    ended_ms: i64,
    settled: bool,
}

/// The admissions in the append-only file, by the request.
fn admissions(server: &Server) -> HashMap<usize, Admission> {
    let mut admissions: HashMap<usize, Admission> = HashMap::new();
    for effect in aof_commands(server).iter().filter(|effect| effect[0] == b"GW._ADMIT") {
        let text = |at: usize| String::from_utf8(effect[at].clone()).unwrap();
        let words: Vec<String> = text(1).split(' ').map(str::to_owned).collect();
        let keys: usize = text(2).parse().unwrap();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let request = || text(3 + keys)[1..].parse::<usize>().unwrap();
        match words[0].as_str() {
            "A" => {
                let accounts = (3..3 + keys).map(text).collect();
                let (at_ms, ended_ms) = (number(1), number(1) + number(4));
                let admission = Admission { at_ms, accounts, ended_ms, settled: false };
                assert!(admissions.insert(request(), admission).is_none(), "admitted twice");
            }
            "S" => {
                let admission = admissions.get_mut(&request()).unwrap();
                assert!(!std::mem::replace(&mut admission.settled, true), "settled twice");
                admission.ended_ms = admission.ended_ms.min(number(1));
            }
            _ => {}
        }
    }
    admissions
}

/// The most that `events` (time, units, error) have in any span of `length_ms`, less their estimates' errors and what
/// flows in by `rate` units a millisecond.
fn worst(events: &[(i64, i128, i128)], length_ms: Option<i64>, rate: (i128, i128)) -> i128 {
    let mut worst = 0;
    for (first, &(start_ms, ..)) in events.iter().enumerate() {
        let mut sum = 0;
        for &(at_ms, units, error) in &events[first..] {
            if length_ms.is_some_and(|length_ms| at_ms - start_ms >= length_ms) {
                break;
            }
            sum += units - error.max(0);
            worst = worst.max(sum - rate.0 * i128::from(at_ms - start_ms) / rate.1);
        }
    }
    worst
}

#[test]
fn limits_hold_while_gateways_die() {
    let mut server = Server::options().aof().start().unwrap();
    let mut client = server.connect().unwrap();
    let replica = Server::options().replica_of(&server).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for (account, policies) in policies() {
        for policy in policies {
            assert_eq!(command(&format!("GW.POLICYSET {account} {policy}")).query::<i64>(&mut client).unwrap(), 1);
        }
    }
    let requests = requests();
    let seen = replay(&server, &requests);
    let admissions = admissions(&server);
    assert!(seen.refused > 0 && seen.admitted.len() > DYING, "the limits bind: {} of {}", seen.refused, requests.len());
    // Counted both ways: what the gateways were told, and what the accounts were charged.
    assert_eq!(admissions.keys().copied().collect::<HashSet<_>>(), seen.admitted);
    assert_eq!(seen.admitted.len() + seen.refused, requests.len());
    println!(
        "{} requests: {} admitted, {} refused; settled: {:?}",
        requests.len(),
        seen.admitted.len(),
        seen.refused,
        seen.settled
    );
    assert!(admissions.values().all(|admission| admission.accounts.len() == 3), "charged to all accounts");
    let unsettled = admissions.values().filter(|admission| !admission.settled).count();
    // On a busy machine some may get too few requests to die.
    assert!((1..=DYING).contains(&seen.died), "{} died", seen.died);
    assert_eq!(unsettled, seen.died, "one for each that died");
    assert_eq!(seen.settled["SETTLED"] + seen.settled.get("LATE").unwrap_or(&0), admissions.len() - seen.died);

    let mut by_account: BTreeMap<&str, Vec<(usize, &Admission)>> = BTreeMap::new();
    for (&request, admission) in &admissions {
        for account in &admission.accounts {
            by_account.entry(account).or_default().push((request, admission));
        }
    }
    let mut spent_in_all = BTreeMap::new();
    for (account, policies) in policies() {
        let mut own = by_account.remove(account.as_str()).unwrap_or_default();
        own.sort_by_key(|(_, admission)| admission.at_ms);
        // Times, units and how far they are above the estimate; a request that was not settled counts as estimated.
        let events = |actual: &dyn Fn(&Request) -> u64, estimate: &dyn Fn(&Request) -> u64| -> Vec<(i64, i128, i128)> {
            let event = |(index, admission): &(usize, &Admission)| {
                let request = &requests[*index];
                let (actual, estimate) = (i128::from(actual(request)), i128::from(estimate(request)));
                let units = if admission.settled { actual } else { estimate };
                (admission.at_ms, units, units - estimate)
            };
            own.iter().map(event).collect()
        };
        let ones = events(&|_| 1, &|_| 1);
        let tokens = events(&Request::tokens, &Request::estimate);
        let cost = |request: &Request| cost_picos(request.context, request.generated);
        let costs = events(&cost, &|request| cost_picos(request.context, 250));
        for policy in policies {
            let words: Vec<&str> = policy.split(' ').collect();
            let limit = words[2];
            let (most, limit) = match (words[0], words[1]) {
                ("rpm", _) => (worst(&ones, Some(MINUTE_MS), (0, 1)), limit.parse().unwrap()),
                ("tpm", "WINDOW") => (worst(&tokens, Some(MINUTE_MS), (0, 1)), limit.parse().unwrap()),
                ("tpm", _) => {
                    let (rate, burst) = (limit.parse().unwrap(), words[3].parse::<i128>().unwrap());
                    // A millisecond's flow: times are whole ones.
                    (worst(&tokens, None, (rate, MINUTE_MS.into())), burst + rate / i128::from(MINUTE_MS) + 1)
                }
                ("inflight", _) => {
                    let starts = own.iter().map(|(_, admission)| (admission.at_ms, 1));
                    let ends = own.iter().map(|(_, admission)| (admission.ended_ms, -1));
                    let mut changes: Vec<(i64, i128)> = starts.chain(ends).collect();
                    changes.sort();
                    let mut now = 0;
                    let most = changes.into_iter().map(|(_, change)| {
                        now += change;
                        now
                    });
                    (most.max().unwrap_or(0), limit.parse().unwrap())
                }
                _ => {
                    let spent: i128 = costs.iter().map(|(_, units, error)| units - error.max(&0)).sum();
                    (spent, (limit.parse::<f64>().unwrap() * 1e12) as i128)
                }
            };
            assert!(most <= limit, "{account} {policy}: {most} of {limit}");
        }
        let settled = own.iter().filter(|(_, admission)| admission.settled);
        spent_in_all.insert(account, settled.map(|(index, _)| cost(&requests[*index])).sum::<u64>());
    }

    // Nothing stays held, and the ledgers have what was used, to the last digit.
    for (account, spent) in spent_in_all {
        await_until("all leases to end", DEADLINE, || {
            let described: HashMap<String, redis::Value> = call!(client, "GW.DESCRIBE", &account);
            let text = gw_testkit::reply_line(Ok(described["ledgers"].clone()));
            text.contains("\"held\", \"0\"") && described["leases"] == redis::Value::Array(Vec::new())
        })
        .unwrap();
        let described: HashMap<String, redis::Value> = call!(client, "GW.DESCRIBE", &account);
        let text = gw_testkit::reply_line(Ok(described["ledgers"].clone()));
        let plain = money(spent).trim_end_matches('0').trim_end_matches('.').to_owned();
        assert!(text.contains(&format!("\"total\", \"{plain}\"")), "{account} {plain}: {text}");
    }

    // The same on the replica, and from the append-only file.
    await_in_sync(&mut client, &mut reader);
    let digests =
        |client: &mut Connection| -> Vec<String> { policies().keys().map(|account| digest(client, account)).collect() };
    let before = digests(&mut client);
    assert_eq!(before, digests(&mut reader));
    server.crash_and_restart().unwrap();
    let mut client = server.connect().unwrap();
    assert_eq!(before, digests(&mut client));
    assert_eq!(redis::cmd("DEBUG").arg("RELOAD").query::<String>(&mut client).unwrap(), "OK");
    assert_eq!(before, digests(&mut client));
}

#[test]
fn a_failover_loses_no_acknowledged_admission() {
    let mut primary = Server::start().unwrap();
    let mut client = primary.connect().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let mut reader = replica.connect().unwrap();
    await_in_sync(&mut client, &mut reader);
    for account in ["{t}:k", "{t}"] {
        for policy in ["rpm WINDOW 100000 PER 60000", "spend BUDGET 1000 MONTH", "inflight INFLIGHT 100000"] {
            command(&format!("GW.POLICYSET {account} {policy}")).exec(&mut client).unwrap();
        }
    }
    let stopped = AtomicBool::new(false);
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for gateway in 0..20 {
            let mut client = primary.connect().unwrap();
            let (stopped, acknowledged) = (&stopped, &acknowledged);
            scope.spawn(move || {
                for request in 0.. {
                    let lease = format!("g{gateway}:{request}");
                    let admitted: redis::RedisResult<(bool, i64, redis::Value)> =
                        command(&format!("GW.ADMIT {{t}}:k WITH 1 {{t}} LEASE {lease} TTL 600000 usd 0.001"))
                            .query(&mut client);
                    let replicas: redis::RedisResult<i64> = try_call!(client, "WAIT", 1, 1_000);
                    match (admitted, replicas) {
                        (Ok((true, ..)), Ok(1)) => acknowledged.lock().unwrap().push(lease),
                        // The replica was slow to tell: nobody may rely on this one.
                        (Ok((true, ..)), Ok(0)) => {}
                        _ if stopped.load(Ordering::SeqCst) => return,
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
        await_until("some admissions", DEADLINE, || acknowledged.lock().unwrap().len() > 500).unwrap();
        stopped.store(true, Ordering::SeqCst);
        primary.kill();
    });
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut reader).unwrap();
    let acknowledged = acknowledged.into_inner().unwrap();
    for lease in &acknowledged {
        let outcome: String =
            command(&format!("GW.SETTLE {{t}}:k WITH 1 {{t}} LEASE {lease}")).query(&mut reader).unwrap();
        assert_eq!(outcome, "SETTLED", "{lease} of {}", acknowledged.len());
    }
}
