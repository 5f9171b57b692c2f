//! The lists of a node: one of refusals, and one for each meter.

use super::horizons::{By, Horizons, Row};
use super::name::Name;
use crate::memory::allocated_bytes;

/// The most meters with names of their own that have lists. Clients choose these names.
pub const OTHERS_MAX: usize = 5;

/// A meter. Those that commands count without naming them always have a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meter<'a> {
    /// `requests`
    Requests,
    /// `tokens`
    Tokens,
    /// `usd`
    Usd,
    /// Any other.
    Other(&'a [u8]),
}

impl<'a> Meter<'a> {
    /// The meter of that name.
    #[inline]
    pub fn of(name: &'a [u8]) -> Self {
        match name {
            b"requests" => Self::Requests,
            b"tokens" => Self::Tokens,
            b"usd" => Self::Usd,
            other => Self::Other(other),
        }
    }

    /// Its place among the lists of the usual meters, or its name.
    #[inline]
    fn place(self) -> Result<usize, &'a [u8]> {
        match self {
            Self::Requests => Ok(0),
            Self::Tokens => Ok(1),
            Self::Usd => Ok(2),
            Self::Other(name) => Err(name),
        }
    }
}

/// The heaviest keys of a node: those that were refused most, and those that used most of each meter. It takes no memory
/// for what was never counted.
#[derive(Debug)]
pub struct Top {
    keys: usize,
    seed: u64,
    denied: Option<Horizons>,
    usual: [Option<Horizons>; 3],
    others: Vec<(Box<[u8]>, Horizons)>,
}

/// What has become of an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charged {
    /// It was added.
    Added,
    /// It was not: there are [`OTHERS_MAX`] other meters already.
    NoRoom,
}

impl Top {
    /// Lists that are sure of `keys` keys each: see [`Horizons::new`]. `seed` is a random number: see [`Name`].
    pub fn new(keys: usize, seed: u64) -> Self {
        Self { keys, seed, denied: None, usual: [None, None, None], others: Vec::new() }
    }

    /// A key's name.
    #[inline]
    pub fn name<'a>(&self, key: &'a [u8]) -> Name<'a> {
        Name::new(self.seed, key)
    }

    /// Counts a refusal of a key, labelled with what has refused it.
    #[inline]
    pub fn deny(&mut self, now_ms: i64, name: &Name) {
        self.denied.get_or_insert_with(|| Horizons::new(now_ms, self.keys)).add(now_ms, name, 1);
    }

    /// Counts what a key has used of a meter. Inlined by force, like [`Horizons::add`]: callers know the meter.
    #[inline(always)]
    pub fn charge(&mut self, now_ms: i64, meter: Meter, name: &Name, weight: u128) -> Charged {
        match meter.place() {
            Ok(place) => {
                if let Some(list) = self.usual.get_mut(place) {
                    list.get_or_insert_with(|| Horizons::new(now_ms, self.keys)).add(now_ms, name, weight);
                }
                Charged::Added
            }
            Err(other) => self.charge_other(now_ms, other, name, weight),
        }
    }

    #[inline(never)]
    fn charge_other(&mut self, now_ms: i64, meter: &[u8], name: &Name, weight: u128) -> Charged {
        if let Some((_, list)) = self.others.iter_mut().find(|(known, _)| **known == *meter) {
            list.add(now_ms, name, weight);
        } else if self.others.len() < OTHERS_MAX || self.drop_unused(now_ms) {
            let mut list = Horizons::new(now_ms, self.keys);
            list.add(now_ms, name, weight);
            self.others.push((meter.into(), list));
        } else {
            return Charged::NoRoom;
        }
        Charged::Added
    }

    /// Drops the list of a meter with a name of its own that was not used for an hour. Returns whether there was one.
    fn drop_unused(&mut self, now_ms: i64) -> bool {
        let is_unused = |(_, list): &mut (Box<[u8]>, Horizons)| {
            list.advance(now_ms);
            list.is_empty()
        };
        let unused = self.others.iter_mut().position(is_unused);
        unused.map(|place| self.others.swap_remove(place)).is_some()
    }

    /// The `count` keys with most refusals.
    pub fn denied(&mut self, now_ms: i64, by: By, count: usize) -> Vec<Row> {
        self.denied.as_mut().map(|list| list.heaviest(now_ms, by, count)).unwrap_or_default()
    }

    /// The `count` keys that used most of a meter.
    pub fn of_meter(&mut self, now_ms: i64, meter: Meter, by: By, count: usize) -> Vec<Row> {
        let list = match meter.place() {
            Ok(place) => self.usual.get_mut(place).and_then(Option::as_mut),
            Err(other) => self.others.iter_mut().find(|(known, _)| **known == *other).map(|(_, list)| list),
        };
        list.map(|list| list.heaviest(now_ms, by, count)).unwrap_or_default()
    }

    /// The allocated memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        let lists =
            self.denied.iter().chain(self.usual.iter().flatten()).chain(self.others.iter().map(|(_, list)| list));
        let names = self.others.iter().map(|(name, _)| allocated_bytes(name.len()));
        lists.map(Horizons::memory_bytes).sum::<usize>()
            + names.sum::<usize>()
            + allocated_bytes(self.others.capacity() * size_of::<(Box<[u8]>, Horizons)>())
    }
}
