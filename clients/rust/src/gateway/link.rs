use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection that tells whether it was lost, so that nothing is sent on it then: what was not sent can be sent on another one,
/// whatever it is.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    lost: Arc<AtomicBool>,
    /// With the last clone the connection closes, also if a reply has not come.
    _driver: Option<Arc<Driver>>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Over TLS and Unix sockets redis-rs makes the connection, and only a call tells that it was lost.
    pub(super) async fn connect(client: &Client, longest: Duration) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(longest)).set_response_timeout(None);
        let lost = Arc::new(AtomicBool::new(false));
        let info = client.get_connection_info();
        let ConnectionAddr::Tcp(host, port) = info.addr() else {
            let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
            return Ok(Self { connection, lost, _driver: None });
        };
        let stream = tokio::time::timeout(longest, TcpStream::connect((host.as_str(), *port))).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let told = Told { stream, lost: lost.clone() };
        let (made, driver) = MultiplexedConnection::new_with_config(info.redis_settings(), told, config).await?;
        Ok(Self { connection: made, lost, _driver: Some(Arc::new(Driver(tokio::spawn(driver)))) })
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }
}

/// A stream whose end is told.
struct Told {
    stream: TcpStream,
    lost: Arc<AtomicBool>,
}

impl Told {
    fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.lose();
    }
}

impl AsyncRead for Told {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let found = ready!(Pin::new(&mut self.stream).poll_read(context, into));
        if found.is_err() || into.filled().len() == before {
            self.lose();
        }
        Poll::Ready(found)
    }
}

impl AsyncWrite for Told {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
