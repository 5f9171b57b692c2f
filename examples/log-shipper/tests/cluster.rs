//! The shipper against a cluster, with the rights of its role: it drains several queues and follows each wherever its
//! slot goes.

use gw_testkit::redis::{Connection, cmd};
use gw_testkit::{
    Caller, Cluster, DEADLINE, Discovery, Outcome, Random, Server, await_until, call, live, project_root, seed, slot_of,
};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const KEYS: [&str; 4] = ["log:{0}", "log:{1}", "log:{2}", "log:{3}"];

/// A running shipper, and the file that it prints to. Dropping it is `kill -9`.
struct Shipper(Child, PathBuf);

impl Shipper {
    fn start(port: u16, store: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw-log-shipper"));
        command.args(KEYS).args(["--redis", &format!("redis://shipper:CHANGE-ME@127.0.0.1:{port}"), "--store"]);
        command.arg(store).args(["--count", "50"]);
        let printed = store.with_extension("log");
        // A pipe would be full some day.
        let file = fs::File::create(&printed).unwrap();
        Self(command.stdout(file).stderr(Stdio::null()).spawn().unwrap(), printed)
    }

    /// Ends it as a service manager would: how it ended, and all that it printed.
    fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.0.wait().unwrap();
        (status, fs::read_to_string(&self.1).unwrap())
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The line of a role in redis.conf.
fn role(name: &str) -> String {
    let text = fs::read_to_string(project_root().join("redis.conf")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix('#').filter(|line| line.starts_with(name)));
    line.unwrap().to_owned()
}

/// The records of all objects, in the order of the objects' names.
fn records(store: &Path) -> Vec<(String, u64)> {
    let mut names: Vec<_> = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|extension| extension == "zst"));
    names.sort();
    let lines = |name| String::from_utf8(zstd::decode_all(fs::File::open(name).unwrap()).unwrap()).unwrap();
    names.iter().flat_map(|name| lines(name).lines().map(parse).collect::<Vec<_>>()).collect()
}

/// A queue and a number.
fn parse(record: &str) -> (String, u64) {
    let (key, number): (String, u64) = serde_json::from_str(record).unwrap();
    (key, number)
}

/// Pushes numbered records, each once, until `stop`. Returns how many.
fn produce(mut caller: Caller, key: &str, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut push = cmd("GW.LOGPUSH");
        push.arg(key).arg("ID").arg(format!("id:{number}")).arg("RECORDS").arg(format!("[\"{key}\",{number}]"));
        while !matches!(caller.call(key, &push).unwrap(), Outcome::Replied(_)) {}
        number += 1;
    }
    number
}

fn is_empty(client: &mut Connection, key: &str) -> bool {
    let figures: HashMap<String, u64> = call!(*client, "GW.LOGSTATS", key);
    // A key that does not exist has none.
    figures.get("length").zip(figures.get("leased")).is_none_or(|(length, leased)| length + leased == 0)
}

fn await_all_empty(cluster: &Cluster) {
    for key in KEYS {
        let mut client = cluster.primary_of(key).unwrap().connect().unwrap();
        await_until("the queue to be empty", DEADLINE, || is_empty(&mut client, key)).unwrap();
    }
}

#[test]
fn queues_are_followed_to_other_nodes() {
    let rounds = live(2, 20);
    let mut random = Random(seed(0x5417_9e12));
    let mut cluster = Cluster::start(&Server::options().config(role("user shipper ")), 3, 1).unwrap();
    let (folder, ports) = (cluster.nodes()[0].dir().to_owned(), cluster.ports());
    let store = folder.join("shipped");
    // The node that the shipper is told of is a replica.
    let shipper = Shipper::start(ports[3], &store);
    let stop = AtomicBool::new(false);
    let produced: Vec<u64> = thread::scope(|scope| {
        let (stop, ports) = (&stop, &ports);
        let producer = |key| produce(Caller::new(Discovery::Cluster(ports.clone())), key, stop);
        let producers: Vec<_> = KEYS.map(|key| scope.spawn(move || producer(key))).into();
        for _ in 0..rounds {
            for key in KEYS {
                let from = cluster.primary_of(key).unwrap();
                let others: Vec<_> =
                    cluster.primaries().into_iter().filter(|node| node.port() != from.port()).collect();
                let slot = slot_of(&mut from.connect().unwrap(), key).unwrap();
                cluster.move_slot(slot, from, others[random.below(others.len())]).unwrap();
            }
            cluster.fail_over(cluster.primary_of(KEYS[random.below(KEYS.len())]).unwrap()).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    });
    await_all_empty(&cluster);

    // A primary dies while the shipper waits for records of its queue.
    let dead = cluster.primary_of(KEYS[0]).unwrap().port();
    {
        let primary = cluster.node(dead).unwrap();
        let replica = cluster.replicas_of(primary).unwrap()[0];
        gw_testkit::await_in_sync(&mut primary.connect().unwrap(), &mut replica.connect().unwrap());
    }
    cluster.lose_primary(dead).unwrap();
    let living: Vec<u16> = ports.iter().copied().filter(|port| *port != dead).collect();
    let mut caller = Caller::new(Discovery::Cluster(living));
    let mut last = cmd("GW.LOGPUSH");
    last.arg(KEYS[0]).arg(format!("[\"{}\",{}]", KEYS[0], produced[0]));
    while !matches!(caller.call(KEYS[0], &last).unwrap(), Outcome::Replied(_)) {}
    await_all_empty(&cluster);
    let (status, printed) = shipper.stop();
    assert!(status.success(), "{printed}");

    let mut shipped: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, number) in records(&store) {
        shipped.entry(key).or_default().push(number);
    }
    for (key, produced) in KEYS.iter().zip(produced) {
        let produced = produced + u64::from(*key == KEYS[0]);
        assert!(produced > 5, "{produced} records: hardly a test");
        let mut shipped = shipped.remove(*key).unwrap();
        shipped.sort_unstable();
        assert_eq!(shipped, (0..produced).collect::<Vec<_>>(), "{key}");
    }
}

/// A supervisor is to notice that one of the queues is not shipped.
#[test]
fn a_mistake_in_one_queue_ends_all() {
    let server = Server::options().config(role("user shipper ")).start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "SET", KEYS[2], "no queue" => ());
    call!(client, "GW.LOGPUSH", KEYS[0], "[\"log:{0}\",0]" => Vec<u64>);
    let store = server.dir().join("shipped");
    let mut shipper = Shipper::start(server.port(), &store);
    assert_eq!(shipper.0.wait().unwrap().code(), Some(1));
    // The others go on: without a cluster there are as many queues as one likes, too.
    call!(client, "DEL", KEYS[2] => u64);
    let shipper = Shipper::start(server.port(), &store);
    call!(client, "GW.LOGPUSH", KEYS[3], "[\"log:{3}\",0]" => Vec<u64>);
    for key in KEYS {
        await_until("the queue to be empty", DEADLINE, || is_empty(&mut client, key)).unwrap();
    }
    let (status, printed) = shipper.stop();
    assert!(status.success(), "{printed}");
    let shipped = records(&store);
    assert_eq!(shipped.len(), 2, "{shipped:?}");
}
