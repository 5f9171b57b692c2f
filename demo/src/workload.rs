//! The workload: the API key, model and prompt of each request of a trace, and the limits of every account.

use crate::models::Model;
use crate::money::Picos;
use crate::trace::Arrival;
use fastrand::Rng;
use std::collections::HashMap;
use std::time::Duration;

const KEYS: usize = 24;
const USERS: usize = 12;
const TEAMS: usize = 4;

/// The share of requests whose prompt other requests have, too.
const FREQUENT_PERCENT: u32 = 30;

/// The share of requests that set no maximum of tokens, so that the gateway has to estimate.
const UNBOUNDED_PERCENT: u32 = 25;

/// The gateway's estimate then: too low for one answer in four.
const TOKENS_ALLOWED_FOR: u32 = 256;

pub struct Workload {
    pub models: Vec<Model>,
    pub keys: Vec<ApiKey>,
    pub users: Vec<User>,
    pub teams: Vec<Team>,
    /// The requests in the order of their times.
    pub requests: Vec<Request>,
}

/// An API key: its account limits requests per minute and requests in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub account: String,
    /// Index into [`Workload::users`].
    pub user: usize,
    /// Index into [`Workload::teams`].
    pub team: usize,
    pub requests_per_minute: u64,
    pub in_flight_max: u64,
}

/// A user with a few keys: its account limits tokens per minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub account: String,
    pub tokens_per_minute: u64,
    pub burst_tokens: u64,
}

/// A team of a few users: its account limits the month's money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    pub account: String,
    pub budget: Picos,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The time since the first request, in the trace's own time.
    pub at: Duration,
    /// Index into [`Workload::keys`].
    pub key: usize,
    /// Index into [`Workload::models`].
    pub model: usize,
    /// Equal for equal prompts.
    pub prompt: u64,
    pub context_tokens: u32,
    pub generated_tokens: u32,
    /// The gateway's estimate of generated tokens, before the model is called.
    pub estimated_generated_tokens: u32,
    pub cost: Picos,
    pub estimated_cost: Picos,
}

impl Request {
    pub fn tokens(&self) -> u64 {
        u64::from(self.context_tokens) + u64::from(self.generated_tokens)
    }

    pub fn estimated_tokens(&self) -> u64 {
        u64::from(self.context_tokens) + u64::from(self.estimated_generated_tokens)
    }

    /// The tokens and the cost that are settled: 0 if the cache answers.
    pub fn used(&self, cached: bool) -> (u64, Picos) {
        match cached {
            true => (0, Picos::default()),
            false => (self.tokens(), self.cost),
        }
    }

    /// How long the model takes: until the first token, and for each token. No model is called here.
    pub fn model_time(&self) -> Duration {
        const FIRST_TOKEN_MS: u64 = 180;
        const TOKEN_MS: u64 = 12;
        Duration::from_millis(FIRST_TOKEN_MS + TOKEN_MS * u64::from(self.generated_tokens))
    }
}

impl Workload {
    /// The same arrivals and `seed` give the same workload.
    pub fn new(arrivals: &[Arrival], models: Vec<Model>, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let shares = Shares::new(KEYS);
        let requests: Vec<Request> = arrivals
            .iter()
            .zip(0..)
            .map(|(arrival, index)| request(arrival, index, &shares, &models, &mut rng))
            .collect();
        let of = |belongs: &dyn Fn(usize) -> bool| -> Vec<&Request> {
            requests.iter().filter(|request| belongs(request.key)).collect()
        };
        let keys = (0..KEYS).map(|key| ApiKey::for_demand(key, &of(&|other| other == key))).collect();
        let users = (0..USERS).map(|user| User::for_demand(user, &of(&|key| user_of(key) == user))).collect();
        let teams = (0..TEAMS).map(|team| Team::for_demand(team, &of(&|key| team_of(key) == team))).collect();
        Self { models, keys, users, teams, requests }
    }

    /// The time of the last request.
    pub fn duration(&self) -> Duration {
        self.requests.last().map(|request| request.at).unwrap_or_default()
    }

    pub fn key(&self, request: &Request) -> &ApiKey {
        &self.keys[request.key]
    }

    pub fn user(&self, request: &Request) -> &User {
        &self.users[self.key(request).user]
    }

    pub fn team(&self, request: &Request) -> &Team {
        &self.teams[self.key(request).team]
    }
}

fn user_of(key: usize) -> usize {
    key % USERS
}

/// The same team for all keys of a user, since the number of users is a multiple of the number of teams.
fn team_of(key: usize) -> usize {
    key % TEAMS
}

fn request(arrival: &Arrival, index: u64, shares: &Shares, models: &[Model], rng: &mut Rng) -> Request {
    let key = shares.draw(rng);
    let (prompt, model) = if rng.u32(0..100) < FREQUENT_PERCENT {
        // Frequent prompts of the same length count as one prompt, of an application that always uses the same model.
        (u64::from(arrival.context_tokens), arrival.context_tokens as usize % models.len())
    } else {
        // A prompt's length has at most 32 bits, so this differs from all frequent prompts.
        ((1 << 32) + index, rng.usize(..models.len()))
    };
    let Arrival { at, context_tokens, generated_tokens } = *arrival;
    let estimated_generated_tokens = if rng.u32(0..100) < UNBOUNDED_PERCENT {
        TOKENS_ALLOWED_FOR
    } else {
        // The client sets a round maximum that is large enough.
        generated_tokens.max(1).div_ceil(128).saturating_mul(128)
    };
    let cost = models[model].cost(context_tokens, generated_tokens);
    let estimated_cost = models[model].cost(context_tokens, estimated_generated_tokens);
    Request {
        at,
        key,
        model,
        prompt,
        context_tokens,
        generated_tokens,
        estimated_generated_tokens,
        cost,
        estimated_cost,
    }
}

// Limits depend on the demand, so that each of the four teams exceeds one of them, whatever the trace: the first its
// keys' requests per minute, the others their users' tokens per minute, their budget, and their keys' requests in
// flight. `percent` is the share of the demand that a limit admits.

const AMPLE_PERCENT: u64 = 300;

fn percent(team: usize, of_team: usize, percent: u64) -> u64 {
    if team == of_team { percent } else { AMPLE_PERCENT }
}

fn busiest_minute(requests: &[&Request], units: fn(&Request) -> u64) -> u64 {
    let mut minutes: HashMap<u64, u64> = HashMap::new();
    for request in requests {
        *minutes.entry(request.at.as_secs() / 60).or_default() += units(request);
    }
    minutes.into_values().max().unwrap_or(0)
}

/// The most requests that would be in flight at once if all were admitted.
fn in_flight_max(requests: &[&Request]) -> u64 {
    let mut ends: Vec<Duration> = Vec::new();
    let mut max = 0;
    for request in requests {
        ends.retain(|&end| end > request.at);
        ends.push(request.at + request.model_time());
        max = max.max(ends.len());
    }
    max as u64
}

impl ApiKey {
    fn for_demand(key: usize, requests: &[&Request]) -> Self {
        let team = team_of(key);
        Self {
            account: format!("{{team-{team}}}:key:sk-{key:02}"),
            user: user_of(key),
            team,
            requests_per_minute: (busiest_minute(requests, |_| 1) * percent(team, 0, 60) / 100).max(1),
            in_flight_max: (in_flight_max(requests) * percent(team, 3, 30) / 100).max(1),
        }
    }
}

impl User {
    fn for_demand(user: usize, requests: &[&Request]) -> Self {
        let team = team_of(user);
        let busiest = busiest_minute(requests, Request::estimated_tokens);
        let tokens_per_minute = (busiest * percent(team, 1, 30) / 100).max(1);
        let largest = requests.iter().map(|request| request.estimated_tokens()).max().unwrap_or(1);
        Self {
            account: format!("{{team-{team}}}:user:{user:02}"),
            tokens_per_minute,
            // Large enough for the largest request.
            burst_tokens: tokens_per_minute.max(largest),
        }
    }
}

impl Team {
    fn for_demand(team: usize, requests: &[&Request]) -> Self {
        let demand: Picos = requests.iter().map(|request| request.cost).sum();
        let largest = requests.iter().map(|request| request.estimated_cost).max().unwrap_or_default();
        Self {
            account: format!("{{team-{team}}}"),
            // Large enough for the most expensive request.
            budget: demand.percent(percent(team, 2, 50)).max(largest),
        }
    }
}

/// The keys' shares of the traffic follow Zipf's law: the n-th largest key sends 1/n of what the largest sends.
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
#[path = "workload_tests.rs"]
mod tests;
