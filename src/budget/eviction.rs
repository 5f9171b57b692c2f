//! A warning for operators if the server may evict ledgers.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::events::Event;
use crate::server::{Call, log};

/// Whether the last warning still holds. It is not repeated whenever some other setting changes.
static WARNED: AtomicBool = AtomicBool::new(false);

/// Warns of an eviction policy that may evict ledgers and queues: spend would be reset without notice.
pub fn on_server_event(call: &mut Call, event: Event) {
    if !matches!(event, Event::ModuleLoaded | Event::ConfigChanged) {
        return;
    }
    let policy = call.server_info(c"memory", c"maxmemory_policy").unwrap_or_default();
    let evicts_all = policy.starts_with("allkeys-");
    if evicts_all && !WARNED.swap(evicts_all, Ordering::Relaxed) {
        log::warning(&format!(
            "maxmemory-policy {policy} may evict ledgers and log queues, and what was spent with them; set one of the \
             volatile policies, or noeviction"
        ));
    }
    WARNED.store(evicts_all, Ordering::Relaxed);
}
