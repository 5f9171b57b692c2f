//! The open holds of a ledger, by their ends and by their ids: a sorted list while they are few, else indexed
//! (docs/src/internals/decisions.md, "Leases: a list first, then an index").

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::hold::{Hold, Id, Owner, Totals};
use crate::chunks::{Item, Order};
use crate::indexed::{Indexed, Named};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::ordered::{count_but_last, count_first};

/// The longest list. Beyond it an index costs less than a search.
const LIST_MAX: usize = 64;

/// Holds that have not been taken out, expired ones included; the first to expire first, and of those that expire at the
/// same time, the first to be inserted.
#[derive(Debug, Clone)]
pub(super) enum Open {
    List(Vec<Hold>),
    Index(Box<Index>),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    holds: Indexed<Numbered>,
    /// The number of the next hold.
    next: u64,
}

/// A hold, with a number that keeps holds that expire at the same time in order.
#[derive(Debug, Clone)]
struct Numbered {
    hold: Hold,
    number: u64,
}

impl Item for Numbered {
    type Sum = Totals;

    fn order(&self) -> Order {
        (self.hold.expires_at_ms, self.number)
    }

    fn shift_back(&mut self, by_ms: i64) {
        self.hold.expires_at_ms -= by_ms;
    }

    fn add_to(&self, sum: &mut Totals) {
        sum.add(&self.hold);
    }

    fn sub_from(&self, sum: &mut Totals) {
        sum.sub(&self.hold);
    }
}

impl Named for Numbered {
    fn name(&self) -> (u8, &[u8]) {
        name(self.hold.id.owner(), self.hold.id.as_bytes())
    }
}

fn name(owner: Owner, id: &[u8]) -> (u8, &[u8]) {
    ((owner == Owner::Admission).into(), id)
}

impl Index {
    fn insert(&mut self, hold: Hold) {
        self.holds.insert(Numbered { hold, number: self.next });
        self.next += 1;
    }
}

impl Default for Open {
    fn default() -> Self {
        Open::List(Vec::new())
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Open {}

impl Open {
    pub(super) fn len(&self) -> usize {
        match self {
            Open::List(list) => list.len(),
            Open::Index(index) => index.holds.by_end().len(),
        }
    }

    pub(super) fn first(&self) -> Option<&Hold> {
        match self {
            Open::List(list) => list.first(),
            Open::Index(index) => index.holds.by_end().first().map(|it| &it.hold),
        }
    }

    pub(super) fn last(&self) -> Option<&Hold> {
        match self {
            Open::List(list) => list.last(),
            Open::Index(index) => index.holds.by_end().last().map(|it| &it.hold),
        }
    }

    pub(super) fn iter(&self) -> Box<dyn Iterator<Item = &Hold> + '_> {
        self.after(i64::MIN)
    }

    /// The holds that expire after `after_ms`.
    pub(super) fn after(&self, after_ms: i64) -> Box<dyn Iterator<Item = &Hold> + '_> {
        match self {
            Open::List(list) => Box::new(list.iter().skip_while(move |hold| hold.expires_at_ms <= after_ms)),
            Open::Index(index) => Box::new(index.holds.by_end().after(after_ms).map(|it| &it.hold)),
        }
    }

    /// How many holds have expired at `now_ms`.
    pub(super) fn expired(&self, now_ms: i64) -> usize {
        match self {
            Open::List(list) => count_first(list, |hold| hold.expires_at_ms <= now_ms),
            Open::Index(index) => index.holds.by_end().ended(now_ms),
        }
    }

    /// The sum of the holds that were made on a day from `first` to `last` and have expired at `now_ms`.
    pub(super) fn expired_sum(&self, now_ms: i64, first: i32, last: i32) -> Amount {
        let of_days = |hold: &&Hold| (first..=last).contains(&hold.entry.number());
        let add = |sum: Amount, hold: &Hold| sum.saturating_add(hold.entry.amount());
        match self {
            Open::List(list) => {
                let expired = list.iter().take_while(|hold| hold.expires_at_ms <= now_ms);
                expired.filter(of_days).fold(Amount::ZERO, add)
            }
            Open::Index(index) => {
                let (chunks, others) = index.holds.by_end().ended_sums(now_ms);
                let sums = chunks.map(|totals| totals.sums.between(first, last));
                let sum = sums.fold(Amount::ZERO, Amount::saturating_add);
                others.map(|it| &it.hold).filter(of_days).fold(sum, add)
            }
        }
    }

    pub(super) fn get(&self, owner: Owner, id: &[u8]) -> Option<&Hold> {
        match self {
            Open::List(list) => list.get(place(list, owner, id)?),
            Open::Index(index) => index.holds.get(name(owner, id)).map(|it| &it.hold),
        }
    }

    /// Adds a hold, whose id no other has.
    pub(super) fn insert(&mut self, hold: Hold) {
        match self {
            Open::List(list) if list.len() < LIST_MAX => {
                let at = count_but_last(list, |other| other.expires_at_ms <= hold.expires_at_ms);
                if list.len() == list.capacity() {
                    // The whole size class of the allocator for one more hold: at most a quarter larger.
                    let bytes = allocated_bytes((list.len() + 1) * size_of::<Hold>());
                    list.reserve_exact(bytes / size_of::<Hold>() - list.len());
                }
                list.insert(at, hold);
            }
            Open::List(list) => {
                let mut index = Index::default();
                std::mem::take(list).into_iter().for_each(|hold| index.insert(hold));
                index.insert(hold);
                *self = Open::Index(Box::new(index));
            }
            Open::Index(index) => index.insert(hold),
        }
    }

    /// Takes out the hold with this id.
    pub(super) fn remove(&mut self, owner: Owner, id: &[u8]) -> Option<Hold> {
        match self {
            Open::List(list) => place(list, owner, id).map(|place| list.remove(place)),
            Open::Index(index) => {
                let hold = index.holds.remove(name(owner, id))?.hold;
                self.shrink();
                Some(hold)
            }
        }
    }

    /// Takes out the hold that expires first, if it expires by `until_ms`.
    pub(super) fn take_first(&mut self, until_ms: i64) -> Option<Hold> {
        match self {
            Open::List(list) => {
                list.first().filter(|first| first.expires_at_ms <= until_ms)?;
                Some(list.remove(0))
            }
            Open::Index(index) => {
                let hold = index.holds.take_first(until_ms)?.hold;
                self.shrink();
                Some(hold)
            }
        }
    }

    /// Turns an index that has become small into a list, well below [`LIST_MAX`], so that the form does not change with
    /// every call; frees room of a list that is not used.
    pub(super) fn shrink(&mut self) {
        match self {
            Open::List(list) if list.len() < list.capacity() / 2 => list.shrink_to_fit(),
            Open::Index(index) if index.holds.by_end().len() <= LIST_MAX / 4 => {
                *self = Open::List(std::mem::take(&mut index.holds).into_items().map(|it| it.hold).collect());
            }
            _ => {}
        }
    }

    /// Lets all holds expire earlier.
    pub(super) fn shift_back(&mut self, by_ms: i64) {
        match self {
            Open::List(list) => list.iter_mut().for_each(|hold| hold.expires_at_ms -= by_ms),
            Open::Index(index) => index.holds.shift_back(by_ms),
        }
    }

    /// What all holds come to, but for their amounts.
    pub(super) fn ids(&self) -> Totals {
        let mut totals = Totals::default();
        match self {
            Open::List(list) => list.iter().for_each(|hold| totals.add(hold)),
            Open::Index(index) => index.holds.by_end().sums().for_each(|other| totals.add_ids(other)),
        }
        totals
    }

    /// Bytes allocated behind the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        let own = match self {
            Open::List(list) => allocated_bytes(list.capacity() * size_of::<Hold>()),
            Open::Index(index) => {
                let spilled: usize = index.holds.by_end().sums().map(|totals| totals.sums.memory_bytes()).sum();
                allocated_bytes(size_of::<Index>()) + index.holds.memory_bytes() + spilled
            }
        };
        own + self.ids().long_id_bytes
    }

    /// Allocations to free.
    pub(super) fn allocations(&self) -> usize {
        let own = match self {
            Open::List(_) => 1,
            // A chunk for up to 128 holds, a node of the names for some eight.
            Open::Index(index) => 2 + index.holds.by_end().len() / 6,
        };
        own + self.ids().long_ids
    }
}

/// The place of the hold with this id. Holds usually end in the order in which they began.
fn place(list: &[Hold], owner: Owner, id: &[u8]) -> Option<usize> {
    // Two short ids are compared in a few instructions, since their buffers have one length.
    let wanted = Id::new(owner, id);
    list.iter().position(|hold| hold.id == wanted)
}
