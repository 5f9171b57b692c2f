//! The response cache: GW.CACHESET, GW.CACHEGET, GW.CACHEFETCH, GW.CACHERELEASE, GW.CACHEDEL, GW.CACHECLEAR, GW.CACHELIST,
//! GW.CACHESTATS and GW.CACHEKEY.

mod answer;
mod args;
mod category;
pub mod clear;
pub mod del;
pub mod effect;
pub mod entry;
pub mod fetch;
pub mod flights;
pub mod get;
mod group;
mod groups;
pub mod key;
pub mod list;
pub mod marks;
mod moment;
pub mod reclaim;
pub mod release;
pub mod set;
pub mod settings;
pub mod stats;
mod store;
mod sweep;
mod value;
