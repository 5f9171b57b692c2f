//! One database follows all primaries of a cluster, with the rights of its role, while slots move, primaries fail over
//! and lose changes, and companions are killed. Afterwards it has what the calls of the clients have added.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gw_testkit::redis::cmd;
use gw_testkit::{
    Caller, Cluster, DEADLINE, Discovery, Layout, Outcome, Random, Server, await_until, call, live, project_root, seed,
    slot_of,
};

use crate::companion::Companion;
use crate::database::Database;

const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// 2024-01-01 00:00 UTC.
const FIRST_DAY_MS: u64 = 1_704_067_200_000;
const DAY_MS: u64 = 86_400_000;

/// By account and first day; the total is at `0001-01-01`.
type Sums = BTreeMap<(String, String), i64>;

/// The line of a role in redis.conf.
fn role(name: &str) -> String {
    let text = fs::read_to_string(project_root().join("redis.conf")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix('#').filter(|line| line.starts_with(name)));
    line.unwrap().to_owned()
}

/// A companion that knows the address of one node.
fn companion(cluster: &Cluster, port: u16, database: &Database) -> Companion {
    let server = format!("redis://accountant:CHANGE-ME@127.0.0.1:{port}");
    Companion::new(cluster.nodes()[0].dir(), &server, &database.address())
}

fn database_sums(database: &Database) -> Sums {
    let rows = database
        .rows()
        .into_iter()
        .filter(|((_, table, period, _), _)| table == "spend" && (period == "TOTAL" || period == "DAY"));
    rows.map(|((account, _, _, first_day), amount)| ((account, first_day), amount.parse().unwrap())).collect()
}

/// Charges ledgers, each charge once, until `stop`.
fn charge(mut caller: Caller, writer: u64, seed: u64, stop: &AtomicBool) -> Sums {
    let (mut random, mut sums, mut number) = (Random(seed), Sums::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{{{}}}:{}", TAGS[random.below(TAGS.len())], random.below(10));
        let (day, amount) = (random.below(9), 1 + random.below(99) as i64);
        let mut charge = cmd("GW.ADDCOST");
        charge.arg(&key).arg(amount).arg("AT").arg(FIRST_DAY_MS + day as u64 * DAY_MS);
        charge.arg("ID").arg(format!("{writer}:{number}"));
        while !matches!(caller.call(&key, &charge).unwrap(), Outcome::Replied(_)) {}
        *sums.entry((key.clone(), format!("2024-01-{:02}", day + 1))).or_default() += amount;
        *sums.entry((key, "0001-01-01".into())).or_default() += amount;
    }
    sums
}

/// Moves the slot of one of the ledgers to another primary.
fn move_a_slot(cluster: &Cluster, random: &mut Random) {
    let tag = format!("{{{}}}", TAGS[random.below(TAGS.len())]);
    let from = cluster.primary_of(&tag).unwrap();
    let others: Vec<_> = cluster.primaries().into_iter().filter(|node| node.port() != from.port()).collect();
    let slot = slot_of(&mut from.connect().unwrap(), &tag).unwrap();
    cluster.move_slot(slot, from, others[random.below(others.len())]).unwrap();
}

#[test]
fn one_database_follows_all_primaries() {
    // Each database has shown what it can do by itself; that of the larger deployments is here, if there is one.
    let rounds = live(3, 30);
    let seed = seed(0xda7a_ba5e);
    let options = Server::options().config(role("user accountant "));
    let mut cluster = Layout::new(&options, 3, 1).behind_proxies().start().unwrap();
    let (stop, confirmed_by) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(1)));
    let database = Database::postgres().unwrap_or_else(|| Database::sqlite(cluster.nodes()[0].dir()));
    // The companion knows one address, and that of another node after the first is gone.
    let ports = cluster.ports();
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let caller = Caller::new(Discovery::Cluster(ports.clone())).confirming(Arc::clone(&confirmed_by));
            let stop = Arc::clone(&stop);
            thread::spawn(move || charge(caller, writer, seed + writer, &stop))
        })
        .collect();
    let mut random = Random(seed);
    for _ in 0..rounds {
        let known = companion(&cluster, ports[0], &database);
        let (first, second) = (known.run(), known.run());
        move_a_slot(&cluster, &mut random);
        move_a_slot(&cluster, &mut random);
        let primaries = cluster.primaries();
        cluster.fail_over(primaries[random.below(primaries.len())]).unwrap();
        // Wherever it is by then.
        thread::sleep(Duration::from_millis(random.below(100) as u64));
        first.kill();
        thread::sleep(Duration::from_millis(random.below(100) as u64));
        second.kill();
    }

    // A primary loses what it acknowledged, and what the database has: its replica does not hear of it any more.
    let mut running = companion(&cluster, ports[0], &database).run();
    let lost = cluster.primary_of("{a}").unwrap().port();
    cluster.cut_replicas_of(lost).unwrap();
    let mut client = cluster.node(lost).unwrap().connect().unwrap();
    call!(client, "GW.ADDCOST", "{a}:lost", 7 => String);
    call!(client, "GW.ADDCOST", "{a}:0", 7 => String);
    let is_stored = || database_sums(&database).contains_key(&("{a}:lost".to_owned(), "0001-01-01".to_owned()));
    await_until("the database to have what will be lost", DEADLINE, is_stored).unwrap();
    cluster.lose_primary(lost).unwrap();
    confirmed_by.store(0, Ordering::Relaxed);
    let mut client = cluster.nodes().iter().find(|node| node.port() != lost).unwrap().connect().unwrap();
    let agreed = || call!(client, "CLUSTER", "INFO" => String).contains("cluster_state:ok");
    await_until("the cluster to be whole again", DEADLINE, agreed).unwrap();
    // However slow the machine is, there is something to compare. A few of the database's rows are of lost changes.
    await_until("enough rows", DEADLINE, || database_sums(&database).len() > 210).unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut expected = Sums::new();
    for writer in writers {
        for (row, amount) in writer.join().unwrap() {
            *expected.entry(row).or_default() += amount;
        }
    }
    // The companion goes on by itself, without the node that it was told of if that is the one that died.
    let mut found = Sums::new();
    let in_step = await_until("the database to have what the ledgers have", DEADLINE, || {
        found = database_sums(&database);
        // Ledgers that are gone stay in the database.
        found.retain(|(account, _), _| account != "{a}:lost");
        found == expected
    });
    assert!(in_step.is_ok(), "{:#?}", differences(&found, &expected));
    assert!(expected.len() > 200, "{} rows: hardly a test", expected.len());
    assert!(!running.has_ended(), "the companion has ended");
    running.kill();
    let alive = ports.iter().zip(cluster.nodes()).find(|(_, node)| node.port() != lost).unwrap().0;
    companion(&cluster, *alive, &database).catch_up();
}

fn differences(found: &Sums, expected: &Sums) -> Vec<String> {
    let rows = expected.keys().chain(found.keys()).filter(|row| found.get(*row) != expected.get(*row));
    rows.map(|row| format!("{row:?}: {:?}, not {:?}", found.get(row), expected.get(row))).collect()
}
