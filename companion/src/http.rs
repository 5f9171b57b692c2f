//! Health over HTTP, and whatever else is served with it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::supervise::{Health, Supervisor};

/// Asks for the health of all jobs.
pub type Jobs = Arc<dyn Fn() -> Vec<Health> + Send + Sync>;

/// Binds the address.
///
/// # Errors
/// If it is taken, or is not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Serves health and `others` until `ended` is ready, and then until running requests are answered.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    jobs: Jobs,
    others: Router,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let router = Router::new().route("/healthz", get(health)).route("/readyz", get(ready)).with_state(jobs);
    let service = router.merge(others).into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).with_graceful_shutdown(ended).await?)
}

/// The process is alive: always 200, with the health of each job.
async fn health(State(jobs): State<Jobs>) -> impl IntoResponse {
    Json(jobs())
}

/// All jobs do their work: 200, or 503 with the health of each job.
async fn ready(State(jobs): State<Jobs>) -> impl IntoResponse {
    let jobs = jobs();
    let is_ready = jobs.iter().all(|job| job.is_well);
    (if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(jobs))
}

/// The health of a supervisor's jobs, for [`serve`].
pub fn jobs_of(supervisor: &Arc<Supervisor>) -> Jobs {
    let supervisor = Arc::clone(supervisor);
    Arc::new(move || supervisor.health())
}
