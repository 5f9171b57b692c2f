//! The high level against real servers: what clients/spec/conformance.md lists.

mod admission;
mod away;
mod kept;
mod limits;
mod support;
