//! Checks that the documentation says what the server does: runs its sessions, compares its tables, and makes sure that
//! all of its code is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::markdown::{self, Block};
use crate::support::{run, start};
use gw_testkit::redis::{self, Connection, Value};
use gw_testkit::{Server, await_until, call, info, try_call};

/// The prompt of redis-cli, as the sessions show it.
pub const PROMPT: &str = "127.0.0.1:6379> ";
/// The number of sessions that run at the same time. They mostly wait for their servers to start.
const AT_ONCE: usize = 4;

/// A line of a session without the remark at its end.
fn without_remark(line: &str) -> &str {
    line.rfind("  # ").map_or(line, |at| line.get(..at).unwrap_or(line).trim_end())
}

/// Whether redis-cli's line is what the page shows: `~N` stands for a time within five seconds of N, `...` for any number
/// above zero, in quotes for a batch's id, and everything else for itself.
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
fn placeholders_stand_for_what_the_introduction_says() {
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

/// The output of redis-cli for the commands, line by line, as on a terminal.
fn redis_cli(server: &Server, commands: &str) -> Vec<String> {
    // Without a redis-cli, Valkey's is taken, which is the same program.
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
    // For slow commands it adds the time taken, as in `(0.61s)`.
    let is_duration = |line: &&str| line.starts_with('(') && line.ends_with("s)");
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| !is_duration(line)).map(str::to_owned).collect()
}

/// Runs a session on a server of its own. Returns the difference if it does not print what the page shows.
fn run_session(session: &Block) -> Option<String> {
    let (commands, shown): (Vec<_>, Vec<_>) = session.lines.iter().partition(|line| line.starts_with(PROMPT));
    let commands: String = commands.iter().map(|line| format!("{}\n", &line[PROMPT.len()..])).collect();
    let server = Server::start().unwrap();
    if commands.contains("GW.COSTCHANGES") {
        // The first call of a node looks for ledgers in slices, which takes more than one call if the machine is busy.
        let mut client = server.connect().unwrap();
        let is_done = || run(&mut client, "GW.COSTCHANGES").starts_with("[0");
        await_until("the search for ledgers to end", Duration::from_secs(30), is_done).unwrap();
    }
    let printed = redis_cli(&server, &commands);
    let as_shown = shown.len() == printed.len()
        && shown.iter().zip(&printed).all(|(shown, printed)| matches(without_remark(shown), printed));
    if as_shown {
        return None;
    }
    let shown = shown.into_iter().cloned().collect::<Vec<_>>();
    Some(format!("{} prints:\n{}\nand shows:\n{}", session.place(), printed.join("\n"), shown.join("\n")))
}

#[test]
fn every_session_prints_what_its_page_shows() {
    let sessions = markdown::blocks("console");
    assert!(sessions.len() > 15, "{} sessions", sessions.len());
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::from_fn(|| sessions.get(next.fetch_add(1, Ordering::Relaxed)));
        mine.filter_map(run_session).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of {} sessions:\n\n{}", wrong.len(), sessions.len(), wrong.join("\n\n"));
}

/// Languages in which every block is a program, or a part of one, that a test runs.
const LANGUAGES: [&str; 7] = ["python", "ts", "js", "go", "rust", "sql", "lua"];
/// The script for redis_exporter, which redis.conf's user `monitor` can run.
pub const EXPORTER_SCRIPT: &str = "exporter";
/// The names of the blocks that the tests of this file run, and those that the companion's tests do; examples.rs has the others.
const RUN: &[&str] = &[EXPORTER_SCRIPT, "redis-rs", "sync-postgresql", "sync-report", "sync-sqlite"];

#[test]
fn all_code_is_run_by_a_test() {
    let code = markdown::all_blocks().into_iter().filter(|block| LANGUAGES.contains(&&*block.language));
    let mut names = BTreeSet::new();
    for block in code {
        let Some(name) = &block.name else { panic!("{}: a block of {} without a name", block.place(), block.language) };
        assert!(names.insert(name.clone()), "{}: another block is named {name}, too", block.place());
    }
    let run: BTreeSet<_> = RUN.iter().chain(crate::examples::RUN).map(|&name| name.to_owned()).collect();
    assert_eq!(names, run, "the blocks in the documentation, and those that tests run");
}

/// Nobody reads a longer one: what does not fit belongs into docs/.
#[test]
fn the_readme_is_short() {
    let lines = markdown::page("README.md").lines().count();
    assert!(lines <= 250, "README.md has {lines} lines");
}

#[test]
fn the_rust_example_compiles_and_runs() {
    let (_server, mut connection) = start();
    let mut example = || -> redis::RedisResult<()> {
        // The example.
        let [allowed, limit, remaining, retry_after_ms, reset_after_ms]: [i64; 5] =
            redis::cmd("GW.ALLOW").arg("rpm:user:42").arg(10).arg("COST").arg(3).query(&mut connection)?;
        let within: (i64, String, String, String, String, String, i64) =
            redis::cmd("GW.WITHINBUDGET").arg("spend:team:ml").arg("500").arg("MONTH").query(&mut connection)?;
        // End of the example.
        assert_eq!([allowed, limit, remaining, retry_after_ms, reset_after_ms], [1, 10, 7, 0, 60_000]);
        assert_eq!((within.0, within.1.as_str(), within.2.as_str()), (1, "MONTH", "500"));
        Ok(())
    };
    example().unwrap();

    let source = include_str!("docs.rs").lines().skip_while(|line| line.trim() != "// The example.").skip(1);
    let source: Vec<_> =
        source.take_while(|line| line.trim() != "// End of the example.").map(|line| &line[8..]).collect();
    assert_eq!(markdown::named("redis-rs").lines, source);
}

/// redis_exporter expects a script's reply as strings, names and numbers in turn. Any other reply it drops as a whole.
#[test]
fn the_exporters_script_replies_names_and_numbers_as_strings() {
    let (_server, mut client) = start();
    run(&mut client, "GW.ALLOW k 5");
    let reply: Vec<Value> = call!(client, "EVAL", markdown::named(EXPORTER_SCRIPT).text(), 0);
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

/// A page's first table whose first cells are in backquotes: the words in them, each with the row's other cells.
fn table(page: &str) -> Vec<(String, Vec<String>)> {
    table_of(&markdown::page(page))
}

fn table_of(text: &str) -> Vec<(String, Vec<String>)> {
    let rows = text.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    let mut table = Vec::new();
    for line in rows {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        table.extend(cells[0].split('`').skip(1).step_by(2).map(|name| (name.to_owned(), cells[1..].to_vec())));
    }
    table
}

/// The module's settings with their values.
pub fn settings(client: &mut Connection) -> BTreeMap<String, String> {
    call!(*client, "CONFIG", "GET", "gw.*")
}

#[test]
fn the_table_of_settings_has_all_with_their_defaults_and_ranges() {
    let (_server, mut client) = start();
    let defaults = settings(&mut client);
    let rows = table("docs/src/operating/configuration.md");
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
    assert_eq!(ranges, 13);
}

#[test]
fn the_tables_of_counters_and_gauges_have_all_of_them() {
    let (_server, mut client) = start();
    let page = markdown::page("docs/src/operating/monitoring.md");
    let (counters, gauges) = page.split_once("### Gauges").unwrap();
    let shown: Vec<String> = [counters, gauges].into_iter().flat_map(table_of).map(|(name, _)| name).collect();
    let stats: Vec<(String, u64)> = call!(client, "GW.STATS");
    assert_eq!(shown, stats.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let mut fields: Vec<_> = info(&mut client, "gw").into_keys().collect();
    let mut expected: Vec<_> = shown.iter().map(|name| format!("gw_{name}")).collect();
    fields.sort();
    expected.sort();
    assert_eq!(fields, expected);
}
