//! Integration tests: real servers with the module loaded, one file a concern. `GW_SERVER` names the server; `make test`
//! runs the suite on each there is.

mod admission;
mod admission_replay;
mod batches;
mod blocking;
mod budget_live;
mod budgets;
mod cache;
mod cache_clear;
mod cachekey;
mod commands;
mod concurrency;
mod crashes;
mod events;
mod feed;
mod flights;
mod guard;
mod headers;
mod holds;
mod hostile;
mod leases;
mod limits;
mod limits_live;
mod observability;
mod persistence;
mod protocol;
mod queue;
mod readme;
mod reference;
mod replication;
mod request_path;
mod restore;
mod support;
