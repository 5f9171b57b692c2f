//! How many records of 1 KB a companion ships to the local disk for each second of processor time that it takes. That is what it
//! does on one core, and says the same on a busy machine.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use gw_testkit::{DEADLINE, Server, await_until, call};

#[path = "common/usage.rs"]
mod usage;

use usage::Usage;

const RECORDS: u64 = 200_000;

/// What a gateway logs of a request, padded with a text that does not repeat itself too much, to 1 KB.
fn record(number: u64) -> String {
    let mut text = String::new();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while text.len() < 640 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(["the ", "tokens ", "of ", "request ", "answer ", "model "][(state % 6) as usize]);
        text.push_str(&(state >> 40).to_string());
        text.push(' ');
    }
    let start = format!(
        "{{\"id\":\"req-{number:012}\",\"at\":\"2026-11-30T17:{:02}:{:02}Z\",\"model\":\"model-{}\",\"tenant\":\"team-{}\",\
         \"prompt_tokens\":{},\"completion_tokens\":{},\"cost\":{}.{:06},\"stream\":{},\"status\":200,\
         \"tags\":{{\"region\":\"eu-{}\",\"retries\":{}}},\"text\":\"",
        number / 60 % 60,
        number % 60,
        number % 7,
        number % 97,
        number % 4_000,
        number % 900,
        number % 3,
        number % 1_000_000,
        number.is_multiple_of(2),
        number % 3,
        number % 4
    );
    let room = 1_024 - start.len() - 2;
    text.truncate(room);
    format!("{start}{text}\"}}")
}

fn main() {
    for (format, wanted) in [("ndjson.zst", 50_000), ("parquet", 25_000)] {
        measure(format, wanted);
    }
}

fn measure(format: &str, wanted: u32) {
    let server = Server::options().config("gw.log-max-bytes 1073741824").config("gw.log-max-records 1000000").start();
    let server = server.unwrap();
    let mut client = server.connect().unwrap();
    for first in (0..RECORDS).step_by(1_000) {
        let records: Vec<String> = (first..first + 1_000).map(record).collect();
        call!(client, "GW.LOGPUSH", "q", "RECORDS", &records => Vec<u64>);
    }
    let config = server.dir().join("gw.toml");
    let text = format!(
        "[server]\nurl = \"redis://127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [[ship]]\nqueues = [\"q\"]\nto = {:?}\nformat = {format:?}\n",
        server.port(),
        server.dir().join("shipped")
    );
    fs::write(&config, text).unwrap();
    let mut companion = Command::new(env!("CARGO_BIN_EXE_gw"));
    companion.args(["run", "--config"]).arg(&config).env("RUST_LOG", "warn").stderr(Stdio::inherit());
    let (start, mut companion) = (Instant::now(), companion.spawn().unwrap());
    let mut acked = || -> u64 {
        let figures: std::collections::HashMap<String, u64> = call!(client, "GW.LOGSTATS", "q");
        figures["acked"]
    };
    await_until("all records to be shipped", DEADLINE, || acked() == RECORDS).unwrap();
    let (seconds, used) = (start.elapsed().as_secs_f64(), Usage::of(&companion));
    companion.kill().unwrap();
    companion.wait().unwrap();
    println!(
        "{format}: {:.0} records of 1 KB a second of the companion's processor time (wanted: {wanted}), {:.0} a second; {:.0} MB at most",
        RECORDS as f64 / used.cpu_s,
        RECORDS as f64 / seconds,
        used.peak_mb
    );
}
