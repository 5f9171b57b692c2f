//! A ledger that may have policies, and the admissions that live in it.

use std::collections::{BTreeMap, HashMap};

use super::dates::{end_of, length_of};
use super::ledger::Ledger;
use super::limits::{TOKEN, until_room, whole_units};
use super::policy::{Kind, Policy};
use super::state::State;
use super::wire::Reply;
use super::words::Done;
use crate::commands::Period;
use crate::{Amount, Text};

/// Amounts by meter.
pub(super) type Amounts = BTreeMap<Text, Amount>;

pub(super) struct Admission {
    at: i64,
    pub(super) end: i64,
    amounts: Amounts,
    pub(super) settled: bool,
}

/// Without policies it is a ledger alone.
#[derive(Default)]
pub(super) struct Account {
    pub(super) money: Ledger,
    pub(super) policies: Vec<Policy>,
    pub(super) admissions: HashMap<Text, Admission>,
    /// The ledgers of meters other than money, for budgets.
    meters: HashMap<Text, Ledger>,
    /// Until then.
    pub(super) cooldown: i64,
}

/// In the order in which they are better for whoever settles.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Settled,
    Late,
    Repeated,
    Unknown,
}

/// What a policy says, before anything is taken.
pub(super) struct Row {
    pub(super) account: Text,
    pub(super) policy: Text,
    pub(super) allowed: bool,
    pub(super) limit: Reply,
    pub(super) left: Reply,
    pub(super) retry: i64,
    pub(super) reset: i64,
    kind: &'static str,
    meter: Text,
    period: i64,
    used: Reply,
    shadow: bool,
}

impl Row {
    /// A row without a policy: nothing is left, and it refuses.
    pub(super) fn refusing(account: &Text, name: &'static str, retry: i64) -> Self {
        Self {
            account: account.clone(),
            policy: name.into(),
            allowed: false,
            limit: 0.into(),
            left: 0.into(),
            retry,
            reset: retry,
            kind: name,
            meter: Text::default(),
            period: -1,
            used: 0.into(),
            shadow: false,
        }
    }

    pub(super) fn is_cooldown(&self) -> bool {
        self.kind == "COOLDOWN"
    }

    pub(super) fn fields(self, detail: bool) -> Reply {
        let mut made = vec![self.account.into(), self.policy.into(), self.allowed.into()];
        made.extend([self.limit, self.left, self.retry.into(), self.reset.into()]);
        if detail {
            made.extend([self.kind.into(), self.meter.into(), self.period.into(), self.used]);
        }
        made.into()
    }
}

/// Whether the rows refuse a request: one that is in SHADOW does not.
pub(super) fn refuse(rows: &[Row]) -> bool {
    rows.iter().any(|row| !row.allowed && !row.shadow)
}

/// The longest wait of the rows that refuse; -1 if waiting does not help.
pub(super) fn wait_of(rows: &[Row]) -> i64 {
    longest(rows.iter().filter(|row| !row.allowed && !row.shadow).map(|row| row.retry))
}

/// The longest of waits; -1 if one of them is.
pub(super) fn longest(waits: impl Iterator<Item = i64>) -> i64 {
    waits.fold(0, |longest, wait| if longest < 0 || wait < 0 { -1 } else { longest.max(wait) })
}

fn is_money(meter: &Text) -> bool {
    *meter == "usd"
}

impl State {
    /// An account that limits something; a ledger alone is none.
    pub(super) fn account(&mut self, key: &Text) -> Done<Option<&mut Account>> {
        let now = self.now;
        Ok(self.at::<Account>(key)?.filter(|own| own.exists(now)))
    }
}

impl Account {
    /// Whether it limits anything.
    pub(super) fn exists(&self, now: i64) -> bool {
        !self.policies.is_empty() || self.cooldown > now
    }

    fn live(&self, now: i64) -> impl Iterator<Item = &Admission> {
        self.admissions.values().filter(move |one| !one.settled && one.end > now)
    }

    fn held_by_admissions(&self, meter: &Text, now: i64) -> Amount {
        self.live(now).filter_map(|one| one.amounts.get(meter).copied()).sum()
    }

    /// The money that holds and admissions hold.
    pub(super) fn held(&self, period: Period, now: i64) -> Amount {
        self.money.held(period, now) + self.held_by_admissions(&"usd".into(), now)
    }

    pub(super) fn rows(&mut self, name: &Text, asked: &Amounts, now: i64) -> Vec<Row> {
        // The policies bring their counts up to now, and look at the rest.
        let mut policies = std::mem::take(&mut self.policies);
        let mut made: Vec<_> = policies.iter_mut().map(|policy| self.row(name, policy, asked, now)).collect();
        self.policies = policies;
        if self.cooldown > now {
            made.push(Row::refusing(name, "COOLDOWN", self.cooldown - now));
        }
        made
    }

    fn row(&self, name: &Text, policy: &mut Policy, asked: &Amounts, now: i64) -> Row {
        let named = asked.get(&policy.meter).copied();
        let amount = named.unwrap_or_default();
        // A meter that is not named takes nothing, and passes while anything is left.
        let least = named.map_or_else(|| policy.unit(), |amount| policy.units(amount));
        let mut made = Row {
            policy: policy.name.clone(),
            kind: policy.kind.word(),
            meter: policy.meter.clone(),
            shadow: policy.shadow,
            ..Row::refusing(name, "", 0)
        };
        let (limit, used);
        match policy.kind {
            Kind::Window => {
                limit = policy.limit;
                made.period = policy.per_ms;
                (made.allowed, made.retry) = policy.window.ask(now, limit, policy.per_ms, least, policy.fixed);
                used = policy.window.used();
                made.reset = policy.window.reset_after(now, policy.per_ms);
            }
            Kind::Bucket => {
                limit = policy.limit;
                made.period = policy.per_ms;
                let (rate, cost) = (policy.rate(), policy.parts(least));
                let own = policy.flown(now);
                (made.allowed, made.retry) = own.ask(rate, cost);
                made.reset = own.reset_after(rate);
                // Of a token that is there in part, nothing is left.
                let gone = own.gone();
                let per = i128::from(policy.per_ms);
                used = policy.units(from_billionths(gone / per + i128::from(gone % per > 0)));
            }
            Kind::InFlight => {
                let ends: Vec<i64> = self.live(now).map(|one| one.end).collect();
                limit = Amount::try_from(policy.most).unwrap_or_default();
                used = Amount::try_from(ends.len() as u64).unwrap_or_default();
                made.allowed = used < limit;
                made.reset = ends.iter().map(|end| end - now).max().unwrap_or_default();
                made.retry = if made.allowed { 0 } else { until_room(ends, policy.most, now) };
            }
            Kind::Budget(period) => {
                limit = policy.limit;
                used = self.used_of(&policy.meter, period, now);
                made.allowed = named.map_or(used < limit, |amount| used + amount <= limit);
                made.period = length_of(period, now);
                made.reset = end_of(period, now);
                made.retry = if made.allowed {
                    0
                } else if amount > limit {
                    -1
                } else {
                    made.reset
                };
            }
            Kind::Block => {
                (limit, used) = (Amount::ZERO, Amount::ZERO);
                made.allowed = policy.until.is_some_and(|until| until <= now);
                made.retry = policy.until.map_or(-1, |until| (until - now).max(0));
                made.reset = made.retry;
            }
        }
        let told = |value: Amount| if policy.is_decimal() { value.into() } else { whole_units(value).into() };
        (made.limit, made.left, made.used) = (told(limit), told((limit - used).max(Amount::ZERO)), told(used));
        made
    }

    /// What is spent and held of a meter.
    fn used_of(&self, meter: &Text, period: Period, now: i64) -> Amount {
        let held = self.held_by_admissions(meter, now);
        if is_money(meter) {
            return self.money.spent(period, now) + self.money.held(period, now) + held;
        }
        self.meters.get(meter).map(|ledger| ledger.spent(period, now)).unwrap_or_default() + held
    }

    pub(super) fn take(&mut self, lease: &Text, asked: &Amounts, now: i64, end: i64) {
        let made = Admission { at: now, end, amounts: asked.clone(), settled: false };
        self.admissions.insert(lease.clone(), made);
        for policy in &mut self.policies {
            policy.count(asked.get(&policy.meter).copied().unwrap_or_default(), now, now);
        }
    }

    pub(super) fn settle(&mut self, lease: &Text, used: &Amounts, now: i64) -> Outcome {
        let Some(own) = self.admissions.get_mut(lease) else { return Outcome::Unknown };
        if std::mem::replace(&mut own.settled, true) {
            return Outcome::Repeated;
        }
        let mut actual = own.amounts.clone();
        actual.extend(used.iter().map(|(meter, amount)| (meter.clone(), *amount)));
        for policy in &mut self.policies {
            let of = |amounts: &Amounts| amounts.get(&policy.meter).copied().unwrap_or_default();
            let more = policy.units(of(&actual)) - policy.units(of(&own.amounts));
            policy.count(more, own.at, now);
        }
        for (meter, amount) in actual {
            let has_budget = |policy: &Policy| matches!(policy.kind, Kind::Budget(_)) && policy.meter == meter;
            if is_money(&meter) {
                self.money.charge(amount, own.at);
            } else if self.policies.iter().any(has_budget) {
                self.meters.entry(meter).or_default().charge(amount, own.at);
            }
        }
        if own.end <= now { Outcome::Late } else { Outcome::Settled }
    }
}

fn from_billionths(number: i128) -> Amount {
    const MOST: i128 = 1_000_000_000_000_000_000 * TOKEN;
    Amount::from_trillionths(number.clamp(-MOST, MOST) * 1_000).unwrap_or_default()
}

impl Outcome {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Settled => "SETTLED",
            Self::Late => "LATE",
            Self::Repeated => "REPEATED",
            Self::Unknown => "UNKNOWN",
        }
    }
}
