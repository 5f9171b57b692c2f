//! The load: keys of its own, and calls about them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use redis::{Connection, Pipeline, RedisResult, Value};
use redis_gateway_client::commands::{AdmitOptions, Rows, admit, allow, policy_put, settle};

/// The keys of each kind.
const KEYS: u64 = 100;

/// What an account of the load has: a limit of requests, slots, and a budget.
const POLICIES: &str = r#"{"policies":[
    {"name":"rpm","kind":"window","limit":9007199254740992,"per_ms":60000},
    {"name":"slots","kind":"inflight","max":1000000},
    {"name":"spend","kind":"budget","amount":"1000000","period":"day"}]}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Allow,
    /// A request: admitted, then settled.
    AdmitSettle,
}

impl Call {
    pub fn name(self) -> &'static str {
        match self {
            Call::Allow => "allow",
            Call::AdmitSettle => "admit_settle",
        }
    }
}

/// The keys of one run. They have one hash tag, so they are at one node.
pub struct Load {
    prefix: String,
}

impl Load {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { prefix: format!("gw-bench:{{{}-{}}}:", std::process::id(), now.as_micros()) }
    }

    /// The slot of all keys.
    pub fn slot(&self) -> u16 {
        gateway_core::slot::slot_of(self.prefix.as_bytes())
    }

    fn window(&self, number: u64) -> String {
        format!("{}window:{}", self.prefix, number % KEYS)
    }

    fn account(&self, number: u64) -> String {
        format!("{}account:{}", self.prefix, number % KEYS)
    }

    /// Makes the accounts.
    ///
    /// # Errors
    /// If the server cannot be asked, or refuses.
    pub fn prepare(&self, connection: &mut Connection) -> Result<()> {
        for number in 0..KEYS {
            policy_put(self.account(number), POLICIES, &Default::default()).query(connection)?;
        }
        Ok(())
    }

    /// Deletes all keys.
    ///
    /// # Errors
    /// If the server cannot be asked, or refuses.
    pub fn delete(&self, connection: &mut Connection) -> RedisResult<()> {
        let keys: Vec<String> = (0..KEYS).flat_map(|number| [self.window(number), self.account(number)]).collect();
        redis::cmd("DEL").arg(keys).exec(connection)
    }

    /// Calls a second, of all clients together.
    ///
    /// # Errors
    /// If the server cannot be asked, or refuses a call.
    pub fn rate(
        &self,
        call: Call,
        pipeline: u16,
        clients: u16,
        time: Duration,
        connect: &(dyn Fn() -> RedisResult<Connection> + Sync),
    ) -> Result<u64> {
        // The leases of each measurement are its own.
        let numbers = AtomicU64::new(u64::from(pipeline) << 40);
        let (ended, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let connections = (0..clients).map(|_| connect()).collect::<RedisResult<Vec<_>>>().context("cannot connect")?;
        let started = Instant::now();
        thread::scope(|scope| {
            let client = |mut connection: Connection| {
                let (numbers, ended, done) = (&numbers, &ended, &done);
                move || -> Result<()> {
                    while !ended.load(Ordering::Relaxed) {
                        let first = numbers.fetch_add(u64::from(pipeline), Ordering::Relaxed);
                        self.send(call, first..first + u64::from(pipeline), &mut connection)?;
                        done.fetch_add(u64::from(pipeline), Ordering::Relaxed);
                    }
                    Ok(())
                }
            };
            let clients: Vec<_> = connections.into_iter().map(|connection| scope.spawn(client(connection))).collect();
            thread::sleep(time);
            ended.store(true, Ordering::Relaxed);
            clients.into_iter().try_for_each(|client| match client.join() {
                Ok(ended) => ended,
                Err(_) => anyhow::bail!("a client has panicked"),
            })
        })?;
        Ok((done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()) as u64)
    }

    /// Sends calls in one pipeline, or in two: what is settled has been admitted.
    fn send(&self, call: Call, numbers: std::ops::Range<u64>, connection: &mut Connection) -> Result<()> {
        match call {
            Call::Allow => {
                let mut pipe = redis::pipe();
                for number in numbers {
                    allow(self.window(number), 1_000_000_000, &Default::default()).add_to(&mut pipe);
                }
                answered(&pipe, connection)
            }
            Call::AdmitSettle => {
                let (mut first, mut then) = (redis::pipe(), redis::pipe());
                for number in numbers {
                    let (account, lease) = ([self.account(number)], format!("{:036}", number));
                    let options = AdmitOptions { rows: Some(Rows::None), ..Default::default() };
                    admit(&account, &lease, 30_000, &options).add_to(&mut first);
                    settle(&account, &lease, &Default::default()).add_to(&mut then);
                }
                answered(&first, connection)?;
                answered(&then, connection)
            }
        }
    }
}

/// Sends a pipeline. A call that the server refuses was not measured: that is an error.
fn answered(pipe: &Pipeline, connection: &mut Connection) -> Result<()> {
    let _: Vec<Value> = pipe.query(connection)?;
    Ok(())
}
