use super::*;
use crate::trace;
use std::collections::HashSet;

fn workload(seed: u64) -> Workload {
    Workload::new(&trace::generate(20_000, 1), Model::all().unwrap(), seed)
}

#[test]
fn the_seed_decides_everything() {
    assert_eq!(workload(1).requests, workload(1).requests);
    assert_eq!(workload(1).keys, workload(1).keys);
    assert_ne!(workload(1).requests, workload(2).requests);
}

#[test]
fn every_key_sends_requests_and_the_first_sends_most() {
    let workload = workload(1);
    let mut sent = vec![0; workload.keys.len()];
    for request in &workload.requests {
        sent[request.key] += 1;
    }
    // Zipf's law with 24 ranks gives 26 % and 1.1 % of 20,000.
    assert!((5_000..5_600).contains(&sent[0]) && (150..300).contains(&sent[KEYS - 1]), "{sent:?}");
}

#[test]
fn a_request_has_accounts_of_one_hash_tag() {
    let workload = workload(1);
    for key in &workload.keys {
        let tag = format!("{{team-{}}}", key.team);
        assert_eq!(workload.teams[key.team].account, tag);
        assert!(key.account.starts_with(&tag) && workload.users[key.user].account.starts_with(&tag), "{key:?}");
    }
}

#[test]
fn estimates_are_mostly_enough_and_sometimes_too_low() {
    let requests = workload(1).requests;
    let too_low = requests.iter().filter(|request| request.estimated_tokens() < request.tokens()).count();
    assert!((500..2_500).contains(&too_low), "{too_low}");
    assert!(requests.iter().all(|request| (request.estimated_cost < request.cost)
        == (request.estimated_generated_tokens < request.generated_tokens)));
}

/// The estimates that a request has taken until the model has answered it.
struct Pending<'a> {
    end: Duration,
    request: &'a Request,
    cached: bool,
}

/// Replays a gateway with naive state of its own, one request after another.
#[test]
fn every_limit_binds() {
    let workload = workload(1);
    let minute = Duration::from_secs(60);
    let mut admitted_at: Vec<Vec<Duration>> = vec![Vec::new(); KEYS];
    let mut levels: Vec<(f64, Duration)> =
        workload.users.iter().map(|user| (user.burst_tokens as f64, Duration::ZERO)).collect();
    let mut spent = [Picos::default(); TEAMS];
    let mut pending: Vec<Pending> = Vec::new();
    let mut responses = HashSet::new();
    let (mut too_many, mut too_long, mut too_expensive, mut at_once, mut hits, mut answered) = (0, 0, 0, 0, 0, 0);
    for request in &workload.requests {
        let (key, user, team) = (workload.key(request), workload.user(request), workload.team(request));
        for ended in pending.extract_if(.., |pending| pending.end <= request.at) {
            let (tokens, cost) = ended.request.used(ended.cached);
            let key = workload.key(ended.request);
            levels[key.user].0 += ended.request.estimated_tokens() as f64 - tokens as f64;
            spent[key.team] = spent[key.team] + cost;
            if !ended.cached {
                responses.insert((ended.request.model, ended.request.prompt));
            }
        }
        let recent = &mut admitted_at[request.key];
        recent.retain(|&at| at + minute > request.at);
        let (level, then) = levels[key.user];
        let filled = (request.at - then).as_secs_f64() / 60.0 * user.tokens_per_minute as f64;
        let level = (level + filled).min(user.burst_tokens as f64);
        levels[key.user] = (level, request.at);
        let in_flight = pending.iter().filter(|pending| pending.request.key == request.key).count() as u64;
        let held = pending.iter().filter(|pending| workload.key(pending.request).team == key.team);
        let held: Picos = held.map(|pending| pending.request.estimated_cost).sum();

        let refusals = [
            (recent.len() as u64 >= key.requests_per_minute, &mut too_many),
            (in_flight >= key.in_flight_max, &mut at_once),
            (level < request.estimated_tokens() as f64, &mut too_long),
            (spent[key.team] + held + request.estimated_cost > team.budget, &mut too_expensive),
        ];
        if refusals.iter().any(|(refused, _)| *refused) {
            refusals.into_iter().filter(|(refused, _)| *refused).for_each(|(_, count)| *count += 1);
            continue;
        }
        recent.push(request.at);
        levels[key.user].0 -= request.estimated_tokens() as f64;
        let cached = responses.contains(&(request.model, request.prompt));
        *(if cached { &mut hits } else { &mut answered }) += 1;
        let end = if cached { request.at } else { request.at + request.model_time() };
        pending.push(Pending { end, request, cached });
    }
    let permilles = [too_many, too_long, too_expensive, at_once, hits, answered].map(|count| count * 1_000 / 20_000);
    assert!(permilles.iter().all(|&permille| permille >= 10), "{permilles:?}");
    assert!(permilles[5] >= 400, "{permilles:?}");
}

#[test]
fn a_trace_of_one_request_has_limits_that_let_it_pass() {
    let arrival = Arrival { at: Duration::ZERO, context_tokens: 2, generated_tokens: 7 };
    let workload = Workload::new(&[arrival], Model::all().unwrap(), 1);
    let request = &workload.requests[0];
    let (key, user, team) = (workload.key(request), workload.user(request), workload.team(request));
    assert!(key.requests_per_minute >= 1 && key.in_flight_max >= 1);
    assert!(user.burst_tokens >= request.estimated_tokens() && team.budget >= request.estimated_cost);
    assert_eq!(workload.duration(), Duration::ZERO);
}
