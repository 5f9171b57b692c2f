/// What is known of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandInfo {
    /// Its name, such as `GW.ADMIT`.
    pub name: &'static str,
    /// limits, slots, budgets, log, cache, admission or node.
    pub family: &'static str,
    /// Whether its first argument is a key, by which a cluster's node is found.
    pub has_key: bool,
    /// Whether it changes nothing, so that replicas answer it.
    pub only_reads: bool,
    /// Whether it may wait in the server, with BLOCK or WAIT.
    pub may_wait: bool,
    /// Whether it is refused while the memory is full.
    pub grows_memory: bool,
}
