//! A log queue: no record is lost, stored in two batches, or acknowledged by a consumer that no longer has the batch.

use crate::load::{Game, Round, ask, insist, think};
use gw_testkit::redis::Value;
use gw_testkit::{Caller, DEADLINE, Random, await_until};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Short, so that batches of lost replies, and of consumers that give up, come back during the test.
const LEASE_MS: u64 = 1_500;

const PUSHERS: usize = 2;
const CONSUMERS: usize = 2;

/// A queue, and what consumers have got out of it.
pub struct Queue {
    key: String,
    pushed: AtomicUsize,
    batches: Mutex<BTreeMap<String, Batch>>,
}

/// What is known of a batch.
#[derive(Default)]
struct Batch {
    records: Vec<String>,
    /// The numbers of the deliveries that consumers have received.
    deliveries: BTreeSet<u64>,
    /// The delivery by which it was acknowledged.
    acknowledged: Option<u64>,
}

type Popped = Option<(String, Vec<String>, u64)>;

impl Queue {
    pub fn new(tag: &str) -> Self {
        Self { key: format!("{{{tag}}}:queue"), pushed: AtomicUsize::new(0), batches: Mutex::default() }
    }

    fn push(&self, caller: &mut Caller, first: usize, count: usize) {
        let (key, id) = (&self.key, format!("push:{first}"));
        let records: Vec<String> = (first..first + count).map(|number| number.to_string()).collect();
        insist(caller, key, &format!("GW.LOGPUSH {key} ID {id} RECORDS {}", records.join(" ")));
    }

    /// Leases a batch, and keeps what was delivered. A batch has the same records each time, and a new number.
    fn pop(&self, caller: &mut Caller, block: &str) -> Option<(String, u64)> {
        let words = format!("GW.LOGPOP {} COUNT 5 LEASE {LEASE_MS} MAXDELIVERIES 1000000{block}", self.key);
        // If the reply is lost, the batch comes back; this takes another one.
        let popped: Popped = insist(caller, &self.key, &words).read(&words);
        let (id, records, delivery) = popped?;
        let mut batches = self.batches.lock().unwrap();
        let batch = batches.entry(id.clone()).or_default();
        assert!(batch.deliveries.insert(delivery), "{id} was delivered twice as number {delivery}");
        if batch.deliveries.len() == 1 {
            batch.records = records;
        } else {
            assert_eq!(batch.records, records, "{id} has other records");
        }
        if let Some(acknowledged) = batch.acknowledged {
            // The consumer's reply can have been under way when the batch was acknowledged.
            assert!(delivery < acknowledged, "{id} was acknowledged, and is delivered again as number {delivery}");
        }
        Some((id, delivery))
    }

    fn acknowledge(&self, caller: &mut Caller, id: &str, delivery: u64) {
        let words = format!("GW.LOGACK {} {id} DELIVERY {delivery}", self.key);
        // 0 if another consumer has it, or if an attempt whose reply was lost has done it. The end shows.
        let gone: i64 = ask(caller, &self.key, &words);
        let mut batches = self.batches.lock().unwrap();
        let batch = batches.get_mut(id).unwrap();
        let latest = batch.deliveries.last().copied().unwrap();
        if gone == 1 {
            assert!(batch.acknowledged.is_none(), "{id} was acknowledged twice");
            assert_eq!(latest, delivery, "{id} was acknowledged by a consumer that no longer had it");
            batch.acknowledged = Some(delivery);
        }
    }
}

impl Game for Queue {
    fn players(&self) -> usize {
        PUSHERS + CONSUMERS
    }

    fn play(&self, player: usize, caller: &mut Caller, random: &mut Random, round: &Round) {
        while !round.is_over() {
            if player < PUSHERS {
                let count = 1 + random.below(3);
                let first = self.pushed.fetch_add(count, Ordering::Relaxed);
                self.push(caller, first, count);
            } else if let Some((id, delivery)) = self.pop(caller, " BLOCK 200") {
                match random.below(10) {
                    // A consumer that dies, and one that is too slow.
                    0 => {}
                    1 => {
                        thread::sleep(Duration::from_millis(LEASE_MS + 100));
                        self.acknowledge(caller, &id, delivery);
                    }
                    2 => {
                        let words = format!("GW.LOGNACK {} {id} DELIVERY {delivery}", self.key);
                        insist(caller, &self.key, &words);
                    }
                    _ => self.acknowledge(caller, &id, delivery),
                }
            }
            think();
        }
    }

    fn check(&self, caller: &mut Caller) {
        await_until("all batches to come back and be acknowledged", DEADLINE, || {
            while let Some((id, delivery)) = self.pop(caller, "") {
                self.acknowledge(caller, &id, delivery);
            }
            let stats: Vec<Value> = ask(caller, &self.key, &format!("GW.LOGSTATS {}", self.key));
            number(&stats, "length") + number(&stats, "leased") == 0
        })
        .unwrap();
        let stats: Vec<Value> = ask(caller, &self.key, &format!("GW.LOGSTATS {}", self.key));
        let pushed = self.pushed.load(Ordering::Relaxed);
        for (field, expected) in [("pushed", pushed), ("acked", pushed), ("dropped", 0), ("dead", 0)] {
            assert_eq!(number(&stats, field), expected as i64, "{field} of {}", self.key);
        }
        // Batches that somebody received; a batch whose every reply was lost came back, and was received in the end.
        let batches = self.batches.lock().unwrap();
        let mut seen: Vec<usize> =
            batches.values().flat_map(|batch| &batch.records).map(|r| r.parse().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..pushed).collect::<Vec<_>>(), "records of {}, each in one batch", self.key);
        assert!(pushed > 0);
    }
}

/// A field of a reply of names and values.
fn number(fields: &[Value], name: &str) -> i64 {
    let at =
        fields.iter().position(|field| *field == Value::BulkString(name.into())).unwrap_or_else(|| panic!("{name}"));
    let Value::Int(number) = fields[at + 1] else { panic!("{name}: {:?}", fields[at + 1]) };
    number
}
