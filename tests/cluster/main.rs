//! Clusters of several nodes: clients and values while slots move and primaries fail over.

mod admissions;
mod atomic;
mod clears;
mod failovers;
mod feed;
mod fills;
mod ledgers;
mod limiters;
mod load;
mod locks;
mod losses;
mod moves;
mod queues;
mod routes;
mod sentinel;
mod setting;
mod support;
mod tokens;
mod trying;
mod waiting;
