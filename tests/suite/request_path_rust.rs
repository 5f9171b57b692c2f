//! Drives the documentation's request path in Rust, with redis-rs.

#[path = "../examples/rust/request_path.rs"]
mod path;

use std::collections::HashMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::{self, Stream};
use path::{ChatRequest, Failure, Gateway, Piece, Reader, Usage, connect};
use redis::aio::ConnectionManager;
use redis::cmd;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::markdown::named;

/// Generous: a busy machine is slow.
const PATIENT: Duration = Duration::from_secs(60);

fn connection(port: &str, timeout: Duration) -> ConnectionManager {
    connect(&format!("redis://127.0.0.1:{port}/"), timeout).unwrap()
}

async fn admin(redis: &ConnectionManager, words: &[&str]) {
    cmd(words[0]).arg(&words[1..]).exec_async(&mut redis.clone()).await.unwrap();
}

/// Streams four pieces, or what the request's name says.
fn model(request: &ChatRequest, redis: &ConnectionManager) -> impl Stream<Item = Result<Piece, Failure>> + use<> {
    let (name, redis) = (request.cache_key.trim_start_matches("chat:").to_owned(), redis.clone());
    stream::unfold(1, move |step| {
        let (name, redis) = (name.clone(), redis.clone());
        async move {
            match (step, name.as_str()) {
                (1, "refuses") | (3, "fails") => return Some((Err("ModelError".into()), 5)),
                (3, "cancelled") => pending().await,
                (3, "unknown") => admin(&redis, &["DEL", "{un}:key:7", "{un}:user:42", "{un}"]).await,
                (3, "paused") => admin(&redis, &["CLIENT", "PAUSE", "600000", "WRITE"]).await,
                (5, _) => return None,
                _ => {}
            }
            let is_known = step == 4 || name == "counted";
            let usage = is_known.then(|| Usage { tokens: 100 * step, usd: format!("0.0{step}") });
            Some((Ok(Piece { text: format!("piece{step} "), usage }), step + 1))
        }
    })
}

#[derive(Default)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
    pieces: usize,
    /// The piece with which the client leaves.
    take: Option<usize>,
    /// Told when two pieces have been sent.
    two: Arc<Notify>,
}

impl Reader for Answer {
    fn start(&mut self, status: u16, headers: HashMap<String, String>) {
        (self.status, self.headers) = (status, headers);
    }

    async fn send(&mut self, piece: &str) -> Result<(), Failure> {
        self.body += piece;
        self.pieces += 1;
        if self.pieces == 2 {
            self.two.notify_one();
        }
        if self.take == Some(self.pieces) { Err("the client has left".into()) } else { Ok(()) }
    }
}

/// Answers one request and waits for its settlement.
async fn run(gateway: &Gateway, admin: &ConnectionManager, name: &str, team: &str, take: Option<usize>) -> Value {
    let text = str::to_owned;
    let request = ChatRequest {
        team: text(team),
        key: text("7"),
        user: text("42"),
        cache_key: format!("chat:{name}"),
        estimate: Usage { tokens: 1_000, usd: text("0.1") },
    };
    let two = Arc::new(Notify::new());
    let mut answer = Answer { take, two: two.clone(), ..Answer::default() };
    // A server drops the future of a client that has left.
    let leaves = async {
        match name {
            "cancelled" => two.notified().await,
            _ => pending().await,
        }
    };
    let end = {
        let handled = pin!(gateway.handle(&request, |request| model(request, admin), &mut answer));
        match select(handled, pin!(leaves)).await {
            Either::Left((handled, _)) => handled.err().map(|error| error.to_string()),
            Either::Right(_) => Some("Cancelled".to_owned()),
        }
    };
    answer.body += &end.unwrap_or_default();
    gateway.settling.close();
    gateway.settling.wait().await;
    gateway.settling.reopen();
    json!([answer.status, answer.body, answer.headers])
}

/// What each request got, and how many settlements were left over, as the drivers in other languages print it.
pub fn drive(ports: &[&str]) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let redis = connection(ports[0], PATIENT);
        let gateway = Gateway::new(redis.clone());
        let mut answers = Vec::new();
        let none = [("whole", None), ("whole", None), ("wrong", None), ("gone", Some(2)), ("cancelled", None)];
        for (name, take) in none.into_iter().chain([("counted", Some(2)), ("fails", None), ("refuses", None)]) {
            answers.push(run(&gateway, &redis, name, "ml", take).await);
        }
        let mut impatient = Gateway::new(connection(ports[0], Duration::from_secs(5)));
        answers.push(run(&impatient, &redis, "paused", "ml", None).await);
        let mut unsettled = vec![impatient.unsettled.lock().unwrap().len()];
        admin(&redis, &["CLIENT", "UNPAUSE"]).await;
        impatient.redis = redis.clone();
        impatient.settle_again().await;
        unsettled.push(impatient.unsettled.lock().unwrap().len());
        answers.push(run(&gateway, &redis, "limit", "ml", None).await);
        answers.push(run(&gateway, &redis, "unknown", "un", None).await);
        let dead = Gateway::new(connection(ports[1], PATIENT));
        answers.push(run(&dead, &redis, "dead", "ml", None).await);
        json!({"answers": answers, "unsettled": unsettled}).to_string()
    })
}

#[test]
fn the_documentation_shows_this_code() {
    let source = include_str!("../examples/rust/request_path.rs");
    assert_eq!(named("request-path-rust").text().trim_end(), source.trim_end());
}
