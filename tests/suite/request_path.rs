//! README's request path, run by the interpreters it is written for.

use crate::readme::run_block;
use crate::support::{run, start};
use std::collections::BTreeMap;

/// Status, body and headers.
type Answer = (u16, String, BTreeMap<String, String>);

/// What the driver's requests got from README's code.
fn answers(program: &str, language: &str, driver: &str, port: u16) -> Vec<Answer> {
    serde_json::from_value(run_block(program, language, "GW.SETTLE", &driver.replace("PORT", &port.to_string())))
        .unwrap()
}

fn check(program: &str, language: &str, driver: &str) {
    let (server, mut client) = start();
    for policy in [
        "{ml}:key:7 rpm WINDOW 4 PER 3600000",
        "{ml}:user:42 tpm WINDOW 5000 PER 3600000 METER tokens",
        "{ml} inflight INFLIGHT 3",
        "{ml} spend BUDGET 10 TOTAL",
    ] {
        assert_eq!(run(&mut client, &format!("GW.POLICYSET {policy}")), "1");
    }
    let answers = answers(program, language, driver, server.port());
    let shown: Vec<_> = answers.iter().map(|(status, body, _)| (*status, body.as_str())).collect();
    let whole = "piece1 piece2 piece3 piece4 ";
    assert_eq!(
        shown,
        [
            (200, whole),
            // From the cache.
            (200, whole),
            // A client that went away after two pieces, and a model that failed after as many.
            (200, "piece1 piece2 "),
            (200, "piece1 piece2 failed"),
            (429, ""),
        ],
        "{program}"
    );
    let header = |answer: usize, name: &str| answers[answer].2.get(name).map(String::as_str);
    let left =
        |answer| ["rpm", "tpm", "inflight", "spend"].map(|it| header(answer, &format!("x-ratelimit-remaining-{it}")));
    assert_eq!(left(0), [Some("3"), Some("4000"), Some("2"), Some("9.9")]);
    // The first was settled at 400 tokens and 0.04, and the cached one at none.
    assert_eq!(left(2), [Some("1"), Some("3600"), Some("2"), Some("9.86")]);
    assert_eq!(left(4), [Some("0"), Some("4200"), Some("3"), Some("9.92")]);
    assert_eq!(header(0, "retry-after"), None);
    // What has passed of the hour is a matter of the machine; the window counts an hour in ticks of some milliseconds.
    let retry_after_s = header(4, "retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
    assert!(retry_after_s.is_some_and(|seconds| (3_540..=3_601).contains(&seconds)), "{retry_after_s:?}");
    assert_eq!(run(&mut client, "GW.SPENT {ml}"), "\"0.08\"");
    assert_eq!(run(&mut client, "GW.LOGLEN log:requests"), "4");
    // Nothing that was cut short is cached.
    assert_eq!(run(&mut client, "GW.CACHEGET chat:a"), format!("{whole:?}"));
    assert_eq!(run(&mut client, "DBSIZE"), "5");
    let described = run(&mut client, "GW.DESCRIBE {ml}");
    assert!(described.contains("\"leases\", []"), "{described}");
}

#[test]
fn a_request_is_admitted_and_settled_in_python() {
    check("python3", "python", include_str!("request_path.py"));
}

#[test]
fn a_request_is_admitted_and_settled_in_typescript() {
    check("node", "ts", include_str!("request_path.js"));
}
