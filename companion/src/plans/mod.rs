//! Plans: named lists of policies, and the accounts that have them, kept in a YAML file.

pub mod apply;
mod diff;
pub mod export;
mod file;
mod words;
