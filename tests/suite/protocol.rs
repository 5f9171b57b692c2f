//! Features that clients, proxies and operators rely on: transactions, scripts, pipelines, RESP3, ACLs, COMMAND,
//! cluster mode.

use crate::commands::{Access, INTERNAL, PUBLIC};
use crate::support::{KEYS, command, fill, pipeline, run, start};
use gw_testkit::redis::Value;
use gw_testkit::{Server, call, reply};
use std::collections::HashMap;

#[test]
fn transactions_run_every_command() {
    let (_server, mut client) = start();
    for public in &PUBLIC {
        run(&mut client, "DEL k");
        let alone = run(&mut client, public.call);
        assert!(!alone.starts_with("ERR"), "{}: {alone}", public.call);
        run(&mut client, "DEL k");
        assert_eq!(run(&mut client, "MULTI"), "OK");
        assert_eq!(run(&mut client, public.call), "QUEUED");
        let inside = run(&mut client, "EXEC");
        if ["NOHOLD ", "NOACCOUNT "].iter().any(|code| alone.starts_with(code)) {
            assert_eq!(inside, alone, "{}", public.call);
            continue;
        }
        // Waits, counters and tokens differ from call to call; all other replies are equal.
        if !["gw.withinbudget", "gw.reserve", "gw.stats", "gw.acquire", "gw.cachefetch"].contains(&public.name) {
            assert_eq!(inside, format!("[{alone}]"), "{}", public.call);
        }
        assert!(inside.starts_with('['), "{}: {inside}", public.call);
    }
}

#[test]
fn a_transaction_sees_its_own_changes() {
    let (_server, mut client) = start();
    for words in ["MULTI", "GW.ALLOW k 2", "GW.ALLOW k 2", "GW.ALLOW k 2 PEEK", "GW.LOGPUSH q a", "GW.LOGPOP q"] {
        run(&mut client, words);
    }
    let reply = run(&mut client, "EXEC");
    let expected = r#"[[1, 2, 1, 0, 60000], [1, 2, 0, 0, 60000], [0, 2, 0, 60000, 60000], [1, 0], ["a"]]"#;
    // Servers before Redis 7.2 let the clock run on within a transaction.
    let on_time = (59_000..60_000).fold(reply, |reply, ms| reply.replace(&ms.to_string(), "60000"));
    assert_eq!(on_time, expected);
}

#[test]
fn scripts_run_every_command() {
    let (_server, mut client) = start();
    let script = "return redis.call(unpack(ARGV))";
    for public in &PUBLIC {
        let evaluate = |name: &str| {
            let mut evaluate = command(name);
            evaluate.arg(script).arg(public.keys.len()).arg(public.keys);
            for word in public.call.split(' ') {
                evaluate.arg(word);
            }
            evaluate
        };
        run(&mut client, "DEL k");
        let reply = gw_testkit::reply_line(evaluate("EVAL").query(&mut client));
        assert!(!reply.starts_with("ERR"), "{}: {reply}", public.call);
        let reply = gw_testkit::reply_line(evaluate("EVAL_RO").query(&mut client));
        assert_eq!(reply.contains("Write commands are not allowed"), public.writes(), "{}: {reply}", public.call);
    }
    // A script can catch an error.
    let script = "local ok = redis.pcall('GW.ALLOW', KEYS[1], 'x') return ok.err";
    let error = reply!(client, "EVAL", script, 1, "k");
    assert_eq!(error, "\"ERR not an integer from 0 to 9007199254740992: limit\"");
}

#[test]
fn pipelines_of_thousands_count_exactly() {
    let (_server, mut client) = start();
    let commands = (0..5_000).map(|_| command("GW.ALLOW k 1234 WINDOW 3600000"));
    let allowed = pipeline(&mut client, commands)
        .into_iter()
        .filter(|reply| matches!(reply, Ok(Value::Array(fields)) if fields[0] == Value::Int(1)));
    assert_eq!(allowed.count(), 1_234);
}

#[test]
fn maps_are_maps_in_resp3_and_flat_in_resp2() {
    let (server, mut client) = start();
    fill(&mut client);
    let mut resp3 = server.connect_resp3().unwrap();
    let mut calls: Vec<String> = KEYS.iter().map(|(key, _)| format!("GW.DESCRIBE {key}")).collect();
    calls.extend(["GW.STATS", "GW.CACHESTATS", "GW.CACHESTATS CATEGORY chat", "GW.CACHESTATS TOTAL"].map(String::from));
    for words in calls {
        let Ok(Value::Map(map)) = command(&words).query(&mut resp3) else { panic!("{words}: no map") };
        let Ok(Value::Array(flat)) = command(&words).query(&mut client) else { panic!("{words}: not flat") };
        assert!(!map.is_empty(), "{words}");
        let names: Vec<_> = map.iter().map(|(name, _)| name).collect();
        assert_eq!(names, flat.iter().step_by(2).collect::<Vec<_>>(), "{words}");
        assert_eq!(flat.len(), map.len() * 2, "{words}");
    }
    assert_eq!(run(&mut resp3, "GW.DESCRIBE none"), "nil");
    assert_eq!(run(&mut resp3, "GW.CACHEGET none"), "nil");
    // Replies without maps are the same in both.
    for words in ["GW.ALLOW w 5 PEEK", "GW.SPENT a:ledger", "GW.LOGPEEK a:queue COUNT 3", "GW.LOGLEN a:queue"] {
        assert_eq!(run(&mut resp3, words), run(&mut client, words));
    }
}

#[test]
fn descriptions_have_the_type_and_other_keys_are_refused() {
    let (_server, mut client) = start();
    fill(&mut client);
    let mut types = Vec::new();
    for (key, _) in KEYS {
        let description: HashMap<String, Value> = call!(client, "GW.DESCRIBE", key);
        types.push(format!("{:?}", description["type"]));
    }
    types.sort();
    types.dedup();
    assert_eq!(types.len(), KEYS.len(), "{types:?}");
    run(&mut client, "SET text value");
    assert!(run(&mut client, "GW.DESCRIBE text").starts_with("WRONGTYPE "));
}

#[test]
fn acls_apply_to_keys_and_commands() {
    let (server, mut client) = start();
    let grants = PUBLIC.iter().map(|public| format!("+{}", public.name)).collect::<Vec<_>>().join(" ");
    for words in [
        format!("ACL SETUSER tenant on >pw ~t1:* {grants}"),
        format!("ACL SETUSER reader on >pw %R~* {grants}"),
        "ACL SETUSER limiter on >pw ~* +gw.allow".into(),
        "ACL SETUSER nobody on >pw ~* +get".into(),
    ] {
        assert_eq!(run(&mut client, &words), "OK", "{words}");
    }
    let connect = |user: &str| server.connect_as(user, "pw").unwrap();
    let (mut tenant, mut reader, mut limiter, mut nobody) =
        (connect("tenant"), connect("reader"), connect("limiter"), connect("nobody"));
    for public in &PUBLIC {
        run(&mut client, "DEL t1:k k");
        if !public.keys.is_empty() {
            let own = public.call_on("t1:k").replace("k2", "t1:k2").replace("k3", "t1:k3");
            let reply = run(&mut tenant, &own);
            assert!(!reply.starts_with("NOPERM") && !reply.starts_with("ERR"), "{own}: {reply}");
            let reply = run(&mut tenant, &public.call_on("t2:k"));
            assert!(reply.starts_with("NOPERM"), "{}: {reply}", public.call);
        }
        let refused = run(&mut reader, public.call).starts_with("NOPERM");
        // Commands without keys need no right to keys.
        assert_eq!(refused, public.writes() && !public.keys.is_empty(), "{}", public.call);
        let refused = run(&mut limiter, public.call).starts_with("NOPERM");
        assert_eq!(refused, public.name != "gw.allow", "{}", public.call);
        assert!(run(&mut nobody, public.call).starts_with("NOPERM"), "{}", public.call);
    }
    // A call with one forbidden key is refused.
    run(&mut client, "GW.CACHESET t1:a v");
    assert!(run(&mut tenant, "GW.CACHEDEL t1:a t2:a").starts_with("NOPERM"));
    assert_eq!(run(&mut client, "EXISTS t1:a"), "1");
}

#[test]
fn commands_are_in_acl_categories_if_the_server_has_them_for_modules() {
    let (server, mut client) = start();
    let categories: Vec<String> = call!(client, "ACL", "CAT");
    if !categories.contains(&"gw".into()) {
        // Redis before 7.4 and Valkey before 8 have no categories of modules.
        let (major, minor, _) = server.binary().version;
        assert!(major == 7 && minor < 4, "{categories:?}");
        return;
    }
    let mut members = |category: &str| -> Vec<String> { call!(client, "ACL", "CAT", category) };
    let (ours, reading, writing, dangerous) = (members("gw"), members("read"), members("write"), members("dangerous"));
    let (administering, granted): (Vec<_>, Vec<_>) = PUBLIC.iter().partition(|public| public.is_for_operators());
    assert_eq!(ours.len(), granted.len(), "{ours:?}");
    for public in granted {
        let name = public.name.into();
        assert!(ours.contains(&name) && !dangerous.contains(&name), "{name}");
        assert_eq!((reading.contains(&name), writing.contains(&name)), (!public.writes(), public.writes()), "{name}");
    }
    // Internal commands skip all checks, so they are granted only with the dangerous ones.
    for name in administering.iter().map(|public| public.name).chain(INTERNAL) {
        assert!(dangerous.contains(&name.into()) && !ours.contains(&name.into()), "{name}");
    }
}

#[test]
fn the_module_has_these_commands_and_no_others() {
    let (_server, mut client) = start();
    let mut listed: Vec<String> = call!(client, "COMMAND", "LIST", "FILTERBY", "MODULE", "gw");
    listed.sort();
    let mut known: Vec<&str> = PUBLIC.iter().map(|public| public.name).chain(INTERNAL).collect();
    known.sort();
    assert_eq!(listed, known);
}

#[test]
fn command_info_has_arity_flags_and_keys() {
    let (_server, mut client) = start();
    for public in &PUBLIC {
        let info: Vec<Vec<Value>> = call!(client, "COMMAND", "INFO", public.name);
        let info = &info[0];
        assert_eq!(info[1], Value::Int(public.arity), "{}", public.name);
        let flags = gw_testkit::reply_line(Ok(info[2].clone()));
        let has = |flag: &str| flags.contains(&format!("{flag},")) || flags.contains(&format!("{flag}]"));
        assert_eq!(has("write"), public.writes(), "{}: {flags}", public.name);
        assert_eq!(has("readonly"), public.only_reads(), "{}: {flags}", public.name);
        assert_eq!(has("admin"), public.is_for_operators(), "{}: {flags}", public.name);
        assert_eq!(has("denyoom"), public.access == Access::Grows, "{}: {flags}", public.name);
        let constant_time =
            ["gw.allow", "gw.tokens", "gw.addcost", "gw.withinbudget", "gw.loglen", "gw.cacheget", "gw.cachefetch"];
        assert!(has("fast") || !constant_time.contains(&public.name), "{}: {flags}", public.name);
        // Keys after a count have a key spec of their own, which the older fields cannot express.
        let counted = public.call.contains(" WITH ");
        let (first, last) = match public.keys.len() {
            0 => (0, 0),
            _ if counted => (1, 1),
            1 => (1, 1),
            _ => (1, -1),
        };
        assert_eq!((&info[3], &info[4]), (&Value::Int(first), &Value::Int(last)), "{}", public.name);
        let Value::Array(specs) = &info[8] else { panic!("{}: {:?}", public.name, info[8]) };
        assert_eq!(specs.len(), usize::from(!public.keys.is_empty()) + usize::from(counted), "{}", public.name);
        let specs = gw_testkit::reply_line(Ok(info[8].clone()));
        assert_eq!(specs.contains("[RO, "), !public.writes() && !public.keys.is_empty(), "{}: {specs}", public.name);
    }
}

#[test]
fn command_getkeys_finds_every_key() {
    let (_server, mut client) = start();
    for public in &PUBLIC {
        let keys = run(&mut client, &format!("COMMAND GETKEYS {}", public.call));
        if public.keys.is_empty() {
            // Servers before Redis 7.2 refuse calls as short as this with another error.
            assert!(keys.starts_with("ERR "), "{}: {keys}", public.call);
        } else {
            assert_eq!(keys, format!("[\"{}\"]", public.keys.join("\", \"")), "{}", public.call);
        }
    }
    assert_eq!(run(&mut client, "COMMAND GETKEYS GW._ADMIT x 2 k k2 id"), r#"["k", "k2"]"#);
    // A count is recognised only directly after the account, in upper or lower case.
    for (call, keys) in [
        ("GW.ADMIT k LEASE id TTL 5", r#"["k"]"#),
        ("GW.ADMIT k with 1 k2 LEASE id TTL 5 tokens 5", r#"["k", "k2"]"#),
        ("GW.ROUTE k WITH 1 k2 LEASE id TTL 5 PICK ROOM", r#"["k", "k2"]"#),
        ("GW.SETTLE k WITH 1 k2 LEASE WITH tokens 5", r#"["k", "k2"]"#),
    ] {
        assert_eq!(run(&mut client, &format!("COMMAND GETKEYS {call}")), keys, "{call}");
    }
    for call in ["GW._LIMIT k x", "GW._BUDGET k x", "GW._QUEUE k x", "GW._CACHE k x v", "GW._LOAD k t 0 x"] {
        assert_eq!(run(&mut client, &format!("COMMAND GETKEYS {call}")), "[\"k\"]", "{call}");
    }
}

#[test]
fn command_docs_explain_every_command() {
    let (_server, mut client) = start();
    for public in &PUBLIC {
        let docs: HashMap<String, HashMap<String, Value>> = call!(client, "COMMAND", "DOCS", public.name);
        let docs = &docs[public.name];
        for field in ["summary", "since", "complexity"] {
            let Some(Value::BulkString(text)) = docs.get(field) else { panic!("{}: no {field}", public.name) };
            assert!(!text.is_empty(), "{}: {field}", public.name);
        }
        let arguments = docs.get("arguments").map(|arguments| gw_testkit::reply_line(Ok(arguments.clone())));
        let arguments = arguments.unwrap_or_default();
        // Every option word of the sample call is documented; numbers, keys and values are not words.
        let words = public.call.split(' ').skip(1).filter(|word| word.chars().all(|c| c.is_ascii_uppercase()));
        for word in words {
            assert!(arguments.contains(&format!("\"{word}\"")), "{}: {word} in {arguments}", public.name);
        }
        assert_eq!(arguments.contains("\"key\""), !public.keys.is_empty(), "{}: {arguments}", public.name);
    }
}

#[test]
fn without_memory_only_commands_that_grow_are_refused() {
    let (_server, mut client) = start();
    fill(&mut client);
    run(&mut client, "CONFIG SET maxmemory-policy noeviction maxmemory 1");
    for public in &PUBLIC {
        let refused = run(&mut client, public.call).starts_with("OOM ");
        assert_eq!(refused, public.access == Access::Grows, "{}", public.call);
    }
}

/// The module makes up for a bug of Valkey 8.1: see docs/src/operating/supported-servers.md.
#[test]
fn a_client_that_moves_keys_stays_in_its_database() {
    let (_server, mut client) = start();
    run(&mut client, "SELECT 3");
    for (key, set) in [("plain", "SET plain v"), ("cached", "GW.CACHESET cached v"), ("spend", "GW.ADDCOST spend 1")] {
        run(&mut client, set);
        assert_eq!(run(&mut client, &format!("MOVE {key} 1")), "1");
        run(&mut client, &format!("SET mark:{key} v"));
    }
    assert_eq!(call!(client, "DBSIZE" => usize), 3);
    run(&mut client, "SELECT 1");
    assert_eq!(call!(client, "DBSIZE" => usize), 3);
}

#[test]
fn a_cluster_routes_by_the_keys() {
    let server = Server::options().cluster().start().unwrap();
    let mut client = server.connect().unwrap();
    for public in &PUBLIC {
        run(&mut client, "DEL {k}");
        let call = public.call_on("{k}").replace("k2", "{k}2").replace("k3", "{k}3");
        let reply = run(&mut client, &call);
        assert!(!reply.starts_with("ERR") && !reply.starts_with("CROSSSLOT"), "{call}: {reply}");
    }
    for call in ["GW.CACHEDEL a b", "GW.ADMIT a WITH 1 b LEASE id TTL 5", "GW.SETTLE a WITH 1 b LEASE id"] {
        assert_eq!(run(&mut client, call), "CROSSSLOT Keys in request don't hash to the same slot", "{call}");
    }
    // The client is redirected for a key in another node's slot.
    let slot: i64 = call!(client, "CLUSTER", "KEYSLOT", "elsewhere");
    reply!(client, "CLUSTER", "DELSLOTS", slot);
    let gone = run(&mut client, "GW.ALLOW elsewhere 5");
    assert!(gone.starts_with("CLUSTERDOWN "), "{gone}");
}
