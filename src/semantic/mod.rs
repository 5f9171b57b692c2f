//! The semantic cache: GW.SEMSET, GW.SEMGET, GW.SEMDEL and GW.SEMREJECT.
//!
//! Its entries are counted with the response cache's, by category, and cleared with them, by category and tag.

mod args;
pub mod del;
pub mod effect;
pub mod get;
pub mod member;
pub mod reject;
pub mod removal;
pub mod set;
pub mod settings;
pub mod sweep;
mod value;
mod worker;
