//! Counts of the last minute and of the last hour: see the [module's documentation](super).

use std::cmp::Reverse;
use std::collections::VecDeque;

use hashbrown::HashTable;

use super::filtered::Filtered;
use super::name::Name;
use super::table::{Entry, Summary, Table};
use crate::memory::allocated_bytes;

/// The shortest span that is counted, in milliseconds. Twelve of them are the minute.
pub const SPAN_MS: i64 = 5_000;

/// The spans that a horizon consists of, besides the one under way.
const SPANS: usize = 12;

/// The short spans in a long one: twelve of five minutes are the hour.
const SHORT_IN_LONG: u32 = 60;

/// How many times as many names a long span keeps: it has more of them, and the sum of the hour's floors grows with each
/// merge.
const LONG_FACTOR: usize = 2;

/// After this number of short spans without a count nothing is left of the hour.
const FORGOTTEN: i64 = (SPANS as i64 + 1) * SHORT_IN_LONG as i64;

const WEIGHT_MAX: u128 = 1 << 96;

/// A name with what it has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key, or the first [`KEY_SHOWN_MAX`](super::KEY_SHOWN_MAX) bytes of it.
    pub key: Box<[u8]>,
    /// The label, empty if the list has none.
    pub label: Box<[u8]>,
    /// The most that it has counted in the last minute, that is in the last 60 to 65 seconds.
    pub minute: u128,
    /// The most that it has counted in the last hour, that is in the last 60 to 65 minutes.
    pub hour: u128,
    /// How much less each of the two may be.
    pub error: u128,
}

/// The heaviest names of the last minute and of the last hour.
#[derive(Debug)]
pub struct Horizons {
    /// When the short span under way began.
    begin_ms: i64,
    short: Filtered,
    /// Short spans that are over, oldest first.
    minute: VecDeque<Summary>,
    /// The union of the short spans that belong to the long span under way and are over.
    long: Table,
    long_has: u32,
    /// Long spans that are over, oldest first.
    hour: VecDeque<Summary>,
}

impl Horizons {
    /// Nothing is counted yet. Names that count more than 1 of `keys + 1` parts of an hour are never missed; `keys` is
    /// from 1 to [`KEYS_MAX`](super::KEYS_MAX).
    #[cold]
    pub fn new(now_ms: i64, keys: usize) -> Self {
        Self {
            begin_ms: now_ms - now_ms.rem_euclid(SPAN_MS),
            short: Filtered::new(keys),
            minute: VecDeque::with_capacity(SPANS + 1),
            long: Table::new(LONG_FACTOR * keys),
            long_has: 0,
            hour: VecDeque::with_capacity(SPANS + 1),
        }
    }

    /// Counts a weight: at most 2^96, so that the sums of an hour do not overflow with fewer than 2^32 calls.
    ///
    /// Inlined by force: the compiler finds it too long, and the call would be a tenth of its cost.
    #[inline(always)]
    pub fn add(&mut self, now_ms: i64, name: &Name, weight: u128) {
        if self.is_over(now_ms) {
            self.advance(now_ms);
        }
        self.short.add(name, weight.min(WEIGHT_MAX));
    }

    #[inline]
    fn is_over(&self, now_ms: i64) -> bool {
        !(0..SPAN_MS).contains(&now_ms.wrapping_sub(self.begin_ms))
    }

    /// Ends the spans that are over.
    ///
    /// If the clock has stepped back, the span under way goes on to the end of the one that the clock is in again. So what
    /// was counted before is up to a span older than it should be, and nothing is lost. If the clock has stepped ahead,
    /// what was counted is that much older.
    #[cold]
    pub fn advance(&mut self, now_ms: i64) {
        if !self.is_over(now_ms) {
            return;
        }
        let begin_ms = now_ms - now_ms.rem_euclid(SPAN_MS);
        let spans = (begin_ms - self.begin_ms) / SPAN_MS;
        self.begin_ms = begin_ms;
        if spans > 0 {
            let summary = self.short.close();
            self.end_short(summary);
        }
        // What would be empty after that is not put together span by span.
        (1..spans.min(FORGOTTEN)).for_each(|_| self.end_short(Summary::default()));
    }

    fn end_short(&mut self, summary: Summary) {
        self.long.merge(&summary);
        push(&mut self.minute, summary);
        self.long_has += 1;
        if self.long_has == SHORT_IN_LONG {
            self.long_has = 0;
            let summary = self.long.close();
            push(&mut self.hour, summary);
        }
    }

    /// Whether nothing was counted in the last hour.
    pub fn is_empty(&self) -> bool {
        self.short.table().is_empty()
            && self.long.is_empty()
            && self.minute.iter().chain(&self.hour).all(|summary| summary.entries.is_empty() && summary.floor == 0)
    }

    /// The `count` names with the highest counts, the highest first.
    pub fn heaviest(&mut self, now_ms: i64, by: By, count: usize) -> Vec<Row> {
        self.advance(now_ms);
        let short = self.short.table();
        let mut known = Known::default();
        known.add(short.floor(), short.entries(), short.names(), &[Horizon::Minute, Horizon::Hour]);
        known.add(self.long.floor(), self.long.entries(), self.long.names(), &[Horizon::Hour]);
        for Summary { floor, entries, names } in &self.minute {
            known.add(*floor, entries, names, &[Horizon::Minute]);
        }
        for Summary { floor, entries, names } in &self.hour {
            known.add(*floor, entries, names, &[Horizon::Hour]);
        }
        known.heaviest(by, count)
    }

    /// The allocated memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        let summaries = [&self.minute, &self.hour].map(|spans| {
            allocated_bytes(spans.capacity() * size_of::<Summary>())
                + spans.iter().map(Summary::memory_bytes).sum::<usize>()
        });
        self.short.memory_bytes() + self.long.memory_bytes() + summaries.iter().sum::<usize>()
    }
}

fn push(spans: &mut VecDeque<Summary>, summary: Summary) {
    if spans.len() >= SPANS {
        spans.pop_front();
    }
    spans.push_back(summary);
}

/// What rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The count in the last minute; if two are equal, by the one in the last hour.
    Minute,
    /// The count in the last hour; if two are equal, by the one in the last minute.
    Hour,
}

#[derive(Clone, Copy)]
enum Horizon {
    Minute,
    Hour,
}

/// What is known of names from several spans.
#[derive(Default)]
struct Known<'a> {
    names: Vec<KnownName<'a>>,
    /// Places of the names, by their fingerprints.
    places: HashTable<usize>,
    /// The floors of the minute and of the hour.
    floors: [u128; 2],
}

struct KnownName<'a> {
    name: (&'a [u8], &'a [u8]),
    fingerprint: u64,
    /// In the minute and in the hour.
    excess: [u128; 2],
    seen: [u128; 2],
}

impl<'a> Known<'a> {
    fn add(&mut self, floor: u128, entries: &[Entry], bytes: &'a [u8], horizons: &[Horizon]) {
        for &horizon in horizons {
            let sum = &mut self.floors[horizon as usize];
            *sum = sum.saturating_add(floor);
        }
        for entry in entries {
            let Self { names, places, .. } = self;
            let fingerprint = entry.fingerprint;
            let same = |&place: &usize| names.get(place).is_some_and(|known| known.fingerprint == fingerprint);
            let place = places.find(fingerprint, same).copied().unwrap_or_else(|| {
                let place = names.len();
                names.push(KnownName { name: entry.name(bytes), fingerprint, excess: [0; 2], seen: [0; 2] });
                places
                    .insert_unique(fingerprint, place, |&place| names.get(place).map_or(0, |known| known.fingerprint));
                place
            });
            let Some(known) = names.get_mut(place) else { continue };
            for &horizon in horizons {
                let (excess, seen) = (&mut known.excess[horizon as usize], &mut known.seen[horizon as usize]);
                *excess = excess.saturating_add(entry.excess);
                *seen = seen.saturating_add(entry.seen);
            }
        }
    }

    fn heaviest(self, by: By, count: usize) -> Vec<Row> {
        let floors = self.floors;
        let counts = |known: &KnownName| [0, 1].map(|horizon| floors[horizon].saturating_add(known.excess[horizon]));
        // Names are last, so that the order is always the same.
        let order = |known: &KnownName<'a>| {
            let [minute, hour] = counts(known).map(Reverse);
            let [first, second] = if by == By::Minute { [minute, hour] } else { [hour, minute] };
            (first, second, known.name)
        };
        let mut names = self.names;
        if count < names.len() {
            names.select_nth_unstable_by_key(count, order);
            names.truncate(count);
        }
        names.sort_unstable_by_key(order);
        let row = |known: &KnownName| {
            let ([minute, hour], (key, label)) = (counts(known), known.name);
            let error = minute.saturating_sub(known.seen[0]).max(hour.saturating_sub(known.seen[1]));
            Row { key: key.into(), label: label.into(), minute, hour, error }
        };
        names.iter().map(row).collect()
    }
}
