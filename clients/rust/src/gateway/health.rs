use std::time::{Duration, Instant};

use super::handle::Gateway;
use crate::commands::stats;
use crate::error::Error;

/// How a gateway and its server are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The server answers, and has the module.
    pub ok: bool,
    /// Why not: why the server is away, or the kind of its error.
    pub reason: Option<String>,
    /// How long the answer took.
    pub took: Duration,
    /// Servers that are not asked now.
    pub circuits_open: usize,
    /// For how long a server was away, in all: that of the one that was away longest.
    pub away: Duration,
    /// Settlements and charges that wait to be sent.
    pub kept: usize,
    /// Log records that wait to be sent, in all buffers.
    pub log_records: usize,
}

impl Gateway {
    /// Whether the server and its module answer, how fast, and what waits to be sent.
    pub async fn health(&self) -> Health {
        let began = Instant::now();
        let found = self.core.run(&stats()).await;
        let reason = match &found {
            Ok(_) => None,
            Err(Error::Unavailable(away)) => Some(away.reason.to_owned()),
            // It answers, and has the module; this user may not ask for its figures.
            Err(Error::Reply(error)) if error.code == "NOPERM" => None,
            Err(Error::Reply(error)) => Some(error.kind.name().to_owned()),
            Err(_) => Some("unexpected".to_owned()),
        };
        let nodes = self.core.transport.nodes();
        Health {
            ok: reason.is_none(),
            reason,
            took: began.elapsed(),
            circuits_open: nodes.iter().filter(|node| node.circuit.is_open()).count(),
            away: nodes.iter().map(|node| node.circuit.away_for()).max().unwrap_or_default(),
            kept: self.core.kept.count(),
            log_records: self.core.log_records(),
        }
    }
}
