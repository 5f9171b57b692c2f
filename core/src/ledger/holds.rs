//! Holds: amounts set aside for requests under way, each with its own expiry.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::credits::Credits;
use super::done::Done;
use super::hold::{Hold, ID_BYTES_MAX, Id, Owner, Sums};
use super::open::Open;
use super::series::{Entry, load_amount, load_day};
use super::state::IdState;
use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::money::Amount;
use crate::{PERIOD_MAX_MS, TIME_MAX_MS};

/// The most holds that a ledger has at one time, whatever the settings are: a million.
pub const HOLDS_MAX: usize = 1_000_000;

/// The most expired holds that one change drops (docs/src/internals/decisions.md, "A change drops 256 ended leases at
/// most"). A change adds one hold at most, so they do not pile up.
const DROPPED_MAX: usize = 256;

/// The holds of one ledger, and the outcomes of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holds {
    open: Open,
    /// Over all open holds, including expired ones.
    sums: Sums,
    done: Done,
    /// The time of the last change here.
    at_ms: i64,
    /// How long the outcome of an id is remembered, in milliseconds.
    remember_ms: u64,
    /// The ledger's credits, which are stored here to keep a ledger small: see [`super::Ledger::some_credits`].
    pub(super) credits: Option<Box<Credits>>,
}

impl Holds {
    /// Only a ledger's credits, without holds and ids.
    pub(super) fn with_credits(credits: Box<Credits>) -> Holds {
        Holds { credits: Some(credits), ..Holds::default() }
    }

    /// Whether there are neither holds nor ids.
    pub(super) fn is_empty(&self) -> bool {
        self.open.len() == 0 && self.done.is_empty()
    }

    /// The time that applies here: it does not step back between changes.
    fn now_ms(&self, now_ms: i64) -> i64 {
        now_ms.max(self.at_ms)
    }

    /// Whether a client has a hold here, or an id of a client is remembered.
    pub(super) fn has_ids_of_clients(&self) -> bool {
        !self.done.is_empty() || self.open.ids().clients > 0
    }

    /// The number of holds that have not expired.
    pub(super) fn count(&self, now_ms: i64) -> usize {
        self.open.len() - self.open.expired(self.now_ms(now_ms))
    }

    /// Id, day, estimate and remaining milliseconds of all holds that have not expired, the first to expire first.
    pub(super) fn iter(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], Day, Amount, i64)> {
        let from_ms = self.now_ms(now_ms);
        self.open.after(from_ms).filter_map(move |hold| {
            let day = Day::from_number(hold.entry.number())?;
            Some((hold.id.as_bytes(), day, hold.entry.amount(), hold.expires_at_ms - from_ms))
        })
    }

    /// The sum of the holds that were made on a day from `first` to `last` and have not expired.
    pub(super) fn held(&self, now_ms: i64, first: i32, last: i32) -> Amount {
        let expired = self.open.expired_sum(self.now_ms(now_ms), first, last);
        self.sums.between(first, last).saturating_sub(expired)
    }

    /// Prefetches what [`Self::held`] reads; returns a word that depends on it.
    pub(super) fn fetch(&self) -> i64 {
        let ends = [self.open.first(), self.open.last()];
        ends.into_iter().flatten().fold(self.at_ms, |words, hold| words ^ hold.expires_at_ms)
    }

    pub(super) fn remembered(&self, now_ms: i64) -> usize {
        self.done.count(self.now_ms(now_ms))
    }

    /// Whether the clock has stepped back since the last change.
    pub(super) fn is_ahead_of(&self, now_ms: i64) -> bool {
        self.at_ms > now_ms
    }

    /// Whether [`Self::forget`] would free memory or follow a clock that has stepped back.
    pub(super) fn is_due(&self, at_ms: i64) -> bool {
        self.is_ahead_of(at_ms)
            || self.done.is_due(at_ms)
            || self.open.first().is_some_and(|hold| hold.expires_at_ms <= at_ms)
    }

    pub(super) fn forget(&mut self, at_ms: i64) {
        self.begin_change(at_ms, self.remember_ms);
    }

    pub(super) fn state(&self, now_ms: i64, id: &[u8]) -> Option<IdState> {
        let now_ms = self.now_ms(now_ms);
        let Some(hold) = self.open.get(Owner::Client, id) else { return self.done.get(now_ms, id) };
        let (day, estimate) = (Day::from_number(hold.entry.number())?, hold.entry.amount());
        if hold.expires_at_ms > now_ms {
            return Some(IdState::Open { day, estimate, left_ms: hold.expires_at_ms - now_ms });
        }
        (self.forgotten_at_ms(hold.expires_at_ms) > now_ms).then_some(IdState::Expired { day, estimate })
    }

    fn forgotten_at_ms(&self, ended_at_ms: i64) -> i64 {
        ended_at_ms.saturating_add_unsigned(self.remember_ms)
    }

    /// Adds a hold. The caller has checked that there is room; if there is none, the hold that expires first is
    /// dropped.
    pub(super) fn insert(&mut self, owner: Owner, id: &[u8], day: Day, estimate: Amount, expires_at_ms: i64) {
        self.remove(owner, id);
        if self.open.len() >= HOLDS_MAX
            && let Some(first) = self.open.take_first(i64::MAX)
        {
            self.sums.sub(first.entry);
        }
        let entry = Entry::new(day.number(), estimate, 0);
        self.sums.add(entry);
        self.open.insert(Hold { entry, expires_at_ms, id: Id::new(owner, id) });
    }

    pub(super) fn remove(&mut self, owner: Owner, id: &[u8]) {
        if let Some(hold) = self.open.remove(owner, id) {
            self.sums.sub(hold.entry);
        }
    }

    /// Ends a client's hold if there is one, and remembers the outcome of the id.
    pub(super) fn end(&mut self, at_ms: i64, id: &[u8], state: IdState) {
        self.remove(Owner::Client, id);
        self.done.put(id, state, self.forgotten_at_ms(at_ms));
    }

    /// Begins every change of holds and ids: moves expiries back if the clock has stepped back, shortens the time for
    /// which ids are remembered, and removes expired holds, a limited number at a time.
    pub(super) fn begin_change(&mut self, at_ms: i64, remember_ms: u64) {
        let behind_ms = self.at_ms - at_ms;
        if behind_ms > 0 {
            // No hold lasts longer than it was made for.
            self.open.shift_back(behind_ms);
            self.done.shift_back(behind_ms);
        }
        if remember_ms < self.remember_ms {
            self.done.limit(at_ms.saturating_add_unsigned(remember_ms));
        }
        (self.at_ms, self.remember_ms) = (at_ms, remember_ms);
        for _ in 0..DROPPED_MAX {
            let Some(hold) = self.open.take_first(at_ms) else { break };
            self.sums.sub(hold.entry);
            if hold.id.owner() != Owner::Client {
                continue;
            }
            let until_ms = hold.expires_at_ms.saturating_add_unsigned(remember_ms);
            if let Some(day) = Day::from_number(hold.entry.number()).filter(|_| until_ms > at_ms) {
                self.done.put(hold.id.as_bytes(), IdState::Expired { day, estimate: hold.entry.amount() }, until_ms);
            }
        }
        self.open.shrink();
        self.done.purge(at_ms);
    }

    /// Allocations to free, this struct's own included.
    pub(super) fn allocations(&self) -> usize {
        4 + self.open.allocations()
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        self.open.memory_bytes() + self.sums.memory_bytes() + self.done.memory_bytes()
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.int(self.at_ms);
        out.uint(self.remember_ms);
        out.uint(self.open.len() as u64);
        for hold in self.open.iter() {
            out.uint((hold.id.owner() == Owner::Admission).into());
            out.bytes(hold.id.as_bytes());
            out.int(hold.expires_at_ms);
            out.int(hold.entry.number().into());
            out.int128(hold.entry.amount().picos());
        }
        self.done.save(out);
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<Holds, Corrupt> {
        let at_ms = from.time_ms("a time out of bounds")?;
        let remember_ms = from.uint_max(PERIOD_MAX_MS, "a time to remember out of bounds")?;
        let (mut open, mut sums) = (Open::default(), Sums::default());
        for _ in 0..from.uint_max(HOLDS_MAX as u64, "more holds than a ledger has")? {
            let owner = match from.uint_max(1, "the owner of a hold")? {
                0 => Owner::Client,
                _ => Owner::Admission,
            };
            let id = from.bytes(ID_BYTES_MAX)?;
            // A hold that was moved back with the clock may have ended before 1970.
            let expires_at_ms = from.int()?;
            let day = load_day(from)?;
            let estimate = load_amount(from)?;
            if open.last().is_some_and(|before| before.expires_at_ms > expires_at_ms) {
                return Err(Corrupt("holds out of order"));
            }
            if id.is_empty() || estimate < Amount::ZERO {
                return Err(Corrupt("a hold without an id, or of a negative amount"));
            }
            if !(-TIME_MAX_MS..=TIME_MAX_MS).contains(&expires_at_ms) {
                return Err(Corrupt("a hold out of bounds"));
            }
            if open.get(owner, &id).is_some() {
                return Err(Corrupt("two holds of one id"));
            }
            let entry = Entry::new(day.number(), estimate, 0);
            sums.add(entry);
            open.insert(Hold { entry, expires_at_ms, id: Id::new(owner, &id) });
        }
        let holds = Holds { open, sums, done: Done::load(from)?, at_ms, remember_ms, credits: None };
        if holds.is_empty() {
            return Err(Corrupt("a list of holds without any"));
        }
        Ok(holds)
    }
}
