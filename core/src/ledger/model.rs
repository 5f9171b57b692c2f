//! Charges, ids, holds and the feed together, compared with lists of everything that was ever done: on a primary, on a
//! replica that is reloaded from time to time, and in a reader's database, which must end equal.

use std::collections::BTreeMap;

use super::feed::KeyPlace;
use super::tests::{loaded, money, picos, saved};
use super::*;
use crate::calendar::{Calendar, Day, Period};
use crate::money::Amount;
use crate::stored::Stored as _;
use crate::{PERIOD_MAX_MS, TIME_MAX_MS};
use proptest::prelude::*;

/// More than any test charges: other tests cover which days are dropped.
const KEEP: u32 = KEEP_DAYS_MAX;

/// 2024-10-20 00:00 UTC: a week before clocks are set back in Berlin, and eleven days before the end of the month.
const START_MS: i64 = 1_729_382_400_000;

/// What was requested under an id, and its outcome.
#[derive(Debug, Clone)]
struct Request {
    id: u8,
    day: Day,
    amount: i128,
    /// Set as long as it is an open hold.
    expires_at_ms: Option<i64>,
    ended: Ended,
    /// Set once it has ended.
    until_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ended {
    Not,
    Expired,
    Cancelled,
    Committed {
        over: bool,
    },
    Charged,
    /// The period's credit is the request's amount.
    Credited,
}

#[derive(Debug, Default)]
struct Model {
    charges: Vec<(Day, i128)>,
    credits: Vec<(Period, Day, i128)>,
    requests: Vec<Request>,
    at_ms: i64,
    remember_ms: i64,
}

impl Model {
    fn spent(&self, period: Period, day: Day) -> i128 {
        self.charges.iter().filter(|(charged, _)| same(period, *charged, day)).map(|(_, amount)| amount).sum()
    }

    fn credit(&self, period: Period, day: Day) -> i128 {
        let own = self.credits.iter().filter(|(of, given, _)| *of == period && same(period, *given, day));
        own.map(|(.., amount)| amount).sum()
    }

    fn held(&self, now_ms: i64, period: Period, day: Day) -> i128 {
        let open = |request: &&Request| request.expires_at_ms.is_some_and(|at_ms| at_ms > now_ms.max(self.at_ms));
        self.requests.iter().filter(open).filter(|it| same(period, it.day, day)).map(|it| it.amount).sum()
    }

    fn state(&self, now_ms: i64, id: u8) -> Option<IdState> {
        let now_ms = now_ms.max(self.at_ms);
        let request = self.requests.iter().find(|request| request.id == id)?;
        let (day, amount) = (request.day, picos(request.amount));
        let state = match (request.expires_at_ms, request.ended) {
            (Some(at_ms), _) if at_ms > now_ms => {
                return Some(IdState::Open { day, estimate: amount, left_ms: at_ms - now_ms });
            }
            (Some(at_ms), _) => {
                return (at_ms + self.remember_ms > now_ms).then_some(IdState::Expired { day, estimate: amount });
            }
            (None, Ended::Not | Ended::Expired) => IdState::Expired { day, estimate: amount },
            (None, Ended::Cancelled) => IdState::Cancelled { day },
            (None, Ended::Committed { over }) => IdState::Committed { day, charged: amount, over },
            (None, Ended::Charged) => IdState::Charged { day, amount },
            (None, Ended::Credited) => IdState::Credited { day, credit: amount },
        };
        (request.until_ms > now_ms).then_some(state)
    }

    /// Follows a clock that has stepped back, and ends what has expired.
    fn settle(&mut self, at_ms: i64, remember_ms: i64) {
        let behind_ms = (self.at_ms - at_ms).max(0);
        for request in &mut self.requests {
            request.until_ms -= behind_ms;
            if let Some(expires_at_ms) = &mut request.expires_at_ms {
                *expires_at_ms -= behind_ms;
                if *expires_at_ms <= at_ms {
                    request.until_ms = *expires_at_ms + remember_ms;
                    (request.expires_at_ms, request.ended) = (None, Ended::Expired);
                }
            }
        }
        (self.at_ms, self.remember_ms) = (at_ms, remember_ms);
        self.requests.retain(|request| request.expires_at_ms.is_some() || request.until_ms > at_ms);
        if self.requests.is_empty() {
            // A ledger without holds and ids does not keep a time.
            (self.at_ms, self.remember_ms) = (0, 0);
        }
    }

    fn end(&mut self, id: u8, day: Day, amount: i128, ended: Ended, stamp: &Stamp) {
        self.settle(stamp.at_ms, stamp.remember_ms as i64);
        (self.at_ms, self.remember_ms) = (stamp.at_ms, stamp.remember_ms as i64);
        self.requests.retain(|request| request.id != id);
        let until_ms = stamp.at_ms + self.remember_ms;
        self.requests.push(Request { id, day, amount, expires_at_ms: None, ended, until_ms });
    }
}

fn same(period: Period, a: Day, b: Day) -> bool {
    match period {
        Period::Day => a == b,
        Period::Week => a.week() == b.week(),
        Period::Month => a.month() == b.month(),
        Period::Total => true,
    }
}

/// A row's kind, its period's name and its first day.
type Row = (&'static str, &'static str, Day);

/// A database that follows the feed, like the SQL in the guide.
#[derive(Debug, Default)]
struct Database {
    rows: BTreeMap<Row, (u64, Amount)>,
    /// The version that was stored last.
    version: u64,
}

impl Database {
    /// Stores a ledger in one transaction.
    fn store(&mut self, ledger: &Ledger) {
        self.rows.retain(|_, row| row.0 >= ledger.since());
        let spend = ledger.listed().map(|row| ("spend", row));
        for (of, (period, day, amount)) in spend.chain(ledger.listed_credits().map(|row| ("credit", row))) {
            let row = self.rows.entry((of, period.name(), day)).or_insert((0, Amount::ZERO));
            if row.0 <= ledger.version() {
                *row = (ledger.version(), amount);
            }
        }
        self.version = self.version.max(ledger.version());
    }

    fn amounts(&self) -> BTreeMap<Row, Amount> {
        self.rows.iter().map(|(&place, &(_, amount))| (place, amount)).collect()
    }
}

fn amounts(ledger: &Ledger) -> BTreeMap<Row, Amount> {
    let spend = |period: Period, day: Day| ("spend", period.name(), day);
    let total = (spend(Period::Total, Day::MIN), ledger.spent(Period::Total, Day::MIN));
    let months = ledger.months().map(|(month, amount)| (spend(Period::Month, month.first_day()), amount));
    let days = ledger.days().map(|(day, amount)| (spend(Period::Day, day), amount));
    let credits = ledger.credits().map(|(period, day, amount)| (("credit", period.name(), day), amount));
    std::iter::once(total).chain(months).chain(days).chain(credits).collect()
}

#[derive(Debug, Clone)]
enum Op {
    Charge {
        amount: i128,
        ago_ms: i64,
    },
    ChargeOnce {
        id: u8,
        amount: i128,
        ago_ms: i64,
    },
    Reserve {
        id: u8,
        estimate: i128,
        budget: i128,
        period: Period,
        ttl_ms: i64,
    },
    Commit {
        id: u8,
        actual: i128,
    },
    Cancel {
        id: u8,
    },
    Credit {
        id: Option<u8>,
        period: Period,
        amount: i128,
        ago_ms: i64,
    },
    /// The reader stores what is listed, and stops before it acknowledges it.
    Read,
    /// The reader acknowledges what it has stored.
    Acknowledge,
    /// The reader starts again.
    Restart,
    /// The ledger moves to another place, for which the reader has other amounts.
    Move,
    /// The primary is lost, and a replica that lacks a few changes takes its place.
    FailOver,
    /// The replica is loaded from a save of the primary.
    Reload,
    /// A query follows the clock if it has stepped back.
    Look,
}

fn ops() -> impl Strategy<Value = Vec<(i64, Op)>> {
    const HOUR: i64 = 3_600_000;
    let advance = prop_oneof![
        30 => 0i64..2_000, 10 => 0i64..100_000, 4 => 0..2 * HOUR, 1 => 0..30 * 24 * HOUR, 1 => -30_000i64..0, 1 => -40 * HOUR..0,
    ];
    let amount = || prop_oneof![1 => Just(0i128), 20 => 0i128..5_000, 2 => 0..1_000_000_000_000_000i128];
    let signed = prop_oneof![5 => amount(), 1 => -2_000i128..0];
    let ago = || prop_oneof![6 => Just(0i64), 2 => 0..48 * HOUR, 1 => 0..90 * 24 * HOUR, 1 => -24 * HOUR..0];
    let ttl = prop_oneof![6 => 1i64..3_000, 2 => 1i64..300_000, 1 => Just(PERIOD_MAX_MS as i64)];
    let id = || 0u8..24;
    let op = prop_oneof![
        8 => (signed, ago()).prop_map(|(amount, ago_ms)| Op::Charge { amount, ago_ms }),
        5 => (id(), amount(), ago()).prop_map(|(id, amount, ago_ms)| Op::ChargeOnce { id, amount, ago_ms }),
        12 => (id(), amount(), 0i128..60_000, prop::sample::select(&Period::ALL[..]), ttl).prop_map(
            |(id, estimate, budget, period, ttl_ms)| Op::Reserve { id, estimate, budget, period, ttl_ms }
        ),
        10 => (id(), amount()).prop_map(|(id, actual)| Op::Commit { id, actual }),
        4 => id().prop_map(|id| Op::Cancel { id }),
        4 => (prop::option::of(id()), prop::sample::select(&Period::ALL[..]), -3_000i128..6_000, ago())
            .prop_map(|(id, period, amount, ago_ms)| Op::Credit { id, period, amount, ago_ms }),
        3 => Just(Op::Read),
        2 => Just(Op::Acknowledge),
        2 => Just(Op::Look),
        1 => prop::sample::select(vec![Op::Restart, Op::Move, Op::FailOver, Op::Reload]),
    ];
    prop::collection::vec((advance, op), 1..1_000)
}

/// A change of the primary, to be made on a replica, too.
#[derive(Debug, Clone)]
enum Effect {
    /// The last field says whether it also forgets what is due.
    Charge(Day, Amount, Stamp, bool),
    ChargeOnce(u8, Day, Amount, Stamp),
    Hold(u8, Day, Amount, i64, Stamp),
    Commit(u8, Amount, Stamp),
    Cancel(u8, Stamp),
    Credit(Option<u8>, Period, Day, Amount, Stamp),
    Acknowledge(u64, KeyPlace),
    ListAnew(u64, KeyPlace),
    Follow(i64),
}

fn apply(ledger: &mut Ledger, effect: &Effect) {
    let id = |id: u8| name(id);
    match effect {
        Effect::Charge(day, amount, stamp, forgets) => {
            if *forgets {
                ledger.forget(stamp.at_ms);
            }
            ledger.charge(*day, *amount, stamp.keep_days, stamp.version).expect("within range");
        }
        Effect::ChargeOnce(it, day, amount, stamp) => {
            ledger.charge_once(&id(*it), *day, *amount, stamp).expect("within range");
        }
        Effect::Hold(it, day, estimate, expires_at_ms, stamp) => {
            ledger.hold(&id(*it), *day, *estimate, *expires_at_ms, stamp);
        }
        Effect::Commit(it, actual, stamp) => {
            ledger.commit(&id(*it), *actual, stamp).expect("within range").expect("a hold");
        }
        Effect::Cancel(it, stamp) => assert!(ledger.cancel(&id(*it), stamp)),
        Effect::Credit(it, period, day, amount, stamp) => {
            let it = it.map(id);
            ledger.give_credit(it.as_deref(), *period, *day, *amount, stamp).expect("within range");
        }
        Effect::Acknowledge(version, place) => ledger.acknowledge(*version, *place),
        Effect::ListAnew(version, place) => ledger.list_anew(*version, *place),
        Effect::Follow(at_ms) => ledger.forget(*at_ms),
    }
}

/// Short ids and long ones.
fn name(id: u8) -> Vec<u8> {
    vec![id; if id.is_multiple_of(5) { 60 } else { 1 + usize::from(id) }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_200))]

    #[test]
    fn a_ledger_is_what_was_done_to_it(ops in ops(), remember_ms in prop::sample::select(vec![0, 5_000, 86_400_000u64])) {
        let mut calendar = Calendar::new("Europe/Berlin").expect("a time zone");
        let (mut primary, mut replica, mut model) = (Ledger::new(), Ledger::new(), Model::default());
        let (mut database, mut place, mut moves) = (Database::default(), KeyPlace::new(0, b"0"), 0);
        let (mut last_version, mut connected) = (0, false);
        // The ledger and the model as they were a few changes ago.
        let mut before = None;
        let mut now_ms = START_MS;
        for (step, (advance_ms, op)) in ops.into_iter().enumerate() {
            now_ms += advance_ms;
            let today = calendar.day_of(now_ms);
            let version = primary.next_version(now_ms.unsigned_abs() * 1_000, last_version);
            let stamp = Stamp { at_ms: now_ms, keep_days: KEEP, remember_ms, version };
            if step % 7 == 0 {
                before = Some((primary.clone(), Model { charges: model.charges.clone(), credits: model.credits.clone(), requests: model.requests.clone(), ..model }));
            }
            let mut done = None;
            match op {
                Op::Charge { amount, ago_ms } => {
                    let day = calendar.day_of(now_ms - ago_ms);
                    model.charges.push((day, amount));
                    let forgets = primary.has_due(now_ms);
                    if forgets {
                        model.settle(now_ms, model.remember_ms);
                    }
                    done = Some(Effect::Charge(day, picos(amount), stamp, forgets));
                }
                Op::ChargeOnce { id, amount, ago_ms } => {
                    prop_assert_eq!(primary.state(now_ms, &name(id)), model.state(now_ms, id));
                    if model.state(now_ms, id).is_none() {
                        let day = calendar.day_of(now_ms - ago_ms);
                        model.charges.push((day, amount));
                        model.end(id, day, amount, Ended::Charged, &stamp);
                        done = Some(Effect::ChargeOnce(id, day, picos(amount), stamp));
                    }
                }
                Op::Reserve { id, estimate, budget, period, ttl_ms } => {
                    prop_assert_eq!(primary.state(now_ms, &name(id)), model.state(now_ms, id));
                    let fits = model.spent(period, today) + model.held(now_ms, period, today) + estimate <= budget + model.credit(period, today);
                    let verdict = primary.within(now_ms, today, &[(picos(budget), period)], Some(picos(estimate)));
                    prop_assert_eq!(verdict.map(|verdict| verdict.within), Some(fits));
                    let shown = verdict.map(|verdict| verdict.budget.picos());
                    prop_assert_eq!(shown, Some(budget + model.credit(period, today)));
                    if fits && model.state(now_ms, id).is_none() {
                        model.settle(now_ms, remember_ms as i64);
                        (model.at_ms, model.remember_ms) = (now_ms, remember_ms as i64);
                        model.requests.retain(|request| request.id != id);
                        let expires_at_ms = (now_ms + ttl_ms).min(TIME_MAX_MS);
                        let expires = Some(expires_at_ms);
                        let request = Request { id, day: today, amount: estimate, expires_at_ms: expires, ended: Ended::Not, until_ms: 0 };
                        model.requests.push(request);
                        done = Some(Effect::Hold(id, today, picos(estimate), expires_at_ms, stamp));
                    }
                }
                Op::Commit { id, actual } => {
                    let state = model.state(now_ms, id);
                    prop_assert_eq!(primary.state(now_ms, &name(id)), state);
                    if let Some(IdState::Open { day, estimate, .. } | IdState::Expired { day, estimate }) = state {
                        if actual != 0 {
                            model.charges.push((day, actual));
                        }
                        model.end(id, day, actual, Ended::Committed { over: actual > estimate.picos() }, &stamp);
                        done = Some(Effect::Commit(id, picos(actual), stamp));
                    } else {
                        let unchanged = primary.clone();
                        prop_assert_eq!(primary.commit(&name(id), picos(actual), &stamp), Ok(None));
                        prop_assert_eq!(&primary, &unchanged);
                    }
                }
                Op::Cancel { id } => {
                    let state = model.state(now_ms, id);
                    prop_assert_eq!(primary.state(now_ms, &name(id)), state);
                    if let Some(IdState::Open { day, .. } | IdState::Expired { day, .. }) = state {
                        model.end(id, day, 0, Ended::Cancelled, &stamp);
                        done = Some(Effect::Cancel(id, stamp));
                    }
                }
                Op::Credit { id, period, amount, ago_ms } => {
                    let day = calendar.day_of(now_ms - ago_ms);
                    let credit = model.credit(period, day) + amount;
                    let with = primary.credit_with(period, day, picos(amount));
                    prop_assert_eq!(with, if credit < 0 { Err(CreditError::BelowZero) } else { Ok(picos(credit)) });
                    if credit < 0 {
                        let unchanged = primary.clone();
                        prop_assert!(primary.give_credit(None, period, day, picos(amount), &stamp).is_err());
                        prop_assert_eq!(&primary, &unchanged);
                    } else if id.is_none_or(|id| model.state(now_ms, id).is_none()) {
                        model.credits.push((period, day, amount));
                        if let Some(id) = id {
                            model.end(id, day, credit, Ended::Credited, &stamp);
                        }
                        done = Some(Effect::Credit(id, period, day, picos(amount), stamp));
                    }
                }
                // A reader that has lost its connection or was restarted first says which versions it has.
                Op::Read | Op::Acknowledge if !connected => {
                    connected = true;
                    done = if primary.is_in_step(database.version, place) {
                        Some(Effect::Acknowledge(database.version, place))
                    } else {
                        Some(Effect::ListAnew(version.max(database.version + 1), place))
                    };
                }
                Op::Read if primary.is_moved(place) => done = Some(Effect::ListAnew(version, place)),
                Op::Read => database.store(&primary),
                Op::Acknowledge => done = Some(Effect::Acknowledge(database.version, place)),
                Op::Restart => connected = false,
                Op::Move => {
                    moves += 1;
                    place = KeyPlace::new(0, &[moves]);
                }
                Op::FailOver => if let Some((ledger, past)) = before.take() {
                    replica = ledger.clone();
                    (primary, model, connected) = (ledger, past, false);
                    // `last_version` stays: the clock has reached the lost changes.
                },
                Op::Look => {
                    let steps_back = !model.requests.is_empty() && model.at_ms > now_ms;
                    prop_assert_eq!(primary.is_ahead_of(now_ms), steps_back);
                    if steps_back {
                        model.settle(now_ms, model.remember_ms);
                        done = Some(Effect::Follow(now_ms));
                    }
                }
                Op::Reload => {
                    replica = loaded(&saved(&primary)).expect("what was saved");
                    prop_assert_eq!(&replica, &primary);
                }
            }
            if let Some(effect) = &done {
                apply(&mut primary, effect);
                apply(&mut replica, effect);
                last_version = last_version.max(primary.version());
            }
            if step % 5 == 0 {
                prop_assert_eq!(saved(&primary), saved(&replica));
            }
            for period in Period::ALL {
                prop_assert_eq!(primary.spent(period, today).picos(), model.spent(period, today));
                prop_assert_eq!(primary.credit(period, today).picos(), model.credit(period, today));
                prop_assert_eq!(primary.held(now_ms, period, today).picos(), model.held(now_ms, period, today));
            }
        }

        // The reader comes back: it acknowledges what it has, and reads until nothing is listed.
        if !primary.is_in_step(database.version, place) {
            primary.list_anew(primary.next_version(0, database.version), place);
        }
        primary.acknowledge(database.version, place);
        if primary.is_listed(place) {
            database.store(&primary);
            primary.acknowledge(database.version, place);
        }
        prop_assert!(!primary.is_listed(place));
        if primary.version() > 0 {
            prop_assert_eq!(database.amounts(), amounts(&primary));
        }

        // After the last expiry nothing is held, and the whole unspent budget is available.
        let later_ms = now_ms + 2 * PERIOD_MAX_MS as i64;
        prop_assert_eq!(primary.held(later_ms, Period::Total, Day::MAX), Amount::ZERO);
        prop_assert_eq!(primary.holds(later_ms).count(), 0);
    }
}

fn stamp(at_ms: i64) -> Stamp {
    Stamp { at_ms, keep_days: super::tests::KEEP, remember_ms: 1_000, version: 0 }
}

#[test]
fn a_hold_takes_80_bytes_in_a_list_and_140_in_an_index() {
    let day = Day::from_number(20_000).expect("a day");
    let mut ledger = Ledger::new();
    ledger.charge(day, money("1"), KEEP, 0).expect("within range");
    ledger.hold(b"first", day, money("0.01"), START_MS + 1_000, &stamp(START_MS));
    let before = ledger.memory_bytes();
    let mut each = 0;
    for number in 1..10_000 {
        // As long as a UUID.
        let id = format!("{number:036}");
        ledger.hold(id.as_bytes(), day, money("0.01"), START_MS + 1_000, &stamp(START_MS));
        each = (ledger.memory_bytes() - before) / number;
        // An index has room to grow, which matters less the larger it is.
        assert!(each <= if number < 64 { 80 } else { 220 }, "{number}: {each} B");
    }
    assert!(each <= 140, "{each} B");
}

#[test]
fn there_are_no_more_holds_than_there_may_be() {
    let day = Day::from_number(20_000).expect("a day");
    let mut ledger = Ledger::new();
    for number in 0..HOLDS_MAX {
        assert!(ledger.can_hold(START_MS, HOLDS_MAX));
        ledger.hold(&number.to_le_bytes(), day, money("1"), START_MS + 1_000, &stamp(START_MS));
    }
    assert!(!ledger.can_hold(START_MS, HOLDS_MAX));
    assert!(ledger.can_hold(START_MS + 1_000, HOLDS_MAX), "expired ones make room");
    // Even if a broken stream of effects adds more, the result can be saved and loaded.
    ledger.hold(b"one more", day, money("1"), START_MS + 1_000, &stamp(START_MS));
    assert_eq!(ledger.holds(START_MS).count(), HOLDS_MAX);
    assert_eq!(loaded(&saved(&ledger)), Ok(ledger));
}

#[test]
fn of_too_many_ids_the_oldest_is_forgotten() {
    let day = Day::from_number(20_000).expect("a day");
    let mut ledger = Ledger::new();
    for number in 0..IDS_MAX as u64 + 1 {
        ledger.charge_once(&number.to_le_bytes(), day, picos(1), &stamp(START_MS)).expect("within range");
    }
    assert_eq!(ledger.remembered(START_MS), IDS_MAX);
    assert_eq!(ledger.state(START_MS, &0u64.to_le_bytes()), None);
    for number in 1..IDS_MAX as u64 + 1 {
        assert!(ledger.state(START_MS, &number.to_le_bytes()).is_some(), "{number}");
    }
    assert!(ledger.memory_bytes() < 80 * IDS_MAX, "{} B", ledger.memory_bytes());
    assert_eq!(loaded(&saved(&ledger)).as_ref(), Ok(&ledger));
    // When their time has passed, they are unknown at once, and soon take no memory.
    let later = stamp(START_MS + 1_000);
    assert_eq!(ledger.state(later.at_ms, &(IDS_MAX as u64).to_le_bytes()), None);
    assert_eq!(ledger.remembered(later.at_ms), 0);
    for _ in 0..=IDS_MAX / 1_000 {
        ledger.charge_once(b"last", day, picos(1), &later).expect("within range");
    }
    assert_eq!(ledger.remembered(later.at_ms), 1);
    assert!(ledger.memory_bytes() < 1_000, "{} B", ledger.memory_bytes());
}

#[test]
fn ids_are_forgotten_without_new_ones_and_whatever_was_remembered_for_longer() {
    let day = Day::from_number(20_000).expect("a day");
    let mut ledger = Ledger::new();
    let (long, short) = (Stamp { remember_ms: 86_400_000, ..stamp(START_MS) }, stamp(START_MS));
    ledger.charge_once(b"long", day, picos(1), &long).expect("within range");
    for number in 0..5_000u64 {
        ledger.charge_once(&number.to_le_bytes(), day, picos(1), &short).expect("within range");
    }
    assert!(!ledger.has_due(START_MS) && ledger.memory_bytes() > 100_000);
    let later = START_MS + short.remember_ms as i64;
    assert_eq!(ledger.remembered(later), 0);
    let mut calls = 0;
    while ledger.has_due(later) {
        ledger.forget(later);
        calls += 1;
    }
    assert!((2..=6).contains(&calls), "{calls}");
    assert!(ledger.memory_bytes() < 1_000, "{} B", ledger.memory_bytes());
}

#[test]
fn a_busy_ledger_lists_what_changed_lately() {
    let (first, place) = (20_000, KeyPlace::new(0, b"k"));
    let mut ledger = Ledger::new();
    for number in first..first + 40 {
        let day = Day::from_number(number).expect("a day");
        // The newest version is never acknowledged.
        for _ in 0..3 {
            ledger.charge(day, picos(1), KEEP, 0).expect("within range");
            let read = ledger.version();
            ledger.charge(day, picos(1), KEEP, 0).expect("within range");
            ledger.acknowledge(read, place);
            assert!(ledger.is_listed(place));
        }
        assert!(ledger.listed().count() <= 5, "{:?}", ledger.listed().collect::<Vec<_>>());
    }
}

/// As many as expire at once are dropped by several changes; they count in none of them.
#[test]
fn thousands_of_holds_that_expire_at_once_count_no_more() {
    let day = Day::from_number(20_000).expect("a day");
    let mut ledger = Ledger::new();
    for number in 0..5_000_u32 {
        ledger.hold(&number.to_le_bytes(), day, money("1"), START_MS + 1_000, &stamp(START_MS));
    }
    ledger.hold(b"stays", day, money("0.5"), START_MS + 9_000, &stamp(START_MS));
    let full_bytes = ledger.memory_bytes();
    let later_ms = START_MS + 1_000;
    for _ in 0..30 {
        assert_eq!((ledger.open_holds(later_ms), ledger.held(later_ms, Period::Total, day)), (1, money("0.5")));
        assert_eq!(ledger.holds(later_ms).map(|(id, ..)| id).collect::<Vec<_>>(), [b"stays"]);
        let copy = loaded(&saved(&ledger)).expect("what was saved");
        assert_eq!(copy.held(later_ms, Period::Month, day), money("0.5"));
        assert_eq!(copy, ledger);
        ledger.forget(later_ms);
    }
    assert!(!ledger.has_due(later_ms));
    assert!(ledger.memory_bytes() < full_bytes, "only ids stay, for a second");
    // One that expired can still be committed while its id is remembered.
    assert!(matches!(ledger.state(later_ms, &4_999_u32.to_le_bytes()), Some(IdState::Expired { .. })));
}
