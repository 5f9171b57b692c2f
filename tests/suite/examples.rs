//! The documentation's code, run as its readers would run it: with the real clients, in the languages it is written in.
//! `scripts/clients.sh` installs the clients, in pinned versions, into .tools/; the code for a client that is not there
//! is skipped, with a message. The programs that run a block's code are in tests/examples/.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::markdown::named;
use crate::support::{run, start};
use gw_testkit::redis::Connection;
use gw_testkit::{Cluster, Server, project_root};

/// The names of the blocks that the tests here, in guides.rs, in headers.rs, in cachekey.rs and in request_path.rs run.
pub const RUN: &[&str] = &[
    "start-python",
    "start-typescript",
    "start-go",
    "request-path-python",
    "request-path-python-client",
    "request-path-typescript",
    "request-path-typescript-client",
    "request-path-go",
    "request-path-go-client",
    "request-path-rust",
    "routing-python",
    "routing-typescript",
    "routing-go",
    "streaming-never-started",
    "streaming-python",
    "streaming-typescript",
    "streaming-go",
    "headers-python",
    "headers-js",
    "headers-go",
    "cache-key-python",
    "cache-key-js",
    "cache-key-rust",
    "database-postgresql-tables",
    "database-postgresql-statements",
    "database-sqlite-tables",
    "database-python",
    "database-migration",
    "database-report",
    "log-shipping-python",
    "cache-service-before",
    "cache-service-python",
    "typescript-cache-before",
    "typescript-cache-service",
    "semantic-cache-python",
    "embeddings-before",
    "embeddings-python",
    "embeddings-js",
    "locks-before",
    "locks-python",
    "queues-before",
    "queues-python",
    "sessions-before",
    "sessions-python",
    "go-service-before",
    "go-service-go",
    "ioredis-scripts",
];

/// A directory that is removed with this value.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gw-examples-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where scripts/clients.sh has installed a language's client; `None`, with a message, if it has not. `None` also on
/// all but the first server of the matrix if the language takes long to compile: these programs behave alike on each.
pub fn tools(language: &str) -> Option<PathBuf> {
    let first_server = std::env::var("GW_SERVER").map_or(true, |name| name == "system");
    if language != "python" && !first_server {
        return None;
    }
    let directory = project_root().join(".tools").join(language);
    if directory.join("pins").exists() {
        return Some(directory);
    }
    skipped(&format!("there is no .tools/{language}; scripts/clients.sh makes it"));
    None
}

/// Writes to the terminal that a test, or a part of it, does not run. The test harness would capture `eprintln!`.
fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED: {}: {why}\n", thread.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The output of a program, which must succeed.
pub fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out
}

/// A file of tests/examples.
pub fn example(path: &str) -> String {
    fs::read_to_string(project_root().join("tests/examples").join(path)).unwrap()
}

/// A tool of the Python environment, which finds the Python client of this repository; `None` if it is not installed.
pub fn python_tool(name: &str, scratch: &Scratch) -> Option<Command> {
    let mut command = Command::new(tools("python")?.join("bin").join(name));
    command.current_dir(&scratch.0).env("PYTHONPATH", project_root().join("clients/python/src"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// Runs a program in Python with redis-py. Returns its output, or `None` if that is not installed.
pub fn python(program: &str, arguments: &[&str]) -> Option<String> {
    let scratch = Scratch::new();
    scratch.write("gateway.py", program);
    Some(printed(python_tool("python", &scratch)?.args(["-W", "error", "gateway.py"]).args(arguments)))
}

/// The TypeScript client of this repository, built of its sources as they are now; `None`, with a message, if what it is
/// built with is not installed.
fn typescript_client() -> Option<PathBuf> {
    static BUILT: OnceLock<()> = OnceLock::new();
    let client = project_root().join("clients/typescript");
    if !client.join("node_modules").exists() {
        skipped("there is no clients/typescript/node_modules; scripts/clients.sh makes it");
        return None;
    }
    BUILT.get_or_init(|| {
        // The last file that the build writes.
        let mut newer = Command::new("find");
        newer.args(["src", "tools", "package.json", "-newer", "dist/esm/package.json"]).current_dir(&client);
        if newer.output().is_ok_and(|found| found.status.success() && found.stdout.is_empty()) {
            return;
        }
        printed(Command::new("node").arg("tools/build.mjs").current_dir(&client));
    });
    Some(client)
}

/// A folder with `gateway.ts`, whose types are checked, strictly. It finds ioredis and the TypeScript client of this
/// repository there.
pub fn node_project(program: &str) -> Option<Scratch> {
    let installed = tools("node")?.join("node_modules");
    let client = typescript_client()?;
    let scratch = Scratch::new();
    scratch.write("package.json", r#"{"type": "module"}"#);
    scratch.write("gateway.ts", program);
    let modules = scratch.0.join("node_modules");
    fs::create_dir(&modules).unwrap();
    for package in fs::read_dir(&installed).unwrap() {
        let package = package.unwrap();
        symlink(package.path(), modules.join(package.file_name())).unwrap();
    }
    symlink(client, modules.join("redis-gateway")).unwrap();
    let strict = ["--noEmit", "--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"];
    let mut tsc = Command::new(installed.join(".bin/tsc"));
    printed(tsc.args(strict).args(["--types", "node", "gateway.ts"]).current_dir(&scratch.0));
    Some(scratch)
}

/// Node, in such a folder, with its program.
pub fn node(project: &Scratch) -> Command {
    let mut command = Command::new("node");
    command.args(["--import", "tsx", "gateway.ts"]).current_dir(&project.0);
    command
}

/// Checks a program's types, and runs it in Node with ioredis and the TypeScript client of this repository.
pub fn typescript(program: &str, arguments: &[&str]) -> Option<String> {
    let project = node_project(program)?;
    Some(printed(node(&project).args(arguments)))
}

/// Vets the files of a program and runs it, with go-redis and the Go client of this repository.
pub fn go(files: &[(&str, &str)], arguments: &[&str]) -> Option<String> {
    let tools = tools("go")?;
    let scratch = Scratch::new();
    let client = project_root().join("clients/go");
    scratch.write("go.mod", &example("go/go.mod").replace("../../../clients/go", client.to_str().unwrap()));
    scratch.write("go.sum", &example("go/go.sum"));
    for (name, text) in files {
        scratch.write(name, &format!("{}\n", text.trim_end()));
    }
    let go = |words: &[&str]| {
        let mut command = Command::new("go");
        command.args(words).current_dir(&scratch.0);
        // Nothing is downloaded: the pinned versions are installed.
        command.env("GOMODCACHE", tools.join("cache")).env("GOCACHE", tools.join("build"));
        command.env("GOPROXY", "off").env("GOFLAGS", "-trimpath").env("GOTOOLCHAIN", "local");
        command
    };
    let unformatted = printed(Command::new("gofmt").args(["-l", "."]).current_dir(&scratch.0));
    assert_eq!(unformatted, "", "gofmt would change these");
    printed(&mut go(&["vet", "."]));
    printed(&mut go(&["build", "-o", "gateway", "."]));
    Some(printed(Command::new(scratch.0.join("gateway")).args(arguments).current_dir(&scratch.0)))
}

/// The text of the named block with each of `changes` made, once.
pub fn changed(name: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(named(name).text(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from} in {name}");
        text.replace(from, to)
    })
}

/// Checks that a block's program prints what its page shows. Only its port and its time-outs are changed: a busy
/// machine is slow.
fn whole_program(name: &str, timeout: (&str, &str), run_program: impl Fn(&str) -> Option<String>) {
    let (server, mut client) = start();
    let program = changed(name, &[("6379", &server.port().to_string()), timeout]);
    let Some(printed) = run_program(&program) else { return };
    assert_eq!(printed.trim_end(), named(&format!("{name}-output")).text(), "{name}");
    let stored = run(&mut client, "GW.DESCRIBE {ml}");
    assert!(stored.contains("\"leases\", []"), "{stored}");
}

#[test]
fn ten_minutes_in_python() {
    whole_program("start-python", ("TIMEOUT_S = 0.25", "TIMEOUT_S = 60"), |program| python(program, &[]));
}

#[test]
fn ten_minutes_in_typescript() {
    let timeout = ("timeoutMs: 250", "timeoutMs: 60_000");
    whole_program("start-typescript", timeout, |program| typescript(program, &[]));
}

#[test]
fn ten_minutes_in_go() {
    let timeout = ("timeout = 250 * time.Millisecond", "timeout = time.Minute");
    whole_program("start-go", timeout, |program| go(&[("main.go", program)], &[]));
}

/// The shell snippets and their output, in the order of the page, all on one server.
#[test]
fn an_operators_first_hour() {
    let server = Server::start().unwrap();
    // A redis-cli that adds the server's port and calls the real one.
    let scratch = Scratch::new();
    let path = std::env::var("PATH").unwrap();
    let real = ["redis-cli", "valkey-cli"].iter().find_map(|name| {
        let mut files = std::env::split_paths(&path).map(|directory| directory.join(name));
        files.find(|file| file.exists())
    });
    let real = real.expect("redis-cli or valkey-cli on the PATH");
    scratch.write("redis-cli", &format!("#!/bin/sh\nexec {} -p {} \"$@\"\n", real.display(), server.port()));
    fs::set_permissions(scratch.0.join("redis-cli"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["provision", "plan", "queue", "cache", "spend", "alarms"] {
        let name = format!("operator-{name}");
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &named(&name).text()]).current_dir(&scratch.0);
        bash.env("PATH", format!("{}:{path}", scratch.0.display()));
        assert_eq!(printed(&mut bash).trim_end(), named(&format!("{name}-output")).text(), "{name}");
    }
}

#[test]
fn generators_end_as_the_streaming_page_says() {
    if let Some(printed) = python(&named("streaming-never-started").text(), &[]) {
        assert_eq!(printed, "settled\n");
    }
}

/// The feed for a database: a worker in Python, and the statements for PostgreSQL on the rows that it has stored.
#[test]
fn a_database_in_step() {
    let server = Server::start().unwrap();
    let Some(stored) = follow_in_python(server.port(), vec![server.connect().unwrap()]) else { return };
    let sql = postgresql(&stored["rows"]);
    let Some(selected) = postgres(&sql) else { return };
    assert_eq!(selected, "spend:7|TOTAL|0001-01-01|4.250000000000\nspend:7|TOTAL|0001-01-01|4.500000000000\n");
}

#[test]
fn a_database_in_step_with_a_cluster() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let primaries = cluster.primaries().into_iter().map(|node| node.connect().unwrap()).collect();
    follow_in_python(cluster.primary_of("spend:7").unwrap().port(), primaries);
}

/// Charges ledgers, lets the worker follow them from the node at `port`, which has the ledger `spend:7`, and returns what it
/// has stored. `None` if there is no Python.
fn follow_in_python(port: u16, mut primaries: Vec<Connection>) -> Option<serde_json::Value> {
    let mut charge = |words: &str| {
        let replies: Vec<_> = primaries.iter_mut().map(|primary| run(primary, words)).collect();
        assert_eq!(replies.iter().filter(|reply| !reply.starts_with("MOVED ")).count(), 1, "{words}: {replies:?}");
    };
    (0..250).for_each(|account| charge(&format!("GW.ADDCOST spend:{account} 0.25")));
    charge("GW.ADDCOST spend:7 3 AT 1706731200000");
    charge("GW.CREDIT spend:7 TOTAL 5.5");
    charge("GW.CREDIT spend:7 WEEK 2");
    let worker = format!("{}\n{}", named("database-python").text(), example("python/database.py"));
    let tables = named("database-sqlite-tables").text();
    let report = named("database-report").text();
    let printed = python(&worker, &[&port.to_string(), &tables, &report])?;
    let stored: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(stored["accounts"], 250);
    assert_eq!(stored["total"], "3.25");
    // After further changes the worker follows again; then there is nothing more to list.
    assert_eq!(stored["total_later"], "4.25");
    assert_eq!([&stored["credit"], &stored["credit_later"]], ["5.5", "4.5"]);
    assert_eq!(stored["report"], 250);
    for primary in &mut primaries {
        assert_eq!(run(primary, "GW.COSTCHANGES"), "[0, []]");
    }
    Some(stored)
}

/// The page's statements as prepared ones, run for rows of table, account, version, since, period, first day and amount: twice, and
/// then once more under an older version, which changes nothing.
fn postgresql(rows: &serde_json::Value) -> String {
    let statements = named("database-postgresql-statements").lines;
    let statements = statements.iter().filter(|line| !line.starts_with("--")).map(String::as_str).collect::<Vec<_>>();
    let statements = statements.join("\n");
    let statements: Vec<_> = statements.split(';').map(str::trim).filter(|text| !text.is_empty()).collect();
    let [account, old_spend, old_credit, spend, credit] = statements[..] else { panic!("{statements:?}") };
    let mut sql = named("database-postgresql-tables").text();
    for (name, statement) in [
        ("account", account),
        ("old_spend", old_spend),
        ("old_credit", old_credit),
        ("spend", spend),
        ("credit", credit),
    ] {
        sql += &format!("\nPREPARE set_{name} AS {statement};");
    }
    for (round, add) in [(0, 0), (1, 0), (2, -1)] {
        for row in rows.as_array().unwrap() {
            let text = |at: usize| row[at].as_str().unwrap();
            let (table, key, version, since) =
                (text(0), text(1), row[2].as_i64().unwrap() + add, row[3].as_i64().unwrap());
            let amount = if round == 2 { "99" } else { text(6) };
            sql += &format!("\nEXECUTE set_account('{key}', {version});");
            for table in ["spend", "credit"] {
                sql += &format!("\nEXECUTE set_old_{table}('{key}', {since});");
            }
            sql += &format!("\nEXECUTE set_{table}('{key}', {version}, '{}', '{}', '{amount}');", text(4), text(5));
        }
    }
    sql += &format!("\n{}", named("database-migration").text());
    for table in ["spend", "credit"] {
        sql += &format!(
            "\nSELECT account, period, first_day, amount FROM {table} WHERE period = 'TOTAL' AND account = 'spend:7';"
        );
    }
    sql
}

/// The rows that a PostgreSQL on this machine selects; `None`, with a message, if there is none.
fn postgres(sql: &str) -> Option<String> {
    const NONE: i32 = 77;
    let script = project_root().join("tests/examples/postgres.sh");
    let mut bash = Command::new("bash").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = bash.stdin.take().unwrap();
    // Without a PostgreSQL nobody reads the input.
    let _ = stdin.write_all(sql.as_bytes());
    drop(stdin);
    let output = bash.wait_with_output().unwrap();
    if output.status.code() == Some(NONE) {
        skipped("the statements for PostgreSQL: there is none on this machine");
        return None;
    }
    assert!(output.status.success(), "{}", output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Runs a guide's code in Python with a driver, which asserts, and prints `ok`.
pub fn guide(driver: &str, name: &str) {
    let server = Server::start().unwrap();
    let program = format!("{}\n\n\n{}", named(name).text(), example(&format!("python/{driver}.py")));
    if let Some(printed) = python(&program, &[&server.port().to_string()]) {
        assert_eq!(printed, "ok\n");
    }
}

#[test]
fn batches_become_objects() {
    guide("log_shipping", "log-shipping-python");
}

#[test]
fn a_request_is_served_by_one_of_several_deployments() {
    guide("routing", "routing-python");
    let server = Server::start().unwrap();
    let program = format!("{}\n{}", named("routing-typescript").text(), example("node/routing.ts"));
    if let Some(printed) = typescript(&program, &[&server.port().to_string()]) {
        assert_eq!(printed, "ok\n");
    }
    let server = Server::start().unwrap();
    let (guide, driver) = (named("routing-go").text(), example("go/routing.go.txt"));
    if let Some(printed) = go(&[("routing.go", &guide), ("driver.go", &driver)], &[&server.port().to_string()]) {
        assert_eq!(printed, "ok\n");
    }
}

#[test]
fn vectors_are_bytes_in_node_too() {
    let program = format!(
        "{}\nconst bytes = pack([1, 2]);\nconsole.log(bytes.toString('hex'), [...unpack(bytes.subarray(0))].join());",
        named("embeddings-js").text()
    );
    let printed = printed(Command::new("node").args([OsStr::new("-e"), OsStr::new(&program)]));
    assert_eq!(printed, "0000803f00000040 1,2\n");
}

#[test]
fn scripts_let_ioredis_find_the_keys() {
    let (server, _client) = start();
    let block = named("ioredis-scripts").text();
    let Some(tools) = tools("node") else { return };
    let scratch = Scratch::new();
    symlink(tools.join("node_modules"), scratch.0.join("node_modules")).unwrap();
    scratch.write("scripts.cjs", &format!("{block}\n{}", example("node/scripts.cjs")));
    let mut node = Command::new("node");
    node.arg("scripts.cjs").arg(server.port().to_string()).current_dir(&scratch.0);
    assert_eq!(printed(&mut node), "ok\n");
}
