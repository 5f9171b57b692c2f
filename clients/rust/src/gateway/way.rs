use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use tokio::task::JoinSet;

use super::failure::not_connected;
use super::waiting::within;
use crate::error::{Error, Unavailable};

/// Where connections lead, and with which settings.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) client: Client,
    pub(super) to: To,
}

#[derive(Clone)]
pub(super) enum To {
    /// The client's own address.
    Server,
    /// A cluster of which that is one node.
    Cluster,
    /// The primary that the first sentinel to answer names.
    Sentinel { sentinels: Arc<[Client]>, name: Arc<str> },
}

impl Way {
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.to, To::Cluster)
    }

    /// The client to connect with now.
    pub(super) async fn now(&self, longest: Duration) -> Result<Client, Error> {
        let To::Sentinel { sentinels, name } = &self.to else { return Ok(self.client.clone()) };
        // All at once: those that do not answer hold up nobody.
        let mut asked = JoinSet::new();
        for sentinel in sentinels.iter() {
            asked.spawn(primary_of(sentinel.clone(), name.clone(), longest));
        }
        let first = async {
            while let Some(found) = asked.join_next().await {
                if let Ok(Ok(found)) = found {
                    return Some(found);
                }
            }
            None
        };
        let none = || Error::Unavailable(Unavailable::new("connection", false, true));
        match within(longest, first).await {
            Some(Some((host, port))) => self.at(&host, port),
            Some(None) => Err(none()),
            None => Err(Error::Unavailable(Unavailable::new("timeout", false, true))),
        }
    }

    /// The same client at another address.
    pub(super) fn at(&self, host: &str, port: u16) -> Result<Client, Error> {
        let info = self.client.get_connection_info().clone();
        let place = match info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Client::open(info.set_addr(place)).map_err(not_connected)
    }
}

async fn primary_of(sentinel: Client, name: Arc<str>, longest: Duration) -> RedisResult<(String, u16)> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(longest)).set_response_timeout(Some(longest));
    let mut connection = sentinel.get_multiplexed_async_connection_with_config(&config).await?;
    redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&*name).query_async(&mut connection).await
}
