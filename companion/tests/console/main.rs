//! The console: what it says to whom, and its pages in a real browser.

mod browser;
mod http;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use gw_testkit::{DEADLINE, Server, project_root, reply};
use http::Client;

/// A running `gw run`. Dropping it is `kill -9`.
struct Companion {
    process: Child,
    address: String,
    log: std::sync::mpsc::Receiver<String>,
}

impl Companion {
    /// With the part `[console]` of the configuration, or more.
    fn start(server: &Server, console: &str) -> Self {
        let config = server.dir().join("gw.toml");
        let text = format!(
            "[server]\nurl = \"redis://127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n{console}",
            server.port()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
        command.arg("run").arg("--config").arg(config).args(["--log-format", "json"]).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (send, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut companion = Self { process, address: String::new(), log };
        companion.address = companion.await_log("\"started\"", |line| line["address"].as_str().unwrap().to_owned());
        companion
    }

    /// Waits for a line of the log.
    fn await_log<T>(&self, what: &str, of: impl Fn(serde_json::Value) -> T) -> T {
        loop {
            let line = self.log.recv_timeout(DEADLINE).expect(what);
            if line.contains(what) {
                return of(serde_json::from_str(&line).unwrap());
            }
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const TOKENS: &str =
    "[console]\nviewer_token = \"the-token-of-viewers\"\noperator_token = \"the-token-of-operators\"\n";

/// A server with something on every page.
fn busy() -> Server {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    reply!(client, "GW.POLICYSET", "{acme}:key:7", "rpm", "WINDOW", 3, "PER", 3_600_000);
    reply!(client, "GW.POLICYSET", "{acme}:key:7", "month", "BUDGET", 20, "MONTH", "SOFT", 80);
    for number in 0..5 {
        let lease = format!("lease-{number}");
        reply!(client, "GW.ADMIT", "{acme}:key:7", "LEASE", lease, "TTL", 3_600_000, "usd", "0.5");
    }
    reply!(client, "GW.SETTLE", "{acme}:key:7", "LEASE", "lease-0", "usd", "17.25");
    reply!(client, "GW.ADDCOST", "spend:team:ml", "3.5");
    reply!(client, "GW.CACHESET", "chat:1", "answer", "SAVED", "0.002");
    reply!(client, "GW.CACHEGET", "chat:1");
    reply!(client, "GW.CACHEGET", "chat:2");
    reply!(client, "GW.LOGPUSH", "log:requests", "RECORDS", r#"{"n":1}"#, "<script>alert(1)</script>");
    dead_letter(&mut client);
    server
}

/// Makes a dead letter of the oldest record.
fn dead_letter(client: &mut gw_testkit::redis::Connection) {
    let script = "local b = redis.call('GW.LOGPOP', KEYS[1], 'LEASE', 30000) return redis.call('GW.LOGNACK', KEYS[1], b[1], 'DEAD')";
    reply!(*client, "EVAL", script, 1, "log:requests");
}

#[test]
fn on_this_machine_everybody_may_look_and_nobody_may_act() {
    let server = busy();
    let companion = Companion::start(&server, "[console]\n");
    let client = Client::new(&companion.address);
    assert_eq!(client.get("/console/api/session").json()["role"], "viewer");
    let page = client.get("/");
    assert!(page.head.contains("script-src 'self'") && page.body.contains("<main"), "{page:?}");
    // From another site's name that leads here, nobody is known.
    let elsewhere = Client { host: "evil.example".into(), ..Client::new(&companion.address) };
    assert_eq!(elsewhere.get("/console/api/session").status, 401);
    assert_eq!(client.get("/console/api/queue?key=log:requests").status, 403);
    let csrf = client.get("/console/api/session").json()["csrf"].as_str().unwrap().to_owned();
    let client = Client { csrf, ..client };
    assert_eq!(client.post("/console/api/cache/clear", r#"{"category":"chat"}"#).status, 403);
    assert_eq!(client.get("/console/nothing").status, 404);
}

#[test]
fn actions_take_an_operator_and_are_sent_by_the_page() {
    let server = busy();
    let companion = Companion::start(&server, TOKENS);
    let stranger = Client::new(&companion.address);
    for path in ["session", "now", "spenders", "account?key=a", "queue?key=a", "cache", "nodes"] {
        assert_eq!(stranger.get(&format!("/console/api/{path}")).status, 401, "{path}");
    }
    assert_eq!(stranger.post("/console/api/sign-in", r#"{"token":"the-token-of-nobody"}"#).status, 401);
    let viewer = stranger.signed_in("the-token-of-viewers");
    assert_eq!(viewer.get("/console/api/session").json()["role"], "viewer");
    assert_eq!(viewer.post("/console/api/cache/clear", r#"{"category":"chat"}"#).status, 403);

    let operator = stranger.signed_in("the-token-of-operators");
    let forged = Client { csrf: String::new(), ..operator.clone() };
    assert_eq!(forged.post("/console/api/cache/clear", r#"{"category":"chat"}"#).status, 403);
    let cleared = operator.post("/console/api/cache/clear", r#"{"category":"chat"}"#);
    assert_eq!(cleared.json()["entries"], 1);
    companion.await_log("was cleared", |line| assert_eq!(line["category"], "chat"));

    let credit = |amount: &str| {
        format!(r#"{{"key":"{{acme}}:key:7","period":"MONTH","amount":"{amount}","meter":"usd","id":"form-1"}}"#)
    };
    let document = r#"{"key":"{acme}:key:7","document":"{\"policies\":[]}"}"#;
    for (path, body) in [("credit", &*credit("5")), ("policies", document)] {
        let path = format!("/console/api/account/{path}");
        assert_eq!((viewer.post(&path, body).status, forged.post(&path, body).status), (403, 403), "{path}");
    }
    // A request that is sent twice gives one credit.
    for _ in 0..2 {
        assert_eq!(operator.post("/console/api/account/credit", &credit("5")).json()["credit"], "5");
    }
    companion.await_log("a credit was given", |line| {
        assert_eq!((&line["amount"], &line["id"]), (&"5".into(), &"form-1".into()))
    });
    assert_eq!(operator.post("/console/api/account/policies", document).json()["changed"], true);
    companion.await_log("policies of an account were set", |line| assert_eq!(line["key"], "{acme}:key:7"));
    for (path, body) in [
        ("credit", credit("much")),
        ("credit", credit("5").replace("MONTH", "YEAR")),
        ("credit", credit("-50").replace("form-1", "form-2")),
        ("policies", document.replace("[]", "7")),
    ] {
        let answer = operator.post(&format!("/console/api/account/{path}"), &body);
        assert_eq!(answer.status, 422, "{body}: {answer:?}");
        assert!(answer.body.contains("error"), "{answer:?}");
    }

    let queue = operator.get("/console/api/queue?key=log:requests").json();
    assert_eq!(
        (queue["dead"].as_array().unwrap().len(), queue["dead"][0]["records"][0].as_str()),
        (1, Some(r#"{"n":1}"#))
    );
    let requeue = r#"{"key":"log:requests","batch":"ALL","action":"requeue"}"#;
    assert_eq!(operator.post("/console/api/queue", requeue).json()["batches"], 1);
    let mut client = server.connect().unwrap();
    assert_eq!(reply!(client, "GW.LOGLEN", "log:requests"), "2");
    operator.post("/console/api/sign-out", "{}");
    assert_eq!(operator.get("/console/api/session").status, 401);
}

#[test]
fn an_account_is_shown_with_what_it_has_left() {
    let server = busy();
    let companion = Companion::start(&server, "[console]\n");
    let client = Client::new(&companion.address);
    let account = client.get("/console/api/account?key=%7Bacme%7D:key:7").json();
    let policy = |index: usize, field: &str| account["policies"][index][field].as_str().unwrap().to_owned();
    assert_eq!((policy(0, "name"), policy(0, "used"), policy(0, "limit")), ("rpm".into(), "3".into(), "3".into()));
    // Settled, and what the two other leases hold.
    assert_eq!((policy(1, "used"), policy(1, "remaining")), ("18.25".into(), "1.75".into()));
    assert_eq!(account["in_flight"], 2);
    assert_eq!(account["days"][0][1], "17.25");
    assert!(client.get("/console/api/account?key=nobody").json().is_null());
    assert_eq!(client.get("/console/api/account?key=chat:1").json()["type"], "other");
    assert_eq!(client.get("/console/api/cache").json()[0]["hits"], 1);
    assert_eq!(client.get("/console/api/nodes").json()[0]["replicas"], serde_json::json!([]));
}

#[test]
fn off_is_off() {
    let server = Server::start().unwrap();
    for off in ["", "[console]\nenabled = false\n"] {
        let companion = Companion::start(&server, off);
        assert_eq!(Client::new(&companion.address).get("/").status, 404);
    }
}

/// The example of the documentation.
#[test]
fn the_page_shows_a_configuration_that_is_right() {
    let page = std::fs::read_to_string(project_root().join("docs/src/companion/console.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let file = std::env::temp_dir().join(format!("gw-console-{}.toml", std::process::id()));
    std::fs::write(&file, rest.split_once("```").unwrap().0).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
    command.args(["run", "--check", "--config"]).arg(&file).env("GW_OPERATOR_TOKEN", "sixteen characters");
    let output = command.output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
