use std::convert::Infallible;
use std::time::Duration;

use gw_testkit::{Cluster, Layout, Server, call, tag_of};
use redis::IntoConnectionInfo;
use redis_gateway_client::commands::{cache_set, stats};
use redis_gateway_client::{
    AdmitOptions, AllowOptions, Amount, CacheOptions, EntryOptions, Gateway, LogOptions, Outcome, RouteOptions,
    Settings, Settlement, SlotOptions,
};

use crate::support::*;

/// An account in the slot of the node at this place.
fn account_at(cluster: &Cluster, place: usize, name: &str) -> String {
    let ports = cluster.ports();
    (0..)
        .map(|at| format!("{{{at}}}{name}"))
        .find(|account| cluster.primary_of(account).unwrap().port() == ports[place])
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn protocols() {
    let server = Server::start().unwrap();
    let mut found = Vec::new();
    for protocol in ["resp2", "resp3"] {
        call!(server.connect().unwrap(), "FLUSHALL" => ());
        policies(&server, "a", &[BUDGET, &rpm(5)]);
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port())).unwrap();
        let gateway = Gateway::new(&client, patient()).unwrap();
        let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
        let rows: Vec<_> = admission.rows().iter().map(|row| (row.policy.clone(), row.remaining, row.used)).collect();
        let limit = gateway.allow("k", 3, &AllowOptions::default()).await.unwrap();
        let cache = gateway.cache("chat", CacheOptions::default());
        let all: Vec<u8> = (0..=255).collect();
        let value = cache.get_or_compute("{}", &EntryOptions::default(), || async { Ok::<_, Infallible>(all) }).await;
        let settled = admission.settle().await.unwrap();
        found.push((rows, limit.remaining, value.unwrap(), settled, cache.get("{}").await.unwrap()));
        gateway.close().await;
    }
    assert_eq!(found[0], found[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_applications_client_is_left_alone() {
    let server = Server::start().unwrap();
    let client = client(server.port());
    let before = format!("{:?}", client.get_connection_info());
    let mut own = client.get_multiplexed_async_connection().await.unwrap();
    let gateway = Gateway::new(&client, patient()).unwrap();
    gateway.allow("k", 3, &AllowOptions::default()).await.unwrap();
    gateway.close().await;
    redis::cmd("PING").exec_async(&mut own).await.unwrap();
    assert_eq!(format!("{:?}", client.get_connection_info()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_role() {
    let server = Server::start().unwrap();
    let config = std::fs::read_to_string(gw_testkit::project_root().join("redis.conf")).unwrap();
    let (_, role) = config.split_once("#user gateway ").unwrap();
    let role = role.lines().next().unwrap().replace("CHANGE-ME", "secret");
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg("gateway");
    for word in role.split(' ') {
        command.arg(word);
    }
    command.exec(&mut server.connect().unwrap()).unwrap();
    policies(&server, "{ml}", &[&rpm(5)]);
    policies(&server, "{gpt}:eu", &[&rpm(5)]);
    let user = redis::RedisConnectionInfo::default().set_username("gateway").set_password("secret");
    let info = ("127.0.0.1", server.port()).into_connection_info().unwrap().set_redis_settings(user);
    let gateway = Gateway::new(&redis::Client::open(info).unwrap(), patient()).unwrap();
    assert!(gateway.health().await.ok);
    let estimates = amounts(&[("usd", "1")]);
    let mut request = gateway.request(["{ml}"], ["{gpt}:eu"], estimates, &RouteOptions::default()).await.unwrap();
    request.next().await.unwrap().unwrap().settle().await.unwrap();
    request.settle().await.unwrap();
    assert_eq!(gateway.allow("rpm:user", 1, &AllowOptions::default()).await.unwrap().outcome, Outcome::Admitted);
    let cache = gateway.cache("chat", CacheOptions::default());
    let compute = || async { Ok::<_, Infallible>("answer") };
    cache.get_or_compute("{}", &EntryOptions::default(), compute).await.unwrap();
    assert!(cache.get("{}").await.unwrap().is_some());
    let wait = SlotOptions { wait: Duration::from_secs(1), ..SlotOptions::default() };
    assert!(gateway.slot("inflight:a", 2, &wait).await.unwrap().release().await.unwrap());
    gateway.charge("spend:a", amount("1"), &Default::default()).await.unwrap();
    let logs = gateway.logs("log:requests", LogOptions::default());
    logs.push("{}");
    assert!(logs.flush().await);
    gateway.close().await;
    assert_eq!((gateway.kept(), gateway.figures().count("kept_refused")), (0, 0));
    assert_eq!(logs.dropped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_targets_of_a_cluster() {
    let cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let gateway = Gateway::cluster(&client(cluster.ports()[0]), patient()).unwrap();
    let accounts: Vec<String> = (0..3).map(|place| account_at(&cluster, place, "a")).collect();
    for (place, account) in accounts.iter().enumerate() {
        policies(&cluster.nodes()[place], account, &[BUDGET, IN_FLIGHT]);
    }
    // Slot by slot, in their order.
    let options = AdmitOptions::default();
    let admission = gateway.admit(accounts.clone(), amounts(&[("usd", "2")]), &options).await.unwrap();
    assert!(admission.is_ok());
    let rows: Vec<_> = admission.rows().iter().map(|row| row.account.to_string()).collect();
    assert_eq!(rows, accounts.iter().flat_map(|account| [account.clone(), account.clone()]).collect::<Vec<_>>());
    // If the last one refuses, those before it are undone.
    let busy = gateway.admit([accounts[2].as_str()], amounts(&[]), &options).await.unwrap();
    assert!(!busy.is_ok());
    assert_eq!(admission.settle().await.unwrap(), Settlement::Settled);
    let held = gateway.admit([accounts[2].as_str()], amounts(&[]), &options).await.unwrap();
    let denied = gateway.admit(accounts.clone(), amounts(&[("usd", "2")]), &options).await.unwrap();
    assert_eq!((denied.is_ok(), denied.reason()), (false, Some("limit")));
    for (node, name) in cluster.nodes().iter().zip(&accounts).take(2) {
        assert_eq!((account(node, name).in_flight, spent_of(node, name)), (0, amount("2")));
    }
    held.settle().await.unwrap();
    // Targets in several slots.
    let targets: Vec<String> = (0..3).map(|place| account_at(&cluster, place, "t")).collect();
    for (place, target) in targets.iter().enumerate() {
        policies(&cluster.nodes()[place], target, &[&rpm(1)]);
    }
    for expected in &targets {
        let attempt = gateway.route(targets.clone(), amounts(&[]), &RouteOptions::default()).await.unwrap();
        assert_eq!(attempt.target().unwrap().to_string(), *expected);
        attempt.settle().await.unwrap();
    }
    let denied = gateway.route(targets, amounts(&[]), &RouteOptions::default()).await.unwrap();
    assert_eq!((denied.reason(), denied.refusals().count()), (Some("limit"), 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_entries_of_a_cluster() {
    let cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let gateway = Gateway::cluster(&client(cluster.ports()[0]), patient()).unwrap();
    let cache = gateway.cache("chat", CacheOptions::default());
    let requests: Vec<String> = (0..150).map(|at| format!(r#"{{"at":{at}}}"#)).collect();
    let entries: Vec<_> = requests.iter().map(|request| (request, request)).collect();
    assert_eq!(cache.set_many(&entries, &EntryOptions::default()).await.unwrap(), 150);
    // Slots have moved since: what was redirected is asked for alone.
    let (from, to) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    cluster.reshard(300, from, to).unwrap();
    let found = cache.get_many(&requests).await.unwrap();
    assert!(found.iter().zip(&requests).all(|(value, request)| value.as_deref() == Some(request.as_bytes())));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_primary_is_asked() {
    let mut cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let gateway = Gateway::cluster(&client(cluster.ports()[0]), patient()).unwrap();
    let cache = gateway.cache("chat", CacheOptions::default());
    assert_eq!(gateway.run_everywhere(&stats()).await.unwrap().len(), 3);
    for place in 0..3 {
        let key = account_at(&cluster, place, "x");
        let options =
            redis_gateway_client::commands::CacheSetOptions { category: Some("chat".into()), ..Default::default() };
        gateway.run(&cache_set(key, "x", &options)).await.unwrap();
    }
    // Also one that has joined since.
    let added = cluster.add_primary().unwrap();
    let (old, new) = (cluster.node(cluster.ports()[0]).unwrap(), cluster.node(added).unwrap());
    cluster.reshard(100, old, new).unwrap();
    let mut connection = new.connect().unwrap();
    let key =
        (0..).map(|at| format!("{{{at}}}new")).find(|key| cluster.primary_of(key).unwrap().port() == added).unwrap();
    call!(connection, "GW.CACHESET", key, "x", "CATEGORY", "chat" => ());
    assert_eq!(cache.clear().await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_under_load() {
    let cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let gateway = Gateway::cluster(&client(cluster.ports()[0]), patient()).unwrap();
    let slot = 42;
    let accounts: Vec<String> = (0..4).map(|at| format!("{{{}}}{at}", tag_of(slot))).collect();
    let home = cluster.primary_of(&accounts[0]).unwrap();
    for account in &accounts {
        policies(home, account, &[r#"{"name":"month","kind":"budget","amount":"1000000","period":"month"}"#]);
    }
    let (end, ended) = tokio::sync::watch::channel(false);
    let tasks: Vec<_> = accounts
        .iter()
        .cloned()
        .map(|account| {
            let (own, ended) = (gateway.clone(), ended.clone());
            tokio::spawn(async move {
                let mut settled = 0;
                while !*ended.borrow() || settled < 50 {
                    let options = AdmitOptions::default();
                    let asked = own.admit([account.as_str()], amounts(&[("usd", "1")]), &options).await.unwrap();
                    if asked.is_ok() {
                        asked.settle().await.unwrap();
                        settled += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                settled
            })
        })
        .collect();
    let other = cluster.nodes().iter().find(|node| node.port() != home.port()).unwrap();
    for (from, to) in [(home, other), (other, home), (home, other)] {
        cluster.move_slot(slot, from, to).unwrap();
    }
    end.send(true).unwrap();
    let mut counts = Vec::new();
    for task in tasks {
        counts.push(task.await.unwrap());
    }
    until("all that was kept to arrive", || gateway.kept() == 0).await;
    for (account, count) in accounts.iter().zip(counts) {
        assert_eq!(spent_of(other, account), Amount::from(count), "{account}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_silent_holds_up_no_other() {
    let mut cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let [first, second] = [0, 1].map(|place| account_at(&cluster, place, "k"));
    let mut settings = brisk();
    settings.timeout = Duration::from_secs(1);
    settings.connect_timeout = Duration::from_secs(1);
    let gateway = Gateway::cluster(&client(cluster.ports()[1]), settings).unwrap();
    for key in [&first, &second] {
        gateway.charge(key, amount("1"), &Default::default()).await.unwrap();
    }
    cluster.nodes_mut()[0].pause().unwrap();
    for _ in 0..5 {
        assert_eq!(gateway.charge(&first, amount("1"), &Default::default()).await.unwrap(), Settlement::Kept);
    }
    // Its circuit is open, and that of the other one is not.
    assert_eq!(gateway.charge(&second, amount("1"), &Default::default()).await.unwrap(), Settlement::Settled);
    assert!(gateway.health().await.circuits_open <= 1);
    cluster.nodes_mut()[0].go_on().unwrap();
    until("what was kept to arrive", || gateway.kept() == 0).await;
    assert_eq!(spent_of(&cluster.nodes()[0], &first), amount("6"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_doubles_nothing() {
    let options = Server::options();
    let mut cluster = Layout::new(&options, 3, 1).fails_over_after(Duration::from_millis(1_500)).start().unwrap();
    let ports = cluster.ports();
    let settings = Settings { away: redis_gateway_client::Away { ..Default::default() }, ..brisk() };
    let gateway = Gateway::cluster(&client(ports[1]), settings).unwrap();
    let key = account_at(&cluster, 0, "k");
    let mut charged = 0;
    for _ in 0..20 {
        gateway.charge(&key, amount("1"), &Default::default()).await.unwrap();
        charged += 1;
    }
    until("all to arrive", || gateway.kept() == 0).await;
    gw_testkit::await_in_sync(
        &mut cluster.nodes()[0].connect().unwrap(),
        &mut cluster.replicas_of(&cluster.nodes()[0]).unwrap()[0].connect().unwrap(),
    );
    let promoted = cluster.kill_primary(ports[0]).unwrap();
    for _ in 0..20 {
        gateway.charge(&key, amount("1"), &Default::default()).await.unwrap();
        charged += 1;
    }
    until("all to arrive", || gateway.kept() == 0).await;
    assert_eq!(spent_of(cluster.node(promoted).unwrap(), &key), Amount::from(charged));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_have_left_are_forgotten() {
    let mut cluster = Cluster::start(&Server::options(), 2, 0).unwrap();
    let added = cluster.add_primary().unwrap();
    cluster.reshard(20, cluster.node(cluster.ports()[0]).unwrap(), cluster.node(added).unwrap()).unwrap();
    let gateway = Gateway::cluster(&client(cluster.ports()[1]), patient()).unwrap();
    let key = account_at(&cluster, 2, "k");
    gateway.charge(&key, amount("1"), &Default::default()).await.unwrap();
    let mut connection = cluster.node(added).unwrap().connect().unwrap();
    let mut clients = || {
        let list: String = call!(connection, "CLIENT", "LIST", "TYPE", "normal" => String);
        list.lines().filter(|line| line.contains("lib-name=redis-rs") || line.contains("cmd=gw.")).count()
    };
    assert!(clients() > 0);
    let home = cluster.node(cluster.ports()[0]).unwrap();
    cluster.reshard(20, cluster.node(added).unwrap(), home).unwrap();
    // The next call is sent to the slot's new node, and the map is asked for.
    gateway.charge(&key, amount("1"), &Default::default()).await.unwrap();
    until("the connections to be closed", || clients() == 0).await;
    assert_eq!(spent_of(home, &key), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_start_with_dead_nodes_costs_no_more_than_another_call() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    // A node that accepts connections, and never replies.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = accepted.clone();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            open.push(stream);
        }
    });
    let hour = Duration::from_secs(3_600);
    let gateway = Gateway::cluster(&client(port), Settings { pause: hour, ..Settings::default() }).unwrap();
    let burst = || async {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let own = gateway.clone();
                tokio::spawn(async move { own.allow("k", 1_000_000, &AllowOptions::default()).await.unwrap().outcome })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Outcome::Degraded);
        }
    };
    let began = std::time::Instant::now();
    burst().await;
    // The nodes are asked once for all calls.
    assert!(accepted.load(Ordering::SeqCst) <= 2, "{accepted:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    while gateway.health().await.circuits_open == 0 {
        burst().await;
    }
    let asked = accepted.load(Ordering::SeqCst);
    for _ in 0..5 {
        burst().await;
    }
    assert_eq!(accepted.load(Ordering::SeqCst), asked);
}
