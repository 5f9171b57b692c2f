//! How a measurement fails: with whatever was the matter, which is printed and ends the run.

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
