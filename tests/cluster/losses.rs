//! A failover that loses what was acknowledged: what the documentation says is lost, and nothing more; and what a client
//! then does about it. See docs/src/operating/failover.md.

use crate::load::command;
use crate::setting::compare;
use gw_testkit::redis::Connection;
use gw_testkit::{Cluster, DEADLINE, Layout, Server, await_in_sync, await_until, call, reply_line};

/// The key's name stands for one with a hash tag.
fn run(client: &mut Connection, words: &str) -> String {
    reply_line(command(&words.replace("k:", "{k}:")).query(client))
}

/// A reply of several fields.
fn fields(client: &mut Connection, words: &str) -> Vec<String> {
    let reply = run(client, words);
    let fields = reply.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_else(|| panic!("{reply}"));
    fields.split(", ").map(|field| field.trim_matches('"').to_owned()).collect()
}

/// A primary whose replica no longer hears of it, then replaced by this replica.
struct Loss {
    cluster: Cluster,
    primary: u16,
}

impl Loss {
    /// Runs `before` on a primary, cuts its replica off, and runs `lost`.
    fn new(before: &[&str], lost: &[&str]) -> Self {
        let cluster = Layout::new(&Server::options(), 1, 1).behind_proxies().start().unwrap();
        let primary = cluster.primary_of("{k}").unwrap();
        let mut client = primary.connect().unwrap();
        let check = |client: &mut Connection, words: &str| {
            let reply = run(client, words);
            assert!(!reply.starts_with("ERR"), "{words}: {reply}");
        };
        before.iter().for_each(|words| check(&mut client, words));
        let replica = cluster.replicas_of(primary).unwrap()[0];
        await_in_sync(&mut client, &mut replica.connect().unwrap());
        let primary = primary.port();
        cluster.cut_replicas_of(primary).unwrap();
        lost.iter().for_each(|words| check(&mut client, words));
        Self { cluster, primary }
    }

    fn client(&self) -> Connection {
        self.cluster.node(self.primary).unwrap().connect().unwrap()
    }

    /// The replica takes over. Returns a connection to it.
    fn fail_over(&mut self) -> Connection {
        let old = self.primary;
        self.primary = self.cluster.lose_primary(old).unwrap();
        self.cluster.proxy_of(old).unwrap().heal();
        self.client()
    }

    /// The old primary comes back, and has what the new one has.
    fn come_back(mut self) {
        for node in self.cluster.nodes_mut() {
            if node.pid().is_none() {
                node.start_again().unwrap();
            }
        }
        self.cluster.await_agreement().unwrap();
        let primary = self.cluster.node(self.primary).unwrap();
        compare(primary, self.cluster.replicas_of(primary).unwrap()[0]);
    }
}

#[test]
fn limiters_admit_what_was_lost_and_no_more() {
    let mut loss = Loss::new(
        &[
            "GW.ALLOW k:window 10 WINDOW 3600000 COST 4",
            "GW.TOKENS k:bucket 1 10 PER 3600000 COST 4",
            "GW.ACQUIRE k:slots 2 early TTL 3600000",
        ],
        &["GW.ALLOW k:window 10 WINDOW 3600000 COST 5", "GW.TOKENS k:bucket 1 10 PER 3600000 COST 5"],
    );
    let early = fields(&mut loss.client(), "GW.ACQUIRE k:slots 2 early TTL 3600000");
    let lost = fields(&mut loss.client(), "GW.ACQUIRE k:slots 2 lost TTL 3600000");
    let mut client = loss.fail_over();
    for (more, allowed) in [(7, "0"), (6, "1"), (1, "0")] {
        let window = fields(&mut client, &format!("GW.ALLOW k:window 10 WINDOW 3600000 COST {more}"));
        let bucket = fields(&mut client, &format!("GW.TOKENS k:bucket 1 10 PER 3600000 COST {more}"));
        assert_eq!((&*window[0], &*bucket[0]), (allowed, allowed), "{more}");
    }
    // The slot that has arrived stays with its holder. The lost one is free, and its next token is larger.
    let next = fields(&mut client, "GW.ACQUIRE k:slots 2 next TTL 3600000");
    assert_eq!(next[..2], ["1", "2"]);
    assert!(next[4].parse::<i64>().unwrap() > lost[4].parse().unwrap(), "{next:?} after {lost:?}");
    assert_eq!(fields(&mut client, "GW.ACQUIRE k:slots 2 early TTL 3600000")[4], early[4]);
    assert_eq!(fields(&mut client, "GW.ACQUIRE k:slots 2 lost TTL 3600000")[0], "0");
    loss.come_back();
}

#[test]
fn lost_charges_holds_and_admissions_are_booked_once_when_they_are_sent_again() {
    let mut loss = Loss::new(
        &[
            "GW.ADDCOST k:ledger 1 ID early",
            "GW.RESERVE k:ledger 10 1000 TOTAL TTL 3600000 ID held",
            "GW.POLICYSET k:account money BUDGET 1000 TOTAL",
            "GW.POLICYSET k:account slots INFLIGHT 5",
            "GW.ADMIT k:account LEASE early TTL 3600000 usd 1",
        ],
        &[
            "GW.ADDCOST k:ledger 20 ID lost",
            "GW.RESERVE k:ledger 300 1000 TOTAL TTL 3600000 ID unheld",
            "GW.COMMIT k:ledger held 11",
            "GW.SETTLE k:account LEASE early usd 2",
            "GW.ADMIT k:account LEASE lost TTL 3600000 usd 30",
        ],
    );
    let mut client = loss.fail_over();
    assert_eq!(run(&mut client, "GW.SPENT k:ledger TOTAL"), "\"1\"");
    assert_eq!(fields(&mut client, "GW.WITHINBUDGET k:ledger 1000 TOTAL")[4], "10");
    assert_eq!(run(&mut client, "GW.SPENT k:account TOTAL"), "\"0\"");
    // Twice, because the client may not know that the first one has arrived.
    for _ in 0..2 {
        run(&mut client, "GW.ADDCOST k:ledger 1 ID early");
        run(&mut client, "GW.ADDCOST k:ledger 20 ID lost");
        assert_eq!(fields(&mut client, "GW.COMMIT k:ledger held 11")[1..3], ["committed", "11"]);
        run(&mut client, "GW.SETTLE k:account LEASE early usd 2");
    }
    // A lost hold is charged under its id.
    assert!(run(&mut client, "GW.COMMIT k:ledger unheld 300").starts_with("NOHOLD "));
    for _ in 0..2 {
        run(&mut client, "GW.ADDCOST k:ledger 300 ID unheld");
    }
    assert_eq!(run(&mut client, "GW.SPENT k:ledger TOTAL"), "\"332\"");
    assert_eq!(fields(&mut client, "GW.WITHINBUDGET k:ledger 1000 TOTAL")[4], "0");
    // A lost admission is made again under its lease, and settled.
    assert_eq!(run(&mut client, "GW.SETTLE k:account LEASE lost usd 40"), "\"UNKNOWN\"");
    for outcome in ["SETTLED", "REPEATED"] {
        let again = run(&mut client, "GW.ADMIT k:account LEASE lost TTL 3600000 usd 30 ROWS NONE");
        assert!(again == "[1, 0, []]" || outcome == "REPEATED" && again.starts_with("LEASEENDED "), "{again}");
        assert_eq!(run(&mut client, "GW.SETTLE k:account LEASE lost usd 40"), format!("\"{outcome}\""));
    }
    assert_eq!(run(&mut client, "GW.SPENT k:account TOTAL"), "\"42\"");
    loss.come_back();
}

#[test]
fn lost_records_are_stored_once_when_they_are_pushed_again_and_lost_pops_are_undone() {
    let mut loss = Loss::new(&["GW.LOGPUSH k:queue ID early RECORDS a b c d"], &[]);
    let mut client = loss.client();
    loss.cluster.proxy_of(loss.primary).unwrap().heal();
    loss.cluster.await_agreement().unwrap();
    let pop = |client: &mut Connection, count: u32| -> (String, Vec<String>, u64) {
        let popped = command(&format!("GW.LOGPOP {{k}}:queue COUNT {count} LEASE 3600000")).query(client);
        popped.unwrap()
    };
    let early = pop(&mut client, 1);
    let replica = loss.cluster.replicas_of(loss.cluster.node(loss.primary).unwrap()).unwrap()[0];
    await_in_sync(&mut client, &mut replica.connect().unwrap());
    loss.cluster.cut_replicas_of(loss.primary).unwrap();
    let lost = pop(&mut client, 2);
    assert_eq!((&*early.1, &*lost.1), (&["a".to_owned()][..], &["b".to_owned(), "c".to_owned()][..]));
    let acknowledge = |client: &mut Connection, batch: &str| run(client, &format!("GW.LOGACK k:queue {batch}"));
    assert_eq!(acknowledge(&mut client, &early.0), "1");
    run(&mut client, "GW.LOGPUSH k:queue ID lost RECORDS e f");

    let mut client = loss.fail_over();
    assert_eq!(run(&mut client, "GW.LOGLEN k:queue"), "3");
    // Nobody knows the lost batch. Its records come in a batch with another id, since it need not be the same records.
    assert_eq!(acknowledge(&mut client, &lost.0), "0");
    let next = pop(&mut client, 3);
    assert_eq!(next.1, ["b", "c", "d"]);
    assert_ne!(next.0, lost.0, "two batches have one id");
    // The lost acknowledgement is sent again, or the batch would come back under its id.
    assert_eq!(run(&mut client, &format!("GW.LOGEXTEND k:queue {} LEASE 1", early.0)), "1");
    let mut again = None;
    await_until("the batch to come back", DEADLINE, || {
        again = command("GW.LOGPOP {k}:queue LEASE 3600000").query(&mut client).unwrap();
        again.is_some()
    })
    .unwrap();
    let again: (String, Vec<String>, u64) = again.unwrap();
    assert_eq!((again.0, again.1, again.2), (early.0.clone(), early.1, 2));
    assert_eq!(acknowledge(&mut client, &early.0), "1");
    for (push, stored) in [("ID early RECORDS a b c d", 0), ("ID lost RECORDS e f", 2), ("ID lost RECORDS e f", 2)] {
        assert_eq!(run(&mut client, &format!("GW.LOGPUSH k:queue {push}")), format!("[{stored}, 0]"), "{push}");
    }
    loss.come_back();
}

#[test]
fn lost_entries_are_misses_and_a_lost_clear_leaves_entries_there() {
    let mut loss = Loss::new(
        &["GW.CACHESET k:old kept EX 3600 TAG t", "GW.CACHESET k:cleared kept EX 3600 TAG t"],
        &[
            "GW.CACHESET k:new lost EX 3600",
            "GW.CACHESET k:old lost EX 3600",
            "GW.CACHEFETCH k:leased LEASE 3600000",
            "GW.CACHECLEAR TAG t",
        ],
    );
    let old: (String, Option<String>, i64, i64, i64) =
        command("GW.CACHEFETCH {k}:leased LEASE 3600000 HOLDER again").query(&mut loss.client()).unwrap();
    assert_eq!(old.0, "PENDING");
    let mut client = loss.fail_over();
    assert_eq!(run(&mut client, "GW.CACHEGET k:new"), "nil");
    assert_eq!(run(&mut client, "GW.CACHEGET k:old"), "\"kept\"");
    assert_eq!(run(&mut client, "GW.CACHEGET k:cleared"), "\"kept\"");
    // Fill leases are the memory of one node.
    let fetched = fields(&mut client, "GW.CACHEFETCH k:leased LEASE 3600000");
    assert_eq!(fetched[0], "MISS");
    assert_ne!(fetched[4], "0");
    // The index of tags, too, is right on the new primary.
    assert_eq!(call!(client, "GW.CACHECLEAR", "TAG", "t" => i64), 2);
    loss.come_back();
}

/// A repetition over another connection writes nothing. On newer servers WAIT then has nothing to wait for.
#[test]
fn wait_needs_a_write_to_confirm_what_another_connection_has_written() {
    let primary = Server::start().unwrap();
    let mut replica = Server::options().replica_of(&primary).start().unwrap();
    let (mut first, mut second) = (primary.connect().unwrap(), primary.connect().unwrap());
    await_in_sync(&mut first, &mut replica.connect().unwrap());
    replica.pause().unwrap();
    assert_eq!(run(&mut first, "GW.ADDCOST k:ledger 1 ID charge"), "\"1\"");
    assert_eq!(run(&mut first, "WAIT 1 50"), "0");
    assert_eq!(run(&mut second, "GW.ADDCOST k:ledger 1 ID charge"), "\"1\"");
    let confirmed_by = if primary.binary().version < (7, 2, 0) { "0" } else { "1" };
    assert_eq!(run(&mut second, "WAIT 1 50"), confirmed_by);
    assert_eq!(run(&mut second, "SET k:mark 1"), "OK");
    assert_eq!(run(&mut second, "WAIT 1 50"), "0");
    replica.go_on().unwrap();
    assert_eq!(run(&mut second, "WAIT 1 0"), "1");
}
