use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// How a wait has ended.
pub(super) enum Waited<T> {
    /// Before it began: the future was ready when it was first looked at.
    AtOnce(T),
    InTime(T),
    Late,
}

/// Waits so long, at most.
///
/// A result that has come, but that nobody could read because the application held up the runtime, is not late: after the time has
/// passed, the runtime gets some turns to read what is there.
pub(super) async fn within<T>(longest: Duration, work: impl Future<Output = T>) -> Waited<T> {
    let mut work = pin!(work);
    let mut first = true;
    if let Poll::Ready(found) = std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending if first => {
            first = false;
            Poll::Ready(Poll::Pending)
        }
        Poll::Pending => Poll::Pending,
        Poll::Ready(found) => Poll::Ready(Poll::Ready(found)),
    })
    .await
    {
        return Waited::AtOnce(found);
    }
    if let Ok(found) = tokio::time::timeout(longest, work.as_mut()).await {
        return Waited::InTime(found);
    }
    for _ in 0..8 {
        tokio::task::yield_now().await;
        let ready = std::future::poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        if let Poll::Ready(found) = ready {
            return Waited::InTime(found);
        }
    }
    Waited::Late
}
