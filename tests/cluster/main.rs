//! Clusters of several nodes: clients and values while slots move and primaries fail over.

mod atomic;
mod clears;
mod support;
mod tokens;
mod trying;
mod waiting;
