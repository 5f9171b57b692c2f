//! Random GW.ALLOW and GW.TOKENS from many connections. Each reply is checked against the definition of the limit at
//! the server's own time; then the same on the replica that has taken over.

use crate::support::{Random, aof_commands, command, live};
use gw_testkit::redis::{self, Connection};
use gw_testkit::{Server, await_in_sync, call};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: u64 = 20;

/// The least number of calls of each connection.
const CALLS_MIN: usize = 500;

/// Short windows and fast buckets, so that all of them fill, deny and admit again many times a second.
const KEYS: u64 = 6;

#[derive(Debug, Clone, Copy)]
enum Limiter {
    Window { limit: i64, window_ms: i64 },
    Bucket { rate: i64, per_ms: i64, burst: i64 },
}

fn limiter(key: u64) -> Limiter {
    match key {
        0 => Limiter::Window { limit: 5, window_ms: 20 },
        1 => Limiter::Window { limit: 300, window_ms: 1_000 },
        2 => Limiter::Window { limit: 100_000, window_ms: 3_000 },
        3 => Limiter::Bucket { rate: 7, per_ms: 13, burst: 40 },
        4 => Limiter::Bucket { rate: 100, per_ms: 1_000, burst: 10 },
        _ => Limiter::Bucket { rate: 1_000_000, per_ms: 60_000, burst: 5_000 },
    }
}

/// One call with its place in the server's order and the server's time before and after it.
#[derive(Debug, Clone)]
struct Call {
    order: u64,
    key: u64,
    cost: i64,
    peek: bool,
    from_ms: i64,
    to_ms: i64,
    reply: [i64; 5],
    /// When it was decided, by its effect, if it has one.
    decided_ms: Option<i64>,
}

/// The limiters by definition: all admissions of a window, and an exact fraction of a token for a bucket.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    admitted: Vec<(i64, i64)>,
    /// A time, and the tokens at that time, multiplied by `per_ms`.
    level: Option<(i64, i64)>,
}

impl Model {
    fn reply(&mut self, limiter: Limiter, now_ms: i64, cost: i64, peek: bool) -> [i64; 5] {
        match limiter {
            Limiter::Window { limit, window_ms } => {
                // If the clock has stepped back, the history moves back with it.
                let behind_ms = self.admitted.last().map_or(0, |(at_ms, _)| (at_ms - now_ms).max(0));
                let moved = self.admitted.iter().map(|(at_ms, units)| (at_ms - behind_ms, *units));
                let mut live: Vec<_> = moved.filter(|(at_ms, _)| at_ms + window_ms > now_ms).collect();
                let used: i64 = live.iter().map(|(_, units)| units).sum();
                let allowed = used + cost <= limit;
                let mut left = used;
                let freed = live.iter().find(|(_, units)| {
                    left -= units;
                    left + cost <= limit
                });
                let retry_after_ms = match freed {
                    _ if allowed => 0,
                    Some((at_ms, _)) if cost <= limit => at_ms + window_ms - now_ms,
                    _ => -1,
                };
                let admitted = allowed && cost > 0 && !peek;
                if admitted {
                    live.push((now_ms, cost));
                }
                if admitted || (!allowed && !peek && behind_ms > 0) {
                    self.admitted = live.clone();
                }
                let used: i64 = live.iter().map(|(_, units)| units).sum();
                let reset_after_ms = live.last().map_or(0, |(at_ms, _)| at_ms + window_ms - now_ms);
                [allowed.into(), limit, limit - used, retry_after_ms, reset_after_ms]
            }
            Limiter::Bucket { rate, per_ms, burst } => {
                let full = burst * per_ms;
                let (mut level, at_ms) = self.level.unwrap_or((full, now_ms));
                level = full.min(level + (now_ms - at_ms).max(0) * rate);
                let allowed = level >= cost * per_ms;
                let wait_ms = |parts: i64| (parts.max(0) + rate - 1) / rate;
                let retry_after_ms = match allowed {
                    true => 0,
                    false if cost > burst => -1,
                    false => wait_ms(cost * per_ms - level),
                };
                if allowed && cost > 0 && !peek {
                    level -= cost * per_ms;
                    self.level = Some((level, now_ms));
                } else if !allowed && !peek {
                    self.level = self.level.map(|(level, at_ms)| (level, at_ms.min(now_ms)));
                }
                [allowed.into(), burst, level / per_ms, retry_after_ms, wait_ms(full - level)]
            }
        }
    }
}

/// Random calls until the time is up, and on a busy machine until there were enough.
fn traffic(client: &mut Connection, random: &mut Random, until: Instant, calls: &mut Vec<Call>) {
    while Instant::now() < until || calls.len() < CALLS_MIN {
        let key = random.below(KEYS as usize) as u64;
        let cost = [0, 1, 1, 1, 2, 3, 17][random.below(7)];
        let peek = random.below(10) == 0;
        let mut words = match limiter(key) {
            Limiter::Window { limit, window_ms } => format!("GW.ALLOW k{key} {limit} WINDOW {window_ms} COST {cost}"),
            Limiter::Bucket { rate, per_ms, burst } => {
                format!("GW.TOKENS k{key} {rate} {burst} PER {per_ms} COST {cost}")
            }
        };
        if peek {
            words.push_str(" PEEK");
        }
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("INCR").arg("order").cmd("TIME");
        transaction.add_command(command(&words)).cmd("TIME");
        let (order, from, reply, to): (u64, [i64; 2], [i64; 5], [i64; 2]) = transaction.query(client).unwrap();
        let ms = |[seconds, micros]: [i64; 2]| seconds * 1_000 + micros / 1_000;
        calls.push(Call { order, key, cost, peek, from_ms: ms(from), to_ms: ms(to), reply, decided_ms: None });
        // Bursts and pauses: some calls wait for the window to move on.
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(8_000) as u64));
        }
    }
}

fn run_traffic(server: &Server, seed: u64) -> Vec<Call> {
    let until = Instant::now() + Duration::from_secs(live(8, 60));
    let mut calls: Vec<Call> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let mut client = server.connect().unwrap();
                scope.spawn(move || {
                    let mut calls = Vec::new();
                    traffic(&mut client, &mut Random(seed + connection), until, &mut calls);
                    calls
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    calls.sort_by_key(|call| call.order);

    // The effects of these calls are the last in the append-only file, in the same order.
    let mut admitted = calls.iter_mut().rev().filter(|call| call.reply[0] == 1 && call.cost > 0 && !call.peek);
    let is_admission = |effect: &Vec<Vec<u8>>| effect[0] == b"GW._LIMIT" && effect[2][0].is_ascii_uppercase();
    let mut effects = aof_commands(server).into_iter().rev().filter(is_admission);
    for call in &mut admitted {
        let effect = effects.next().expect("an effect for every admission");
        assert_eq!(effect[1], format!("k{}", call.key).as_bytes());
        let text = String::from_utf8(effect[2].clone()).unwrap();
        call.decided_ms = Some(text.split(' ').nth(1).unwrap().parse().unwrap());
    }
    drop(admitted);
    calls
}

#[test]
fn every_reply_agrees_with_the_definition_also_after_a_failover() {
    // The effects are read from the files, so these must not be rewritten meanwhile.
    let options = || Server::options().aof().config("auto-aof-rewrite-percentage 0");
    let primary = options().start().unwrap();
    let replica = options().replica_of(&primary).start().unwrap();
    let (mut client, mut replica_client) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut replica_client);

    let mut calls = run_traffic(&primary, 1);
    await_in_sync(&mut client, &mut replica_client);
    call!(replica_client, "REPLICAOF", "NO", "ONE" => String);
    calls.extend(run_traffic(&replica, 1_000));

    let (mut denied, mut uncertain) = (0, 0);
    let mut models: Vec<Model> = (0..KEYS).map(|_| Model::default()).collect();
    for (place, call) in calls.iter().enumerate() {
        let Call { key, cost, peek, from_ms, to_ms, reply, decided_ms, .. } = *call;
        assert_eq!(call.order, place as u64 + 1, "the replica continues from the primary's state");
        let model = &mut models[key as usize];
        // A call without an effect may have been decided in any millisecond of its duration.
        let mut times = decided_ms.map_or(from_ms.min(to_ms)..=to_ms.max(from_ms), |at_ms| at_ms..=at_ms);
        let right = times.clone().find(|&at_ms| model.clone().reply(limiter(key), at_ms, cost, peek) == reply);
        let at_ms = right.or(times.next()).unwrap();
        let expected = model.reply(limiter(key), at_ms, cost, peek);
        assert_eq!(reply, expected, "call {place} of {} at {at_ms}: {call:?}", calls.len());
        uncertain += usize::from(from_ms != to_ms);
        denied += usize::from(reply[0] == 0);
    }
    assert!(denied > 100 && denied < calls.len(), "{denied} of {} calls denied", calls.len());
    assert!(calls.len() - uncertain > 1_000, "of {} calls {uncertain} were decided at one of two times", calls.len());
}

#[test]
fn a_denied_request_is_admitted_after_retry_after_ms_and_not_a_millisecond_sooner() {
    let server = Server::start().unwrap();
    let checked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for connection in 0..5 {
            let (mut client, checked) = (server.connect().unwrap(), &checked);
            scope.spawn(move || {
                let mut random = Random(connection + 7);
                for case in 0..20 {
                    retry_is_true(&mut client, &format!("k{connection}:{case}"), &mut random);
                    checked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(checked.into_inner(), 100);
}

/// Fills a limiter, asks for more than is left, and repeats the request until it is admitted.
fn retry_is_true(client: &mut Connection, key: &str, random: &mut Random) {
    let cost = random.below(5) + 1;
    let words = match random.below(2) {
        0 => format!("GW.ALLOW {key} 10 WINDOW {}", random.below(200) + 50),
        _ => format!("GW.TOKENS {key} {} 10 PER 1000", random.below(40) + 20),
    };
    // Taken in several steps, so that not everything becomes free at once.
    for _ in 0..10 {
        call!(*client, "PING" => String);
        command(&words).query::<[i64; 5]>(client).unwrap();
    }
    let mut due_ms = None;
    loop {
        let mut transaction = redis::pipe();
        transaction.atomic().cmd("TIME").add_command(command(&format!("{words} COST {cost} PEEK"))).cmd("TIME");
        let (from, reply, to): ([i64; 2], [i64; 5], [i64; 2]) = transaction.query(client).unwrap();
        let ms = |[seconds, micros]: [i64; 2]| seconds * 1_000 + micros / 1_000;
        let (from_ms, to_ms) = (ms(from), ms(to));
        if from_ms != to_ms {
            // The next millisecond has begun meanwhile: which one the server used is unknown.
            continue;
        }
        let due_ms = *due_ms.get_or_insert(from_ms + reply[3]);
        assert_eq!(reply[0] == 1, from_ms >= due_ms, "{words}: told {due_ms}, at {from_ms}: {reply:?}");
        if reply[0] == 1 {
            return;
        }
        assert_eq!(from_ms + reply[3], due_ms, "the first retry_after_ms stays true");
    }
}
