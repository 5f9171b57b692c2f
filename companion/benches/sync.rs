//! How many changed ledgers a second `gw sync` carries into PostgreSQL, and how far behind `gw run` is while ledgers change
//! 10,000 times a second. The rate for each second of the companion's own processor time says the same on a busy machine.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use gw_testkit::redis::{self, Connection};
use gw_testkit::{DEADLINE, Server, await_until};

#[path = "../tests/common/postgres.rs"]
mod postgres_server;
#[path = "common/usage.rs"]
mod usage;

use postgres_server::Postgres;
use usage::{TICKS, Usage};

const LEDGERS: usize = 40_000;

/// Changes a second while the lag is measured, to so many ledgers, for so long.
const CHANGES: usize = 10_000;
const CHANGING: usize = 2_000;
const SECONDS: usize = 10;

fn main() {
    let Some(postgres) = Postgres::start() else { return };
    throughput(&postgres);
    lag(&postgres);
}

fn configure(server: &Server, postgres: &Postgres) -> Command {
    let config = server.dir().join("gw.toml");
    let text = format!(
        "[server]\nurl = \"redis://127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [sync]\nto = \"{}\"\npause = \"100ms\"\n",
        server.port(),
        postgres.url()
    );
    fs::write(&config, text).unwrap();
    let mut companion = Command::new(env!("CARGO_BIN_EXE_gw"));
    companion.env("GW_CONFIG", &config).env("RUST_LOG", "warn").stderr(Stdio::inherit());
    companion
}

fn charge(client: &mut Connection, accounts: impl Iterator<Item = usize>) {
    let mut pipe = redis::pipe();
    for account in accounts {
        pipe.cmd("GW.ADDCOST").arg(format!("account:{account}")).arg("0.000123").ignore();
    }
    pipe.exec(client).unwrap();
}

/// The processor time of a process and its children, those that have ended included, in seconds.
fn family_cpu_s(process: u32) -> f64 {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name: the parent is the 2nd field; own time is in the 12th and 13th, that of ended children behind them.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|field| field.parse().unwrap_or(0));
        let fields: Vec<u64> = fields.collect();
        match fields.get(1) {
            _ if id == process => ticks += fields.iter().skip(11).take(4).sum::<u64>(),
            Some(parent) if *parent == u64::from(process) => ticks += fields.iter().skip(11).take(2).sum::<u64>(),
            _ => {}
        }
    }
    ticks as f64 / TICKS
}

fn throughput(postgres: &Postgres) {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    let sync = || configure(&server, postgres).arg("sync").spawn().unwrap();
    assert!(sync().wait().unwrap().success());
    for round in ["new", "known"] {
        for first in (0..LEDGERS).step_by(1_000) {
            charge(&mut client, first..first + 1_000);
        }
        let before = family_cpu_s(postgres.process().id());
        let (start, mut companion, mut used) = (Instant::now(), sync(), Usage::default());
        // Until it is waited for, what it used can still be read.
        while companion.try_wait().unwrap().is_none() {
            let now = Usage::of(&companion);
            used = Usage { peak_mb: used.peak_mb.max(now.peak_mb), ..now };
            thread::sleep(Duration::from_millis(10));
        }
        let seconds = start.elapsed().as_secs_f64();
        let database_cpu_s = family_cpu_s(postgres.process().id()) - before;
        println!(
            "{round} ledgers: {:.0} a second (wanted: 5000), {:.0} a second of the companion's processor time, {:.0} of \
             PostgreSQL's; {:.0} MB at most",
            LEDGERS as f64 / seconds,
            LEDGERS as f64 / used.cpu_s,
            LEDGERS as f64 / database_cpu_s,
            used.peak_mb
        );
        let rows: i64 = postgres.connect().query_one("SELECT count(*) FROM gw_spend", &[]).unwrap().get(0);
        assert_eq!(usize::try_from(rows).unwrap(), LEDGERS * 4, "a total, a month, a week and a day of each");
    }
    postgres.connect().batch_execute("TRUNCATE gw_account, gw_spend, gw_credit").unwrap();
}

fn lag(postgres: &Postgres) {
    let server = Server::start().unwrap();
    let (mut client, mut database) = (server.connect().unwrap(), postgres.connect());
    charge(&mut client, 0..CHANGING);
    let mut companion = configure(&server, postgres).arg("run").spawn().unwrap();
    let mut stored = |account: &str| -> f64 {
        let text = "SELECT amount::float8 FROM gw_spend WHERE account = $1 AND period = 'TOTAL'";
        database.query_opt(text, &[&account]).unwrap().map_or(0.0, |row| row.get(0))
    };
    await_until("the first changes to be stored", DEADLINE, || stored("account:0") > 0.0).unwrap();
    let changes = thread::spawn({
        let mut client = server.connect().unwrap();
        move || {
            let (start, steps) = (Instant::now(), SECONDS * 100);
            for step in 0..steps {
                let first = step * CHANGES / 100;
                charge(&mut client, (first..first + CHANGES / 100).map(|number| number % CHANGING));
                let next = Duration::from_millis(10) * (step as u32 + 1);
                thread::sleep(next.saturating_sub(start.elapsed()));
            }
            start.elapsed().as_secs_f64()
        }
    });
    let (mut lags, mut number) = (Vec::new(), 0);
    while !changes.is_finished() {
        number += 1;
        let (account, start) = (format!("probe:{number}"), Instant::now());
        redis::cmd("GW.ADDCOST").arg(&account).arg(1).exec(&mut client).unwrap();
        await_until("a change to be stored", DEADLINE, || stored(&account) > 0.0).unwrap();
        lags.push(start.elapsed().as_secs_f64());
    }
    let seconds = changes.join().unwrap();
    lags.sort_by(f64::total_cmp);
    let used = Usage::of(&companion);
    companion.kill().unwrap();
    companion.wait().unwrap();
    println!(
        "lag at {:.0} changes a second to {CHANGING} ledgers: {:.2} s in the median of {}, {:.2} s at most (wanted: 2); \
         {:.0} % of a core; {:.0} MB at most",
        (SECONDS * CHANGES) as f64 / seconds,
        lags[lags.len() / 2],
        lags.len(),
        lags.last().unwrap(),
        used.cpu_s * 100.0 / seconds,
        used.peak_mb
    );
}
