//! `gw run`: every job of a configuration in one process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use clap::ValueEnum;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Config};
use crate::metrics::Exporter;
use crate::ship::settings::Ship;
use crate::stop::Stop;
use crate::supervise::Supervisor;
use crate::{console, http, metrics, ship, sync};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration
    #[arg(long, env = "GW_CONFIG", default_value = "gw.toml")]
    config: PathBuf,
    /// The form of log lines
    #[arg(long, env = "GW_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Only checks the configuration
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The exit code of a configuration that is wrong: trying again is of no use.
const WRONG_CONFIG: u8 = 2;

impl Args {
    /// Runs until SIGINT or SIGTERM.
    pub fn run(&self) -> ExitCode {
        let config = match config::read(&self.config) {
            Ok(config) => config,
            Err(wrong) => {
                eprintln!("{wrong}");
                return ExitCode::from(WRONG_CONFIG);
            }
        };
        if self.check {
            println!("ok");
            return ExitCode::SUCCESS;
        }
        log_to_stderr(self.log_format);
        match run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("gw: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// Levels are those of RUST_LOG, or `info`.
fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

fn run(config: &Config) -> Result<()> {
    let seed = config.seed()?;
    let shipped = config.ship.iter().flat_map(Ship::named_queues).collect();
    let exporter = Exporter::new(config.metrics.clone(), &seed, shipped);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = http::bind(config.http.listen).await?;
        let address = listener.local_addr()?;
        // Before any job starts, so that none is interrupted by a signal that nobody waits for yet.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (stop, mut supervisor) = (Stop::default(), Supervisor::default());
        for part in &config.ship {
            for (name, job) in ship::jobs(part, &seed) {
                supervisor.start(name, &stop, job);
            }
        }
        if let Some(part) = &config.sync {
            let (name, job) = sync::job(part, &seed)?;
            supervisor.start(name, &stop, job);
        }
        let mut pages = Router::new();
        if let Some(part) = config.console.as_ref().filter(|part| console::settings::is_on(part, config.http.listen)) {
            let (console, job) = console::new(part, &seed)?;
            supervisor.start("console".into(), &stop, job);
            pages = pages.merge(console);
            tracing::info!("the console is at http://{address}/");
        }
        let supervisor = Arc::new(supervisor);
        tracing::info!(%address, jobs = supervisor.health().len(), "started");
        let ended = {
            let stop = stop.clone();
            async move {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                tracing::info!("ending");
                stop.request();
            }
        };
        let jobs = http::jobs_of(&supervisor);
        let others = metrics::router(exporter, Arc::clone(&jobs)).merge(pages);
        http::serve(listener, jobs, others, ended).await?;
        let supervisor = Arc::into_inner(supervisor).context("the jobs are still being asked for")?;
        // A job that waits for a server or store ends within its time-outs; a second signal does not wait for it.
        tokio::task::spawn_blocking(move || supervisor.join()).await?;
        tracing::info!("ended");
        anyhow::Ok(())
    })
}
