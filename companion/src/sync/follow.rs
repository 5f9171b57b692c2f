//! Follows the feeds of all primaries into one database. A server outside a cluster is its only primary.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use anyhow::{Context, Result};
use gateway_core::slot::{SLOTS, slot_of};

use super::feed::Feed;
use crate::ledgers::{Database, Version, key_of};
use crate::nodes::{self, Address, Seed, Shard};

/// Why a round failed.
#[derive(Debug)]
pub enum Failure {
    /// A server cannot be asked; it comes back.
    Server(anyhow::Error),
    Database(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(error) => write!(f, "the server: {error:#}"),
            Failure::Database(error) => write!(f, "the database: {error:#}"),
        }
    }
}

/// The accounts that are read from the database at a time, so that memory does not grow with their number.
const PAGE: usize = 5_000;

/// If a server has none of so many accounts, it has lost them. Fewer may have been deleted by somebody.
const EMPTIED_FROM: usize = 10;

pub struct Follower {
    seed: Seed,
    database: Box<dyn Database>,
    nodes: BTreeMap<Address, Node>,
    /// Where the next round asks who serves what; it takes turns, so that a node that was cut off does not decide alone.
    /// None at the beginning, and after a failure of a server that sentinels watch over: they are asked then.
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
    pub fn new(seed: Seed, database: Box<dyn Database>) -> Follower {
        let (informants, told) = (Vec::new(), vec![None; usize::from(SLOTS)]);
        Follower { seed, database, nodes: BTreeMap::new(), informants, shards: Vec::new(), told, era: 0 }
    }

    /// Lists, stores and acknowledges once at each primary.
    ///
    /// # Errors
    /// Those of the database, and the first one of a server; the other primaries are followed all the same.
    pub fn round(&mut self) -> Result<Found, Failure> {
        let done = self.follow_all();
        if self.seed.is_watched() && matches!(done, Err(Failure::Server(_))) {
            self.informants.clear();
        }
        done
    }

    fn follow_all(&mut self) -> Result<Found, Failure> {
        let shards = self.ask_for_shards().map_err(Failure::Server)?;
        let owners = |shards: &[Shard]| -> Vec<_> {
            shards.iter().map(|shard| (shard.slots.clone(), shard.primary.clone())).collect()
        };
        let mut found = if owners(&shards) == owners(&self.shards) { Found::Nothing } else { Found::Moves };
        self.shards = shards;
        let primaries = nodes::primaries(&self.shards);
        self.nodes.retain(|address, _| primaries.contains(address));
        let mut failure = None;
        for primary in primaries {
            match self.follow(&primary) {
                Ok(here) => found = found.max(here),
                Err(Failure::Server(error)) => {
                    // A new connection may lead to another server, or to older data.
                    self.nodes.remove(&primary);
                    failure = failure.or(Some(Failure::Server(error.context(primary.to_string()))));
                }
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(found), Err)
    }

    /// Has every primary list all of its ledgers, whatever was acknowledged.
    ///
    /// # Errors
    /// Those of a server.
    pub fn list_whole(&mut self) -> Result<()> {
        for primary in nodes::primaries(&self.ask_for_shards()?) {
            Feed::connect(&self.seed, &primary)?.list_whole().with_context(|| primary.to_string())?;
        }
        Ok(())
    }

    fn ask_for_shards(&mut self) -> Result<Vec<Shard>> {
        if self.informants.is_empty() {
            self.informants.push(self.seed.primary()?);
        }
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
                    failure = failure.or(Some(error.context(informant.to_string())));
                }
            }
        }
        Err(failure.context("no node is known")?)
    }

    fn follow(&mut self, primary: &Address) -> Result<Found, Failure> {
        let mut node = match self.nodes.remove(primary) {
            Some(node) => node,
            None => {
                let feed = Feed::connect(&self.seed, primary).map_err(Failure::Server)?;
                Node { feed, history: String::new(), era: 0 }
            }
        };
        let history = node.feed.history().map_err(Failure::Server)?;
        if node.era == 0 || node.history != history {
            self.era += 1;
            (node.history, node.era) = (history, self.era);
        }
        let told = self.tell_versions(primary, &mut node)?;
        let changes = follow_once(&mut node.feed, &mut *self.database)?;
        self.nodes.insert(primary.clone(), node);
        Ok(told.max(changes))
    }

    /// Tells a primary which versions the database has of the ledgers in its slots, unless it knows: the server can only
    /// learn from them what it lost in a failover, or got back from a backup.
    fn tell_versions(&mut self, primary: &Address, node: &mut Node) -> Result<Found, Failure> {
        let own = self.shards.iter().filter(|shard| shard.primary == *primary);
        let slots: Vec<u16> = own.flat_map(|shard| shard.slots.clone()).collect();
        let all = slots.len();
        let due: BTreeSet<u16> =
            slots.into_iter().filter(|&slot| self.told[usize::from(slot)] != Some(node.era)).collect();
        if due.is_empty() {
            return Ok(Found::Nothing);
        }
        let slot_of_account = |account: &str| key_of(account).map(|key| slot_of(&key));
        let (mut asked, mut gone, mut moved, mut after) = (0, 0, BTreeSet::new(), None);
        loop {
            let mut page = self.database.versions(after.as_deref(), PAGE).map_err(Failure::Database)?;
            let Some(last) = page.last() else { break };
            after = Some(last.account.clone());
            page.retain(|known| slot_of_account(&known.account).is_some_and(|slot| due.contains(&slot)));
            let standings = node.feed.tell_versions(&page).map_err(Failure::Server)?;
            asked += page.len();
            gone += standings.gone;
            moved.extend(standings.moved.iter().filter_map(|account| slot_of_account(account)));
        }
        // Ledgers that clients make anew would replace what is all that is left of the lost ones.
        if due.len() == all && gone == asked && asked >= EMPTIED_FROM {
            return Err(Failure::Server(anyhow::anyhow!(
                "it has none of the {asked} accounts of the database; `gw restore` brings them back"
            )));
        }
        if gone > 0 {
            tracing::info!(server = %primary, accounts = gone, "accounts of the database have no ledger any more");
        }
        for slot in due.difference(&moved) {
            self.told[usize::from(*slot)] = Some(node.era);
        }
        Ok(if moved.is_empty() { Found::Nothing } else { Found::Moves })
    }
}

fn follow_once(feed: &mut Feed, database: &mut dyn Database) -> Result<Found, Failure> {
    let (more, ledgers) = feed.changes().map_err(Failure::Server)?;
    let newer = database.store(&ledgers).map_err(Failure::Database)?;
    // Only after storing, because acknowledged changes are not listed again.
    let is_newer: HashSet<&str> = newer.iter().map(|known| &*known.account).collect();
    let stored = ledgers.iter().filter(|ledger| !is_newer.contains(&*ledger.account));
    let stored: Vec<Version> =
        stored.map(|ledger| Version { account: ledger.account.clone(), version: ledger.version }).collect();
    let acknowledged = feed.acknowledge(&stored).map_err(Failure::Server)?;
    // The database has a newer version of these: the ledger was made again on a node whose clock is behind. The server
    // lists it anew, above that version.
    let told = feed.tell_versions(&newer).map_err(Failure::Server)?;
    let moved = acknowledged.moved.len() + told.moved.len();
    Ok(if more || !ledgers.is_empty() {
        Found::Changes
    } else if moved > 0 {
        Found::Moves
    } else {
        Found::Nothing
    })
}
