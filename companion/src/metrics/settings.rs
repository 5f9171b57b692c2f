//! The part `[metrics]` of the configuration: how long a scrape may take, and what may become a series.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::values::{Wrong, spanned_duration, wrong};

/// The exporter's bounds. Without the part, all of them have their defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// A node that has not answered by then is down.
    #[serde(deserialize_with = "spanned_duration")]
    pub timeout: Spanned<Duration>,
    /// Keys of log queues, besides those that this companion ships.
    pub queues: Spanned<Vec<String>>,
    /// Keys of accounts whose policies are shown.
    pub accounts: Spanned<Vec<String>>,
    /// The most categories of the cache, on each node.
    pub categories: Spanned<usize>,
    /// Whether the change feed is asked how far behind it is.
    pub feed: bool,
    /// The keys of GW.TOP that may be shown: whole ones, or beginnings followed by `*`.
    pub top_keys: Spanned<Vec<String>>,
    /// The most keys of each list, on each node.
    pub top_count: Spanned<usize>,
    /// The meters whose lists are shown, besides that of refusals.
    pub top_meters: Spanned<Vec<String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        fn unplaced<T>(value: T) -> Spanned<T> {
            Spanned::new(0..0, value)
        }
        Self {
            timeout: unplaced(Duration::from_secs(3)),
            queues: unplaced(Vec::new()),
            accounts: unplaced(Vec::new()),
            categories: unplaced(50),
            feed: false,
            top_keys: unplaced(Vec::new()),
            top_count: unplaced(10),
            top_meters: unplaced(vec!["requests".to_owned(), "tokens".to_owned(), "usd".to_owned()]),
        }
    }
}

/// The most queues, and accounts: each is a call of every scrape.
const NAMED: usize = 200;
/// The most lists that a node has, besides that of refusals.
const METERS: usize = 8;
/// The most rows that GW.TOP replies.
const ROWS: usize = 512;
/// The categories that a node counts.
const CATEGORIES: usize = 1_024;

/// What types alone do not tell.
///
/// # Errors
/// The first value that is wrong.
pub fn check(part: &Metrics) -> Result<(), Wrong> {
    if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(part.timeout.as_ref()) {
        return Err(wrong(&part.timeout, "timeout: not between 100ms and 60s"));
    }
    let counts = [
        (&part.queues, part.queues.as_ref().len(), NAMED, "queues"),
        (&part.accounts, part.accounts.as_ref().len(), NAMED, "accounts"),
        (&part.top_meters, part.top_meters.as_ref().len(), METERS, "top_meters"),
    ];
    for (at, count, most, name) in counts {
        if count > most {
            return Err(wrong(at, format!("{name}: more than {most}")));
        }
    }
    for (at, most, name) in [(&part.categories, CATEGORIES, "categories"), (&part.top_count, ROWS, "top_count")] {
        if *at.as_ref() > most {
            return Err(wrong(at, format!("{name}: not between 0 and {most}")));
        }
    }
    if let Some(pattern) = part.top_keys.as_ref().iter().find(|pattern| pattern.trim_end_matches('*').contains('*')) {
        return Err(wrong(&part.top_keys, format!("top_keys: {pattern:?} has a * that is not its end")));
    }
    Ok(())
}

impl Metrics {
    /// Whether a key of GW.TOP may be shown.
    pub fn may_show(&self, key: &[u8]) -> bool {
        self.top_keys.as_ref().iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => key.starts_with(beginning.as_bytes()),
            None => key == pattern.as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        check(&toml::from_str(text).unwrap()).unwrap_err().1
    }

    #[test]
    fn bounds_are_checked() {
        check(&Metrics::default()).unwrap();
        assert_eq!(problem("timeout = \"90s\""), "timeout: not between 100ms and 60s");
        assert_eq!(problem("categories = 2000"), "categories: not between 0 and 1024");
        assert_eq!(problem("top_count = 513"), "top_count: not between 0 and 512");
        assert_eq!(problem("top_keys = [\"a*b\"]"), "top_keys: \"a*b\" has a * that is not its end");
        let many = format!("accounts = {:?}", vec!["a"; 201]);
        assert_eq!(problem(&many), "accounts: more than 200");
    }

    #[test]
    fn keys_are_allowed_by_name_or_beginning() {
        let part: Metrics = toml::from_str("top_keys = [\"team:*\", \"user:7\"]").unwrap();
        assert!(part.may_show(b"team:ml") && part.may_show(b"user:7"));
        assert!(!part.may_show(b"user:71") && !part.may_show(b"key") && !Metrics::default().may_show(b"key"));
    }
}
