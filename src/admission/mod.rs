//! Admission: GW.POLICYSET and the other policy commands say what an account is allowed; GW.ADMIT, GW.SETTLE and
//! GW.KEEPALIVE take a request through all policies of all its accounts at once.

mod accounts;
pub mod admit;
mod args;
pub mod effect;
pub mod policy;
mod policy_words;
pub mod settle;
mod value;
