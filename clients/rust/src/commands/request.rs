use std::fmt;

use redis::{Cmd, Pipeline, Value};

use crate::error::{Error, ReplyError, UnexpectedReply};

pub(super) type Decode<T> = fn(Value) -> Result<T, UnexpectedReply>;

/// A call that was not sent yet: its words, how its reply is read, and whether it may be sent again.
///
/// ```no_run
/// use redis_gateway_client::commands::{add_cost, allow};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut connection = redis::Client::open("redis://127.0.0.1/")?.get_connection()?;
/// let verdict = allow("user:42", 100, &Default::default()).query(&mut connection)?;
///
/// // Two calls in one round trip, each with its own result.
/// let (limit, charge) = (allow("user:42", 100, &Default::default()), add_cost("spend:42", 1.into(), &Default::default()));
/// let mut pipe = redis::pipe();
/// limit.add_to(&mut pipe);
/// charge.add_to(&mut pipe);
/// let mut replies = pipe.ignore_errors().query::<Vec<redis::Value>>(&mut connection)?.into_iter();
/// let verdict = limit.decode(replies.next().unwrap())?;
/// let spent = charge.decode(replies.next().unwrap())?;
/// # Ok(())
/// # }
/// ```
pub struct Request<T> {
    cmd: Cmd,
    decode: Decode<T>,
    repeatable: bool,
    has_key: bool,
}

impl<T> Request<T> {
    pub(super) fn new(cmd: Cmd, decode: Decode<T>, repeatable: bool, has_key: bool) -> Self {
        Self { cmd, decode, repeatable, has_key }
    }

    /// The command with its arguments, as redis-rs takes it.
    pub fn cmd(&self) -> &Cmd {
        &self.cmd
    }

    /// The words that are sent: the command's name, and its arguments.
    pub fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.cmd.args_iter().map(|word| match word {
            redis::Arg::Simple(word) => word,
            _ => &[][..],
        })
    }

    /// The command's name, such as `GW.ADMIT`.
    pub fn name(&self) -> &str {
        self.words().next().and_then(|word| std::str::from_utf8(word).ok()).unwrap_or_default()
    }

    /// The key by which a cluster's node is found: none if the command names no key.
    pub fn key(&self) -> Option<&[u8]> {
        if self.has_key { self.words().nth(1) } else { None }
    }

    /// Whether sending it again changes nothing more, if nobody knows whether it took effect.
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// Puts it into a pipeline or a transaction. [`Request::decode`] reads its reply.
    pub fn add_to(&self, pipe: &mut Pipeline) {
        pipe.add_command(self.cmd.clone());
    }

    /// Reads a reply.
    pub fn decode(&self, reply: Value) -> Result<T, Error> {
        if let Value::ServerError(error) = &reply {
            return Err(Error::Reply(ReplyError::from(error)));
        }
        Ok((self.decode)(reply)?)
    }

    /// Sends it over a connection, and waits for the reply. [`Request::query_cluster`] is for connections to a cluster.
    ///
    /// The wait is as long as the connection's read time-out: a call that waits in the server (`block_ms`, `wait_ms`) needs a longer
    /// one.
    pub fn query(&self, connection: &mut dyn redis::ConnectionLike) -> Result<T, Error> {
        self.decode(self.cmd.query::<Value>(connection)?)
    }

    /// Sends it over an async connection (feature `aio`), and waits for the reply. [`Request::query_cluster_async`] is for connections to a cluster.
    ///
    /// Connections of redis-rs that several tasks share answer one call after another: a call that waits in the server
    /// (`block_ms`, `wait_ms`) needs a connection of its own.
    #[cfg(feature = "aio")]
    pub async fn query_async(&self, connection: &mut impl redis::aio::ConnectionLike) -> Result<T, Error> {
        self.decode(self.cmd.query_async::<Value>(connection).await?)
    }
}

#[cfg(feature = "cluster")]
mod cluster {
    use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};

    use super::{Error, Request};

    impl<T> Request<T> {
        /// Where a cluster gets it: the primary that has the key, or any primary if it has none.
        ///
        /// What redis-rs would do by itself with a command that it does not know, take the first argument for a key, is right for
        /// those that have one.
        pub fn routing(&self) -> RoutingInfo {
            RoutingInfo::SingleNode(match self.key() {
                Some(key) => SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master)),
                None => SingleNodeRoutingInfo::RandomPrimary,
            })
        }

        /// Sends it to the node of a cluster that has its key, or to any primary if it has none: then the answer is that node's alone.
        pub fn query_cluster(&self, connection: &mut redis::cluster::ClusterConnection) -> Result<T, Error> {
            self.decode(connection.route_command(&self.cmd, self.routing())?)
        }

        /// The same for an async connection (feature `cluster-async`).
        #[cfg(feature = "cluster-async")]
        pub async fn query_cluster_async(
            &self,
            connection: &mut redis::cluster_async::ClusterConnection,
        ) -> Result<T, Error> {
            self.decode(connection.route_command(self.cmd.clone(), self.routing()).await?)
        }
    }
}

impl<T> Clone for Request<T> {
    fn clone(&self) -> Self {
        Self { cmd: self.cmd.clone(), ..*self }
    }
}

impl<T> fmt::Debug for Request<T> {
    /// The name alone: keys and values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("name", &self.name()).field("repeatable", &self.repeatable).finish()
    }
}
