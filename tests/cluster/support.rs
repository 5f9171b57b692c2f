//! Helpers for several files.

use gw_testkit::redis::{Cmd, Connection, cmd};
use gw_testkit::{Cluster, Server, reply_line};

/// A command from its words.
pub fn command(words: &str) -> Cmd {
    let mut words = words.split_ascii_whitespace();
    let mut command = cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    command
}

/// Runs a command given as words, and returns its reply or error as a line.
pub fn run(client: &mut Connection, words: &str) -> String {
    reply_line(command(words).query(client))
}

/// The primary of a key, and another one.
pub fn two<'a>(cluster: &'a Cluster, key: &str) -> (&'a Server, &'a Server) {
    let from = cluster.primary_of(key).unwrap();
    let is_other = |node: &&Server| node.port() != from.port() && !cluster.replicas_of(node).unwrap().is_empty();
    let to = cluster.nodes().iter().find(is_other);
    (from, to.or_else(|| cluster.nodes().iter().find(|node| node.port() != from.port())).unwrap())
}
