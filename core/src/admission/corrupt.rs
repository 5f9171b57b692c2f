//! Crafted accounts: accounts with contradictory parts do not load.

use super::expired::Expired;
use super::*;
use crate::PERIOD_MAX_MS;
use crate::breaker::Threshold;
use crate::calendar::{Day, Period};
use crate::codec::{Corrupt, Decoder, Encoded, Writer};
use crate::lease::LeasesWith;
use crate::ledger::Ledger;
use crate::money::Amount;
use crate::stored::{Stored, load_versioned};
use crate::window::{Rule, Shape, SlidingWindow};

const AT_MS: i64 = 1_700_000_000_000;

/// 2023-11-01, the first day of that month.
const NOVEMBER: i64 = 19_662;

/// A saved account, field by field. The tests change fields of a valid one.
struct Crafted {
    at_ms: i64,
    policies: Vec<(&'static str, Kind, &'static str, u64)>,
    window_encoding: u64,
    /// The first day of the period in which the soft limit of every budget was announced.
    told: Option<i64>,
    meters: Vec<&'static str>,
    /// The end of the cooldown, if the account has learnt anything as a target.
    cooldown_until_ms: Option<i64>,
    /// The end of each open breaker.
    open_until_ms: i64,
    ledger_encoding: u64,
    lease_encodings: [u64; 2],
    leases_at_ms: i64,
    /// For live leases: end, serials of what was taken, and the number of estimates.
    live: Vec<(i64, Vec<u64>, u64)>,
    expired_encodings: [u64; 2],
    /// For expired leases: fingerprint, until when they are remembered, and the same.
    expired: Vec<(u64, i64, Vec<u64>, u64)>,
    settled_encoding: u64,
    settled_until_ms: Vec<i64>,
}

impl Default for Crafted {
    fn default() -> Self {
        let window = Kind::Window(Rule { limit: 10, window_ms: 60_000, shape: Shape::Sliding });
        let amount = Amount::ONE;
        let budget = Kind::Budget { amount, period: Period::Month, soft_percent: 0 };
        Self {
            at_ms: AT_MS,
            policies: vec![("rpm", window, "requests", 1), ("tokens", budget, "tokens", 2), ("usd", budget, "usd", 3)],
            window_encoding: SlidingWindow::ENCODING.into(),
            told: Some(NOVEMBER),
            meters: vec!["tokens"],
            cooldown_until_ms: None,
            open_until_ms: AT_MS + 5,
            ledger_encoding: Ledger::ENCODING.into(),
            lease_encodings: [LeasesWith::<Admission>::ENCODING.into(), Admission::ENCODING.into()],
            leases_at_ms: AT_MS,
            live: vec![(AT_MS + 1_000, vec![1], 2)],
            expired_encodings: [Expired::ENCODING.into(), Admission::ENCODING.into()],
            expired: vec![(7, AT_MS + EXPIRED_KEPT_MS as i64, vec![1, 2], 1)],
            settled_encoding: 0,
            settled_until_ms: vec![AT_MS + SETTLED_KEPT_MS as i64],
        }
    }
}

impl Crafted {
    fn save(&self) -> Vec<u8> {
        let mut out = Encoded::default();
        out.int(0);
        out.int(self.at_ms);
        out.uint(3);
        out.uint(0);
        out.uint(self.cooldown_until_ms.is_some().into());
        if let Some(until_ms) = self.cooldown_until_ms {
            out.uint(0);
            out.int(until_ms);
            [0, 5 << 16].into_iter().for_each(|field| out.uint(field));
            out.int(AT_MS);
        }
        out.uint(self.policies.len() as u64);
        for &(name, kind, meter, serial) in &self.policies {
            out.bytes(name.as_bytes());
            match kind {
                Kind::Window(rule) => [0, rule.limit, rule.window_ms, 0].into_iter().for_each(|field| out.uint(field)),
                Kind::Budget { amount, period, soft_percent } => {
                    out.uint(3);
                    out.int128(amount.picos());
                    out.bytes(period.name().as_bytes());
                    out.uint(soft_percent.into());
                }
                Kind::Breaker(threshold) => {
                    let Threshold { failures, per_ms, open_ms } = threshold;
                    [5, failures, per_ms, open_ms].into_iter().for_each(|field| out.uint(field));
                }
                Kind::Bucket(_) | Kind::InFlight { .. } | Kind::Block { .. } => unreachable!(),
            }
            out.bytes(meter.as_bytes());
            out.uint(0);
            out.uint(serial);
            if matches!(kind, Kind::Window(_)) {
                out.uint(self.window_encoding);
                SlidingWindow::default().save(&mut out);
            }
            if matches!(kind, Kind::Breaker(_)) {
                [0, self.window_encoding].into_iter().for_each(|encoding| out.uint(encoding));
                SlidingWindow::default().save(&mut out);
                out.uint(1);
                out.int(self.open_until_ms);
                out.bytes(b"probe");
            }
            if matches!(kind, Kind::Budget { .. }) {
                out.uint(self.told.is_some().into());
                self.told.iter().for_each(|&day| out.int(day));
            }
        }
        out.uint(self.ledger_encoding);
        Ledger::new().save(&mut out);
        out.uint(self.meters.len() as u64);
        for meter in &self.meters {
            out.bytes(meter.as_bytes());
            out.uint(self.ledger_encoding);
            Ledger::new().save(&mut out);
        }
        out.uint(self.lease_encodings[0]);
        [0, self.live.len() as u64].into_iter().for_each(|field| out.uint(field));
        [self.leases_at_ms, self.leases_at_ms].into_iter().for_each(|time_ms| out.int(time_ms));
        out.uint(self.lease_encodings[1]);
        out.uint(self.live.len() as u64);
        for (token, (end_ms, serials, estimates)) in (1..).zip(&self.live) {
            out.bytes(b"lease");
            out.int(*end_ms);
            out.uint(token);
            save_admission(serials, *estimates, &mut out);
        }
        out.uint(self.expired_encodings[0]);
        out.uint(self.expired_encodings[1]);
        out.uint(self.expired.len() as u64);
        for &(fingerprint, until_ms, ref serials, estimates) in &self.expired {
            out.uint(fingerprint);
            out.int(until_ms);
            save_admission(serials, estimates, &mut out);
        }
        out.uint(self.settled_encoding);
        out.uint(self.settled_until_ms.len() as u64);
        for (fingerprint, &until_ms) in (0..).zip(&self.settled_until_ms) {
            out.uint(fingerprint);
            out.int(until_ms);
        }
        out.0
    }
}

fn save_admission(serials: &[u64], estimates: u64, out: &mut Encoded) {
    out.int(Day::MIN.number().into());
    out.uint(serials.len() as u64);
    for &serial in serials {
        [serial, 1].into_iter().for_each(|field| out.uint(field));
        out.int(AT_MS);
    }
    out.uint(estimates);
    (0..estimates).for_each(|_| out.int128(Amount::ONE.picos()));
}

fn load(bytes: &[u8]) -> Result<Account, Corrupt> {
    let mut from = Decoder::new(bytes);
    let account = load_versioned::<Account>(&mut from, Account::ENCODING)?;
    from.finish().map(|()| account)
}

fn error(change: impl FnOnce(&mut Crafted)) -> &'static str {
    let mut crafted = Crafted::default();
    change(&mut crafted);
    load(&crafted.save()).expect_err("a crafted account loads").0
}

#[test]
fn what_is_not_contradictory_loads() {
    let account = load(&Crafted::default().save()).expect("an honest account loads");
    let mut out = Encoded::default();
    account.save(&mut out);
    assert_eq!(out.0, Crafted::default().save());
}

#[test]
fn a_budget_without_a_ledger_is_refused() {
    assert_eq!(error(|it| it.meters.clear()), "a budget without a ledger for its meter");
    assert_eq!(error(|it| it.meters = vec!["words"]), "a budget without a ledger for its meter");
    assert_eq!(error(|it| it.meters = vec!["tokens", "usd"]), "a meter twice");
    let many = ["tokens", "a", "b", "c", "d", "e", "f", "g"];
    let mut crafted = Crafted { meters: many.to_vec(), ..Crafted::default() };
    assert!(load(&crafted.save()).is_ok_and(|account| account.ledgers().count() == LEDGERS_MAX));
    crafted.meters.push("h");
    assert_eq!(load(&crafted.save()).unwrap_err().0, "more ledgers than an account has");
}

#[test]
fn a_budget_is_told_of_in_a_period_of_its_own() {
    let mut crafted = Crafted { told: None, ..Crafted::default() };
    assert!(load(&crafted.save()).is_ok());
    // A day within the month, days just outside the calendar, and the extremes.
    for day in [NOVEMBER + 1, i64::from(Day::MIN.number()) - 1, i64::from(Day::MAX.number()) + 1, i64::MIN, i64::MAX] {
        crafted.told = Some(day);
        assert_eq!(load(&crafted.save()).unwrap_err().0, "a period told that does not begin on that day", "{day}");
    }
}

#[test]
fn a_target_refuses_for_no_longer_than_it_could_be_told_to() {
    let threshold = Threshold { failures: 2, per_ms: 60_000, open_ms: 5 };
    let with_breaker = |it: &mut Crafted| it.policies.push(("up", Kind::Breaker(threshold), "", 2));
    let latest_ms = AT_MS + PERIOD_MAX_MS as i64;
    for until_ms in [0, AT_MS, latest_ms] {
        let mut crafted = Crafted { cooldown_until_ms: Some(until_ms), open_until_ms: until_ms, ..Crafted::default() };
        crafted.policies.truncate(1);
        with_breaker(&mut crafted);
        let account = load(&crafted.save()).expect("an honest target loads");
        let mut out = Encoded::default();
        account.save(&mut out);
        assert_eq!(out.0, crafted.save());
        assert_eq!(account.latency_ms(), Some(5));
    }
    let too_long = "a breaker or a cooldown that refuses for too long";
    assert_eq!(error(|it| it.cooldown_until_ms = Some(latest_ms + 1)), too_long);
    assert_eq!(error(|it| it.cooldown_until_ms = Some(-1)), "a cooldown's end");
    for (until_ms, wrong) in [(latest_ms + 1, too_long), (-1, "an open breaker's end")] {
        let change = |it: &mut Crafted| {
            it.policies.truncate(1);
            with_breaker(it);
            it.open_until_ms = until_ms;
        };
        assert_eq!(error(change), wrong);
    }
}

#[test]
fn admissions_fit_the_ledgers_and_policies() {
    assert_eq!(error(|it| it.live[0].2 = 3), "an estimate without a ledger for its meter");
    assert_eq!(error(|it| it.expired[0].3 = 3), "an estimate without a ledger for its meter");
    assert_eq!(error(|it| it.live[0].2 = 10), "estimates of more meters than there are");
    assert_eq!(error(|it| it.live[0].1 = vec![4]), "units taken from a policy of the future");
    assert_eq!(error(|it| it.expired[0].2 = vec![1, 4]), "units taken from a policy of the future");
    assert_eq!(error(|it| it.live[0].1 = vec![2, 2]), "units taken from a policy twice");
    assert_eq!(error(|it| it.policies[0].3 = 4), "a policy twice, or of the future");
    assert_eq!(error(|it| it.policies[0].3 = 2), "a policy twice, or of the future");
}

#[test]
fn no_time_ends_leases_early_or_remembers_ended_ones_for_ever() {
    assert_eq!(error(|it| it.at_ms -= 1), "leases that changed after their account");
    assert_eq!(error(|it| it.leases_at_ms += 1), "leases that changed after their account");
    assert_eq!(error(|it| it.expired[0].1 += 1), "an ended lease that is remembered for too long");
    assert_eq!(error(|it| it.settled_until_ms[0] += 1), "an ended lease that is remembered for too long");
    assert_eq!(
        error(|it| it.settled_until_ms = vec![AT_MS, AT_MS + SETTLED_KEPT_MS as i64 + 1]),
        "an ended lease that is remembered for too long"
    );
}

#[test]
fn an_ended_lease_is_remembered_once_and_in_time() {
    let twice = |it: &mut Crafted| it.expired.push(it.expired[0].clone());
    assert_eq!(error(twice), "an ended lease twice");
    assert_eq!(error(|it| it.expired[0].1 = -1), "an ended lease's time");
    assert_eq!(error(|it| it.expired[0].1 = i64::MIN), "an ended lease's time");
    let too_many = |it: &mut Crafted| it.expired.resize(FINISHED_MAX + 1, it.expired[0].clone());
    assert_eq!(error(too_many), "more ended leases than an account remembers");
}

#[test]
fn what_lies_inside_is_read_in_its_own_version() {
    let newer = "written by a newer version of this module; upgrade this server's";
    assert_eq!(error(|it| it.window_encoding += 1), newer);
    assert_eq!(error(|it| it.ledger_encoding += 1), newer);
    assert_eq!(error(|it| it.lease_encodings[0] += 1), newer);
    assert_eq!(error(|it| it.lease_encodings[1] += 1), newer);
    assert_eq!(error(|it| it.expired_encodings[0] += 1), newer);
    assert_eq!(error(|it| it.expired_encodings[1] += 1), newer);
    assert_eq!(error(|it| it.settled_encoding += 1), newer);
    let replaced = "written by an unreleased version of this module, in an encoding that has been replaced";
    assert_eq!(error(|it| it.ledger_encoding -= 1), replaced);
    assert_eq!(error(|it| it.lease_encodings[0] -= 1), replaced);
    let bytes = Crafted::default().save();
    assert_eq!(load_versioned::<Account>(&mut Decoder::new(&bytes), Account::ENCODING - 1).unwrap_err().0, replaced);
    assert_eq!(load_versioned::<Account>(&mut Decoder::new(&bytes), Account::ENCODING + 1).unwrap_err().0, newer);
}

#[test]
fn a_policy_that_cannot_be_asked_refuses() {
    use super::row::Answered;
    let row = Row::new(0, 0, false, Answered::UNDECIDED);
    assert_eq!(Answer::of(&[row]), Answer { admitted: false, retry_after_ms: -1 });
}
