//! A log queue whose consumers and whose server die under load: nothing acknowledged is lost, no batch ever changes.

use crate::support::{Random, live};
use gw_testkit::redis::{self, Connection, RedisResult};
use gw_testkit::{Server, call};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

const PRODUCERS: usize = 8;
const CONSUMERS: usize = 4;
const LEASE_MS: u64 = 300;

type Record = (usize, u64);

struct Delivery {
    id: String,
    records: Vec<Record>,
    deliveries: u64,
    /// When the acknowledgement was sent.
    asked: Instant,
    /// When the acknowledgement was confirmed.
    acked: Option<Instant>,
}

/// A connection that is made anew after each error, as soon as there is a server.
struct Client {
    client: redis::Client,
    connection: Option<Connection>,
}

impl Client {
    fn new(port: u16) -> Self {
        Self { client: redis::Client::open(("127.0.0.1", port)).unwrap(), connection: None }
    }

    /// `None` after an error: whether the server has run the command is then unknown.
    fn call<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Option<T> {
        let Some(mut connection) = self.connection.take().or_else(|| self.client.get_connection().ok()) else {
            std::thread::sleep(Duration::from_millis(10));
            return None;
        };
        let reply: RedisResult<T> = command.query(&mut connection);
        let reply = reply.ok()?;
        self.connection = Some(connection);
        Some(reply)
    }

    fn lease(&mut self, count: usize) -> Option<Delivery> {
        let asked = Instant::now();
        let mut pop = redis::cmd("GW.LOGPOP");
        pop.arg("q").arg("COUNT").arg(count).arg("LEASE").arg(LEASE_MS).arg("BLOCK").arg(50);
        let (id, records, deliveries): (String, Vec<String>, u64) =
            self.call::<Option<_>>(pop.arg("MAXDELIVERIES").arg(1_000)).flatten()?;
        let parse = |record: String| {
            let (producer, number) = record.split_once(' ').unwrap();
            (producer.parse().unwrap(), number.parse().unwrap())
        };
        Some(Delivery { id, records: records.into_iter().map(parse).collect(), deliveries, asked, acked: None })
    }

    fn ack(&mut self, delivery: &mut Delivery) {
        let acked: Option<u64> = self.call(redis::cmd("GW.LOGACK").arg("q").arg(&delivery.id));
        delivery.acked = acked.filter(|acked| *acked == 1).map(|_| Instant::now());
    }
}

/// The numbers of the records that were acknowledged.
fn produce(port: u16, producer: usize, deadline: Instant) -> Vec<u64> {
    let (mut client, mut random) = (Client::new(port), Random(producer as u64 + 1));
    let (mut numbers, mut stored) = (0_u64.., Vec::new());
    while Instant::now() < deadline {
        let batch: Vec<u64> = numbers.by_ref().take(1 + random.below(9)).collect();
        let records: Vec<String> = batch.iter().map(|number| format!("{producer} {number}")).collect();
        // A batch without an answer is not pushed again, so that no record is pushed twice.
        let push = client.call::<Vec<u64>>(redis::cmd("GW.LOGPUSH").arg("q").arg("RECORDS").arg(records));
        if push.is_some() {
            stored.extend(batch);
        }
    }
    stored
}

fn consume(port: u16, consumer: usize, deadline: Instant) -> Vec<Delivery> {
    let (mut client, mut random) = (Client::new(port), Random(consumer as u64 + 100));
    let mut seen = Vec::new();
    while Instant::now() < deadline {
        let Some(mut delivery) = client.lease(1 + random.below(200)) else { continue };
        match random.below(4) {
            // The consumer dies while it holds the batch.
            0 => client = Client::new(port),
            _ => client.ack(&mut delivery),
        }
        seen.push(delivery);
    }
    seen
}

#[test]
fn every_acknowledged_record_is_delivered_though_consumers_and_the_server_crash() {
    let seconds = live(6, 60);
    let mut server = Server::options().config("appendonly yes").config("appendfsync always").start().unwrap();
    let (port, start) = (server.port(), Instant::now());
    let deadline = start + Duration::from_secs(seconds);
    let (stored, mut seen) = std::thread::scope(|scope| {
        let producers: Vec<_> =
            (0..PRODUCERS).map(|producer| scope.spawn(move || produce(port, producer, deadline))).collect();
        let consumers: Vec<_> =
            (0..CONSUMERS).map(|consumer| scope.spawn(move || consume(port, consumer, deadline))).collect();
        for third in 1..=2 {
            let at = start + Duration::from_secs(seconds) * third / 3;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            server.crash_and_restart().unwrap();
        }
        let stored: Vec<Vec<u64>> = producers.into_iter().map(|producer| producer.join().unwrap()).collect();
        let seen: Vec<Delivery> = consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect();
        (stored, seen)
    });
    let mut client = Client::new(port);
    loop {
        match client.lease(10_000) {
            Some(mut delivery) => {
                client.ack(&mut delivery);
                seen.push(delivery);
            }
            None => {
                let stats: HashMap<String, u64> = call!(server.connect().unwrap(), "GW.LOGSTATS", "q");
                if stats["length"] + stats["leased"] == 0 {
                    assert_eq!(stats["dead"], 0);
                    break;
                }
            }
        }
    }

    let mut batches: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for delivery in &seen {
        batches.entry(&delivery.id).or_default().push(delivery);
    }
    let mut delivered = vec![Vec::new(); PRODUCERS];
    for deliveries in batches.values_mut() {
        deliveries.sort_by_key(|delivery| delivery.deliveries);
        let acked = deliveries.iter().filter_map(|delivery| delivery.acked).min();
        for (index, delivery) in deliveries.iter().enumerate() {
            assert_eq!(delivery.records, deliveries[0].records, "{}", delivery.id);
            assert!(index == 0 || delivery.deliveries > deliveries[index - 1].deliveries, "{}", delivery.id);
            assert!(
                acked.is_none_or(|acked| delivery.asked < acked),
                "{} was acknowledged, and came back",
                delivery.id
            );
        }
        for &(producer, number) in &deliveries[0].records {
            delivered[producer].push(number);
        }
    }
    for (delivered, stored) in delivered.iter().zip(&stored) {
        // In the order of the batches' ids, each producer's records are in the order in which it pushed them, and each
        // is in one batch only.
        assert!(delivered.is_sorted_by(|number, next| number < next));
        let missing = stored.iter().filter(|number| delivered.binary_search(number).is_err()).count();
        assert_eq!(missing, 0, "of {}", stored.len());
    }
    let again = seen.len() - batches.len();
    let count = |lists: &[Vec<u64>]| lists.iter().map(Vec::len).sum::<usize>();
    println!(
        "{seconds} s: {} records acknowledged, {} delivered in {} batches, {again} redeliveries, 2 servers killed",
        count(&stored),
        count(&delivered),
        batches.len()
    );
    assert!(count(&stored) > 0 && again > 0);
}
