//! Admissions whose leases ended by time and that can still be settled.

use std::sync::Arc;

use super::bounds::FINISHED_MAX;
use super::taken::Admission;
use crate::codec::{Corrupt, Reader, Writer};
use crate::lease::{Lease, LeasesWith};
use crate::memory::allocated_bytes;
use crate::stored::{Stored, load_nested, save_nested};

/// At most [`FINISHED_MAX`] of them. Boxed because most accounts have never had one, and decisions read the account.
#[derive(Debug, Clone, Default)]
pub(super) struct Expired(Option<Box<LeasesWith<Admission>>>);

impl Expired {
    /// Remembers an admission for `left_ms` from `now_ms` on, and forgets the first to end if there are too many.
    pub fn put(&mut self, now_ms: i64, id: Arc<[u8]>, left_ms: u64, admission: Admission) {
        let leases = self.0.get_or_insert_default();
        leases.hold(now_ms, id, left_ms, admission);
        if leases.len() > FINISHED_MAX {
            leases.take_ended(i64::MAX);
        }
    }

    pub fn get(&self, id: &[u8]) -> Option<&Lease<Admission>> {
        self.0.as_ref()?.get(id)
    }

    /// Whether the admission is remembered at `now_ms`.
    pub fn contains(&self, now_ms: i64, id: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|leases| leases.token_of(now_ms, id).is_some())
    }

    pub fn take(&mut self, id: &[u8]) -> Option<Lease<Admission>> {
        self.0.as_mut()?.take(id)
    }

    /// Forgets up to `count` admissions whose time has passed.
    pub fn forget(&mut self, now_ms: i64, count: usize) {
        if let Some(leases) = &mut self.0 {
            (0..count).map_while(|_| leases.take_ended(now_ms)).for_each(drop);
        }
    }

    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |leases| leases.len())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease<Admission>> {
        self.0.iter().flat_map(|leases| leases.iter())
    }

    /// The time of the last change, in unix milliseconds.
    pub fn changed_at_ms(&self) -> i64 {
        self.0.as_ref().map_or(0, |leases| leases.changed_at_ms())
    }

    /// Prefetches what a search reads; returns a word that depends on it.
    pub fn fetch(&self) -> u64 {
        self.0.as_ref().map_or(0, |leases| leases.fetch())
    }

    pub fn memory_bytes(&self) -> usize {
        let leases =
            |leases: &LeasesWith<_>| allocated_bytes(size_of::<LeasesWith<Admission>>()) + leases.memory_bytes();
        self.0.as_ref().map_or(0, |boxed| leases(boxed))
    }

    pub fn allocations(&self) -> usize {
        self.0.as_ref().map_or(0, |leases| 1 + leases.allocations())
    }

    pub fn save(&self, out: &mut dyn Writer) {
        match &self.0 {
            Some(leases) => save_nested(&**leases, out),
            None => save_nested(&LeasesWith::<Admission>::default(), out),
        }
    }

    pub fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let leases: LeasesWith<Admission> = load_nested(from)?;
        // Whoever has never held a lease has given out no token.
        Ok(Self((leases.last_token() > 0).then(|| Box::new(leases))))
    }
}
