//! The shipping of log queues, with the companion as a process.

mod cluster;
mod docs;
mod folder;
mod kills;
mod parquet;
mod patterns;
mod postgres_table;
mod s3;
mod sentinel;
mod support;

#[path = "../common/postgres.rs"]
mod postgres_server;
