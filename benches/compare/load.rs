//! What a run of the load is: the commands, and what is replaced in them.

/// What redis-benchmark replaces by a random number of twelve digits below the number of keys, anew in each command.
pub const RANDOM: &str = "__rand_int__";

/// What is another number in each cycle of commands that belong together.
pub const UNIQUE: &str = "__unique_id__";

/// What a fill replaces by a log record, and by as many random bytes: another time, others.
pub const RECORD: &str = "__record__";
pub const NOISE: &str = "__noise__";

pub const CLIENTS: u32 = 50;

/// One run of one command, or of several that belong together.
pub struct Load<'a> {
    pub commands: &'a [Vec<String>],
    pub database: usize,
    /// Commands in flight per client.
    pub pipeline: u32,
    /// Of each command.
    pub requests: u64,
    pub keys: u64,
}

/// A number as redis-benchmark writes it.
pub fn key_number(key: u64) -> String {
    format!("{key:012}")
}
