//! Who sends each request of a trace, to which model, with which prompt; and what every account is allowed.

use crate::models::Model;
use crate::money::Picos;
use crate::trace::Arrival;
use fastrand::Rng;
use std::collections::HashMap;
use std::time::Duration;

const ACCOUNTS: usize = 24;

/// How many of a hundred requests ask something that others ask, too.
const FREQUENT_PERCENT: u32 = 30;

pub struct Workload {
    pub models: Vec<Model>,
    pub accounts: Vec<Account>,
    /// In the order of their times.
    pub requests: Vec<Request>,
}

/// An API key with its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub requests_per_minute: u64,
    pub tokens_per_minute: u64,
    pub burst_tokens: u64,
    /// Per month.
    pub budget: Picos,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Since the first request, in the trace's own time.
    pub at: Duration,
    /// Index into [`Workload::accounts`].
    pub account: usize,
    /// Index into [`Workload::models`].
    pub model: usize,
    /// Equal for equal prompts.
    pub prompt: u64,
    pub context_tokens: u32,
    pub generated_tokens: u32,
    pub cost: Picos,
}

impl Request {
    pub fn tokens(&self) -> u64 {
        u64::from(self.context_tokens) + u64::from(self.generated_tokens)
    }
}

impl Workload {
    /// The same arrivals and `seed` give the same workload.
    pub fn new(arrivals: &[Arrival], models: Vec<Model>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let shares = Shares::new(ACCOUNTS);
        let requests: Vec<Request> = arrivals
            .iter()
            .zip(0..)
            .map(|(arrival, index)| request(arrival, index, &shares, &models, &mut rng))
            .collect();
        let accounts = (0..ACCOUNTS).map(|account| Account::for_demand(account, &requests)).collect();
        Self { models, accounts, requests }
    }

    /// The time of the last request.
    pub fn duration(&self) -> Duration {
        self.requests.last().map(|request| request.at).unwrap_or_default()
    }
}

fn request(arrival: &Arrival, index: u64, shares: &Shares, models: &[Model], rng: &mut Rng) -> Request {
    let account = shares.draw(rng);
    let (prompt, model) = if rng.u32(0..100) < FREQUENT_PERCENT {
        // Frequent prompts of one length are one prompt, of an application that has chosen its model.
        (u64::from(arrival.context_tokens), arrival.context_tokens as usize % models.len())
    } else {
        // No length of a prompt has more than 32 bits.
        ((1 << 32) + index, rng.usize(..models.len()))
    };
    let Arrival { at, context_tokens, generated_tokens } = *arrival;
    let cost = models[model].cost(context_tokens, generated_tokens);
    Request { at, account, model, prompt, context_tokens, generated_tokens, cost }
}

impl Account {
    /// Limits measured against the account's own demand, so that of each four accounts one meets its requests a minute,
    /// one its tokens a minute and one its budget, whatever the trace; the fourth meets none.
    fn for_demand(account: usize, requests: &[Request]) -> Self {
        let own = || requests.iter().filter(|request| request.account == account);
        let busiest_minute = |units: fn(&Request) -> u64| -> u64 {
            let mut minutes: HashMap<u64, u64> = HashMap::new();
            for request in own() {
                *minutes.entry(request.at.as_secs() / 60).or_default() += units(request);
            }
            minutes.into_values().max().unwrap_or(0)
        };
        let (requests_percent, tokens_percent, budget_percent) = match account % 4 {
            0 => (60, 300, 300),
            1 => (300, 30, 300),
            2 => (300, 300, 50),
            _ => (300, 300, 300),
        };
        let tokens_per_minute = (busiest_minute(Request::tokens) * tokens_percent / 100).max(1);
        let largest = own().map(Request::tokens).max().unwrap_or(1);
        let demand: Picos = own().map(|request| request.cost).sum();
        Self {
            name: format!("sk-team-{account:02}"),
            requests_per_minute: (busiest_minute(|_| 1) * requests_percent / 100).max(1),
            tokens_per_minute,
            // No request is so large that it could never pass.
            burst_tokens: tokens_per_minute.max(largest),
            budget: demand.percent(budget_percent),
        }
    }
}

/// Accounts differ in size as they do in practice: by Zipf's law, the n-th largest sends 1/n of what the largest sends.
struct Shares {
    /// Running sums.
    sums: Vec<f64>,
}

impl Shares {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let share = |rank: usize| {
            sum += 1.0 / rank as f64;
            sum
        };
        Self { sums: (1..=count).map(share).collect() }
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        let at = rng.f64() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|&sum| sum <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace;
    use std::collections::HashSet;

    fn workload(seed: u64) -> Workload {
        Workload::new(&trace::generate(20_000, 1), Model::all().unwrap(), seed)
    }

    #[test]
    fn the_seed_decides_everything() {
        assert_eq!(workload(1).requests, workload(1).requests);
        assert_eq!(workload(1).accounts, workload(1).accounts);
        assert_ne!(workload(1).requests, workload(2).requests);
    }

    #[test]
    fn every_account_sends_requests_and_the_first_sends_most() {
        let workload = workload(1);
        let mut sent = vec![0; workload.accounts.len()];
        for request in &workload.requests {
            sent[request.account] += 1;
        }
        // By Zipf's law with 24 ranks: 26 % and 1.1 % of 20,000.
        assert!((5_000..5_600).contains(&sent[0]) && (150..300).contains(&sent[ACCOUNTS - 1]), "{sent:?}");
    }

    /// What a gateway with naive state of its own does, one request after the other.
    #[test]
    fn every_limit_binds() {
        let workload = workload(1);
        let count = workload.accounts.len();
        let mut admitted_at: Vec<Vec<Duration>> = vec![Vec::new(); count];
        let mut levels: Vec<(f64, Duration)> =
            workload.accounts.iter().map(|account| (account.burst_tokens as f64, Duration::ZERO)).collect();
        let mut spent = vec![Picos::default(); count];
        let mut cached = HashSet::new();
        let (mut too_many, mut too_long, mut too_expensive, mut hits, mut answered) = (0, 0, 0, 0, 0);
        for request in &workload.requests {
            let account = &workload.accounts[request.account];
            let minute = Duration::from_secs(60);
            let recent = &mut admitted_at[request.account];
            recent.retain(|&at| at + minute > request.at);
            if recent.len() as u64 >= account.requests_per_minute {
                too_many += 1;
                continue;
            }
            recent.push(request.at);
            let (level, then) = levels[request.account];
            let filled = (request.at - then).as_secs_f64() / 60.0 * account.tokens_per_minute as f64;
            let level = (level + filled).min(account.burst_tokens as f64) - request.tokens() as f64;
            if level < 0.0 {
                too_long += 1;
                continue;
            }
            levels[request.account] = (level, request.at);
            if spent[request.account] + request.cost > account.budget {
                too_expensive += 1;
            } else if !cached.insert((request.model, request.prompt)) {
                hits += 1;
            } else {
                answered += 1;
                spent[request.account] = spent[request.account] + request.cost;
            }
        }
        let percents = [too_many, too_long, too_expensive, hits, answered].map(|count| count * 100 / 20_000);
        assert!(percents.iter().all(|&percent| percent >= 1), "{percents:?}");
        assert!(percents[4] >= 40, "{percents:?}");
    }

    #[test]
    fn a_trace_of_one_request_has_limits_that_let_it_pass() {
        let arrival = Arrival { at: Duration::ZERO, context_tokens: 2, generated_tokens: 7 };
        let workload = Workload::new(&[arrival], Model::all().unwrap(), 1);
        let account = &workload.accounts[workload.requests[0].account];
        assert!(account.requests_per_minute >= 1 && account.burst_tokens >= 9);
        assert_eq!(workload.duration(), Duration::ZERO);
    }
}
