//! The lists of a node: one of refusals, and one for each meter.

use super::horizons::{By, Horizons, Row};
use super::name::Name;
use crate::admission::{REQUESTS, USD};
use crate::memory::allocated_bytes;

/// The most meters that have lists.
pub const METERS_MAX: usize = 8;

/// The meters that always get a list: those that commands count without naming them. Clients choose the names of the others.
pub const COUNTED_METERS: [&[u8]; 3] = [REQUESTS, TOKENS, USD];

/// The meter of token buckets that do not belong to an account.
pub const TOKENS: &[u8] = b"tokens";

/// The heaviest keys of a node: those that were refused most, and those that used most of each meter. It takes no memory
/// for what was never counted.
#[derive(Debug)]
pub struct Top {
    keys: usize,
    seed: u64,
    denied: Option<Box<Horizons>>,
    meters: Vec<(Box<[u8]>, Horizons)>,
}

/// What has become of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It was added.
    Added,
    /// It was added, and [`Top::memory_bytes`] has changed before.
    Resized,
    /// It was not: there are [`METERS_MAX`] meters already.
    NoRoom,
}

impl Counted {
    fn after(has_resized: bool) -> Self {
        if has_resized { Self::Resized } else { Self::Added }
    }
}

impl Top {
    /// Lists that are sure of `keys` keys each: see [`Horizons::new`]. `seed` is a random number: see [`Name`].
    pub fn new(keys: usize, seed: u64) -> Self {
        Self { keys, seed, denied: None, meters: Vec::new() }
    }

    /// A key's name.
    #[inline]
    pub fn name<'a>(&self, key: &'a [u8]) -> Name<'a> {
        Name::new(self.seed, key)
    }

    /// Counts a refusal of a key, labelled with what has refused it.
    pub fn deny(&mut self, now_ms: i64, name: &Name) -> Counted {
        let is_new = self.denied.is_none();
        let denied = self.denied.get_or_insert_with(|| Box::new(Horizons::new(now_ms, self.keys)));
        Counted::after(denied.add(now_ms, name, 1) || is_new)
    }

    /// Counts what a key has used of a meter.
    #[inline]
    pub fn charge(&mut self, now_ms: i64, meter: &[u8], name: &Name, weight: u128) -> Counted {
        match self.meters.iter_mut().find(|(known, _)| **known == *meter) {
            Some((_, list)) => Counted::after(list.add(now_ms, name, weight)),
            None => self.charge_new(now_ms, meter, name, weight),
        }
    }

    #[cold]
    fn charge_new(&mut self, now_ms: i64, meter: &[u8], name: &Name, weight: u128) -> Counted {
        let is_other = |meter: &[u8]| !COUNTED_METERS.contains(&meter);
        let others = self.meters.iter().filter(|(known, _)| is_other(known)).count();
        if is_other(meter) && others >= METERS_MAX - COUNTED_METERS.len() {
            // A meter that was not used for an hour makes room.
            let unused = self.meters.iter_mut().position(|(known, list)| {
                is_other(known) && {
                    list.advance(now_ms);
                    list.is_empty()
                }
            });
            match unused {
                Some(place) => drop(self.meters.swap_remove(place)),
                None => return Counted::NoRoom,
            }
        }
        let mut list = Horizons::new(now_ms, self.keys);
        list.add(now_ms, name, weight);
        self.meters.push((meter.into(), list));
        Counted::Resized
    }

    /// The `count` keys with most refusals.
    pub fn denied(&mut self, now_ms: i64, by: By, count: usize) -> Vec<Row> {
        self.denied.as_mut().map(|list| list.heaviest(now_ms, by, count)).unwrap_or_default()
    }

    /// The `count` keys that used most of a meter.
    pub fn of_meter(&mut self, now_ms: i64, meter: &[u8], by: By, count: usize) -> Vec<Row> {
        let list = self.meters.iter_mut().find(|(known, _)| **known == *meter);
        list.map(|(_, list)| list.heaviest(now_ms, by, count)).unwrap_or_default()
    }

    /// The allocated memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        let denied = self.denied.as_ref().map_or(0, |list| allocated_bytes(size_of::<Horizons>()) + list.memory_bytes());
        let meters = self.meters.iter().map(|(name, list)| allocated_bytes(name.len()) + list.memory_bytes());
        denied + meters.sum::<usize>() + allocated_bytes(self.meters.capacity() * size_of::<(Box<[u8]>, Horizons)>())
    }
}
