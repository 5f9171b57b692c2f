//! Clusters of several nodes: what clients and values go through when slots move and primaries fail over.

mod waiting;
