//! The account by its definition: lists of everything that was ever taken, searched completely.

use super::life::ENDED_MAX;
use super::row::Answered;
use super::*;
use crate::breaker::Threshold;
use crate::bucket::Flow;
use crate::calendar::{Day, Period};
use crate::ledger::{KEEP_DAYS_MAX, Ledger};
use crate::limit::NEVER;
use crate::money::Amount;
use crate::window::{Rule, Shape};

pub struct Model {
    pub policies: Vec<ModelPolicy>,
    admissions: Vec<ModelAdmission>,
    ledgers: Vec<ModelLedger>,
    ahead_ms: i64,
    at_ms: i64,
    serial: u64,
    /// How long the account outlives its last admission, and until when it was needed after the last one.
    pub idle: Option<(u64, i64)>,
    pub charged: bool,
    cooldown_until_ms: i64,
    /// The average time of calls, in floating point, and the time of the last one.
    latency: Option<(f64, i64)>,
}

pub struct ModelPolicy {
    name: Vec<u8>,
    policy: Policy,
    serial: u64,
    /// A window's units with their times. In an anchored window these are the times at which its windows began.
    units: Vec<(i64, i128)>,
    newest_ms: i64,
    /// The rule at the last change: units that had left by that rule do not come back.
    rule: Option<Rule>,
    /// A bucket's exact level, in parts of a token, at a time.
    level: Option<(i128, i64)>,
    /// The times of a breaker's failures.
    failures: Vec<i64>,
    /// While a breaker is not closed: until when it is open, and its probe.
    open: Option<(i64, Option<Vec<u8>>)>,
    pub tally: Tally,
}

#[derive(Clone, PartialEq)]
struct ModelAdmission {
    id: Vec<u8>,
    day: Day,
    order: u64,
    ends_ms: i64,
    /// For an ended admission: until when it is remembered.
    kept_ms: Option<i64>,
    settled: bool,
    taken: Vec<(u64, i64, i64)>,
    estimates: Vec<(Vec<u8>, Amount)>,
}

struct ModelLedger {
    meter: Vec<u8>,
    spent: Vec<(Day, Amount)>,
    holds: Vec<(Vec<u8>, Day, Amount, i64)>,
    at_ms: i64,
}

fn parts(units: i64, flow: Flow) -> i128 {
    i128::from(units) * i128::from(flow.per_ms)
}

/// The beginning of the window that contains a time.
fn kept_ms(at_ms: i64, rule: Rule) -> i64 {
    match rule.shape {
        Shape::Sliding | Shape::Fixed => at_ms,
        Shape::Anchored(anchor_ms) => {
            let windows = i128::from(at_ms - anchor_ms).div_euclid(i128::from(rule.window_ms));
            (i128::from(anchor_ms) + windows * i128::from(rule.window_ms)) as i64
        }
    }
}

/// Units of this time, and all earlier ones, have left the window.
fn gone_ms(at_ms: i64, rule: Rule) -> i64 {
    match rule.shape {
        Shape::Sliding | Shape::Fixed => at_ms - rule.window_ms as i64,
        Shape::Anchored(_) => kept_ms(at_ms, rule) - 1,
    }
}

impl ModelPolicy {
    fn units_of(&self, amount: Amount) -> u64 {
        let picos = if self.policy.decimal { 1_000 } else { 1_000_000_000_000 };
        ((amount.picos() + picos - 1) / picos) as u64
    }

    fn figures(&self, limit: u64, remaining: u64) -> Figures {
        if self.policy.decimal {
            let amount = |units: u64| Amount::from_picos(i128::from(units) * 1_000).unwrap();
            return Figures::Money { limit: amount(limit), remaining: amount(remaining) };
        }
        Figures::Units { limit, remaining }
    }

    fn level_at(&self, at_ms: i64, flow: Flow) -> i128 {
        let full = parts(flow.burst as i64, flow);
        let (level, since_ms) = self.level.unwrap_or((full, at_ms));
        full.min(level + i128::from(at_ms - since_ms) * i128::from(flow.rate))
    }

    fn live(&self, at_ms: i64, rule: Rule) -> Vec<(i64, i128)> {
        let mut live = self.units.clone();
        live.retain(|&(unit_ms, units)| unit_ms > gone_ms(at_ms, rule) && units > 0);
        live
    }

    fn row(&self, at_ms: i64, cost: u64) -> Answered {
        let (limit, used_up, retry_after_ms, reset_after_ms);
        match self.policy.kind {
            Kind::Window(rule) => {
                let live = self.live(at_ms, rule);
                let used: i128 = live.iter().map(|&(_, units)| units).sum();
                let leaves_ms = |unit_ms: i64| kept_ms(unit_ms, rule) + rule.window_ms as i64 - at_ms;
                let mut left = used;
                let frees = live.iter().find(|&&(_, units)| {
                    left -= units;
                    left + i128::from(cost) <= i128::from(rule.limit)
                });
                limit = rule.limit;
                used_up = used;
                retry_after_ms = frees.filter(|_| cost <= limit).map_or(NEVER, |&(unit_ms, _)| leaves_ms(unit_ms));
                reset_after_ms = live.last().map_or(0, |&(unit_ms, _)| leaves_ms(unit_ms));
            }
            Kind::Bucket(flow) => {
                let level = self.level_at(at_ms, flow);
                let wait = |parts: i128| ((parts.max(0) + i128::from(flow.rate) - 1) / i128::from(flow.rate)) as i64;
                limit = flow.burst;
                used_up = i128::from(flow.burst) - level.div_euclid(i128::from(flow.per_ms));
                retry_after_ms = if cost > limit { NEVER } else { wait(parts(cost as i64, flow) - level) };
                reset_after_ms = wait(parts(flow.burst as i64, flow) - level);
            }
            _ => unreachable!(),
        }
        let allowed = used_up + i128::from(cost) <= i128::from(limit);
        let remaining = (i128::from(limit) - used_up).max(0) as u64;
        let retry_after_ms = if allowed { 0 } else { retry_after_ms };
        let figures = self.figures(limit, remaining);
        Answered { allowed, soft: Soft::Below, figures, retry_after_ms, reset_after_ms }
    }

    /// The time under which units that are taken now are kept.
    fn keeps_ms(&self, at_ms: i64) -> i64 {
        match self.policy.kind {
            Kind::Window(rule) => match self.live(at_ms, rule).last() {
                Some(&(began_ms, _)) if rule.shape == Shape::Fixed => began_ms,
                _ => kept_ms(at_ms, rule),
            },
            _ => at_ms,
        }
    }

    fn add(&mut self, at_ms: i64, taken_ms: i64, more: i64, is_new: bool) {
        match self.policy.kind {
            Kind::Window(rule) => {
                let let_go_ms = self.rule.map_or(i64::MIN, |rule| gone_ms(self.newest_ms, rule));
                if more == 0 || (!is_new && taken_ms <= let_go_ms.max(gone_ms(at_ms, rule))) {
                    return;
                }
                self.units = self.live(at_ms, rule);
                self.rule = Some(rule);
                if more > 0 {
                    let joins = |_: &&(i64, i128)| rule.shape != Shape::Sliding;
                    let unit_ms = self.units.last().filter(joins).map_or(taken_ms, |&(unit_ms, _)| unit_ms);
                    self.units.push((unit_ms, more.into()));
                    self.units.sort();
                }
                let mut left = i128::from(more.min(0));
                for unit in self.units.iter_mut().filter(|(unit_ms, _)| *unit_ms == taken_ms) {
                    let taken = unit.1.min(-left);
                    unit.1 -= taken;
                    left += taken;
                }
                self.units = self.live(at_ms, rule);
                self.newest_ms = self.units.last().map_or(self.newest_ms, |&(unit_ms, _)| unit_ms);
            }
            Kind::Bucket(flow) if more > 0 || (more < 0 && self.level.is_some()) => {
                let level = self.level_at(at_ms, flow) - parts(more, flow);
                self.level = Some((level.min(parts(flow.burst as i64, flow)), at_ms));
            }
            _ => {}
        }
    }
}

impl ModelPolicy {
    fn report(&mut self, at_ms: i64, id: &[u8], is_live: bool, failed: bool, undone: bool) {
        let Kind::Breaker(threshold) = self.policy.kind else { return };
        let opens = Some((at_ms + threshold.open_ms as i64, None));
        if self.policy.shadow {
            self.open.take_if(|(until_ms, _)| *until_ms <= at_ms);
        }
        match &mut self.open {
            None if failed => {
                self.failures.retain(|failed_ms| failed_ms + threshold.per_ms as i64 > at_ms);
                self.failures.push(at_ms);
                if self.failures.len() as u64 >= threshold.failures {
                    self.failures.clear();
                    self.open = opens;
                }
            }
            Some((_, probe)) if probe.as_deref() == Some(id) => {
                *probe = None;
                match (is_live, failed, undone) {
                    (false, ..) | (_, _, true) => {}
                    (true, true, _) => self.open = opens,
                    (true, false, _) => self.open = None,
                }
            }
            _ => {}
        }
    }

    /// Counts money that is charged without an admission.
    fn count_money(&mut self, at_ms: i64, spent_ms: i64, picos: i128) {
        let units = (picos + 999).div_euclid(1_000) as i64;
        match self.policy.kind {
            Kind::Window(rule) if units > 0 && spent_ms >= at_ms => self.add(at_ms, kept_ms(at_ms, rule), units, true),
            Kind::Window(rule) if units > 0 => self.add(at_ms, kept_ms(spent_ms, rule), units, false),
            Kind::Window(rule) if units < 0 && kept_ms(spent_ms, rule) > gone_ms(at_ms, rule) => {
                self.units = self.live(at_ms, rule);
                self.rule = Some(rule);
                let mut left = -i128::from(units);
                for unit in self.units.iter_mut().rev() {
                    let given_back = unit.1.min(left);
                    unit.1 -= given_back;
                    left -= given_back;
                }
                self.units.retain(|unit| unit.1 > 0);
                self.newest_ms = self.units.last().map_or(self.newest_ms, |&(unit_ms, _)| unit_ms);
            }
            Kind::Bucket(_) => self.add(at_ms, at_ms, units, true),
            _ => {}
        }
    }
}

impl ModelLedger {
    fn spent(&self, period: Period, day: Day) -> Amount {
        let mut spent = Ledger::new();
        for &(day, amount) in &self.spent {
            spent.charge(day, amount, KEEP_DAYS_MAX, 1).unwrap();
        }
        spent.spent(period, day)
    }

    fn held(&self, now_ms: i64, period: Period, day: Day) -> Amount {
        let inside = |other: Day| match period {
            Period::Day => other == day,
            Period::Week => other.week() == day.week(),
            Period::Month => other.month() == day.month(),
            Period::Total => true,
        };
        let held = self.live(now_ms).filter(|(_, day, ..)| inside(*day));
        held.fold(Amount::ZERO, |sum, (_, _, amount, _)| sum.saturating_add(*amount))
    }

    fn live(&self, now_ms: i64) -> impl Iterator<Item = &(Vec<u8>, Day, Amount, i64)> {
        let now_ms = now_ms.max(self.at_ms);
        self.holds.iter().filter(move |hold| hold.3 > now_ms)
    }

    fn hold(&mut self, now: &Moment, id: &[u8], day: Day, amount: Amount, ttl_ms: u64) {
        let now_ms = now.stamp.at_ms;
        let behind_ms = (self.at_ms - now_ms).max(0);
        self.holds.iter_mut().for_each(|hold| hold.3 -= behind_ms);
        self.at_ms = now_ms;
        self.holds.retain(|hold| hold.0 != id && hold.3 > now_ms);
        self.holds.push((id.into(), day, amount, now_ms + ttl_ms as i64));
    }

    fn is_ahead_of(&self, now_ms: i64) -> bool {
        self.at_ms > now_ms && !self.holds.is_empty()
    }

    fn follow(&mut self, now_ms: i64) {
        if self.is_ahead_of(now_ms) {
            let behind_ms = self.at_ms - now_ms;
            self.holds.iter_mut().for_each(|hold| hold.3 -= behind_ms);
            self.holds.retain(|hold| hold.3 > now_ms);
            self.at_ms = if self.holds.is_empty() { 0 } else { now_ms };
        }
    }

    fn release(&mut self, id: &[u8]) {
        self.holds.retain(|hold| hold.0 != id);
        if self.holds.is_empty() {
            self.at_ms = 0;
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        let (policies, admissions, ledgers) = (Vec::new(), Vec::new(), vec![ModelLedger::new(USD)]);
        Self {
            policies,
            admissions,
            ledgers,
            ahead_ms: 0,
            at_ms: 0,
            serial: 0,
            idle: None,
            charged: false,
            cooldown_until_ms: 0,
            latency: None,
        }
    }
}

impl ModelLedger {
    fn new(meter: &[u8]) -> Self {
        Self { meter: meter.into(), spent: Vec::new(), holds: Vec::new(), at_ms: 0 }
    }
}

impl Model {
    fn time(&self, now: &Moment) -> i64 {
        (now.stamp.at_ms + self.ahead_ms).max(self.at_ms)
    }

    fn advance(&mut self, now: &Moment) -> i64 {
        let at_ms = self.time(now);
        self.ahead_ms = self.ahead_ms.max(at_ms - now.stamp.at_ms);
        self.at_ms = at_ms;
        self.ledgers.iter_mut().for_each(|ledger| ledger.follow(now.stamp.at_ms));
        let mut ended: Vec<_> =
            self.admissions.iter().filter(|it| it.kept_ms.is_none() && it.ends_ms <= at_ms).cloned().collect();
        ended.sort_by_key(|it| (it.ends_ms, it.order));
        for admission in ended {
            self.end(at_ms, &admission.id, admission.ends_ms);
        }
        self.admissions.retain(|it| it.kept_ms.is_none_or(|kept_ms| kept_ms > at_ms));
        at_ms
    }

    fn end(&mut self, at_ms: i64, id: &[u8], ended_ms: i64) {
        self.ledgers.iter_mut().for_each(|ledger| ledger.release(id));
        let Some(admission) = self.admissions.iter_mut().find(|it| it.id == id) else { return };
        admission.kept_ms = Some(ended_ms + EXPIRED_KEPT_MS as i64);
        for (_, probe) in self.policies.iter_mut().filter_map(|it| it.open.as_mut()) {
            probe.take_if(|probe| *probe == id);
        }
        for (serial, taken_ms, units) in &mut admission.taken {
            let policy = self.policies.iter_mut().find(|it| it.serial == *serial && it.policy.give_back);
            if let Some(policy) = policy {
                policy.add(at_ms, *taken_ms, -*units, false);
                *units = 0;
            }
        }
    }

    pub fn standing(&self, now: &Moment, id: &[u8]) -> Standing {
        let at_ms = self.time(now);
        match self.admissions.iter().find(|it| it.id == id) {
            Some(it) if it.kept_ms.is_none() && it.ends_ms > at_ms => Standing::Live,
            Some(it) if it.kept_ms.unwrap_or(it.ends_ms + EXPIRED_KEPT_MS as i64) <= at_ms => Standing::Unknown,
            Some(it) if it.settled => Standing::Settled,
            Some(_) => Standing::Expired,
            None => Standing::Unknown,
        }
    }

    pub fn set(&mut self, name: &[u8], policy: &Policy) {
        if matches!(policy.kind, Kind::Budget { .. }) {
            self.idle = None;
        }
        if matches!(policy.kind, Kind::Budget { .. }) && !self.ledgers.iter().any(|it| *it.meter == *policy.meter) {
            self.ledgers.push(ModelLedger::new(&policy.meter));
        }
        let known = self.policies.iter().position(|it| it.name == name);
        let counts = |policy: &Policy| {
            let shape = match policy.kind {
                Kind::Window(rule) => Some(rule.shape),
                _ => None,
            };
            (std::mem::discriminant(&policy.kind), policy.meter.clone(), policy.decimal, shape)
        };
        if let Some(old) = known.map(|at| &mut self.policies[at])
            && counts(&old.policy) == counts(policy)
        {
            old.policy = policy.clone();
            return;
        }
        self.serial += 1;
        let policy = ModelPolicy::new(name, policy.clone(), self.serial);
        match known {
            Some(at) => self.policies[at] = policy,
            None => self.policies.push(policy),
        }
    }

    pub fn put(&mut self, policies: &[(ShortName, Policy)]) {
        self.policies.retain(|own| policies.iter().any(|(name, _)| **name == *own.name));
        for (name, policy) in policies {
            self.set(name, policy);
        }
        self.policies.sort_by_key(|own| policies.iter().position(|(name, _)| **name == *own.name));
    }

    pub fn has_money(&self) -> bool {
        self.charged || self.policies.iter().any(|own| matches!(own.policy.kind, Kind::Budget { .. }))
    }

    pub fn set_idle(&mut self, now: &Moment, idle_ms: Option<u64>) {
        self.advance(now);
        self.idle = idle_ms.map(|idle_ms| (idle_ms, 0));
        self.need(now);
    }

    /// The account is kept for its idle time, and until its last lease ends.
    fn need(&mut self, now: &Moment) {
        let at_ms = self.time(now);
        let live = self.admissions.iter().filter(|it| it.kept_ms.is_none());
        let refusals = self.policies.iter().filter_map(|it| it.open.as_ref()).map(|open| open.0);
        let ends = live.map(|it| it.ends_ms).chain(refusals).chain([self.cooldown_until_ms, at_ms]);
        let busy_ms = ends.max().unwrap() - at_ms;
        if let Some((idle_ms, until_ms)) = &mut self.idle {
            *until_ms = now.stamp.at_ms + busy_ms.max(*idle_ms as i64);
        }
    }

    pub fn delete(&mut self, name: &[u8]) {
        self.policies.retain(|it| it.name != name);
    }

    pub fn reset(&mut self, now: &Moment, name: &[u8]) {
        let Some(at) = self.policies.iter().position(|it| it.name == name) else { return };
        let policy = self.policies[at].policy.clone();
        if matches!(policy.kind, Kind::Budget { .. }) {
            return;
        }
        self.serial += 1;
        let leases = matches!(policy.kind, Kind::InFlight { .. });
        let tally = std::mem::take(&mut self.policies[at].tally);
        self.policies[at] = ModelPolicy { tally, ..ModelPolicy::new(name, policy, self.serial) };
        if leases {
            let at_ms = self.advance(now);
            let mut live: Vec<_> = self.admissions.iter().filter(|it| it.kept_ms.is_none()).cloned().collect();
            live.sort_by_key(|it| (it.ends_ms, it.order));
            live.iter().for_each(|it| self.end(at_ms, &it.id, at_ms));
        }
    }

    pub fn tidy(&mut self, now: &Moment) -> bool {
        let at_ms = self.time(now);
        let ended = self.admissions.iter().filter(|it| it.kept_ms.is_none() && it.ends_ms <= at_ms).count();
        let due = now.stamp.at_ms + self.ahead_ms < self.at_ms
            || self.ledgers.iter().any(|ledger| ledger.is_ahead_of(now.stamp.at_ms))
            || (ended > 0 && (self.ahead_ms > 0 || self.policies.iter().any(|it| it.policy.give_back)))
            || ended > ENDED_MAX;
        if due {
            self.advance(now);
        }
        due
    }

    pub fn decide(
        &self,
        index: u8,
        now: &Moment,
        id: &[u8],
        amounts: &Amounts,
        ends_after_ms: &dyn Fn(Period) -> i64,
    ) -> Vec<Row> {
        let known = self.standing(now, id) == Standing::Live;
        let rows = (0..).zip(&self.policies).map(|(place, it)| {
            let mut row = match it.policy.kind {
                Kind::Window(_) | Kind::Bucket(_) => {
                    let units = amounts.estimate(&it.policy.meter).map(|amount| it.units_of(amount));
                    it.row(self.time(now), if known { 0 } else { units.unwrap_or(1) })
                }
                Kind::InFlight { max } => self.in_flight_row(now, max),
                Kind::Block { until_ms } => {
                    let left_ms = until_ms.map_or(NEVER, |until_ms| (until_ms - now.stamp.at_ms).max(0));
                    let figures = Figures::Units { limit: 0, remaining: 0 };
                    let (retry_after_ms, reset_after_ms) = (left_ms, left_ms);
                    Answered { allowed: left_ms == 0, soft: Soft::Below, figures, retry_after_ms, reset_after_ms }
                }
                Kind::Budget { .. } => self.budget_row(now, &it.policy, known, amounts, ends_after_ms),
                Kind::Breaker(threshold) => self.breaker_row(now, it, threshold),
            };
            if known {
                (row.allowed, row.retry_after_ms) = (true, 0);
            }
            Row::new(index, place, it.policy.shadow, row)
        });
        let left_ms = self.cooldown_until_ms - self.time(now);
        let cooldown = (left_ms > 0 && !known).then(|| refusal(index, Row::COOLDOWN, left_ms));
        rows.chain(cooldown).collect()
    }

    fn live_for_ms(&self, at_ms: i64, id: &[u8]) -> Option<i64> {
        let live = |it: &&ModelAdmission| it.id == id && it.kept_ms.is_none() && it.ends_ms > at_ms;
        self.admissions.iter().find(live).map(|it| it.ends_ms - at_ms)
    }

    fn breaker_row(&self, now: &Moment, policy: &ModelPolicy, threshold: Threshold) -> Answered {
        let (at_ms, limit) = (self.time(now), threshold.failures);
        let row = |allowed, remaining, wait_ms| Answered {
            allowed,
            soft: Soft::Below,
            figures: Figures::Units { limit, remaining },
            retry_after_ms: if allowed { 0 } else { wait_ms },
            reset_after_ms: wait_ms,
        };
        match &policy.open {
            Some((until_ms, _)) if *until_ms > at_ms => row(false, 0, until_ms - at_ms),
            Some(_) if policy.policy.shadow => row(true, limit, 0),
            Some((_, probe)) => match probe.as_ref().and_then(|probe| self.live_for_ms(at_ms, probe)) {
                Some(left_ms) => row(false, 0, left_ms),
                None => row(true, 1, 0),
            },
            None => {
                let ends_ms = |failed_ms: &i64| failed_ms + threshold.per_ms as i64 - at_ms;
                let counted: Vec<i64> = policy.failures.iter().map(ends_ms).filter(|&left_ms| left_ms > 0).collect();
                let remaining = limit.saturating_sub(counted.len() as u64);
                row(true, remaining, counted.last().copied().unwrap_or(0))
            }
        }
    }

    /// The share of the tightest limit that is free, and the load, in floating point; and the requests in flight.
    pub fn scores(&self, now: &Moment, rows: &[Row]) -> (f64, f64, u64) {
        let share = |row: &Row| match row.figures {
            Figures::Units { limit, remaining } => remaining as f64 / (limit as f64).max(1e-9),
            Figures::Money { limit, remaining } => remaining.picos() as f64 / (limit.picos() as f64).max(1e-9),
        };
        let counts = |row: &&Row| {
            let own = self.policies.get(usize::from(row.policy));
            own.is_some_and(|it| !it.policy.shadow && !matches!(it.policy.kind, Kind::Block { .. } | Kind::Breaker(_)))
        };
        let share = rows.iter().filter(counts).map(share).fold(1.0, f64::min);
        let (_, _, live) = self.sums(now);
        let average = match self.latency {
            None if live == 0 => 0.0,
            None => crate::latency::PENALTY_MS as f64,
            Some((average, fed_ms)) if live == 0 => {
                let halvings = (self.time(now) - fed_ms) as f64 / crate::latency::HALF_LIFE_MS as f64;
                average * (-halvings).exp2()
            }
            Some((average, _)) => average,
        };
        (share, average * (live + 1) as f64, live)
    }

    /// Notes the effect of a decided request on the policies' tallies. Returns whether the meter of a policy was not
    /// named.
    pub fn note(&mut self, now: &Moment, amounts: &Amounts, rows: &[Row]) -> bool {
        let mut unnamed = false;
        for (policy, row) in self.policies.iter_mut().zip(rows) {
            policy.tally.denied += u64::from(!row.allowed);
            match amounts.estimate(&policy.policy.meter) {
                Some(_) => policy.tally.named_ms = now.stamp.at_ms,
                None => unnamed |= !policy.policy.meter.is_empty(),
            }
        }
        unnamed
    }

    fn in_flight_row(&self, now: &Moment, max: u64) -> Answered {
        let at_ms = self.time(now);
        let mut ends: Vec<i64> = self
            .admissions
            .iter()
            .filter(|it| it.kept_ms.is_none() && it.ends_ms > at_ms)
            .map(|it| it.ends_ms)
            .collect();
        ends.sort();
        let in_use = ends.len() as u64;
        let allowed = in_use < max;
        let retry_after_ms = match max {
            _ if allowed => 0,
            0 => NEVER,
            _ => ends[(in_use - max) as usize] - at_ms,
        };
        Answered {
            allowed,
            soft: Soft::Below,
            figures: Figures::Units { limit: max, remaining: max.saturating_sub(in_use) },
            retry_after_ms,
            reset_after_ms: ends.last().map_or(0, |end_ms| end_ms - at_ms),
        }
    }

    fn budget_row(
        &self,
        now: &Moment,
        policy: &Policy,
        known: bool,
        amounts: &Amounts,
        ends_after_ms: &dyn Fn(Period) -> i64,
    ) -> Answered {
        let Kind::Budget { amount: limit, period, soft_percent } = policy.kind else { unreachable!() };
        let ledger = self.ledgers.iter().find(|it| *it.meter == *policy.meter).unwrap();
        let spent = ledger.spent(period, now.day);
        let left = limit.picos() - spent.picos() - ledger.held(now.stamp.at_ms, period, now.day).picos();
        // One pico if the amount is unknown.
        let cost = if known { 0 } else { amounts.estimate(&policy.meter).map_or(1, Amount::picos) };
        let ends_after_ms = ends_after_ms(period);
        let next_ms = ledger.live(now.stamp.at_ms).map(|hold| hold.3 - now.stamp.at_ms.max(ledger.at_ms)).min();
        let retry_after_ms = match cost <= left {
            true => 0,
            false if cost > limit.picos() => NEVER,
            false if cost <= limit.picos() - spent.picos() => match (next_ms, ends_after_ms) {
                (Some(next_ms), -1) => next_ms,
                (Some(next_ms), ends_after_ms) => next_ms.min(ends_after_ms),
                (None, _) => unreachable!(),
            },
            false => ends_after_ms,
        };
        let named = if known { 0 } else { amounts.estimate(&policy.meter).map_or(0, Amount::picos) };
        let reached =
            |left: i128| soft_percent > 0 && (limit.picos() - left) * 100 >= limit.picos() * i128::from(soft_percent);
        let soft = match (reached(left), reached(left - named)) {
            (true, _) => Soft::Above,
            (_, true) => Soft::Reached,
            _ => Soft::Below,
        };
        let remaining = Amount::from_picos(left.max(0)).unwrap();
        let figures = Figures::Money { limit, remaining };
        Answered { allowed: cost <= left, soft, figures, retry_after_ms, reset_after_ms: ends_after_ms }
    }

    /// Returns whether the request is a probe.
    pub fn charge(&mut self, now: &Moment, id: &[u8], ttl_ms: u64, amounts: &Amounts) -> bool {
        let at_ms = self.advance(now);
        let mut taken = Vec::new();
        for policy in self.policies.iter_mut().filter(|it| matches!(it.policy.kind, Kind::Window(_) | Kind::Bucket(_)))
        {
            let units = amounts.estimate(&policy.policy.meter).map(|amount| policy.units_of(amount));
            if !policy.policy.shadow || policy.row(at_ms, units.unwrap_or(1)).allowed {
                let (units, kept_ms) = (units.unwrap_or(0) as i64, policy.keeps_ms(at_ms));
                policy.add(at_ms, kept_ms, units, true);
                let joined = policy.units.last().filter(|_| units > 0).map_or(kept_ms, |&(unit_ms, _)| unit_ms);
                taken.push((policy.serial, joined, units));
            }
        }
        let mut estimates = Vec::new();
        for ledger in &mut self.ledgers {
            if let Some(amount) = amounts.estimate(&ledger.meter).filter(|&amount| amount > Amount::ZERO) {
                ledger.hold(now, id, now.day, amount, ttl_ms);
                estimates.push((ledger.meter.clone(), amount));
            }
        }
        let takes_probe = |it: &ModelPolicy| {
            let Some((until_ms, probe)) = it.open.as_ref().filter(|_| !it.policy.shadow) else { return false };
            let live = probe.as_ref().is_some_and(|probe| self.live_for_ms(at_ms, probe).is_some());
            *until_ms <= at_ms && !live
        };
        let probes: Vec<bool> = self.policies.iter().map(takes_probe).collect();
        for (_, policy) in probes.iter().zip(&mut self.policies).filter(|(takes, _)| **takes) {
            policy.open.as_mut().unwrap().1 = Some(id.into());
        }
        let order = self.admissions.iter().map(|it| it.order).max().unwrap_or(0) + 1;
        let ends_ms = at_ms + ttl_ms as i64;
        let (id, day) = (id.to_vec(), now.day);
        self.admissions.push(ModelAdmission {
            id,
            day,
            order,
            ends_ms,
            kept_ms: None,
            settled: false,
            taken,
            estimates,
        });
        self.need(now);
        probes.contains(&true)
    }

    pub fn settle(&mut self, now: &Moment, id: &[u8], actuals: &Amounts, report: &Report) -> Standing {
        let at_ms = self.advance(now);
        let standing = self.standing(now, id);
        if !matches!(standing, Standing::Live | Standing::Expired) {
            return standing;
        }
        let admission = self.admissions.iter_mut().find(|it| it.id == id).unwrap();
        (admission.settled, admission.kept_ms) = (true, Some(at_ms + SETTLED_KEPT_MS as i64));
        for ledger in &mut self.ledgers {
            ledger.release(id);
            let estimate = admission.estimates.iter().find(|it| it.0 == ledger.meter).map(|it| it.1);
            if let Some(amount) = actuals.of(&ledger.meter).or(estimate) {
                ledger.spent.push((admission.day, amount));
                if amount != Amount::ZERO {
                    (self.charged, self.idle) = (true, None);
                }
            }
        }
        for &(serial, taken_ms, units) in &admission.taken {
            let Some(policy) = self.policies.iter_mut().find(|it| it.serial == serial) else { continue };
            if let Some(actual) = actuals.of(&policy.policy.meter).map(|amount| policy.units_of(amount)) {
                policy.add(at_ms, taken_ms, actual as i64 - units, false);
            }
        }
        let undone = !report.failed && actuals.of(REQUESTS) == Some(Amount::ZERO);
        for policy in &mut self.policies {
            policy.report(at_ms, id, standing == Standing::Live, report.failed, undone);
        }
        if report.cooldown_ms > 0 {
            self.cooldown_until_ms = self.cooldown_until_ms.max(at_ms + report.cooldown_ms as i64);
        }
        if let Some(took) = report.took_ms.map(|took_ms| took_ms as f64) {
            let average = match self.latency {
                Some((average, fed_ms)) if average > took => {
                    let weight = (-(at_ms - fed_ms) as f64 / crate::latency::HALF_LIFE_MS as f64).exp2();
                    average * weight + took * (1.0 - weight)
                }
                _ => took,
            };
            self.latency = Some((average, at_ms));
        }
        if report.failed {
            self.need(now);
        }
        standing
    }

    pub fn keep_alive(&mut self, now: &Moment, id: &[u8], ttl_ms: u64) -> bool {
        let at_ms = self.advance(now);
        let order = self.admissions.iter().map(|it| it.order).max().unwrap_or(0) + 1;
        let Some(admission) = self.admissions.iter_mut().find(|it| it.id == id && it.kept_ms.is_none()) else {
            return false;
        };
        (admission.ends_ms, admission.order) = (at_ms + ttl_ms as i64, order);
        for (meter, amount) in &admission.estimates {
            let ledger = self.ledgers.iter_mut().find(|it| it.meter == *meter).unwrap();
            ledger.hold(now, id, admission.day, *amount, ttl_ms);
        }
        self.need(now);
        true
    }

    pub fn spend(&mut self, now: &Moment, spent_ms: i64, amount: Amount) {
        self.ledgers[0].spent.push((now.day, amount));
        (self.charged, self.idle) = (true, None);
        if self.policies.iter().any(|own| own.policy.decimal && *own.policy.meter == *USD) {
            let at_ms = self.advance(now);
            let spent_ms = at_ms.min(spent_ms + self.ahead_ms);
            for own in self.policies.iter_mut().filter(|own| own.policy.decimal && *own.policy.meter == *USD) {
                own.count_money(at_ms, spent_ms, amount.picos());
            }
        }
    }

    /// Whether leases are in flight.
    pub fn is_busy(&self, now: &Moment) -> bool {
        self.admissions.iter().any(|it| it.kept_ms.is_none() && it.ends_ms > self.time(now))
    }

    /// The spend and the holds of money, and the number of leases in flight.
    pub fn sums(&self, now: &Moment) -> (Amount, Amount, u64) {
        let at_ms = self.time(now);
        let live = self.admissions.iter().filter(|it| it.kept_ms.is_none() && it.ends_ms > at_ms).count();
        let ledger = &self.ledgers[0];
        (ledger.spent(Period::Total, now.day), ledger.held(now.stamp.at_ms, Period::Total, now.day), live as u64)
    }
}

impl ModelPolicy {
    fn new(name: &[u8], policy: Policy, serial: u64) -> Self {
        Self {
            name: name.into(),
            policy,
            serial,
            units: Vec::new(),
            newest_ms: 0,
            rule: None,
            level: None,
            failures: Vec::new(),
            open: None,
            tally: Tally::default(),
        }
    }
}

fn refusal(index: u8, policy: u8, wait_ms: i64) -> Row {
    let figures = Figures::Units { limit: 0, remaining: 0 };
    let (retry_after_ms, reset_after_ms) = (wait_ms, wait_ms);
    Row::new(
        index,
        policy,
        false,
        Answered { allowed: false, soft: Soft::Below, figures, retry_after_ms, reset_after_ms },
    )
}

/// The row of a target that does not exist.
pub fn no_account(index: u8) -> Row {
    refusal(index, Row::NO_ACCOUNT, NEVER)
}
