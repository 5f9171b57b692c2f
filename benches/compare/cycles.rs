//! Load of several commands that belong together, such as a hold and its commit: redis-benchmark can send only one
//! command.

use crate::load::{CLIENTS, Load, RANDOM, UNIQUE, key_number};
use crate::random::Random;
use crate::result::Result;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Unique ids so far. They go on from run to run, because a run may find the data of the one before.
static IDS: AtomicU64 = AtomicU64::new(0);

/// Cycles per second. A cycle is each of the load's commands once, on one connection, with a key and a unique id of its
/// own.
///
/// # Errors
/// Also if the server replied errors.
pub fn run(port: u16, load: &Load) -> Result<f64> {
    let mut clients = (0..CLIENTS).map(|_| Client::connect(port, load)).collect::<Result<Vec<_>>>()?;
    let next = IDS.fetch_add(load.requests, Ordering::Relaxed);
    let mut numbers = Numbers { random: Random(next), keys: load.keys, next, end: next + load.requests };
    let start = Instant::now();
    loop {
        // While one client's replies are read, the server has the batches of all others.
        let mut waiting = false;
        for client in &mut clients {
            client.read_batch()?;
            waiting |= client.send_batch(load, &mut numbers)?;
        }
        if !waiting {
            return Ok(load.requests as f64 / start.elapsed().as_secs_f64());
        }
    }
}

/// Keys and unique ids.
struct Numbers {
    random: Random,
    keys: u64,
    next: u64,
    end: u64,
}

struct Client {
    stream: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    /// The key and the id of the current cycle, and how many of its commands were sent.
    numbers: [String; 2],
    sent: usize,
    /// Replies that are still to come.
    awaited: usize,
}

impl Client {
    fn connect(port: u16, load: &Load) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.write_all(format!("SELECT {}\r\n", load.database).as_bytes())?;
        let sent = load.commands.len();
        let mut client =
            Client { stream, output: vec![], input: vec![], numbers: Default::default(), sent, awaited: 1 };
        client.read_batch()?;
        Ok(client)
    }

    /// Sends a pipeline of commands; false if none are left.
    fn send_batch(&mut self, load: &Load, numbers: &mut Numbers) -> Result<bool> {
        self.output.clear();
        while self.awaited < load.pipeline as usize {
            if self.sent == load.commands.len() {
                if numbers.next == numbers.end {
                    break;
                }
                numbers.next += 1;
                self.numbers = [key_number(numbers.random.below(numbers.keys)), key_number(numbers.next)];
                self.sent = 0;
            }
            let Some(arguments) = load.commands.get(self.sent) else { break };
            let [key, id] = &self.numbers;
            write!(self.output, "*{}\r\n", arguments.len())?;
            for argument in arguments.iter() {
                let argument = argument.replace(RANDOM, key).replace(UNIQUE, id);
                write!(self.output, "${}\r\n{argument}\r\n", argument.len())?;
            }
            self.sent += 1;
            self.awaited += 1;
        }
        self.stream.write_all(&self.output)?;
        Ok(self.awaited > 0)
    }

    /// Reads all replies that are still to come.
    fn read_batch(&mut self) -> Result<()> {
        let mut buffer = [0; 1 << 14];
        while self.awaited > 0 {
            match reply_len(&self.input)? {
                Some(len) => {
                    self.input.drain(..len);
                    self.awaited -= 1;
                }
                None => match self.stream.read(&mut buffer) {
                    Ok(0) => return Err("the server has closed a connection".into()),
                    Ok(count) => self.input.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Ok(())
    }
}

/// The length of the first reply (RESP2) in bytes, if it is complete.
fn reply_len(input: &[u8]) -> Result<Option<usize>> {
    let (mut at, mut left) = (0, 1usize);
    while left > 0 {
        left -= 1;
        let line = input.get(at..).unwrap_or_default();
        let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(line.get(..end).unwrap_or_default())?;
        at += end + 2;
        match (line.get(..1), line.get(1..).unwrap_or_default()) {
            (Some("-"), error) => return Err(error.into()),
            (Some("$"), "-1") | (Some("*"), "-1") => {}
            (Some("$"), len) => at += len.parse::<usize>()? + 2,
            (Some("*"), len) => left += len.parse::<usize>()?,
            _ => {}
        }
    }
    Ok((at <= input.len()).then_some(at))
}
