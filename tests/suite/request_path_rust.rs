//! Drives the documentation's request path in Rust, with the Rust client.

#[path = "../examples/rust/request_path.rs"]
mod path;

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::{self, BoxStream};
use path::{ChatRequest, Failure, Piece, Reader, Service, connect};
use redis_gateway_client::{Gateway, Settings};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::markdown::named;

/// Generous: a busy machine is slow.
const PATIENT: Duration = Duration::from_secs(60);

fn client(port: &str) -> redis::Client {
    redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap()
}

async fn admin(redis: &redis::Client, words: &[&str]) {
    let mut connection = redis.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).exec_async(&mut connection).await.unwrap();
}

/// Streams four pieces, or what the request's prompt says.
fn model(request: ChatRequest, redis: redis::Client) -> BoxStream<'static, Result<Piece, Failure>> {
    let name = request.prompt;
    let next = move |step: u32| {
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
            let usd = format!("0.0{step}").parse().unwrap();
            let used = [("tokens".into(), (100 * step).into()), ("usd".into(), usd)];
            let used = if is_known { used.into() } else { [].into() };
            Some((Ok(Piece { text: format!("piece{step} "), used }), step + 1))
        }
    };
    stream::unfold(1, next).boxed()
}

#[derive(Default)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    pieces: usize,
    /// The piece with which the client leaves.
    take: Option<usize>,
    /// Told when two pieces have been sent.
    two: Arc<Notify>,
}

impl Reader for Answer {
    fn start(&mut self, status: u16, headers: BTreeMap<String, String>) {
        self.status = status;
        self.headers = headers.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
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

fn asked(prompt: &str, team: &str) -> ChatRequest {
    let text = str::to_owned;
    let estimates = [("tokens".into(), 1_000.into()), ("usd".into(), "0.1".parse().unwrap())];
    ChatRequest {
        team: text(team),
        key: text("7"),
        user: text("42"),
        prompt: text(prompt),
        estimates: estimates.into(),
    }
}

/// Answers one request.
async fn run(service: &Service, name: &str, team: &str, take: Option<usize>) -> Value {
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
        let request = asked(name, team);
        let handled = pin!(service.handle(&request, &mut answer));
        match select(handled, pin!(leaves)).await {
            Either::Left((handled, _)) => handled.err().map(|error| error.to_string()),
            Either::Right(_) => Some("Cancelled".to_owned()),
        }
    };
    answer.body += &end.unwrap_or_default();
    json!([answer.status, answer.body, answer.headers])
}

/// Waits until the server has taken what was settled in the background.
async fn settled(gateway: &Gateway) {
    while gateway.kept() > 0 {
        gateway.send_kept().await;
    }
}

/// What each request got, how many settlements were left over, and where answers are cached, as the drivers in other languages print
/// it.
pub fn drive(ports: &[&str]) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let redis = client(ports[0]);
        let service_at = |port: &str, timeout: Duration| {
            // What is kept is sent when this says so.
            let mut settings = Settings { timeout, connect_timeout: PATIENT, ..Settings::default() };
            settings.kept.every = Duration::from_secs(3_600);
            let redis = redis.clone();
            let model = Arc::new(move |request| model(request, redis.clone()));
            Service::new(Gateway::new(&client(port), settings).unwrap(), model)
        };
        let service = service_at(ports[0], PATIENT);
        let names = ["whole", "wrong", "gone", "cancelled", "counted", "fails", "refuses"];
        let keys: BTreeMap<_, _> =
            names.map(|name| (name, service.cache.key(asked(name, "ml").question()).unwrap())).into();
        admin(&redis, &["SET", &keys["wrong"], "another-type"]).await;
        let mut answers = Vec::new();
        let none = [("whole", None), ("whole", None), ("wrong", None), ("gone", Some(2)), ("cancelled", None)];
        for (name, take) in none.into_iter().chain([("counted", Some(2)), ("fails", None), ("refuses", None)]) {
            answers.push(run(&service, name, "ml", take).await);
            settled(&service.gateway).await;
        }
        let impatient = service_at(ports[0], Duration::from_secs(3));
        answers.push(run(&impatient, "paused", "ml", None).await);
        let mut unsettled = vec![impatient.gateway.kept()];
        admin(&redis, &["CLIENT", "UNPAUSE"]).await;
        settled(&impatient.gateway).await;
        unsettled.push(impatient.gateway.kept());
        answers.push(run(&service, "limit", "ml", None).await);
        answers.push(run(&service, "unknown", "un", None).await);
        let dead = service_at(ports[1], PATIENT);
        answers.push(run(&dead, "dead", "ml", None).await);
        for service in [service, impatient, dead] {
            service.gateway.close_within(PATIENT).await;
        }
        json!({"answers": answers, "unsettled": unsettled, "keys": keys}).to_string()
    })
}

#[test]
fn the_connection_works() {
    let server = gw_testkit::Server::start().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let kept = server.dir().join("kept");
        let url = format!("redis://127.0.0.1:{}", server.port());
        let gateway = connect(&url, PATIENT, kept.to_str().unwrap()).unwrap();
        assert_eq!(gateway.allow("k", 5, &Default::default()).await.unwrap().remaining, 4);
        gateway.close().await;
    });
}

#[test]
fn the_documentation_shows_this_code() {
    let source = include_str!("../examples/rust/request_path.rs");
    assert_eq!(named("request-path-rust").text().trim_end(), source.trim_end());
}
