//! The companion against a cluster, with the rights of its role: it drains several queues and follows each wherever its
//! slot goes, while another companion does the same.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gw_testkit::redis::cmd;
use gw_testkit::{
    Caller, Cluster, DEADLINE, Discovery, Outcome, Random, Server, await_until, live, project_root, seed, slot_of,
};

use crate::support::{Companion, config, is_empty, objects};

const KEYS: [&str; 4] = ["log:{0}", "log:{1}", "log:{2}", "log:{3}"];

/// The line of a role in redis.conf.
fn role(name: &str) -> String {
    let text = fs::read_to_string(project_root().join("redis.conf")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix('#').filter(|line| line.starts_with(name)));
    line.unwrap().to_owned()
}

/// A queue and a number.
fn parse(record: &str) -> (String, u64) {
    serde_json::from_str(record).unwrap()
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
    // With room for all that is produced, however slow the companions are.
    let options = Server::options().config("gw.log-max-records 10000000").config("gw.log-max-bytes 1073741824");
    let mut cluster = Cluster::start(&options.config(role("user shipper ")), 3, 1).unwrap();
    let (folder, ports) = (cluster.nodes()[0].dir().to_owned(), cluster.ports());
    let store = folder.join("shipped");
    // The node that they are told of is a replica.
    let config = config(ports[3], &KEYS, store.to_str().unwrap(), "records = 50");
    let config = config.replace("redis://", "redis://shipper:CHANGE-ME@");
    let companions = ["one", "two"].map(|name| Companion::start(&folder, name, &config));
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

    // A primary dies while the companions wait for records of its queue.
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
    for companion in companions {
        let (status, log) = companion.stop();
        assert!(status.success(), "{log}");
    }

    let mut shipped: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (key, number) in objects(&store).into_values().flatten().map(|record| parse(&record)) {
        shipped.entry(key).or_default().push(number);
    }
    for (key, produced) in KEYS.iter().zip(produced) {
        let produced = produced + u64::from(*key == KEYS[0]);
        assert!(produced > 20, "{produced} records: hardly a test");
        let mut shipped = shipped.remove(*key).unwrap();
        shipped.sort_unstable();
        assert_eq!(shipped, (0..produced).collect::<Vec<_>>(), "{key}");
    }
}
