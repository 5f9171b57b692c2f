//! What the fuzz targets do: hostile bytes for everything that reads bytes, and checks of what comes of them.
//!
//! A target is a function of any bytes that panics if a promise is broken. `fuzz_targets/` makes a libFuzzer program of
//! each. Three kinds:
//!
//! - The values of the core, from their encodings ([`window`] to [`account`]).
//! - Texts and packed bytes ([`json`] to [`codec`]).
//! - The module itself ([`commands`], [`effects`], [`values`]), loaded into a small server that lives in this process
//!   (`server/`): the arguments of every command, every effect, and every value as RESTORE loads it.

mod calls;
mod fields;
mod memory;
mod packed;
pub mod seeds;
mod semantic;
mod server;
mod stored;
mod texts;

// Linked for its entry point, `RedisModule_OnLoad`, and its allocator.
extern crate redis_gateway as _;

use gateway_core::admission::Account;
use gateway_core::bucket::TokenBucket;
use gateway_core::lease::Leases;
use gateway_core::ledger::Ledger;
use gateway_core::queue::Queue;
use gateway_core::window::SlidingWindow;

pub use calls::{commands, effects, values};
pub use packed::{codec, packed};
pub use semantic::semantic;
pub use texts::{canonical, glob, json, numbers, policies, times};

pub fn window(data: &[u8]) {
    stored::check::<SlidingWindow>(data);
}

pub fn bucket(data: &[u8]) {
    stored::check::<TokenBucket>(data);
}

pub fn slots(data: &[u8]) {
    stored::check::<Leases>(data);
}

pub fn ledger(data: &[u8]) {
    stored::check::<Ledger>(data);
}

pub fn queue(data: &[u8]) {
    stored::check::<Queue>(data);
}

pub fn account(data: &[u8]) {
    stored::check::<Account>(data);
}
