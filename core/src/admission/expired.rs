//! Admissions whose leases ended by time and that can still be settled.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::bounds::{EXPIRED_KEPT_MS, FINISHED_MAX};
use super::packed::Packed;
use super::taken::Admission;
use crate::TIME_MAX_MS;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::recent::{self, Recent, TAKEN_UNTIL_MS, fingerprint};
use crate::stored::{Stored, load_versioned};

/// An ended admission.
#[derive(Debug, Clone)]
struct Record {
    fingerprint: u64,
    until_ms: i64,
    took: Packed,
}

impl Default for Record {
    fn default() -> Self {
        Self { fingerprint: 0, until_ms: TAKEN_UNTIL_MS, took: Packed::default() }
    }
}

impl recent::Record for Record {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn until_ms(&self) -> i64 {
        self.until_ms
    }
}

/// The time from which a record's own times are counted: the end of the lease.
fn near_ms(until_ms: i64) -> i64 {
    until_ms.saturating_sub_unsigned(EXPIRED_KEPT_MS)
}

impl Record {
    fn new(fingerprint: u64, until_ms: i64, admission: &Admission) -> Self {
        Self { fingerprint, until_ms, took: Packed::new(admission, near_ms(until_ms)) }
    }

    fn admission(&self) -> Option<Admission> {
        self.took.unpack(near_ms(self.until_ms))
    }
}

/// At most [`FINISHED_MAX`] admissions, 40 bytes each, and about 8 for the index (docs/src/internals/decisions.md, "Ended
/// admissions are fingerprints"). Boxed because most accounts have never had one, and decisions read the account.
#[derive(Debug, Clone, Default)]
pub(super) struct Expired(Option<Box<Recent<Record>>>);

impl Expired {
    /// Remembers an admission whose lease ended at `ended_ms`, and forgets the first to end if there are too many.
    pub fn put(&mut self, id: &[u8], ended_ms: i64, admission: &Admission) {
        let until_ms = ended_ms.saturating_add_unsigned(EXPIRED_KEPT_MS).min(TIME_MAX_MS);
        let record = Record::new(fingerprint(id), until_ms, admission);
        let records = self.0.get_or_insert_default();
        // One of the same id has become due and waits to be forgotten. Its place is too early for the new one.
        records.take(record.fingerprint);
        records.put(record, FINISHED_MAX);
    }

    /// What an admission took.
    pub fn get(&self, id: &[u8]) -> Option<Admission> {
        self.0.as_ref()?.get(fingerprint(id))?.admission()
    }

    /// Whether the admission is remembered at `at_ms`.
    pub fn contains(&self, at_ms: i64, id: &[u8]) -> bool {
        let records = self.0.as_ref().filter(|records| !records.is_empty());
        records.and_then(|records| records.get(fingerprint(id))).is_some_and(|record| record.until_ms > at_ms)
    }

    /// Forgets an admission, and returns what it took.
    pub fn take(&mut self, id: &[u8]) -> Option<Admission> {
        self.0.as_mut()?.take(fingerprint(id))?.admission()
    }

    /// Forgets up to `count` admissions whose time has passed.
    pub fn forget(&mut self, at_ms: i64, count: usize) {
        if let Some(records) = &mut self.0 {
            records.forget(at_ms, count);
        }
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |records| records.len())
    }

    /// What each of them took.
    pub fn iter(&self) -> impl Iterator<Item = Admission> {
        self.records().filter_map(Record::admission)
    }

    /// The latest time until which any of them is remembered.
    pub fn until_ms(&self) -> i64 {
        self.records().map(|record| record.until_ms).max().unwrap_or(0)
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().flat_map(|records| records.iter())
    }
}

impl Stored for Expired {
    const ENCODING: u32 = 0;

    fn save(&self, out: &mut dyn Writer) {
        out.uint(Admission::ENCODING.into());
        out.uint(self.len() as u64);
        for record in self.records() {
            out.uint(record.fingerprint);
            out.int(record.until_ms);
            record.admission().iter().for_each(|admission| admission.save(out));
        }
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        // All admissions are in one version.
        let encoding = u32::try_from(from.uint()?).unwrap_or(u32::MAX);
        let mut records = Recent::default();
        for _ in 0..from.uint_max(FINISHED_MAX as u64, "more ended leases than an account remembers")? {
            let (fingerprint, until_ms) = (from.uint()?, from.time_ms("an ended lease's time")?);
            if records.get(fingerprint).is_some() {
                return Err(Corrupt("an ended lease twice"));
            }
            let admission = load_versioned(from, encoding)?;
            records.put(Record::new(fingerprint, until_ms, &admission), FINISHED_MAX);
        }
        Ok(Self((!records.is_empty()).then(|| Box::new(records))))
    }

    fn memory_bytes(&self) -> usize {
        let boxed = allocated_bytes(size_of::<Recent<Record>>());
        let list = self.0.as_ref().map_or(0, |records| boxed + records.memory_bytes());
        list + self.records().map(|record| record.took.memory_bytes()).sum::<usize>()
    }

    fn allocations(&self) -> usize {
        let own = if self.0.is_some() { 3 } else { 0 };
        own + self.records().filter(|record| record.took.is_boxed()).count()
    }
}
