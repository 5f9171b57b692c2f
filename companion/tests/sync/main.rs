//! `gw run` with `[sync]`, and what reads its database: companions, servers and databases are killed in the middle. Afterwards
//! the database has what the ledgers have, to the last digit.

mod cluster;
mod companion;
mod database;
mod docs;
mod focus;
mod kills;
mod ledgers;
#[path = "../common/postgres.rs"]
mod postgres;
mod restore;
mod sentinel;
mod tls;
mod traffic;
