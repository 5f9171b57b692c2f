//! The high level against real servers: what clients/spec/conformance.md lists.

mod admission;
mod away;
mod blocking;
mod cache;
mod kept;
mod limits;
mod locks;
mod logs;
mod readme;
mod routing;
mod secrets;
mod sentinel;
mod support;
mod tls;
mod topologies;
