//! The node's heavy hitters: GW.TOP shows the keys that are refused most, or use most of a meter. Commands of the other
//! families count what they refuse and charge by [`count`].
//!
//! All of it is this node's: not saved, not replicated, and no change of any key.

pub mod count;
pub mod query;
pub mod settings;
