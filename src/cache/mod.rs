//! The response cache: GW.CACHESET, GW.CACHEGET, GW.CACHEFETCH, GW.CACHERELEASE, GW.CACHEDEL, GW.CACHECLEAR, GW.CACHELIST,
//! GW.CACHESTATS and GW.CACHEKEY.

pub mod answer;
pub mod args;
pub mod category;
pub mod clear;
pub mod del;
pub mod effect;
pub mod entry;
pub mod fetch;
pub mod flights;
pub mod get;
pub mod group;
pub mod groups;
pub mod join;
pub mod key;
pub mod list;
pub mod marks;
pub mod moment;
pub mod reclaim;
pub mod release;
pub mod set;
pub mod settings;
pub mod stats;
mod store;
mod sweep;
mod value;
