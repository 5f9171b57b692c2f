//! The worker is killed in the middle, many times, and so is the server. Afterwards the database has what the ledgers
//! have, to the last digit.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_testkit::redis::{self, Connection, ErrorKind, FromRedisValue, Value};
use gw_testkit::{Server, await_in_sync, call};

const ACCOUNTS: u64 = 60;

/// 2024-01-01 00:00 UTC.
const FIRST_DAY_MS: u64 = 1_704_067_200_000;
const DAY_MS: u64 = 86_400_000;

/// xorshift64* (Vigna, <https://doi.org/10.1145/2845077>).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

fn worker(port: u16, file: &Path) -> Command {
    let mut worker = Command::new(env!("CARGO_BIN_EXE_gw-cost-sync"));
    worker.arg(format!("redis://127.0.0.1:{port}")).arg(file).stderr(Stdio::null());
    worker
}

/// Charges, late charges, refunds, holds, credits; ledgers that are deleted, made again, copied, renamed and restored. Fails only
/// where the server is gone: that two changes cannot follow each other (a copy onto itself, a hold whose ledger was
/// deleted meanwhile) is part of the traffic.
fn change(client: &mut Connection, random: &mut Random, dumps: &mut Vec<Vec<u8>>) -> redis::RedisResult<()> {
    match try_change(client, random, dumps) {
        Err(error) if !matches!(error.kind(), ErrorKind::Server(_)) => Err(error),
        _ => Ok(()),
    }
}

fn try_change(client: &mut Connection, random: &mut Random, dumps: &mut Vec<Vec<u8>>) -> redis::RedisResult<()> {
    let key = format!("account:{}", random.below(ACCOUNTS));
    let at_ms = FIRST_DAY_MS + random.below(50) * DAY_MS;
    let amount = format!("0.{:012}", 1 + random.below(999_999_999_999));
    let command = match random.below(100) {
        0 => redis::cmd("DEL").arg(&key).take(),
        1 => redis::cmd("RENAME").arg(&key).arg(format!("account:{}", random.below(ACCOUNTS))).take(),
        2 => redis::cmd("COPY").arg(&key).arg(format!("account:{}", random.below(ACCOUNTS))).arg("REPLACE").take(),
        3 => match dumps.pop() {
            Some(dump) => redis::cmd("RESTORE").arg(&key).arg(0).arg(dump).arg("REPLACE").take(),
            None => {
                dumps.extend(redis::cmd("DUMP").arg(&key).query::<Option<Vec<u8>>>(client)?);
                return Ok(());
            }
        },
        4..20 => redis::cmd("GW.ADDCOST").arg(&key).arg(format!("-{amount}")).arg("REFUND").arg("AT").arg(at_ms).take(),
        20..40 => {
            let reserve = redis::cmd("GW.RESERVE").arg(&key).arg(1).arg("1000000").arg("ID").arg(&amount).take();
            reserve.query::<Value>(client)?;
            redis::cmd("GW.COMMIT").arg(&key).arg(&amount).arg(&amount).take()
        }
        40..55 => {
            let period = ["DAY", "WEEK", "MONTH", "TOTAL"][random.below(4) as usize];
            // More than was given is refused.
            let sign = if random.below(3) == 0 { "-" } else { "" };
            redis::cmd("GW.CREDIT").arg(&key).arg(period).arg(format!("{sign}{amount}")).arg("AT").arg(at_ms).take()
        }
        _ => redis::cmd("GW.ADDCOST").arg(&key).arg(&amount).arg("AT").arg(at_ms).take(),
    };
    command.query::<Value>(client).map(drop)
}

/// By account, table, period and first day.
type Rows = BTreeMap<(String, String, String, String), String>;

fn database_rows(file: &Path) -> Rows {
    let database = rusqlite::Connection::open(file).unwrap();
    let of_table = |table| format!("SELECT CAST(account AS TEXT), '{table}', period, first_day, amount FROM {table}");
    let mut rows = database.prepare(&["spend", "credit"].map(of_table).join(" UNION ALL ")).unwrap();
    let rows =
        rows.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), row.get(4)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn ledger_rows(client: &mut Connection) -> Rows {
    let mut rows = Rows::new();
    for key in call!(*client, "KEYS", "*" => Vec<String>) {
        let ledger: BTreeMap<String, Value> = call!(*client, "GW.DESCRIBE", &key);
        let total = String::from_redis_value(ledger["total"].clone()).unwrap();
        let pairs = |name: &str| <Vec<(String, String)>>::from_redis_value(ledger[name].clone()).unwrap();
        let mut row = |table: &str, period: &str, first_day: String, amount| {
            rows.insert((key.clone(), table.into(), period.into(), first_day), amount);
        };
        row("spend", "TOTAL", "0001-01-01".into(), total);
        pairs("months").into_iter().for_each(|(month, spent)| row("spend", "MONTH", format!("{month}-01"), spent));
        pairs("days").into_iter().for_each(|(day, spent)| row("spend", "DAY", day, spent));
        let credits = <Vec<(String, String, String)>>::from_redis_value(ledger["credits"].clone()).unwrap();
        credits.into_iter().for_each(|(period, first_day, credit)| row("credit", &period, first_day, credit));
    }
    rows
}

/// Runs the worker to its end, and compares. What was deleted stays in the database: that is not compared.
fn assert_in_step(server: &Server, file: &Path) {
    let done = worker(server.port(), file).arg("--once").status().unwrap();
    assert!(done.success());
    let mut client = server.connect().unwrap();
    let (ledgers, mut database) = (ledger_rows(&mut client), database_rows(file));
    let there: Vec<String> = call!(client, "KEYS", "*");
    database.retain(|(account, ..), _| there.contains(account));
    assert!(ledgers.len() > 100, "{} rows: hardly a test", ledgers.len());
    let differences: Vec<_> = ledgers
        .keys()
        .chain(database.keys())
        .filter(|row| database.get(*row) != ledgers.get(*row))
        .map(|row| format!("{row:?}: {:?}, not {:?}", database.get(row), ledgers.get(row)))
        .collect();
    assert!(differences.is_empty(), "the database has {differences:#?}");
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_worker_that_is_killed_and_servers_that_crash_leave_an_exact_database() {
    let kills = gw_testkit::live(25, 300);
    let mut server = Server::options().aof().start().unwrap();
    let file = server.dir().join("spend.sqlite");
    let mut random = Random(0x00c0_ffee);
    for round in 0..kills {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for seed in 0..2 {
                let (mut client, stop, mut random) = (server.connect().unwrap(), &stop, Random(round * 2 + seed + 1));
                scope.spawn(move || {
                    let mut dumps = Vec::new();
                    while !stop.load(Ordering::Relaxed) && change(&mut client, &mut random, &mut dumps).is_ok() {}
                });
            }
            let process = worker(server.port(), &file).spawn().unwrap();
            // Wherever it is by then: before it has connected, or deep in the feed.
            std::thread::sleep(Duration::from_millis(10 + random.below(120)));
            kill(process);
            if random.below(4) == 0 {
                server.kill();
            }
            stop.store(true, Ordering::Relaxed);
        });
        if server.pid().is_none() {
            server.crash_and_restart().unwrap();
        }
        if round % 10 == 9 {
            assert_in_step(&server, &file);
        }
    }
    assert_in_step(&server, &file);
}

#[test]
fn a_failover_that_loses_changes_is_followed() {
    let primary = Server::start().unwrap();
    let replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut client, mut reader) = (primary.connect().unwrap(), replica.connect().unwrap());
    await_in_sync(&mut client, &mut reader);
    let file = primary.dir().join("spend.sqlite");
    let (mut random, mut dumps) = (Random(0xfa11_0ce5), Vec::new());
    for _ in 0..3_000 {
        change(&mut client, &mut random, &mut dumps).unwrap();
    }
    assert_in_step(&primary, &file);
    await_in_sync(&mut client, &mut reader);
    // The replica hears no more: what follows is stored, and lost.
    call!(reader, "REPLICAOF", "NO", "ONE" => ());
    for _ in 0..1_000 {
        change(&mut client, &mut random, &mut dumps).unwrap();
    }
    assert_in_step(&primary, &file);
    for _ in 0..100 {
        change(&mut reader, &mut random, &mut dumps).unwrap();
    }
    assert_in_step(&replica, &file);
}

/// A database that a worker has followed into which did not know of credits, and has acknowledged them.
#[test]
fn a_database_without_credits_gets_them() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let (mut random, mut dumps) = (Random(0x0dd_ba11), Vec::new());
    for _ in 0..3_000 {
        change(&mut client, &mut random, &mut dumps).unwrap();
    }
    let file = server.dir().join("spend.sqlite");
    assert_in_step(&server, &file);
    rusqlite::Connection::open(&file).unwrap().execute_batch("DROP TABLE credit").unwrap();
    assert_in_step(&server, &file);
    let credits: i64 = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("SELECT count(*) FROM credit", [], |row| row.get(0))
        .unwrap();
    assert!(credits > 10, "{credits} rows: hardly a test");
}

#[test]
fn the_guide_shows_the_tables_that_the_worker_makes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let guide = std::fs::read_to_string(root.join("docs/src/guides/database.md")).unwrap();
    let schema = [include_str!("../src/schema.sql"), include_str!("../src/credit.sql")].concat();
    assert!(guide.contains(&schema), "{schema}");
}
