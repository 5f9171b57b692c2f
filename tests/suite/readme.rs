//! README.md and redis.conf say what the server does: their examples and settings are run here.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{command, run};
use gw_testkit::redis::{self, Connection, Value};
use gw_testkit::{Server, call, info, module_path, project_root, try_call};

const PROMPT: &str = "127.0.0.1:6379> ";

pub fn readme() -> String {
    fs::read_to_string(project_root().join("README.md")).unwrap()
}

/// The fenced blocks of a language, each with the number of its first line.
pub fn blocks(text: &str, language: &str) -> Vec<(usize, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let (mut first, mut block) = (None, Vec::new());
            for (number, line) in lines.by_ref().take_while(|(_, line)| *line != "```") {
                first.get_or_insert(number + 1);
                block.push(line.to_owned());
            }
            if info == language {
                blocks.push((first.expect("a block without lines"), block));
            }
        }
    }
    blocks
}

/// README's one block in `language` that mentions `word`, run by `program` with `driver` behind it, which prints JSON.
pub fn run_block(program: &str, language: &str, word: &str, driver: &str) -> serde_json::Value {
    let text = readme();
    let code = blocks(&text, language).into_iter().map(|(_, lines)| without_types(language, &lines));
    let code = code.filter(|code| code.contains(word)).collect::<Vec<_>>();
    assert_eq!(code.len(), 1, "one {language} block with {word}");
    let script = format!("{}\n{driver}", code[0]);
    let interpreter = Command::new(program).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut interpreter = interpreter.unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it"));
    interpreter.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = interpreter.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// TypeScript as JavaScript: without the annotations that README's code has.
fn without_types(language: &str, lines: &[String]) -> String {
    if language != "ts" {
        return lines.join("\n");
    }
    let lines = lines.iter().filter(|line| !line.starts_with("type "));
    let code = lines.cloned().collect::<Vec<_>>().join("\n");
    let annotations =
        [": Redis", ": ChatRequest", ": Model", ": Used", ": Row[]", ": number", ": Record<string, string>"];
    annotations.iter().fold(code, |code, annotation| code.replace(annotation, ""))
}

/// A line of a session without the remark at its end.
fn without_remark(line: &str) -> &str {
    line.rfind("  # ").map_or(line, |at| line.get(..at).unwrap_or(line).trim_end())
}

/// Whether redis-cli's line is what README shows: `~N` stands for a time within five seconds of N, `...` for any number
/// above zero, in quotes for a batch's id, and all else for itself.
fn matches(shown: &str, line: &str) -> bool {
    const TOLERANCE_MS: u64 = 5_000;
    let is = |label: &str, accept: &dyn Fn(u64) -> bool| {
        let number = line.strip_prefix(label).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(|digits| digits.parse().ok()).is_some_and(accept)
    };
    if let Some((label, about_ms)) = shown.split_once('~') {
        let about_ms: u64 = about_ms.parse().unwrap_or_else(|_| panic!("not a time: {shown}"));
        return is(label, &|ms| ms > 0 && ms.abs_diff(about_ms) <= TOLERANCE_MS);
    }
    if let Some(label) = shown.strip_suffix("\"...\"") {
        let id = line.strip_prefix(label).and_then(|text| text.strip_prefix('"')?.strip_suffix('"'));
        return id.is_some_and(|id| id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    match shown.strip_suffix("...") {
        Some(label) => is(label, &|number| number > 0),
        None => shown == line,
    }
}

#[test]
fn placeholders_stand_for_what_the_readme_says() {
    for (shown, line) in [
        ("5) (integer) ~60000", "5) (integer) 60000"),
        ("5) (integer) ~60000", "5) (integer) 55000"),
        ("(integer) ...", "(integer) 1"),
        ("1) \"...\"", "1) \"000649ce3d40a00000000007\""),
        ("OK", "OK"),
    ] {
        assert!(matches(shown, line), "{shown} / {line}");
    }
    for (shown, line) in [
        ("5) (integer) ~60000", "5) (integer) 54999"),
        ("5) (integer) ~60000", "4) (integer) 60000"),
        ("5) (integer) ~60000", "5) (integer) -1"),
        ("5) (integer) ~1000", "5) (integer) 0"),
        ("5) (integer) ~60000", "5) (integer) "),
        ("(integer) ...", "(integer) 0"),
        ("(integer) ...", "(integer) -5"),
        ("(integer) ...", "(integer) +5"),
        ("(integer) ...", "\"5\""),
        ("1) \"...\"", "1) \"000649ce3d40a0000000000\""),
        ("(integer) 60000", "(integer) 59999"),
    ] {
        assert!(!matches(shown, line), "{shown} / {line}");
    }
    assert_eq!(without_remark("3) (integer) 1        # remaining"), "3) (integer) 1");
    assert_eq!(without_remark("1) \"a # b\""), "1) \"a # b\"");
}

/// What redis-cli prints for the commands, line by line, as it does on a terminal.
fn redis_cli(server: &Server, commands: &str) -> Vec<String> {
    // Where there is no redis-cli, there is Valkey's: the same program.
    let spawn = |name| {
        Command::new(name)
            .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "--no-raw"])
            .env_remove("REDISCLI_AUTH")
            .env("REDISCLI_RCFILE", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut cli = spawn("redis-cli").or_else(|_| spawn("valkey-cli")).expect("redis-cli or valkey-cli on the PATH");
    cli.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    let output = cli.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // On a slow machine it adds the time that a command took, as in `(0.61s)`.
    let is_duration = |line: &&str| line.starts_with('(') && line.ends_with("s)");
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !is_duration(line)).map(str::to_owned).collect()
}

#[test]
fn every_session_prints_what_the_readme_shows() {
    let readme = readme();
    let sessions = blocks(&readme, "console");
    assert!(sessions.len() > 15, "{} sessions", sessions.len());
    for (number, session) in sessions {
        let (commands, shown): (Vec<_>, Vec<_>) = session.iter().partition(|line| line.starts_with(PROMPT));
        let commands: String = commands.iter().map(|line| format!("{}\n", &line[PROMPT.len()..])).collect();
        let server = Server::start().unwrap();
        let printed = redis_cli(&server, &commands);
        let as_shown = shown.len() == printed.len()
            && shown.iter().zip(&printed).all(|(shown, printed)| matches(without_remark(shown), printed));
        assert!(
            as_shown,
            "the session at line {number} of README.md prints on {}:\n{}\nand shows:\n{}",
            server.binary(),
            printed.join("\n"),
            shown.into_iter().cloned().collect::<Vec<_>>().join("\n")
        );
    }
}

#[test]
fn the_rust_example_compiles_and_runs() {
    let (_server, mut connection) = crate::support::start();
    let mut example = || -> redis::RedisResult<()> {
        // The example.
        let [allowed, limit, remaining, retry_after_ms, reset_after_ms]: [i64; 5] =
            redis::cmd("GW.ALLOW").arg("rpm:user:42").arg(10).arg("COST").arg(3).query(&mut connection)?;
        let within: (i64, String, String, String, String, String, i64) =
            redis::cmd("GW.WITHINBUDGET").arg("spend:team:ml").arg("500").arg("MONTH").query(&mut connection)?;
        // Its end.
        assert_eq!([allowed, limit, remaining, retry_after_ms, reset_after_ms], [1, 10, 7, 0, 60_000]);
        assert_eq!((within.0, within.1.as_str(), within.2.as_str()), (1, "MONTH", "500"));
        Ok(())
    };
    example().unwrap();

    let source = include_str!("readme.rs").lines().skip_while(|line| line.trim() != "// The example.").skip(1);
    let source: Vec<_> = source.take_while(|line| line.trim() != "// Its end.").map(|line| &line[8..]).collect();
    // The other one is about cache keys, and tested with those.
    let examples = blocks(&readme(), "rust");
    assert_eq!(examples.len(), 2);
    assert_eq!(examples[0].1, source);
}

/// redis_exporter reads a script's reply as strings, names and numbers in turn, and drops all of it otherwise.
#[test]
fn the_exporters_script_replies_names_and_numbers_as_strings() {
    let (_server, mut client) = crate::support::start();
    run(&mut client, "GW.ALLOW k 5");
    let scripts = blocks(&readme(), "lua");
    assert_eq!(scripts.len(), 1);
    let reply: Vec<Value> = call!(client, "EVAL", scripts[0].1.join("\n"), 0);
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("not a string: {other:?}"),
    };
    let strings: Vec<String> = reply.iter().map(text).collect();
    let values: BTreeMap<&str, f64> =
        strings.chunks(2).map(|pair| (pair[0].as_str(), pair[1].parse().unwrap())).collect();
    assert_eq!(values.get("allow_admitted"), Some(&1.0));
    assert_eq!(values.len() * 2, strings.len());
}

/// The words in backquotes in the first cells of the table under a heading, with the other cells.
fn table(heading: &str) -> Vec<(String, Vec<String>)> {
    let readme = readme();
    let section =
        readme.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let mut rows = Vec::new();
    for line in section.filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        rows.extend(cells[0].split('`').skip(1).step_by(2).map(|name| (name.to_owned(), cells[1..].to_vec())));
    }
    rows
}

fn settings(client: &mut Connection) -> BTreeMap<String, String> {
    call!(*client, "CONFIG", "GET", "gw.*")
}

#[test]
fn the_table_of_settings_has_all_with_their_defaults_and_ranges() {
    let (_server, mut client) = crate::support::start();
    let defaults = settings(&mut client);
    let rows = table("## Configuration");
    let shown = rows.iter().map(|(name, cells)| (name.clone(), cells[0].trim_matches(['`', '"']).to_owned()));
    assert_eq!(shown.collect::<BTreeMap<_, _>>(), defaults);
    let mut ranges = 0;
    for (name, cells) in &rows {
        let Some((min, max)) = cells[1].split_once(" to ") else { continue };
        let (min, max): (i64, i64) = (min.parse().unwrap(), max.parse().unwrap());
        for (value, taken) in [(min - 1, false), (min, true), (max, true), (max + 1, false)] {
            let set: redis::RedisResult<()> = try_call!(client, "CONFIG", "SET", name, value);
            assert_eq!(set.is_ok(), taken, "{name} {value}");
        }
        ranges += 1;
    }
    assert_eq!(ranges, 6);
}

#[test]
fn the_table_of_counters_has_all_of_them() {
    let (_server, mut client) = crate::support::start();
    let shown: Vec<String> = table("## Monitoring").into_iter().map(|(name, _)| name).collect();
    let stats: Vec<(String, u64)> = call!(client, "GW.STATS");
    assert_eq!(shown, stats.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let mut fields: Vec<_> = info(&mut client, "gw").into_keys().collect();
    let mut expected: Vec<_> = shown.iter().map(|name| format!("gw_{name}")).collect();
    fields.sort();
    expected.sort();
    assert_eq!(fields, expected);
}

/// Lines of redis.conf: those in force, and those to uncomment, which begin with '#' and no space.
fn redis_conf() -> (Vec<String>, Vec<String>) {
    let text = fs::read_to_string(project_root().join("redis.conf")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && *line != "#" && !line.starts_with("# "));
    let (commented, active): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('#'));
    let owned = |lines: Vec<&str>| lines.into_iter().map(|line| line.trim_start_matches('#').to_owned()).collect();
    (owned(active), owned(commented))
}

/// A server with redis.conf, but in a directory and on a port of its own.
fn server_with_redis_conf() -> Server {
    let mut options = Server::options().without_module();
    for line in redis_conf().0 {
        options = match line.split(' ').next().unwrap() {
            "dir" | "port" | "bind" => options,
            "loadmodule" => options.config(format!("loadmodule {}", module_path().unwrap().display())),
            _ => options.config(line),
        };
    }
    options.start().unwrap()
}

#[test]
fn redis_conf_loads_and_shows_every_setting_with_its_default() {
    let server = server_with_redis_conf();
    let mut client = server.connect().unwrap();
    let (_bare, mut bare_client) = crate::support::start();
    assert_eq!(settings(&mut client), settings(&mut bare_client));
    let (active, _) = redis_conf();
    for name in settings(&mut client).keys() {
        let lines = active.iter().filter(|line| line.split(' ').next() == Some(name)).count();
        assert_eq!(lines, 1, "{name}");
    }
    // What the README promises of it, and what the file's own lines are for.
    for (name, value) in [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "volatile-lfu")] {
        let set: BTreeMap<String, String> = call!(client, "CONFIG", "GET", name);
        assert_eq!(set.get(name).map(String::as_str), Some(value));
    }
    assert_eq!(run(&mut client, "GW.ALLOW k 5"), "[1, 5, 4, 0, 60000]");
    // The lines that this test replaces are as `make run` needs them, from the project's root.
    for line in ["dir ./data", "loadmodule ../target/release/libredis_gateway.so", "port 6379"] {
        assert!(active.iter().any(|other| other == line), "{line}");
    }
}

#[test]
fn what_redis_conf_has_to_uncomment_is_valid() {
    let server = server_with_redis_conf();
    let mut client = server.connect().unwrap();
    let tls: BTreeMap<String, String> = call!(client, "CONFIG", "GET", "tls-port");
    let has_tls = !tls.is_empty();
    let (_, commented) = redis_conf();
    assert!(commented.len() > 10, "{commented:?}");
    for line in commented {
        let (name, value) = line.split_once(' ').unwrap();
        match name {
            "user" => {
                let set = run(&mut client, &format!("ACL SETUSER {value}"));
                assert_eq!(set, "OK", "{line}");
            }
            "replicaof" => assert_eq!(value.split(' ').count(), 2, "{line}"),
            _ if name.starts_with("tls-") => {
                let known: BTreeMap<String, String> = call!(client, "CONFIG", "GET", name);
                assert_eq!(known.len(), usize::from(has_tls), "{line}");
            }
            _ => assert_eq!(run(&mut client, &format!("CONFIG SET {line}")), "OK"),
        }
    }
}

/// Users of redis.conf, and commands they can and cannot call.
const ROLES: &[(&str, &[&str], &[&str])] = &[
    (
        "gateway",
        &[
            "GW.ALLOW rpm:user:1 5",
            "GW.ACQUIRE inflight:u 5 r TTL 9",
            "GW.ADDCOST spend:u 1",
            "GW.LOGPUSH log:r x",
            "GW.CACHESET chat:a v",
            "MULTI",
            "PING",
        ],
        &["GW.LOGPOP log:r", "GW.ALLOW other 5", "GW._LIMIT rpm:user:1 x", "DEL rpm:user:1", "CONFIG GET *", "KEYS *"],
    ),
    (
        "shipper",
        &[
            "GW.LOGPOP log:r LEASE 5",
            "GW.LOGACK log:r 000649ce3d40a00000000007",
            "GW.LOGSTATS log:r",
            "GW.LOGLEN log:r",
        ],
        &["GW.LOGPUSH log:r x", "GW.LOGPOP rpm:a"],
    ),
    (
        "billing",
        &["GW.SPENT spend:u", "GW.WITHINBUDGET spend:u 5", "GW.DESCRIBE spend:u"],
        &["GW.ADDCOST spend:u 1", "GW.SPENT rpm:u"],
    ),
    (
        "accountant",
        &["GW.COSTCHANGES", "GW.COSTSYNC spend:a 5", "GW.COSTACK any 5"],
        &["GW.ADDCOST spend:a 1", "GW.SPENT spend:a", "GET k"],
    ),
    ("monitor", &["GW.STATS", "GW.CACHESTATS", "INFO", "SLOWLOG GET"], &["GW.DESCRIBE k", "GET k", "CONFIG SET a b"]),
    ("operator", &["DEL rpm:user:1", "GW.DESCRIBE any", "SCAN 0"], &["FLUSHALL", "GW._LOAD k a 0 b", "GW.ADDCOST k 1"]),
    ("replica", &["REPLCONF GETACK *"], &["GET k", "GW._LIMIT k x"]),
];

#[test]
fn the_users_of_redis_conf_can_do_their_work_and_no_more() {
    let (_server, mut client) = crate::support::start();
    let (_, commented) = redis_conf();
    let users: Vec<_> = commented.iter().filter_map(|line| line.strip_prefix("user ")).collect();
    for user in &users {
        assert_eq!(run(&mut client, &format!("ACL SETUSER {user}")), "OK");
    }
    let names = users.iter().map(|user| user.split(' ').next().unwrap()).filter(|name| *name != "default");
    assert_eq!(names.collect::<Vec<_>>(), ROLES.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
    for (name, allowed, denied) in ROLES {
        for (words, can) in allowed.iter().map(|words| (words, true)).chain(denied.iter().map(|words| (words, false))) {
            let answer = run(&mut client, &format!("ACL DRYRUN {name} {words}"));
            assert_eq!(answer == "OK", can, "{name}: {words}: {answer}");
        }
    }
    // The metrics' script runs as the user it is meant for.
    let script = blocks(&readme(), "lua").remove(0).1.join("\n");
    command("AUTH monitor CHANGE-ME").exec(&mut client).unwrap();
    let reply: Vec<String> = call!(client, "EVAL", script, 0);
    assert!(!reply.is_empty());
}
