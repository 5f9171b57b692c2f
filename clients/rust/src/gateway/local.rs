use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Keys of which the windows are looked through for those that are over.
const MANY: usize = 1_024;

/// The part of a limit that one of several processes gets: at least 1 if the limit is above 0.
pub(super) fn share(limit: u64, instances: u64) -> u64 {
    if limit == 0 { 0 } else { (limit / instances).max(1) }
}

/// Sliding windows of this process, for the time in which the server is away.
#[derive(Default)]
pub(super) struct LocalWindows(Mutex<HashMap<Vec<u8>, Window>>);

struct Window {
    length: Duration,
    used: u64,
    taken: VecDeque<(Instant, u64)>,
}

impl Window {
    fn expire(&mut self, now: Instant) {
        while let Some(&(at, cost)) = self.taken.front() {
            if now.duration_since(at) < self.length {
                return;
            }
            self.used -= cost;
            self.taken.pop_front();
        }
    }
}

/// What a window says.
pub(super) struct Taken {
    pub(super) allowed: bool,
    pub(super) left: u64,
    /// None if waiting does not help.
    pub(super) retry_after: Option<Duration>,
}

impl LocalWindows {
    pub(super) fn take(&self, key: &[u8], limit: u64, length: Duration, cost: u64, peek: bool) -> Taken {
        let now = Instant::now();
        let mut windows = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if windows.len() >= MANY && !windows.contains_key(key) {
            windows.retain(|_, window| {
                window.expire(now);
                !window.taken.is_empty()
            });
        }
        let window = windows.entry(key.to_vec()).or_insert(Window { length, used: 0, taken: VecDeque::new() });
        window.length = length;
        window.expire(now);
        let left = limit.saturating_sub(window.used);
        if cost > left {
            let mut free = left;
            let wait = window.taken.iter().find_map(|&(at, taken)| {
                free += taken;
                (free >= cost).then(|| (at + length).saturating_duration_since(now))
            });
            return Taken { allowed: false, left, retry_after: if cost > limit { None } else { wait } };
        }
        if !peek && cost > 0 {
            window.used += cost;
            window.taken.push_back((now, cost));
        }
        Taken { allowed: true, left: if peek { left } else { left - cost }, retry_after: Some(Duration::ZERO) }
    }
}

/// Slots of this process, for the same time.
#[derive(Default)]
pub(super) struct LocalSlots(Mutex<HashMap<Vec<u8>, HashSet<String>>>);

impl LocalSlots {
    /// How many are taken then, if there was one.
    pub(super) fn take(&self, key: &[u8], most: u64, holder: &str) -> Option<u64> {
        let mut slots = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let holders = slots.entry(key.to_vec()).or_default();
        if holders.len() as u64 >= most {
            return None;
        }
        holders.insert(holder.to_owned());
        Some(holders.len() as u64)
    }

    pub(super) fn free(&self, key: &[u8], holder: &str) {
        let mut slots = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(holders) = slots.get_mut(key) {
            holders.remove(holder);
            if holders.is_empty() {
                slots.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_at_least_one() {
        assert_eq!([share(0, 4), share(1, 4), share(4, 4), share(100, 3)], [0, 1, 1, 33]);
    }

    #[test]
    fn a_window_has_room_for_its_limit() {
        let windows = LocalWindows::default();
        let minute = Duration::from_secs(60);
        assert!(windows.take(b"k", 3, minute, 2, true).allowed);
        assert_eq!(windows.take(b"k", 3, minute, 2, false).left, 1);
        let refused = windows.take(b"k", 3, minute, 2, false);
        assert!(!refused.allowed && refused.retry_after.is_some_and(|wait| wait <= minute));
        assert!(windows.take(b"k", 3, minute, 4, false).retry_after.is_none());
        assert!(windows.take(b"other", 3, minute, 3, false).allowed);
    }
}
