//! The vectors of requests and replies, errors and amounts.

use std::time::Duration;

use base64::Engine;
use redis::{Client, Cmd, Connection, IntoConnectionInfo, ProtocolVersion, Value};
use redis_gateway_client::testing::Fake;
use redis_gateway_client::{Error, ReplyErrorKind};
use serde_json::Value as Json;

/// The calls that the fake has. The cases of others are refused by name.
const METHODS: &str = "acquire add-cost admit allow cache-clear-all cache-clear-category cache-clear-tag cache-del \
    cache-fetch cache-fetch-meta cache-get cache-get-meta cache-key cache-lease cache-release cache-set cancel commit \
    keep-alive log-len log-peek log-push policy-del policy-put policy-set release renew reserve route settle spent \
    tokens within-budget";

/// Of these calls it does not have what the case is about: breakers, credits, windows with an anchor.
const WITHOUT: [&str; 4] = [
    "a window's policy",
    "a breaker's policy",
    "a commit of a credit's id",
    "admitted, every kind of policy in detail",
];

/// Of these errors: it has no other types and commands, does not count arguments, and reads documents member by member.
const OTHER_ERRORS: [&str; 5] =
    ["another type", "too many arguments", "too few arguments", "JSON that is too deep", "a document with a mistake"];

fn load(name: &str) -> Json {
    let path = format!("{}/../spec/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Json, name: &str) -> &'a [Json] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Json, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// A word of a vector: a JSON string, a number, or base64.
fn any_bytes(word: &Json) -> Vec<u8> {
    match word {
        Json::String(text) => text.clone().into_bytes(),
        Json::Object(coded) => {
            base64::engine::general_purpose::STANDARD.decode(coded["base64"].as_str().unwrap()).unwrap()
        }
        other => other.to_string().into_bytes(),
    }
}

/// A call: its words, or a text of them.
fn words_of(call: &Json) -> Vec<Vec<u8>> {
    match call {
        Json::String(line) => line.split(' ').map(|word| word.as_bytes().to_vec()).collect(),
        words => words.as_array().unwrap().iter().map(any_bytes).collect(),
    }
}

fn sent(connection: &mut Connection, words: &[Vec<u8>]) -> Result<Value, Error> {
    let mut cmd = Cmd::new();
    cmd.arg(words);
    Ok(cmd.query(connection)?)
}

fn connected(fake: &Fake, protocol: ProtocolVersion) -> Connection {
    let info = fake.url().into_connection_info().unwrap();
    let settings = info.redis_settings().clone().set_protocol(protocol);
    Client::open(info.set_redis_settings(settings)).unwrap().get_connection().unwrap()
}

/// Whether they are equal, but for what is random or follows the clock of the server that was recorded.
fn alike(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(one, other)| alike(one, other))
        }
        (Value::Int(found), Value::Int(wanted)) => found == wanted || *found > 1_000_000 && *wanted > 1_000_000,
        _ => found == wanted,
    }
}

#[test]
fn replies() {
    let (given, recorded) = (load("replies.in.json"), load("replies.json"));
    let methods: Vec<&str> = METHODS.split_whitespace().collect();
    let mut count = 0;
    for case in list(&recorded, "cases") {
        let (name, method) = (text(case, "name"), text(case, "method"));
        if method == "stats" {
            continue; // Its figures are the fake's own.
        }
        for (protocol, version) in [("resp2", ProtocolVersion::RESP2), ("resp3", ProtocolVersion::RESP3)] {
            let fake = Fake::start().unwrap();
            let mut connection = connected(&fake, version);
            let (has, without) = (methods.contains(&method), WITHOUT.contains(&name));
            let mut words = words_of(&case["request"]);
            if has {
                count += 1;
                let own = list(&given, "cases").iter().find(|one| one["name"] == name).unwrap();
                for call in list(own, "setup") {
                    if call.as_str().is_some_and(|line| line.starts_with("BLPOP")) {
                        fake.advance(Duration::from_millis(50)); // A pause.
                        continue;
                    }
                    match sent(&mut connection, &words_of(call)) {
                        // The token that the fake gives is another one.
                        Ok(Value::Array(lease)) if name == "a fill lease is given up" => {
                            let Value::Int(token) = lease[4] else { panic!("{lease:?}") };
                            words[2] = token.to_string().into_bytes();
                        }
                        found => assert!(found.is_ok() || without, "{name}: {call}: {found:?}"),
                    }
                }
            }
            let reply = sent(&mut connection, &words);
            if has && !without {
                let wanted = redis::parse_redis_value(&any_bytes(&case[protocol]["reply"])).unwrap();
                let found = reply.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(alike(&found, &wanted), "{name}, {protocol}: {found:?}, not {wanted:?}");
                assert_eq!(fake.missing(), Vec::<String>::new(), "{name}");
            } else {
                assert!(!fake.missing().is_empty(), "{name}: {reply:?}");
            }
        }
    }
    assert!(count >= 120, "{count} cases");
}

#[test]
fn other_commands_are_refused_by_name() {
    let fake = Fake::start().unwrap();
    let mut connection = fake.client().get_connection().unwrap();
    let mut refused = Vec::new();
    for (line, what) in [
        ("GET k", "GET"),
        ("gw.top", "GW.TOP"),
        ("GW.POLICYSET a rpm WINDOW 1 PER 1 ANCHOR 0", "option ANCHOR of a policy"),
        ("GW.POLICYSET a b BREAKER 3 PER 10000", "policy of the kind BREAKER"),
        ("GW.CACHECLEAR PATTERN *", "GW.CACHECLEAR PATTERN"),
    ] {
        refused.push(what);
        let error = sent(&mut connection, &words_of(&line.into())).unwrap_err();
        let line = format!("ERR the fake has no {what}: use a real server for this test");
        assert_eq!((error.to_string(), fake.missing()), (line, refused.iter().map(ToString::to_string).collect()));
    }
}

#[test]
fn amounts() {
    let vectors = load("amounts.json");
    let fake = Fake::start().unwrap();
    let mut connection = fake.client().get_connection().unwrap();
    let texts = list(&vectors, "texts");
    assert!(!texts.is_empty());
    for case in texts {
        let given = text(case, "given");
        let mut words = vec![b"GW.ADDCOST".to_vec(), format!("ledger:{given}").into_bytes(), given.as_bytes().to_vec()];
        if given.starts_with('-') {
            words.push(b"REFUND".to_vec());
        }
        match (sent(&mut connection, &words), case["value"].as_str()) {
            (Ok(Value::BulkString(found)), Some(value)) => assert_eq!(String::from_utf8_lossy(&found), value),
            (Err(error), None) => assert_eq!(error.to_string(), format!("ERR {}: amount", text(case, "error"))),
            (found, _) => panic!("{case}: {found:?}"),
        }
    }
}

#[test]
fn errors() {
    let (given, recorded) = (load("errors.in.json"), load("errors.json"));
    let mut count = 0;
    for case in list(&given, "cases") {
        let name = text(case, "name");
        // Those for which it takes more than calls to a server, or that are about the server itself.
        let beyond = ["server", "during", "line", "tried"].iter().any(|member| case.get(member).is_some());
        let call = case["call"].as_str().unwrap_or_default();
        if beyond || OTHER_ERRORS.contains(&name) || !call.starts_with("GW.") || call.starts_with("GW.NONE") {
            continue;
        }
        if list(case, "setup").iter().any(|line| line.as_str().is_some_and(|line| !line.starts_with("GW."))) {
            continue;
        }
        count += 1;
        let fake = Fake::start().unwrap();
        let mut connection = fake.client().get_connection().unwrap();
        for line in list(case, "setup") {
            sent(&mut connection, &words_of(line)).unwrap();
        }
        let error = sent(&mut connection, &words_of(&case["call"])).unwrap_err();
        let wanted = list(&recorded, "cases").iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(error.to_string(), text(wanted, "line"), "{name}");
    }
    assert!(count >= 12, "{count} cases");
    // What the server's errors are about that these are not.
    let fake = Fake::start().unwrap();
    let mut connection = fake.client().get_connection().unwrap();
    sent(&mut connection, &words_of(&"GW.POLICYSET a rpm WINDOW 1 PER 60000".into())).unwrap();
    for (line, is_meant) in [
        ("GW.ALLOW a 1", (|kind| matches!(kind, ReplyErrorKind::WrongType)) as fn(&ReplyErrorKind) -> bool),
        ("GW.ALLOW k", |kind| matches!(kind, ReplyErrorKind::InvalidArgument { .. })),
        (r#"GW.POLICYPUT a {"policies":[{"nme":1}]}"#, |kind| matches!(kind, ReplyErrorKind::InvalidArgument { .. })),
    ] {
        let error = sent(&mut connection, &words_of(&line.into())).unwrap_err();
        assert!(error.kind().is_some_and(is_meant), "{line}: {error:?}");
    }
    assert_eq!(fake.missing(), Vec::<String>::new());
}

/// What a server replies to these, and the vectors do not have.
#[test]
fn details_are_the_servers() {
    let fake = Fake::start().unwrap();
    let mut connection = fake.client().get_connection().unwrap();
    let mut ask = |line: &str| match sent(&mut connection, &words_of(&line.into())) {
        Ok(reply) => told(&reply),
        Err(error) => error.to_string(),
    };
    // A policy in SHADOW has no say in how long to wait.
    ask("GW.POLICYSET a tried WINDOW 3 PER 60000 SHADOW");
    ask("GW.POLICYSET a off BLOCK FOR 5000");
    assert_eq!(ask("GW.ADMIT a LEASE 1 TTL 1000 requests 7 ROWS NONE"), "[0, 5000, []]");
    assert_eq!(ask("GW.ADMIT a LEASE 1 TTL 1000 ROWS SOME"), "ERR not ALL, REFUSED, NONE or DETAIL: SOME");
    // Targets behind the one that is taken are not asked.
    ask("GW.POLICYSET {t}1 rpm WINDOW 1 PER 60000");
    ask("GW.POLICYSET {t}2 rpm WINDOW 0 PER 60000");
    let route = "GW.ROUTE {t}0 WITH 2 {t}1 {t}2 LEASE 1 TTL 60000 ROWS";
    assert_eq!(ask(&format!("{route} REFUSED")), "[{t}1, 0, [[{t}0, NOACCOUNT, 0, 0, 0, -1, -1]]]");
    assert_eq!(ask(&format!("{route} DETAIL")), "ERR not ALL, REFUSED or NONE: DETAIL");
    // A lease that lives is admitted again, whatever else is in the way.
    ask("GW.ADMIT {t}1 LEASE 2 TTL 60000 requests 0");
    ask("GW.SETTLE {t}1 LEASE 2 FAILED COOLDOWN 60000");
    assert_eq!(ask("GW.ADMIT {t}1 LEASE 1 TTL 60000"), "[1, 0, [[{t}1, rpm, 1, 1, 0, 0, 60000]]]");
    ask("GW.SETTLE {t}1 LEASE 1");
    assert_eq!(ask(&format!("{route} NONE")), "LEASEENDED lease has ended: 1");
    // A bucket keeps what it has when it may hold more, unless it is full.
    assert_eq!(ask("GW.TOKENS full 10 5 PER 60000 COST 0"), "[1, 5, 5, 0, 0]");
    assert_eq!(ask("GW.TOKENS full 10 20 PER 60000 COST 0"), "[1, 20, 20, 0, 0]");
    assert_eq!(ask("GW.TOKENS part 10 5 PER 60000 COST 3"), "[1, 5, 2, 0, 18000]");
    assert_eq!(ask("GW.TOKENS part 10 20 PER 60000 COST 1"), "[1, 20, 1, 0, 114000]");
    // Each kind of policy in detail, but for breakers.
    ask("GW.POLICYSET d tpm BUCKET 10 20 PER 60000 METER tokens");
    ask("GW.POLICYSET d now INFLIGHT 1");
    ask("GW.POLICYSET d words BUDGET 40 TOTAL METER tokens");
    ask("GW.POLICYSET d cents WINDOW 2.5 PER 60000 DECIMAL METER usd");
    assert_eq!(
        ask("GW.ADMIT d LEASE 1 TTL 30000 tokens 15 usd 0.25 ROWS DETAIL"),
        "[1, 0, [[d, tpm, 1, 20, 5, 0, 90000, BUCKET, tokens, 60000, 15], [d, now, 1, 1, 0, 0, 30000, INFLIGHT, , -1, 1], \
         [d, words, 1, 40, 25, 0, -1, BUDGET, tokens, -1, 15], [d, cents, 1, 2.5, 2.25, 0, 60000, WINDOW, usd, 60000, 0.25]]]"
    );
    ask("GW.SETTLE d LEASE 1 tokens 30 usd 0.5");
    assert_eq!(
        ask("GW.ADMIT d LEASE 2 TTL 30000 tokens 11"),
        "[0, -1, [[d, tpm, 0, 20, 0, 126000, 180000], [d, now, 1, 1, 1, 0, 0], [d, words, 0, 40, 10, -1, -1], \
         [d, cents, 1, 2.5, 2, 0, 60000]]]"
    );
}

/// A reply, for people.
fn told(reply: &Value) -> String {
    match reply {
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(all) => format!("[{}]", all.iter().map(told).collect::<Vec<_>>().join(", ")),
        other => format!("{other:?}"),
    }
}
