use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::admission::Admission;
use super::core::Running;
use crate::commands::Amounts;

/// A model's answer that is passed on piece by piece, with its admission: see [`Admission::stream`].
pub struct AdmittedStream<S, U> {
    admission: Option<Admission>,
    source: S,
    usage: U,
    began: bool,
}

impl Admission {
    /// Passes a model's answer on, and settles in the background when it ends, breaks off, or is dropped, even if it was never polled.
    ///
    /// `usage` finds in a piece what was used so far, by meter; amounts below 0 are left out. If the model fails before its first
    /// piece, nothing was used. To wait for the settlement, keep the admission and call [`use_so_far`](Self::use_so_far) and
    /// [`settle`](Self::settle) instead.
    pub fn stream<S, T, E, U>(self, source: S, usage: U) -> AdmittedStream<S, U>
    where
        S: Stream<Item = Result<T, E>> + Unpin,
        U: FnMut(&T) -> Amounts + Unpin,
    {
        AdmittedStream { admission: Some(self), source, usage, began: false }
    }
}

impl<S, U> AdmittedStream<S, U> {
    /// The admission; none once the stream has ended.
    pub fn admission(&self) -> Option<&Admission> {
        self.admission.as_ref()
    }

    fn end(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.state.ended_by("streams_ended");
        }
    }
}

impl<S, T, E, U> Stream for AdmittedStream<S, U>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    U: FnMut(&T) -> Amounts + Unpin,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T, E>>> {
        let own = self.get_mut();
        if own.admission.is_none() {
            return Poll::Ready(None);
        }
        let found = ready!(Pin::new(&mut own.source).poll_next(context));
        match (&found, &own.admission) {
            (Some(Ok(piece)), Some(admission)) => {
                own.began = true;
                admission.began();
                for (meter, amount) in (own.usage)(piece) {
                    // What is no amount tells nothing.
                    let _ = admission.use_so_far(meter, amount);
                }
            }
            (Some(Err(_)), Some(admission)) => {
                if !own.began && admission.state.amounts().is_empty() {
                    admission.unused();
                }
                own.end();
            }
            _ => own.end(),
        }
        Poll::Ready(found)
    }
}

impl<S, U> Drop for AdmittedStream<S, U> {
    fn drop(&mut self) {
        self.end();
    }
}
