//! Policies: the limits of an account, and what was taken from them.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::amounts::{Amounts, USD, billionths, billionths_given_back, whole_units};
use super::bounds::{BILLIONTHS_MAX, NAME_BYTES_MAX};
use super::name::ShortName;
use super::row::{Count, Figures, Used};
use super::tally::Tally;
use crate::breaker::{Breaker, Threshold};
use crate::bucket::{Flow, TokenBucket};
use crate::calendar::{Day, Period};
use crate::codec::{Corrupt, Reader, Writer};
use crate::limit::Verdict;
use crate::money::Amount;
use crate::stored::{Stored, load_nested, save_nested};
use crate::window::{Rule, Shape, SlidingWindow};
use crate::{PERIOD_MAX_MS, UNITS_MAX};

/// The kind of a policy, with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Limits units in a window of time.
    Window(Rule),
    /// Takes tokens from a bucket.
    Bucket(Flow),
    /// Limits leases that are in flight at once.
    InFlight {
        /// The most leases: 0 to 2^53.
        max: u64,
    },
    /// Limits spend in a calendar period.
    Budget {
        /// The most to spend, zero or more.
        amount: Amount,
        /// The calendar period it is for.
        period: Period,
        /// The soft limit in percent of the amount: 1 to 100, or 0 for none.
        soft_percent: u8,
    },
    /// Refuses every request.
    Block {
        /// The end of the block in unix milliseconds, by the server's clock; `None` if it does not end.
        until_ms: Option<i64>,
    },
    /// Refuses requests after failures.
    Breaker(Threshold),
}

impl Kind {
    /// Whether policies of this kind count a meter.
    pub fn has_meter(&self) -> bool {
        !matches!(self, Kind::InFlight { .. } | Kind::Block { .. } | Kind::Breaker(_))
    }

    /// Whether the kind can count billionths, and its limits are within their range.
    fn may_be_decimal(&self) -> bool {
        match *self {
            Kind::Window(rule) => rule.limit <= BILLIONTHS_MAX,
            Kind::Bucket(flow) => flow.rate.max(flow.burst) <= BILLIONTHS_MAX,
            Kind::InFlight { .. } | Kind::Budget { .. } | Kind::Block { .. } | Kind::Breaker(_) => false,
        }
    }
}

/// A policy, as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The kind, with its limit.
    pub kind: Kind,
    /// What windows, buckets and budgets count: 1 to 64 bytes. Empty for leases, blocks and breakers.
    pub meter: ShortName,
    /// Refuses nothing, and counts only what it would have allowed.
    pub shadow: bool,
    /// Whether a lease that ends by time gives its units back to this window or bucket.
    pub give_back: bool,
    /// The units of a window or bucket are billionths: its limit is in billionths, at most [`BILLIONTHS_MAX`], and each
    /// amount is rounded up to them.
    pub decimal: bool,
}

impl Policy {
    /// How many of the policy's units a request is estimated to take; `None` if it does not name the meter.
    pub(super) fn estimated_units(&self, amounts: &Amounts) -> Option<u64> {
        amounts.estimate(&self.meter).map(|amount| self.units(amount))
    }

    /// An amount in the policy's units, rounded up: 0 if it is negative, and at most one more than any limit allows.
    pub(super) fn units(&self, amount: Amount) -> u64 {
        if self.decimal { billionths(amount) } else { whole_units(amount) }
    }

    /// Limit and remaining units, in the form in which they are replied.
    pub(super) fn figures(&self, limit: u64, remaining: u64) -> Figures {
        if !self.decimal {
            return Figures::Units { limit, remaining };
        }
        let [limit, remaining] = [limit, remaining].map(Amount::from_billionths);
        Figures::Money { limit, remaining }
    }

    /// What a window or bucket has counted.
    pub(super) fn count(&self, units: i64) -> Count {
        if !self.decimal {
            return Count::Units(units);
        }
        let amount = Amount::from_billionths(units.unsigned_abs());
        Count::Money(if units < 0 { Amount::ZERO.saturating_sub(amount) } else { amount })
    }

    /// What counts towards the limit of a window or bucket.
    pub(super) fn used(&self, units: i64) -> Used {
        let units = units.max(0).unsigned_abs();
        if self.decimal { Used::Money(Amount::from_billionths(units)) } else { Used::Units(units) }
    }

    /// Whether money that is charged to the account without an admission counts in the policy.
    pub(super) fn counts_money(&self) -> bool {
        self.decimal && *self.meter == *USD
    }
}

/// A policy of an account, with what it has counted.
#[derive(Debug, Clone)]
pub struct AccountPolicy {
    /// The policy's name: 1 to 64 bytes.
    pub name: ShortName,
    /// The policy as it was set.
    pub policy: Policy,
    pub(super) state: State,
    /// A new one is given when the count is forgotten, so that older admissions do not change the new count.
    pub(super) serial: u64,
    pub(super) tally: Tally,
}

/// The state of a policy. Leases and spend belong to the account, not to a policy.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// `None` stands for a window that has counted nothing yet. Windows and buckets are boxed, because not every policy
    /// is one, and all policies of an account lie side by side.
    Window(Option<Box<SlidingWindow>>),
    /// `None` stands for a full bucket.
    Bucket(Option<Box<TokenBucket>>),
    /// The first day of the last period in which the budget's soft limit was announced.
    Budget(Option<Day>),
    /// Boxed because few accounts have one.
    Breaker(Box<Breaker>),
    Stateless,
}

impl State {
    pub(super) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Window(_) => State::Window(None),
            Kind::Bucket(_) => State::Bucket(None),
            Kind::Budget { .. } => State::Budget(None),
            Kind::Breaker(_) => State::Breaker(Box::default()),
            Kind::InFlight { .. } | Kind::Block { .. } => State::Stateless,
        }
    }
}

impl AccountPolicy {
    /// A policy that has counted nothing yet.
    pub(super) fn new(name: &[u8], policy: Policy, serial: u64) -> Self {
        let (name, state) = (ShortName::from_slice(name), State::new(&policy.kind));
        Self { name, policy, state, serial, tally: Tally::default() }
    }

    /// Replaces the policy by one that [counts the same](Self::counts_as). A budget over another period was not
    /// announced yet.
    pub(super) fn replace(&mut self, policy: Policy) {
        if let (Kind::Budget { period: old, .. }, Kind::Budget { period, .. }) = (self.policy.kind, policy.kind)
            && old != period
        {
            self.state = State::Budget(None);
        }
        self.policy = policy;
    }

    /// For a budget with a soft limit that was not announced yet in this period: the first day of the period of
    /// `today`.
    pub(super) fn untold(&self, today: Day) -> Option<Day> {
        match (&self.state, self.policy.kind) {
            (State::Budget(told), Kind::Budget { period, soft_percent, .. }) if soft_percent > 0 => {
                Some(period.first_day(today)).filter(|&first| told.is_none_or(|told| told < first))
            }
            _ => None,
        }
    }

    /// Notes that the budget's soft limit was announced in the period that contains `today`.
    pub(super) fn set_told(&mut self, today: Day) {
        if let (State::Budget(told), Kind::Budget { period, .. }) = (&mut self.state, self.policy.kind) {
            *told = Some(period.first_day(today));
        }
    }

    /// What this node has seen of the policy.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether `policy` counts the same as `self`, so that the count can be kept.
    pub(super) fn counts_as(&self, policy: &Policy) -> bool {
        let (old, new) = (&self.policy, policy);
        let as_before = match (old.kind, new.kind) {
            (Kind::Window(old), Kind::Window(new)) => old.shape == new.shape,
            (old, new) => std::mem::discriminant(&old) == std::mem::discriminant(&new),
        };
        as_before && old.meter == new.meter && old.decimal == new.decimal
    }

    /// Whether the policy counts units of its own: it is a window or a bucket.
    pub(super) fn counts_units(&self) -> bool {
        matches!(self.state, State::Window(_) | State::Bucket(_))
    }

    /// Whether a window or bucket would admit this many units; `None` asks whether any unit is left.
    pub(super) fn decide(&mut self, at_ms: i64, units: Option<u64>) -> Option<Verdict> {
        let cost = units.unwrap_or(1);
        match (&mut self.state, self.policy.kind) {
            (State::Window(Some(window)), Kind::Window(rule)) => Some(window.decide(at_ms, rule, cost)),
            (State::Window(None), Kind::Window(rule)) => Some(SlidingWindow::default().decide(at_ms, rule, cost)),
            (State::Bucket(Some(bucket)), Kind::Bucket(flow)) => Some(bucket.decide(at_ms, flow, cost)),
            (State::Bucket(None), Kind::Bucket(flow)) => Some(TokenBucket::full(at_ms, flow).decide(at_ms, flow, cost)),
            _ => None,
        }
    }

    /// Takes units from a window or bucket. Returns the time under which they are kept, and the milliseconds until the
    /// whole limit is free again.
    pub(super) fn take(&mut self, at_ms: i64, units: u64) -> Option<(i64, i64)> {
        match (&mut self.state, self.policy.kind) {
            (State::Window(window), Kind::Window(rule)) if units == 0 => {
                let kept_at_ms = window.as_mut().map(|window| window.kept_at_ms(at_ms, rule));
                Some((kept_at_ms.unwrap_or_else(|| rule.tick_at_ms(at_ms)), 0))
            }
            (State::Window(window), Kind::Window(rule)) => {
                let window = window.get_or_insert_default();
                window.record(at_ms, rule, units);
                Some((window.newest_at_ms(), window.reset_after_ms(at_ms)))
            }
            (State::Bucket(_), Kind::Bucket(_)) if units == 0 => Some((at_ms, 0)),
            (State::Bucket(bucket), Kind::Bucket(flow)) => {
                let bucket = bucket.get_or_insert_with(|| Box::new(TokenBucket::full(at_ms, flow)));
                bucket.record(at_ms, flow, units.cast_signed());
                Some((at_ms, bucket.reset_after_ms()))
            }
            _ => None,
        }
    }

    /// Adds `more` units to those taken at `taken_ms`; gives units back if `more` is negative.
    pub(super) fn correct(&mut self, at_ms: i64, taken_ms: i64, more: i64) {
        match (&mut self.state, self.policy.kind) {
            (State::Window(None), Kind::Window(_)) if more == 0 => {}
            (State::Window(window), Kind::Window(rule)) => {
                window.get_or_insert_default().adjust(at_ms, rule, taken_ms, more);
            }
            (State::Bucket(bucket), Kind::Bucket(flow)) if more != 0 && (more > 0 || bucket.is_some()) => {
                let bucket = bucket.get_or_insert_with(|| Box::new(TokenBucket::full(at_ms, flow)));
                bucket.record(at_ms, flow, more);
            }
            _ => {}
        }
    }

    /// Counts money that was charged without an admission at `spent_ms`, or given back if it is negative. A window
    /// counts it at that time, if that is still in the window; giving back removes the newest units. A bucket counts it
    /// now.
    pub(super) fn count_money(&mut self, at_ms: i64, spent_ms: i64, amount: Amount) {
        let is_charge = amount > Amount::ZERO;
        let units = if is_charge { billionths(amount) } else { billionths_given_back(amount) };
        match (&mut self.state, self.policy.kind) {
            _ if units == 0 => {}
            (State::Window(window), Kind::Window(rule)) if is_charge && spent_ms >= at_ms => {
                window.get_or_insert_default().record(at_ms, rule, units);
            }
            (State::Window(window), Kind::Window(rule)) if is_charge => {
                window.get_or_insert_default().adjust(at_ms, rule, rule.tick_at_ms(spent_ms), units.cast_signed());
            }
            (State::Window(window), Kind::Window(rule)) if rule.covers(at_ms, spent_ms) => {
                window.get_or_insert_default().give_back(at_ms, rule, units);
            }
            (State::Bucket(_), _) => {
                let units = units.cast_signed();
                self.correct(at_ms, at_ms, if is_charge { units } else { -units });
            }
            _ => {}
        }
    }

    /// The policy's breaker, if it is one.
    pub(super) fn breaker_mut(&mut self) -> Option<(&mut Breaker, Threshold)> {
        match (&mut self.state, self.policy.kind) {
            (State::Breaker(breaker), Kind::Breaker(threshold)) => Some((breaker, threshold)),
            _ => None,
        }
    }

    /// Until when the policy's breaker is open, if it is one that is not closed.
    pub(super) fn open_until_ms(&self) -> Option<i64> {
        match &self.state {
            State::Breaker(breaker) => breaker.open_until_ms(),
            _ => None,
        }
    }

    /// The units in a window or the tokens in a bucket, which are negative in debt.
    pub(super) fn count(&mut self, at_ms: i64) -> Option<i64> {
        match (&mut self.state, self.policy.kind) {
            // By the rule in force, which may differ from that of the last admission.
            (State::Window(window), Kind::Window(rule)) => {
                Some(window.as_mut().map_or(0, |window| window.used_at(at_ms, rule).cast_signed()))
            }
            (State::Bucket(Some(bucket)), _) => Some(bucket.state(at_ms).tokens()),
            (State::Bucket(None), Kind::Bucket(flow)) => Some(flow.burst.cast_signed()),
            _ => None,
        }
    }

    /// Prefetches what a decision reads; returns a word that depends on it.
    pub(super) fn fetch(&self) -> u64 {
        let state = match &self.state {
            State::Window(Some(window)) => window.fetch(),
            State::Bucket(Some(bucket)) => bucket.fetch(),
            State::Window(None) | State::Bucket(None) | State::Budget(_) | State::Breaker(_) | State::Stateless => 0,
        };
        let kind = match self.policy.kind {
            Kind::Window(rule) => rule.limit,
            Kind::Bucket(flow) => flow.rate,
            Kind::InFlight { max } => max,
            Kind::Budget { soft_percent, .. } => soft_percent.into(),
            Kind::Block { .. } | Kind::Breaker(_) => 0,
        };
        let lens = self.name.len() ^ self.policy.meter.len();
        state ^ kind ^ self.serial ^ lens as u64 ^ self.tally.denied
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let state = match &self.state {
            State::Window(Some(window)) => window.total_bytes(),
            State::Bucket(Some(bucket)) => bucket.total_bytes(),
            State::Breaker(breaker) => breaker.total_bytes(),
            State::Window(None) | State::Bucket(None) | State::Budget(_) | State::Stateless => 0,
        };
        self.name.memory_bytes() + self.policy.meter.memory_bytes() + state
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.bytes(&self.name);
        self.policy.save(out);
        out.uint(self.serial);
        match &self.state {
            State::Window(Some(window)) => save_nested(&**window, out),
            State::Window(None) => save_nested(&SlidingWindow::default(), out),
            State::Bucket(bucket) => {
                out.uint(bucket.is_some().into());
                if let Some(bucket) = bucket {
                    save_nested(&**bucket, out);
                }
            }
            State::Budget(told) => {
                out.uint(told.is_some().into());
                if let Some(first_day) = told {
                    out.int(first_day.number().into());
                }
            }
            State::Breaker(breaker) => save_nested(&**breaker, out),
            State::Stateless => {}
        }
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let name = load_name(from)?;
        let policy = Policy::load(from)?;
        let serial = from.uint()?;
        let state = match policy.kind {
            Kind::Window(_) => {
                let window: SlidingWindow = load_nested(from)?;
                State::Window((!window.is_new()).then(|| Box::new(window)))
            }
            Kind::Bucket(_) => match from.uint_max(1, "a bucket or none")? {
                0 => State::Bucket(None),
                _ => State::Bucket(Some(Box::new(load_nested(from)?))),
            },
            Kind::Budget { period, .. } => match from.uint_max(1, "a period that was told, or none")? {
                0 => State::Budget(None),
                _ => State::Budget(Some(load_first_day(from, period)?)),
            },
            Kind::Breaker(_) => State::Breaker(Box::new(load_nested(from)?)),
            Kind::InFlight { .. } | Kind::Block { .. } => State::Stateless,
        };
        Ok(Self { name, policy, state, serial, tally: Tally::default() })
    }
}

const WINDOW: u64 = 0;
const BUCKET: u64 = 1;
const IN_FLIGHT: u64 = 2;
const BUDGET: u64 = 3;
const BLOCK: u64 = 4;
const BREAKER: u64 = 5;

impl Policy {
    fn save(&self, out: &mut dyn Writer) {
        match self.kind {
            Kind::Window(rule) => {
                [WINDOW, rule.limit, rule.window_ms].into_iter().for_each(|field| out.uint(field));
                rule.shape.save(out);
            }
            Kind::Bucket(flow) => {
                [BUCKET, flow.rate, flow.burst, flow.per_ms].into_iter().for_each(|field| out.uint(field));
            }
            Kind::InFlight { max } => [IN_FLIGHT, max].into_iter().for_each(|field| out.uint(field)),
            Kind::Budget { amount, period, soft_percent } => {
                out.uint(BUDGET);
                out.int128(amount.picos());
                out.bytes(period.name().as_bytes());
                out.uint(soft_percent.into());
            }
            Kind::Block { until_ms } => {
                [BLOCK, until_ms.is_some().into()].into_iter().for_each(|field| out.uint(field));
                if let Some(until_ms) = until_ms {
                    out.int(until_ms);
                }
            }
            Kind::Breaker(threshold) => {
                let Threshold { failures, per_ms, open_ms } = threshold;
                [BREAKER, failures, per_ms, open_ms].into_iter().for_each(|field| out.uint(field));
            }
        }
        out.bytes(&self.meter);
        out.uint(u64::from(self.shadow) | u64::from(self.give_back) << 1 | u64::from(self.decimal) << 2);
    }

    fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let kind = match from.uint()? {
            WINDOW => {
                let limit = from.uint_max(UNITS_MAX, "limit")?;
                let window_ms = from.uint_max(PERIOD_MAX_MS, "window")?.max(1);
                Kind::Window(Rule { limit, window_ms, shape: Shape::load(from)? })
            }
            BUCKET => {
                let rate = from.uint_max(UNITS_MAX, "rate")?.max(1);
                let burst = from.uint_max(UNITS_MAX, "burst")?;
                Kind::Bucket(Flow { rate, burst, per_ms: from.uint_max(PERIOD_MAX_MS, "period")?.max(1) })
            }
            IN_FLIGHT => Kind::InFlight { max: from.uint_max(UNITS_MAX, "max")? },
            BUDGET => {
                let amount = Amount::from_picos(from.int128()?).filter(|&amount| amount >= Amount::ZERO);
                let period = Period::parse(&from.bytes(NAME_BYTES_MAX)?).ok_or(Corrupt("an unknown period"))?;
                let soft_percent =
                    u8::try_from(from.uint_max(100, "soft percent")?).map_err(|_| Corrupt("soft percent"))?;
                Kind::Budget { amount: amount.ok_or(Corrupt("a budget out of range"))?, period, soft_percent }
            }
            BLOCK => Kind::Block {
                until_ms: match from.uint_max(1, "neither an end nor none")? {
                    0 => None,
                    _ => Some(from.time_ms("a block's end")?),
                },
            },
            BREAKER => {
                let failures = from.uint_max(UNITS_MAX, "failures")?.max(1);
                let per_ms = from.uint_max(PERIOD_MAX_MS, "period")?.max(1);
                Kind::Breaker(Threshold { failures, per_ms, open_ms: from.uint_max(PERIOD_MAX_MS, "open")?.max(1) })
            }
            _ => return Err(Corrupt("a policy of an unknown kind")),
        };
        let meter = ShortName::from_slice(&from.bytes(NAME_BYTES_MAX)?);
        if meter.is_empty() == kind.has_meter() {
            return Err(Corrupt("a policy without a meter, or one that counts none with one"));
        }
        let flags = from.uint_max(7, "flags")?;
        let decimal = flags & 4 != 0;
        if decimal && !kind.may_be_decimal() {
            return Err(Corrupt("billionths beyond their limit, or of what is not counted in them"));
        }
        Ok(Self { kind, meter, shadow: flags & 1 != 0, give_back: flags & 2 != 0, decimal })
    }
}

fn load_first_day(from: &mut dyn Reader, period: Period) -> Result<Day, Corrupt> {
    let day = i32::try_from(from.int()?).ok().and_then(Day::from_number);
    day.filter(|&day| period.first_day(day) == day).ok_or(Corrupt("a period told that does not begin on that day"))
}

/// Reads a name of 1 to [`NAME_BYTES_MAX`] bytes.
pub(super) fn load_name(from: &mut dyn Reader) -> Result<ShortName, Corrupt> {
    let name = from.bytes(NAME_BYTES_MAX)?;
    if name.is_empty() {
        return Err(Corrupt("an empty name"));
    }
    Ok(ShortName::from_slice(&name))
}
