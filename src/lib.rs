//! redis-gateway: the state that LLM gateways share, as native commands of Redis and Valkey.
//!
//! This file registers commands, data types, settings and listeners, and does nothing else. The folder of a command family
//! has its declarations, handlers, effects and data types; the algorithms are in the `gateway-core` crate; [`server`] is the
//! layer over the server's module API.

mod admission;
mod budget;
mod cache;
mod limit;
mod node;
mod queue;
mod semantic;
mod server;
mod stats;
mod top;

use gateway_core::admission::Account;
use gateway_core::bucket::TokenBucket;
use gateway_core::lease::Leases;
use gateway_core::ledger::Ledger;
use gateway_core::queue::Queue;
use gateway_core::window::SlidingWindow;
use server::command::Command;
use server::config::Setting;
use server::events::{KeyListener, Listeners, ServerListener};
use server::module::Module;
use server::value::Type;

static MODULE: Module = Module {
    commands: COMMANDS,
    types: TYPES,
    settings: SETTINGS,
    listeners: Listeners { keys: KEY_LISTENERS, server: SERVER_LISTENERS },
    counters: stats::ALL,
    gauges: node::GAUGES,
};

const COMMANDS: &[&Command] = &[
    &limit::allow::COMMAND,
    &limit::tokens::COMMAND,
    &limit::slots::ACQUIRE,
    &limit::slots::RENEW,
    &limit::slots::RELEASE,
    &budget::charge::COMMAND,
    &budget::credit::COMMAND,
    &budget::query::WITHIN_BUDGET,
    &budget::query::SPENT,
    &budget::hold::RESERVE,
    &budget::hold::COMMIT,
    &budget::hold::CANCEL,
    &budget::feed::CHANGES,
    &budget::feed::ACKNOWLEDGE,
    &budget::feed::SYNC,
    &budget::restore::COMMAND,
    &queue::push::COMMAND,
    &queue::pop::COMMAND,
    &queue::peek::PEEK,
    &queue::peek::LEN,
    &queue::batch::ACK,
    &queue::batch::NACK,
    &queue::batch::EXTEND,
    &queue::dead::COMMAND,
    &queue::stats::COMMAND,
    &cache::set::COMMAND,
    &cache::get::COMMAND,
    &cache::fetch::COMMAND,
    &cache::release::COMMAND,
    &cache::del::COMMAND,
    &cache::clear::COMMAND,
    &cache::list::COMMAND,
    &cache::stats::COMMAND,
    &cache::key::COMMAND,
    &semantic::set::COMMAND,
    &semantic::get::COMMAND,
    &semantic::del::COMMAND,
    &semantic::reject::COMMAND,
    &admission::policy::SET,
    &admission::policy::DEL,
    &admission::policy::RESET,
    &admission::policy::LIST,
    &admission::put::COMMAND,
    &admission::admit::COMMAND,
    &admission::route::COMMAND,
    &admission::settle::SETTLE,
    &admission::settle::KEEP_ALIVE,
    &node::DESCRIBE,
    &node::STATS,
    &node::STATS_RESET,
    &top::query::COMMAND,
    // Effects: written by the module itself.
    &limit::effect::COMMAND,
    &budget::effect::COMMAND,
    &queue::effect::COMMAND,
    &cache::effect::COMMAND,
    &cache::effect::CLEAR_COMMAND,
    &semantic::effect::COMMAND,
    &admission::effect::COMMAND,
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
    Type::of::<semantic::member::SemanticIndex>(),
];

const SETTINGS: &[Setting] = &[
    Setting::Text(&budget::settings::TIMEZONE),
    Setting::Number(&budget::settings::KEEP_DAYS),
    Setting::Number(&budget::settings::MAX_HOLDS),
    Setting::Number(&budget::settings::IDEMPOTENCY_MS),
    Setting::Number(&queue::settings::MAX_RECORDS),
    Setting::Number(&queue::settings::MAX_BYTES),
    Setting::Number(&queue::settings::MAX_DEAD_RECORDS),
    Setting::Number(&queue::settings::MAX_DEAD_BYTES),
    Setting::Number(&queue::settings::MAX_DELIVERIES),
    Setting::Number(&queue::settings::ID_MS),
    Setting::Text(&cache::settings::TTL),
    Setting::Text(&cache::settings::STALE),
    Setting::Number(&cache::settings::PACK_FROM_BYTES),
    Setting::Number(&semantic::settings::MAX_ENTRIES),
    Setting::Number(&semantic::settings::MAX_BYTES),
    Setting::Number(&top::settings::KEYS),
];

/// Keyspace-event listeners.
const KEY_LISTENERS: &[KeyListener] = &[
    budget::listing::on_key_event,
    cache::flights::on_key_event,
    cache::reclaim::on_key_event,
    limit::wait::on_key_event,
];

/// Listeners for the server's own events.
const SERVER_LISTENERS: &[ServerListener] = &[
    budget::listing::on_server_event,
    budget::eviction::on_server_event,
    cache::flights::on_server_event,
    cache::marks::on_server_event,
    cache::reclaim::on_server_event,
    limit::wait::on_server_event,
    queue::wait::on_server_event,
    top::count::on_server_event,
];

server::module::module!(MODULE);
