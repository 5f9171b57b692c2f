use std::future::Future;
use std::sync::Arc;

use super::observer::{CallEnd, Observer};
use crate::error::Error;

/// A call to a server, of whose end an observer is told.
pub(super) struct Telling(Option<CallEnd>);

impl Telling {
    pub(super) fn begin(observer: Option<&Arc<dyn Observer>>, operation: &str, server: &str) -> Self {
        Self(observer.map(|observer| observer.call(operation, server)))
    }

    pub(super) fn ended<T>(mut self, found: &Result<T, Error>) {
        let Some(end) = self.0.take() else { return };
        // Never the error's text, which may have keys in it.
        end(match found {
            Ok(_) => None,
            Err(Error::Unavailable(away)) => Some(away.reason),
            Err(Error::Reply(error)) => Some(error.kind.name()),
            Err(_) => Some("UnexpectedReply"),
        });
    }
}

impl Drop for Telling {
    /// Whoever waited for it has left.
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end(Some("cancelled"));
        }
    }
}

/// The trace in which work is asked for is that of the task that does it, too.
#[cfg(feature = "opentelemetry")]
pub(super) fn in_trace<F: Future>(work: F) -> impl Future<Output = F::Output> {
    opentelemetry::trace::FutureExt::with_current_context(work)
}

/// Without the feature there are no traces.
#[cfg(not(feature = "opentelemetry"))]
pub(super) fn in_trace<F: Future>(work: F) -> F {
    work
}
