//! The change feed of a cluster: who follows the feeds of all primaries has what the ledgers have, while slots move and
//! primaries fail over.

use gw_testkit::redis::{Connection, FromRedisValue, RedisResult, Value, cmd};
use gw_testkit::{
    Caller, Cluster, DEADLINE, Discovery, Outcome, Random, Server, await_until, call, live, seed, slot_of,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

struct Listed {
    key: String,
    version: i64,
    since: i64,
    rows: Vec<(String, String, String)>,
}

fn changes(client: &mut Connection) -> RedisResult<(bool, Vec<Listed>)> {
    let (more, ledgers): (i64, Vec<Value>) = cmd("GW.COSTCHANGES").arg("COUNT").arg(200).query(client)?;
    let listed = ledgers.into_iter().map(|ledger| {
        let (key, version, since, rows, _): (_, _, _, _, Vec<Value>) = FromRedisValue::from_redis_value(ledger)?;
        Ok(Listed { key, version, since, rows })
    });
    Ok((more == 1, listed.collect::<RedisResult<_>>()?))
}

/// Reads until nothing is listed any more, and acknowledges. Returns how many ledgers were acknowledged.
fn follow(client: &mut Connection) -> usize {
    let mut done = 0;
    await_until("nothing to be listed", DEADLINE, || {
        let (more, listed) = changes(client).unwrap();
        for ledger in &listed {
            assert_eq!(call!(*client, "GW.COSTACK", &ledger.key, ledger.version => Vec<i64>), [1], "{}", ledger.key);
        }
        done += listed.len();
        !more && listed.is_empty()
    })
    .unwrap();
    done
}

/// A client could not acknowledge at a node what another one serves: it would be listed again and again.
#[test]
fn a_ledger_is_listed_by_the_node_that_serves_it() {
    const LEDGERS: usize = 450;
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let from = cluster.primary_of("{a}").unwrap();
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    let (mut source, mut target) = (from.connect().unwrap(), to.connect().unwrap());
    let slot = slot_of(&mut source, "{a}").unwrap();
    follow(&mut target);
    for number in 0..LEDGERS {
        call!(source, "GW.ADDCOST", format!("{{a}}:{number}"), 1 => String);
    }
    assert_eq!(follow(&mut source), LEDGERS);
    cluster.begin_move(slot, from, to).unwrap();
    // One ledger goes first; the source still serves the others.
    let migrate = |client: &mut Connection, key: &str| {
        cmd("MIGRATE").arg("127.0.0.1").arg(to.port()).arg(key).arg(0).arg(60_000).exec(client).unwrap();
    };
    migrate(&mut source, "{a}:0");
    assert_eq!(follow(&mut target), 0);
    for number in 1..LEDGERS {
        call!(source, "GW.ADDCOST", format!("{{a}}:{number}"), 1 => String);
    }
    assert_eq!(follow(&mut source), LEDGERS - 1);
    cluster.move_keys(slot, from, to).unwrap();
    // A charge while the slot is being imported.
    call!(target, "ASKING" => ());
    call!(target, "GW.ADDCOST", "{a}:1", 1 => String);
    assert_eq!((follow(&mut source), follow(&mut target)), (0, 0));
    cluster.end_move(slot, to).unwrap();
    // It came by RESTORE, so all of it is listed anew.
    assert_eq!((follow(&mut source), follow(&mut target)), (0, LEDGERS));
    call!(target, "GW.ADDCOST", "{a}:7", 1 => String);
    assert_eq!(follow(&mut target), 1);
    // And back again, with a ledger that is deleted on the way.
    cluster.begin_move(slot, to, from).unwrap();
    cluster.move_keys(slot, to, from).unwrap();
    assert_eq!((follow(&mut source), follow(&mut target)), (0, 0));
    call!(source, "ASKING" => ());
    call!(source, "DEL", "{a}:7" => u64);
    cluster.end_move(slot, from).unwrap();
    assert_eq!((follow(&mut source), follow(&mut target)), (LEDGERS - 1, 0));
}

/// By period and first day: version and amount.
type Rows = BTreeMap<(String, String), (i64, i64)>;

/// A worker as docs/src/guides/database.md describes it, for a cluster.
#[derive(Default)]
struct Reader {
    database: BTreeMap<String, (i64, Rows)>,
    primaries: Vec<(u64, u64, u16)>,
    connections: BTreeMap<u16, Connection>,
}

impl Reader {
    /// Whether there was nothing to do. Fails if a node is no longer the primary that it was.
    fn round(&mut self, cluster: &Cluster) -> RedisResult<bool> {
        let mut client = cluster.nodes()[0].connect().unwrap();
        let mut primaries: Vec<(u64, u64, u16)> = Vec::new();
        for row in cmd("CLUSTER").arg("SLOTS").query::<Vec<Vec<Value>>>(&mut client)? {
            let node: Vec<Value> = FromRedisValue::from_redis_value(row[2].clone())?;
            let number = |value: &Value| u64::from_redis_value(value.clone());
            primaries.push((number(&row[0])?, number(&row[1])?, number(&node[1])? as u16));
        }
        primaries.sort_unstable();
        let mut idle = primaries == self.primaries;
        let ports: Vec<u16> = primaries.iter().map(|(.., port)| *port).collect();
        for &port in &ports {
            let node = cluster.node(port).unwrap();
            self.connections.entry(port).or_insert_with(|| node.connect().unwrap());
        }
        if !idle {
            let stored: Vec<_> = self.database.iter().map(|(key, (version, _))| (key.clone(), *version)).collect();
            for (key, version) in stored {
                for &port in &ports {
                    self.tell("GW.COSTSYNC", port, &key, version)?;
                }
            }
            self.primaries = primaries;
        }
        for port in ports {
            let (more, listed) = changes(self.connections.get_mut(&port).unwrap())?;
            idle &= !more && listed.is_empty();
            for ledger in listed {
                self.store(&ledger);
                self.tell("GW.COSTACK", port, &ledger.key, ledger.version)?;
            }
        }
        Ok(idle)
    }

    /// Skips keys that this node does not serve.
    fn tell(&mut self, command: &str, port: u16, key: &str, version: i64) -> RedisResult<()> {
        let connection = self.connections.get_mut(&port).unwrap();
        match cmd(command).arg(key).arg(version).exec(connection) {
            Err(error) if ["MOVED", "ASK", "TRYAGAIN"].map(Some).contains(&error.code()) => Ok(()),
            done => done,
        }
    }

    fn store(&mut self, ledger: &Listed) {
        let (version, rows) = self.database.entry(ledger.key.clone()).or_default();
        assert!(*version <= ledger.version, "{}: the clocks are the same", ledger.key);
        *version = ledger.version;
        rows.retain(|_, row| row.0 >= ledger.since);
        for (period, day, amount) in &ledger.rows {
            rows.insert((period.clone(), day.clone()), (ledger.version, amount.parse().unwrap()));
        }
    }
}

const FIRST_DAY_MS: u64 = 1_704_067_200_000;
const DAY_MS: u64 = 86_400_000;

#[test]
fn a_reader_of_all_primaries_has_what_clients_added() {
    const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let time = Duration::from_secs(live(4, 60));
    let cluster = Cluster::start(&Server::options(), 3, 1).unwrap();
    let (stop, seed) = (AtomicBool::new(false), seed(0x00c0_ffee));
    let (expected, reader) = thread::scope(|scope| {
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (ports, stop) = (cluster.ports(), &stop);
                scope.spawn(move || write(Caller::new(Discovery::Cluster(ports)), writer, seed + writer, &TAGS, stop))
            })
            .collect();
        let reading = scope.spawn(|| {
            let (mut reader, mut last_rounds) = (Reader::default(), 0);
            while last_rounds < 3 {
                let ended = stop.load(Ordering::Relaxed);
                match reader.round(&cluster) {
                    Ok(idle) => last_rounds = if ended && idle { last_rounds + 1 } else { 0 },
                    // As after a lost connection: everything from the start.
                    Err(_) => (reader.primaries, reader.connections) = Default::default(),
                }
            }
            reader
        });
        let (start, mut random) = (Instant::now(), Random(seed));
        let mut moves = 0;
        while start.elapsed() < time || moves < 8 {
            let tag = format!("{{{}}}", TAGS[random.below(TAGS.len())]);
            let from = cluster.primary_of(&tag).unwrap();
            if moves % 4 == 3 {
                cluster.fail_over(from).unwrap();
            } else {
                let others: Vec<_> =
                    cluster.primaries().into_iter().filter(|node| node.port() != from.port()).collect();
                let slot = slot_of(&mut from.connect().unwrap(), &tag).unwrap();
                cluster.move_slot(slot, from, others[random.below(others.len())]).unwrap();
            }
            moves += 1;
        }
        stop.store(true, Ordering::Relaxed);
        let mut expected = BTreeMap::new();
        for writer in writers {
            for (row, amount) in writer.join().unwrap() {
                *expected.entry(row).or_default() += amount;
            }
        }
        (expected, reading.join().unwrap())
    });
    let rows = reader.database.iter().flat_map(|(key, (_, rows))| {
        let rows = rows.iter().filter(|((period, _), _)| period != "MONTH");
        rows.map(move |((_, day), (_, amount))| ((key.clone(), day.clone()), *amount))
    });
    let found: BTreeMap<(String, String), i64> = rows.collect();
    assert!(expected.len() > 30, "{} rows: hardly a test", expected.len());
    assert_eq!(found, expected);
}

/// Charges ledgers, each charge once, until `stop`. Returns the sums by key and day, and those of all days under the
/// first day of the total.
fn write(
    mut caller: Caller,
    writer: u64,
    seed: u64,
    tags: &[&str],
    stop: &AtomicBool,
) -> BTreeMap<(String, String), i64> {
    let (mut random, mut sums, mut number) = (Random(seed), BTreeMap::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let key = format!("{{{}}}:{}", tags[random.below(tags.len())], random.below(5));
        let (day, amount) = (random.below(9), 1 + random.below(99) as i64);
        let mut charge = cmd("GW.ADDCOST");
        charge.arg(&key).arg(amount).arg("AT").arg(FIRST_DAY_MS + day as u64 * DAY_MS);
        charge.arg("ID").arg(format!("{writer}:{number}"));
        loop {
            match caller.call(&key, &charge).unwrap() {
                Outcome::Replied(_) => break,
                Outcome::Lost => {}
                Outcome::Refused(error) => panic!("{key}: {error}"),
            }
        }
        *sums.entry((key.clone(), format!("2024-01-{:02}", day + 1))).or_default() += amount;
        *sums.entry((key, "0001-01-01".into())).or_default() += amount;
    }
    sums
}
