//! The result of a measurement. Any error is printed and ends the run.

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
