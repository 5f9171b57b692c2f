//! What the module costs commands on keys and channels of others: the same commands on a server without the module, with
//! it, and with a module that follows keys because a client of its own needs that.

use crate::case::{Case, Group, State, set};
use crate::generator::Generator;
use crate::instructions::{self, Count};
use crate::measure::{Bench, Samples};
use crate::result::Result;
use gw_testkit::{DEADLINE, Options, Server, await_until, module_path};
use redis::{Connection, cmd};
use std::array;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::thread;

/// The servers, in the order in which results are given.
pub const SERVERS: [&str; 3] = ["without the module", "with it", "following keys"];

const CHANNEL: &str = "channel";

/// The commands. Each is compared with itself on another server.
pub fn group() -> Group {
    let on_set = |name, line, expected| Case { state: set().state, ..Case::new(name, line, expected, State::Empty) };
    Group {
        requests_max: u64::MAX,
        cases: vec![
            set(),
            on_set("GET", "GET set:#", "\"xxx\""),
            on_set("EXPIRE", "EXPIRE set:# 100000", "1"),
            Case::new("SET + DEL", "SET set:# xxx", "OK", State::Empty).then("DEL set:#"),
            on_set("EVAL of GET", "EVAL return(redis.call('GET',KEYS[1])) 1 set:#", "\"xxx\""),
            Case::new("PUBLISH to a subscriber", &format!("PUBLISH {CHANNEL} xxx"), "1", State::Empty),
        ],
        pairs: Vec::new(),
    }
}

/// Measures the group on each of the servers, in turn.
pub fn measure(generator: fn(u16) -> Result<Generator>, rounds: usize, requests: u64) -> Result<[Samples; 3]> {
    let servers = [Server::options().without_module().start()?, Server::start()?, Server::start()?];
    follow_keys(&mut servers[2].connect()?)?;
    servers.iter().try_for_each(subscribe)?;
    let generators = [generator(servers[0].port())?, generator(servers[1].port())?, generator(servers[2].port())?];
    let mut samples: [Samples; 3] = Default::default();
    for round in 0..rounds {
        let mut order = [0, 1, 2];
        order.rotate_left(round % 3);
        for index in order {
            let (Some(server), Some(generator)) = (servers.get(index), generators.get(index)) else { continue };
            let measured = Bench { server, generator, rounds: 1, requests }.group(&group())?;
            if let Some(samples) = samples.get_mut(index) {
                samples.extend(measured);
            }
        }
    }
    Ok(samples)
}

/// Counts the group's instructions on one server, which loads the module and then follows keys while it runs: so that
/// nothing else is different, such as the seed of the server's hashes.
pub fn count(generator: fn(u16) -> Result<Generator>) -> Result<[Vec<Count>; 3]> {
    let options = Server::options().without_module().config("enable-module-command yes");
    let options = instructions::CONFIG.into_iter().fold(options.under(&instructions::WRAPPER), Options::config);
    let server = options.start()?;
    let generator = generator(server.port())?;
    subscribe(&server)?;
    let mut connection = server.connect()?;
    let count = || instructions::counts(&[group()], &server, &generator);
    let without = count()?;
    cmd("MODULE").arg("LOAD").arg(module_path()?.as_os_str().as_encoded_bytes()).exec(&mut connection)?;
    let with = count()?;
    follow_keys(&mut connection)?;
    Ok([without, with, count()?])
}

/// Subscribes to the channel, and takes whatever comes until the server ends.
fn subscribe(server: &Server) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port()))?;
    write!(stream, "SUBSCRIBE {CHANNEL}\r\n")?;
    thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
    let mut connection = server.connect()?;
    let mut subscribed =
        || cmd("PUBLISH").arg(CHANNEL).arg("first").query(&mut connection).is_ok_and(|count: u64| count == 1);
    Ok(await_until("the subscriber", DEADLINE, &mut subscribed)?)
}

/// A worker that asks for changes of ledgers makes the module follow keys.
fn follow_keys(connection: &mut Connection) -> Result<()> {
    let mut asked = || cmd("GW.COSTCHANGES").query::<redis::Value>(connection).is_ok();
    Ok(await_until("the first listing", DEADLINE, &mut asked)?)
}

/// Each of the counted commands with its instructions on each server.
pub fn by_command(counted: &[Vec<Count>; 3]) -> impl Iterator<Item = (&'static str, [f64; 3])> {
    let [without, ..] = counted;
    without.iter().map(|case| {
        let of = |index: usize| {
            let found = counted.get(index).and_then(|counts| counts.iter().find(|count| count.name == case.name));
            found.map_or(f64::NAN, |count| count.instructions)
        };
        (case.name, array::from_fn(of))
    })
}
