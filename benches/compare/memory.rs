//! The memory of values, compared with what they replace.

use crate::cases::COMPLETION;
use crate::measure::await_rest;
use crate::random::Random;
use crate::records::record;
use crate::result::Result;
use gw_testkit::info;
use redis::{Cmd, Connection, cmd};

/// The memory of one key or one record, in bytes.
pub struct Footprint {
    pub name: String,
    /// By MEMORY USAGE: the value and its key.
    pub usage: f64,
    /// By the growth of the server's used_memory, which includes the key's entries in the server's tables and the
    /// allocator's rounding.
    pub used: f64,
    /// The most that MEMORY USAGE may report.
    pub bar: Option<u64>,
}

const WINDOW_MS: i64 = 60_000;
const RECORDS: usize = 10_000;

pub fn footprints(connection: &mut Connection) -> Result<Vec<Footprint>> {
    let mut footprints = Vec::new();
    for (events, bar) in [(60, Some(400)), (600, Some(2_400)), (6_000, None)] {
        let count = keys(events);
        footprints.push(of_keys(
            connection,
            format!("GW.ALLOW window, {events} events"),
            count,
            bar,
            |now_ms, key| {
                let times = random_times(key, events, now_ms);
                // Effects, the form in which admissions reach replicas: they carry their times, so that no minute has
                // to pass here.
                let effect = |at_ms| format!("W {at_ms} 1 {} {WINDOW_MS} 0", events * 2);
                times.into_iter().map(|at_ms| command(&["GW._LIMIT", &name(key), &effect(at_ms)])).collect()
            },
        )?);
        footprints.push(of_keys(connection, format!("ZSET, {events} events"), count, None, |now_ms, key| {
            let times = random_times(key, events, now_ms).into_iter().enumerate();
            let member = |index, at_ms| format!("{at_ms}.{index:06}");
            let add = |index, at_ms: i64| command(&["ZADD", &name(key), &at_ms.to_string(), &member(index, at_ms)]);
            times.map(|(index, at_ms)| add(index, at_ms)).collect()
        })?);
    }
    let simple: [(&str, Option<u64>, &[&str]); 5] = [
        ("GW.TOKENS bucket", Some(200), &["GW.TOKENS", "#", "90000", "90000", "COST", "418"]),
        ("HASH of two fields", None, &["HSET", "#", "level", "89582.331", "at", "1770000000000"]),
        ("GW.ADDCOST ledger, one month", Some(220), &["GW.ADDCOST", "#", "0.0013755"]),
        ("STRING counter", None, &["INCRBYFLOAT", "#", "0.0013755"]),
        ("STRING with a TTL, 4,096 bytes", None, &["SETEX", "#", "3600", COMPLETION]),
    ];
    for (label, bar, words) in simple {
        footprints.push(of_keys(connection, label.to_owned(), 1_000, bar, |_, key| {
            let name = name(key);
            let words: Vec<&str> = words.iter().map(|&word| if word == "#" { &name } else { word }).collect();
            vec![command(&words)]
        })?);
    }
    // Six tenths of the string.
    let string_bytes = footprints.last().map_or(0.0, |string: &Footprint| string.usage);
    for (label, from_bytes, bar) in [
        ("GW.CACHESET entry, 4,096 bytes", 0, None),
        ("GW.CACHESET entry, 4,096 bytes, compressed", 1_000, Some((string_bytes * 0.6) as u64)),
    ] {
        cmd("CONFIG").arg(&["SET", "gw.cache-compress-bytes"]).arg(from_bytes).exec(connection)?;
        let set = |_, key| vec![command(&["GW.CACHESET", &name(key), COMPLETION])];
        footprints.push(of_keys(connection, label.to_owned(), 1_000, bar, set)?);
    }
    cmd("CONFIG").arg(&["SET", "gw.cache-compress-bytes"]).arg(0).exec(connection)?;
    footprints.push(of_keys(
        connection,
        "GW.ADDCOST ledger, 62 days of spend".to_owned(),
        1_000,
        Some(1_600),
        |now_ms, key| {
            let charge = |day: i64| {
                command(&["GW.ADDCOST", &name(key), "0.0013755", "AT", &(now_ms - day * 86_400_000).to_string()])
            };
            (0..62).map(charge).collect()
        },
    )?);
    footprints.push(of_holds(connection)?);
    let push = ["GW.LOGPUSH", "logs", "RECORDS"];
    footprints.push(of_records(connection, "GW.LOGPUSH record, 1,024 bytes", Some(380), &push)?);
    footprints.push(of_records(connection, "LIST record, 1,024 bytes", None, &["RPUSH", "logs"])?);
    Ok(footprints)
}

/// So many keys that the server's own allocations meanwhile do not matter.
fn keys(events: u64) -> u64 {
    (200_000 / events).clamp(100, 1_000)
}

fn name(key: u64) -> String {
    format!("key:{key:06}")
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(words);
    command
}

/// The memory per key, for `count` keys that the commands of `make(now_ms, key)` make.
fn of_keys(
    connection: &mut Connection,
    name_of_row: String,
    count: u64,
    bar: Option<u64>,
    make: impl Fn(i64, u64) -> Vec<Cmd>,
) -> Result<Footprint> {
    cmd("FLUSHALL").arg("SYNC").exec(connection)?;
    let before = used_memory(connection)?;
    let (seconds, micros): (i64, i64) = cmd("TIME").query(connection)?;
    let now_ms = seconds * 1_000 + micros / 1_000;
    for key in 0..count {
        let mut batch = redis::pipe();
        for command in make(now_ms, key) {
            batch.add_command(command).ignore();
        }
        batch.exec(connection)?;
    }
    let used = (used_memory(connection)? - before) / count as f64;
    let mut usage = 0.0;
    for key in 0..count {
        usage += memory_usage(connection, &name(key))? / count as f64;
    }
    Ok(Footprint { name: name_of_row, usage, used, bar })
}

/// The memory per hold, for a thousand in a ledger that already has spend.
fn of_holds(connection: &mut Connection) -> Result<Footprint> {
    const HOLDS: usize = 1_000;
    cmd("FLUSHALL").arg("SYNC").exec(connection)?;
    cmd("GW.ADDCOST").arg("ledger").arg("0.0013755").exec(connection)?;
    let (used, usage) = (used_memory(connection)?, memory_usage(connection, "ledger")?);
    for number in 0..HOLDS {
        // As long as a UUID.
        let id = format!("{number:036}");
        cmd("GW.RESERVE").arg(&["ledger", "0.0025", "1000000", "TTL", "3600000", "ID", &id]).exec(connection)?;
    }
    let per_hold = |bytes: f64| bytes / HOLDS as f64;
    Ok(Footprint {
        name: "GW.RESERVE hold, of 1,000".to_owned(),
        usage: per_hold(memory_usage(connection, "ledger")? - usage),
        used: per_hold(used_memory(connection)? - used),
        // With what finds it among many.
        bar: Some(130),
    })
}

/// The memory per record, for [`RECORDS`] of them in one key.
fn of_records(connection: &mut Connection, label: &str, bar: Option<u64>, push: &[&str]) -> Result<Footprint> {
    cmd("FLUSHALL").arg("SYNC").exec(connection)?;
    await_rest(connection)?;
    let before = used_memory(connection)?;
    for number in 0..RECORDS {
        command(push).arg(record(number as u64)).exec(connection)?;
    }
    await_rest(connection)?;
    let per_record = |bytes: f64| bytes / RECORDS as f64;
    let used = per_record(used_memory(connection)? - before);
    Ok(Footprint { name: label.to_owned(), usage: per_record(memory_usage(connection, "logs")?), used, bar })
}

/// The server's used_memory, without the clients' buffers.
fn used_memory(connection: &mut Connection) -> Result<f64> {
    let fields = info(connection, "memory");
    let field = |name: &str| -> Result<f64> {
        Ok(fields.get(name).ok_or_else(|| format!("no {name} in INFO memory"))?.parse()?)
    };
    Ok(field("used_memory")? - field("mem_clients_normal")?)
}

fn memory_usage(connection: &mut Connection, key: &str) -> Result<f64> {
    Ok(cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0).query(connection)?)
}

/// `count` random times of the last minute, uniformly distributed and sorted; different for each `seed`.
fn random_times(seed: u64, count: u64, now_ms: i64) -> Vec<i64> {
    let mut random = Random(seed);
    let random = |_| now_ms - random.below(WINDOW_MS as u64) as i64;
    let mut times: Vec<i64> = (0..count).map(random).collect();
    times.sort_unstable();
    times
}
