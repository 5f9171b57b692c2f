use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::cache::{Cache, EntryOptions};
use super::fill::Fill;
use super::flights::{CacheInner, Lead};
use crate::cache_key::KeyError;
use crate::commands::CacheAnswer;

/// An answer that comes in pieces, from the cache or as it is computed: see [`Cache::stream`].
pub struct CachedStream<S> {
    from: From<S>,
}

enum From<S> {
    /// The cache, or another's computation.
    Cache(std::vec::IntoIter<String>),
    /// The computation, which is stored when it is complete.
    Computed(Box<Computed<S>>),
    /// The computation alone, because another's took too long.
    Alone(S),
    End,
}

struct Computed<S> {
    source: S,
    pieces: Vec<String>,
    /// Dropped before the end, it has the next one who waits compute.
    lead: Lead,
    fill: Fill,
    answer: Option<CacheAnswer>,
    options: EntryOptions,
    place: Option<OwnedSemaphorePermit>,
}

impl Cache {
    /// The pieces of the cached answer to a request, which is JSON text, or else those that are computed, as they come.
    ///
    /// The answer is stored when it is complete, as a JSON array of its pieces, and replayed piece by piece. Who asks for the same
    /// meanwhile gets the pieces when it is complete. If it fails, or is dropped before its end, the next one computes. A stale answer is
    /// returned at once, and refreshed in the background. While the server is away, it is computed.
    pub async fn stream<S, E>(
        &self,
        request: impl AsRef<[u8]>,
        options: &EntryOptions,
        compute: impl FnOnce() -> S + Send + 'static,
    ) -> Result<CachedStream<S>, KeyError>
    where
        S: Stream<Item = Result<String, E>> + Send + Unpin + 'static,
        E: Send + 'static,
    {
        let key = self.key(request)?;
        let end = Instant::now() + self.state.options.wait;
        let from = loop {
            let flight = match self.state.fly(&key) {
                Ok(lead) => break self.led(lead, options, compute, end).await,
                Err(flight) => flight,
            };
            if !flight.ended(end).await {
                self.state.count("wait_timeout");
                break From::Alone(compute());
            }
            if let Some(pieces) = flight.value().and_then(|value| pieces_of(value)) {
                self.state.count("coalesced");
                break From::Cache(pieces.into_iter());
            }
        };
        Ok(CachedStream { from })
    }

    async fn led<S, E>(
        &self,
        lead: Lead,
        options: &EntryOptions,
        compute: impl FnOnce() -> S + Send + 'static,
        end: Instant,
    ) -> From<S>
    where
        S: Stream<Item = Result<String, E>> + Send + Unpin + 'static,
        E: Send + 'static,
    {
        let mut fill = Fill::new(&self.state, lead.key());
        let mut answer = fill.fetch(end).await;
        // A value of another form than this one's is computed anew.
        if let Some(value) = answer.as_mut().and_then(|answer| answer.value.take())
            && let Some(pieces) = pieces_of(&value)
        {
            lead.share(value.into());
            if fill.token() != 0 {
                self.refresh(fill, options.clone(), || async { collected(compute()).await.map(|all| text_of(&all)) });
            }
            return From::Cache(pieces.into_iter());
        }
        let place = match &answer {
            None => self.state.place(end).await,
            Some(_) => None,
        };
        let (source, options) = (compute(), options.clone());
        From::Computed(Box::new(Computed { source, pieces: Vec::new(), lead, fill, answer, options, place }))
    }
}

fn text_of(pieces: &[String]) -> Vec<u8> {
    serde_json::to_vec(pieces).unwrap_or_default()
}

fn pieces_of(text: &[u8]) -> Option<Vec<String>> {
    serde_json::from_slice(text).ok()
}

async fn collected<S, E>(mut source: S) -> Result<Vec<String>, E>
where
    S: Stream<Item = Result<String, E>> + Unpin,
{
    let mut made = Vec::new();
    while let Some(piece) = poll_fn(|context| Pin::new(&mut source).poll_next(context)).await {
        made.push(piece?);
    }
    Ok(made)
}

impl<S> Computed<S> {
    /// The answer is complete: others get it, and it is stored in the background.
    fn finish(self, state: Arc<CacheInner>) {
        let Self { pieces, lead, fill, answer, options, place, .. } = self;
        drop(place);
        let value: Arc<[u8]> = text_of(&pieces).into();
        lead.share(value.clone());
        let core = state.core.clone();
        core.spawn(async move {
            state.store(fill, answer.as_ref(), &value, &options).await;
            // Until then those who ask get it from this computation.
            drop(lead);
        });
    }
}

impl<S, E> Stream for CachedStream<S>
where
    S: Stream<Item = Result<String, E>> + Unpin,
{
    type Item = Result<String, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let own = self.get_mut();
        let found = match &mut own.from {
            From::End => return Poll::Ready(None),
            From::Cache(pieces) => return Poll::Ready(pieces.next().map(Ok)),
            From::Alone(source) => ready!(Pin::new(source).poll_next(context)),
            From::Computed(computed) => {
                let found = ready!(Pin::new(&mut computed.source).poll_next(context));
                if let Some(Ok(piece)) = &found {
                    computed.pieces.push(piece.clone());
                }
                found
            }
        };
        if !matches!(found, Some(Ok(_)))
            && let From::Computed(computed) = std::mem::replace(&mut own.from, From::End)
            && found.is_none()
        {
            let state = computed.lead.cache().clone();
            computed.finish(state);
        }
        Poll::Ready(found)
    }
}

impl<S> fmt::Debug for CachedStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedStream").finish_non_exhaustive()
    }
}
