//! Limits: GW.ALLOW (a sliding window, exact), GW.TOKENS (a token bucket), and GW.ACQUIRE, GW.RENEW and GW.RELEASE (slots,
//! held for a time).

pub mod allow;
mod args;
pub mod effect;
mod grant;
mod limiter;
pub mod slots;
mod take;
pub mod tokens;
mod value;
pub mod wait;
