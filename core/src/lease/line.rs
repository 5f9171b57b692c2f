//! Who waits for a slot, in the order in which they came.
//!
//! The rule: of the holders that wait, the first to come whose own maximum allows one more gets the slot. Among holders with
//! the same maximum that is first come, first served. A holder with a larger maximum passes one whose maximum does not allow
//! a slot yet, and so takes nothing that the other could have had.
//!
//! Cost: O(log n) in the holders that wait, and O(1) for each different maximum among them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A place in the line: smaller is earlier.
pub type Number = u64;

/// A holder's place, and the clients `C` that wait for the outcome: usually one. A holder has one place, however often it
/// asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<C> {
    /// The holder that wants a slot: 1 to 512 bytes.
    pub holder: Arc<[u8]>,
    /// The most slots in use with this holder's, as of the last time it asked.
    pub max: u64,
    /// How long it wants its own, in milliseconds, as of the last time it asked.
    pub ttl_ms: u64,
    /// The clients that wait for the outcome.
    pub clients: Vec<C>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Line<C> {
    places: BTreeMap<Number, Place<C>>,
    by_max: BTreeMap<u64, BTreeSet<Number>>,
    by_holder: HashMap<Arc<[u8]>, Number>,
    last: Number,
}

impl<C> Default for Line<C> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), by_max: BTreeMap::new(), by_holder: HashMap::new(), last: 0 }
    }
}

impl<C: PartialEq> Line<C> {
    /// Lets `client` wait for `holder`'s slot. A holder that waits already keeps its place, and both clients get the outcome.
    pub fn join(&mut self, holder: &[u8], max: u64, ttl_ms: u64, client: C) -> Number {
        if let Some(&number) = self.by_holder.get(holder)
            && let Some(place) = self.places.get_mut(&number)
        {
            let former_max = std::mem::replace(&mut place.max, max);
            place.ttl_ms = ttl_ms;
            place.clients.push(client);
            self.remove_max(former_max, number);
            self.by_max.entry(max).or_default().insert(number);
            return number;
        }
        self.last += 1;
        let holder: Arc<[u8]> = holder.into();
        self.by_holder.insert(Arc::clone(&holder), self.last);
        self.by_max.entry(max).or_default().insert(self.last);
        self.places.insert(self.last, Place { holder, max, ttl_ms, clients: vec![client] });
        self.last
    }

    /// A client no longer waits. The place goes with its last client.
    pub fn leave(&mut self, number: Number, client: &C) {
        let Some(place) = self.places.get_mut(&number) else { return };
        place.clients.retain(|other| other != client);
        if place.clients.is_empty() {
            self.take(number);
        }
    }

    /// The place to be served next if `in_use` slots are taken.
    pub fn first(&self, in_use: u64) -> Option<Number> {
        let allowed = self.by_max.range(in_use.checked_add(1)?..);
        allowed.filter_map(|(_, numbers)| numbers.first().copied()).min()
    }

    /// The place of a holder.
    pub fn place_of(&self, holder: &[u8]) -> Option<Number> {
        self.by_holder.get(holder).copied()
    }

    /// Takes a place out of the line.
    pub fn take(&mut self, number: Number) -> Option<Place<C>> {
        let place = self.places.remove(&number)?;
        self.by_holder.remove(&place.holder);
        self.remove_max(place.max, number);
        Some(place)
    }

    /// The largest maximum: its holders are the first that a slot which ends can serve.
    pub fn max(&self) -> Option<u64> {
        self.by_max.last_key_value().map(|(&max, _)| max)
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All places, the first to come first.
    pub fn into_places(self) -> impl Iterator<Item = Place<C>> {
        self.places.into_values()
    }

    fn remove_max(&mut self, max: u64, number: Number) {
        if let Some(numbers) = self.by_max.get_mut(&max) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_max.remove(&max);
            }
        }
    }
}
