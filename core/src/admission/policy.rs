//! Policies: what an account is allowed, and what it has taken.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use smallvec::SmallVec;

use super::bounds::NAME_BYTES_MAX;
use super::tally::Tally;
use crate::bucket::{Flow, TokenBucket};
use crate::calendar::Period;
use crate::codec::{Corrupt, Reader, Writer};
use crate::limit::Verdict;
use crate::memory::spilled_bytes;
use crate::money::Amount;
use crate::stored::{Stored, load_nested, save_nested};
use crate::window::{Rule, SlidingWindow};
use crate::{PERIOD_MAX_MS, UNITS_MAX};

/// The meter that windows and buckets count by default: each admission is one.
pub const REQUESTS: &[u8] = b"requests";

/// The meter that budgets count by default, and that of the account's own ledger.
pub const USD: &[u8] = b"usd";

/// A policy's or a meter's name. Names of up to 16 bytes lie in the struct, so that decisions follow no pointer to them.
pub type ShortName = SmallVec<[u8; 16]>;

/// The kind of a policy, with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Units in any window of time. Never a fixed window.
    Window(Rule),
    /// Tokens from a bucket.
    Bucket(Flow),
    /// Leases in flight at once.
    InFlight {
        /// The most leases: 0 to 2^53.
        max: u64,
    },
    /// Spend in a calendar period.
    Budget {
        /// The most to spend, zero or more.
        amount: Amount,
        /// The calendar period it is for.
        period: Period,
        /// The soft limit in percent of the amount: 1 to 100, or 0 for none.
        soft_percent: u8,
    },
}

/// A policy as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The kind, with its limit.
    pub kind: Kind,
    /// What windows, buckets and budgets count: 1 to 64 bytes. Empty for leases.
    pub meter: ShortName,
    /// Refuses nothing, and counts what it would have allowed.
    pub shadow: bool,
    /// A lease that expires gives its units back to windows and buckets.
    pub give_back: bool,
}

/// A policy of an account, with what it has counted.
#[derive(Debug, Clone)]
pub struct AccountPolicy {
    /// The policy's name: 1 to 64 bytes.
    pub name: ShortName,
    /// The policy as it was set.
    pub policy: Policy,
    pub(super) state: State,
    /// Changes when the count is forgotten, so that older admissions leave the new count alone.
    pub(super) serial: u64,
    pub(super) tally: Tally,
}

/// What a window or bucket has counted. Leases and spend belong to the account, not to a policy.
#[derive(Debug, Clone)]
pub(super) enum State {
    Window(SlidingWindow),
    /// `None` is full.
    Bucket(Option<TokenBucket>),
    Stateless,
}

impl State {
    pub(super) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Window(_) => State::Window(SlidingWindow::default()),
            Kind::Bucket(_) => State::Bucket(None),
            Kind::InFlight { .. } | Kind::Budget { .. } => State::Stateless,
        }
    }
}

impl AccountPolicy {
    /// What this node has seen of the policy.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether what was counted under `self` is what `policy` counts.
    pub(super) fn counts_as(&self, policy: &Policy) -> bool {
        let (old, new) = (&self.policy, policy);
        std::mem::discriminant(&old.kind) == std::mem::discriminant(&new.kind) && old.meter == new.meter
    }

    /// Whether a window or bucket would admit this many units; `None` asks whether any unit is left.
    pub(super) fn decide(&mut self, at_ms: i64, units: Option<u64>) -> Option<Verdict> {
        let cost = units.unwrap_or(1);
        match (&mut self.state, self.policy.kind) {
            (State::Window(window), Kind::Window(rule)) => Some(window.decide(at_ms, rule, cost)),
            (State::Bucket(Some(bucket)), Kind::Bucket(flow)) => Some(bucket.decide(at_ms, flow, cost)),
            (State::Bucket(None), Kind::Bucket(flow)) => Some(TokenBucket::full(at_ms, flow).decide(at_ms, flow, cost)),
            _ => None,
        }
    }

    /// Takes units from a window or bucket. Returns the time they are kept under, and the milliseconds until the whole
    /// limit is free again.
    pub(super) fn take(&mut self, at_ms: i64, units: u64) -> Option<(i64, i64)> {
        match (&mut self.state, self.policy.kind) {
            (State::Window(_), Kind::Window(rule)) if units == 0 => Some((rule.tick_at_ms(at_ms), 0)),
            (State::Window(window), Kind::Window(rule)) => {
                window.record(at_ms, rule, units);
                Some((window.newest_at_ms(), window.reset_after_ms(at_ms)))
            }
            (State::Bucket(_), Kind::Bucket(_)) if units == 0 => Some((at_ms, 0)),
            (State::Bucket(bucket), Kind::Bucket(flow)) => {
                let bucket = bucket.get_or_insert_with(|| TokenBucket::full(at_ms, flow));
                bucket.record(at_ms, flow, units.cast_signed());
                Some((at_ms, bucket.reset_after_ms()))
            }
            _ => None,
        }
    }

    /// Adds `more` units to those taken at `taken_ms`, or gives units back if it is negative.
    pub(super) fn correct(&mut self, at_ms: i64, taken_ms: i64, more: i64) {
        match (&mut self.state, self.policy.kind) {
            (State::Window(window), Kind::Window(rule)) => window.adjust(at_ms, rule, taken_ms, more),
            (State::Bucket(bucket), Kind::Bucket(flow)) if more != 0 && (more > 0 || bucket.is_some()) => {
                bucket.get_or_insert_with(|| TokenBucket::full(at_ms, flow)).record(at_ms, flow, more);
            }
            _ => {}
        }
    }

    /// The name, and the units in a window or the tokens in a bucket.
    pub(super) fn count(&mut self, at_ms: i64) -> Option<(&[u8], i64)> {
        let count = match (&mut self.state, self.policy.kind) {
            (State::Window(window), _) => window.state(at_ms).used.cast_signed(),
            (State::Bucket(Some(bucket)), _) => bucket.state(at_ms).tokens(),
            (State::Bucket(None), Kind::Bucket(flow)) => flow.burst.cast_signed(),
            _ => return None,
        };
        Some((&self.name, count))
    }

    /// Prefetches what a decision reads; returns a word that depends on it.
    pub(super) fn fetch(&self) -> u64 {
        let state = match &self.state {
            State::Window(window) => window.fetch(),
            State::Bucket(_) | State::Stateless => 0,
        };
        let lens = self.name.len() ^ self.policy.meter.len();
        state ^ self.serial ^ lens as u64
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let state = match &self.state {
            State::Window(window) => window.memory_bytes(),
            State::Bucket(_) | State::Stateless => 0,
        };
        [&self.name, &self.policy.meter].into_iter().map(spilled_bytes).sum::<usize>() + state
    }

    pub(super) fn save(&self, out: &mut dyn Writer) {
        out.bytes(&self.name);
        self.policy.save(out);
        out.uint(self.serial);
        match &self.state {
            State::Window(window) => save_nested(window, out),
            State::Bucket(bucket) => {
                out.uint(bucket.is_some().into());
                if let Some(bucket) = bucket {
                    save_nested(bucket, out);
                }
            }
            State::Stateless => {}
        }
    }

    pub(super) fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let name = load_name(from)?;
        let policy = Policy::load(from)?;
        let serial = from.uint()?;
        let state = match policy.kind {
            Kind::Window(_) => State::Window(load_nested(from)?),
            Kind::Bucket(_) => match from.uint_max(1, "a bucket or none")? {
                0 => State::Bucket(None),
                _ => State::Bucket(Some(load_nested(from)?)),
            },
            Kind::InFlight { .. } | Kind::Budget { .. } => State::Stateless,
        };
        Ok(Self { name, policy, state, serial, tally: Tally::default() })
    }
}

const WINDOW: u64 = 0;
const BUCKET: u64 = 1;
const IN_FLIGHT: u64 = 2;
const BUDGET: u64 = 3;

impl Policy {
    fn save(&self, out: &mut dyn Writer) {
        match self.kind {
            Kind::Window(rule) => {
                [WINDOW, rule.limit, rule.window_ms].into_iter().for_each(|field| out.uint(field));
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
        }
        out.bytes(&self.meter);
        out.uint(u64::from(self.shadow) | u64::from(self.give_back) << 1);
    }

    fn load(from: &mut dyn Reader) -> Result<Self, Corrupt> {
        let kind = match from.uint()? {
            WINDOW => {
                let limit = from.uint_max(UNITS_MAX, "limit")?;
                let window_ms = from.uint_max(PERIOD_MAX_MS, "window")?.max(1);
                Kind::Window(Rule { limit, window_ms, fixed: false })
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
            _ => return Err(Corrupt("a policy of an unknown kind")),
        };
        let meter = ShortName::from_slice(&from.bytes(NAME_BYTES_MAX)?);
        if meter.is_empty() != matches!(kind, Kind::InFlight { .. }) {
            return Err(Corrupt("a policy without a meter, or a limit of leases in flight with one"));
        }
        let flags = from.uint_max(3, "flags")?;
        Ok(Self { kind, meter, shadow: flags & 1 != 0, give_back: flags & 2 != 0 })
    }
}

/// A name of 1 to [`NAME_BYTES_MAX`] bytes.
pub(super) fn load_name(from: &mut dyn Reader) -> Result<ShortName, Corrupt> {
    let name = from.bytes(NAME_BYTES_MAX)?;
    if name.is_empty() {
        return Err(Corrupt("an empty name"));
    }
    Ok(ShortName::from_slice(&name))
}
