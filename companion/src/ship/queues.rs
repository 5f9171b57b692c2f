//! Which queues a part of the configuration ships: those that it names, and those that its patterns find.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::RedisResult;

use crate::nodes::{self, PATIENCE, Seed};
use crate::scan::{self, Scan};

/// How often the servers are asked which keys match.
const SCAN_PAUSE: Duration = Duration::from_secs(5);

/// Whether this is a pattern, and not the key of a queue.
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// The queues of one part, which the part's jobs have in common.
pub struct Queues {
    seed: Seed,
    patterns: Vec<String>,
    named: BTreeSet<String>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    queues: BTreeSet<String>,
    /// When to look again.
    next: Option<Instant>,
}

impl Queues {
    pub fn new(seed: Seed, queues: &[String]) -> Self {
        let (patterns, named): (Vec<_>, Vec<_>) = queues.iter().cloned().partition(|queue| is_pattern(queue));
        Self { seed, patterns, named: named.into_iter().collect(), found: Mutex::default() }
    }

    /// How many jobs are of use, out of those allowed.
    pub fn jobs(&self, threads: usize) -> usize {
        if self.patterns.is_empty() { self.named.len().min(threads) } else { threads }
    }

    /// The queues that the job with this index ships, out of `jobs`. Whichever job asks first after a while looks for
    /// them; the others do not wait for it.
    ///
    /// # Errors
    /// If they cannot be looked for; those that are known stay.
    pub fn of(&self, index: usize, jobs: usize) -> (BTreeSet<String>, RedisResult<()>) {
        let mut looked = Ok(());
        if self.is_due() {
            match self.look() {
                Ok(queues) => self.found().queues = queues,
                Err(error) => looked = Err(error),
            }
        }
        let found = self.found();
        let mine = self.named.iter().chain(&found.queues).filter(|queue| share(queue, jobs) == index);
        (mine.cloned().collect(), looked)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever asks is to look for queues now.
    fn is_due(&self) -> bool {
        let (mut found, now) = (self.found(), Instant::now());
        let is_due = !self.patterns.is_empty() && found.next.is_none_or(|next| next <= now);
        if is_due {
            found.next = Some(now + SCAN_PAUSE);
        }
        is_due
    }

    /// Asks each primary for its keys that are queues and match. A queue whose slot moves meanwhile may be missed; it is
    /// found the next time.
    fn look(&self) -> RedisResult<BTreeSet<String>> {
        let mut queues = BTreeSet::new();
        for primary in nodes::primaries(&self.seed.shards()?) {
            let mut connection = self.seed.connect(&primary, PATIENCE)?;
            for pattern in &self.patterns {
                let mut scan = Scan::of(scan::QUEUE).matching(pattern);
                while let Some(keys) = scan.next(&mut connection)? {
                    // Names of objects and columns are text. A queue whose key is not has to be named otherwise.
                    queues.extend(keys.into_iter().filter_map(|key| String::from_utf8(key).ok()));
                }
            }
        }
        Ok(queues)
    }
}

/// Which of so many jobs has the queue: always the same.
fn share(queue: &str, jobs: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    queue.hash(&mut hasher);
    usize::try_from(hasher.finish() % jobs.max(1) as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_queues_are_shared_out() {
        let seed = Seed::new("redis://127.0.0.1").unwrap();
        let names: Vec<String> = (0..20).map(|number| format!("log:{number}")).collect();
        let queues = Queues::new(seed.clone(), &names);
        assert_eq!((queues.jobs(4), queues.jobs(100)), (4, 20));
        let mut all: Vec<String> = (0..4).flat_map(|index| queues.of(index, 4).0).collect();
        all.sort();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(all, sorted);
        assert_eq!(Queues::new(seed, &["log:*".to_owned()]).jobs(4), 4);
        assert!(is_pattern("a?") && is_pattern("[ab]") && !is_pattern("log:{0}"));
    }
}
