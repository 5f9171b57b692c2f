//! Does everything add up? What the clients saw, compared with what the server says now and with what must hold.

use crate::clock::{Pace, Timed};
use crate::content;
use crate::gateway::{budget_key, BudgetReply, Journey, LimitReply, Outcome, CACHE_CATEGORY, LOG_KEY};
use crate::limits::{judge, Breaches, Decision, Rule};
use crate::money::Picos;
use crate::replay::Run;
use crate::report::grouped;
use crate::tally::Tally;
use crate::workload::{Account, Workload};
use anyhow::{bail, ensure, Context, Result};
use redis::{cmd, Connection};
use std::collections::HashMap;

/// One thing that must hold.
pub struct Check {
    pub name: &'static str,
    /// What was compared, or what is wrong.
    pub result: Result<String>,
}

/// Everything that an audit looks at.
pub struct Audit<'a> {
    pub workload: &'a Workload,
    pub run: &'a Run,
    pub pace: Pace,
    pub connections: usize,
}

impl Audit<'_> {
    pub fn checks(&self, connection: &mut Connection) -> Vec<Check> {
        let check = |name, result| Check { name, result };
        vec![
            check("every request served once", self.every_request_once()),
            check("requests a minute", self.requests_per_minute()),
            check("tokens a minute", self.tokens_per_minute()),
            check("budget answers", self.budget_answers()),
            check("running totals", self.running_totals()),
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
        let rule = |account: &Account| Rule::Window { limit: account.requests_per_minute, window_ms };
        self.judge_limits(rule, |journey| Some((&journey.requests, 1)))
    }

    fn tokens_per_minute(&self) -> Result<String> {
        let per_ms = self.pace.minute_ms();
        let rule =
            |account: &Account| Rule::Bucket { rate: account.tokens_per_minute, per_ms, burst: account.burst_tokens };
        let tokens = |journey: &Journey| self.workload.requests[journey.request].tokens();
        self.judge_limits(rule, |journey| Some((journey.tokens.as_ref()?, tokens(journey))))
    }

    /// `asked` gives a request's reply and units, if this limiter was asked at all.
    fn judge_limits(
        &self,
        rule: impl Fn(&Account) -> Rule,
        asked: impl Fn(&Journey) -> Option<(&Timed<LimitReply>, u64)>,
    ) -> Result<String> {
        let mut count = 0;
        for (index, account) in self.workload.accounts.iter().enumerate() {
            let rule = rule(account);
            let asked: Vec<_> = self.journeys_of(index).filter_map(&asked).collect();
            count += asked.len();
            for &(Timed { reply, .. }, units) in &asked {
                ensure!(reply.is_consistent(rule.units_max(), units), "{}: {units} units, {reply:?}", account.name);
            }
            let decisions: Vec<Decision> =
                asked.iter().map(|&(asked, units)| Decision::new(asked, units, asked.reply.allowed)).collect();
            let breaches = judge(rule, &decisions);
            ensure!(breaches == Breaches::default(), "{} under {rule:?}: {breaches:?}", account.name);
        }
        Ok(format!("none of {} decisions admits beyond the limit or refuses needlessly", grouped(count)))
    }

    /// Each answer agrees with itself, and with the charges before and after it; and no account overspends by more than
    /// what was in flight when its budget ran out, since the charge comes after the answer.
    fn budget_answers(&self) -> Result<String> {
        let mut count = 0;
        for (index, account) in self.workload.accounts.iter().enumerate() {
            let cost = |request: usize| self.workload.requests[request].cost;
            let largest = self.journeys_of(index).map(|journey| cost(journey.request)).max().unwrap_or_default();
            let spent_max = account.budget + largest.times(self.connections as u64 - 1);
            for (_, charged) in self.charges_of(index) {
                ensure!(charged.reply <= spent_max, "{} spent {} of {}", account.name, charged.reply, account.budget);
            }
            let sent = Tally::new(self.charges_of(index).map(|(request, charged)| (charged.sent_us(), cost(request))));
            let received =
                Tally::new(self.charges_of(index).map(|(request, charged)| (charged.received_us(), cost(request))));
            for (request, asked) in
                self.journeys_of(index).filter_map(|journey| Some((journey.request, journey.budget.as_ref()?)))
            {
                count += 1;
                let BudgetReply { within, budget, spent, remaining, .. } = asked.reply;
                // A charge in flight with the question may be in the answer or not.
                let possible = received.until(asked.sent_us() - 1)..=sent.until(asked.received_us());
                let agrees = budget == account.budget
                    && remaining == budget.saturating_sub(spent)
                    && within == (spent + cost(request) <= budget)
                    && possible.contains(&spent);
                ensure!(agrees, "{}, request {request}: {:?}, {possible:?} spent", account.name, asked.reply);
            }
        }
        Ok(format!("{} agree with the charges before and after them", grouped(count)))
    }

    /// Charges are atomic: put in the order of their replies, each total is the one before it and the charge.
    fn running_totals(&self) -> Result<String> {
        let mut count = 0;
        for (index, account) in self.workload.accounts.iter().enumerate() {
            let mut charges: Vec<(Picos, Picos)> = self
                .charges_of(index)
                .map(|(request, charged)| (charged.reply, self.workload.requests[request].cost))
                .collect();
            charges.sort_unstable();
            count += charges.len();
            let mut total = Picos::default();
            for (reply, cost) in charges {
                total = total + cost;
                ensure!(reply == total, "{}: GW.ADDCOST replied {reply} where the sum is {total}", account.name);
            }
        }
        Ok(format!("{} replies of GW.ADDCOST are exact sums", grouped(count)))
    }

    fn total_cost(&self, connection: &mut Connection) -> Result<String> {
        let mut total = Picos::default();
        for (index, account) in self.workload.accounts.iter().enumerate() {
            let spent: String = cmd("GW.SPENT").arg(budget_key(account)).query(connection)?;
            let spent: Picos = spent.parse()?;
            let own: Picos = self.charges_of(index).map(|(request, _)| self.workload.requests[request].cost).sum();
            ensure!(spent == own, "{}: the server has {spent}, the client {own}", account.name);
            total = total + spent;
        }
        let own = total_cost(self.workload, self.run);
        ensure!(total == own, "the server has {total}, the client {own}");
        Ok(format!("{total} at the server, {own} at the client"))
    }

    fn cache_statistics(&self, connection: &mut Connection) -> Result<String> {
        let fields: Option<HashMap<String, String>> = cmd("GW.CACHESTATS").arg(CACHE_CATEGORY).query(connection)?;
        let fields = fields.unwrap_or_default();
        let field = |name: &str| -> Result<usize> {
            let text = fields.get(name).with_context(|| format!("GW.CACHESTATS has no {name}"))?;
            text.parse().with_context(|| format!("GW.CACHESTATS {name}: {text}"))
        };
        let count =
            |wanted: fn(&Outcome) -> bool| self.run.journeys.iter().filter(|journey| wanted(&journey.outcome)).count();
        let hits = count(|outcome| matches!(outcome, Outcome::Cached));
        let misses = count(|outcome| matches!(outcome, Outcome::Answered(_)));
        if hits + misses == 0 {
            ensure!(fields.is_empty(), "nobody looked, but there are {fields:?}");
            return Ok("nobody looked".into());
        }
        let server = (field("hits")?, field("misses")?, field("sets")?);
        ensure!(server == (hits, misses, misses), "hits, misses, sets: {server:?}, but {hits} hits, {misses} misses");
        Ok(format!("{} hits and {} misses on both sides", grouped(hits), grouped(misses)))
    }

    /// Each record came out exactly once, byte for byte as it went in.
    fn log_records(&self, connection: &mut Connection) -> Result<String> {
        let left: usize = cmd("GW.LOGLEN").arg(LOG_KEY).query(connection)?;
        ensure!(left == 0, "{left} records are left in the queue");
        let Workload { models, accounts, requests } = self.workload;
        let mut expected: HashMap<usize, String> = HashMap::new();
        for (index, _) in self.run.journeys.iter().filter_map(charge) {
            let request = &requests[index];
            let record = content::log_record(index, &models[request.model], &accounts[request.account], request);
            expected.insert(index, record);
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

    fn journeys_of(&self, account: usize) -> impl Iterator<Item = &Journey> {
        let requests = &self.workload.requests;
        self.run.journeys.iter().filter(move |journey| requests[journey.request].account == account)
    }

    fn charges_of(&self, account: usize) -> impl Iterator<Item = (usize, &Timed<Picos>)> {
        self.journeys_of(account).filter_map(charge)
    }
}

/// What the model's answers cost by the client's own count.
pub fn total_cost(workload: &Workload, run: &Run) -> Picos {
    run.journeys.iter().filter_map(charge).map(|(request, _)| workload.requests[request].cost).sum()
}

/// The request's index and the charge, where it was answered by the model.
fn charge(journey: &Journey) -> Option<(usize, &Timed<Picos>)> {
    match &journey.outcome {
        Outcome::Answered(charged) => Some((journey.request, charged)),
        _ => None,
    }
}
