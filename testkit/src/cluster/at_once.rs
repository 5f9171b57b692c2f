//! Moves of slots in one step, which Valkey can do from 9.0 on.

use super::nodes::{Cluster, node_id};
use crate::error::Error;
use crate::server::Server;
use crate::wait::{DEADLINE, await_until};
use redis::{FromRedisValue as _, RedisResult, Value, cmd};
use std::collections::HashMap;

impl Cluster {
    /// Whether the chosen server can move slots in one step ([`Self::move_slots_at_once`]).
    ///
    /// # Errors
    /// If it does not start.
    pub fn moves_slots_at_once() -> Result<bool, Error> {
        let server = Server::options().without_module().cluster_node().start()?;
        let help: Vec<String> = cmd("CLUSTER").arg("HELP").query(&mut server.connect()?)?;
        Ok(help.iter().any(|line| line.starts_with("MIGRATESLOTS")))
    }

    /// Moves slots with all their keys from one primary to another in one step (Valkey's `CLUSTER MIGRATESLOTS`), and
    /// returns when all nodes know it.
    ///
    /// # Errors
    /// If the server refuses, or the move fails.
    pub fn move_slots_at_once(&self, [first, last]: [u16; 2], from: &Server, to: &Server) -> Result<(), Error> {
        self.begin_move_at_once([first, last], from, to)?;
        self.end_move_at_once(from)
    }

    /// The first step of [`Self::move_slots_at_once`]: the rest happens by itself.
    ///
    /// # Errors
    /// If the server refuses.
    pub fn begin_move_at_once(&self, [first, last]: [u16; 2], from: &Server, to: &Server) -> Result<(), Error> {
        let mut migrate = cmd("CLUSTER");
        migrate.arg("MIGRATESLOTS").arg("SLOTSRANGE").arg(first).arg(last);
        migrate.arg("NODE").arg(node_id(&mut to.connect()?)?);
        Ok(migrate.exec(&mut from.connect()?)?)
    }

    /// Waits until a move that [`Self::begin_move_at_once`] has begun is complete.
    ///
    /// # Errors
    /// If it fails.
    pub fn end_move_at_once(&self, from: &Server) -> Result<(), Error> {
        let mut source = from.connect()?;
        let mut state = String::new();
        await_until("the slots to move", DEADLINE, || {
            let moves: RedisResult<Vec<HashMap<String, Value>>> =
                cmd("CLUSTER").arg("GETSLOTMIGRATIONS").query(&mut source);
            let last = moves.ok().and_then(|moves| moves.into_iter().next()).unwrap_or_default();
            let text =
                |field| last.get(field).and_then(|value| String::from_redis_value_ref(value).ok()).unwrap_or_default();
            state = format!("{} {}", text("state"), text("message"));
            ["success", "failed", "cancelled"].iter().any(|end| state.starts_with(end))
        })?;
        match state.starts_with("success") {
            true => self.await_agreement(),
            false => Err(Error::new(format!("the slots did not move: {state}"))),
        }
    }
}
