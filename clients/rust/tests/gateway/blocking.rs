use std::sync::Arc;
use std::time::Duration;

use gw_testkit::Server;
use redis_gateway_client::blocking::Gateway;
use redis_gateway_client::{
    AdmitOptions, AllowOptions, BatchOptions, CacheOptions, ChargeOptions, EntryOptions, LogOptions, RouteOptions,
    Settlement, SlotOptions,
};

use crate::support::*;

#[test]
fn all_of_it_without_async() {
    let server = Server::start().unwrap();
    policies(&server, "a", &[BUDGET]);
    policies(&server, "{t}1", &[&rpm(100)]);
    let gateway = Gateway::new(&client(server.port()), patient()).unwrap();
    let admission = gateway.admit(["a"], amounts(&[("usd", "2")]), &AdmitOptions::default()).unwrap();
    assert!(admission.is_ok());
    admission.use_so_far("usd", amount("0.5")).unwrap();
    assert_eq!(admission.settle().unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "a"), amount("0.5"));
    let limited = gateway.allow("k", 1, &AllowOptions::default()).unwrap();
    assert!(limited.is_ok() && gateway.tokens("t", 1, 1, &Default::default()).unwrap().is_ok());
    gateway.charge("c", amount("1"), &ChargeOptions::default()).unwrap();
    let budget = redis_gateway_client::commands::Budget {
        amount: amount("10"),
        period: redis_gateway_client::commands::Period::Month,
    };
    let hold = gateway.reserve("c", amount("1"), &[budget], Duration::from_secs(60)).unwrap();
    assert_eq!(hold.commit(amount("2")).unwrap(), Settlement::Settled);
    assert!(gateway.within_budget("c", &[budget], None).unwrap().is_ok());
    assert_eq!(spent_of(&server, "c"), amount("3"));
    let attempt = gateway.route(["{t}1"], amounts(&[]), &RouteOptions::default()).unwrap();
    assert_eq!(attempt.settle().unwrap(), Settlement::Settled);
    let mut request = gateway.request(["a"], ["{t}1"], amounts(&[]), &RouteOptions::default()).unwrap();
    request.next_attempt().unwrap().unwrap().fail(None).unwrap();
    assert!(request.next_attempt().unwrap().is_err());
    request.settle().unwrap();
    let lock = gateway.lock("l", &SlotOptions::default()).unwrap();
    assert!(lock.is_ok() && lock.release().unwrap());
    let logs = gateway.inner().logs("log", LogOptions::default());
    logs.push("{}");
    assert!(gateway.wait_for(logs.flush()));
    let batch = gateway.lease_batch("log", &BatchOptions::default()).unwrap().unwrap();
    assert!(batch.done().unwrap());
    let cache = gateway.cache("chat", CacheOptions::default());
    for answer in ["first", "second"] {
        let compute = move || Ok::<_, std::convert::Infallible>(answer);
        let found: Arc<[u8]> = gateway.get_or_compute(&cache, "{}", &EntryOptions::default(), compute).unwrap();
        assert_eq!(&*found, b"first");
    }
}

#[test]
fn the_last_one_that_is_dropped_closes_it() {
    let server = Server::start().unwrap();
    policies(&server, "a", &[BUDGET]);
    let gateway = Gateway::new(&client(server.port()), patient()).unwrap();
    let admission = gateway.admit(["a"], amounts(&[("usd", "2")]), &AdmitOptions::default()).unwrap();
    gateway.inner().logs("log", LogOptions { every: Duration::from_secs(3_600), ..LogOptions::default() }).push("{}");
    drop(gateway);
    assert_eq!(account(&server, "a").in_flight, 0);
    assert_eq!(spent_of(&server, "a"), amount("2"));
    drop(admission);
}

#[test]
fn threads_share_a_gateway() {
    let server = Server::start().unwrap();
    policies(&server, "a", &[BUDGET]);
    let gateway = Gateway::new(&client(server.port()), patient()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let admission = gateway.admit(["a"], amounts(&[("usd", "0.1")]), &AdmitOptions::default()).unwrap();
                    admission.settle().unwrap();
                }
            });
        }
    });
    assert_eq!(spent_of(&server, "a"), amount("16"));
}
