//! Holds: amounts set aside for requests under way, each with its own expiry.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use smallvec::SmallVec;

use super::credits::Credits;
use super::done::Done;
use super::series::{Entry, load_amount, load_day};
use super::state::IdState;
use crate::calendar::Day;
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::{allocated_bytes, spilled_bytes};
use crate::money::Amount;
use crate::ordered::{count_but_last, count_first};
use crate::{PERIOD_MAX_MS, TIME_MAX_MS};

/// The longest id of a hold or a charge, in bytes.
pub const ID_BYTES_MAX: usize = 512;

/// The most holds that a ledger has at one time.
pub const HOLDS_MAX: usize = 10_000;

/// The owner of a hold. Ids of the two kinds are independent: both may have a hold with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A client, which commits or cancels it.
    Client,
    /// An admission. Its account remembers the outcome.
    Admission,
}

/// The id of a hold. Request ids of up to 37 bytes (a UUID has 36) need no allocation of their own; behind a shorter one the
/// buffer is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Short { owner: Owner, len: u8, bytes: [u8; SHORT_MAX] },
    Long(Owner, Box<[u8]>),
}

const SHORT_MAX: usize = 37;

impl Id {
    fn new(owner: Owner, id: &[u8]) -> Id {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..id.len()) {
            Some(short) => {
                short.copy_from_slice(id);
                // `SHORT_MAX` at most, since the slice exists.
                #[allow(clippy::cast_possible_truncation)]
                let len = id.len() as u8;
                Id::Short { owner, len, bytes }
            }
            None => Id::Long(owner, id.into()),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Id::Short { len, bytes, .. } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Id::Long(_, bytes) => bytes,
        }
    }

    fn owner(&self) -> Owner {
        match self {
            Id::Short { owner, .. } | Id::Long(owner, _) => *owner,
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Id::Short { .. } => 0,
            Id::Long(_, bytes) => allocated_bytes(bytes.len()),
        }
    }
}

/// One hold: 64 bytes if the id is short.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hold {
    /// The day on which it was made, which decides its periods, and the estimate.
    entry: Entry,
    expires_at_ms: i64,
    id: Id,
}

/// The sum set aside on each day, so that a query need not go through all holds (docs/src/internals/decisions.md,
/// "Holds are summed up by day").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Sums(
    /// The days whose sum is not zero. Sums are exact: [`HOLDS_MAX`] times the largest amount is far within an
    /// [`Amount`]. Holds are short, so there is usually one day, and rarely more than two.
    SmallVec<[(i32, Amount); 1]>,
);

impl Sums {
    fn add(&mut self, entry: Entry) {
        let (day, amount) = (entry.number(), entry.amount());
        match self.0.binary_search_by_key(&day, |&(day, _)| day) {
            Ok(at) => self.0.iter_mut().skip(at).take(1).for_each(|(_, sum)| *sum = sum.saturating_add(amount)),
            Err(_) if amount == Amount::ZERO => {}
            Err(at) => self.0.insert(at, (day, amount)),
        }
    }

    fn sub(&mut self, entry: Entry) {
        let of_day = self.0.iter_mut().filter(|(day, _)| *day == entry.number());
        of_day.for_each(|(_, sum)| *sum = sum.saturating_sub(entry.amount()));
        self.0.retain(|(_, sum)| *sum != Amount::ZERO);
    }

    fn between(&self, first: i32, last: i32) -> Amount {
        let days = self.0.iter().filter(|(day, _)| (first..=last).contains(day));
        days.fold(Amount::ZERO, |sum, &(_, amount)| sum.saturating_add(amount))
    }

    fn memory_bytes(&self) -> usize {
        spilled_bytes(&self.0)
    }
}

/// The holds of one ledger, and the outcomes of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// Sorted by expiry, earliest first.
    open: Vec<Hold>,
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
        self.open.is_empty() && self.done.is_empty()
    }

    /// The time that applies here: it does not step back between changes.
    fn now_ms(&self, now_ms: i64) -> i64 {
        now_ms.max(self.at_ms)
    }

    /// Whether a client has a hold here, or an id of a client is remembered.
    pub(super) fn has_ids_of_clients(&self) -> bool {
        !self.done.is_empty() || self.open.iter().any(|hold| hold.id.owner() == Owner::Client)
    }

    /// The holds that have expired since the last change, and the others.
    fn split(&self, now_ms: i64) -> (&[Hold], &[Hold]) {
        let now_ms = self.now_ms(now_ms);
        self.open.split_at(self.expired(now_ms))
    }

    /// The number of holds that have expired.
    fn expired(&self, at_ms: i64) -> usize {
        count_first(&self.open, |hold| hold.expires_at_ms <= at_ms)
    }

    fn live(&self, now_ms: i64) -> &[Hold] {
        self.split(now_ms).1
    }

    /// The number of holds that have not expired.
    pub(super) fn count(&self, now_ms: i64) -> usize {
        self.live(now_ms).len()
    }

    /// Id, day, estimate and remaining milliseconds of all holds that have not expired, the first to expire first.
    pub(super) fn iter(&self, now_ms: i64) -> impl Iterator<Item = (&[u8], Day, Amount, i64)> {
        let from_ms = self.now_ms(now_ms);
        self.live(now_ms).iter().filter_map(move |hold| {
            let day = Day::from_number(hold.entry.number())?;
            Some((hold.id.as_bytes(), day, hold.entry.amount(), hold.expires_at_ms - from_ms))
        })
    }

    /// The sum of the holds that were made on a day from `first` to `last` and have not expired.
    pub(super) fn held(&self, now_ms: i64, first: i32, last: i32) -> Amount {
        let (expired, _) = self.split(now_ms);
        let expired = expired.iter().map(|hold| hold.entry).filter(|entry| (first..=last).contains(&entry.number()));
        expired.fold(self.sums.between(first, last), |sum, entry| sum.saturating_sub(entry.amount()))
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
        let Some(hold) = self.place(Owner::Client, id).and_then(|place| self.open.get(place)) else {
            return self.done.get(now_ms, id);
        };
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
        if self.open.len() >= HOLDS_MAX {
            self.sums.sub(self.open.remove(0).entry);
        }
        let at = count_but_last(&self.open, |hold| hold.expires_at_ms <= expires_at_ms);
        if self.open.len() == self.open.capacity() {
            // The whole size class of the allocator for one more hold: at most a quarter larger.
            let bytes = allocated_bytes((self.open.len() + 1) * size_of::<Hold>());
            self.open.reserve_exact(bytes / size_of::<Hold>() - self.open.len());
        }
        let entry = Entry::new(day.number(), estimate, 0);
        self.sums.add(entry);
        self.open.insert(at, Hold { entry, expires_at_ms, id: Id::new(owner, id) });
    }

    pub(super) fn remove(&mut self, owner: Owner, id: &[u8]) {
        if let Some(place) = self.place(owner, id) {
            self.sums.sub(self.open.remove(place).entry);
        }
    }

    /// The place of the hold with this id, which no other has. Holds usually end in the order in which they began.
    fn place(&self, owner: Owner, id: &[u8]) -> Option<usize> {
        // Two short ids are compared in a few instructions, since their buffers have one length.
        let wanted = Id::new(owner, id);
        self.open.iter().position(|hold| hold.id == wanted)
    }

    /// Ends a client's hold if there is one, and remembers the outcome of the id.
    pub(super) fn end(&mut self, at_ms: i64, id: &[u8], state: IdState) {
        self.remove(Owner::Client, id);
        self.done.put(id, state, self.forgotten_at_ms(at_ms));
    }

    /// Begins every change of holds and ids: moves expiries back if the clock has stepped back, shortens the time for
    /// which ids are remembered, and removes expired holds.
    pub(super) fn begin_change(&mut self, at_ms: i64, remember_ms: u64) {
        let behind_ms = self.at_ms - at_ms;
        if behind_ms > 0 {
            // No hold lasts longer than it was made for.
            self.open.iter_mut().for_each(|hold| hold.expires_at_ms -= behind_ms);
            self.done.shift_back(behind_ms);
        }
        if remember_ms < self.remember_ms {
            self.done.limit(at_ms.saturating_add_unsigned(remember_ms));
        }
        (self.at_ms, self.remember_ms) = (at_ms, remember_ms);
        let expired = self.expired(at_ms);
        for hold in self.open.drain(..expired) {
            self.sums.sub(hold.entry);
            if hold.id.owner() != Owner::Client {
                continue;
            }
            let until_ms = hold.expires_at_ms.saturating_add_unsigned(remember_ms);
            if let Some(day) = Day::from_number(hold.entry.number()).filter(|_| until_ms > at_ms) {
                self.done.put(hold.id.as_bytes(), IdState::Expired { day, estimate: hold.entry.amount() }, until_ms);
            }
        }
        if self.open.len() < self.open.capacity() / 2 {
            self.open.shrink_to_fit();
        }
        self.done.purge(at_ms);
    }

    /// Allocations to free, this struct's own included.
    pub(super) fn allocations(&self) -> usize {
        5 + self.open.iter().filter(|hold| matches!(hold.id, Id::Long(..))).count()
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        let ids: usize = self.open.iter().map(|hold| hold.id.memory_bytes()).sum();
        let open = allocated_bytes(self.open.capacity() * size_of::<Hold>());
        open + ids + self.sums.memory_bytes() + self.done.memory_bytes()
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.int(self.at_ms);
        out.uint(self.remember_ms);
        out.uint(self.open.len() as u64);
        for hold in &self.open {
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
        let mut open: Vec<Hold> = Vec::new();
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
            open.push(Hold { entry: Entry::new(day.number(), estimate, 0), expires_at_ms, id: Id::new(owner, &id) });
        }
        let mut ids: Vec<_> = open.iter().map(|hold| (hold.id.owner(), hold.id.as_bytes())).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Corrupt("two holds of one id"));
        }
        open.shrink_to_fit();
        let mut sums = Sums::default();
        open.iter().for_each(|hold| sums.add(hold.entry));
        let holds = Holds { open, sums, done: Done::load(from)?, at_ms, remember_ms, credits: None };
        if holds.is_empty() {
            return Err(Corrupt("a list of holds without any"));
        }
        Ok(holds)
    }
}
