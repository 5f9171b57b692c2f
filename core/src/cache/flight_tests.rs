use super::*;
use crate::cache::{Life, State};
use std::cell::Cell;
use std::collections::HashSet;

/// splitmix64 (Steele, Lea and Flood, <https://doi.org/10.1145/2660193.2660195>): no number comes twice.
fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn lease(lease_ms: u64) -> Wanted<'static> {
    Wanted { lease_ms, holder: None }
}

fn of(holder: &'static str, lease_ms: u64) -> Wanted<'static> {
    Wanted { lease_ms, holder: Some(holder.as_bytes()) }
}

fn token_of(asked: LeaseAnswer) -> u64 {
    match asked {
        LeaseAnswer::Leader { token } if token != 0 => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_leads_and_the_others_wait() {
    let mut flights = Flights::new(random);
    let first = token_of(flights.ask((0, b"k"), lease(50), 1_000, || ()));
    assert_eq!(flights.ask((0, b"k"), lease(50), 1_020, || ()), LeaseAnswer::Held { left_ms: 30 });
    let elsewhere = token_of(flights.ask((1, b"k"), lease(50), 1_020, || ()));
    assert_ne!(first, elsewhere);
    for client in ['a', 'b', 'c'] {
        flights.wait((0, b"k"), client, lease(70));
    }
    flights.gone('a');
    assert_eq!(flights.end_due(1_049), None);
    // The holder is late: the first that still waits leads.
    let successors = flights.end_due(1_050).unwrap();
    let [('b', second)] = successors[..] else { panic!("{successors:?}") };
    assert!(flights.held((0, b"k"), first, 1_050).is_none() && flights.held((0, b"k"), second, 1_119).is_some());
    assert_eq!(flights.filled((0, b"k")), ['c']);
    assert!(flights.held((0, b"k"), second, 1_060).is_none());
    assert_eq!(flights.next_end_ms(), Some(1_070));
    assert_eq!((flights.end_due(1_070), flights.end_due(1_070)), (Some(Vec::new()), None));
    assert!(flights.is_empty());
}

#[test]
fn a_call_that_asks_again_gets_its_own_lease_for_the_rest_of_its_time() {
    let mut flights = Flights::new(random);
    let token = token_of(flights.ask((0, b"k"), of("call", 50), 1_000, || ()));
    assert_eq!(flights.ask((0, b"k"), of("call", 500), 1_020, || ()), LeaseAnswer::Again { token, left_ms: 30 });
    for other in [of("cal", 50), of("calls", 50), lease(50)] {
        assert_eq!(flights.ask((0, b"k"), other, 1_020, || ()), LeaseAnswer::Held { left_ms: 30 });
    }
    // A waiting call that asked twice is one call: both get the token, the second by asking again.
    for (client, wanted) in [('a', of("next", 70)), ('b', lease(70)), ('c', of("next", 80))] {
        flights.wait((0, b"k"), client, wanted);
    }
    let successors = flights.revoked((0, b"k"), 1_030);
    let [('a', next), ('c', VOID)] = successors[..] else { panic!("{successors:?}") };
    assert_eq!(flights.ask((0, b"k"), of("next", 80), 1_031, || ()), LeaseAnswer::Again { token: next, left_ms: 69 });
    // The name of a lease that is over, or of none, means nothing.
    assert_eq!(flights.ask((0, b"k"), of("call", 50), 1_031, || ()), LeaseAnswer::Held { left_ms: 69 });
    assert_eq!(flights.filled((0, b"k")), ['b']);
    assert_ne!(token_of(flights.ask((0, b"k"), of("next", 50), 1_032, || ())), next);
    let unnamed = token_of(flights.ask((0, b"other"), lease(50), 1_032, || ()));
    assert_eq!(flights.ask((0, b"other"), lease(50), 1_033, || ()), LeaseAnswer::Held { left_ms: 49 }, "{unnamed}");
    while flights.end_due(2_000).is_some() {}
    assert_eq!((flights.len(), flights.names_bytes), (0, 0));
}

#[test]
fn leases_are_bounded() {
    let mut flights = Flights::<char, ()>::new(random);
    for key in 0..LEASES_MAX as u64 {
        assert_ne!(flights.ask((0, &key.to_be_bytes()), lease(10), 0, || ()), LeaseAnswer::Leader { token: 0 });
    }
    assert_eq!(flights.ask((0, b"one more"), lease(10), 0, || ()), LeaseAnswer::Leader { token: 0 });
    while flights.end_due(10).is_some() {}
    assert!(flights.is_empty());

    // And so are the names that they keep.
    let name = vec![b'n'; NAMES_BYTES_MAX / 2 - 2];
    assert_ne!(flights.ask((0, &name), of("h1", 10), 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_eq!(flights.ask((1, &name), of("too long", 10), 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_ne!(flights.ask((1, &name), of("h2", 10), 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_eq!(flights.ask((2, b"k"), lease(10), 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_eq!(flights.ask((1, &name), lease(10), 20, || ()), LeaseAnswer::Held { left_ms: 10 });
    flights.filled((0, &name));
    assert_ne!(flights.ask((2, b"k"), lease(10), 20, || ()), LeaseAnswer::Leader { token: 0 });
    while flights.end_due(30).is_some() {}
    assert_eq!((flights.len(), flights.names_bytes), (0, 0));
}

#[test]
fn a_clear_hits_what_was_being_computed_then() {
    let mut flights = Flights::<char, ()>::new(random);
    let cleared_since = |flights: &Flights<char, ()>, key: &[u8], token, kind| {
        let held = flights.held((0, key), token, 0).unwrap();
        flights.cleared_since(&held, kind, b"t")
    };
    // Nobody is computing.
    flights.cleared(Kind::Tag, b"t");
    let first = token_of(flights.ask((0, b"k"), lease(50), 0, || ()));
    assert!(!cleared_since(&flights, b"k", first, Kind::Tag));
    flights.cleared(Kind::Tag, b"t");
    let second = token_of(flights.ask((0, b"other"), lease(50), 0, || ()));
    assert!(cleared_since(&flights, b"k", first, Kind::Tag) && !cleared_since(&flights, b"other", second, Kind::Tag));
    assert!(!cleared_since(&flights, b"k", first, Kind::Category));
}

/// The names of calls in the model.
const HOLDERS: [Option<&str>; 4] = [None, Some("x"), Some("y"), Some("z")];

/// A lease of the naive model.
#[derive(Clone, Copy)]
struct Leased {
    key: u8,
    token: u64,
    end_ms: i64,
    holder: Option<&'static str>,
    /// Clears, by key modulo 3, that came after it was granted.
    cleared: [bool; 3],
}

/// A waiting client of the naive model.
#[derive(Clone, Copy)]
struct Waiting {
    key: u8,
    client: u32,
    lease_ms: u64,
    holder: Option<&'static str>,
}

/// Everything by linear search: who holds what until when, and who waits in which order. Tokens are learned from what is
/// tested: any will do that was never seen before.
#[derive(Default)]
struct Naive {
    tokens: HashSet<u64>,
    leases: Vec<Leased>,
    waiters: Vec<Waiting>,
}

impl Naive {
    fn live(&self, key: u8, now_ms: i64) -> Option<&Leased> {
        self.leases.iter().find(|lease| lease.key == key && lease.token != VOID && lease.end_ms > now_ms)
    }

    fn grant(&mut self, key: u8, token: u64, lease_ms: u64, holder: Option<&'static str>, now_ms: i64) {
        assert!((1..UNITS_MAX).contains(&token) && self.tokens.insert(token), "{token}");
        self.leases.retain(|lease| lease.key != key);
        self.leases.push(Leased { key, token, end_ms: now_ms + lease_ms as i64, holder, cleared: [false; 3] });
    }

    fn asked(&mut self, key: u8, lease_ms: u64, holder: Option<&'static str>, now_ms: i64, asked: LeaseAnswer) {
        match (self.live(key, now_ms).copied(), asked) {
            (Some(lease), LeaseAnswer::Again { token, left_ms }) => {
                assert!(holder.is_some() && holder == lease.holder && token == lease.token);
                assert_eq!(left_ms as i64, lease.end_ms - now_ms);
            }
            (Some(lease), LeaseAnswer::Held { left_ms }) => {
                assert!(holder.is_none() || holder != lease.holder);
                assert_eq!(left_ms as i64, lease.end_ms - now_ms);
            }
            (None, LeaseAnswer::Leader { token }) => self.grant(key, token, lease_ms, holder, now_ms),
            (live, asked) => panic!("{asked:?} with {:?}", live.map(|lease| lease.token)),
        }
    }

    /// A lease ends without a value.
    fn ended(&mut self, key: u8, now_ms: i64, successors: &[(u32, u64)]) {
        assert!(self.leases.iter().any(|lease| lease.key == key));
        self.leases.retain(|lease| lease.key != key);
        let Some(first) = self.waiters.iter().find(|waiter| waiter.key == key).copied() else {
            return assert_eq!(successors, []);
        };
        let joins = |waiter: &&Waiting| {
            let same = first.holder.is_some() && waiter.holder == first.holder;
            waiter.key == key && (same || waiter.client == first.client)
        };
        let over: Vec<u32> = self.waiters.iter().filter(joins).map(|waiter| waiter.client).collect();
        assert_eq!(successors.iter().map(|(client, _)| *client).collect::<Vec<_>>(), over);
        assert!(successors.iter().skip(1).all(|(_, token)| *token == VOID));
        self.waiters.retain(|waiter| !over.contains(&waiter.client));
        self.grant(key, successors[0].1, first.lease_ms, first.holder, now_ms);
    }

    fn filled(&mut self, key: u8) -> Vec<u32> {
        self.leases.retain(|lease| lease.key != key);
        let woken = self.waiters.iter().filter(|waiter| waiter.key == key).map(|waiter| waiter.client).collect();
        self.waiters.retain(|waiter| waiter.key != key);
        woken
    }
}

/// An entry as the model of the whole has it, beside the two of leases.
#[derive(Clone, Copy)]
struct Entry {
    life: Life,
    cleared: bool,
}

/// Fresh, stale, expired, cleared, refreshed, touched and leased entries of five keys, calls that ask again under their
/// names, and leases that are given up, for a million steps: what is asked of [`Flights`] and [`Life`] is what linear
/// search and plain sums of times say.
#[test]
fn entries_and_leases_are_as_a_naive_model_has_them() {
    const STEPS: u32 = 1_000_000;
    let mut random_state = 0x5eed_u64;
    let mut below = |end: u64| {
        random_state ^= random_state >> 12;
        random_state ^= random_state << 25;
        random_state ^= random_state >> 27;
        (random_state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    };
    let (mut flights, mut naive) = (Flights::new(random), Naive::default());
    // What is there, and by the naive model: until when it is fresh, and until when it is served.
    let mut entries: [Option<Entry>; 5] = [None; 5];
    let mut times: [Option<(i64, i64)>; 5] = [None; 5];
    // Tokens that were once good.
    let mut old_tokens = [1_u64; 16];
    let mut now_ms = 0_i64;
    let mut seen = [0_u32; 13];
    for step in 0..STEPS {
        now_ms += below(4) as i64;
        // As the server does it: a holder that is late loses the lease before anything else happens.
        while let Some(successors) = flights.end_due(now_ms) {
            let due = naive.leases.iter().filter(|lease| lease.end_ms <= now_ms).min_by_key(|lease| lease.end_ms);
            let end_ms = due.unwrap().end_ms;
            // Of those that end in one moment, the one that was granted first.
            let key = naive.leases.iter().find(|lease| lease.end_ms == end_ms).unwrap().key;
            naive.ended(key, now_ms, &successors);
            seen[6] += 1;
        }
        assert!(naive.leases.iter().all(|lease| lease.end_ms > now_ms));
        // And it tells those that wait for void leases, one at a time, in whatever order.
        if below(4) == 0 {
            match flights.next_void(now_ms) {
                Some(successors) if !successors.is_empty() => {
                    let key = naive.waiters.iter().find(|waiter| waiter.client == successors[0].0).unwrap().key;
                    assert!(naive.leases.iter().any(|lease| lease.key == key && lease.token == VOID));
                    naive.ended(key, now_ms, &successors);
                    seen[8] += 1;
                }
                // One that nobody waited for is gone, or one has been taken anew.
                Some(_) => {
                    let gone = |lease: &&Leased| !flights.leases.contains_key(&(0, Arc::from([lease.key])));
                    if let Some(lease) = naive.leases.iter().find(gone).copied() {
                        assert_eq!(lease.token, VOID);
                        naive.ended(lease.key, now_ms, &[]);
                    }
                }
                None => assert!(naive.leases.iter().all(|lease| lease.token != VOID)),
            }
        }
        let key = below(5) as u8;
        let (name, at) = ([key], usize::from(key));
        // The server takes expired keys away, most of the time at once.
        entries[at] = entries[at].filter(|entry| now_ms < entry.life.ends_at_ms() || below(2) == 0);
        let served = times[at].filter(|(_, end_ms)| now_ms < *end_ms);
        let visible = entries[at].filter(|entry| !entry.cleared);
        let state = visible.map_or(State::Expired, |entry| entry.life.state(now_ms));
        assert_eq!(state != State::Expired, served.is_some(), "step {step}");
        match below(11) {
            0..=3 => match (visible, served) {
                (Some(entry), Some((fresh_until_ms, _))) if state == State::Fresh => {
                    assert!(now_ms < fresh_until_ms);
                    seen[0] += 1;
                    if below(4) == 0 {
                        let life = entry.life.touched(now_ms);
                        entries[at] = Some(Entry { life, ..entry });
                        let fresh_until_ms = now_ms + life.ttl_ms as i64;
                        times[at] = Some((fresh_until_ms, fresh_until_ms + life.stale_ms as i64));
                        seen[7] += 1;
                    }
                }
                _ => {
                    assert!(served.is_none_or(|(fresh_until_ms, _)| fresh_until_ms <= now_ms));
                    seen[if state == State::Stale { 1 } else { 2 }] += 1;
                    let (lease_ms, holder) = (1 + below(20), HOLDERS[below(4) as usize]);
                    let wanted = Wanted { lease_ms, holder: holder.map(str::as_bytes) };
                    let asked = flights.ask((0, &name), wanted, now_ms, || key % 3);
                    naive.asked(key, lease_ms, holder, now_ms, asked);
                    if let LeaseAnswer::Leader { token } = asked {
                        old_tokens[below(16) as usize] = token;
                    }
                    seen[9] += u32::from(matches!(asked, LeaseAnswer::Again { .. }));
                    if let (LeaseAnswer::Held { .. }, State::Expired) = (asked, state) {
                        flights.wait((0, &name), step, wanted);
                        naive.waiters.push(Waiting { key, client: step, lease_ms, holder });
                        seen[3] += 1;
                    }
                }
            },
            // Sets, with the holder's token, an old one, or none; with a tag that may have been cleared since.
            4 | 5 => {
                let lease = naive.live(key, now_ms).copied();
                let token = match below(3) {
                    0 => None,
                    1 => Some(old_tokens[below(16) as usize]),
                    _ => lease.map(|lease| lease.token),
                };
                let tag = below(3) as u8;
                let held = token.map(|token| flights.held((0, &name), token, now_ms));
                assert_eq!(
                    held.is_some_and(|held| held.is_some()),
                    token.is_some() && token == lease.map(|lease| lease.token)
                );
                let outdated = held.flatten().map(|held| flights.cleared_since(&held, Kind::Tag, &[tag]));
                assert_eq!(outdated, held.flatten().and(lease).map(|lease| lease.cleared[usize::from(tag)]));
                seen[11] += u32::from(outdated == Some(true));
                if token.is_none() || outdated == Some(false) {
                    let life = Life::new(now_ms, 1 + below(30), below(2) * below(30));
                    entries[at] = Some(Entry { life, cleared: false });
                    let fresh_until_ms = now_ms + life.ttl_ms as i64;
                    times[at] = Some((fresh_until_ms, fresh_until_ms + life.stale_ms as i64));
                    assert_eq!(flights.filled((0, &name)), naive.filled(key));
                    seen[4] += 1;
                }
            }
            // A key is deleted, or a category cleared, whose memory goes later.
            6 => {
                (entries[at], times[at]) = (None, None);
                let successors = flights.revoked((0, &name), now_ms);
                match naive.leases.iter().any(|lease| lease.key == key) {
                    true => naive.ended(key, now_ms, &successors),
                    false => assert_eq!(successors, []),
                }
            }
            7 if below(2) == 0 => {
                let category = key % 3;
                for key in (0..5).filter(|key| key % 3 == category) {
                    if let Some(entry) = &mut entries[usize::from(key)] {
                        entry.cleared = true;
                    }
                    times[usize::from(key)] = None;
                }
                // Their holders lose them at once; those that wait are told in a later step.
                for lease in naive.leases.iter_mut().filter(|lease| lease.key % 3 == category) {
                    assert!(lease.token == VOID || flights.held((0, &[lease.key]), lease.token, now_ms).is_some());
                    lease.token = VOID;
                }
                flights.revoked_where(|_, _, scope| *scope == category);
                assert!(flights.left_ms((0, &[category]), now_ms) == 0);
                seen[5] += 1;
            }
            8 if !naive.waiters.is_empty() => {
                let gone = naive.waiters.remove(below(naive.waiters.len() as u64) as usize).client;
                flights.gone(gone);
            }
            // A tag is cleared, of which nobody knows yet which values will have it.
            9 => {
                flights.cleared(Kind::Tag, &[key % 3]);
                naive.leases.iter_mut().for_each(|lease| lease.cleared[usize::from(key % 3)] = true);
                seen[12] += 1;
            }
            // A holder, or one that was, gives its lease up. A stale value stays.
            10 => {
                let lease = naive.live(key, now_ms).copied();
                let token = if below(2) == 0 { Some(old_tokens[below(16) as usize]) } else { lease.map(|l| l.token) };
                let held = token.is_some_and(|token| flights.held((0, &name), token, now_ms).is_some());
                assert_eq!(held, token.is_some() && token == lease.map(|lease| lease.token));
                if held {
                    let successors = flights.revoked((0, &name), now_ms);
                    naive.ended(key, now_ms, &successors);
                    seen[10] += 1;
                }
            }
            _ => {}
        }
        assert_eq!(flights.len(), naive.leases.len());
        assert_eq!(flights.waiting().len(), naive.waiters.len());
        assert_eq!(flights.next_end_ms(), naive.leases.iter().map(|lease| lease.end_ms).min());
        let held: usize = naive.leases.iter().map(|lease| 1 + lease.holder.map_or(0, str::len)).sum();
        assert_eq!(flights.names_bytes, held);
    }
    assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
}
