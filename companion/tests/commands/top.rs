//! `gw top`, once and in a terminal.

use std::io::Write;
use std::process::{Command, Stdio};

use gw_testkit::{Server, reply};

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
        // `script` is a terminal in between; it ends with the exit code of its command.
        let gw = format!("stty rows 40 cols 120; exec {} top --interval 3600", env!("CARGO_BIN_EXE_gw"));
        let mut script = Command::new("script");
        script.args(["-qefc", &gw, "/dev/null"]).env("GW_URL", format!("redis://127.0.0.1:{}", server.port()));
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let seen = read_until(&mut stdout, b"log:requests");
        // The other screen, with everything on it. Blanks are passed over, not written.
        for part in ["\x1b[?1049h", "Calls", "user:42", "spend:ml"] {
            assert!(seen.contains(part), "{part:?}: {seen}");
        }
        stdin.write_all(key).unwrap();
        let rest = read_until(&mut stdout, b"\x1b[?25h");
        assert!(rest.contains("\x1b[?1049l"), "the first screen, and the cursor: {rest:?}");
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
}

/// Reads until this has come; the test ends if it never does, as the program then ends or is ended by the runner.
fn read_until(from: &mut impl std::io::Read, what: &[u8]) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(what) {
        assert_eq!(from.read(&mut byte).unwrap(), 1, "it has ended: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}
