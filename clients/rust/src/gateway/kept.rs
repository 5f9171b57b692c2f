use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;

use super::delivery::Delivery;
use super::disk::{Disk, line_of};
use super::settings::Kept as Settings;

/// A file with fewer lines is not written anew.
const LINES: usize = 10_000;

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

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let queue = KeptQueue::new(&Settings { count: 2, ..Settings::default() });
        let words = || Delivery::new(vec![b"GW.ADDCOST".to_vec()]);
        assert!(queue.add(words()) && queue.add(words()) && !queue.add(words()));
        let first = queue.first(1);
        queue.later(first[0].0, first[0].1.clone());
        assert_ne!(queue.first(1)[0].1, first[0].1);
        queue.done(queue.first(1)[0].0, vec![words(), words()]);
        assert_eq!(queue.count(), 3);
    }
}
