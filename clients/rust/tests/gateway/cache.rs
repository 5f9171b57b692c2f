use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use gw_testkit::{Direction, Links, call};
use redis_gateway_client::{CacheError, CacheOptions, EntryOptions, Gateway, KeyError, Settings};

use crate::support::*;

const REQUEST: &str = r#"{"model":"small","messages":["Hi"]}"#;

fn options() -> EntryOptions {
    EntryOptions::default()
}

fn counted(gateway: &Gateway) -> BTreeMap<&'static str, u64> {
    gateway.figures().cache.into_iter().map(|((_, result), count)| (result, count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_value_is_not_computed() {
    let (_server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    let compute = || async { Ok::<_, Infallible>("answer") };
    assert_eq!(&*cache.get_or_compute(REQUEST, &options(), compute).await.unwrap(), b"answer");
    let never = || async { Err::<Vec<u8>, _>("it was computed") };
    let reordered = r#"{ "messages": ["Hi"], "model": "small" }"#;
    assert_eq!(&*cache.get_or_compute(reordered, &options(), never).await.unwrap(), b"answer");
    assert_eq!(cache.get(REQUEST).await.unwrap().as_deref(), Some(&b"answer"[..]));
    assert_eq!(counted(&gateway), [("hit", 2), ("miss", 1)].into());
    assert!(cache.delete(REQUEST).await.unwrap());
    assert_eq!(cache.get(REQUEST).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_the_tenants_own() {
    let (_server, gateway) = started(patient());
    let of = |tenant: Option<&str>| {
        gateway.cache("chat", CacheOptions { tenant: tenant.map(str::to_owned), ..Default::default() })
    };
    let keys: Vec<_> = [None, Some(""), Some("a"), Some("b")].map(|tenant| of(tenant).key(REQUEST).unwrap()).into();
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert_eq!(of(Some("a:b")).key(REQUEST), Err(KeyError::Colon));
    let wrong = of(None).get_or_compute("{", &options(), || async { Ok::<_, Infallible>("x") }).await;
    assert_eq!(wrong, Err(CacheError::Key(KeyError::NotJson)));
    let ignoring = gateway.cache("chat", CacheOptions { ignore: vec!["user".into()], ..Default::default() });
    assert_eq!(ignoring.key(r#"{"user":"u1"}"#), ignoring.key("{}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_live_as_long_as_they_are_told() {
    let (server, gateway) = started(patient());
    let mut connection = server.connect().unwrap();
    call!(connection, "CONFIG", "SET", "gw.cache-ttl", "chat=100" => ());
    let with = |ttl, stale| gateway.cache("chat", CacheOptions { ttl, stale, ..Default::default() });
    let minute = Some(Duration::from_secs(60));
    for (cache, longest) in [(with(None, None), 100_000), (with(minute, None), 60_000), (with(minute, minute), 120_000)]
    {
        cache.set(REQUEST, "x", &options()).await.unwrap();
        let left: i64 = call!(connection, "PTTL", cache.key(REQUEST).unwrap());
        assert!(left > longest - 50_000 && left <= longest, "{left}, {longest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_computes_for_all_processes() {
    let (server, gateway) = started(patient());
    let others: Vec<_> = (0..4).map(|_| Gateway::new(&client(server.port()), patient()).unwrap()).collect();
    let computed = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for own in others.iter().chain([&gateway]) {
        let cache = own.cache("chat", CacheOptions::default());
        for _ in 0..10 {
            let (cache, computed) = (cache.clone(), computed.clone());
            tasks.push(tokio::spawn(async move {
                let compute = move || async move {
                    computed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    Ok::<_, Infallible>("answer")
                };
                cache.get_or_compute(REQUEST, &EntryOptions::default(), compute).await.unwrap()
            }));
        }
    }
    for task in tasks {
        assert_eq!(&*task.await.unwrap(), b"answer");
    }
    assert_eq!(computed.load(Ordering::Relaxed), 1);
    let mut all: BTreeMap<_, u64> = BTreeMap::new();
    for own in others.iter().chain([&gateway]) {
        for (result, count) in counted(own) {
            *all.entry(result).or_default() += count;
        }
    }
    assert_eq!((all.values().sum::<u64>(), all["miss"], all["coalesced"]), (50, 1, 45));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_computation_is_the_next_ones() {
    let (server, gateway) = started(patient());
    let other = Gateway::new(&client(server.port()), patient()).unwrap().cache("chat", CacheOptions::default());
    let cache = gateway.cache("chat", CacheOptions::default());
    let (begin, began) = tokio::sync::oneshot::channel();
    let (fail, failing) = tokio::sync::oneshot::channel::<()>();
    let first = tokio::spawn(async move {
        let compute = || async move {
            begin.send(()).unwrap();
            failing.await.unwrap();
            Err::<Vec<u8>, _>("no model")
        };
        cache.get_or_compute(REQUEST, &EntryOptions::default(), compute).await
    });
    began.await.unwrap();
    let second = tokio::spawn(async move {
        other.get_or_compute(REQUEST, &EntryOptions::default(), || async { Ok::<_, Infallible>("second") }).await
    });
    let mut connection = server.connect().unwrap();
    let mut waiting = || call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>)["cache_waiting"];
    until("the other to wait", || waiting() == 1).await;
    fail.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap_err(), CacheError::Compute("no model"));
    assert_eq!(&*second.await.unwrap().unwrap(), b"second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_computation_gives_its_lease_up() {
    let (server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    let own = cache.clone();
    let (begin, began) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let compute = || async move {
            begin.send(()).unwrap();
            std::future::pending::<Result<Vec<u8>, Infallible>>().await
        };
        own.get_or_compute(REQUEST, &EntryOptions::default(), compute).await
    });
    began.await.unwrap();
    task.abort();
    let compute = || async { Ok::<_, Infallible>("second") };
    assert_eq!(&*cache.get_or_compute(REQUEST, &options(), compute).await.unwrap(), b"second");
    let mut connection = server.connect().unwrap();
    let mut leases = || call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>)["cache_fill_leases"];
    until("no lease to be left", || leases() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_reply_loses_no_lease() {
    let (server, proxy, gateway) = behind_proxy(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    cache.get(REQUEST).await.unwrap();
    proxy.lose_next(Direction::Reply);
    let compute = || async { Ok::<_, Infallible>("answer") };
    assert_eq!(&*cache.get_or_compute(REQUEST, &options(), compute).await.unwrap(), b"answer");
    assert!(!proxy.is_about_to_lose());
    let mut connection = server.connect().unwrap();
    let stats = call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>);
    assert_eq!([stats["cache_leader_grants"], stats["cache_sets"], stats["cache_fill_leases"]], [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_value_is_refreshed_in_the_background() {
    let (_server, gateway) = started(patient());
    let settings = CacheOptions {
        ttl: Some(Duration::from_millis(1)),
        stale: Some(Duration::from_secs(3_600)),
        ..Default::default()
    };
    let cache = gateway.cache("chat", settings);
    cache.set(REQUEST, "old", &options()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let compute = || async { Ok::<_, Infallible>("new") };
    assert_eq!(&*cache.get_or_compute(REQUEST, &options(), compute).await.unwrap(), b"old");
    let began = std::time::Instant::now();
    while cache.get(REQUEST).await.unwrap().as_deref() != Some(b"new") {
        assert!(began.elapsed() < gw_testkit::DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(counted(&gateway)["stale"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_calls_hold_up_no_others() {
    let (server, gateway) = started(Settings { waiting_connections: 2, ..patient() });
    let other = Gateway::new(&client(server.port()), patient()).unwrap();
    // Somebody else computes all of these, and takes their time.
    let (end, ended) = tokio::sync::watch::channel(false);
    let mut tasks = Vec::new();
    for at in 0..6 {
        let request = format!(r#"{{"at":{at}}}"#);
        let leads = other.cache("chat", CacheOptions::default());
        let (begin, began) = tokio::sync::oneshot::channel();
        let (mut ended, own) = (ended.clone(), request.clone());
        tasks.push(tokio::spawn(async move {
            let compute = || async move {
                begin.send(()).unwrap();
                ended.wait_for(|ended| *ended).await.unwrap();
                Ok::<_, Infallible>("answer")
            };
            leads.get_or_compute(own, &EntryOptions::default(), compute).await
        }));
        began.await.unwrap();
        let cache = gateway.cache("chat", CacheOptions::default());
        tasks.push(tokio::spawn(async move {
            cache.get_or_compute(request, &EntryOptions::default(), || async { Ok("own") }).await
        }));
    }
    let mut connection = server.connect().unwrap();
    let mut waiting = || call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>)["cache_waiting"];
    until("two to wait", || waiting() == 2).await;
    assert!(gateway.allow("k", 1, &Default::default()).await.unwrap().is_ok());
    end.send(true).unwrap();
    for task in tasks {
        assert_eq!(&*task.await.unwrap().unwrap(), b"answer");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_is_made_of_several_calls() {
    let (server, gateway) = started(Settings { waiting_timeout: Duration::from_millis(500), ..patient() });
    let mut connection = server.connect().unwrap();
    let cache = gateway.cache("chat", CacheOptions::default());
    let key = cache.key(REQUEST).unwrap();
    let (_, _, _, _, token): (String, Option<String>, i64, i64, i64) =
        call!(connection, "GW.CACHEFETCH", &key, "LEASE", 60_000, "HOLDER", "other");
    let own = cache.clone();
    let task = tokio::spawn(async move {
        own.get_or_compute(REQUEST, &EntryOptions::default(), || async { Ok::<_, Infallible>("own") }).await
    });
    // Longer than one call may wait.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    call!(connection, "GW.CACHESET", &key, "theirs", "TOKEN", token => ());
    assert_eq!(&*task.await.unwrap().unwrap(), b"theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_too_long_is_computed_alone() {
    let (server, gateway) = started(patient());
    let mut connection = server.connect().unwrap();
    let cache = gateway.cache("chat", CacheOptions { wait: Duration::from_millis(200), ..CacheOptions::default() });
    let key = cache.key(REQUEST).unwrap();
    call!(connection, "GW.CACHEFETCH", &key, "LEASE", 60_000, "HOLDER", "other" => redis::Value);
    let compute = || async { Ok::<_, Infallible>("own") };
    assert_eq!(&*cache.get_or_compute(REQUEST, &options(), compute).await.unwrap(), b"own");
    assert_eq!(counted(&gateway), [("wait_timeout", 1)].into());
    // It has no right to store it.
    assert_eq!(cache.get(REQUEST).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_cache_a_bounded_number_is_computed() {
    let gateway = Gateway::new(&client(1), Settings::default()).unwrap();
    let cache = gateway.cache("chat", CacheOptions { computing: 3, ..CacheOptions::default() });
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = Vec::new();
    for at in 0..20 {
        let (cache, now, most) = (cache.clone(), now.clone(), most.clone());
        tasks.push(tokio::spawn(async move {
            let compute = move || async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>("computed")
            };
            cache.get_or_compute(format!(r#"{{"at":{at}}}"#), &EntryOptions::default(), compute).await.unwrap()
        }));
    }
    for task in tasks {
        assert_eq!(&*task.await.unwrap(), b"computed");
    }
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(counted(&gateway), [("away", 20)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_cache_are_misses() {
    let (server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    let key = cache.key(REQUEST).unwrap();
    call!(server.connect().unwrap(), "SET", &key, "x" => ());
    let compute = || async { Ok::<_, Infallible>("computed") };
    assert_eq!(&*cache.get_or_compute(REQUEST, &options(), compute).await.unwrap(), b"computed");
    assert_eq!(counted(&gateway)["error"], 1);
    assert_eq!(cache.get(REQUEST).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_any_bytes_differ_from_a_miss() {
    let (_server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    let all: Vec<u8> = (0..=255).collect();
    for (at, value) in [Vec::new(), b"null".to_vec(), all].into_iter().enumerate() {
        let request = format!(r#"{{"at":{at}}}"#);
        let own = value.clone();
        cache.get_or_compute(&request, &options(), || async { Ok::<_, Infallible>(own) }).await.unwrap();
        assert_eq!(cache.get(&request).await.unwrap(), Some(value));
    }
    assert_eq!(cache.get("{}").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_cleared() {
    let (_server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    let tagged = EntryOptions { tags: vec!["doc:1".into()], saved: Some(amount("0.02")) };
    cache.set(r#"{"at":1}"#, "1", &tagged).await.unwrap();
    cache.set(r#"{"at":2}"#, "2", &options()).await.unwrap();
    cache.get(r#"{"at":1}"#).await.unwrap();
    cache.get_or_compute(r#"{"at":1}"#, &options(), || async { Ok::<_, Infallible>("none") }).await.unwrap();
    assert_eq!(cache.figures().await.unwrap()[0].saved, amount("0.04"));
    assert_eq!(cache.clear_tag("doc:1").await.unwrap(), 1);
    assert_eq!(cache.get(r#"{"at":1}"#).await.unwrap(), None);
    assert_eq!(cache.clear_pattern("chat:*").await.unwrap(), 1);
    cache.set(r#"{"at":3}"#, "3", &options()).await.unwrap();
    assert_eq!(cache.clear().await.unwrap(), 1);
}

fn pieces(texts: &[&str]) -> impl futures_util::Stream<Item = Result<String, &'static str>> + Send + Unpin + use<> {
    let texts: Vec<_> =
        texts.iter().map(|&text| if text == "!" { Err("broken") } else { Ok(text.to_owned()) }).collect();
    futures_util::stream::iter(texts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_stored_when_it_is_complete() {
    let (_server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    // One that fails, and one that nobody reads to its end.
    let mut broken = cache.stream(REQUEST, &options(), || pieces(&["Hel", "!", "lo"])).await.unwrap();
    assert_eq!(broken.next().await, Some(Ok("Hel".into())));
    assert_eq!(broken.next().await, Some(Err("broken")));
    assert_eq!(broken.next().await, None);
    let mut left = cache.stream(REQUEST, &options(), || pieces(&["Hel", "lo"])).await.unwrap();
    assert_eq!(left.next().await, Some(Ok("Hel".into())));
    drop(left);
    // Somebody who asks meanwhile gets the pieces when the answer is complete.
    let mut first = cache.stream(REQUEST, &options(), || pieces(&["Hel", "lo"])).await.unwrap();
    assert_eq!(first.next().await, Some(Ok("Hel".into())));
    let own = cache.clone();
    let second = tokio::spawn(async move {
        let stream = own.stream(REQUEST, &EntryOptions::default(), || pieces(&["own"])).await.unwrap();
        stream.collect::<Vec<_>>().await
    });
    tokio::task::yield_now().await;
    assert_eq!(first.next().await, Some(Ok("lo".into())));
    assert_eq!(first.next().await, None);
    assert_eq!(second.await.unwrap(), [Ok("Hel".to_owned()), Ok("lo".to_owned())]);
    until("it to be stored", || {
        counted(&gateway).contains_key("hit") || {
            let own = cache.clone();
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async move { own.get(REQUEST).await })
            })
            .unwrap()
            .is_some()
        }
    })
    .await;
    let replayed = cache.stream(REQUEST, &options(), || pieces(&["own"])).await.unwrap();
    assert_eq!(replayed.collect::<Vec<_>>().await, [Ok("Hel".to_owned()), Ok("lo".to_owned())]);
    // An answer of another form is computed anew.
    cache.set(REQUEST, "plain", &options()).await.unwrap();
    let anew = cache.stream(REQUEST, &options(), || pieces(&["new"])).await.unwrap();
    assert_eq!(anew.collect::<Vec<_>>().await, [Ok("new".to_owned())]);
    let counts = counted(&gateway);
    assert!(counts["miss"] >= 3, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_stream_is_refreshed() {
    let (_server, gateway) = started(patient());
    let settings = CacheOptions {
        ttl: Some(Duration::from_millis(1)),
        stale: Some(Duration::from_secs(3_600)),
        ..Default::default()
    };
    let cache = gateway.cache("chat", settings);
    cache.set(REQUEST, r#"["old"]"#, &options()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let old = cache.stream(REQUEST, &options(), || pieces(&["new"])).await.unwrap();
    assert_eq!(old.collect::<Vec<_>>().await, [Ok("old".to_owned())]);
    let began = std::time::Instant::now();
    while cache.get(REQUEST).await.unwrap().as_deref() != Some(br#"["new"]"#) {
        assert!(began.elapsed() < gw_testkit::DEADLINE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // While the server is away, it is computed.
    let away = Gateway::new(&client(1), Settings::default()).unwrap().cache("chat", CacheOptions::default());
    let computed = away.stream(REQUEST, &options(), || pieces(&["1", "2"])).await.unwrap();
    assert_eq!(computed.collect::<Vec<_>>().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_entries_in_one_round_trip() {
    let (server, gateway) = started(patient());
    let cache = gateway.cache("chat", CacheOptions::default());
    let requests: Vec<String> = (0..250).map(|at| format!(r#"{{"at":{at}}}"#)).collect();
    let long = "x".repeat(600 * 1024);
    let entries: Vec<_> = requests.iter().take(240).map(|request| (request, request)).collect();
    assert_eq!(cache.set_many(&entries, &options()).await.unwrap(), 240);
    assert_eq!(cache.set_many(&[("1", &long), ("2", &long)], &options()).await.unwrap(), 2);
    // One of them cannot be read: it is a miss, and spoils no other.
    call!(server.connect().unwrap(), "SET", cache.key(&requests[7]).unwrap(), "x" => ());
    let found = cache.get_many(&requests).await.unwrap();
    for (at, (request, value)) in requests.iter().zip(&found).enumerate() {
        let there = at < 240 && at != 7;
        assert_eq!(value.as_deref(), there.then_some(request.as_bytes()), "{at}");
    }
    assert_eq!(cache.get_many(&["1", "2"]).await.unwrap(), [Some(long.clone().into()), Some(long.into())]);
    let counts = counted(&gateway);
    assert_eq!((counts["hit"], counts["miss"], counts["error"]), (241, 10, 1));
    let away = Gateway::new(&client(1), Settings::default()).unwrap().cache("chat", CacheOptions::default());
    assert_eq!(away.get_many(&requests[..2]).await.unwrap(), [None, None]);
    assert_eq!(away.set_many(&entries[..2], &options()).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_may_have_been_given_is_given_up() {
    let (server, proxy, gateway) = behind_proxy(brisk());
    let cache = gateway.cache("chat", CacheOptions::default());
    ready(&gateway).await;
    proxy.delay(Duration::from_millis(300));
    let compute = || async { Ok::<_, Infallible>("computed") };
    cache.get_or_compute(REQUEST, &options(), compute).await.unwrap();
    proxy.cut(Links::All);
    proxy.delay(Duration::ZERO);
    proxy.heal();
    let mut connection = server.connect().unwrap();
    let mut leases = || call!(connection, "GW.STATS" => std::collections::HashMap<String, i64>)["cache_fill_leases"];
    until("no lease to be left", || leases() == 0).await;
}
