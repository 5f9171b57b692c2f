use super::*;
use crate::cache::Life;

#[test]
fn one_leads_and_the_others_wait() {
    let mut flights = Flights::new(100);
    assert_eq!(flights.ask((0, b"k"), 50, 1_000, || ()), LeaseAnswer::Leader { token: 101 });
    assert_eq!(flights.ask((0, b"k"), 50, 1_020, || ()), LeaseAnswer::Held { left_ms: 30 });
    assert_eq!(flights.ask((1, b"k"), 50, 1_020, || ()), LeaseAnswer::Leader { token: 102 });
    flights.wait((0, b"k"), 'a', 70);
    flights.wait((0, b"k"), 'b', 70);
    flights.wait((0, b"k"), 'c', 70);
    flights.gone('a');
    assert_eq!(flights.end_due(1_049), None);
    // The holder is late: the first who still waits leads.
    assert_eq!(flights.end_due(1_050), Some(Some(('b', 103))));
    assert!(!flights.holds((0, b"k"), 101, 1_050) && flights.holds((0, b"k"), 103, 1_119));
    assert_eq!(flights.filled((0, b"k")), ['c']);
    assert!(!flights.holds((0, b"k"), 103, 1_060));
    assert_eq!(flights.next_end_ms(), Some(1_070));
    assert_eq!((flights.end_due(1_070), flights.end_due(1_070)), (Some(None), None));
    assert!(flights.is_empty());
}

#[test]
fn leases_are_bounded() {
    let mut flights = Flights::<char, ()>::new(0);
    for key in 0..LEASES_MAX as u64 {
        assert_ne!(flights.ask((0, &key.to_be_bytes()), 10, 0, || ()), LeaseAnswer::Leader { token: 0 });
    }
    assert_eq!(flights.ask((0, b"one more"), 10, 0, || ()), LeaseAnswer::Leader { token: 0 });
    while flights.end_due(10).is_some() {}
    assert!(flights.is_empty());

    // And so are the names that they keep.
    let name = vec![b'n'; NAMES_BYTES_MAX / 2];
    assert_ne!(flights.ask((0, &name), 10, 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_ne!(flights.ask((1, &name), 10, 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_eq!(flights.ask((2, b"k"), 10, 20, || ()), LeaseAnswer::Leader { token: 0 });
    assert_eq!(flights.ask((1, &name), 10, 20, || ()), LeaseAnswer::Held { left_ms: 10 });
    flights.filled((0, &name));
    assert_ne!(flights.ask((2, b"k"), 10, 20, || ()), LeaseAnswer::Leader { token: 0 });
    while flights.end_due(30).is_some() {}
    assert_eq!((flights.len(), flights.names_bytes), (0, 0));
}

#[test]
fn a_clear_hits_what_was_being_computed_then() {
    let mut flights = Flights::<char, ()>::new(0);
    // Nobody is computing.
    flights.cleared(Kind::Tag, b"t");
    let LeaseAnswer::Leader { token: first } = flights.ask((0, b"k"), 50, 0, || ()) else { panic!() };
    assert!(!flights.cleared_since(first, Kind::Tag, b"t"));
    flights.cleared(Kind::Tag, b"t");
    let LeaseAnswer::Leader { token: second } = flights.ask((0, b"other"), 50, 0, || ()) else { panic!() };
    assert!(flights.cleared_since(first, Kind::Tag, b"t") && !flights.cleared_since(second, Kind::Tag, b"t"));
    assert!(!flights.cleared_since(first, Kind::Category, b"t"));
}

/// Everything by linear search: who holds what until when, and who waits in which order.
#[derive(Default)]
struct Naive {
    token_last: u64,
    /// Key, token, end, category; the newest last.
    leases: Vec<(u8, u64, i64, u8)>,
    /// Key, waiter, lease wanted.
    waiters: Vec<(u8, u32, u64)>,
}

impl Naive {
    fn next_token(&mut self) -> u64 {
        self.token_last += 1;
        self.token_last
    }

    fn ask(&mut self, key: u8, lease_ms: u64, now_ms: i64) -> LeaseAnswer {
        let held = |lease: &&(u8, u64, i64, u8)| lease.0 == key && lease.1 != VOID && lease.2 > now_ms;
        if let Some(&(.., end_ms, _)) = self.leases.iter().find(held) {
            return LeaseAnswer::Held { left_ms: (end_ms - now_ms) as u64 };
        }
        self.leases.retain(|lease| lease.0 != key);
        let token = self.next_token();
        self.leases.push((key, token, now_ms + lease_ms as i64, key % 3));
        LeaseAnswer::Leader { token }
    }

    fn end(&mut self, key: u8, now_ms: i64) -> Option<(u32, u64)> {
        let token = self.next_token();
        self.leases.retain(|lease| lease.0 != key);
        let next = self.waiters.iter().position(|waiter| waiter.0 == key)?;
        let (_, waiter, lease_ms) = self.waiters.remove(next);
        self.leases.push((key, token, now_ms + lease_ms as i64, key % 3));
        Some((waiter, token))
    }

    fn filled(&mut self, key: u8) -> Vec<u32> {
        self.leases.retain(|lease| lease.0 != key);
        let woken = self.waiters.iter().filter(|waiter| waiter.0 == key).map(|waiter| waiter.1).collect();
        self.waiters.retain(|waiter| waiter.0 != key);
        woken
    }
}

/// An entry as the model of the whole has it, beside the two of leases.
#[derive(Clone, Copy)]
struct Entry {
    life: Life,
    cleared: bool,
}

/// Fresh, stale, expired, cleared, refreshed, touched and leased entries of five keys, for a million steps: what is asked
/// of [`Flights`] and [`Life`] is what linear search and plain sums of times say.
#[test]
fn entries_and_leases_are_as_a_naive_model_has_them() {
    const STEPS: u32 = 1_000_000;
    let mut random = 0x5eed_u64;
    let mut below = |end: u64| {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    };
    let (mut flights, mut naive) = (Flights::new(0), Naive::default());
    // What is there, and by the naive model: until when it is fresh, and until when it is served.
    let mut entries: [Option<Entry>; 5] = [None; 5];
    let mut times: [Option<(i64, i64)>; 5] = [None; 5];
    let mut now_ms = 0_i64;
    let mut seen = [0_u32; 9];
    for step in 0..STEPS {
        now_ms += below(4) as i64;
        // As the server does it: who is late loses the lease before anything else happens.
        loop {
            let due = naive.leases.iter().filter(|lease| lease.2 <= now_ms).min_by_key(|lease| lease.2);
            let expected = due.map(|lease| lease.0).map(|key| naive.end(key, now_ms));
            let ended = flights.end_due(now_ms);
            assert_eq!(ended, expected);
            if ended.is_none() {
                break;
            }
            seen[6] += 1;
        }
        // And tells those who wait for void leases, one at a time, in whatever order.
        if below(4) == 0 {
            match flights.next_void(now_ms) {
                Some(Some((waiter, token))) => {
                    assert_eq!(naive.next_token(), token);
                    let place = naive.waiters.iter().position(|waiting| waiting.1 == waiter).unwrap();
                    let (key, _, lease_ms) = naive.waiters.remove(place);
                    assert!(naive.waiters.iter().take(place).all(|waiting| waiting.0 != key));
                    let at = naive.leases.iter().position(|lease| lease.0 == key).unwrap();
                    assert_eq!(naive.leases.remove(at).1, VOID);
                    naive.leases.push((key, token, now_ms + lease_ms as i64, key % 3));
                    seen[8] += 1;
                }
                // One that nobody waited for is gone, or one has been taken anew.
                Some(None) => {
                    let gone = |lease: &(u8, u64, i64, u8)| !flights.leases.contains_key(&(0, Arc::from([lease.0])));
                    if let Some(at) = naive.leases.iter().position(gone) {
                        let (key, token, ..) = naive.leases.remove(at);
                        assert!(token == VOID && naive.waiters.iter().all(|waiting| waiting.0 != key));
                        naive.next_token();
                    }
                }
                None => assert!(naive.leases.iter().all(|lease| lease.1 != VOID)),
            }
        }
        let key = below(5) as u8;
        let (name, at) = ([key], usize::from(key));
        // The server takes expired keys away.
        entries[at] = entries[at].filter(|entry| now_ms < entry.life.ends_at_ms());
        let served = times[at].filter(|(_, end_ms)| now_ms < *end_ms);
        let visible = entries[at].filter(|entry| !entry.cleared);
        assert_eq!(visible.is_some(), served.is_some(), "step {step}");
        match below(10) {
            0..=3 => match (visible, served) {
                (Some(entry), Some((fresh_until_ms, _))) if entry.life.is_fresh(now_ms) => {
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
                (stale, _) => {
                    assert!(served.is_none_or(|(fresh_until_ms, _)| fresh_until_ms <= now_ms));
                    seen[if stale.is_some() { 1 } else { 2 }] += 1;
                    let lease_ms = 1 + below(20);
                    let asked = flights.ask((0, &name), lease_ms, now_ms, || key % 3);
                    assert_eq!(asked, naive.ask(key, lease_ms, now_ms));
                    if let (LeaseAnswer::Held { .. }, None) = (asked, stale) {
                        flights.wait((0, &name), step, lease_ms);
                        naive.waiters.push((key, step, lease_ms));
                        seen[3] += 1;
                    }
                }
            },
            // Sets, with the holder's token, an old one, or none.
            4 | 5 => {
                let lease = naive.leases.iter().find(|lease| lease.0 == key);
                let lease = lease.filter(|lease| lease.1 != VOID);
                let token = lease.map(|lease| lease.1 - below(2)).filter(|_| below(3) > 0);
                let refused = token.is_some_and(|token| !flights.holds((0, &name), token, now_ms));
                assert_eq!(refused, token.is_some() && token != lease.map(|lease| lease.1));
                if !refused {
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
                let expected = naive.leases.iter().any(|lease| lease.0 == key).then(|| naive.end(key, now_ms));
                // A key without a lease costs a token too; which one it is, nobody sees.
                assert_eq!(flights.revoked((0, &name), now_ms), expected.unwrap_or_else(|| naive.end(key, now_ms)));
            }
            7 if below(3) == 0 => {
                let category = key % 3;
                for key in (0..5).filter(|key| key % 3 == category) {
                    if let Some(entry) = &mut entries[usize::from(key)] {
                        entry.cleared = true;
                    }
                    times[usize::from(key)] = None;
                }
                // Their holders lose them at once; who waits is told in a later step.
                for lease in naive.leases.iter_mut().filter(|lease| lease.3 == category) {
                    assert!(lease.1 == VOID || flights.holds((0, &[lease.0]), lease.1, now_ms));
                    lease.1 = VOID;
                }
                flights.revoked_where(|_, _, scope| *scope == category);
                assert!(flights.left_ms((0, &[category]), now_ms) == 0);
                seen[5] += 1;
            }
            8 if !naive.waiters.is_empty() => {
                let gone = naive.waiters.remove(below(naive.waiters.len() as u64) as usize).1;
                flights.gone(gone);
            }
            _ => {}
        }
        assert_eq!(flights.len(), naive.leases.len());
        assert_eq!(flights.next_end_ms(), naive.leases.iter().map(|lease| lease.2).min());
    }
    assert!(seen.iter().all(|&count| count > 1_000), "{seen:?}");
}
