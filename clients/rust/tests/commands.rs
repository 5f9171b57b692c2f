//! The low level over connections of redis-rs.

use gw_testkit::{Cluster, Server, call};
use redis::Value;
use redis_gateway_client::commands::*;
use redis_gateway_client::{Error, ReplyErrorKind, UnexpectedReply};

/// A server, and a connection to it in each version of the protocol.
fn each_protocol(test: impl Fn(&mut redis::Connection)) {
    let server = Server::start().unwrap();
    for mut connection in [server.connect().unwrap(), server.connect_resp3().unwrap()] {
        call!(connection, "FLUSHALL" => ());
        test(&mut connection);
    }
}

#[test]
fn a_request_from_admission_to_settlement() {
    each_protocol(|connection| {
        let window = WindowPolicy { limit: 2.into(), window_ms: 60_000, ..Default::default() };
        policy_set("user:42", "rpm", &window.into(), &Default::default()).query(connection).unwrap();
        let first = admit(&["user:42"], "1", 30_000, &Default::default()).query(connection).unwrap();
        assert_eq!((first.rows[0].remaining, first.admitted), (Quantity::Whole(1), true));
        let options = AdmitOptions { rows: Some(Rows::Refused), ..Default::default() };
        admit(&["user:42", "none"], "2", 30_000, &options).query(connection).unwrap();
        let denied = admit(&["user:42"], "3", 30_000, &options).query(connection).unwrap();
        assert!(!denied.admitted && denied.retry_after_ms > 0 && denied.rows.len() == 1);
        let amounts = SettleOptions { amounts: [("requests".into(), 0.into())].into(), ..Default::default() };
        for expected in [Outcome::Settled, Outcome::Repeated] {
            assert_eq!(settle(&["user:42"], "1", &amounts).query(connection).unwrap(), expected);
        }
        let required = AdmitOptions { require: true, ..Default::default() };
        let none = admit(&["none"], "4", 1_000, &required).query(connection).unwrap_err();
        assert_eq!(none.kind(), Some(&ReplyErrorKind::NoAccount { account: "none".into() }));
        let without = admit(&[""; 0], "5", 1_000, &Default::default()).query(connection).unwrap_err();
        assert!(without.reply().is_some());
    });
}

#[test]
fn names_of_any_bytes_come_back_as_they_were() {
    each_protocol(|connection| {
        let name = b"\xff\x00\r\n\x80";
        let policy = WindowPolicy { limit: 1.into(), window_ms: 60_000, ..Default::default() };
        policy_set(name, name, &policy.into(), &Default::default()).query(connection).unwrap();
        let found = admit(&[name], name, 1_000, &Default::default()).query(connection).unwrap();
        assert_eq!((&found.rows[0].account, &found.rows[0].policy), (&Text::from(&name[..]), &Text::from(&name[..])));
        assert_eq!(found.rows[0].account.as_str(), None);
    });
}

#[test]
fn values_of_any_bytes() {
    each_protocol(|connection| {
        let value: Vec<u8> = (0..=255).collect();
        assert!(cache_set("chat:1", &value, &Default::default()).query(connection).unwrap());
        assert_eq!(cache_get("chat:1").query(connection).unwrap(), Some(value.clone()));
        cache_set("chat:2", "", &Default::default()).query(connection).unwrap();
        assert_eq!(cache_get("chat:2").query(connection).unwrap(), Some(Vec::new()));
        assert_eq!(cache_get("chat:3").query(connection).unwrap(), None);
        let records = [value, Vec::new(), "é".into()];
        log_push("log", &records, &Default::default()).query(connection).unwrap();
        let five = LogPopOptions { count: Some(5), ..Default::default() };
        assert_eq!(log_pop("log", &five).query(connection).unwrap(), records);
    });
}

#[test]
fn pipelines_and_transactions() {
    each_protocol(|connection| {
        for atomic in [false, true] {
            let limit = allow("k", 2, &Default::default());
            let charge = add_cost("spend", "0.5".parse().unwrap(), &Default::default());
            let (none, wrong) = (cache_get("none"), cache_get("k"));
            let mut pipe = redis::pipe();
            pipe.ignore_errors();
            if atomic {
                pipe.atomic();
            }
            limit.add_to(&mut pipe);
            charge.add_to(&mut pipe);
            none.add_to(&mut pipe);
            wrong.add_to(&mut pipe);
            let mut replies = pipe.query::<Vec<Value>>(connection).unwrap().into_iter();
            let mut next = || replies.next().unwrap();
            assert_eq!(limit.decode(next()).unwrap().remaining, i64::from(!atomic));
            assert_eq!(charge.decode(next()).unwrap().to_string(), if atomic { "1" } else { "0.5" });
            assert_eq!(none.decode(next()).unwrap(), None);
            assert_eq!(wrong.decode(next()).unwrap_err().kind(), Some(&ReplyErrorKind::WrongType));
        }
    });
}

#[tokio::test]
async fn async_connections() {
    let server = Server::start().unwrap();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/?protocol=resp3", server.port())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let verdict = allow("k", 5, &Default::default()).query_async(&mut connection).await.unwrap();
    assert_eq!(verdict.remaining, 4);
    let described = describe("k").query_async(&mut connection).await.unwrap();
    assert!(matches!(described, Some(Description::Window(window)) if window.limit == 5));
    let figures = stats().query_async(&mut connection).await.unwrap();
    assert_eq!(figures["allow_admitted".as_bytes()], 1);
    let wrong = spent("k", &Default::default()).query_async(&mut connection).await.unwrap_err();
    assert_eq!(wrong.kind(), Some(&ReplyErrorKind::WrongType));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_cluster() {
    let cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let nodes: Vec<_> = cluster.ports().iter().map(|port| format!("redis://127.0.0.1:{port}")).collect();
    let client = redis::cluster::ClusterClient::new(nodes).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut own = client.get_async_connection().await.unwrap();
    for at in 0..30 {
        let key = format!("key:{at}");
        let request = allow(&key, 5, &Default::default());
        assert_eq!(request.query_cluster(&mut connection).unwrap().remaining, 4);
        assert_eq!(request.query_cluster_async(&mut own).await.unwrap().remaining, 3);
        // What names no key is not sent to the node of its first argument.
        assert_eq!(cache_clear_category(&key).query_cluster(&mut connection).unwrap(), 0);
        let tag = format!("{{{at}}}");
        let accounts = [format!("{tag}a"), format!("{tag}b")];
        assert!(admit(&accounts, "1", 1_000, &Default::default()).query_cluster(&mut connection).unwrap().admitted);
        let others = admit(&[&accounts[0], "other"], "2", 1_000, &Default::default());
        let refused = others.query_cluster(&mut connection).unwrap_err();
        assert_eq!(refused.kind(), Some(&ReplyErrorKind::CrossSlot));
    }
}

#[test]
fn a_reply_of_another_shape_is_an_error() {
    let unexpected = |found: Result<Verdict, Error>| match found {
        Err(Error::Unexpected(UnexpectedReply { expected, .. })) => expected,
        other => panic!("{other:?}"),
    };
    let request = allow("k", 1, &Default::default());
    assert_eq!(unexpected(request.decode(Value::Nil)), "an array");
    assert_eq!(unexpected(request.decode(Value::Array(vec![Value::Int(1)]))), "a longer array");
    assert_eq!(unexpected(request.decode(Value::Array(vec![Value::Nil; 5]))), "an integer");
    let mut random = gw_testkit::Random(gw_testkit::seed(1));
    for _ in 0..20_000 {
        let reply = anything(&mut random, 3);
        for found in [
            admit(&["a"], "l", 1, &Default::default()).decode(reply.clone()).err(),
            describe("k").decode(reply.clone()).err(),
            cost_changes(&Default::default()).decode(reply.clone()).err(),
            cache_stats().decode(reply.clone()).err(),
            policy_list("a").decode(reply).err(),
        ] {
            assert!(matches!(found, None | Some(Error::Unexpected(_))), "{found:?}");
        }
    }
}

fn anything(random: &mut gw_testkit::Random, depth: u32) -> Value {
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    match random.below(if depth == 0 { 9 } else { 14 }) {
        0 => Value::Nil,
        1 => Value::Boolean(true),
        2 => Value::Int(random.next() as i64),
        3 => Value::Okay,
        4 => text("type"),
        5 => text("account"),
        6 => text("1.5"),
        7 => Value::BulkString(random.bytes(3)),
        8 => Value::Double(0.5),
        _ => {
            let count = random.below(9);
            let items: Vec<_> = (0..count).map(|_| anything(random, depth - 1)).collect();
            if random.below(3) > 0 {
                return Value::Array(items);
            }
            Value::Map(items.into_iter().map(|item| (text(["type", "hits", "x"][random.below(3)]), item)).collect())
        }
    }
}

#[test]
fn what_later_servers_add_is_ignored() {
    let integers = |count: i64| (1..=count).map(Value::Int).collect::<Vec<_>>();
    let verdict = allow("k", 1, &Default::default()).decode(Value::Array(integers(7))).unwrap();
    assert_eq!(verdict.reset_after_ms, 5);
    let named = |name: &str, value: Value| (Value::BulkString(name.into()), value);
    let mut seen = vec![named("new", Value::Nil), named("named_ms", Value::Nil), named("denied", Value::Int(3))];
    let decode = |seen: Vec<_>| {
        let stats = Value::Array(vec![Value::BulkString(b"rpm".to_vec()), Value::Map(seen)]);
        policy_stats("a").decode(Value::Array(vec![stats]))
    };
    assert_eq!(decode(seen.clone()).unwrap()[0].seen.denied, 3);
    seen.pop();
    assert_eq!(decode(seen).unwrap_err().to_string(), "expected a field denied, got none");
}

/// Reads the sources: each function says what its parameters are, and each field of options and results.
#[test]
fn every_parameter_is_documented() {
    let source =
        |name: &str| std::fs::read_to_string(format!("{}/src/commands/{name}.rs", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut documented = 0;
    for function in source("requests").split("\n\n").filter(|text| text.contains("pub fn ")) {
        let (docs, code) = function.split_at(function.find("pub fn ").unwrap());
        let signature = &code[code.find('(').unwrap() + 1..code.find("-> ").unwrap()];
        for parameter in signature.split([',', '\n']).filter_map(|text| text.trim().split_once(": ")) {
            if parameter.0 != "options" {
                assert!(docs.contains(&format!("/// - `{}`: ", parameter.0)), "{} in {docs}", parameter.0);
                documented += 1;
            }
        }
    }
    for file in ["options", "types"] {
        let text = source(file);
        let lines: Vec<_> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[1].starts_with("    pub ") && !pair[1].contains("fn ")) {
            assert!(pair[0].trim_start().starts_with("/// "), "{}", pair[1]);
            documented += 1;
        }
        assert!(!text.contains("See the reference"));
    }
    assert!(documented > 400, "{documented}");
}
