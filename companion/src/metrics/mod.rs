//! The exporter: what all nodes and this process tell of themselves, in the text format of Prometheus.
//!
//! Every scrape asks all nodes at once, each on a thread of its own. The nodes that the nodes tell of are asked, too; so
//! they are found from one address, and followed through failovers. Whoever has not answered when the time is over is
//! down. A thread that is still held up by its node is let be, and until it has ended that node is not asked again.

mod node;
mod report;
mod samples;
pub mod settings;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use redis::RedisResult;

use crate::http::Jobs;
use crate::members::Role;
use crate::nodes::{Address, Seed};
use crate::supervise::Health;
use node::{Answer, Question};
use samples::Samples;
use settings::Metrics;

/// A node that nobody tells of any more, and that does not answer, is forgotten after this time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What answers scrapes.
pub struct Exporter {
    seed: Arc<Seed>,
    settings: Metrics,
    shipped: Vec<String>,
    question: Question,
    /// One scrape at a time. Those that come meanwhile get its answer, too.
    scrapes: Mutex<Scrapes>,
}

#[derive(Default)]
struct Scrapes {
    nodes: BTreeMap<Address, Known>,
    last: Option<(Instant, String)>,
}

/// A node that was heard of.
struct Known {
    role: Option<Role>,
    heard: Instant,
    /// Held by the thread that asks the node.
    asked: Arc<()>,
}

impl Known {
    fn new(role: Option<Role>) -> Self {
        Self { role, heard: Instant::now(), asked: Arc::default() }
    }
}

type Reply = (Address, RedisResult<Answer>);

impl Exporter {
    /// An exporter for a configuration that was checked, and for the queues that are shipped.
    pub fn new(settings: Metrics, seed: &Seed, shipped: Vec<String>) -> Self {
        let queues: BTreeSet<String> = settings.queues.as_ref().iter().chain(&shipped).cloned().collect();
        let question = Question {
            queues: queues.into_iter().collect(),
            accounts: settings.accounts.as_ref().iter().collect::<BTreeSet<_>>().into_iter().cloned().collect(),
            top: !settings.top_keys.as_ref().is_empty() && *settings.top_count.as_ref() > 0,
            top_meters: settings.top_meters.as_ref().clone(),
            feed: settings.feed,
        };
        Self { seed: Arc::new(seed.clone()), settings, shipped, question, scrapes: Mutex::default() }
    }

    /// The text of all series. It takes no longer than the configured time, and a little for the text.
    fn scrape(&self, jobs: &[Health]) -> prometheus::Result<String> {
        let arrived = Instant::now();
        let mut scrapes = self.scrapes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, text)) = scrapes.last.as_ref().filter(|(ended, _)| *ended >= arrived) {
            return Ok(text.clone());
        }
        let answers = self.ask_all(&mut scrapes.nodes);
        let mut samples = Samples::default();
        own(&mut samples, jobs);
        for (address, known) in &scrapes.nodes {
            let node = address.to_string();
            match answers.get(address) {
                Some(answer) => report::add(&mut samples, &node, answer, &self.settings, &self.shipped),
                None => samples.add(&table::UP, &[&node, known.role.map_or("unknown", Role::name)], 0.0),
            }
        }
        let text = samples.text()?;
        scrapes.last = Some((Instant::now(), text.clone()));
        Ok(text)
    }

    /// Asks all known nodes and those that they tell of, and notes who they are.
    fn ask_all(&self, nodes: &mut BTreeMap<Address, Known>) -> BTreeMap<Address, Answer> {
        let deadline = Instant::now() + *self.settings.timeout.as_ref();
        if !nodes.values().any(|known| known.heard.elapsed() < FORGOTTEN_AFTER) {
            // Without an answer of any sentinel, the configured address is what there is.
            let first = self.seed.primary().unwrap_or_else(|_| self.seed.address().clone());
            nodes.insert(first, Known::new(None));
        }
        let (sender, receiver) = channel();
        let mut waiting: BTreeSet<Address> = BTreeSet::new();
        for (address, known) in nodes.iter() {
            if self.ask(address, known, deadline, &sender) {
                waiting.insert(address.clone());
            }
        }
        let mut answers = BTreeMap::new();
        while !waiting.is_empty() {
            let Some((address, answer)) = receive(&receiver, deadline) else { break };
            waiting.remove(&address);
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(node = %address, %error, "a node does not answer a scrape");
                    continue;
                }
            };
            for (member, &role) in &answer.members {
                let known = nodes.entry(member.clone()).or_insert_with(|| Known::new(None));
                let is_new = known.role.is_none();
                (known.role, known.heard) = (Some(role), Instant::now());
                let was_asked = *member == address || waiting.contains(member) || answers.contains_key(member);
                if is_new && !was_asked && self.ask(member, known, deadline, &sender) {
                    waiting.insert(member.clone());
                }
            }
            answers.insert(address, answer);
        }
        forget(nodes, &mut answers);
        answers
    }

    /// Asks a node on a thread, unless one still waits for it. Returns whether there will be an answer.
    fn ask(&self, node: &Address, known: &Known, deadline: Instant, sender: &Sender<Reply>) -> bool {
        if Arc::strong_count(&known.asked) > 1 {
            return false;
        }
        let (seed, question, asked) = (Arc::clone(&self.seed), self.question.clone(), Arc::clone(&known.asked));
        let (address, sender) = (node.clone(), sender.clone());
        let thread = thread::Builder::new().name(format!("scrape {node}")).spawn(move || {
            let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let answer = node::ask(&seed, &address, &question, patience);
            drop(asked);
            // Nobody listens if the time is over.
            let _ = sender.send((address, answer));
        });
        thread.is_ok()
    }
}

fn receive(receiver: &Receiver<Reply>, deadline: Instant) -> Option<Reply> {
    receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

/// A node may be known by two addresses: the configured one, and the one that other nodes tell. It is kept under the
/// latter. Nodes that are gone are forgotten.
fn forget(nodes: &mut BTreeMap<Address, Known>, answers: &mut BTreeMap<Address, Answer>) {
    let process = |answer: &Answer| answer.info.text("run_id").to_owned();
    let told_by_others = |address: &Address| {
        let own = answers.get(address).map(process);
        answers.values().filter(|answer| Some(process(answer)) != own && answer.members.contains_key(address)).count()
    };
    let told_by_itself =
        |address: &Address| answers.get(address).is_some_and(|answer| answer.members.contains_key(address));
    let mut best: BTreeMap<String, Address> = BTreeMap::new();
    let mut addresses: Vec<&Address> = answers.keys().collect();
    addresses.sort_by_key(|address| (told_by_others(address) > 0, told_by_itself(address)));
    for address in addresses {
        best.insert(process(&answers[address]), address.clone());
    }
    let kept: BTreeSet<Address> = best.into_values().collect();
    let doubles: Vec<Address> = answers.keys().filter(|address| !kept.contains(address)).cloned().collect();
    for double in doubles {
        answers.remove(&double);
        nodes.remove(&double);
    }
    nodes.retain(|address, known| answers.contains_key(address) || known.heard.elapsed() < FORGOTTEN_AFTER);
}

/// What this process tells of itself.
fn own(samples: &mut Samples, jobs: &[Health]) {
    samples.add(&table::BUILD, &[env!("CARGO_PKG_VERSION")], 1.0);
    for Health { job, is_well, starts, last_error, .. } in jobs {
        samples.add(&table::JOB_UP, &[job], if *is_well { 1.0 } else { 0.0 });
        samples.add(&table::JOB_RESTARTS, &[job], starts.saturating_sub(1) as f64);
        if let Some(time) = last_error {
            samples.add(&table::JOB_LAST_ERROR, &[job], *time as f64);
        }
    }
}

/// `/metrics`.
pub fn router(exporter: Exporter, jobs: Jobs) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state((Arc::new(exporter), jobs))
}

async fn metrics(State((exporter, jobs)): State<(Arc<Exporter>, Jobs)>) -> Response {
    // Asked for here, so that the thread has no part of what the end of the process waits for.
    let health = jobs();
    let text = tokio::task::spawn_blocking(move || exporter.scrape(&health)).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
