//! Single flight: of all clients that miss one key, one gets a lease and computes the value, and the others wait for it.
//!
//! A lease is not part of the data: one node keeps it in memory, and it is lost with that node. At worst the value is then
//! computed twice. A lease ends when its holder fills the key, when its time is up, or when the key is invalidated; in the
//! last two cases the first client that waits gets the next lease.
//!
//! Times are those of a clock that never steps back.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::clears::{Clears, Kind};
use crate::{TIME_MAX_MS, UNITS_MAX};

/// The most leases at once. Beyond it, a client that misses gets none and computes alone.
pub const LEASES_MAX: usize = 1 << 14;

/// The most bytes in the names of all leased keys, to the same effect.
pub const NAMES_BYTES_MAX: usize = 64 << 20;

/// The most names whose last clear is remembered while there are leases. Leases that are older than a forgotten clear are
/// void.
const CLEARED_NAMES_MAX: usize = 4_096;

/// The longest lease, and the longest wait, in milliseconds: an hour.
pub const LEASE_MAX_MS: u64 = 3_600_000;

/// A database's number and a key's name.
pub type LeasedKey = (i32, Arc<[u8]>);

/// All leases. `W` is a waiting client, `S` what the lease's value belongs to: its category.
#[derive(Debug)]
pub struct Flights<W, S> {
    leases: HashMap<LeasedKey, Lease<W, S>>,
    names_bytes: usize,
    /// The leases' keys, by their ends and numbers.
    ends: BTreeMap<(i64, u64), LeasedKey>,
    /// The keys whose leases are void and whose waiters have not been told yet.
    void: Vec<LeasedKey>,
    /// The key that each client waits for, and its arrival.
    waiting: HashMap<W, (LeasedKey, u64)>,
    clears: Clears,
    token_last: u64,
    arrival_last: u64,
}

#[derive(Debug)]
struct Lease<W, S> {
    /// The holder's token; [`VOID`] if there is no holder any more.
    token: u64,
    ends_at_ms: i64,
    /// Its number in `ends`.
    number: u64,
    /// Whether it is in the list of void leases, even if it was renewed since.
    listed: bool,
    scope: S,
    /// The waiting clients by arrival, each with the length of the lease that it wants.
    waiters: BTreeMap<u64, (W, u64)>,
}

/// A token that no lease has.
const VOID: u64 = 0;

impl<W, S> Lease<W, S> {
    /// Milliseconds until it ends, `None` if it is over.
    fn left_ms(&self, now_ms: i64) -> Option<u64> {
        left_ms(self.ends_at_ms, now_ms).filter(|_| self.token != VOID)
    }
}

/// The answer to a client that asks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The client gets the lease: it computes the value and fills the key.
    Leader {
        /// The lease's token; 0 if there are too many leases, so that the client sets the key without one.
        token: u64,
    },
    /// Another client has the lease.
    Held {
        /// Milliseconds until it ends.
        left_ms: u64,
    },
}

/// The client that gets the next lease, and its token.
pub type Successor<W> = (W, u64);

impl<W, S> Flights<W, S> {
    /// No leases. Tokens count up from `token_first`: the time in microseconds, so that none comes twice, not even after a
    /// restart.
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
    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// When the first lease ends.
    pub fn next_end_ms(&self) -> Option<i64> {
        self.ends.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Asks for the lease of a key that has no fresh value.
    pub fn ask(&mut self, key: (i32, &[u8]), lease_ms: u64, now_ms: i64, scope: impl FnOnce() -> S) -> LeaseAnswer {
        let place = (key.0, Arc::from(key.1));
        if let Some(lease) = self.leases.get(&place) {
            if let Some(left_ms) = lease.left_ms(now_ms) {
                return LeaseAnswer::Held { left_ms };
            }
        } else if self.leases.len() >= LEASES_MAX || self.names_bytes + key.1.len() > NAMES_BYTES_MAX {
            return LeaseAnswer::Leader { token: 0 };
        }
        let token = self.next_token();
        let ends_at_ms = end_ms(now_ms, lease_ms);
        match self.leases.get_mut(&place) {
            // It is over and nobody has noticed yet: its waiters go on waiting for the next holder.
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
        LeaseAnswer::Leader { token }
    }

    /// Lets `waiter` wait for a key whose lease is [`LeaseAnswer::Held`]; its own lease, if it gets the next one, would last
    /// `lease_ms`.
    pub fn wait(&mut self, key: (i32, &[u8]), waiter: W, lease_ms: u64) {
        let place = (key.0, Arc::from(key.1));
        if let Some(lease) = self.leases.get_mut(&place) {
            self.arrival_last += 1;
            lease.waiters.insert(self.arrival_last, (waiter, lease_ms));
            self.waiting.insert(waiter, (place, self.arrival_last));
        }
    }

    /// Forgets a client that no longer waits.
    pub fn gone(&mut self, waiter: W) {
        if let Some((place, arrival)) = self.waiting.remove(&waiter)
            && let Some(lease) = self.leases.get_mut(&place)
        {
            lease.waiters.remove(&arrival);
        }
    }

    /// The keys that clients wait for. Takes less than a millisecond for [`LEASES_MAX`].
    pub fn waited_for(&self) -> Vec<LeasedKey> {
        let leases = self.leases.iter().filter(|(_, lease)| !lease.waiters.is_empty());
        leases.map(|(place, _)| place.clone()).collect()
    }

    /// Whether `token` is that of the key's lease, and the lease is not over.
    pub fn holds(&self, key: (i32, &[u8]), token: u64, now_ms: i64) -> bool {
        let lease = self.leases.get(&(key.0, Arc::from(key.1)));
        lease.is_some_and(|lease| lease.token == token && lease.left_ms(now_ms).is_some())
    }

    /// Milliseconds until the key's lease ends, 0 if there is none.
    pub fn left_ms(&self, key: (i32, &[u8]), now_ms: i64) -> u64 {
        let lease = self.leases.get(&(key.0, Arc::from(key.1)));
        lease.and_then(|lease| lease.left_ms(now_ms)).unwrap_or(0)
    }

    /// After a client has set the key: ends its lease, and returns all clients that wait for it.
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

    /// After the key was invalidated: ends its lease, so that the holder's token is worth nothing from now on. Returns the
    /// client that gets the next lease.
    pub fn revoked(&mut self, key: (i32, &[u8]), now_ms: i64) -> Option<Successor<W>> {
        self.hand_over(&(key.0, Arc::from(key.1)), now_ms)
    }

    /// As [`Self::revoked`], for all leases that `is_meant` selects. Their tokens are void at once; [`Self::next_void`] hands
    /// them over to waiting clients. Takes about a millisecond for [`LEASES_MAX`].
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

    /// After all entries of a name were cleared, even if there were none: values under computation may have that name.
    pub fn cleared(&mut self, kind: Kind, name: &[u8]) {
        if self.is_empty() {
            self.clears.forget();
        } else {
            let number = self.next_token();
            self.clears.add(kind, name, number);
        }
    }

    /// Whether the name was cleared since the token was given out.
    pub fn cleared_since(&self, token: u64, kind: Kind, name: &[u8]) -> bool {
        self.clears.since(token, kind, name)
    }

    /// Ends the next void lease: `None` if there is none, else the client that gets the next lease, if any waits.
    pub fn next_void(&mut self, now_ms: i64) -> Option<Option<Successor<W>>> {
        let place = self.void.pop()?;
        let Some(lease) = self.leases.get_mut(&place) else { return Some(None) };
        lease.listed = false;
        match lease.token {
            VOID => Some(self.hand_over(&place, now_ms)),
            _ => Some(None),
        }
    }

    /// Ends the first lease whose time is up: `None` if there is none, else the client that gets the next lease, if any waits.
    pub fn end_due(&mut self, now_ms: i64) -> Option<Option<Successor<W>>> {
        let ((ends_at_ms, _), place) = self.ends.first_key_value()?;
        if left_ms(*ends_at_ms, now_ms).is_some() {
            return None;
        }
        let place = place.clone();
        Some(self.hand_over(&place, now_ms))
    }

    fn hand_over(&mut self, place: &LeasedKey, now_ms: i64) -> Option<Successor<W>> {
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

/// Milliseconds from now until then, `None` if that is now or past.
fn left_ms(ends_at_ms: i64, now_ms: i64) -> Option<u64> {
    u64::try_from(ends_at_ms - now_ms).ok().filter(|&left_ms| left_ms > 0)
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
