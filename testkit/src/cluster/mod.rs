//! A private cluster: several servers that share the slots.

mod agreement;
mod at_once;
mod failover;
mod known;
mod members;
mod nodes;
mod slots;
mod start;

pub use nodes::Cluster;
pub use slots::{SLOTS, key_slot, slot_of, tag_of};
pub use start::Layout;
