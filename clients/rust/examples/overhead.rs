//! What the client adds to a call: in each pair of runs redis-rs itself sends the commands, then the client's method. Prints the
//! medians of the pairs, in microseconds a call.
//!
//! ```sh
//! cargo run --release --package redis-gateway-client --example overhead
//! ```

use std::convert::Infallible;
use std::time::{Duration, Instant};

use gw_testkit::Server;
use redis::Value;
use redis_gateway_client::commands::policy_put;
use redis_gateway_client::{
    AdmitOptions, AllowOptions, Amount, Amounts, CacheOptions, EntryOptions, Gateway, Settings,
};

const PAIRS: usize = 7;
const CALLS: u32 = 1_000;

const POLICIES: &str = r#"{"policies":[{"name":"rpm","kind":"window","limit":1000000000,"per_ms":60000},
    {"name":"tpm","kind":"bucket","rate":1000000000,"burst":1000000000,"per_ms":60000,"meter":"tokens"},
    {"name":"month","kind":"budget","amount":"1000000000","period":"month"}]}"#;

const REQUEST: &str = r#"{"model":"small","messages":[{"role":"user","content":"Hi"}]}"#;

/// Runs both in turn, and prints the medians.
async fn compare(name: &str, mut raw: impl AsyncFnMut(u32), mut client: impl AsyncFnMut(u32)) {
    let (mut raws, mut clients, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS as u32 {
        let began = Instant::now();
        for number in 0..CALLS {
            raw(pair * CALLS + number).await;
        }
        let without = began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        let began = Instant::now();
        for number in 0..CALLS {
            client(pair * CALLS + number).await;
        }
        let with = began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        raws.push(without);
        clients.push(with);
        ratios.push(with / without);
    }
    let [raw, client, ratio] = [raws, clients, ratios].map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[PAIRS / 2]
    });
    println!("{name:18} redis-rs {raw:7.1} µs   client {client:7.1} µs   ratio {ratio:.2}");
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start()?;
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", server.port()))?;
    let connection = client.get_multiplexed_async_connection().await?;
    let long = Duration::from_secs(20);
    let settings = Settings { timeout: long, connect_timeout: long, ..Settings::default() };
    let gateway = Gateway::new(&client, settings)?;
    for account in ["{a}:raw", "{a}:client"] {
        gateway.run(&policy_put(account, POLICIES, &Default::default())).await?;
    }
    let cache = gateway.cache("overhead", CacheOptions::default());
    let answer = || async { Ok::<_, Infallible>("an answer") };
    cache.get_or_compute(REQUEST, &EntryOptions::default(), answer).await?;
    let entry = cache.key(REQUEST)?;
    let amounts = |tokens: u32, usd: &str| -> Amounts {
        [("tokens".into(), tokens.into()), ("usd".into(), usd.parse::<Amount>().unwrap())].into()
    };
    let send = async |cmd: &redis::Cmd| {
        cmd.query_async::<Value>(&mut connection.clone()).await.unwrap();
    };

    compare(
        "allow",
        async |_| send(redis::cmd("GW.ALLOW").arg("raw").arg(1_000_000_000)).await,
        async |_| {
            gateway.allow("client", 1_000_000_000, &AllowOptions::default()).await.unwrap();
        },
    )
    .await;
    compare(
        "admit and settle",
        async |number| {
            let lease = format!("lease:{number}");
            let mut admit = redis::cmd("GW.ADMIT");
            admit.arg("{a}:raw").arg("LEASE").arg(&lease).arg("TTL").arg(60_000);
            send(admit.arg("tokens").arg(100).arg("usd").arg("0.01")).await;
            let mut settle = redis::cmd("GW.SETTLE");
            settle.arg("{a}:raw").arg("LEASE").arg(&lease);
            send(settle.arg("tokens").arg(90).arg("usd").arg("0.009")).await;
        },
        async |_| {
            let options = AdmitOptions::default();
            let admission = gateway.admit(["{a}:client"], amounts(100, "0.01"), &options).await.unwrap();
            for (meter, used) in amounts(90, "0.009") {
                admission.use_so_far(meter, used).unwrap();
            }
            admission.settle().await.unwrap();
        },
    )
    .await;
    compare(
        "a cached answer",
        async |_| send(redis::cmd("GW.CACHEGET").arg(&entry)).await,
        async |_| {
            cache.get_or_compute(REQUEST, &EntryOptions::default(), answer).await.unwrap();
        },
    )
    .await;
    gateway.close().await;
    Ok(())
}
