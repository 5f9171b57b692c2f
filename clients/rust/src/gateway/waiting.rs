use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Waits so long, at most; none if that was too short.
///
/// A result that has come, but that nobody could read because the application held up the runtime, is not late: after the time has
/// passed, the runtime gets some turns to read what is there.
pub(super) async fn within<T>(longest: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    if let Ok(found) = tokio::time::timeout(longest, work.as_mut()).await {
        return Some(found);
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
        let ready = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(found) = ready {
            return Some(found);
        }
    }
    None
}
