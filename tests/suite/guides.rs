//! The guides that put a client beside what it replaces: what they say of plain commands, and their programs, whose types are
//! checked and whose output is what the page shows.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};

use crate::examples::{self, Scratch, changed, example, printed, python_tool};
use crate::markdown::named;
use gw_testkit::{Server, project_root};

/// The programs with the client.
const PROGRAMS: [&str; 6] = [
    "cache-service-python",
    "semantic-cache-python",
    "embeddings-python",
    "sessions-python",
    "locks-python",
    "queues-python",
];

/// The text of a program for this server. Its time-outs are longer, too: a busy machine is slow.
fn program(name: &str, server: &Server) -> String {
    let text = changed(name, &[("6379", &server.port().to_string()), ("timeout=0.05", "timeout=60")]);
    text.replace("Settings(", "Settings(connect_timeout=60, waiting_timeout=60, ")
}

fn prints_what_its_page_shows(name: &str) {
    let server = Server::start().unwrap();
    let Some(printed) = examples::python(&program(name, &server), &[]) else { return };
    assert_eq!(printed.trim_end(), named(&format!("{name}-output")).text(), "{name}");
}

#[test]
fn programs_have_types() {
    // They are the same for every server.
    if std::env::var("GW_SERVER").is_ok_and(|name| name != "system") {
        return;
    }
    let scratch = Scratch::new();
    let Some(mut mypy) = python_tool("mypy", &scratch) else { return };
    for name in PROGRAMS {
        scratch.write(&format!("{}.py", name.replace('-', "_")), &named(name).text());
    }
    mypy.args(["--strict", "--no-error-summary", "--cache-dir"]).arg(project_root().join(".tools/mypy-guides"));
    mypy.env("MYPYPATH", project_root().join("clients/python/src"));
    assert_eq!(printed(mypy.arg(".")), "");
}

#[test]
fn a_fixed_window_lets_twice_its_limit_through() {
    examples::guide("embeddings_before", "embeddings-before");
}

#[test]
fn questions_in_other_words_are_answered_once() {
    prints_what_its_page_shows("semantic-cache-python");
}

#[test]
fn embeddings_are_made_once() {
    prints_what_its_page_shows("embeddings-python");
}

#[test]
fn a_hash_as_a_session_can_live_for_ever() {
    examples::guide("sessions_before", "sessions-before");
}

#[test]
fn sessions_live_while_they_are_used() {
    prints_what_its_page_shows("sessions-python");
}

#[test]
fn a_lock_without_a_holder_frees_that_of_another() {
    examples::guide("locks_before", "locks-before");
}

#[test]
fn a_lock_is_held_by_one() {
    prints_what_its_page_shows("locks-python");
}

#[test]
fn a_list_loses_the_job_that_fails() {
    examples::guide("queues_before", "queues-before");
}

#[test]
fn jobs_come_back_until_they_are_done() {
    prints_what_its_page_shows("queues-python");
}

#[test]
fn a_cache_of_plain_commands_computes_what_another_computes() {
    examples::guide("cache_service_before", "cache-service-before");
}

#[test]
fn a_service_of_plain_commands_lets_too_much_through_and_bills_twice() {
    let server = Server::start().unwrap();
    let (service, driver) = (named("go-service-before").text(), example("go/service_before.go.txt"));
    let files = [("service.go", service.as_str()), ("driver.go", driver.as_str())];
    if let Some(printed) = examples::go(&files, &[&server.port().to_string()]) {
        assert_eq!(printed, "ok\n");
    }
}

#[test]
fn a_go_service_bills_what_was_used() {
    let server = Server::start().unwrap();
    let changes = [("6379", server.port().to_string()), ("50 * time.Millisecond", "time.Minute".to_owned())];
    let changes = changes.each_ref().map(|(from, to)| (*from, to.as_str()));
    let program = changed("go-service-go", &changes);
    let Some(printed) = examples::go(&[("main.go", &program)], &[]) else { return };
    assert_eq!(printed.trim_end(), named("go-service-go-output").text());
}

/// The right columns of the tables, as far as no program shows them.
#[test]
fn the_client_does_not_fall_into_the_same_traps() {
    let server = Server::start().unwrap();
    if let Some(printed) = examples::python(&example("python/after.py"), &[&server.port().to_string()]) {
        assert_eq!(printed, "ok\n");
    }
}

/// Ended when the test is over.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A socket that listens, on which a program is to serve: calls wait there until it has started.
fn listening() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// What the calls of a page print, block by block. One shell makes all of them, since they share what the first defines.
fn printed_by_calls(names: &[String], port: u16) -> Vec<String> {
    let blocks: Vec<_> = names.iter().map(|name| named(name).text()).collect();
    let script = blocks.join("\necho ----\n").replace("localhost:8000", &format!("127.0.0.1:{port}"));
    let output = printed(Command::new("bash").args(["-euo", "pipefail", "-c", &script]));
    output.trim_end().split("\n----\n").map(str::to_owned).collect()
}

/// The calls of a cache service, whose last block is a burst.
fn check_calls(service: &str, port: u16) {
    let names = ["calls", "clears", "burst"].map(|part| format!("{service}-{part}"));
    let outputs = printed_by_calls(&names, port);
    let [calls, clears, burst] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(*calls, named(&format!("{service}-calls-output")).text());
    assert_eq!(*clears, named(&format!("{service}-clears-output")).text());
    assert_eq!(counted(burst), counted(&named(&format!("{service}-burst-output")).text()), "{burst}");
}

/// The service, and the calls of the page in their order.
#[test]
fn the_cache_service_answers_clears_and_counts() {
    let server = Server::start().unwrap();
    let scratch = Scratch::new();
    scratch.write("cache_service.py", &program("cache-service-python", &server));
    let Some(mut uvicorn) = python_tool("uvicorn", &scratch) else { return };
    let (listener, port) = listening();
    uvicorn.args(["cache_service:app", "--fd", "0", "--log-level", "warning"]).stdin(OwnedFd::from(listener));
    let _service = Ended(uvicorn.spawn().unwrap());
    drop(uvicorn);
    check_calls("cache-service", port);
}

#[test]
fn a_typescript_cache_of_plain_commands_computes_what_another_computes() {
    let server = Server::start().unwrap();
    let program = format!("{}\n{}", named("typescript-cache-before").text(), example("node/cache_before.ts"));
    if let Some(printed) = examples::typescript(&program, &[&server.port().to_string()]) {
        assert_eq!(printed, "ok\n");
    }
}

#[test]
fn the_typescript_cache_answers_clears_and_counts() {
    let server = Server::start().unwrap();
    let port = server.port().to_string();
    let changes =
        [("6379", port.as_str()), ("listen(8000", "listen({ fd: 0 }"), ("timeoutMs: 50", "timeoutMs: 60_000")];
    let Some(project) = examples::node_project(&changed("typescript-cache-service", &changes)) else { return };
    let (listener, port) = listening();
    let mut node = examples::node(&project);
    let _service = Ended(node.stdin(OwnedFd::from(listener)).spawn().unwrap());
    drop(node);
    check_calls("typescript-cache", port);
}

/// What the last calls print, without a difference that is a matter of moments: those of the twenty that come after the
/// answer has been stored find it in the cache, and are not coalesced.
fn counted(text: &str) -> (BTreeMap<String, f64>, Vec<String>) {
    let mut counts = BTreeMap::new();
    let mut others = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("redis_gateway_cache_total").and_then(|rest| rest.split_once(' ')) {
            Some((labels, count)) => {
                let labels = labels.replace("coalesced", "hit");
                *counts.entry(labels).or_default() += count.parse::<f64>().unwrap();
            }
            None => others.push(line.to_owned()),
        }
    }
    (counts, others)
}
