//! What the tests under load have in common: the games, spread over a cluster of three primaries with a replica each, and
//! the comparison of replicas with their primaries at the end.

use crate::admissions::Accounts;
use crate::fills::Fills;
use crate::ledgers::Ledger;
use crate::limiters::Limiter;
use crate::load::Game;
use crate::locks::Slots;
use crate::queues::Queue;
use crate::routes::Targets;
use gw_testkit::{
    Caller, Cluster, DEADLINE, Direction, Discovery, Layout, Random, SLOTS, Server, await_in_sync, await_until, call,
    reply, state, tag_of,
};

const PRIMARIES: u16 = 3;

/// The number of games of [`games`].
const GAMES: u16 = 9;

/// Three primaries with a replica each.
pub fn layout() -> Layout {
    Layout::new(&Server::options(), usize::from(PRIMARIES), 1).behind_proxies()
}

/// The slots that have the games' keys: the lowest ones of each primary.
pub fn slots() -> impl Iterator<Item = u16> + Clone {
    (0..GAMES).map(|game| SLOTS.div_ceil(PRIMARIES) * (game % PRIMARIES) + game / PRIMARIES)
}

/// A game for every type, each in a slot of its own.
pub fn games() -> Vec<Box<dyn Game>> {
    let tags: Vec<String> = slots().map(tag_of).collect();
    vec![
        Box::new(Ledger::new(&tags[0])),
        Box::new(Accounts::new(&tags[1])),
        Box::new(Targets::new(&tags[2])),
        Box::new(Queue::new(&tags[3])),
        Box::new(Fills::new(&tags[4])),
        Box::new(Slots::new(&tags[5], 1)),
        Box::new(Slots::new(&tags[6], 2)),
        Box::new(Limiter::window(&tags[7])),
        Box::new(Limiter::bucket(&tags[8])),
    ]
}

pub fn caller(cluster: &Cluster) -> impl Fn() -> Caller + Sync + use<> {
    let ports = cluster.ports();
    move || Caller::new(Discovery::Cluster(ports.clone()))
}

/// A slot of the games, and its primary.
pub fn pick<'a>(cluster: &'a Cluster, random: &mut Random) -> (u16, &'a Server) {
    let slot = slots().nth(random.below(usize::from(GAMES))).unwrap();
    (slot, cluster.primary_of(&format!("{{{}}}", tag_of(slot))).unwrap())
}

/// Loses the next request or reply on a link to the primary of a game.
pub fn lose_a_call(cluster: &Cluster, random: &mut Random) {
    let (_, node) = pick(cluster, random);
    let proxy = cluster.proxy_of(node.port()).unwrap();
    proxy.lose_next([Direction::Request, Direction::Reply][random.below(2)]);
    await_until("a call to be lost", DEADLINE, || !proxy.is_about_to_lose()).unwrap();
}

/// Checks that each replica has the same data as its primary, when nothing is under way any more.
pub fn compare_replicas(cluster: &Cluster) {
    cluster.await_agreement().unwrap();
    let mut replicas = 0;
    for primary in cluster.primaries() {
        for replica in cluster.replicas_of(primary).unwrap() {
            compare(primary, replica);
            replicas += 1;
        }
    }
    assert_eq!(replicas, PRIMARIES);
}

/// Checks that a replica has the same data as its primary.
pub fn compare(primary: &Server, replica: &Server) {
    let (mut primary, mut replica) = (primary.connect().unwrap(), replica.connect().unwrap());
    // Without it a replica in a cluster redirects; outside of a cluster it is an error.
    reply!(replica, "READONLY");
    let mut states = Default::default();
    // What ends by time reaches the replica a moment later.
    let equal = await_until("the replica to be equal", DEADLINE / 10, || {
        await_in_sync(&mut primary, &mut replica);
        states = (state(&mut primary), state(&mut replica));
        states.0 == states.1
    });
    if equal.is_err() {
        assert_eq!(states.0, states.1);
    }
    let whole: [String; 2] = [call!(primary, "DEBUG", "DIGEST"), call!(replica, "DEBUG", "DIGEST")];
    assert_eq!(whole[0], whole[1]);
}
