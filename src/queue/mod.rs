//! The log queue: GW.LOGPUSH; GW.LOGPOP, GW.LOGPEEK and GW.LOGLEN; GW.LOGACK, GW.LOGNACK, GW.LOGEXTEND and GW.LOGDEAD for
//! leased batches; GW.LOGSTATS.

mod args;
pub mod batch;
mod change;
pub mod dead;
pub mod effect;
pub mod peek;
pub mod pop;
pub mod push;
mod reply;
mod serve;
pub mod settings;
pub mod stats;
mod value;
pub mod wait;
mod worker;
