use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::core::code_of;
use super::fill::Fill;
use super::flights::{CacheInner, CacheOptions, Lead};
use super::handle::Gateway;
use super::node::Call;
use super::settings::milliseconds;
use crate::cache_key::{KeyError, cache_key};
use crate::commands::{
    Amount, CacheAnswer, CacheFigures, CacheSetOptions, CacheState, Request, Text, cache_clear_category,
    cache_clear_pattern, cache_clear_tag, cache_del, cache_get, cache_set, cache_stats_category,
};
use crate::error::Error;

/// A pattern is looked for among all keys.
const PATTERN_TIMEOUT: Duration = Duration::from_secs(60);

/// The most entries of a round trip, and the most bytes of their values: a longer value is sent alone.
const TOGETHER: usize = 100;
const TOGETHER_BYTES: usize = 512 * 1024;

/// What is told of an entry.
#[derive(Clone, Debug, Default)]
pub struct EntryOptions {
    /// Names under which entries are cleared.
    pub tags: Vec<String>,
    /// What each hit saves, such as the price of the call.
    pub saved: Option<Amount>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheError<E> {
    /// The request has no key.
    Key(KeyError),
    /// The computation has failed.
    Compute(E),
}

impl<E: fmt::Display> fmt::Display for CacheError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Compute(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CacheError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Key(_) => None,
            Self::Compute(error) => Some(error),
        }
    }
}

/// The response cache: one computation for all who ask for the same, in this process and in all others. Clones share everything.
#[derive(Clone)]
pub struct Cache {
    pub(super) state: Arc<CacheInner>,
}

impl CacheInner {
    /// What was found, which is counted.
    fn got(&self, found: Result<Option<Vec<u8>>, Error>) -> Option<Vec<u8>> {
        match found {
            Ok(found) => {
                self.count(if found.is_some() { "hit" } else { "miss" });
                found
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn setting(&self, key: &str, value: &[u8], token: i64, options: &EntryOptions) -> Request<bool> {
        let own = CacheSetOptions {
            px_ms: self.options.ttl.map(milliseconds),
            stale_ms: self.options.stale.map(|stale| if stale.is_zero() { 0 } else { milliseconds(stale) }),
            tags: options.tags.iter().map(Text::from).collect(),
            saved: options.saved,
            token: (token != 0).then_some(token),
            ..Default::default()
        };
        cache_set(key, value, &own)
    }

    async fn set(&self, key: &str, value: &[u8], token: i64, options: &EntryOptions) -> Result<bool, Error> {
        self.core.run(&self.setting(key, value, token, options)).await
    }

    /// Stores a value, if the server has given the right to. Whoever has computed it gets it, also if it cannot be stored.
    pub(super) async fn store(
        &self,
        mut fill: Fill,
        answer: Option<&CacheAnswer>,
        value: &[u8],
        options: &EntryOptions,
    ) {
        if answer.is_none() && !fill.is_known_again().await {
            return; // It is given up later.
        }
        let token = fill.token();
        if token == 0 && answer.is_none_or(|answer| answer.state == CacheState::Pending) {
            return;
        }
        match self.set(fill.key(), value, token, options).await {
            Ok(_) => fill.used(),
            Err(error) => {
                self.count("not_stored");
                log::debug!("an answer was not stored: {}", code_of(&error));
            }
        }
    }
}

impl Gateway {
    /// A cache of answers. The category is the kind of request, by which statistics and expiry go, and the beginning of the keys: it has
    /// no colon.
    pub fn cache(&self, category: &str, options: CacheOptions) -> Cache {
        let computing = Arc::new(Semaphore::new(options.computing.clamp(1, Semaphore::MAX_PERMITS)));
        let core = self.core.clone();
        let inner = CacheInner { core, category: category.to_owned(), options, computing, flights: Mutex::default() };
        Cache { state: Arc::new(inner) }
    }
}

impl Cache {
    /// The key of a request, which is JSON text: the same in all languages, and never that of another tenant.
    pub fn key(&self, request: impl AsRef<[u8]>) -> Result<String, KeyError> {
        let options = &self.state.options;
        let ignore: Vec<_> = options.ignore.iter().map(String::as_str).collect();
        cache_key(&self.state.category, options.tenant.as_deref(), request, &ignore)
    }

    /// The cached answer to a request, which is JSON text, or else the computed one, which is stored.
    ///
    /// Of all who ask for it at the same time one computes, and the others get its answer. If that fails, or whoever computes leaves,
    /// the next one computes. A stale answer is returned at once, and refreshed in the background. While the server is away, it is
    /// computed, a bounded number at a time. An error is one of the computation or of the key: none of the cache.
    pub async fn get_or_compute<T, E, F>(
        &self,
        request: impl AsRef<[u8]>,
        options: &EntryOptions,
        compute: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Arc<[u8]>, CacheError<E>>
    where
        T: Into<Vec<u8>>,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let key = self.key(request).map_err(CacheError::Key)?;
        let end = Instant::now() + self.state.options.wait;
        loop {
            let flight = match self.state.fly(&key) {
                Ok(lead) => return self.lead(lead, options, compute, end).await.map_err(CacheError::Compute),
                Err(flight) => flight,
            };
            if !flight.ended(end).await {
                self.state.count("wait_timeout");
                return compute().await.map(|value| value.into().into()).map_err(CacheError::Compute);
            }
            if let Some(value) = flight.value() {
                self.state.count("coalesced");
                return Ok(value.clone());
            }
        }
    }

    async fn lead<T, E, F>(
        &self,
        lead: Lead,
        options: &EntryOptions,
        compute: impl FnOnce() -> F + Send + 'static,
        end: Instant,
    ) -> Result<Arc<[u8]>, E>
    where
        T: Into<Vec<u8>>,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut fill = Fill::new(&self.state, lead.key());
        let mut answer = fill.fetch(end).await;
        if let Some(value) = answer.as_mut().and_then(|answer| answer.value.take()) {
            let value: Arc<[u8]> = value.into();
            lead.share(value.clone());
            if fill.token() != 0 {
                self.refresh(fill, options.clone(), compute);
            }
            return Ok(value);
        }
        let place = match &answer {
            None => self.state.place(end).await,
            Some(_) => None,
        };
        // If it fails, or nobody waits for it any more, the fill lease is given up.
        let value: Arc<[u8]> = compute().await?.into().into();
        drop(place);
        lead.share(value.clone());
        self.state.store(fill, answer.as_ref(), &value, options).await;
        Ok(value)
    }

    /// Computes a stale answer anew, in the background, for as long as the fill lease lives.
    pub(super) fn refresh<T, E, F>(
        &self,
        mut fill: Fill,
        options: EntryOptions,
        compute: impl FnOnce() -> F + Send + 'static,
    ) where
        T: Into<Vec<u8>>,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let state = self.state.clone();
        self.state.core.spawn(async move {
            let computed = tokio::time::timeout(state.options.lease, compute()).await;
            let computed = computed.ok().and_then(Result::ok).map(Into::<Vec<u8>>::into);
            let Some(value) = computed else {
                state.count("refresh_failed");
                log::warn!("a cached answer could not be refreshed");
                return;
            };
            match state.set(fill.key(), &value, fill.token(), &options).await {
                Ok(_) => fill.used(),
                Err(_) => state.count("not_stored"),
            }
        });
    }

    /// The cached answer, fresh or stale. It computes nothing and asks for no lease. If the server is away or refuses, there is none, and
    /// that is counted.
    pub async fn get(&self, request: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, KeyError> {
        let key = self.key(request)?;
        Ok(self.state.got(self.state.core.run(&cache_get(&key)).await))
    }

    /// Stores an answer. If the server is away or refuses, it is not stored, and that is counted.
    pub async fn set(
        &self,
        request: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: &EntryOptions,
    ) -> Result<(), KeyError> {
        let key = self.key(request)?;
        if let Err(error) = self.state.set(&key, value.as_ref(), 0, options).await {
            self.state.count("not_stored");
            log::debug!("an answer was not stored: {}", code_of(&error));
        }
        Ok(())
    }

    /// The cached answers to many requests, in one round trip to each server: each as [`get`](Self::get) has it.
    pub async fn get_many(&self, requests: &[impl AsRef<[u8]>]) -> Result<Vec<Option<Vec<u8>>>, KeyError> {
        let keys: Vec<String> = requests.iter().map(|request| self.key(request)).collect::<Result<_, _>>()?;
        let mut made = Vec::with_capacity(keys.len());
        for part in keys.chunks(TOGETHER) {
            let asked: Vec<_> = part.iter().map(cache_get).collect();
            let answers = self.state.core.transport.send_together(asked.iter().map(Call::of).collect()).await;
            for (request, answer) in asked.iter().zip(answers) {
                made.push(self.state.got(answer.and_then(|reply| request.decode(reply))));
            }
        }
        Ok(made)
    }

    /// Stores many answers, in one round trip to each server for each half a megabyte, and returns how many were stored. What is not
    /// stored is counted.
    pub async fn set_many(
        &self,
        entries: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
        options: &EntryOptions,
    ) -> Result<usize, KeyError> {
        let mut asked = Vec::with_capacity(entries.len());
        for (request, value) in entries {
            let value = value.as_ref();
            asked.push((value.len(), self.state.setting(&self.key(request)?, value, 0, options)));
        }
        let mut stored = 0;
        let mut left = &asked[..];
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = left.iter().take(TOGETHER).take_while(|(size, _)| {
                bytes += size;
                bytes <= TOGETHER_BYTES
            });
            let (part, rest) = left.split_at(fits.count().max(1));
            left = rest;
            let calls = part.iter().map(|(_, request)| Call::of(request)).collect();
            let answers = self.state.core.transport.send_together(calls).await;
            let taken = answers.iter().filter(|answer| answer.is_ok()).count();
            stored += taken;
            (taken..part.len()).for_each(|_| self.state.count("not_stored"));
        }
        Ok(stored)
    }

    /// Whether there was an entry, which is gone now.
    pub async fn delete(&self, request: impl AsRef<[u8]>) -> Result<bool, CacheError<Error>> {
        let key = self.key(request).map_err(CacheError::Key)?;
        let deleted = self.state.core.run(&cache_del(&[key])).await.map_err(CacheError::Compute)?;
        Ok(deleted > 0)
    }

    /// Clears the category, of all tenants, on every primary, and returns how many entries those were.
    pub async fn clear(&self) -> Result<i64, Error> {
        let request = cache_clear_category(&self.state.category);
        Ok(self.state.core.background.run_everywhere(&request, None).await?.into_iter().sum())
    }

    /// Clears all entries with the tag, of all categories, on every primary, and returns how many those were.
    pub async fn clear_tag(&self, tag: &str) -> Result<i64, Error> {
        let request = cache_clear_tag(tag);
        Ok(self.state.core.background.run_everywhere(&request, None).await?.into_iter().sum())
    }

    /// Clears all entries whose keys match a pattern such as `chat:acme:*`, on every primary, and returns how many those were.
    pub async fn clear_pattern(&self, pattern: &str) -> Result<i64, Error> {
        let request = cache_clear_pattern(pattern);
        let cleared = self.state.core.background.run_everywhere(&request, Some(PATTERN_TIMEOUT)).await?;
        Ok(cleared.into_iter().sum())
    }

    /// Hits, misses and what was saved, of each primary.
    pub async fn figures(&self) -> Result<Vec<CacheFigures>, Error> {
        let request = cache_stats_category(&self.state.category);
        Ok(self.state.core.transport.run_everywhere(&request, None).await?.into_iter().flatten().collect())
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("category", &self.state.category).finish_non_exhaustive()
    }
}
