//! redis-gateway: what LLM gateways share, as native commands of Redis and Valkey.
//!
//! What is registered, and nothing else: commands, data types, settings. A command's declaration, handler, effect and
//! data type are in its family's folder; the algorithms are in the `gateway-core` crate; how the server is spoken to is in
//! [`server`].

mod admission;
mod budget;
mod cache;
mod limit;
mod node;
mod queue;
mod server;

use std::ffi::CStr;

use gateway_core::admission::Account;
use gateway_core::bucket::TokenBucket;
use gateway_core::lease::Leases;
use gateway_core::ledger::Ledger;
use gateway_core::queue::Queue;
use gateway_core::window::SlidingWindow;
use server::command::Command;
use server::config::Setting;
use server::events::{KeyListener, Listener};
use server::module::Module;
use server::value::Type;

/// The version in `MODULE LIST`: 1 for 0.1.0, 10_203 for 1.2.3.
const VERSION: i32 = 100;

/// The command that stores a whole value, as a rewritten AOF has it.
const LOAD: &CStr = c"GW._LOAD";

static MODULE: Module =
    Module { commands: COMMANDS, types: TYPES, settings: SETTINGS, key_listeners: KEY_LISTENERS, listeners: LISTENERS };

const COMMANDS: &[&Command] = &[
    &limit::allow::COMMAND,
    &limit::tokens::COMMAND,
    &limit::leases::ACQUIRE,
    &limit::leases::RENEW,
    &limit::leases::RELEASE,
    &budget::charge::COMMAND,
    &budget::query::WITHIN_BUDGET,
    &budget::query::SPENT,
    &budget::hold::RESERVE,
    &budget::hold::COMMIT,
    &budget::hold::CANCEL,
    &budget::feed::CHANGES,
    &budget::feed::ACKNOWLEDGE,
    &budget::feed::SYNC,
    &queue::push::COMMAND,
    &queue::pop::POP,
    &queue::pop::PEEK,
    &queue::pop::LEN,
    &queue::batch::ACK,
    &queue::batch::NACK,
    &queue::batch::EXTEND,
    &queue::batch::DEAD,
    &queue::stats::COMMAND,
    &cache::set::SET,
    &cache::get::COMMAND,
    &cache::set::DEL,
    &cache::clear::COMMAND,
    &cache::stats::COMMAND,
    &cache::key::COMMAND,
    &admission::policy::SET,
    &admission::policy::DEL,
    &admission::policy::RESET,
    &admission::policy::LIST,
    &admission::admit::COMMAND,
    &admission::settle::SETTLE,
    &admission::settle::KEEP_ALIVE,
    &node::DESCRIBE,
    &node::STATS,
    // Effects: written by the module itself.
    &limit::EFFECT,
    &budget::change::EFFECT,
    &queue::effect::COMMAND,
    &cache::set::EFFECT,
    &cache::clear::EFFECT,
    &admission::EFFECT,
    &node::LOAD,
    #[cfg(feature = "fault-injection")]
    &node::PANIC,
];

const TYPES: &[Type] = &[
    Type::of::<SlidingWindow>(),
    Type::of::<TokenBucket>(),
    Type::of::<Leases>(),
    Type::of::<Ledger>(),
    Type::of::<Queue>(),
    Type::of::<cache::entry::Entry>(),
    Type::of::<Account>(),
];

const SETTINGS: &[Setting] = &[
    Setting::Text(&budget::TIMEZONE),
    Setting::Number(&budget::KEEP_DAYS),
    Setting::Number(&budget::IDEMPOTENCY_MS),
    Setting::Number(&queue::MAX_RECORDS),
    Setting::Number(&queue::MAX_BYTES),
    Setting::Number(&queue::MAX_DELIVERIES),
    Setting::Text(&cache::TTL),
    Setting::Text(&cache::STALE),
    Setting::Number(&cache::PACK_FROM_BYTES),
];

/// Who hears of keys that come, go and move.
const KEY_LISTENERS: &[KeyListener] =
    &[budget::listing::hear_of_key, cache::flights::key_changed, cache::clear::key_changed];

/// Who hears of what happens to the server as a whole.
const LISTENERS: &[Listener] =
    &[budget::listing::hear, budget::hear_of_policy, cache::flights::happened, cache::clear::happened];

server::module::module!(MODULE);
