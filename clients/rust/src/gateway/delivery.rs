use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use redis::Cmd;
use serde_json::json;

use super::disk::{Disk, line_of};
use super::ids::new_id;
use super::node::Call;
use super::settings::Kept as Settings;
use crate::commands::Request;

/// For so long what was sent may still be on its way to a server that has frozen.
const GRACE: Duration = Duration::from_secs(5);

/// A file with fewer lines is not written anew.
const LINES: usize = 10_000;

pub(super) type Words = Vec<Vec<u8>>;

/// A call that can be repeated, and what is sent instead if the server does not know what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) words: Words,
    /// Sent if the reply is UNKNOWN or NOHOLD: charges, each with an id of its own.
    pub(super) fallback: Vec<Words>,
    /// When it may have arrived for the first time; none if it certainly has not.
    pub(super) first_sent: Option<SystemTime>,
    /// What it is about may still be on its way to the server. Then UNKNOWN is no answer yet.
    pub(super) early: bool,
    /// The end of that: some time after the first answer. None before that answer.
    pub(super) again_until: Option<SystemTime>,
}

pub(super) fn words_of<T>(request: &Request<T>) -> Words {
    request.words().map(<[u8]>::to_vec).collect()
}

pub(super) fn passed(since: SystemTime) -> Duration {
    SystemTime::now().duration_since(since).unwrap_or_default()
}

impl Delivery {
    pub(super) fn new(words: Words) -> Self {
        Self { id: new_id(), words, fallback: Vec::new(), first_sent: None, early: false, again_until: None }
    }

    pub(super) fn call(&self) -> Call {
        let mut cmd = Cmd::new();
        for word in &self.words {
            cmd.arg(&word[..]);
        }
        // All that is kept names a key.
        Call { cmd, key: self.words.get(1).cloned(), repeatable: true, longest: None }
    }

    pub(super) fn name(&self) -> String {
        self.words.first().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    }

    pub(super) fn is_settlement(&self) -> bool {
        matches!(self.words.first().map(Vec::as_slice), Some(b"GW.SETTLE" | b"GW.COMMIT" | b"GW.CANCEL"))
    }

    pub(super) fn may_have_arrived(&mut self, at: SystemTime) {
        self.first_sent.get_or_insert(at);
    }

    /// The reply is UNKNOWN: whether that is no answer yet. A server that was frozen may read this before what was sent earlier on
    /// another connection, so the time counts from its first answer.
    pub(super) fn ask_again(&mut self) -> bool {
        let now = SystemTime::now();
        self.early && now < *self.again_until.get_or_insert(now + GRACE)
    }

    /// What is sent instead.
    pub(super) fn charges(&self) -> Vec<Delivery> {
        self.fallback.iter().cloned().map(Self::new).collect()
    }

    /// It may have arrived, and the server may have forgotten that: to send it again could charge it twice.
    pub(super) fn is_too_old(&self, settings: &Settings) -> bool {
        let within = if self.is_settlement() { settings.settle_within } else { settings.charge_within };
        self.first_sent.is_some_and(|at| passed(at) > within)
    }

    /// UNKNOWN certainly means that it was never settled. A busy account forgets what was settled before an hour has passed.
    pub(super) fn may_book(&self, settings: &Settings) -> bool {
        self.first_sent.is_none_or(|at| passed(at) <= settings.book_within)
    }
}

/// A bounded queue of deliveries, in memory and, if it is given a directory, on the disk.
pub(super) struct KeptQueue {
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order in which they are sent.
    queue: BTreeMap<u64, Delivery>,
    next: u64,
    disk: Option<Disk>,
    /// Some of them are being sent.
    sending: bool,
    closed: bool,
}

impl KeptQueue {
    pub(super) fn new(settings: &Settings) -> Self {
        let disk = settings.directory.as_deref().map(Disk::new);
        Self { settings: settings.clone(), state: Mutex::new(State { disk, ..State::default() }) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn count(&self) -> usize {
        self.state().queue.len()
    }

    /// Whether there was room.
    pub(super) fn add(&self, delivery: Delivery) -> bool {
        let mut state = self.state();
        // After the end nobody would send it.
        if state.queue.len() >= self.settings.count || state.closed && state.disk.is_none() {
            return false;
        }
        state.push(delivery);
        true
    }

    /// Takes over what processes that are gone have left: how much that is, and how much of what they left was too old.
    pub(super) fn adopt(&self) -> (usize, usize) {
        let (mut found, mut given_up) = (0, 0);
        let Some(directory) = &self.settings.directory else { return (0, 0) };
        Disk::left(directory, |left| {
            let mut over = Vec::new();
            for delivery in left {
                let id = delivery.id.clone();
                if delivery.is_too_old(&self.settings) {
                    given_up += 1;
                } else if self.take_over(delivery) {
                    found += 1;
                } else {
                    continue; // There was no room for it, in memory or on the disk: it stays where it is.
                }
                over.push(id);
            }
            over
        });
        (found, given_up)
    }

    fn take_over(&self, delivery: Delivery) -> bool {
        let mut state = self.state();
        if state.queue.values().any(|known| known.id == delivery.id) {
            return true;
        }
        if state.queue.len() >= self.settings.count || !state.store(&delivery) {
            return false;
        }
        state.insert(delivery);
        true
    }

    /// Some of them are under way: if the process ends meanwhile, they may have arrived.
    pub(super) fn under_way(&self, now: bool) {
        let mut state = self.state();
        state.sending = now;
        if let Some(disk) = state.disk.as_mut().filter(|disk| disk.is_open()) {
            disk.write(&json!({ "sending": now }));
        }
        if !now {
            state.shrink();
        }
    }

    /// Leaves what is left on the disk for the next process.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let empty = state.queue.is_empty();
        if let Some(disk) = &mut state.disk {
            disk.close(empty);
        }
    }

    pub(super) fn first(&self, count: usize) -> Vec<(u64, Delivery)> {
        self.state().queue.iter().take(count).map(|(place, delivery)| (*place, delivery.clone())).collect()
    }

    /// Takes it out. What comes instead is there before it is gone.
    pub(super) fn done(&self, place: u64, instead: Vec<Delivery>) {
        let mut state = self.state();
        for delivery in instead {
            state.push(delivery);
        }
        if let Some(delivery) = state.queue.remove(&place) {
            if let Some(disk) = state.disk.as_mut().filter(|disk| disk.is_open()) {
                disk.write(&json!({ "done": delivery.id }));
            }
            state.shrink();
        }
    }

    /// Moves it to the end of the queue, with what is known of it now.
    pub(super) fn later(&self, place: u64, delivery: Delivery) {
        let mut state = self.state();
        let Some(before) = state.queue.remove(&place) else { return };
        // Nothing is written if nothing has changed.
        if before == delivery {
            state.insert(delivery);
        } else {
            state.push(delivery);
            state.shrink();
        }
    }
}

impl State {
    fn push(&mut self, delivery: Delivery) {
        self.store(&delivery);
        self.insert(delivery);
    }

    fn insert(&mut self, delivery: Delivery) {
        self.queue.insert(self.next, delivery);
        self.next += 1;
    }

    /// Whether the disk has it.
    fn store(&mut self, delivery: &Delivery) -> bool {
        self.disk.as_mut().is_some_and(|disk| disk.write(&line_of(delivery)))
    }

    /// The file stays in proportion to what is kept.
    fn shrink(&mut self) {
        let Some(disk) = self.disk.as_mut().filter(|disk| disk.is_open()) else { return };
        if self.queue.is_empty() {
            disk.empty();
        } else if disk.lines() > LINES && disk.lines() > 10 * self.queue.len() {
            let mut lines: Vec<_> = self.queue.values().map(line_of).collect();
            if self.sending {
                lines.push(json!({ "sending": true }));
            }
            disk.rewrite(&lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::default()
    }

    #[test]
    fn what_may_have_arrived_long_ago_is_too_old() {
        let mut settlement = Delivery::new(vec![b"GW.SETTLE".to_vec(), b"a".to_vec()]);
        assert!(!settlement.is_too_old(&settings()) && settlement.may_book(&settings()));
        settlement.may_have_arrived(SystemTime::now() - Duration::from_secs(700));
        assert!(!settlement.is_too_old(&settings()) && !settlement.may_book(&settings()));
        settlement.first_sent = Some(SystemTime::now() - Duration::from_secs(3_301));
        assert!(settlement.is_too_old(&settings()));
        let mut charge = Delivery::new(vec![b"GW.ADDCOST".to_vec(), b"a".to_vec()]);
        charge.first_sent = settlement.first_sent;
        assert!(!charge.is_too_old(&settings()));
        charge.first_sent = Some(SystemTime::now() - Duration::from_secs(80_001));
        assert!(charge.is_too_old(&settings()));
    }

    #[test]
    fn the_first_time_that_it_may_have_arrived_counts() {
        let mut delivery = Delivery::new(vec![b"GW.SETTLE".to_vec(), b"a".to_vec()]);
        let first = SystemTime::now() - Duration::from_secs(10);
        delivery.may_have_arrived(first);
        delivery.may_have_arrived(SystemTime::now());
        assert_eq!(delivery.first_sent, Some(first));
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let queue = KeptQueue::new(&Settings { count: 2, ..settings() });
        let words = || Delivery::new(vec![b"GW.ADDCOST".to_vec()]);
        assert!(queue.add(words()) && queue.add(words()) && !queue.add(words()));
        let first = queue.first(1);
        queue.later(first[0].0, first[0].1.clone());
        assert_ne!(queue.first(1)[0].1, first[0].1);
        queue.done(queue.first(1)[0].0, vec![words(), words()]);
        assert_eq!(queue.count(), 3);
    }
}
