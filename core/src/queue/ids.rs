//! The ids of pushes. Each is remembered for some time, so that a push that is sent again stores nothing.

use super::bounds::until_ms;
use crate::PERIOD_MAX_MS;
use crate::codec::{Corrupt, Reader, Writer};
use crate::recent::{Recent, Record, fingerprint};

/// The most ids remembered. One more, and the oldest is forgotten before its time.
pub const IDS_MAX: usize = 100_000;

/// The most ids forgotten at one change: some tens of microseconds. Later changes forget the rest.
const FORGOTTEN_MAX: usize = 1_000;

/// The most ids in one part of a rewritten AOF.
const IDS_PER_PART: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Id {
    fingerprint: u64,
    until_ms: i64,
}

impl Record for Id {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn until_ms(&self) -> i64 {
        self.until_ms
    }
}

/// Ids in the order in which they came: 16 bytes each, and about 8 for the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids {
    recent: Recent<Id>,
    /// How long the last id is remembered.
    for_ms: u64,
}

impl Ids {
    pub fn contains(&self, now_ms: i64, id: &[u8]) -> bool {
        self.recent.get(fingerprint(id)).is_some_and(|known| known.until_ms > now_ms)
    }

    /// Remembers an id for `for_ms`, and no earlier id for longer: ids are forgotten in the order in which they came,
    /// so one that is remembered for longer would keep all ids after it.
    pub fn remember(&mut self, now_ms: i64, id: &[u8], for_ms: u64) {
        let until_ms = until_ms(now_ms, for_ms);
        if for_ms < self.for_ms {
            self.recent.iter_mut().for_each(|known| known.until_ms = known.until_ms.min(until_ms));
        }
        self.for_ms = for_ms;
        self.recent.put(Id { fingerprint: fingerprint(id), until_ms }, IDS_MAX);
    }

    /// Forgets ids whose time has passed.
    pub fn forget(&mut self, now_ms: i64) {
        if self.recent.is_due(now_ms) {
            self.recent.forget(now_ms, FORGOTTEN_MAX);
        }
    }

    pub fn shift_back(&mut self, by_ms: i64) {
        self.recent.iter_mut().for_each(|known| known.until_ms = known.until_ms.saturating_sub(by_ms).max(0));
    }

    pub fn memory_bytes(&self) -> usize {
        self.recent.memory_bytes()
    }

    pub fn allocations(&self) -> usize {
        if self.recent.is_empty() { 0 } else { 2 }
    }

    pub fn save_head(&self, out: &mut dyn Writer) {
        out.uint(self.for_ms);
    }

    /// Reads what [`Self::save_head`] wrote, for [`Self::set_for_ms`].
    pub fn load_for_ms(from: &mut dyn Reader) -> Result<u64, Corrupt> {
        from.uint_max(PERIOD_MAX_MS, "how long ids are remembered")
    }

    pub fn set_for_ms(&mut self, for_ms: u64) {
        self.for_ms = for_ms;
    }

    pub fn save(&self, out: &mut dyn Writer) {
        self.save_some(0, IDS_MAX, out);
    }

    /// The parts of a rewritten AOF: the first index of each, and its number of ids.
    pub fn parts(&self) -> impl Iterator<Item = (usize, usize)> {
        let len = self.recent.len();
        (0..len).step_by(IDS_PER_PART).map(move |first| (first, IDS_PER_PART.min(len - first)))
    }

    pub fn save_some(&self, first: usize, count: usize, out: &mut dyn Writer) {
        out.uint(count.min(self.recent.len() - first) as u64);
        for id in self.recent.iter().skip(first).take(count) {
            out.uint(id.fingerprint);
            out.int(id.until_ms);
        }
    }

    /// Reads what [`Self::save_some`] wrote, and appends it.
    pub fn load(&mut self, from: &mut dyn Reader) -> Result<(), Corrupt> {
        let room = IDS_MAX - self.recent.len();
        for _ in 0..from.uint_max(room as u64, "more ids than a queue remembers")? {
            let id = Id { fingerprint: from.uint()?, until_ms: from.time_ms("until when an id is remembered")? };
            if self.recent.get(id.fingerprint).is_some() {
                return Err(Corrupt("an id twice"));
            }
            self.recent.put(id, IDS_MAX);
        }
        Ok(())
    }
}
