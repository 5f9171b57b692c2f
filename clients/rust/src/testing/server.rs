//! The fake's connections: real ones, so that the client is what it is in production.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::state::State;
use super::wire::{Reply, read_words};
use super::words::upper;
use crate::Text;

/// Whoever waits in the server asks again after this time.
const WAIT: Duration = Duration::from_millis(10);

pub(super) struct Shared {
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub(super) state: State,
    away: bool,
    ended: bool,
    open: HashMap<u64, TcpStream>,
    last: u64,
}

impl Inner {
    /// From now on no call reaches the server, or they do again.
    pub(super) fn set_away(&mut self, away: bool) {
        self.away = away;
        if away {
            self.close();
        }
    }

    fn close(&mut self) {
        for (_, connection) in self.open.drain() {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Accepts connections until it is dropped.
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
    pub(super) port: u16,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(now: i64) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let inner = Inner { state: State::new(now), away: false, ended: false, open: HashMap::new(), last: 0 };
        let shared = Arc::new(Shared { inner: Mutex::new(inner) });
        let own = shared.clone();
        let accepting =
            std::thread::Builder::new().name("gw-fake".to_owned()).spawn(move || accept(&listener, &own))?;
        Ok(Self { shared, port, accepting: Some(accepting) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        {
            let mut inner = self.shared.lock();
            inner.ended = true;
            inner.close();
        }
        // It looks up when a connection comes. Without one it stays, with nothing to serve.
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        let mut inner = shared.lock();
        if inner.ended {
            return;
        }
        // While it is away, whatever connects is closed at once.
        let Some(connection) = connection.ok().filter(|_| !inner.away) else { continue };
        let Ok(other) = connection.try_clone() else { continue };
        inner.last += 1;
        let number = inner.last;
        inner.open.insert(number, other);
        let own = shared.clone();
        // They end with the connection, each.
        std::thread::spawn(move || {
            serve(connection, &own);
            own.lock().open.remove(&number);
        });
    }
}

/// Reads commands and sends their replies until the connection ends. A client may send more before it reads any of them.
fn serve(connection: TcpStream, shared: &Shared) {
    let Ok(mut to) = connection.try_clone() else { return };
    let _ = connection.set_nodelay(true);
    let (replies, sent) = mpsc::channel::<Vec<u8>>();
    let writing = std::thread::spawn(move || {
        while sent.recv().is_ok_and(|reply| to.write_all(&reply).is_ok()) {}
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut from, mut resp3) = (BufReader::new(connection), false);
    while let Ok(words) = read_words(&mut from) {
        let Some(reply) = answer(words, shared, &mut resp3) else { break };
        let mut bytes = Vec::new();
        reply.write(resp3, &mut bytes);
        if replies.send(bytes).is_err() {
            break;
        }
    }
    drop(replies);
    let _ = writing.join();
}

/// The reply of a command; none if the server is away.
fn answer(words: Vec<Text>, shared: &Shared, resp3: &mut bool) -> Option<Reply> {
    let name = upper(&words[0]);
    let waits = ["GW.ACQUIRE", "GW.CACHEFETCH"].contains(&name.as_str())
        && words.iter().any(|word| ["BLOCK", "WAIT"].contains(&upper(word).as_str()));
    if waits {
        std::thread::sleep(WAIT);
    }
    let mut inner = shared.lock();
    if inner.away || inner.ended {
        return None;
    }
    Some(match name.as_str() {
        "HELLO" => hello(&words, resp3),
        "CLIENT" | "SELECT" | "AUTH" => Reply::Ok,
        "PING" => "PONG".into(),
        _ => inner.state.execute(words),
    })
}

fn hello(words: &[Text], resp3: &mut bool) -> Reply {
    let version = match words.get(1).map(|word| &**word) {
        None | Some(b"2") => 2,
        Some(b"3") => 3,
        _ => return Reply::Error("NOPROTO unsupported protocol version".to_owned()),
    };
    *resp3 = version == 3;
    let fields = [("server", "redis".into()), ("version", "7.0.0".into()), ("proto", version.into())];
    Reply::Map(fields.into_iter().flat_map(|(name, value): (&str, Reply)| [name.into(), value]).collect())
}
