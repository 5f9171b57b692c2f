//! The high level: what a gateway does with the commands, also while the server is away.

mod admission;
mod admitter;
mod batches;
pub mod blocking;
mod budgets;
mod cache;
mod circuit;
mod cluster;
mod core;
mod decisions;
mod delivery;
mod disk;
mod failure;
mod figures;
mod fill;
mod flights;
mod handle;
mod health;
mod ids;
mod kept;
mod limits;
mod link;
mod local;
mod locks;
mod logs;
mod node;
mod observer;
mod readings;
mod routing;
mod settings;
mod stream;
mod streamcache;
#[cfg(feature = "opentelemetry")]
mod telemetry;
mod telling;
mod transport;
mod waiting;
mod way;

pub use admission::Admission;
pub use admitter::AdmitOptions;
pub use batches::{BatchOptions, LogBatch};
pub use budgets::{ChargeOptions, Hold};
pub use cache::{Cache, CacheError, EntryOptions};
pub use decisions::{BudgetDecision, Denied, LimitDecision, Outcome, Settlement, TightestBudget};
pub use figures::Figures;
pub use flights::CacheOptions;
pub use handle::Gateway;
pub use health::Health;
pub use limits::{AllowOptions, TokensOptions};
pub use locks::{Slot, SlotOptions};
pub use logs::{LogOptions, Logs};
pub use observer::{CallEnd, Label, Observer, ReadFigure, Reading};
pub use routing::{Attempt, RouteOptions, RoutedRequest};
pub use settings::{Away, Kept, LocalLimit, Mode, Plan, Plans, Settings, SettingsError};
pub use stream::AdmittedStream;
pub use streamcache::CachedStream;
#[cfg(feature = "opentelemetry")]
pub use telemetry::OpenTelemetry;

pub use crate::error::Unavailable;
