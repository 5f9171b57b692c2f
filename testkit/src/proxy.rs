//! A TCP proxy in front of one server, for links that are cut or slow.

use crate::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Which connections a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Those of clients, other nodes' MIGRATE among them.
    Clients,
    /// Those of replicas, which begin with REPLCONF.
    Replicas,
    All,
}

/// The direction of the bytes that a link loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client: the server never sees the command.
    Request,
    /// To the client: the server has run the command, and nobody hears of it.
    Reply,
}

/// Passes bytes between clients and a server, until told otherwise. Faults happen by count and not by time, so that a
/// test decides what they hit. Dropping the proxy closes its port and all its links.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The server's port; 0 as long as there is none.
    target: u16,
    refused: Option<Links>,
    delay: Duration,
    lose: Option<Direction>,
    links: Vec<Link>,
    next_link: u64,
    ended: bool,
}

#[derive(Debug)]
struct Link {
    number: u64,
    is_replica: bool,
    client: TcpStream,
    server: TcpStream,
}

impl Links {
    fn contain(self, is_replica: bool) -> bool {
        match self {
            Self::Clients => !is_replica,
            Self::Replicas => is_replica,
            Self::All => true,
        }
    }
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1, without a server so far: it refuses links.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start() -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.state().ended {
                    return;
                }
                // A client that has gone again, and a server that does not accept, leave nothing to do.
                let _ = client.map_err(Error::from).and_then(|client| accepting.link(client));
            }
        });
        Ok(Self { port, shared, acceptor: Some(acceptor) })
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connects new links to the server on this port of 127.0.0.1.
    pub fn forward_to(&self, port: u16) {
        self.shared.state().target = port;
    }

    /// Closes such links, and every new one, until [`heal`](Self::heal).
    pub fn cut(&self, links: Links) {
        let mut state = self.shared.state();
        state.refused = Some(links);
        state.close(links);
    }

    /// Ends a [`cut`](Self::cut).
    pub fn heal(&self) {
        self.shared.state().refused = None;
    }

    /// Closes the links that there are. New ones are accepted.
    pub fn reset(&self, links: Links) {
        self.shared.state().close(links);
    }

    /// Loses what a client's link carries next in this direction, and closes that link.
    pub fn lose_next(&self, direction: Direction) {
        self.shared.state().lose = Some(direction);
    }

    /// Whether a [`lose_next`](Self::lose_next) has hit nothing so far.
    pub fn is_about_to_lose(&self) -> bool {
        self.shared.state().lose.is_some()
    }

    /// Passes on each piece so much later.
    pub fn delay(&self, by: Duration) {
        self.shared.state().delay = by;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state();
            state.ended = true;
            state.close(Links::All);
        }
        // The acceptor looks at `ended` when the next client comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn close(&mut self, links: Links) {
        for link in self.links.iter().filter(|link| links.contain(link.is_replica)) {
            link.close();
        }
    }
}

impl Link {
    /// Both of its threads then end.
    fn close(&self) {
        // Fails if the link is closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn link(self: &Arc<Self>, client: TcpStream) -> Result<(), Error> {
        let mut state = self.state();
        // Whether a link is a replica's shows when it has said something.
        if state.target == 0 || matches!(state.refused, Some(Links::All | Links::Clients)) {
            return Ok(());
        }
        let server = TcpStream::connect(("127.0.0.1", state.target))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let number = state.next_link;
        state.next_link += 1;
        let pipes = [
            (Direction::Request, client.try_clone()?, server.try_clone()?),
            (Direction::Reply, server.try_clone()?, client.try_clone()?),
        ];
        state.links.push(Link { number, is_replica: false, client, server });
        for (direction, from, to) in pipes {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                shared.pass(number, direction, from, to);
                // One direction has ended: so does the other.
                let mut state = shared.state();
                if let Some(at) = state.links.iter().position(|link| link.number == number) {
                    state.links.swap_remove(at).close();
                }
            });
        }
        Ok(())
    }

    /// Passes bytes on until the link is closed.
    fn pass(&self, number: u64, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let piece = &buffer[..length];
            let Some(delay) = self.permits(number, direction, piece) else { return };
            if !delay.is_zero() {
                thread::sleep(delay);
            }
            if to.write_all(piece).is_err() {
                return;
            }
        }
    }

    /// The delay of a piece; `None` if it is lost, and the link with it.
    fn permits(&self, number: u64, direction: Direction, piece: &[u8]) -> Option<Duration> {
        let mut state = self.state();
        let (refused, lose, delay) = (state.refused, state.lose, state.delay);
        let link = state.links.iter_mut().find(|link| link.number == number)?;
        link.is_replica |= direction == Direction::Request && piece.windows(8).any(|word| word == b"REPLCONF");
        let is_replica = link.is_replica;
        if !is_replica && lose == Some(direction) {
            state.lose = None;
            return None;
        }
        (!refused.is_some_and(|links| links.contain(is_replica))).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    /// A server that replies what it gets, and its proxy. The receiver has what the server got.
    fn echo() -> (Proxy, Receiver<Vec<u8>>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Proxy::start().unwrap();
        proxy.forward_to(listener.local_addr().unwrap().port());
        let (sender, got) = channel();
        thread::spawn(move || {
            for link in listener.incoming() {
                let (mut link, sender) = (link.unwrap(), sender.clone());
                thread::spawn(move || {
                    let mut buffer = [0; 64];
                    while let Ok(length @ 1..) = link.read(&mut buffer) {
                        // The test has ended if nobody listens.
                        let _ = sender.send(buffer[..length].to_vec());
                        let _ = link.write_all(&buffer[..length]);
                    }
                });
            }
        });
        (proxy, got)
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(("127.0.0.1", proxy.port())).unwrap()
    }

    /// The echo of `text`; empty if the link is closed before.
    fn ask(link: &mut TcpStream, text: &str) -> String {
        let mut buffer = [0; 64];
        let length = link.write_all(text.as_bytes()).and_then(|()| link.read(&mut buffer)).unwrap_or(0);
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn bytes_pass_until_the_links_are_cut_and_again_when_they_are_healed() {
        let (proxy, _got) = echo();
        let mut link = connect(&proxy);
        assert_eq!(ask(&mut link, "first"), "first");
        proxy.cut(Links::All);
        assert_eq!(ask(&mut link, "second"), "");
        assert_eq!(ask(&mut connect(&proxy), "third"), "");
        proxy.heal();
        let mut link = connect(&proxy);
        assert_eq!(ask(&mut link, "fourth"), "fourth");
        proxy.reset(Links::Clients);
        assert_eq!(ask(&mut link, "fifth"), "");
        proxy.delay(Duration::from_millis(1));
        assert_eq!(ask(&mut connect(&proxy), "sixth"), "sixth");
    }

    #[test]
    fn replicas_are_told_from_clients() {
        let (proxy, _got) = echo();
        let (mut client, mut replica) = (connect(&proxy), connect(&proxy));
        assert_eq!(
            (ask(&mut client, "PING"), ask(&mut replica, "REPLCONF port")),
            ("PING".into(), "REPLCONF port".into())
        );
        proxy.cut(Links::Replicas);
        assert_eq!((ask(&mut client, "GET"), ask(&mut replica, "REPLCONF ack")), ("GET".into(), String::new()));
        assert_eq!(ask(&mut connect(&proxy), "REPLCONF port"), "");
        assert_eq!(ask(&mut connect(&proxy), "GET"), "GET");
    }

    #[test]
    fn a_lost_reply_has_reached_the_server_and_a_lost_request_has_not() {
        let (proxy, got) = echo();
        proxy.lose_next(Direction::Reply);
        assert_eq!(ask(&mut connect(&proxy), "run"), "");
        assert_eq!(got.recv().unwrap(), b"run");
        proxy.lose_next(Direction::Request);
        assert_eq!(ask(&mut connect(&proxy), "not run"), "");
        assert_eq!(ask(&mut connect(&proxy), "after"), "after");
        assert_eq!(got.recv().unwrap(), b"after");
    }

    #[test]
    fn a_proxy_ends_with_its_owner() {
        let (proxy, _got) = echo();
        let (mut link, port) = (connect(&proxy), proxy.port());
        assert_eq!(ask(&mut link, "before"), "before");
        drop(proxy);
        assert_eq!(ask(&mut link, "after"), "");
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
