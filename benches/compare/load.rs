//! A run of the load: its commands, and the placeholders in them.

/// Replaced by redis-benchmark with a random number below the number of keys, in twelve digits, anew in each command.
pub const RANDOM: &str = "__rand_int__";

/// Replaced with a number that is different in each cycle of commands that belong together.
pub const UNIQUE: &str = "__unique_id__";

/// Replaced in a fill with a log record, and with the same number of random bytes; different each time.
pub const RECORD: &str = "__record__";
pub const NOISE: &str = "__noise__";

pub const CLIENTS: u32 = 50;

/// One run of one command, or of several that belong together.
pub struct Load<'a> {
    pub commands: &'a [Vec<String>],
    pub database: usize,
    /// Commands in flight per client.
    pub pipeline: u32,
    /// How often each command is sent.
    pub requests: u64,
    pub keys: u64,
}

/// A number as redis-benchmark writes it.
pub fn key_number(key: u64) -> String {
    format!("{key:012}")
}
