//! All primaries of a server or cluster, for calls that are about no key.

use redis::Connection;
use redis_gateway_client::Error;

use crate::nodes::{self, Address, PATIENCE, Seed};

/// A primary, and how to ask it.
pub struct Primary {
    pub address: Address,
    pub connection: Connection,
}

/// The primaries as they were when one of them last failed.
pub struct Fleet {
    seed: Seed,
    /// None before the first call, and after a failure.
    primaries: Vec<Primary>,
}

impl Fleet {
    pub fn new(seed: Seed) -> Self {
        Self { seed, primaries: Vec::new() }
    }

    /// Asks each primary the same. After an error the primaries are looked up again, with the next call.
    ///
    /// # Errors
    /// If one of them cannot be asked, or refuses.
    pub fn each<T>(&mut self, mut ask: impl FnMut(&mut Primary) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        if self.primaries.is_empty() {
            self.primaries = self.look_up()?;
        }
        let answers = self.primaries.iter_mut().map(&mut ask).collect();
        if matches!(answers, Err(Error::Redis(_))) {
            self.primaries.clear();
        }
        answers
    }

    fn look_up(&self) -> Result<Vec<Primary>, Error> {
        let connect = |address: Address| {
            let connection = self.seed.connect(&address, PATIENCE)?;
            Ok(Primary { address, connection })
        };
        nodes::primaries(&self.seed.shards()?).into_iter().map(connect).collect()
    }
}
