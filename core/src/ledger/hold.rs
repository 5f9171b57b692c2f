//! One hold, and sums of holds by day.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use smallvec::SmallVec;

use super::series::Entry;
use crate::memory::{allocated_bytes, spilled_bytes};
use crate::money::Amount;

/// The longest id of a hold or a charge, in bytes.
pub const ID_BYTES_MAX: usize = 512;

/// The owner of a hold. Ids of the two kinds are independent: both may have a hold with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A client, which commits or cancels it.
    Client,
    /// An admission. Its account remembers the outcome.
    Admission,
}

/// The id of a hold. Request ids of up to 37 bytes (a UUID has 36) need no allocation of their own; behind a shorter one the
/// buffer is zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Id {
    Short { owner: Owner, len: u8, bytes: [u8; SHORT_MAX] },
    Long(Owner, Box<[u8]>),
}

const SHORT_MAX: usize = 37;

impl Id {
    pub(super) fn new(owner: Owner, id: &[u8]) -> Id {
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

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Id::Short { len, bytes, .. } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Id::Long(_, bytes) => bytes,
        }
    }

    pub(super) fn owner(&self) -> Owner {
        match self {
            Id::Short { owner, .. } | Id::Long(owner, _) => *owner,
        }
    }
}

/// One hold: 64 bytes if the id is short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    /// The day on which it was made, which decides its periods, and the estimate.
    pub entry: Entry,
    pub expires_at_ms: i64,
    pub id: Id,
}

/// The sum set aside on each day, so that a query need not go through all holds (docs/src/internals/decisions.md,
/// "Holds are summed up by day").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sums(
    /// The days whose sum is not zero. Sums are exact: a million times the largest amount is far within an [`Amount`].
    /// Holds are short, so there is usually one day, and rarely more than two.
    SmallVec<[(i32, Amount); 1]>,
);

impl Sums {
    pub(super) fn add(&mut self, entry: Entry) {
        let (day, amount) = (entry.number(), entry.amount());
        match self.0.binary_search_by_key(&day, |&(day, _)| day) {
            Ok(at) => self.0.iter_mut().skip(at).take(1).for_each(|(_, sum)| *sum = sum.saturating_add(amount)),
            Err(_) if amount == Amount::ZERO => {}
            Err(at) => self.0.insert(at, (day, amount)),
        }
    }

    pub(super) fn sub(&mut self, entry: Entry) {
        let of_day = self.0.iter_mut().filter(|(day, _)| *day == entry.number());
        of_day.for_each(|(_, sum)| *sum = sum.saturating_sub(entry.amount()));
        self.0.retain(|(_, sum)| *sum != Amount::ZERO);
    }

    /// The sum of the days from `first` to `last`.
    pub(super) fn between(&self, first: i32, last: i32) -> Amount {
        let days = self.0.iter().filter(|(day, _)| (first..=last).contains(day));
        days.fold(Amount::ZERO, |sum, &(_, amount)| sum.saturating_add(amount))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        spilled_bytes(&self.0)
    }
}

/// What some holds come to: amounts by day, and what their ids are.
#[derive(Debug, Clone, Default)]
pub(super) struct Totals {
    pub sums: Sums,
    /// How many are a client's.
    pub clients: usize,
    /// How many have ids with an allocation of their own, and the bytes of these.
    pub long_ids: usize,
    pub long_id_bytes: usize,
}

impl Totals {
    pub(super) fn add(&mut self, hold: &Hold) {
        self.sums.add(hold.entry);
        self.clients += usize::from(hold.id.owner() == Owner::Client);
        if let Id::Long(_, bytes) = &hold.id {
            self.long_ids += 1;
            self.long_id_bytes += allocated_bytes(bytes.len());
        }
    }

    /// Takes out a hold that was added.
    pub(super) fn sub(&mut self, hold: &Hold) {
        self.sums.sub(hold.entry);
        self.clients -= usize::from(hold.id.owner() == Owner::Client);
        if let Id::Long(_, bytes) = &hold.id {
            self.long_ids -= 1;
            self.long_id_bytes -= allocated_bytes(bytes.len());
        }
    }

    /// Adds the ids of other holds.
    pub(super) fn add_ids(&mut self, other: &Totals) {
        self.clients += other.clients;
        self.long_ids += other.long_ids;
        self.long_id_bytes += other.long_id_bytes;
    }
}
