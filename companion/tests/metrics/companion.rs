//! `gw run` as a process, its answers, and its page of the book.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, thread};

use gw_testkit::project_root;

/// A running companion. Dropping it is `kill -9`.
pub struct Gw {
    process: Child,
    address: String,
}

impl Gw {
    /// Starts it with a configuration, and waits until it listens.
    pub fn start(config: &str) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("gw-metrics-{}-{number}.toml", std::process::id()));
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
        command.args(["run", "--log-format", "json", "--config"]).arg(&file).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut address = None;
        for line in lines.by_ref() {
            let line = line.unwrap();
            let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            if fields["message"] == "started" {
                address = Some(fields["address"].as_str().unwrap().to_owned());
                break;
            }
        }
        // It would wait for a reader otherwise.
        thread::spawn(move || lines.for_each(drop));
        fs::remove_file(&file).unwrap();
        Self { process, address: address.expect("it has not started") }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The answer to a scrape.
    pub fn metrics(&self) -> String {
        let (head, body) = get(&self.address, "/metrics");
        assert!(head.contains(" 200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
        body
    }

    /// Ends it as a service manager would.
    pub fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Gw {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The head and the body of an answer over HTTP.
pub fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Name, labels and value of each series.
pub fn series(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let (name, rest) = line.split_once('{').unwrap();
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        (name, labels, value.parse().unwrap())
    })
}

/// A page about the companion.
pub fn book(page: &str) -> String {
    fs::read_to_string(project_root().join("docs/src/companion").join(page)).unwrap()
}

/// The blocks of the page on metrics in one language.
pub fn examples(language: &str) -> Vec<String> {
    let page = book("metrics.md");
    let blocks = page.split("\n```").collect::<Vec<_>>();
    let blocks = blocks.chunks(2).filter_map(|pair| pair.get(1));
    blocks.filter_map(|block| block.strip_prefix(language)?.split_once('\n')).map(|(_, text)| text.to_owned()).collect()
}
