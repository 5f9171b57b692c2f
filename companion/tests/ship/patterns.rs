//! Queues that are found by patterns.

use gw_testkit::{Cluster, DEADLINE, Server, await_until, call, live};

use crate::support::{Companion, await_empty, config, figures, is_empty, objects};

#[test]
fn queues_that_match_are_shipped_when_they_appear() {
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    // Neither is a queue that matches.
    call!(client, "SET", "logs:text", "x" => ());
    call!(client, "GW.LOGPUSH", "other", "1" => Vec<u64>);
    let queues: Vec<String> = (0..live(20, 100)).map(|number| format!("logs:{number}")).collect();
    for queue in &queues[1..] {
        call!(client, "GW.LOGPUSH", queue, format!("{queue:?}") => Vec<u64>);
    }
    let store = server.dir().join("shipped");
    let companion = Companion::start(
        server.dir(),
        "gw",
        &config(server.port(), &["logs:*"], store.to_str().unwrap(), "threads = 2"),
    );
    let mut client = server.connect().unwrap();
    for queue in &queues[1..] {
        await_empty(&mut client, queue);
    }
    // One comes, and one goes.
    call!(client, "GW.LOGPUSH", &queues[0], format!("{:?}", queues[0]) => Vec<u64>);
    call!(client, "DEL", &queues[1] => u64);
    await_empty(&mut client, &queues[0]);
    assert_eq!(figures(&mut client, "other")["length"], 1);
    let (status, log) = companion.stop();
    assert!(status.success() && !log.contains("WRONGTYPE"), "{log}");
    let mut shipped: Vec<String> = objects(&store).into_values().flatten().collect();
    shipped.sort();
    let mut expected: Vec<String> = queues.iter().map(|queue| format!("{queue:?}")).collect();
    expected.sort();
    assert_eq!(shipped, expected);
}

#[test]
fn each_primary_of_a_cluster_is_asked() {
    let cluster = Cluster::start(&Server::options(), 3, 0).unwrap();
    let queues: Vec<String> = (0..12).map(|number| format!("logs:{number}")).collect();
    for queue in &queues {
        let mut client = cluster.primary_of(queue).unwrap().connect().unwrap();
        call!(client, "GW.LOGPUSH", queue, "1" => Vec<u64>);
    }
    let folder = cluster.nodes()[0].dir();
    let store = folder.join("shipped");
    let companion =
        Companion::start(folder, "gw", &config(cluster.ports()[0], &["logs:*"], store.to_str().unwrap(), ""));
    for queue in &queues {
        let mut client = cluster.primary_of(queue).unwrap().connect().unwrap();
        await_until("the queue to be empty", DEADLINE, || is_empty(&mut client, queue)).unwrap();
    }
    assert!(companion.stop().0.success());
    assert_eq!(objects(&store).len(), queues.len());
}
