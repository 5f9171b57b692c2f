use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use redis_gateway_client::{
    Admission, AdmitOptions, Amounts, Cache, CacheOptions, EntryOptions, Gateway, HeaderOptions, Logs, Settings,
};
use serde_json::json;

pub type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
pub struct ChatRequest {
    pub team: String,
    pub key: String,
    pub user: String,
    pub prompt: String,
    pub estimates: Amounts,
}

impl ChatRequest {
    /// What an answer depends on, as JSON. It makes the key of the cache.
    pub fn question(&self) -> String {
        json!({"team": self.team, "prompt": self.prompt}).to_string()
    }
}

pub struct Piece {
    pub text: String,
    /// What the answer has used so far, in all, by meter; empty as long as that is unknown.
    pub used: Amounts,
}

/// Streams an answer, until it is dropped.
pub type Model = Arc<dyn Fn(ChatRequest) -> BoxStream<'static, Result<Piece, Failure>> + Send + Sync>;

/// Where the answer goes. Sending fails if the client has left; a server may also drop the future that answers it.
pub trait Reader {
    fn start(&mut self, status: u16, headers: BTreeMap<String, String>);
    fn send(&mut self, piece: &str) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// What the requests share.
pub struct Service {
    pub gateway: Gateway,
    pub cache: Cache,
    logs: Logs,
    model: Model,
}

/// A request that was admitted. It is settled when it is dropped, if it has not been before.
struct Admitted {
    admission: Admission,
    account: String,
    logs: Logs,
    asked: AtomicBool,
    complete: AtomicBool,
}

impl Admitted {
    /// Whether the answer came from the cache: then nothing was used.
    fn is_cached(&self) -> bool {
        let cached = !self.asked.load(Relaxed);
        if cached {
            self.admission.unused();
        }
        cached
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let (id, complete) = (self.admission.lease_id(), self.complete.load(Relaxed));
        let record = json!({"id": id, "account": self.account, "cached": self.is_cached(), "complete": complete});
        self.logs.push(record.to_string());
    }
}

impl Service {
    pub fn new(gateway: Gateway, model: Model) -> Self {
        // No answer is served beyond its time: its refresh in the background would be nobody's request.
        let cache = gateway.cache("chat", CacheOptions { stale: Some(Duration::ZERO), ..CacheOptions::default() });
        let logs = gateway.logs("log:requests", Default::default());
        Self { gateway, cache, logs, model }
    }

    /// Answers one request.
    pub async fn handle(&self, request: &ChatRequest, client: &mut impl Reader) -> Result<(), Failure> {
        let team = format!("{{{}}}", request.team);
        let accounts = [format!("{team}:key:{}", request.key), format!("{team}:user:{}", request.user), team];
        let admission = self.gateway.admit(&accounts, request.estimates.clone(), &AdmitOptions::default()).await?;
        let headers = admission.headers(&HeaderOptions::default()).into_iter().collect();
        if !admission.is_ok() {
            client.start(admission.status(), headers);
            return Ok(());
        }

        // From here on the admission ends with a settlement, whatever happens.
        let admitted = Arc::new(Admitted {
            admission,
            account: accounts[0].clone(),
            logs: self.logs.clone(),
            asked: AtomicBool::new(false),
            complete: AtomicBool::new(false),
        });
        let (model, asked, owner) = (self.model.clone(), request.clone(), admitted.clone());
        let compute = move || {
            owner.asked.store(true, Relaxed);
            ask(model(asked), owner)
        };
        let mut pieces = self.cache.stream(request.question(), &EntryOptions::default(), compute).await?;
        let mut headers = Some(headers);
        while let Some(piece) = pieces.next().await {
            let failed = |_: &Failure| {
                if headers.is_some() {
                    admitted.admission.unused(); // The model failed before its first piece.
                }
            };
            let text = piece.inspect_err(failed)?;
            if let Some(headers) = headers.take() {
                client.start(200, headers);
            }
            client.send(&text).await?;
        }
        admitted.complete.store(true, Relaxed);
        admitted.is_cached();
        admitted.admission.settle().await?;
        Ok(())
    }
}

/// The texts of the model's answer, of which the admission is told what they use. An answer without a piece is an error: it must not
/// be cached.
fn ask(
    pieces: BoxStream<'static, Result<Piece, Failure>>,
    owner: Arc<Admitted>,
) -> BoxStream<'static, Result<String, Failure>> {
    let next = move |(mut pieces, begun): (BoxStream<'static, Result<Piece, Failure>>, bool)| {
        let owner = owner.clone();
        async move {
            match pieces.try_next().await? {
                Some(piece) => {
                    // A meter that is not told keeps its estimate: right as long as nobody knows what was used.
                    for (meter, amount) in piece.used {
                        owner.admission.use_so_far(meter, amount)?;
                    }
                    Ok(Some((piece.text, (pieces, true))))
                }
                None if begun => Ok(None),
                None => Err("the model sent nothing".into()),
            }
        }
    };
    stream::try_unfold((pieces, false), next).boxed()
}

/// With a time-out for each call, and a directory in which settlements outlive the process. At the end of the program,
/// `gateway.close().await` sends what is left.
pub fn connect(url: &str, timeout: Duration, directory: &str) -> Result<Gateway, Failure> {
    let mut settings = Settings { timeout, ..Settings::default() };
    settings.kept.directory = Some(directory.into());
    Ok(Gateway::new(&redis::Client::open(url)?, settings)?)
}
