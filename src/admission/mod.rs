//! Admission: GW.POLICYSET, GW.POLICYPUT and the other policy commands set the limits of an account; GW.ADMIT,
//! GW.SETTLE and GW.KEEPALIVE take a request through all policies of all its accounts at once. GW.ROUTE picks one of
//! several accounts for a request.

pub mod accounts;
pub mod admit;
pub mod args;
pub mod effect;
pub mod policy;
mod policy_words;
pub mod put;
pub mod route;
pub mod settle;
mod value;
