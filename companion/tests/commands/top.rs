//! `gw top`, once and in a terminal.

use std::io::{BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use gw_testkit::{DEADLINE, Server, reply};

use crate::{gw, printed, refused};

/// A server at which something was refused, charged, cached and queued.
fn busy() -> Server {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    reply!(client, "GW.POLICYSET", "user:42", "rpm", "WINDOW", 1, "PER", 60_000);
    for lease in ["a", "b", "c"] {
        reply!(client, "GW.ADMIT", "user:42", "LEASE", lease, "TTL", 30_000, "ROWS", "NONE");
    }
    reply!(client, "GW.ADDCOST", "spend:ml", "1.25");
    reply!(client, "GW.CACHESET", "chat:1", "answer", "SAVED", "0.002");
    reply!(client, "GW.CACHEGET", "chat:1");
    reply!(client, "GW.LOGPUSH", "log:requests", "RECORDS", "a", "b");
    server
}

#[test]
fn one_sample_is_printed() {
    let server = busy();
    let text = printed(gw(server.port(), &["top", "--once"]));
    for part in ["1.25 USD/min", "0.002 USD saved", "user:42 (rpm)", "spend:ml", "log:requests"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let sample: serde_json::Value = serde_json::from_str(&printed(gw(server.port(), &["top", "--json"]))).unwrap();
    assert_eq!(sample["usd_per_minute"], "1.25");
    assert_eq!(sample["refused"][0]["key"], "user:42");
    assert_eq!(sample["refused_by"][0], serde_json::json!(["rpm", 2]));
    assert_eq!((&sample["queues"][0]["key"], &sample["queues"][0]["length"]), (&"log:requests".into(), &2.into()));
    assert!(sample["rates"].as_array().unwrap().iter().any(|rate| rate["what"] == "requests"));
}

#[test]
fn an_address_that_is_wrong_is_told() {
    let (code, told) = refused(gw(0, &["top", "--once", "--url", "http://host"]));
    assert!(code == Some(1) && told.contains("--url is not the URL of a Redis or Valkey server"), "{told}");
    // Nobody listens there.
    let (code, told) = refused(gw(1, &["top"]));
    assert!(code == Some(1) && !told.is_empty(), "{told}");
}

#[test]
fn a_terminal_is_given_back() {
    let server = busy();
    for key in [b"q".as_slice(), b"\x03"] {
        let mut terminal = Terminal::start(server.port());
        let seen = terminal.read_until("log:requests");
        // The other screen, with everything on it. Blanks are passed over, not written.
        for part in ["\x1b[?1049h", "Calls", "user:42", "spend:ml"] {
            assert!(seen.contains(part), "{part:?}: {seen}");
        }
        terminal.process.stdin.as_mut().unwrap().write_all(key).unwrap();
        let rest = terminal.read_until("\x1b[?25h");
        assert!(rest.contains("\x1b[?1049l"), "the first screen, and the cursor: {rest:?}");
        drop(terminal.process.stdin.take());
        assert!(terminal.process.wait().unwrap().success());
    }
}

/// `gw top` in a terminal, which `script` is. Dropping it ends both.
struct Terminal {
    process: Child,
    screen: Receiver<u8>,
}

impl Terminal {
    fn start(port: u16) -> Self {
        let gw = format!("stty rows 40 cols 120; exec {} top --interval 3600", env!("CARGO_BIN_EXE_gw"));
        let mut script = Command::new("script");
        script.args(["-qefc", &gw, "/dev/null"]).env("GW_URL", format!("redis://127.0.0.1:{port}"));
        let mut process = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let bytes = BufReader::new(process.stdout.take().unwrap()).bytes();
        let (send, screen) = channel();
        thread::spawn(move || bytes.map_while(Result::ok).try_for_each(|byte| send.send(byte)));
        Self { process, screen }
    }

    #[track_caller]
    fn read_until(&self, what: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(what.as_bytes()) {
            match self.screen.recv_timeout(DEADLINE) {
                Ok(byte) => seen.push(byte),
                Err(error) => panic!("no {what:?} ({error}): {}", String::from_utf8_lossy(&seen)),
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // With `script` its terminal goes, and with that `gw`. Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
