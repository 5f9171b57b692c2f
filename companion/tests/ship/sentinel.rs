//! A primary that sentinels watch over: the companion follows it through failovers.

use std::time::Duration;

use gw_testkit::redis::cmd;
use gw_testkit::{Caller, DEADLINE, Discovery, Outcome, SENTINEL_NAME, Server, Watched, await_until};

use crate::support::{Companion, config, is_empty, objects};

#[test]
fn the_primary_is_followed_through_failovers() {
    let mut watched = Watched::start(&Server::options(), 2, Duration::from_secs(2)).unwrap();
    let folder = std::env::temp_dir().join(format!("gw-ship-sentinel-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let store = folder.join("shipped");
    // One of the sentinels is away.
    let mut sentinels: Vec<String> = watched.sentinels().iter().map(|port| format!("127.0.0.1:{port}")).collect();
    sentinels.insert(0, "127.0.0.1:1".to_owned());
    let config = config(1, &["q"], store.to_str().unwrap(), "")
        .replace("[[ship]]", &format!("sentinels = {sentinels:?}\nservice = {SENTINEL_NAME:?}\n[[ship]]"));
    let companion = Companion::start(&folder, "gw", &config);
    let mut caller = Caller::new(Discovery::Sentinels(watched.sentinels()));
    let mut push = |record: &str| {
        let mut push = cmd("GW.LOGPUSH");
        push.arg("q").arg(record);
        while !matches!(caller.call("q", &push).unwrap(), Outcome::Replied(_)) {}
    };
    let await_empty = |watched: &Watched| {
        await_until("the queue to be empty", DEADLINE, || {
            watched.primary().is_ok_and(|primary| is_empty(&mut primary.connect().unwrap(), "q"))
        })
        .unwrap();
    };
    push("1");
    await_empty(&watched);
    for record in ["2", "3"] {
        watched.kill_primary().unwrap();
        push(record);
        await_empty(&watched);
        watched.start_again().unwrap();
    }
    let (status, log) = companion.stop();
    assert!(status.success(), "{log}");
    let shipped: Vec<String> = objects(&store).into_values().flatten().collect();
    std::fs::remove_dir_all(&folder).unwrap();
    for record in ["1", "2", "3"] {
        assert!(shipped.iter().any(|shipped| shipped == record), "{shipped:?}");
    }
}
