//! Outcomes of ids: of charges that are made once, and of holds that have ended.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::series::{Entry, load_amount, load_day};
use super::state::IdState;
use crate::TIME_MAX_MS;
use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::money::Amount;
use crate::recent::{self, Recent, Record as _, fingerprint};

/// The most ids remembered. One more, and the oldest is forgotten before its time.
pub const IDS_MAX: usize = 100_000;

/// The most ids forgotten by one change, which takes some tens of microseconds. A change adds one id at most, so they
/// do not pile up.
const PURGED_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    fingerprint: u64,
    /// The time until which the id is remembered and, in the lowest eight bits, the kind of its [`IdState`].
    until_and_state: u64,
    /// The day of the hold or charge, and an amount: the estimate of a hold that expired, the period's credit after a
    /// credit, otherwise the amount charged.
    entry: Entry,
}

const EXPIRED: u8 = 0;
const CANCELLED: u8 = 1;
const COMMITTED: u8 = 2;
const COMMITTED_OVER: u8 = 3;
const CHARGED: u8 = 4;
const CREDITED: u8 = 5;

impl Record {
    /// `None` for an open hold, which is in the list of holds.
    fn new(fingerprint: u64, state: IdState, until_ms: i64) -> Option<Record> {
        let (kind, day, amount) = match state {
            IdState::Open { .. } => return None,
            IdState::Expired { day, estimate } => (EXPIRED, day, estimate),
            IdState::Cancelled { day } => (CANCELLED, day, Amount::ZERO),
            IdState::Committed { day, charged, over: false } => (COMMITTED, day, charged),
            IdState::Committed { day, charged, over: true } => (COMMITTED_OVER, day, charged),
            IdState::Charged { day, amount } => (CHARGED, day, amount),
            IdState::Credited { day, credit } => (CREDITED, day, credit),
        };
        let until_and_state = until_ms.clamp(0, TIME_MAX_MS).unsigned_abs() << 8 | u64::from(kind);
        Some(Record { fingerprint, until_and_state, entry: Entry::new(day.number(), amount, 0) })
    }

    fn state(&self) -> Option<IdState> {
        let (day, amount) = (Day::from_number(self.entry.number())?, self.entry.amount());
        Some(match self.until_and_state.to_le_bytes()[0] {
            EXPIRED => IdState::Expired { day, estimate: amount },
            CANCELLED => IdState::Cancelled { day },
            COMMITTED => IdState::Committed { day, charged: amount, over: false },
            COMMITTED_OVER => IdState::Committed { day, charged: amount, over: true },
            CHARGED => IdState::Charged { day, amount },
            CREDITED => IdState::Credited { day, credit: amount },
            _ => return None,
        })
    }
}

impl recent::Record for Record {
    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    fn until_ms(&self) -> i64 {
        (self.until_and_state >> 8).cast_signed()
    }
}

/// Ids with their outcomes: 32 bytes each, and about 8 for the index (docs/src/internals/decisions.md, "Ids are
/// remembered as fingerprints").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Done(Recent<Record>);

impl Done {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of ids remembered at `now_ms`.
    pub(super) fn count(&self, now_ms: i64) -> usize {
        self.0.iter().filter(|record| record.until_ms() > now_ms).count()
    }

    /// Whether [`Self::purge`] would forget any.
    pub(super) fn is_due(&self, at_ms: i64) -> bool {
        self.0.is_due(at_ms)
    }

    pub(super) fn get(&self, now_ms: i64, id: &[u8]) -> Option<IdState> {
        self.0.get(fingerprint(id)).filter(|record| record.until_ms() > now_ms)?.state()
    }

    /// Remembers an id, and replaces what was remembered of it.
    pub(super) fn put(&mut self, id: &[u8], state: IdState, until_ms: i64) {
        if let Some(record) = Record::new(fingerprint(id), state, until_ms) {
            self.0.put(record, IDS_MAX);
        }
    }

    /// Forgets ids whose time has passed, up to [`PURGED_MAX`]; later changes forget the rest.
    pub(super) fn purge(&mut self, at_ms: i64) {
        self.0.forget(at_ms, PURGED_MAX);
    }

    pub(super) fn shift_back(&mut self, by_ms: i64) {
        self.change_until(|until_ms| until_ms.saturating_sub(by_ms));
    }

    /// Shortens the time of all ids to `until_max_ms` at most. Ids are forgotten in the order in which they came, so
    /// one that is remembered for longer would keep all ids after it.
    pub(super) fn limit(&mut self, until_max_ms: i64) {
        self.change_until(|until_ms| until_ms.min(until_max_ms));
    }

    fn change_until(&mut self, change: impl Fn(i64) -> i64) {
        for record in self.0.iter_mut() {
            let until_ms = change(record.until_ms()).max(0).unsigned_abs();
            record.until_and_state = until_ms << 8 | record.until_and_state & 0xff;
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.uint(self.0.len() as u64);
        for record in self.0.iter() {
            out.uint(record.fingerprint);
            out.uint(record.until_and_state);
            out.int(record.entry.number().into());
            out.int128(record.entry.amount().picos());
        }
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<Done, Corrupt> {
        let mut done = Done::default();
        for _ in 0..from.uint_max(IDS_MAX as u64, "more ids than a ledger remembers")? {
            let fingerprint = from.uint()?;
            let until_and_state = from.uint_max(TIME_MAX_MS.cast_unsigned() << 8 | 0xff, "a time out of bounds")?;
            let day = load_day(from)?;
            let entry = Entry::new(day.number(), load_amount(from)?, 0);
            let record = Record { fingerprint, until_and_state, entry };
            if record.state().is_none() || done.0.get(fingerprint).is_some() {
                return Err(Corrupt("an id in an unknown state, or twice"));
            }
            done.0.put(record, IDS_MAX);
        }
        Ok(done)
    }
}
