//! Checks the run: compares what the clients saw with the server's state at the end, and with what must hold.

use crate::admission::{Admission, Row};
use crate::clock::{Pace, Timed};
use crate::content;
use crate::gateway::{CACHE_CATEGORY, Journey, LOG_KEY};
use crate::limits::{Bounds, Breaches, Correction, Decision, Rule, judge};
use crate::money::Picos;
use crate::replay::Run;
use crate::text::grouped;
use crate::workload::{Request, Workload};
use anyhow::{Context, Result, bail, ensure};
use redis::{Connection, cmd};
use redis_gateway_client::commands::{Description, cache_stats_category, describe};
use std::collections::HashMap;

/// One check.
pub struct Check {
    pub name: &'static str,
    /// What was compared, or the reason why it failed.
    pub result: Result<String>,
}

/// The data of an audit.
pub struct Audit<'a> {
    pub workload: &'a Workload,
    pub run: &'a Run,
    pub pace: Pace,
}

impl Audit<'_> {
    pub fn checks(&self, connection: &mut Connection) -> Vec<Check> {
        let check = |name, result| Check { name, result };
        vec![
            check("every request served once", self.every_request_once()),
            check("requests a minute", self.requests_per_minute()),
            check("requests in flight", self.requests_in_flight()),
            check("tokens a minute", self.tokens_per_minute()),
            check("budgets", self.budgets()),
            check("admissions", self.admissions(connection)),
            check("nothing stays held", self.nothing_held(connection)),
            check("total cost", self.total_cost(connection)),
            check("cache statistics", self.cache_statistics(connection)),
            check("log records", self.log_records(connection)),
        ]
    }

    fn every_request_once(&self) -> Result<String> {
        let mut served = vec![0; self.workload.requests.len()];
        for journey in &self.run.journeys {
            served[journey.request] += 1;
        }
        let wrong = served.iter().filter(|&&times| times != 1).count();
        ensure!(wrong == 0, "{wrong} of {} requests were not served exactly once", served.len());
        Ok(format!("{} of {}", grouped(self.run.journeys.len()), grouped(served.len())))
    }

    fn requests_per_minute(&self) -> Result<String> {
        let window_ms = self.pace.minute_ms();
        let keys = self.workload.keys.iter().enumerate().map(|(key, limits)| {
            let limit = limits.requests_per_minute;
            (limits.account.as_str(), limit, Rule::Window { limit, window_ms }, self.journeys_of_key(key))
        });
        self.judge_limits(keys, |admission| admission.requests, |_| 1, |_| 0)
    }

    fn requests_in_flight(&self) -> Result<String> {
        let keys = self.workload.keys.iter().enumerate().map(|(key, limits)| {
            let max = limits.in_flight_max;
            (limits.account.as_str(), max, Rule::Level { max: max.into() }, self.journeys_of_key(key))
        });
        self.judge_limits(keys, |admission| admission.in_flight, |_| 1, |_| -1)
    }

    fn tokens_per_minute(&self) -> Result<String> {
        let per_ms = self.pace.minute_ms();
        let users = self.workload.users.iter().enumerate().map(|(user, limits)| {
            let (rate, burst) = (limits.tokens_per_minute, limits.burst_tokens);
            let journeys = self.journeys(move |request| self.workload.key(request).user == user);
            (limits.account.as_str(), burst, Rule::Bucket { rate, per_ms, burst }, journeys)
        });
        let estimate = |request: &Request| request.estimated_tokens();
        self.judge_limits(
            users,
            |admission| admission.tokens,
            estimate,
            |journey| {
                let request = self.request(journey);
                i128::from(request.used(journey.cached).0) - i128::from(estimate(request))
            },
        )
    }

    /// Judges each account, given as its name, limit, rule and requests. `correction` is what a settlement takes in
    /// addition.
    fn judge_limits<'b>(
        &self,
        accounts: impl Iterator<Item = (&'b str, u64, Rule, Vec<&'b Journey>)>,
        row: fn(&Admission) -> Row<u64>,
        units: impl Fn(&Request) -> u64,
        correction: impl Fn(&Journey) -> i128,
    ) -> Result<String> {
        let mut count = 0;
        for (account, limit, rule, journeys) in accounts {
            let mut decisions = Vec::new();
            for &journey in &journeys {
                let (row, units) = (row(&journey.admission.reply), units(self.request(journey)));
                ensure!(row.is_consistent(limit, units, journey.admitted()), "{account}: {units} units, {row:?}");
                decisions.extend(decision(journey, row.allowed, units.into()));
            }
            let corrections: Vec<Correction> = journeys
                .iter()
                .filter_map(|journey| Some(Correction::new(journey.settled.as_ref()?, correction(journey))))
                .collect();
            let breaches = judge(rule, &decisions, &corrections);
            ensure!(breaches == Breaches::default(), "{account} under {rule:?}: {breaches:?}");
            count += decisions.len();
        }
        Ok(format!("none of {} decisions admits beyond the limit or refuses needlessly", grouped(count)))
    }

    /// Checks that each row is consistent, and agrees with the estimates held and the costs charged before and after
    /// it; and that no team has spent more than its budget plus what its requests cost above their estimates.
    fn budgets(&self) -> Result<String> {
        let mut count = 0;
        for (index, team) in self.workload.teams.iter().enumerate() {
            let journeys = self.journeys(|request| self.workload.key(request).team == index);
            let budget = team.budget.count()?;
            let (mut decisions, mut corrections) = (Vec::new(), Vec::new());
            let (mut spent, mut spent_max) = (0, budget);
            for &journey in &journeys {
                let request = self.request(journey);
                let estimate = request.estimated_cost.count()?;
                decisions.extend(decision(journey, journey.admission.reply.budget.allowed, estimate));
                if let Some(settled) = &journey.settled {
                    let cost = request.used(journey.cached).1.count()?;
                    corrections.push(Correction::new(settled, cost - estimate));
                    spent += cost;
                    spent_max += (cost - estimate).max(0);
                }
            }
            ensure!(spent <= spent_max, "{}: {spent} of at most {spent_max} spent", team.account);
            let breaches = judge(Rule::Level { max: budget }, &decisions, &corrections);
            ensure!(breaches == Breaches::default(), "{} of {}: {breaches:?}", team.account, team.budget);
            let bounds = Bounds::new(&decisions, &corrections);
            for &journey in &journeys {
                let Timed { reply: Admission { budget: row, .. }, .. } = &journey.admission;
                let (sent_us, received_us) = (journey.admission.sent_us(), journey.admission.received_us());
                let estimate = self.request(journey).estimated_cost;
                // An admitted request's own estimate is subtracted in its row, but is not yet certain to have been
                // taken.
                let own = if journey.admitted() { estimate.count()? } else { 0 };
                let left = |taken: i128| (budget - taken).max(0);
                let possible = left(bounds.most(sent_us, received_us))..=left(bounds.least(sent_us, received_us) + own);
                let agrees = row.limit == team.budget
                    && possible.contains(&row.remaining.count()?)
                    && (journey.admitted() || row.allowed == (row.remaining >= estimate))
                    && row.reset_after_ms >= 0;
                ensure!(agrees, "{}: {estimate} asked, {row:?}, {possible:?} left", team.account);
            }
            count += journeys.len();
        }
        Ok(format!("{} rows agree with what is held and charged before and after them", grouped(count)))
    }

    /// Compares the numbers of admitted, refused and settled requests with the server's counters.
    fn admissions(&self, connection: &mut Connection) -> Result<String> {
        let counters: HashMap<String, u64> = cmd("GW.STATS").query(connection)?;
        let admitted = self.run.journeys.iter().filter(|journey| journey.admitted()).count() as u64;
        let refused = self.run.journeys.len() as u64 - admitted;
        for (name, own) in [
            ("admit_admitted", admitted),
            ("admit_denied", refused),
            ("admit_repeated", 0),
            ("admit_no_account", 0),
            ("settle_done", admitted),
        ] {
            let server = counters.get(name).with_context(|| format!("GW.STATS has no {name}"))?;
            ensure!(*server == own, "{name}: the server counts {server}, the client {own}");
        }
        let [admitted, refused] = [admitted, refused].map(|count| grouped(count as usize));
        Ok(format!("{admitted} admitted and settled once, {refused} refused, on both sides"))
    }

    /// Checks that every slot is free again, and no money is held.
    fn nothing_held(&self, connection: &mut Connection) -> Result<String> {
        let mut count = 0;
        for account in self.accounts() {
            let Some(Description::Account(state)) = describe(account).query(connection)? else {
                bail!("{account} is no account");
            };
            let held = state.ledgers.values().find(|ledger| !ledger.held.is_zero());
            ensure!(held.is_none(), "{account}: money is held: {held:?}");
            ensure!(state.leases.is_empty(), "{account}: still in flight: {:?}", state.leases);
            count += 1;
        }
        Ok(format!("no lease and no money in {count} accounts"))
    }

    /// Checks that each account's ledger has the cost of its own requests, and that keys, users and teams add up to the
    /// same.
    fn total_cost(&self, connection: &mut Connection) -> Result<String> {
        let mut own: HashMap<&str, Picos> = HashMap::new();
        for journey in self.run.journeys.iter().filter(|journey| journey.admitted()) {
            let request = self.request(journey);
            let Workload { keys, users, teams, .. } = self.workload;
            let key = &keys[request.key];
            for account in [&key.account, &users[key.user].account, &teams[key.team].account] {
                let sum = own.entry(account).or_default();
                *sum = *sum + request.used(journey.cached).1;
            }
        }
        let mut total = Picos::default();
        for account in self.accounts() {
            let spent: String = cmd("GW.SPENT").arg(account).arg("TOTAL").query(connection)?;
            let spent: Picos = spent.parse()?;
            let own = own.get(account).copied().unwrap_or_default();
            ensure!(spent == own, "{account}: the server has {spent}, the client {own}");
            total = total + spent;
        }
        let own = total_cost(self.workload, self.run);
        ensure!(total == own.times(3), "keys, users and teams: the server has {total}, the client 3 × {own}");
        Ok(format!("{own} at the client, and in the ledgers of keys, users and teams"))
    }

    fn cache_statistics(&self, connection: &mut Connection) -> Result<String> {
        let figures = cache_stats_category(CACHE_CATEGORY).query(connection)?;
        let figures = figures.with_context(|| format!("GW.CACHESTATS knows no {CACHE_CATEGORY}"))?;
        let count = |wanted: fn(&Journey) -> bool| self.run.journeys.iter().filter(|journey| wanted(journey)).count();
        let (hits, sets) = (count(|journey| journey.cached), count(Journey::answered_by_model));
        let misses = self.run.journeys.len() - hits;
        let server = [figures.hits, figures.misses, figures.sets];
        let own = [hits, misses, sets].map(|count| count as i64);
        ensure!(server == own, "hits, misses, sets: the server counts {server:?}, the client {own:?}");
        let [hits, misses, sets] = [hits, misses, sets].map(grouped);
        Ok(format!("{hits} hits, {misses} misses and {sets} entries set, on both sides"))
    }

    /// Checks that each record was popped exactly once, byte for byte as it was pushed.
    fn log_records(&self, connection: &mut Connection) -> Result<String> {
        let left: usize = cmd("GW.LOGLEN").arg(LOG_KEY).query(connection)?;
        ensure!(left == 0, "{left} records are left in the queue");
        let mut expected: HashMap<usize, String> = HashMap::new();
        for journey in self.run.journeys.iter().filter(|journey| journey.admitted()) {
            let request = self.request(journey);
            let (model, key) = (&self.workload.models[request.model], self.workload.key(request));
            let record = content::log_record(journey.request, model, key, request, journey.cached);
            expected.insert(journey.request, record);
        }
        let pushed = expected.len();
        for record in &self.run.records {
            let parsed: serde_json::Value = serde_json::from_str(record).with_context(|| record.clone())?;
            let id = parsed["id"].as_u64().with_context(|| format!("no id: {record}"))? as usize;
            match expected.remove(&id) {
                Some(pushed) if pushed == *record => {}
                Some(_) => bail!("record {id} came out changed: {record}"),
                None => bail!("record {id} came out twice, or was never pushed"),
            }
        }
        ensure!(expected.is_empty(), "{} of {pushed} records never came out", expected.len());
        Ok(format!("{} in, {} out, each once and unchanged", grouped(pushed), grouped(self.run.records.len())))
    }

    fn request(&self, journey: &Journey) -> &Request {
        &self.workload.requests[journey.request]
    }

    fn journeys(&self, wanted: impl Fn(&Request) -> bool) -> Vec<&Journey> {
        self.run.journeys.iter().filter(|journey| wanted(self.request(journey))).collect()
    }

    fn journeys_of_key(&self, key: usize) -> Vec<&Journey> {
        self.journeys(|request| request.key == key)
    }

    fn accounts(&self) -> impl Iterator<Item = &str> {
        let Workload { keys, users, teams, .. } = self.workload;
        let users = users.iter().map(|user| user.account.as_str());
        let teams = teams.iter().map(|team| team.account.as_str());
        keys.iter().map(|key| key.account.as_str()).chain(users).chain(teams)
    }
}

/// The decision of one policy; `None` if it allowed a request that another policy refused.
fn decision(journey: &Journey, allowed: bool, units: i128) -> Option<Decision> {
    (journey.admitted() || !allowed).then(|| Decision::new(&journey.admission, units, allowed))
}

/// The cost of the model's answers by the client's own count.
pub fn total_cost(workload: &Workload, run: &Run) -> Picos {
    let admitted = run.journeys.iter().filter(|journey| journey.admitted());
    admitted.map(|journey| workload.requests[journey.request].used(journey.cached).1).sum()
}
