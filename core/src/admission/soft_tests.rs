//! Soft limits are announced once in a period, whatever change reaches them.

use super::*;
use crate::calendar::{Day, Period};
use crate::codec::{Decoder, Encoded};
use crate::ledger::Stamp;
use crate::money::Amount;
use crate::stored::Stored as _;

const NOW_MS: i64 = 1_738_324_800_000;
const NAMES: [&[u8]; 3] = [b"a", b"b", b"c"];

fn picos(picos: i128) -> Amount {
    Amount::from_picos(picos).expect("within range")
}

fn moment(day: i32, version: u64) -> Moment {
    let stamp = Stamp { at_ms: NOW_MS, keep_days: 3_600, remember_ms: 1_000, version };
    Moment { day: Day::from_number(day).expect("a day"), stamp }
}

fn budget(amount: i128, period: Period, soft_percent: u8) -> Policy {
    let kind = Kind::Budget { amount: picos(amount), period, soft_percent };
    Policy { kind, meter: ShortName::from_slice(USD), shadow: false, give_back: false, decimal: false }
}

fn saved(account: &Account) -> Vec<u8> {
    let mut out = Encoded::default();
    account.save(&mut out);
    out.0
}

fn told(account: &mut Account, now: &Moment) -> Vec<Vec<u8>> {
    account.tell_soft(now).iter().map(|name| name.to_vec()).collect()
}

#[test]
fn a_budget_that_falls_below_its_limit_again_is_not_told_twice_in_a_period() {
    let mut account = Account::default();
    let (today, next_month) = (moment(20_119, 1), moment(20_120, 2));
    account.set(b"a", budget(100, Period::Month, 80)).expect("room");
    account.ledger_mut().charge(today.day, picos(79), 62, 1).expect("within range");
    assert!(told(&mut account, &today).is_empty());
    account.ledger_mut().charge(today.day, picos(1), 62, 2).expect("within range");
    assert_eq!(told(&mut account, &today), [b"a"]);
    account.ledger_mut().charge(today.day, picos(-50), 62, 3).expect("within range");
    assert!(told(&mut account, &today).is_empty());
    account.ledger_mut().charge(today.day, picos(60), 62, 4).expect("within range");
    assert!(told(&mut account, &today).is_empty());
    // A lower budget over the same period is still the same budget. 2025-02-01 begins another period.
    account.set(b"a", budget(50, Period::Month, 80)).expect("room");
    assert!(told(&mut account, &today).is_empty());
    account.ledger_mut().charge(next_month.day, picos(40), 62, 5).expect("within range");
    assert_eq!(told(&mut account, &next_month), [b"a"]);
    // Nor is it announced for the previous period if the clock steps back.
    assert!(told(&mut account, &today).is_empty());
}

#[test]
fn a_prepaid_account_is_told_of_when_its_credit_runs_low() {
    let mut account = Account::default();
    let now = moment(20_119, 1);
    account.set(b"a", budget(0, Period::Total, 80)).expect("room");
    assert!(told(&mut account, &now).is_empty(), "nothing to come close to");
    account.ledger_mut().give_credit(None, Period::Total, now.day, picos(100), &now.stamp).expect("within range");
    account.ledger_mut().charge(now.day, picos(79), 62, 3).expect("within range");
    assert!(told(&mut account, &now).is_empty());
    account.ledger_mut().charge(now.day, picos(1), 62, 4).expect("within range");
    assert_eq!(told(&mut account, &now), [b"a"]);
}

/// What is announced, compared with a list of all previous announcements.
#[test]
fn it_is_told_once_for_each_period() {
    struct Own {
        amount: i128,
        period: Period,
        soft: i128,
        told: Option<Day>,
    }
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |end: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        i128::from(random % end)
    };
    let (mut account, mut replica) = (Account::default(), Account::default());
    let mut own: Vec<Option<Own>> = vec![None, None, None];
    let (mut day, mut spent, mut credits) = (20_000, Vec::<(Day, i128)>::new(), Vec::<(Period, Day, i128)>::new());
    let same = |period: Period, one: Day, other: Day| period.first_day(one) == period.first_day(other);
    let mut tellings = 0;
    for step in 0..1_000_000 {
        let now = moment(day, step + 1);
        let at = usize::try_from(below(3)).expect("small");
        let period = Period::ALL[usize::try_from(below(4)).expect("small")];
        match below(12) {
            0..=4 => {
                let amount = below(60) - 10;
                spent.push((now.day, amount));
                for account in [&mut account, &mut replica] {
                    account.ledger_mut().charge(now.day, picos(amount), 3_600, step + 1).expect("within range");
                }
            }
            5 => {
                let amount = below(90) - 30;
                let before: i128 =
                    credits.iter().filter(|it| it.0 == period && same(period, it.1, now.day)).map(|it| it.2).sum();
                for account in [&mut account, &mut replica] {
                    let given = account.ledger_mut().give_credit(None, period, now.day, picos(amount), &now.stamp);
                    assert_eq!(given.is_ok(), before + amount >= 0);
                }
                if before + amount >= 0 {
                    credits.push((period, now.day, amount));
                }
            }
            6 | 7 => {
                let (amount, soft) = (below(300), below(101));
                let period = own[at].as_ref().filter(|_| below(3) > 0).map_or(period, |own| own.period);
                let told = own[at].as_ref().filter(|own| own.period == period).and_then(|own| own.told);
                let policy = budget(amount, period, u8::try_from(soft).expect("small"));
                account.set(NAMES[at], policy.clone()).expect("room");
                replica.set(NAMES[at], policy).expect("room");
                own[at] = Some(Own { amount, period, soft, told });
            }
            8 if below(4) == 0 => {
                account.delete(NAMES[at]);
                replica.delete(NAMES[at]);
                own[at] = None;
            }
            9 if below(3) == 0 => day += i32::try_from(below(9)).expect("small"),
            _ => {}
        }
        let now = moment(day, step + 1);
        let mut expected = Vec::new();
        for (name, own) in NAMES.iter().zip(&mut own) {
            let Some(own) = own else { continue };
            let used: i128 = spent.iter().filter(|it| same(own.period, it.0, now.day)).map(|it| it.1).sum();
            let credit = credits.iter().filter(|it| it.0 == own.period && same(own.period, it.1, now.day));
            let limit = own.amount + credit.map(|it| it.2).sum::<i128>();
            let is_there = own.soft > 0 && limit > 0 && used * 100 >= limit * own.soft;
            if is_there && own.told.is_none_or(|told| !same(own.period, told, now.day)) {
                own.told = Some(now.day);
                expected.push(name.to_vec());
            }
        }
        let mut names = told(&mut account, &now);
        names.iter().for_each(|name| replica.set_told(name, now.day));
        names.sort();
        expected.sort();
        assert_eq!(names, expected, "{step}");
        tellings += names.len();
        if step % 500 == 0 {
            let bytes = saved(&account);
            assert_eq!(bytes, saved(&replica));
            let mut from = Decoder::new(&bytes);
            replica = Account::load(&mut from, Account::ENCODING).expect("what was saved");
            assert_eq!(bytes, saved(&replica));
            // Start again from time to time, so that the lists stay short.
            if step % 1_000 == 0 {
                (account, replica) = (Account::default(), Account::default());
                (spent, credits, own) = (Vec::new(), Vec::new(), vec![None, None, None]);
            }
        }
    }
    assert!(tellings > 2_000, "{tellings}");
}
