//! Debian's Prometheus: its linter, and the program itself.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use gw_testkit::{DEADLINE, Server, await_until, project_root, reply};

use super::companion::{Gw, examples, get};

/// A program of Prometheus: the system's, or the one that scripts/companion.sh has unpacked.
fn program(name: &str) -> Option<PathBuf> {
    let unpacked = project_root().join(".tools/prometheus/usr/bin").join(name);
    if unpacked.exists() {
        return Some(unpacked);
    }
    let system = PathBuf::from("/usr/bin").join(name);
    if !system.exists() {
        println!("SKIPPED: there is no {name}; scripts/companion.sh installs it");
    }
    system.exists().then_some(system)
}

/// `promtool check metrics`, which lints them, too.
pub fn check(text: &str) {
    let Some(promtool) = program("promtool") else { return };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut linter = command.spawn().unwrap();
    linter.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = linter.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.is_empty(), "{told}\n{text}");
}

/// A running Prometheus. It ends with the value.
struct Prometheus {
    process: Child,
    address: String,
    folder: PathBuf,
}

impl Prometheus {
    fn start(config: &str) -> Option<Self> {
        let program = program("prometheus")?;
        let folder = std::env::temp_dir().join(format!("gw-prometheus-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        // Free now; nothing else on this machine asks for this very port.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let log = fs::File::create(folder.join("log")).unwrap();
        let process = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Some(Self { process, address, folder })
    }

    /// The results of a query; `None` while it does not answer.
    fn query(&self, query: &str) -> Option<Vec<serde_json::Value>> {
        std::net::TcpStream::connect(&self.address).ok()?;
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (head, body) = get(&self.address, &format!("/api/v1/query?query={escaped}"));
        // While it starts, it says that it is not ready.
        if head.contains(" 503 ") {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{head}\n{body}"));
        assert_eq!(answer["status"], "success", "{query}: {body}");
        Some(answer["data"]["result"].as_array().unwrap().clone())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_real_prometheus_scrapes_as_the_book_says() {
    let server = Server::start().unwrap();
    let replica = Server::options().replica_of(&server).start().unwrap();
    let mut client = server.connect().unwrap();
    reply!(client, "GW.POLICYSET", "{ml}:key:7", "day", "BUDGET", 20, "DAY");
    reply!(client, "GW.ADMIT", "{ml}:key:7", "LEASE", "l", "TTL", 60_000, "usd", 19);
    reply!(client, "GW.SETTLE", "{ml}:key:7", "LEASE", "l", "usd", 19);
    reply!(client, "GW.LOGPUSH", "log:requests", "RECORDS", "{}");
    reply!(client, "GW.ALLOW", "rpm:1", 0);

    let [config] = &examples("toml gw")[..] else { panic!("one configuration") };
    let config = config.replace("redis://127.0.0.1:6379", &format!("redis://127.0.0.1:{}", server.port()));
    let gw = Gw::start(&config.replace("127.0.0.1:9464", "127.0.0.1:0"));
    let [scrape] = &examples("yaml prometheus")[..] else { panic!("one configuration") };
    let scrape = scrape.replace("127.0.0.1:9464", gw.address()).replace("15s", "1s");
    let Some(prometheus) = Prometheus::start(&scrape) else { return };

    let mut has = |query: &str, results: usize| {
        let told = await_until(query, DEADLINE, || {
            // Reads of the cache while it looks, so that their rates are no 0 divided by 0.
            reply!(client, "GW.CACHEGET", "chat:1");
            prometheus.query(query).is_some_and(|found| found.len() >= results)
        });
        told.unwrap_or_else(|error| panic!("{error}\n{}", fs::read_to_string(prometheus.folder.join("log")).unwrap()));
    };
    has("gw_up == 1", 2);
    has("gw_policy_used{account=\"{ml}:key:7\",policy=\"day\"} == 19", 1);
    has("gw_top_denied{key=\"rpm:1\"}", 2);
    has("rate(gw_command_calls_total{command=\"GW.CACHEGET\"}[1m]) > 0", 1);
    // Prometheus finds nothing wrong with any series.
    has("up{job=\"redis-gateway\"} == 1", 1);
    let (down, queries): (Vec<_>, Vec<_>) =
        examples("promql").into_iter().partition(|query| query.trim() == "gw_up == 0");
    assert_eq!((down.len(), queries.len()), (1, 4));
    for query in queries {
        // A bound that is not reached yet is left out: this asks for the series that it is about.
        let (query, _) = query.rsplit_once(" > ").unwrap_or((&query, ""));
        has(query.trim(), 1);
    }
    drop(replica);
    has(&down[0], 1);
    gw.stop();
}
