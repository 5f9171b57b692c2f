//! Settled admissions, remembered for some time so that nothing is charged twice.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::bounds::FINISHED_MAX;
use crate::codec::{Corrupt, Reader, Writer};
use crate::recent::{self, Recent, fingerprint};
use crate::stored::Stored;

/// A settled admission.
#[derive(Debug, Clone, Copy)]
struct Record {
    fingerprint: u64,
    until_ms: i64,
}

impl recent::Record for Record {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn until_ms(&self) -> i64 {
        self.until_ms
    }
}

/// Settled admissions: 16 bytes each, and about 8 for the index.
#[derive(Debug, Clone, Default)]
pub(super) struct Settled(Recent<Record>);

impl Settled {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn contains(&self, at_ms: i64, id: &[u8]) -> bool {
        !self.0.is_empty() && self.0.get(fingerprint(id)).is_some_and(|record| record.until_ms > at_ms)
    }

    pub fn put(&mut self, id: &[u8], until_ms: i64) {
        self.0.put(Record { fingerprint: fingerprint(id), until_ms }, FINISHED_MAX);
    }

    /// The latest time until which any of them is remembered.
    pub fn until_ms(&self) -> i64 {
        self.0.iter().map(|record| record.until_ms).max().unwrap_or(0)
    }

    /// Forgets those whose time has passed, `count` at most.
    pub fn forget(&mut self, at_ms: i64, count: usize) {
        self.0.forget(at_ms, count);
    }
}

impl Stored for Settled {
    const ENCODING: u32 = 0;

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    fn save(&self, out: &mut dyn Writer) {
        out.uint(self.0.len() as u64);
        for record in self.0.iter() {
            out.uint(record.fingerprint);
            out.int(record.until_ms);
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let mut settled = Recent::default();
        for _ in 0..from.uint_max(FINISHED_MAX as u64, "more ended leases than an account remembers")? {
            let record = Record { fingerprint: from.uint()?, until_ms: from.time_ms("a settled lease's time")? };
            if settled.get(record.fingerprint).is_some() {
                return Err(Corrupt("a settled lease twice"));
            }
            settled.put(record, FINISHED_MAX);
        }
        Ok(Self(settled))
    }
}
