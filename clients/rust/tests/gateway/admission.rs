use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use gw_testkit::{Random, call};
use redis_gateway_client::commands::Rows;
use redis_gateway_client::{AdmitOptions, Amount, HeaderOptions, Outcome, Plan, ReplyErrorKind, Settings, Settlement};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn admitted_and_settled() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let admission = admitted(&gateway, &["a"], &[("usd", "5"), ("tokens", "100")]).await;
    assert_eq!((admission.outcome(), admission.reason(), admission.status()), (Outcome::Admitted, None, 200));
    admission.use_so_far("usd", amount("0.5")).unwrap();
    assert_eq!(admission.settle().await.unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "a"), amount("0.5"));
    assert_eq!(account(&server, "a").in_flight, 0);
    assert_eq!(gateway.figures().decisions[&("admission", Outcome::Admitted, "")], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_says_why_and_when() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[&rpm(1)]);
    admitted(&gateway, &["a"], &[]).await.settle().await.unwrap();
    let denied = gateway.admit(["a"], amounts(&[]), &AdmitOptions::default()).await.unwrap();
    assert_eq!((denied.outcome(), denied.reason(), denied.status()), (Outcome::Denied, Some("limit"), 429));
    assert_eq!(denied.refusals().map(|row| row.policy.to_string()).collect::<Vec<_>>(), ["rpm"]);
    assert!(denied.retry_after().unwrap() > Duration::ZERO);
    let headers = denied.headers(&HeaderOptions::default());
    let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(header("RateLimit-Policy"), Some("\"rpm\";q=1;w=60"));
    assert_eq!(header("x-ratelimit-limit-requests"), Some("1"));
    assert!(header("Retry-After").is_some());
    assert_eq!(denied.settle().await.unwrap(), Settlement::Nothing);
    let refused = denied.ok().unwrap_err();
    assert_eq!((refused.reason, refused.status), ("limit", 429));
    let never = gateway.admit(["a"], amounts(&[("requests", "2")]), &AdmitOptions::default()).await.unwrap();
    assert_eq!(never.retry_after(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_ids_are_random() {
    let (_server, gateway) = started(patient());
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let admission = admitted(&gateway, &["a"], &[]).await;
        assert_eq!(admission.lease_id().len(), 32);
        seen.insert(admission.lease_id().to_owned());
    }
    assert_eq!(seen.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn settles_once_when_several_settle() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let admission = Arc::new(admitted(&gateway, &["a"], &[("usd", "2")]).await);
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let own = admission.clone();
            tokio::spawn(async move { own.settle().await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Settlement::Settled);
    }
    assert_eq!(admission.undo().await.unwrap(), Settlement::Settled);
    assert_eq!(admission.settlement(), Some(Settlement::Settled));
    assert_eq!(spent_of(&server, "a"), amount("2"));
    assert_eq!(gateway.figures().settlements["settled"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_that_is_refused_can_be_repeated() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    let mut client = server.connect().unwrap();
    call!(client, "RENAME", "a", "kept" => ());
    call!(client, "SET", "a", "x" => ());
    let refused = admission.settle().await.unwrap_err();
    assert_eq!(refused.kind(), Some(&ReplyErrorKind::WrongType));
    assert_eq!(admission.settlement(), None);
    call!(client, "RENAME", "kept", "a" => ());
    assert_eq!(admission.settle().await.unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "a"), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_settlement_holds_up_no_other() {
    let (server, gateway) = started(patient());
    policies(&server, "a16", &[BUDGET]);
    // The seventeenth account is asked for in a call of its own.
    let accounts: Vec<String> = (0..17).map(|at| format!("a{at}")).collect();
    let options = AdmitOptions::default();
    let admission = gateway.admit(accounts, amounts(&[("usd", "2")]), &options).await.unwrap();
    assert!(admission.is_ok());
    let mut client = server.connect().unwrap();
    call!(client, "SET", "a0", "x" => ());
    assert!(admission.settle().await.is_err());
    assert_eq!(spent_of(&server, "a16"), amount("2"));
    assert_eq!(account(&server, "a16").in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_at_the_end_of_the_block() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET, IN_FLIGHT]);
    let work = async {
        let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
        admission.use_so_far("usd", amount("0.25")).unwrap();
        "no number".parse::<u8>()?;
        Ok::<_, std::num::ParseIntError>(())
    };
    assert!(work.await.is_err());
    until("the settlement", || account(&server, "a").in_flight == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("0.25"));
    assert_eq!(gateway.figures().count("admissions_dropped"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_when_its_task_panics() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let own = gateway.clone();
    let task = tokio::spawn(async move {
        let _admission = admitted(&own, &["a"], &[("usd", "2")]).await;
        std::panic::resume_unwind(Box::new("the handler's own"));
    });
    assert!(task.await.unwrap_err().is_panic());
    until("the settlement", || account(&server, "a").in_flight == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_when_its_task_is_cancelled() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let own = gateway.clone();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let admission = admitted(&own, &["a"], &[("usd", "2")]).await;
        admission.use_so_far("usd", amount("1.5")).unwrap();
        sender.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    receiver.await.unwrap();
    task.abort();
    until("the settlement", || account(&server, "a").in_flight == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("1.5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_goes_on_when_nobody_waits_for_it() {
    let (server, proxy, gateway) = behind_proxy(patient());
    policies(&server, "a", &[BUDGET]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    proxy.delay(Duration::from_millis(50));
    // Polled once, and dropped.
    assert!(tokio::time::timeout(Duration::ZERO, admission.settle()).await.is_err());
    until("the settlement", || account(&server, "a").in_flight == 0).await;
    assert_eq!(spent_of(&server, "a"), amount("2"));
    assert_eq!(admission.settle().await.unwrap(), Settlement::Settled);
}

#[derive(Debug, PartialEq)]
struct Broken;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_settles_however_it_ends() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let usage = |cents: &u32| amounts(&[("usd", &format!("0.{cents:02}"))]);
    let mut total = Amount::ZERO;
    // The pieces with what was used so far, how many of them are taken, and what the stream costs.
    type Pieces = &'static [Result<u32, Broken>];
    let cases: [(Pieces, usize, &str); 6] = [
        (&[Ok(10), Ok(20)], 3, "0.2"),
        (&[Ok(10), Err(Broken)], 3, "0.1"),
        (&[Err(Broken)], 2, "0"),
        (&[Ok(10), Ok(20)], 1, "0.1"),
        (&[Ok(10)], 0, "0.5"),
        (&[], 1, "0.5"),
    ];
    for (pieces, taken, cost) in cases {
        let admission = admitted(&gateway, &["a"], &[("usd", "0.5")]).await;
        let source = futures_util::stream::iter(pieces.iter().map(|piece| match piece {
            Ok(cents) => Ok(*cents),
            Err(_) => Err(Broken),
        }));
        let mut stream = admission.stream(source, usage);
        for _ in 0..taken {
            stream.next().await;
        }
        drop(stream);
        total += amount(cost);
        until("the settlement", || account(&server, "a").in_flight == 0).await;
        assert_eq!(spent_of(&server, "a"), total, "{pieces:?}, {taken}");
    }
    assert_eq!(gateway.figures().count("streams_ended"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_interleavings_settle_each_admission_once() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[r#"{"name":"month","kind":"budget","amount":"1000000","period":"month"}"#]);
    let mut random = Random(gw_testkit::seed(1));
    // By what a task does: what it costs. A task that is cancelled while it asks costs nothing.
    let mut tasks = Vec::new();
    for _ in 0..1_000 {
        let (own, what, at) = (gateway.clone(), random.below(7), random.below(3_000) as u64);
        let task = tokio::spawn(async move {
            let admission = admitted(&own, &["a"], &[("usd", "1")]).await;
            match what {
                0 => _ = admission.settle().await.unwrap(),
                1 => _ = admission.undo().await.unwrap(),
                2 => drop(admission),
                3 => {
                    admission.use_so_far("usd", amount("3")).unwrap();
                    _ = tokio::join!(admission.settle(), admission.settle(), admission.undo());
                }
                4 => {
                    let pieces = futures_util::stream::iter([Ok(1), Ok(2), Err(Broken)]);
                    let mut stream = admission.stream(pieces, |count: &u32| amounts(&[("usd", &count.to_string())]));
                    while stream.next().await.is_some() {}
                }
                5 => {
                    // Begun, and abandoned.
                    let _ = tokio::time::timeout(Duration::ZERO, admission.settle()).await;
                }
                _ => std::future::pending().await,
            }
        });
        if what == 6 {
            let abort = task.abort_handle();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(at)).await;
                abort.abort();
            });
        }
        tasks.push((what, task));
    }
    let (mut least, mut most) = (Amount::ZERO, Amount::ZERO);
    for (what, task) in tasks {
        let ended = task.await;
        // Of several ends at the same time the first one counts, whichever that is.
        least += Amount::from([1, 0, 1, 0, 2, 1, 0][what]);
        most += Amount::from([1, 0, 1, 3, 2, 1, 1][what]);
        if what == 6 {
            assert!(ended.unwrap_err().is_cancelled());
        } else {
            ended.unwrap();
        }
    }
    until("all settlements", || account(&server, "a").in_flight == 0 && gateway.kept() == 0).await;
    let spent = spent_of(&server, "a");
    assert!(spent >= least && spent <= most, "{spent}, from {least} to {most}");
    assert_eq!(account(&server, "a").ledgers["usd".as_bytes()].held, Amount::ZERO);
    assert_eq!(gateway.figures().count("kept_refused"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn meters_are_charged_as_told() {
    let (server, gateway) = started(patient());
    let budget = |meter: &str| {
        format!(r#"{{"name":"{meter}","kind":"budget","amount":"1000","period":"month","meter":"{meter}"}}"#)
    };
    policies(&server, "a", &[&budget("usd"), &budget("tokens"), &budget("input_tokens")]);
    let admission = admitted(&gateway, &["a"], &[("usd", "5"), ("tokens", "100"), ("input_tokens", "7")]).await;
    admission.use_so_far("usd", amount("9")).unwrap();
    admission.use_so_far("usd", Amount::ZERO).unwrap();
    admission.use_so_far("tokens", amount("250")).unwrap();
    assert!(admission.use_so_far("tokens", amount("-1")).is_err());
    admission.settle().await.unwrap();
    let ledgers = account(&server, "a").ledgers;
    let spent = |meter: &str| ledgers[meter.as_bytes()].month.to_string();
    assert_eq!([spent("usd"), spent("tokens"), spent("input_tokens")], ["0", "250", "7"]);
    let refused = gateway.admit(["a"], amounts(&[("usd", "-1")]), &AdmitOptions::default()).await;
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_alive_until_it_ends() {
    let (server, gateway) = started(Settings { lease_ttl: Duration::from_secs(2), ..patient() });
    policies(&server, "a", &[IN_FLIGHT]);
    let admission = admitted(&gateway, &["a"], &[]).await;
    let left = || account(&server, "a").leases.first().map(|lease| lease.ttl_ms);
    // It has been shorter than after a time that is longer than it lives by itself.
    for _ in 0..2 {
        until("less time left", || left().is_some_and(|ms| ms < 1_500)).await;
        until("more time left", || left().is_some_and(|ms| ms > 1_700)).await;
    }
    assert!(!admission.is_lost());
    admission.settle().await.unwrap();
    assert_eq!(account(&server, "a").in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hard_cap_ends_a_lease() {
    let settings =
        Settings { lease_ttl: Duration::from_millis(600), lease_cap: Duration::from_millis(300), ..patient() };
    let (server, gateway) = started(settings);
    policies(&server, "a", &[IN_FLIGHT]);
    let admission = admitted(&gateway, &["a"], &[]).await;
    until("the lease to be lost", || admission.is_lost()).await;
    until("the lease to end", || account(&server, "a").in_flight == 0).await;
    assert_eq!(gateway.figures().count("leases_lost"), 1);
    assert_eq!(admission.settle().await.unwrap(), Settlement::Late);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_the_server_forgets_is_lost() {
    let (server, gateway) = started(Settings { lease_ttl: Duration::from_millis(300), ..patient() });
    policies(&server, "a", &[BUDGET]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    call!(server.connect().unwrap(), "DEL", "a" => i64);
    until("the lease to be lost", || admission.is_lost()).await;
    policies(&server, "a", &[BUDGET]);
    assert_eq!(admission.settle().await.unwrap(), Settlement::Charged);
    assert_eq!(spent_of(&server, "a"), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn money_of_a_forgotten_admission_is_booked() {
    let (server, gateway) = started(patient());
    for account in ["{x}a", "{x}b"] {
        policies(&server, account, &[BUDGET]);
    }
    let admission = admitted(&gateway, &["{x}a", "{x}b"], &[("usd", "2")]).await;
    let mut client = server.connect().unwrap();
    call!(client, "FLUSHALL" => ());
    for account in ["{x}a", "{x}b"] {
        policies(&server, account, &[BUDGET]);
    }
    admission.use_so_far("usd", amount("1.5")).unwrap();
    assert_eq!(admission.settle().await.unwrap(), Settlement::Charged);
    assert_eq!([spent_of(&server, "{x}a"), spent_of(&server, "{x}b")], [amount("1.5"); 2]);
    assert_eq!(gateway.figures().count("settlements_unknown"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_booked_for_late_or_repeated_settlements() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET]);
    let options = AdmitOptions { lease_id: Some("lease".into()), ..Default::default() };
    let first = gateway.admit(["a"], amounts(&[("usd", "2")]), &options).await.unwrap();
    let again = gateway.admit(["a"], amounts(&[("usd", "2")]), &options).await.unwrap();
    assert_eq!(first.settle().await.unwrap(), Settlement::Settled);
    assert_eq!(again.settle().await.unwrap(), Settlement::Repeated);
    assert_eq!(spent_of(&server, "a"), amount("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_before_the_answer_gets_nothing() {
    let (server, proxy, gateway) = behind_proxy(patient());
    policies(&server, "a", &[BUDGET, IN_FLIGHT]);
    // So that a connection is there.
    admitted(&gateway, &["b"], &[]).await.settle().await.unwrap();
    proxy.delay(Duration::from_millis(100));
    let options = AdmitOptions::default();
    let asked = gateway.admit(["a"], amounts(&[("usd", "2")]), &options);
    assert!(tokio::time::timeout(Duration::from_millis(1), asked).await.is_err());
    let mut client = server.connect().unwrap();
    until("the question and its end", || {
        call!(client, "GW.STATS" => std::collections::HashMap<String, i64>)["settle_done"] > 0
    })
    .await;
    proxy.delay(Duration::ZERO);
    until("what it took to be free", || account(&server, "a").in_flight == 0).await;
    assert_eq!(spent_of(&server, "a"), Amount::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_that_is_undone_costs_nothing() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET, &rpm(1)]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2"), ("tokens", "5")]).await;
    admission.use_so_far("usd", amount("2")).unwrap();
    assert_eq!(admission.undo().await.unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "a"), Amount::ZERO);
    // The limit has room again.
    admitted(&gateway, &["a"], &[]).await.settle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_admission_counts_as_a_request() {
    let (server, gateway) = started(patient());
    policies(&server, "a", &[BUDGET, &rpm(1)]);
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    admission.unused();
    admission.settle().await.unwrap();
    assert_eq!(spent_of(&server, "a"), Amount::ZERO);
    assert!(!gateway.admit(["a"], amounts(&[]), &AdmitOptions::default()).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_made_from_its_plan() {
    let plans = |account: &[u8]| {
        account.starts_with(b"plan:").then(|| Plan {
            policies: format!(r#"{{"policies":[{}]}}"#, rpm(1)),
            idle: Some(Duration::from_secs(3_600)),
        })
    };
    let (server, gateway) = started(Settings { plans: Some(Arc::new(plans)), ..patient() });
    let options = AdmitOptions { require: true, rows: Some(Rows::Refused), ..Default::default() };
    let admission = gateway.admit(["plan:{x}a", "plan:{x}b"], amounts(&[]), &options).await.unwrap();
    assert!(admission.is_ok());
    admission.settle().await.unwrap();
    assert_eq!(account(&server, "plan:{x}a").idle_ms, Some(3_600_000));
    assert_eq!(gateway.admit(["plan:{x}a"], amounts(&[]), &options).await.unwrap().reason(), Some("limit"));
    let none = gateway.admit(["none"], amounts(&[]), &options).await.unwrap();
    assert_eq!((none.reason(), none.status(), none.retry_after()), (Some("no_account"), 403, None));
}
