//! Follows the feeds of all primaries into one database. A server outside a cluster is its only primary.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use gateway_core::slot::{SLOTS, slot_of};
use gw_nodes::{Address, Seed, Shard};
use redis::RedisResult;

use crate::database::Database;
use crate::feed::{Feed, Ledger, Version};

/// An error of the database, which an operator must repair, or of a server, which comes back.
pub type Failure = Box<dyn Error>;

pub struct Follower {
    seed: Seed,
    database: Database,
    nodes: BTreeMap<Address, Node>,
    /// Where the next round asks who serves what; it takes turns, so that a node that was cut off does not decide alone.
    informants: Vec<Address>,
    shards: Vec<Shard>,
    /// By slot: the era in which the database's versions were told to the slot's primary.
    told: Vec<Option<u64>>,
    /// The number of the last era.
    era: u64,
}

/// A primary that is followed.
struct Node {
    feed: Feed,
    history: String,
    /// Everything between two moments at which the server may have lost changes: a new connection (it may have crashed), a
    /// failover. No two nodes are ever in the same era.
    era: u64,
}

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Nothing, of the same primaries as in the round before.
    Nothing,
    /// Slots have moved, or a primary is new or has failed over. The next round sees more.
    Moves,
    /// Changes.
    Changes,
}

impl Follower {
    pub fn new(url: &str, database: Database) -> RedisResult<Follower> {
        let seed = Seed::new(url)?;
        let (informants, told) = (vec![seed.address().clone()], vec![None; usize::from(SLOTS)]);
        Ok(Follower { seed, database, nodes: BTreeMap::new(), informants, shards: Vec::new(), told, era: 0 })
    }

    /// Lists, stores and acknowledges once at each primary.
    ///
    /// # Errors
    /// Those of the database, and the first one of a server; the other primaries are followed all the same.
    pub fn round(&mut self) -> Result<Found, Failure> {
        let shards = self.ask_for_shards()?;
        let owners = |shards: &[Shard]| -> Vec<_> {
            shards.iter().map(|shard| (shard.slots.clone(), shard.primary.clone())).collect()
        };
        let mut found = if owners(&shards) == owners(&self.shards) { Found::Nothing } else { Found::Moves };
        self.shards = shards;
        let mut primaries: Vec<_> = self.shards.iter().map(|shard| shard.primary.clone()).collect();
        primaries.sort_unstable();
        primaries.dedup();
        self.nodes.retain(|address, _| primaries.contains(address));
        let mut failure = None;
        for primary in primaries {
            match self.follow(&primary) {
                Ok(here) => found = found.max(here),
                Err(error) => {
                    // A new connection may lead to another server, or to older data.
                    self.nodes.remove(&primary);
                    if !error.is::<redis::RedisError>() {
                        return Err(error);
                    }
                    eprintln!("gw-cost-sync: {primary}: {error}");
                    failure = failure.or(Some(error));
                }
            }
        }
        failure.map_or(Ok(found), Err)
    }

    fn ask_for_shards(&mut self) -> RedisResult<Vec<Shard>> {
        let mut failure = None;
        for _ in 0..self.informants.len() {
            self.informants.rotate_left(1);
            let informant = self.informants[0].clone();
            let asked = match self.nodes.get_mut(&informant) {
                Some(node) => node.feed.shards(),
                None => Feed::connect(&self.seed, &informant).and_then(|mut feed| feed.shards()),
            };
            match asked {
                Ok(mut shards) => {
                    // Each node tells them in an order of its own.
                    shards.sort_unstable_by_key(|shard| *shard.slots.start());
                    let all = shards.iter().flat_map(|shard| [&shard.primary].into_iter().chain(&shard.replicas));
                    for node in all {
                        if !self.informants.contains(node) {
                            self.informants.push(node.clone());
                        }
                    }
                    return Ok(shards);
                }
                Err(error) => {
                    self.nodes.remove(&informant);
                    failure = failure.or(Some(error));
                }
            }
        }
        Err(failure.unwrap_or_else(|| redis::RedisError::from((redis::ErrorKind::Client, "no node is known"))))
    }

    fn follow(&mut self, primary: &Address) -> Result<Found, Failure> {
        let mut node = match self.nodes.remove(primary) {
            Some(node) => node,
            None => {
                let feed = Feed::connect(&self.seed, primary)?;
                Node { feed, history: String::new(), era: 0 }
            }
        };
        let history = node.feed.history()?;
        if node.era == 0 || node.history != history {
            self.era += 1;
            (node.history, node.era) = (history, self.era);
        }
        let told = self.tell_versions(primary, &mut node)?;
        let changes = follow_once(&mut node.feed, &mut self.database)?;
        self.nodes.insert(primary.clone(), node);
        Ok(told.max(changes))
    }

    /// Tells a primary which versions the database has of the ledgers in its slots, unless it knows: the server can only
    /// learn from them what it lost in a failover, or got back from a backup.
    fn tell_versions(&mut self, primary: &Address, node: &mut Node) -> Result<Found, Failure> {
        let own = self.shards.iter().filter(|shard| shard.primary == *primary);
        let slots = own.flat_map(|shard| shard.slots.clone());
        let due: BTreeSet<u16> = slots.filter(|&slot| self.told[usize::from(slot)] != Some(node.era)).collect();
        if due.is_empty() {
            return Ok(Found::Nothing);
        }
        let is_due = |(key, _): &Version| due.contains(&slot_of(key));
        let versions: Vec<_> = self.database.versions()?.into_iter().filter(is_due).collect();
        let standings = node.feed.tell_versions(&versions)?;
        if standings.gone > 0 {
            eprintln!("gw-cost-sync: {primary}: {} accounts of the database have no ledger any more", standings.gone);
        }
        let moved: BTreeSet<u16> = standings.moved.iter().map(|key| slot_of(key)).collect();
        for slot in due.difference(&moved) {
            self.told[usize::from(*slot)] = Some(node.era);
        }
        Ok(if moved.is_empty() { Found::Nothing } else { Found::Moves })
    }
}

fn follow_once(feed: &mut Feed, database: &mut Database) -> Result<Found, Failure> {
    let (more, ledgers) = feed.changes()?;
    let newer = database.store(&ledgers)?;
    // Only after storing, because acknowledged changes are not listed again.
    let is_stored = |ledger: &&Ledger| !newer.iter().any(|(key, _)| *key == ledger.key);
    let stored: Vec<Version> =
        ledgers.iter().filter(is_stored).map(|ledger| (ledger.key.clone(), ledger.version)).collect();
    let acknowledged = feed.acknowledge(&stored)?;
    // The database has a newer version of these: the ledger was made again on a node whose clock is behind. The server
    // lists it anew, above that version.
    let told = feed.tell_versions(&newer)?;
    let moved = acknowledged.moved.len() + told.moved.len();
    Ok(if more || !ledgers.is_empty() {
        Found::Changes
    } else if moved > 0 {
        Found::Moves
    } else {
        Found::Nothing
    })
}
