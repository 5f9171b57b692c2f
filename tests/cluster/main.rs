//! Clusters of several nodes: clients and values while slots move and primaries fail over.

mod feed;
mod waiting;
