//! Single flight: of all who miss one key, one gets a lease and computes, and the others wait for it.
//!
//! A lease is not part of the data: it is one node's memory, and lost with it. The worst that follows is a second
//! computation. It ends when its holder fills the key, when its time is up, or when what it would have filled is
//! invalidated; in the last two cases the first who waits gets the next lease.
//!
//! Time is that of a clock that never steps back: a lease is for a while, not until a date.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::clears::{Clears, Kind};
use crate::{TIME_MAX_MS, UNITS_MAX};

/// Leases at once. Beyond, a miss gets none, and computes alone.
pub const LEASES_MAX: usize = 1 << 14;

/// Bytes of the names of all keys that are leased. Beyond, as well.
pub const NAMES_BYTES_MAX: usize = 64 << 20;

/// Names whose last clear is known while there are leases. Beyond, leases from before one that is known no more are void.
const CLEARED_NAMES_MAX: usize = 4_096;

/// The longest lease, and the longest wait, in milliseconds: an hour.
pub const LEASE_MAX_MS: u64 = 3_600_000;

/// A database's number and a key's name.
pub type Place = (i32, Arc<[u8]>);

/// All leases. `W` is a waiting client, `S` what the lease's value belongs to (its category).
#[derive(Debug)]
pub struct Flights<W, S> {
    leases: HashMap<Place, Lease<W, S>>,
    names_bytes: usize,
    /// By the time when it ends and its number.
    ends: BTreeMap<(i64, u64), Place>,
    /// Where leases are void and those who wait have not been told yet.
    void: Vec<Place>,
    /// Where each waits.
    waiting: HashMap<W, (Place, u64)>,
    clears: Clears,
    token_last: u64,
    arrival_last: u64,
}

#[derive(Debug)]
struct Lease<W, S> {
    /// What its holder has to show; [`VOID`] where nobody holds it any more.
    token: u64,
    ends_at_ms: i64,
    /// As it stands in `ends`.
    number: u64,
    /// Whether it stands in the list of void leases, void or renewed since.
    listed: bool,
    scope: S,
    /// By arrival: who waits, and how long a lease they want.
    waiters: BTreeMap<u64, (W, u64)>,
}

/// No lease's token.
const VOID: u64 = 0;

impl<W, S> Lease<W, S> {
    /// How long it lasts yet, `None` where it is over.
    fn left_ms(&self, now_ms: i64) -> Option<u64> {
        left_ms(self.ends_at_ms, now_ms).filter(|_| self.token != VOID)
    }
}

/// What asking for a lease came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The lease, by its token: compute, and fill. 0 where there are too many already: compute, and just set.
    Leader { token: u64 },
    /// Somebody else has it, for so long yet.
    Held { left_ms: u64 },
}

/// Who gets the next lease, and its token.
pub type Successor<W> = (W, u64);

impl<W, S> Flights<W, S> {
    /// Tokens go up from `token_first`: the time in microseconds, so that none comes twice, not even after a restart.
    pub fn new(token_first: u64) -> Self {
        Self {
            leases: HashMap::new(),
            names_bytes: 0,
            ends: BTreeMap::new(),
            void: Vec::new(),
            waiting: HashMap::new(),
            clears: Clears::new(CLEARED_NAMES_MAX),
            token_last: token_first.min(UNITS_MAX),
            arrival_last: 0,
        }
    }
}

impl<W: Copy + Eq + Hash, S> Flights<W, S> {
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// When the first lease ends.
    pub fn next_end_ms(&self) -> Option<i64> {
        self.ends.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Asks for the lease of a key that has no fresh value.
    pub fn ask(&mut self, key: (i32, &[u8]), lease_ms: u64, now_ms: i64, scope: impl FnOnce() -> S) -> Asked {
        let place = (key.0, Arc::from(key.1));
        if let Some(lease) = self.leases.get(&place) {
            if let Some(left_ms) = lease.left_ms(now_ms) {
                return Asked::Held { left_ms };
            }
        } else if self.leases.len() >= LEASES_MAX || self.names_bytes + key.1.len() > NAMES_BYTES_MAX {
            return Asked::Leader { token: 0 };
        }
        let token = self.next_token();
        let ends_at_ms = end_ms(now_ms, lease_ms);
        match self.leases.get_mut(&place) {
            // It is over and nobody has noticed yet: who waits goes on waiting, for the next holder.
            Some(lease) => {
                self.ends.remove(&(lease.ends_at_ms, lease.number));
                (lease.token, lease.number, lease.ends_at_ms, lease.scope) = (token, token, ends_at_ms, scope());
            }
            None => {
                let (scope, waiters) = (scope(), BTreeMap::new());
                let lease = Lease { token, ends_at_ms, number: token, listed: false, scope, waiters };
                self.leases.insert(place.clone(), lease);
                self.names_bytes += key.1.len();
            }
        }
        self.ends.insert((ends_at_ms, token), place);
        Asked::Leader { token }
    }

    /// Lets `waiter` wait for a key whose lease is [`Asked::Held`]; its turn to lead would be for `lease_ms`.
    pub fn wait(&mut self, key: (i32, &[u8]), waiter: W, lease_ms: u64) {
        let place = (key.0, Arc::from(key.1));
        if let Some(lease) = self.leases.get_mut(&place) {
            self.arrival_last += 1;
            lease.waiters.insert(self.arrival_last, (waiter, lease_ms));
            self.waiting.insert(waiter, (place, self.arrival_last));
        }
    }

    /// Forgets one who no longer waits.
    pub fn gone(&mut self, waiter: W) {
        if let Some((place, arrival)) = self.waiting.remove(&waiter) {
            if let Some(lease) = self.leases.get_mut(&place) {
                lease.waiters.remove(&arrival);
            }
        }
    }

    /// Keys that somebody waits for. Takes less than a millisecond for [`LEASES_MAX`].
    pub fn waited_for(&self) -> Vec<Place> {
        let leases = self.leases.iter().filter(|(_, lease)| !lease.waiters.is_empty());
        leases.map(|(place, _)| place.clone()).collect()
    }

    /// Is `token` that of the key's lease, and the lease not over?
    pub fn holds(&self, key: (i32, &[u8]), token: u64, now_ms: i64) -> bool {
        let lease = self.leases.get(&(key.0, Arc::from(key.1)));
        lease.is_some_and(|lease| lease.token == token && lease.left_ms(now_ms).is_some())
    }

    /// How long the key's lease lasts yet, 0 where there is none.
    pub fn left_ms(&self, key: (i32, &[u8]), now_ms: i64) -> u64 {
        let lease = self.leases.get(&(key.0, Arc::from(key.1)));
        lease.and_then(|lease| lease.left_ms(now_ms)).unwrap_or(0)
    }

    /// The key has a value now, whoever set it: ends its lease, and gives all who wait for it.
    pub fn filled(&mut self, key: (i32, &[u8])) -> Vec<W> {
        let place = (key.0, Arc::from(key.1));
        let Some(lease) = self.leases.remove(&place) else { return Vec::new() };
        self.names_bytes -= key.1.len();
        self.ends.remove(&(lease.ends_at_ms, lease.number));
        let waiters: Vec<W> = lease.waiters.into_values().map(|(waiter, _)| waiter).collect();
        for waiter in &waiters {
            self.waiting.remove(waiter);
        }
        waiters
    }

    /// What the key's lease was taken for is no longer wanted as it was: its holder's token is worth nothing from now on.
    pub fn revoked(&mut self, key: (i32, &[u8]), now_ms: i64) -> Option<Successor<W>> {
        self.hand_over(&(key.0, Arc::from(key.1)), now_ms)
    }

    /// As [`Self::revoked`], of all leases that are meant: at once for their holders. Those who wait hear of it from
    /// [`Self::next_void`]. Takes about a millisecond for [`LEASES_MAX`].
    pub fn revoked_where(&mut self, is_meant: impl Fn(i32, &[u8], &S) -> bool) {
        for (place, lease) in &mut self.leases {
            if lease.token == VOID || !is_meant(place.0, &place.1, &lease.scope) {
                continue;
            }
            lease.token = VOID;
            if !lease.listed {
                lease.listed = true;
                self.void.push(place.clone());
            }
        }
    }

    /// All entries of that name were cleared, also where there were none: what is being computed may come with it.
    pub fn cleared(&mut self, kind: Kind, name: &[u8]) {
        if self.is_empty() {
            self.clears.forget();
        } else {
            let number = self.next_token();
            self.clears.add(kind, name, number);
        }
    }

    /// Has the name been cleared since the token was given out?
    pub fn cleared_since(&self, token: u64, kind: Kind, name: &[u8]) -> bool {
        self.clears.since(token, kind, name)
    }

    /// Ends the next lease that is void: `None` where there is none, and then who gets the next one, if anybody waits.
    pub fn next_void(&mut self, now_ms: i64) -> Option<Option<Successor<W>>> {
        let place = self.void.pop()?;
        let Some(lease) = self.leases.get_mut(&place) else { return Some(None) };
        lease.listed = false;
        match lease.token {
            VOID => Some(self.hand_over(&place, now_ms)),
            _ => Some(None),
        }
    }

    /// Ends the first lease whose time is up: `None` where there is none, and then who gets the next one, if anybody waits.
    pub fn end_due(&mut self, now_ms: i64) -> Option<Option<Successor<W>>> {
        let ((ends_at_ms, _), place) = self.ends.first_key_value()?;
        if left_ms(*ends_at_ms, now_ms).is_some() {
            return None;
        }
        let place = place.clone();
        Some(self.hand_over(&place, now_ms))
    }

    fn hand_over(&mut self, place: &Place, now_ms: i64) -> Option<Successor<W>> {
        let token = self.next_token();
        let lease = self.leases.get_mut(place)?;
        self.ends.remove(&(lease.ends_at_ms, lease.number));
        match lease.waiters.pop_first() {
            Some((_, (waiter, lease_ms))) => {
                self.waiting.remove(&waiter);
                (lease.token, lease.number, lease.ends_at_ms) = (token, token, end_ms(now_ms, lease_ms));
                self.ends.insert((lease.ends_at_ms, token), place.clone());
                Some((waiter, token))
            }
            None => {
                self.leases.remove(place);
                self.names_bytes -= place.1.len();
                None
            }
        }
    }

    fn next_token(&mut self) -> u64 {
        self.token_last += 1;
        self.token_last
    }
}

fn end_ms(now_ms: i64, lease_ms: u64) -> i64 {
    now_ms.saturating_add_unsigned(lease_ms).min(TIME_MAX_MS)
}

/// How long until then, `None` where that is now or past.
fn left_ms(ends_at_ms: i64, now_ms: i64) -> Option<u64> {
    u64::try_from(ends_at_ms - now_ms).ok().filter(|&left_ms| left_ms > 0)
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
