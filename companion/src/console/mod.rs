//! A web page that shows what happens at the server, and lets operators act.

mod access;
mod history;
mod page;
mod server;
pub mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use redis_gateway_client::commands::Period;
use redis_gateway_client::{Amount, Error};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::nodes::Seed;
use crate::supervise::Job;
use access::{Access, COOKIE, CSRF, Role, Visitor};
use history::History;
use server::Server;
use settings::Console;

struct Shared {
    access: Access,
    history: History,
    server: Server,
}

type Here = State<Arc<Shared>>;
type Answer = std::result::Result<Json<Value>, (StatusCode, Json<Value>)>;

/// The pages, and the job that watches the server for them.
///
/// # Errors
/// If the configuration was not checked.
pub fn new(console: &Console, seed: &Seed) -> Result<(Router, Job)> {
    let history = History::default();
    let job = history.job(seed);
    let shared = Shared { access: Access::new(console)?, history, server: Server::new(seed) };
    let shared = Arc::new(shared);
    // Whoever is let in may look; to act or to see records takes an operator.
    let act = Router::new()
        .route("/queue", get(queue))
        .route("/queue", post(dead))
        .route("/cache/clear", post(clear))
        .route("/account/credit", post(credit))
        .route("/account/policies", post(policies))
        .route_layer(middleware::from_fn(operators));
    let look = Router::new()
        .route("/session", get(session))
        .route("/now", get(now))
        .route("/spenders", get(spenders))
        .route("/account", get(account))
        .route("/cache", get(cache))
        .route("/nodes", get(nodes))
        .merge(act)
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), known));
    let api = look.route("/sign-in", post(sign_in)).route("/sign-out", post(sign_out));
    let router = Router::new()
        .route("/", get(|| file(Path(String::new()))))
        .route("/console/{name}", get(file))
        .nest("/console/api", api)
        .layer(middleware::from_fn(guarded))
        .with_state(shared);
    Ok((router, job))
}

async fn file(Path(name): Path<String>) -> Response {
    page::file(&name).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// What every answer of the console says to the browser.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets in who is known. What changes something also needs the token that only the page can send.
async fn known(
    State(shared): Here,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(visitor) = shared.access.visitor(peer, request.headers()) else {
        return refuse(StatusCode::UNAUTHORIZED, "sign in");
    };
    let given = request.headers().get(HeaderName::from_static(CSRF)).map(HeaderValue::as_bytes);
    if request.method() != axum::http::Method::GET && given != Some(visitor.csrf.as_bytes()) {
        return refuse(StatusCode::FORBIDDEN, "not sent by the page");
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

async fn operators(request: Request, next: Next) -> Response {
    match request.extensions().get::<Visitor>() {
        Some(Visitor { role: Role::Operator, .. }) => next.run(request).await,
        _ => refuse(StatusCode::FORBIDDEN, "only for operators"),
    }
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Asks the server, in a thread that may wait.
async fn ask<T: Send + 'static>(
    shared: Arc<Shared>,
    ask: impl FnOnce(&Shared) -> std::result::Result<T, Error> + Send + 'static,
) -> std::result::Result<T, (StatusCode, Json<Value>)> {
    let answer = tokio::task::spawn_blocking(move || ask(&shared)).await;
    let failed = |error: String| (StatusCode::BAD_GATEWAY, Json(json!({ "error": error })));
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        // The server is well, and says what is wrong with what was sent.
        Ok(Err(Error::Reply(refusal))) => {
            Err((StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": refusal.to_string() }))))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

async fn session(axum::Extension(visitor): axum::Extension<Visitor>) -> Json<Value> {
    Json(json!({ "role": visitor.role, "csrf": visitor.csrf, "signed_in": visitor.signed_in }))
}

#[derive(Deserialize)]
struct SignIn {
    token: String,
}

async fn sign_in(
    State(shared): Here,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Json(body): Json<SignIn>,
) -> Response {
    // Behind a proxy with TLS the browser is not to send the cookie without it.
    let secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    match shared.access.sign_in(&body.token) {
        Ok(Some((id, role))) => {
            tracing::info!(%peer, ?role, "console: signed in");
            let cookie =
                format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict{}", if secure { "; Secure" } else { "" });
            ([(header::SET_COOKIE, cookie)], Json(json!({ "role": role }))).into_response()
        }
        Ok(None) => {
            tracing::warn!(%peer, "console: a sign-in was refused");
            refuse(StatusCode::UNAUTHORIZED, "not a token of this console")
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

async fn sign_out(State(shared): Here, headers: HeaderMap) -> Json<Value> {
    shared.access.sign_out(&headers);
    Json(Value::Null)
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: f64,
}

async fn now(State(shared): Here, Query(Since { since }): Query<Since>) -> Json<Value> {
    let (points, sample) = shared.history.since(since);
    Json(json!({ "points": points, "sample": sample.as_deref() }))
}

async fn spenders(State(shared): Here) -> Answer {
    let (_, sample) = shared.history.since(f64::MAX);
    let rows = ask(shared, move |shared| {
        let mut rows = Vec::new();
        for spender in sample.iter().flat_map(|sample| &sample.spenders) {
            let budgets = shared.server.budgets(&spender.key)?;
            rows.push(json!({ "key": spender.key, "minute": spender.last_minute, "hour": spender.last_hour, "budgets": budgets }));
        }
        Ok(rows)
    });
    Ok(Json(rows.await?.into()))
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

async fn account(State(shared): Here, Query(Key { key }): Query<Key>) -> Answer {
    Ok(Json(ask(shared, move |shared| shared.server.account(&key)).await?))
}

async fn queue(State(shared): Here, Query(Key { key }): Query<Key>) -> Answer {
    Ok(Json(ask(shared, move |shared| shared.server.queue(&key)).await?))
}

async fn cache(State(shared): Here) -> Answer {
    Ok(Json(ask(shared, |shared| shared.server.cache()).await?))
}

async fn nodes(State(shared): Here) -> Answer {
    Ok(Json(ask(shared, |shared| shared.server.nodes()).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Requeue,
    Drop,
}

#[derive(Deserialize)]
struct Dead {
    key: String,
    /// A batch's id, or `ALL`.
    batch: String,
    action: Action,
}

async fn dead(State(shared): Here, ConnectInfo(peer): ConnectInfo<SocketAddr>, Json(body): Json<Dead>) -> Answer {
    let Dead { key, batch, action } = body;
    let requeue = matches!(action, Action::Requeue);
    let (of, id) = (key.clone(), batch.clone());
    let batches = ask(shared, move |shared| shared.server.dead(&of, &id, requeue)).await?;
    tracing::info!(%peer, key, batch, requeue, batches, "console: dead letters were requeued or dropped");
    Ok(Json(json!({ "batches": batches })))
}

#[derive(Deserialize)]
struct Clear {
    category: String,
}

async fn clear(State(shared): Here, ConnectInfo(peer): ConnectInfo<SocketAddr>, Json(body): Json<Clear>) -> Answer {
    let category = body.category.clone();
    let entries = ask(shared, move |shared| shared.server.clear(&category)).await?;
    tracing::info!(%peer, category = body.category, entries, "console: a category of the cache was cleared");
    Ok(Json(json!({ "entries": entries })))
}

#[derive(Deserialize)]
struct Credit {
    key: String,
    period: String,
    amount: String,
    meter: String,
    /// Made by the page for each form, so that a request that is sent twice gives one credit.
    id: String,
}

async fn credit(State(shared): Here, ConnectInfo(peer): ConnectInfo<SocketAddr>, Json(body): Json<Credit>) -> Answer {
    let wrong = |error: String| (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "error": error })));
    let Credit { key, period, amount, meter, id } = body;
    let periods = [Period::Day, Period::Week, Period::Month, Period::Total];
    let of =
        periods.into_iter().find(|of| of.as_str() == period).ok_or_else(|| wrong(format!("not a period: {period}")))?;
    let given = amount.trim().parse::<Amount>().map_err(|_| wrong(format!("not an amount: {amount}")))?;
    let (to, of_meter, once) = (key.clone(), meter.clone(), id.clone());
    let credit = ask(shared, move |shared| shared.server.credit(&to, of, given, &of_meter, &once)).await?;
    tracing::info!(%peer, key, period, meter, amount = %given, id, %credit, "console: a credit was given or taken back");
    Ok(Json(json!({ "credit": credit.to_string() })))
}

#[derive(Deserialize)]
struct Policies {
    key: String,
    /// As GW.POLICYPUT takes it.
    document: String,
}

async fn policies(
    State(shared): Here,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Json(body): Json<Policies>,
) -> Answer {
    let Policies { key, document } = body;
    let (of, text) = (key.clone(), document.clone());
    let changed = ask(shared, move |shared| shared.server.set_policies(&of, &text)).await?;
    tracing::info!(%peer, key, document, changed, "console: the policies of an account were set");
    Ok(Json(json!({ "changed": changed })))
}
