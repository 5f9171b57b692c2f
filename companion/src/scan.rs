//! A look at all keys of one type on a node, a part of them with each step.

use redis::{Connection, RedisResult};

/// The types of this module's values that are looked for, as `TYPE` tells them.
pub const ACCOUNT: &str = "gw-accnts";
pub const LEDGER: &str = "gw-ledger";
pub const QUEUE: &str = "gw-queues";

/// About how many keys the server looks at in a step, which takes it less than a millisecond.
const KEYS: usize = 1_000;

pub struct Scan<'a> {
    of_type: &'static str,
    pattern: Option<&'a str>,
    /// None at the end.
    cursor: Option<u64>,
}

impl<'a> Scan<'a> {
    pub fn of(of_type: &'static str) -> Self {
        Self { of_type, pattern: None, cursor: Some(0) }
    }

    /// Only keys that match.
    pub fn matching(self, pattern: &'a str) -> Self {
        Self { pattern: Some(pattern), ..self }
    }

    /// Keys that the next step finds, which may be none; `None` at the end. A key may be found several times; one that
    /// is there during all steps is found.
    ///
    /// # Errors
    /// If the node cannot be asked, or the user may not ask.
    pub fn next(&mut self, node: &mut Connection) -> RedisResult<Option<Vec<Vec<u8>>>> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor);
        if let Some(pattern) = self.pattern {
            scan.arg("MATCH").arg(pattern);
        }
        let (cursor, keys): (u64, _) = scan.arg("COUNT").arg(KEYS).arg("TYPE").arg(self.of_type).query(node)?;
        self.cursor = (cursor != 0).then_some(cursor);
        Ok(Some(keys))
    }
}
