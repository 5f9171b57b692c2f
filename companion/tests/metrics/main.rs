//! The exporter as a process, against servers with the module, and scraped by a real Prometheus.

mod companion;
mod prometheus;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use companion::{Gw, book, series};
use gw_testkit::redis::{self, Connection, cmd};
use gw_testkit::{Cluster, DEADLINE, SENTINEL_NAME, Server, Watched, await_until, call, key_slot, reply};

/// Calls of every family, so that every metric has something to show.
fn load(client: &mut Connection) {
    for words in [
        "GW.ALLOW rpm:1 1",
        "GW.ALLOW rpm:1 1",
        "GW.ALLOW secret:1 0",
        "GW.ADDCOST spend:1 1.5",
        "GW.LOGPUSH log:a MAXLEN 2 RECORDS {} {} {}",
        "GW.LOGPUSH log:b RECORDS {}",
        "GW.CACHESET chat:1 answer SAVED 0.5",
        "GW.CACHEGET chat:1",
        "GW.CACHEGET embed:1",
        "GW.POLICYSET acc day BUDGET 20 DAY",
        "GW.POLICYSET acc rpm WINDOW 5 PER 60000",
        "GW.ADMIT acc LEASE l TTL 60000 usd 5",
        "GW.SETTLE acc LEASE l usd 5",
        // Neither works: calls that are refused, and that fail.
        "GW.LOGLEN rpm:1",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = cmd(words[0]);
        reply_or_error(client, command.arg(&words[1..]));
    }
}

fn reply_or_error(client: &mut Connection, command: &redis::Cmd) {
    if let Err(error) = command.query::<redis::Value>(client) {
        assert!(error.code().is_some(), "{error}");
    }
}

/// A configuration with all that can be shown. The shipped queue cannot be stored: its job has an error.
fn everything(url: &str) -> String {
    format!(
        "[server]\nurl = \"{url}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [metrics]\ntimeout = \"20s\"\nqueues = [\"log:a\"]\naccounts = [\"acc\", \"log:a\"]\nfeed = true\n\
         top_keys = [\"rpm:*\", \"spend:*\", \"acc\"]\n\
         [[ship]]\nqueues = [\"log:b\"]\nto = \"/dev/null/there-is-no-such-folder\"\n"
    )
}

#[test]
fn every_metric_has_data_after_a_load_of_all_families() {
    let server = Server::start().unwrap();
    let replica = Server::options().replica_of(&server).start().unwrap();
    let mut client = server.connect().unwrap();
    load(&mut client);
    // By a name that is not the one that the replica tells.
    let gw = Gw::start(&everything(&format!("redis://localhost:{}", server.port())));
    let mut text = String::new();
    let has_all = || {
        text = gw.metrics();
        let shown: BTreeSet<&str> = series(&text).map(|(name, ..)| name).collect();
        let up = series(&text).filter(|(name, _, value)| *name == "gw_up" && *value == 1.0).count();
        up == 2 && metrics_of_the_book().iter().all(|name| shown.contains(&**name))
    };
    if await_until("all metrics", DEADLINE, has_all).is_err() {
        let shown: BTreeSet<&str> = series(&text).map(|(name, ..)| name).collect();
        let missing: Vec<_> = metrics_of_the_book().into_iter().filter(|name| !shown.contains(&**name)).collect();
        panic!("missing: {missing:?}\n{text}");
    }
    // The configured name and the told one are of one node.
    let nodes: BTreeSet<_> = series(&text).filter(|(name, ..)| *name == "gw_up").map(|(_, labels, _)| labels).collect();
    let node = |port: u16, role: &str| format!("node=\"127.0.0.1:{port}\",role=\"{role}\"");
    let (primary, replica) = (node(server.port(), "primary"), node(replica.port(), "replica"));
    assert_eq!(nodes, BTreeSet::from([&*primary, &*replica]));

    let value = |name: &str, labels: &str| {
        let labels = if labels.is_empty() { primary.clone() } else { format!("{primary},{labels}") };
        let found = series(&text).find(|(other, all, _)| *other == name && *all == labels);
        found.unwrap_or_else(|| panic!("{name}{{{labels}}}:\n{text}")).2
    };
    assert_eq!(value("gw_allow_admitted_total", ""), 1.0);
    assert_eq!(value("gw_allow_denied_total", ""), 2.0);
    assert_eq!(value("gw_command_calls_total", "command=\"GW.ALLOW\""), 3.0);
    assert_eq!(value("gw_command_failed_total", "command=\"GW.LOGLEN\""), 1.0);
    assert_eq!(value("gw_queue_length", "queue=\"log:a\""), 2.0);
    assert_eq!(value("gw_queue_dropped_total", "queue=\"log:a\""), 1.0);
    assert_eq!(value("gw_cache_category_saved_total", "category=\"chat\""), 0.5);
    assert_eq!(value("gw_top_used", "key=\"spend:1\",meter=\"usd\",window=\"hour\""), 1.5);
    assert_eq!(value("gw_top_denied", "key=\"rpm:1\",by=\"GW.ALLOW\",window=\"minute\""), 1.0);
    let day = "account=\"acc\",policy=\"day\",kind=\"budget\",meter=\"usd\"";
    assert_eq!((value("gw_policy_limit", day), value("gw_policy_used", day)), (20.0, 5.0));
    let reset = value("gw_policy_reset_seconds", day);
    assert!(0.0 < reset && reset <= 86_400.0, "{reset}");
    assert_eq!(value("gw_budget_used_ratio", "account=\"acc\",policy=\"day\",meter=\"usd\""), 0.25);
    // A key that may not be shown is none, and is counted.
    assert!(!text.contains("secret:1"));
    let find = |line: &str| assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    find("gw_exporter_dropped_series{metric=\"gw_top_denied\"} 1");
    find("gw_job_up{job=\"ship log:b\"} 0");
    find("gw_ship_waiting_records{queue=\"log:b\"} 1");
    // A queue is no account: the server says so, and the rest is shown.
    let refused = format!("gw_scrape_errors{{{primary},command=\"GW.ADMIT\"}} 1");
    find(&refused);

    // Every counter that the module has.
    let stats: Vec<String> = cmd("GW.STATS").query::<Vec<String>>(&mut client).unwrap();
    for name in stats.iter().step_by(2) {
        let is_shown =
            |(shown, ..): (&str, &str, f64)| shown == format!("gw_{name}") || shown == format!("gw_{name}_total");
        assert!(series(&text).any(is_shown), "{name}");
    }
    prometheus::check(&text);
    gw.stop();
}

/// The names in the book's table, which is made of the source.
fn metrics_of_the_book() -> Vec<String> {
    let rows = book("metrics.md");
    let rows = rows.lines().filter_map(|line| line.strip_prefix("| `gw_"));
    rows.map(|row| format!("gw_{}", row.split('`').next().unwrap())).collect()
}

#[test]
fn what_may_be_shown_is_bounded() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    for number in 0..30 {
        reply!(client, "GW.CACHEGET", format!("c{number}:key"));
        reply!(client, "GW.ALLOW", format!("rpm:{number}"), 0);
    }
    let config = format!(
        "[server]\nurl = \"redis://127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [metrics]\ntimeout = \"20s\"\ncategories = 3\ntop_keys = [\"*\"]\ntop_count = 5\n",
        server.port()
    );
    let gw = Gw::start(&config);
    let text = gw.metrics();
    let count = |name: &str| series(&text).filter(|(other, ..)| *other == name).count();
    assert_eq!((count("gw_cache_category_misses_total"), count("gw_top_denied_error_bound")), (3, 5), "{text}");
    for dropped in ["{metric=\"gw_cache_category_misses_total\"} 27", "{metric=\"gw_top_denied\"} 25"] {
        assert!(text.contains(&format!("gw_exporter_dropped_series{dropped}\n")), "{text}");
    }
    gw.stop();
}

#[test]
fn a_cluster_is_followed_and_a_node_that_hangs_is_down() {
    let mut cluster = Cluster::start(&Server::options(), 3, 1).unwrap();
    let ports = cluster.ports();
    let mut client = cluster.primary_of("log:q").unwrap().connect().unwrap();
    call!(client, "GW.LOGPUSH", "log:q", "RECORDS", "x" => redis::Value);
    let config = format!(
        "[server]\nurl = \"redis://127.0.0.1:{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n\
         [metrics]\ntimeout = \"5s\"\nqueues = [\"log:q\"]\n",
        ports[0]
    );
    let gw = Gw::start(&config);
    let up = |text: &str, value: f64| {
        let up = series(text).filter(|(name, _, is)| *name == "gw_up" && *is == value);
        up.map(|(_, labels, _)| labels.to_owned()).collect::<BTreeSet<_>>()
    };
    let mut text = String::new();
    let are_up = || {
        text = gw.metrics();
        up(&text, 1.0).len() == 6
    };
    await_until("all nodes to be up", DEADLINE, are_up).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let (primaries, replicas): (Vec<_>, Vec<_>) =
        up(&text, 1.0).into_iter().partition(|labels| labels.contains("primary"));
    assert_eq!((primaries.len(), replicas.len()), (3, 3));
    // The queue is shown by the node that has it, and by no other.
    let owner = cluster.primary_of("log:q").unwrap().port();
    assert!(key_slot("log:q") < 16_384);
    let queues: Vec<_> = series(&text).filter(|(name, ..)| *name == "gw_queue_length").collect();
    assert_eq!(
        queues,
        [("gw_queue_length", &*format!("node=\"127.0.0.1:{owner}\",role=\"primary\",queue=\"log:q\""), 1.0)]
    );

    let hung = *ports.last().unwrap();
    cluster.node_mut(hung).unwrap().pause().unwrap();
    let is_down = || {
        let started = Instant::now();
        let text = gw.metrics();
        // The bound is 5 s; the rest is room for a machine that is busy.
        assert!(started.elapsed() < Duration::from_secs(60));
        let down = up(&text, 0.0);
        down.len() == 1 && down.iter().all(|labels| labels.contains(&format!(":{hung}\""))) && up(&text, 1.0).len() == 5
    };
    await_until("the node to be down", DEADLINE, is_down).unwrap();
    cluster.node_mut(hung).unwrap().go_on().unwrap();
    await_until("the node to be up again", DEADLINE, || up(&gw.metrics(), 1.0).len() == 6).unwrap();
    gw.stop();
}

#[test]
fn a_server_that_was_never_reached_is_down() {
    let gw = Gw::start("[server]\nurl = \"redis://127.0.0.1:1\"\n[http]\nlisten = \"127.0.0.1:0\"\n");
    let text = gw.metrics();
    assert!(text.contains("gw_up{node=\"127.0.0.1:1\",role=\"unknown\"} 0\n"), "{text}");
    prometheus::check(&text);
    gw.stop();
}

#[test]
fn the_primary_that_sentinels_name_is_shown() {
    let mut watched = Watched::start(&Server::options(), 2, Duration::from_secs(2)).unwrap();
    // One of the sentinels is away. The address itself leads nowhere.
    let mut sentinels: Vec<String> = watched.sentinels().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    sentinels.insert(0, "127.0.0.1:1".to_owned());
    let gw = Gw::start(&format!(
        "[server]\nurl = \"redis://127.0.0.1:1\"\nsentinels = {sentinels:?}\nservice = {SENTINEL_NAME:?}\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[metrics]\n"
    ));
    let await_primary = |watched: &Watched| {
        let mut text = String::new();
        let is_shown = || {
            text = gw.metrics();
            let Ok(primary) = watched.primary() else { return false };
            let labels = format!("node=\"127.0.0.1:{}\",role=\"primary\"", primary.port());
            let up: Vec<_> = series(&text).filter(|(name, ..)| *name == "gw_up").collect();
            // One that is down keeps its role, with 0.
            let is_primary = |labels: &str, value| labels.contains("role=\"primary\"") && value == 1.0;
            let primaries = up.iter().filter(|(_, labels, value)| is_primary(labels, *value)).count();
            up.contains(&("gw_up", &*labels, 1.0)) && primaries == 1
        };
        let shown = await_until("the primary alone to be shown as one", DEADLINE, is_shown);
        assert!(shown.is_ok(), "{text}");
    };
    await_primary(&watched);
    watched.kill_primary().unwrap();
    await_primary(&watched);
    gw.stop();
}
