use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, RedisResult, Value, cmd, from_redis_value, pipe};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const TTL_MS: u64 = 30_000;
/// An account forgets a lease that was never settled an hour after its end.
const GIVE_UP: Duration = Duration::from_secs(3_600);
const UNSETTLED_MAX: usize = 100_000;

pub type Failure = Box<dyn Error + Send + Sync>;

/// What the provider bills. Money is a decimal in a string, never a float.
#[derive(Clone)]
pub struct Usage {
    pub tokens: u64,
    pub usd: String,
}

pub struct ChatRequest {
    pub team: String,
    pub key: String,
    pub user: String,
    pub cache_key: String,
    pub estimate: Usage,
}

pub struct Piece {
    pub text: String,
    /// `None` as long as it is unknown.
    pub usage: Option<Usage>,
}

/// Where the answer goes. Sending fails if the client has left.
pub trait Reader {
    fn start(&mut self, status: u16, headers: HashMap<String, String>);
    fn send(&mut self, piece: &str) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What the requests share; a clone is the same gateway.
#[derive(Clone)]
pub struct Gateway {
    pub redis: ConnectionManager,
    /// What Redis has not taken yet. It is lost with the process; the leases then end by time.
    pub unsettled: Arc<Mutex<VecDeque<Settlement>>>,
    /// Settlements on their way. When the process ends, close it and wait for it.
    pub settling: TaskTracker,
}

/// How a request ended.
pub struct Settlement {
    accounts: Vec<String>,
    lease: String,
    used: Option<Usage>,
    record: String,
    ended: Instant,
}

/// An admitted request. It is settled when it is dropped: at the end, by an error, or with the future of a client that
/// has left.
struct Admission {
    gateway: Gateway,
    accounts: Vec<String>,
    lease: String,
    alive: JoinHandle<()>,
    used: Option<Usage>,
    /// The cache's entry, if the answer is complete.
    entry: Option<(String, String)>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.alive.abort();
        let used = self.used.as_ref().map(|used| json!({"tokens": used.tokens, "usd": used.usd}));
        let complete = self.entry.is_some();
        let record = json!({"id": self.lease, "account": self.accounts[0], "used": used, "complete": complete});
        let settlement = Settlement {
            accounts: std::mem::take(&mut self.accounts),
            lease: std::mem::take(&mut self.lease),
            used: self.used.take(),
            record: record.to_string(),
            ended: Instant::now(),
        };
        let (gateway, entry) = (self.gateway.clone(), self.entry.take());
        self.gateway.settling.spawn(async move { gateway.settle(settlement, entry).await });
    }
}

impl Gateway {
    pub fn new(redis: ConnectionManager) -> Self {
        Self { redis, unsettled: Arc::default(), settling: TaskTracker::new() }
    }

    /// Answers one request.
    pub async fn handle<Answer>(
        &self,
        request: &ChatRequest,
        model: impl FnOnce(&ChatRequest) -> Answer,
        client: &mut impl Reader,
    ) -> Result<(), Failure>
    where
        Answer: Stream<Item = Result<Piece, Failure>>,
    {
        let (lease, team) = (Uuid::new_v4().to_string(), format!("{{{}}}", request.team));
        let accounts = vec![format!("{team}:key:{}", request.key), format!("{team}:user:{}", request.user), team];
        let mut admit = over("GW.ADMIT", &accounts, &lease);
        admit.arg("TTL").arg(TTL_MS);
        admit.arg("tokens").arg(request.estimate.tokens).arg("usd").arg(&request.estimate.usd);
        let mut lookup = cmd("GW.CACHEGET");
        lookup.arg(&request.cache_key);
        let [admission, cached] = self.round_trip([admit, lookup]).await;
        let (admitted, retry_after_ms, rows) = match admission.and_then(read::<(bool, u64, Vec<Row>)>) {
            Ok(admission) => admission,
            Err(error) => {
                eprintln!("GW.ADMIT: {error}");
                client.start(503, HashMap::from([("retry-after".to_owned(), "1".to_owned())]));
                return Ok(());
            }
        };
        let headers = rate_limit_headers(rows, retry_after_ms);
        if !admitted {
            client.start(429, headers);
            return Ok(());
        }

        // From here on the admission ends with a settlement, whatever happens.
        let alive = tokio::spawn(self.clone().keep_alive(accounts.clone(), lease.clone()));
        let mut admission = Admission { gateway: self.clone(), accounts, lease, alive, used: None, entry: None };
        let nothing = Usage { tokens: 0, usd: "0".to_owned() };
        // If GW.CACHEGET failed, that is a miss.
        if let Ok(Some(hit)) = cached.and_then(read::<Option<String>>) {
            admission.used = Some(nothing);
            client.start(200, headers);
            return client.send(&hit).await;
        }
        let (mut text, mut headers) = (String::new(), Some(headers));
        let mut answer = std::pin::pin!(model(request));
        while let Some(piece) = answer.next().await {
            let piece = match piece {
                Err(error) => {
                    if headers.is_some() {
                        admission.used = Some(nothing); // The model failed before its first piece.
                    }
                    return Err(error);
                }
                Ok(piece) => piece,
            };
            admission.used = piece.usage.or(admission.used.take());
            if let Some(headers) = headers.take() {
                client.start(200, headers);
            }
            text += &piece.text;
            client.send(&piece.text).await?;
        }
        if headers.is_some() {
            admission.used = Some(nothing);
            return Err("the model sent nothing".into());
        }
        admission.entry = Some((request.cache_key.clone(), text));
        Ok(())
    }

    async fn settle(&self, settlement: Settlement, entry: Option<(String, String)>) {
        let Settlement { accounts, lease, used, record, ended } = &settlement;
        let mut settle = over("GW.SETTLE", accounts, lease);
        // A meter that is not named keeps its estimate: right as long as nobody knows what was used.
        if let Some(used) = used {
            settle.arg("tokens").arg(used.tokens).arg("usd").arg(&used.usd);
        }
        let mut push = cmd("GW.LOGPUSH");
        push.arg("log:requests").arg("JSON").arg("RECORDS").arg(record);
        let store = entry.map(|(key, text)| {
            let mut store = cmd("GW.CACHESET");
            store.arg(key).arg(text);
            store
        });
        let mut replies = self.send([settle, push].into_iter().chain(store)).await;
        let mut settled = replies.remove(0).and_then(read::<String>);
        if let (Ok("UNKNOWN"), Some(used)) = (settled.as_deref(), used) {
            // No account knows the lease. With the lease as its ID, the charge counts once.
            let charges = accounts.iter().map(|account| {
                let mut charge = cmd("GW.ADDCOST");
                charge.arg(account).arg(&used.usd).arg("ID").arg(lease);
                charge
            });
            settled = self.send(charges).await.into_iter().map(|reply| reply.and_then(read::<String>)).collect();
        }
        if let Err(error) = settled {
            eprintln!("GW.SETTLE {lease}: {error}");
            let mut unsettled = self.unsettled.lock().unwrap();
            if ended.elapsed() < GIVE_UP && unsettled.len() < UNSETTLED_MAX {
                unsettled.push_back(settlement);
            }
            return;
        }
        // A full queue, or a cache without memory: counted, not retried.
        replies.into_iter().filter_map(Result::err).for_each(|error| eprintln!("{lease}: {error}"));
    }

    /// Sends once more what Redis has not taken. Call it every second.
    pub async fn settle_again(&self) {
        let again = std::mem::take(&mut *self.unsettled.lock().unwrap());
        for settlement in again {
            self.settle(settlement, None).await;
        }
    }

    async fn keep_alive(self, accounts: Vec<String>, lease: String) {
        loop {
            tokio::time::sleep(Duration::from_millis(TTL_MS / 3)).await;
            let mut extend = over("GW.KEEPALIVE", &accounts, &lease);
            extend.arg("TTL").arg(TTL_MS);
            if let [Err(error)] = self.round_trip([extend]).await {
                eprintln!("GW.KEEPALIVE: {error}");
            }
        }
    }

    async fn round_trip<const N: usize>(&self, commands: [Cmd; N]) -> [RedisResult<Value>; N] {
        let replies = self.send(commands).await;
        replies.try_into().unwrap_or_else(|_| unreachable!("a reply per command"))
    }

    /// Sends the commands together: a value or an error for each.
    async fn send(&self, commands: impl IntoIterator<Item = Cmd>) -> Vec<RedisResult<Value>> {
        let mut pipeline = pipe();
        for command in commands {
            pipeline.add_command(command);
        }
        let replies = pipeline.ignore_errors().query_async(&mut self.redis.clone()).await;
        replies.unwrap_or_else(|error| vec![Err(error); pipeline.len()])
    }
}

/// Connects when the first command is sent. No command is sent twice.
pub fn connect(url: &str, timeout: Duration) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout))
        .set_number_of_retries(1);
    ConnectionManager::new_lazy_with_config(Client::open(url)?, config)
}

fn read<T: FromRedisValue>(reply: Value) -> RedisResult<T> {
    Ok(from_redis_value(reply)?)
}

/// A command over the accounts for a lease.
fn over(command: &str, accounts: &[String], lease: &str) -> Cmd {
    let mut words = cmd(command);
    words.arg(&accounts[0]).arg("WITH").arg(accounts.len() - 1).arg(&accounts[1..]).arg("LEASE").arg(lease);
    words
}

/// Account, policy, allowed, limit, remaining, retry_after_ms, reset_after_ms. Limits of money are decimals.
type Row = (String, String, bool, String, String, i64, i64);

/// Of policies with the same name, the one of the account that is named first counts.
fn rate_limit_headers(rows: Vec<Row>, retry_after_ms: u64) -> HashMap<String, String> {
    let mut headers = HashMap::new();
    if retry_after_ms > 0 {
        headers.insert("retry-after".to_owned(), retry_after_ms.div_ceil(1_000).to_string());
    }
    for (_, policy, _, limit, remaining, _, reset_after_ms) in rows {
        let mut set = |field, value| {
            headers.entry(format!("x-ratelimit-{field}-{policy}")).or_insert(value);
        };
        set("limit", limit);
        set("remaining", remaining);
        // A budget in total never resets.
        if reset_after_ms >= 0 {
            set("reset-ms", reset_after_ms.to_string());
        }
    }
    headers
}
