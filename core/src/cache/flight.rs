//! Single flight: of all callers that miss one key, one gets a fill lease and computes, and the others wait for it.
//!
//! A lease is not part of the data: one node keeps it in memory, and it is lost with that node. At worst the value is then
//! computed twice. A lease ends when its holder fills the key or gives the lease up, when its time is up, or when the key is
//! invalidated; unless the key was filled, the first caller that waits then gets the next lease.
//!
//! A holder proves its lease by a token, a random number: tokens of another node, or from before a restart or failover,
//! belong to no lease here, and nobody can guess one. A counter tells whether a lease was granted before or after a
//! clear.
//!
//! Times are those of a clock that never steps back.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::clears::{Clears, Kind};
use crate::{TIME_MAX_MS, UNITS_MAX};

/// The most leases at once. Beyond it, a client that misses gets none and computes alone.
pub const LEASES_MAX: usize = 1 << 14;

/// The most bytes of the names of all leased keys and holders together. Beyond it, a client that misses gets no lease,
/// either.
pub const NAMES_BYTES_MAX: usize = 64 << 20;

/// The longest name of a holder in bytes.
pub const HOLDER_BYTES_MAX: usize = 512;

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
    random: fn() -> u64,
    number_last: u64,
    arrival_last: u64,
}

#[derive(Debug)]
struct Lease<W, S> {
    grant: Grant,
    /// Whether it is in the list of void leases, even if it was renewed since.
    listed: bool,
    scope: S,
    /// The waiting clients by arrival.
    waiters: BTreeMap<u64, Waiter<W>>,
}

#[derive(Debug)]
struct Grant {
    /// The holder's token; [`VOID`] if there is no holder any more.
    token: u64,
    ends_at_ms: i64,
    /// Counts up over all grants and clears.
    number: u64,
    holder: Holder,
}

#[derive(Debug)]
struct Waiter<W> {
    client: W,
    /// The length of the lease that it wants, and the holder's name for it.
    lease_ms: u64,
    holder: Holder,
}

/// The name of one call, if the caller gave one.
type Holder = Option<Box<[u8]>>;

/// A token that no lease has.
const VOID: u64 = 0;

impl Grant {
    /// Milliseconds until it ends, `None` if it is over.
    fn left_ms(&self, now_ms: i64) -> Option<u64> {
        left_ms(self.ends_at_ms, now_ms).filter(|_| self.token != VOID)
    }

    fn holder_bytes(&self) -> usize {
        self.holder.as_ref().map_or(0, |holder| holder.len())
    }
}

/// A lease that a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// How long it is to last, from 1 to [`LEASE_MAX_MS`].
    pub lease_ms: u64,
    /// The call's own name, of at most [`HOLDER_BYTES_MAX`] bytes: under it the caller gets back what it already holds.
    pub holder: Option<&'a [u8]>,
}

/// The answer to a client that asks for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The client gets the lease: it computes the value and fills the key.
    Leader {
        /// The lease's token; 0 if there are too many leases, so that the client sets the key without one.
        token: u64,
    },
    /// The client has asked before, under the same holder's name, and gets the same lease.
    Again {
        /// The lease's token.
        token: u64,
        /// Milliseconds until it ends: asking again does not prolong it.
        left_ms: u64,
    },
    /// Another client has the lease.
    Held {
        /// Milliseconds until it ends.
        left_ms: u64,
    },
}

/// Callers whose wait is over because a lease has ended. The first leads, and comes with the token of its lease. The
/// others come with 0: they wait under the same holder's name, and get the same token when they ask again.
pub type Successors<W> = Vec<(W, u64)>;

/// A lease that is not over.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a, S> {
    number: u64,
    /// The category that its value belongs to.
    pub scope: &'a S,
}

impl<W, S> Flights<W, S> {
    /// No leases. `random` is a source of numbers that are not repeated, neither after a restart nor on another node.
    pub fn new(random: fn() -> u64) -> Self {
        Self {
            leases: HashMap::new(),
            names_bytes: 0,
            ends: BTreeMap::new(),
            void: Vec::new(),
            waiting: HashMap::new(),
            clears: Clears::new(CLEARED_NAMES_MAX),
            random,
            number_last: 0,
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
    pub fn ask(&mut self, key: (i32, &[u8]), wanted: Wanted, now_ms: i64, scope: impl FnOnce() -> S) -> LeaseAnswer {
        let place = (key.0, Arc::from(key.1));
        let (key_bytes, before) = match self.leases.get(&place) {
            Some(Lease { grant, .. }) => {
                if let Some(left_ms) = grant.left_ms(now_ms) {
                    let same = wanted.holder.is_some() && grant.holder.as_deref() == wanted.holder;
                    return if same {
                        LeaseAnswer::Again { token: grant.token, left_ms }
                    } else {
                        LeaseAnswer::Held { left_ms }
                    };
                }
                (0, grant.holder_bytes())
            }
            None if self.leases.len() >= LEASES_MAX => return LeaseAnswer::Leader { token: 0 },
            None => (key.1.len(), 0),
        };
        let names_bytes = self.names_bytes - before + key_bytes + wanted.holder.map_or(0, <[u8]>::len);
        if names_bytes > NAMES_BYTES_MAX {
            return LeaseAnswer::Leader { token: 0 };
        }
        self.names_bytes = names_bytes;
        let grant = self.grant(wanted.lease_ms, wanted.holder.map(Box::from), now_ms);
        let (token, end) = (grant.token, (grant.ends_at_ms, grant.number));
        match self.leases.get_mut(&place) {
            // The lease is over but has not been ended yet. Callers that wait go on waiting, now for the new holder.
            Some(lease) => {
                self.ends.remove(&(lease.grant.ends_at_ms, lease.grant.number));
                (lease.grant, lease.scope) = (grant, scope());
            }
            None => {
                let lease = Lease { grant, listed: false, scope: scope(), waiters: BTreeMap::new() };
                self.leases.insert(place.clone(), lease);
            }
        }
        self.ends.insert(end, place);
        LeaseAnswer::Leader { token }
    }

    /// Lets `client` wait for a key whose lease is [`LeaseAnswer::Held`]. If its turn to lead comes, it gets a lease as
    /// `wanted`.
    pub fn wait(&mut self, key: (i32, &[u8]), client: W, wanted: Wanted) {
        let place = (key.0, Arc::from(key.1));
        if let Some(lease) = self.leases.get_mut(&place) {
            self.arrival_last += 1;
            let waiter = Waiter { client, lease_ms: wanted.lease_ms, holder: wanted.holder.map(Box::from) };
            lease.waiters.insert(self.arrival_last, waiter);
            self.waiting.insert(client, (place, self.arrival_last));
        }
    }

    /// Forgets a client that no longer waits.
    pub fn gone(&mut self, client: W) {
        if let Some((place, arrival)) = self.waiting.remove(&client)
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

    /// The number of clients that wait.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    /// All clients that wait, in no order.
    pub fn waiting(&self) -> Vec<W> {
        self.waiting.keys().copied().collect()
    }

    /// The key's lease, if `token` is its token and it is not over.
    pub fn held(&self, key: (i32, &[u8]), token: u64, now_ms: i64) -> Option<Held<'_, S>> {
        let Lease { grant, scope, .. } = self.leases.get(&(key.0, Arc::from(key.1)))?;
        let held = grant.token == token && grant.left_ms(now_ms).is_some();
        held.then_some(Held { number: grant.number, scope })
    }

    /// Milliseconds until the key's lease ends, 0 if there is none.
    pub fn left_ms(&self, key: (i32, &[u8]), now_ms: i64) -> u64 {
        let lease = self.leases.get(&(key.0, Arc::from(key.1)));
        lease.and_then(|lease| lease.grant.left_ms(now_ms)).unwrap_or(0)
    }

    /// After a client has set the key: ends its lease, and returns all clients that wait for it.
    pub fn filled(&mut self, key: (i32, &[u8])) -> Vec<W> {
        let place = (key.0, Arc::from(key.1));
        let Some(Lease { grant, waiters, .. }) = self.leases.remove(&place) else { return Vec::new() };
        self.names_bytes -= key.1.len() + grant.holder_bytes();
        self.ends.remove(&(grant.ends_at_ms, grant.number));
        let clients: Vec<W> = waiters.into_values().map(|waiter| waiter.client).collect();
        for client in &clients {
            self.waiting.remove(client);
        }
        clients
    }

    /// Voids the key's lease: its holder has given it up, or the value that it computes was invalidated.
    pub fn revoked(&mut self, key: (i32, &[u8]), now_ms: i64) -> Successors<W> {
        self.hand_over(&(key.0, Arc::from(key.1)), now_ms)
    }

    /// Like [`Self::revoked`], for all leases that `is_meant`: their tokens are void at once, and [`Self::next_void`]
    /// then returns the clients that wait for them. Takes about a millisecond for [`LEASES_MAX`].
    pub fn revoked_where(&mut self, is_meant: impl Fn(i32, &[u8], &S) -> bool) {
        for (place, lease) in &mut self.leases {
            if lease.grant.token == VOID || !is_meant(place.0, &place.1, &lease.scope) {
                continue;
            }
            lease.grant.token = VOID;
            if !lease.listed {
                lease.listed = true;
                self.void.push(place.clone());
            }
        }
    }

    /// Remembers that all entries of a name were cleared. To be called even if there were none: values that are being
    /// computed may have that name.
    pub fn cleared(&mut self, kind: Kind, name: &[u8]) {
        if self.is_empty() {
            self.clears.forget();
        } else {
            let number = self.next_number();
            self.clears.add(kind, name, number);
        }
    }

    /// Whether the name was cleared since the lease was granted.
    pub fn cleared_since(&self, lease: &Held<S>, kind: Kind, name: &[u8]) -> bool {
        self.clears.since(lease.number, kind, name)
    }

    /// Ends the next lease that is void. `None` if there is none.
    pub fn next_void(&mut self, now_ms: i64) -> Option<Successors<W>> {
        let place = self.void.pop()?;
        let Some(lease) = self.leases.get_mut(&place) else { return Some(Vec::new()) };
        lease.listed = false;
        match lease.grant.token {
            VOID => Some(self.hand_over(&place, now_ms)),
            _ => Some(Vec::new()),
        }
    }

    /// Ends the first lease whose time is up. `None` if there is none.
    pub fn end_due(&mut self, now_ms: i64) -> Option<Successors<W>> {
        let ((ends_at_ms, _), place) = self.ends.first_key_value()?;
        if left_ms(*ends_at_ms, now_ms).is_some() {
            return None;
        }
        let place = place.clone();
        Some(self.hand_over(&place, now_ms))
    }

    /// Ends a lease. The first caller that waits gets the next one.
    fn hand_over(&mut self, place: &LeasedKey, now_ms: i64) -> Successors<W> {
        let Some(lease) = self.leases.get_mut(place) else { return Vec::new() };
        self.ends.remove(&(lease.grant.ends_at_ms, lease.grant.number));
        self.names_bytes -= lease.grant.holder_bytes();
        let Some((_, first)) = lease.waiters.pop_first() else {
            self.leases.remove(place);
            self.names_bytes -= place.1.len();
            return Vec::new();
        };
        let mut same = Vec::new();
        if first.holder.is_some() {
            lease.waiters.retain(|_, waiter| {
                let is_same = waiter.holder == first.holder;
                if is_same {
                    same.push(waiter.client);
                }
                !is_same
            });
        }
        let grant = self.grant(first.lease_ms, first.holder, now_ms);
        // Holders that have waited may exceed the bound on names, by at most one name for each lease.
        self.names_bytes += grant.holder_bytes();
        self.ends.insert((grant.ends_at_ms, grant.number), place.clone());
        let over = [(first.client, grant.token)].into_iter().chain(same.into_iter().map(|client| (client, VOID)));
        let over = over.inspect(|(client, _)| drop(self.waiting.remove(client))).collect();
        if let Some(lease) = self.leases.get_mut(place) {
            lease.grant = grant;
        }
        over
    }

    fn grant(&mut self, lease_ms: u64, holder: Holder, now_ms: i64) -> Grant {
        // From 1 to below UNITS_MAX, so that clients whose numbers are floats hold it exactly.
        let token = (self.random)() % (UNITS_MAX - 1) + 1;
        let ends_at_ms = now_ms.saturating_add_unsigned(lease_ms).min(TIME_MAX_MS);
        Grant { token, ends_at_ms, number: self.next_number(), holder }
    }

    fn next_number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }
}

/// Milliseconds from `now_ms` to `ends_at_ms`, `None` if that is not in the future.
fn left_ms(ends_at_ms: i64, now_ms: i64) -> Option<u64> {
    u64::try_from(ends_at_ms - now_ms).ok().filter(|&left_ms| left_ms > 0)
}

#[cfg(test)]
#[path = "flight_tests.rs"]
mod tests;
