//! The fake of the server: a gateway over it, and what clients/spec/vectors says.

mod gateway;
mod vectors;
