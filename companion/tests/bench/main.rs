//! `gw bench` as a process.

use std::process::Command;

use gw_testkit::{Cluster, Server, call};

/// The exit code and the report.
fn bench(port: u16, options: &[&str]) -> (i32, serde_json::Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gw"));
    command.args([
        "bench",
        "--json",
        "--seconds",
        "1",
        "--clients",
        "2",
        "--url",
        &format!("redis://127.0.0.1:{port}"),
    ]);
    let output = command.args(options).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{told}")))
}

#[test]
fn it_measures_and_leaves_nothing_behind() {
    let server = Server::start().unwrap();
    let (code, report) = bench(server.port(), &["--need", "1"]);
    assert_eq!((code, &report["is_enough"]), (0, &true.into()), "{report}");
    let rates = report["rates"].as_array().unwrap();
    let measured: Vec<_> =
        rates.iter().map(|rate| (rate["call"].as_str().unwrap(), rate["pipeline"].as_i64().unwrap())).collect();
    assert_eq!(measured, [("allow", 1), ("allow", 16), ("admit_settle", 1), ("admit_settle", 16)]);
    assert!(rates.iter().all(|rate| rate["per_second"].as_u64().unwrap() > 0), "{report}");
    // The server's process is on this machine.
    for times in ["round_trip", "fsync"] {
        assert!(report[times]["median_us"].as_f64().unwrap() > 0.0, "{report}");
    }
    let mut client = server.connect().unwrap();
    assert_eq!(call!(client, "DBSIZE" => i64), 0);
    let stats: Vec<String> = call!(client, "GW.STATS");
    let stat = |name: &str| stats[1 + stats.iter().position(|other| other == name).unwrap()].clone();
    assert_eq!(stat("settle_done"), stat("admit_admitted"));
    assert_eq!(
        (stat("admit_denied"), stat("allow_denied"), stat("settle_unknown")),
        ("0".into(), "0".into(), "0".into())
    );
    let left = std::fs::read_dir(server.dir())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("gw-bench"));
    assert_eq!(left.count(), 0);
    // No machine does that.
    let (code, report) = bench(server.port(), &["--need", "1000000000"]);
    assert_eq!((code, &report["is_enough"]), (1, &false.into()));
}

#[test]
fn of_a_cluster_it_measures_the_node_with_the_keys() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let (code, report) = bench(cluster.ports()[0], &[]);
    assert_eq!((code, report.get("is_enough")), (0, None), "{report}");
    for node in cluster.nodes() {
        let mut client = node.connect().unwrap();
        assert_eq!(call!(client, "DBSIZE" => i64), 0);
    }
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let server = Server::options().without_module().start().unwrap();
    for port in [1, server.port()] {
        let url = format!("redis://127.0.0.1:{port}");
        let output = Command::new(env!("CARGO_BIN_EXE_gw")).args(["bench", "--url", &url]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(!output.stderr.is_empty());
    }
}
