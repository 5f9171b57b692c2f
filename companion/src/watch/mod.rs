//! What a server or cluster is doing, for whoever shows it.

mod queues;
mod reading;
mod sample;

pub use queues::Queues;
pub use reading::Reading;
pub use sample::Sample;
