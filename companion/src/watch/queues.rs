//! Which log queues there are: found by looking at all keys, a part of them with each reading.

use std::collections::{BTreeMap, BTreeSet};

use redis_gateway_client::Error;
use redis_gateway_client::commands::{LogStats, log_stats};

use crate::fleet::Primary;
use crate::nodes::Address;
use crate::scan::{self, Scan};

pub struct Queues {
    /// How many steps of the scan a reading takes on each node.
    steps: usize,
    nodes: BTreeMap<Address, Node>,
}

#[derive(Default)]
struct Node {
    /// None between two looks at all keys.
    scan: Option<Scan<'static>>,
    known: BTreeSet<Vec<u8>>,
    /// The user may not look at keys.
    refused: bool,
}

impl Queues {
    /// For readings that follow one another: 10,000 keys with each.
    pub fn in_passing() -> Self {
        Self { steps: 10, nodes: BTreeMap::new() }
    }

    /// For few readings: up to a million keys with each.
    pub fn thorough() -> Self {
        Self { steps: 1_000, nodes: BTreeMap::new() }
    }

    /// The figures of those queues of a node that are known by now.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub fn read(&mut self, primary: &mut Primary) -> Result<Vec<(Vec<u8>, LogStats)>, Error> {
        let node = self.nodes.entry(primary.address.clone()).or_default();
        node.look(primary, self.steps)?;
        let mut queues = Vec::new();
        let mut gone = Vec::new();
        for key in &node.known {
            match log_stats(key).query(&mut primary.connection) {
                Ok(Some(figures)) => queues.push((key.clone(), figures)),
                // Deleted, or moved to another node, which will find it.
                Ok(None) | Err(Error::Reply(_)) => gone.push(key.clone()),
                Err(error) => return Err(error),
            }
        }
        node.known.retain(|key| !gone.contains(key));
        Ok(queues)
    }
}

impl Node {
    fn look(&mut self, primary: &mut Primary, steps: usize) -> Result<(), Error> {
        for _ in 0..steps {
            if self.refused {
                break;
            }
            let scan = self.scan.get_or_insert_with(|| Scan::of(scan::QUEUE));
            match scan.next(&mut primary.connection) {
                Ok(Some(found)) => self.known.extend(found),
                Ok(None) => {
                    self.scan = None;
                    break;
                }
                Err(error) if error.code() == Some("NOPERM") => self.refused = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
