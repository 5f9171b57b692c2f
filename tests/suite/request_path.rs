//! The documentation's request path, run with the real clients through every way in which a request can end.

use crate::examples::{changed, example, go, python, typescript};
use crate::markdown::named;
use crate::request_path_rust;
use crate::support::{run, start};
use gw_testkit::{Server, await_until, call};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

/// Status, body and headers.
type Answer = (u16, String, BTreeMap<String, String>);

/// The headers that tell what is left of the policies `rpm`, `tpm`, `inflight` and `spend`, as the page's own code writes them.
const OWN_HEADERS: &[&str] = &[
    "x-ratelimit-remaining-rpm",
    "x-ratelimit-remaining-tpm",
    "x-ratelimit-remaining-inflight",
    "x-ratelimit-remaining-spend",
];

/// Those of the clients, which tell what is left of windows and buckets by what they count.
const CLIENTS_HEADERS: &[&str] = &["x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"];

fn check(run_driver: impl Fn(&[&str]) -> Option<String>) {
    check_headers(OWN_HEADERS, run_driver);
}

/// Runs a driver, which gets the port of a server and a port without one. It prints the answers to its requests, and
/// how many settlements were left over while the server took no writes and after it took them again. One whose client makes the
/// cache's keys prints these, too.
fn check_headers(remaining: &[&str], run_driver: impl Fn(&[&str]) -> Option<String>) {
    let (server, mut client) = start();
    for policy in [
        "{ml}:key:7 rpm WINDOW 9 PER 3600000",
        "{ml}:user:42 tpm WINDOW 10000 PER 3600000 METER tokens",
        "{ml} inflight INFLIGHT 3",
        "{ml} spend BUDGET 10 TOTAL",
        "{un} inflight INFLIGHT 3",
    ] {
        assert_eq!(run(&mut client, &format!("GW.POLICYSET {policy}")), "1");
    }
    // A key on which GW.CACHEGET fails.
    run(&mut client, "SET chat:wrong another-type");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(printed) = run_driver(&[&server.port().to_string(), &closed.to_string()]) else { return };
    let mut found: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let answers: Vec<Answer> = serde_json::from_value(found["answers"].take()).unwrap();
    assert_eq!(found["unsettled"], serde_json::json!([1, 0]));

    let (whole, half) = ("piece1 piece2 piece3 piece4 ", "piece1 piece2 ");
    let expected = [
        ("whole", 200, whole),
        ("whole, from the cache", 200, whole),
        ("wrong: the cache fails", 200, whole),
        ("gone: the client leaves", 200, half),
        ("cancelled: the client leaves while the model thinks", 200, half),
        ("counted: the client leaves, and the usage is known", 200, half),
        ("fails: the model", 200, half),
        ("refuses: the model, before its first piece", 0, ""),
        ("paused: Redis, before the settlement", 200, whole),
        ("limit: the tenth request", 429, ""),
        ("unknown: the accounts were deleted", 200, whole),
        ("dead: no Redis", 503, ""),
    ];
    assert_eq!(answers.len(), expected.len());
    for ((status, body, _), (name, expected_status, expected_body)) in answers.iter().zip(expected) {
        // Clients append the exception of their language to the body; an answer that failed at once has a status of its
        // own.
        assert!(expected_status == 0 || *status == expected_status, "{name}: {status}");
        let rest = body.strip_prefix(expected_body).unwrap_or_else(|| panic!("{name}: {body}"));
        let ends_early = [half, ""].contains(&expected_body) && ![429, 503].contains(&expected_status);
        assert_eq!(rest.is_empty(), !ends_early, "{name}: {body}");
    }

    let header = |answer: usize, name: &str| answers[answer].2.get(name).map(String::as_str);
    let is_left = |answer: usize, expected: [&str; 4]| {
        let left: Vec<_> = remaining.iter().map(|name| header(answer, name)).collect();
        assert_eq!(left, expected[..left.len()].iter().map(|amount| Some(*amount)).collect::<Vec<_>>(), "{answer}");
    };
    is_left(0, ["8", "9000", "2", "9.9"]);
    // The first was settled at 400 tokens and 0.04, the cached one at 0.
    is_left(2, ["6", "8600", "2", "9.86"]);
    // Settled since: two more whole answers; at their estimates, two with unknown usage and one that failed; one at the
    // usage that was counted.
    is_left(9, ["0", "5600", "3", "9.56"]);
    assert_eq!(header(0, "retry-after"), None);
    assert_eq!(header(0, "x-ratelimit-reset-ms-spend"), None);
    // How much of the hour has passed depends on the machine, and a window of an hour counts in ticks of some
    // milliseconds.
    let retry_after_s = header(9, "retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
    assert!(retry_after_s.is_some_and(|seconds| (3_000..=3_601).contains(&seconds)), "{retry_after_s:?}");
    assert_eq!(header(11, "retry-after"), Some("1"));

    assert_eq!(run(&mut client, "GW.SPENT {ml} TOTAL"), "\"0.44\"");
    for account in ["{un}:key:7", "{un}:user:42", "{un}"] {
        assert_eq!(run(&mut client, &format!("GW.SPENT {account} TOTAL")), "\"0.04\"", "booked by its id");
    }
    // Each admitted request has one record, or two if a reply was lost.
    let records: Vec<String> = call!(client, "GW.LOGPEEK", "log:requests", "COUNT", 100);
    let id = |record: &String| serde_json::from_str::<serde_json::Value>(record).unwrap()["id"].to_string();
    let ids: BTreeSet<_> = records.iter().map(id).collect();
    assert_eq!(ids.len(), 10);
    assert!(records.len() <= 11, "{records:?}");
    let key = |name: &str| found["keys"][name].as_str().map_or_else(|| format!("chat:{name}"), str::to_owned);
    if found["keys"].is_null() {
        assert_eq!(run(&mut client, "GW.CACHEGET chat:whole"), format!("{whole:?}"));
    }
    assert_eq!(run(&mut client, &format!("EXISTS {}", key("whole"))), "1");
    for cut in ["gone", "cancelled", "counted", "fails", "refuses"] {
        assert_eq!(run(&mut client, &format!("EXISTS {}", key(cut))), "0", "{cut}: an answer cut short is not cached");
    }
    no_lease_is_left(&server);
}

fn no_lease_is_left(server: &Server) {
    let mut client = server.connect().unwrap();
    for account in ["{ml}", "{ml}:key:7", "{ml}:user:42"] {
        let described = run(&mut client, &format!("GW.DESCRIBE {account}"));
        assert!(described.contains("\"leases\", []"), "{described}");
    }
}

#[test]
fn a_request_ends_in_every_way_in_python() {
    let program = format!("{}\n\n\n{}", named("request-path-python").text(), example("python/request_path.py"));
    check(|ports| python(&program, ports));
}

#[test]
fn a_request_ends_in_every_way_in_typescript() {
    let program = format!("{}\n{}", named("request-path-typescript").text(), example("node/request_path.ts"));
    check_headers(CLIENTS_HEADERS, |ports| typescript(&program, ports));
}

#[test]
fn a_request_ends_in_every_way_in_go() {
    let path = named("request-path-go").text();
    let driver = example("go/request_path.go.txt");
    check_headers(CLIENTS_HEADERS, |ports| go(&[("path.go", &path), ("driver.go", &driver)], ports));
}

#[test]
fn a_request_ends_in_every_way_in_rust() {
    check_headers(CLIENTS_HEADERS, |ports| Some(request_path_rust::drive(ports)));
}

/// Behind an HTTP server: one answer is whole, and the client of the other leaves after two of its pieces.
fn check_streaming(run_driver: impl Fn(&str) -> Option<String>) {
    let (server, mut client) = start();
    for account in ["{ml}", "{ml}:key:7", "{ml}:user:42"] {
        run(&mut client, &format!("GW.POLICYSET {account} inflight INFLIGHT 3"));
    }
    let Some(printed) = run_driver(&server.port().to_string()) else { return };
    let answers: [String; 2] = serde_json::from_str(&printed).unwrap();
    assert_eq!(answers, ["piece1 piece2 piece3 ", "piece1 piece2 "]);
    // 0.03 by the model's usage, and the estimate of 0.1.
    await_until("both settlements", Duration::from_secs(60), || run(&mut client, "GW.SPENT {ml}") == "\"0.13\"")
        .unwrap();
    no_lease_is_left(&server);
}

#[test]
fn a_client_leaves_an_asgi_server() {
    let blocks = ["request-path-python", "streaming-python"].map(|name| named(name).text());
    let program = format!("{}\n\n\n{}\n\n\n{}", blocks[0], blocks[1], example("python/streaming.py"));
    check_streaming(|port| python(&program, &[port]));
}

#[test]
fn a_client_leaves_a_node_server() {
    let blocks = ["request-path-typescript", "streaming-typescript"].map(|name| named(name).text());
    let program = format!("{}\n{}\n{}", blocks[0], blocks[1], example("node/streaming.ts"));
    check_streaming(|port| typescript(&program, &[port]));
}

#[test]
fn a_client_leaves_a_go_server() {
    let blocks = ["request-path-go", "streaming-go"].map(|name| named(name).text());
    let path = format!("{}\n\n{}", blocks[0], blocks[1]);
    let driver = example("go/streaming.go.txt");
    check_streaming(|port| go(&[("path.go", &path), ("driver.go", &driver)], &[port]));
}

/// Connections made as the page recommends reach a server.
#[test]
fn the_connections_work() {
    let server = Server::start().unwrap();
    let port = server.port().to_string();
    let long = ("socket_timeout=0.25", "socket_timeout=60");
    let client = changed("request-path-python-client", &[("Redis(\n", &format!("Redis(\n    port={port},\n")), long]);
    let program =
        format!("{client}\nimport asyncio\n\nprint(asyncio.run(redis.execute_command('GW.ALLOW', 'k', 5))[0])\n");
    assert!(python(&program, &[]).is_none_or(|printed| printed == "1\n"));

    let changes = [("6379", port.as_str()), ("timeoutMs: 250", "timeoutMs: 60_000")];
    let client = changed("request-path-typescript-client", &changes);
    let program = format!(
        "{client}\nconsole.log((await gateway.allow(\"k2\", 5)).remaining);\nawait gateway.close();\nredis.disconnect();\n"
    );
    assert!(typescript(&program, &[]).is_none_or(|printed| printed == "4\n"));

    let changes = [("6379", port.as_str()), ("250 * time.Millisecond", "time.Minute")];
    let client = changed("request-path-go-client", &changes).replace('\n', "\n\t");
    let program = format!(
        "package main\n\nimport (\n\t\"context\"\n\t\"fmt\"\n\t\"time\"\n\n\t\"github.com/redis/go-redis/v9\"\n\n\
         \tgateway \"redis-gateway/clients/go\"\n)\n\nfunc main() {{\n\t{client}\n\tfmt.Println(err)\n\tdefer gw.Close()\n\
         \tdecision, err := gw.Allow(context.Background(), \"k3\", 5, nil)\n\tfmt.Println(decision.Remaining, err)\n}}\n"
    );
    assert!(go(&[("main.go", &program)], &[]).is_none_or(|printed| printed == "<nil>\n4 <nil>\n"));
}
