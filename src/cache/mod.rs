//! The response cache: GW.CACHESET, GW.CACHEGET, GW.CACHEDEL, GW.CACHECLEAR, GW.CACHESTATS and GW.CACHEKEY.

mod args;
mod category;
pub mod clear;
pub mod del;
pub mod effect;
pub mod entry;
pub mod flights;
pub mod get;
mod group;
mod groups;
pub mod key;
pub mod reclaim;
pub mod set;
pub mod settings;
pub mod stats;
mod store;
mod sweep;
mod touch;
mod value;
