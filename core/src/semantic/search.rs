//! The search for the entries that are nearest to a question.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::entry::{Entry, Group};
use super::guard::Guards;
use super::index::Index;
use super::kernel;
use super::similarity::Similarity;
use super::vector::Query;

/// The most components (entries times dimensions) of an index of which every entry is compared in all bits: 10,000 entries of
/// 1,536 dimensions. In a larger one, the signs of the components choose which entries are.
const EXACT_COMPONENTS: usize = 10_000 * 1_536;

/// The entries that the signs choose, at least; entries that differ from the question in the same number of signs are chosen
/// together, up to [`CHOSEN_MAX`].
const CHOSEN: usize = 256;
const CHOSEN_MAX: usize = 4 * CHOSEN;

/// The nearest entries that are looked at beyond those that are asked for, in place of those that are rejected or differ in
/// what is guarded.
const PASSED_OVER: usize = 64;

/// A question to an index.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Of the index's dimensions.
    pub query: &'a Query,
    /// The least similarity of an entry that is served; `None` for the index's own, or the default.
    pub threshold: Option<Similarity>,
    /// How many entries, 1 to [`COUNT_MAX`](super::bounds::COUNT_MAX).
    pub count: usize,
    /// The question's text, for guards.
    pub text: &'a [u8],
    /// What has to agree in the texts.
    pub guards: Guards,
}

/// An entry that answers a question.
#[derive(Clone, Copy)]
pub struct Match<'a, G: Group> {
    /// The entry.
    pub entry: &'a Entry<G>,
    /// Its similarity.
    pub similarity: Similarity,
    /// From when on it is no longer served, in unix milliseconds.
    pub expires_at_ms: i64,
    /// The similarity of the next nearest entry, whether or not that one answers the question, too.
    pub runner_up: Option<Similarity>,
}

/// What a search has found.
pub struct Answer<'a, G: Group> {
    /// The entries that answer the question, the nearest first.
    pub matches: Vec<Match<'a, G>>,
    /// The similarity of the nearest entry, whether or not it answers the question; `None` if there is no entry.
    pub nearest: Option<Similarity>,
}

/// Memory that searches use one after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    distances: Vec<u16>,
    products: Vec<i32>,
    chosen: Vec<usize>,
}

/// A row and its similarity. Of two that are as similar, the entry that was set later is nearer, and then the one whose id
/// comes first.
struct Ranked<'a, G: Group> {
    similarity: Similarity,
    row: usize,
    entry: &'a Entry<G>,
}

impl<G: Group> Ord for Ranked<'_, G> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_entry = || {
            let by_time = self.entry.created_at_ms().cmp(&other.entry.created_at_ms());
            by_time.then_with(|| other.entry.id().cmp(self.entry.id()))
        };
        self.similarity.cmp(&other.similarity).then_with(by_entry)
    }
}

impl<G: Group> PartialOrd for Ranked<'_, G> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<G: Group> PartialEq for Ranked<'_, G> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<G: Group> Eq for Ranked<'_, G> {}

/// The nearest of what is offered: those at the threshold or above it, at most `room`, and of the others the similarity of
/// the nearest, which is a runner-up.
struct Best<'a, G: Group> {
    threshold: Similarity,
    room: usize,
    heap: BinaryHeap<Reverse<Ranked<'a, G>>>,
    below: Option<Similarity>,
    /// What is less similar than this changes nothing.
    floor: f64,
}

impl<'a, G: Group> Best<'a, G> {
    fn new(threshold: Similarity, room: usize) -> Self {
        Self { threshold, room, heap: BinaryHeap::new(), below: None, floor: f64::NEG_INFINITY }
    }

    #[inline]
    fn offer(&mut self, index: &'a Index<G>, row: usize, cosine: f64) {
        // Nearly all rows end here, without a look at the entry.
        if cosine >= self.floor {
            self.take(index, row, Similarity::nearest(cosine));
        }
    }

    fn take(&mut self, index: &'a Index<G>, row: usize, similarity: Similarity) {
        let Some(entry) = index.entries.get(row).filter(|entry| !entry.is_cleared()) else { return };
        if similarity < self.threshold {
            self.below = self.below.max(Some(similarity));
        } else {
            self.heap.push(Reverse(Ranked { similarity, row, entry }));
            if self.heap.len() > self.room {
                self.heap.pop();
            }
        }
        let worst = self.heap.peek().filter(|_| self.heap.len() == self.room).map(|Reverse(worst)| worst.similarity);
        if let Some(least) = worst.or(self.below) {
            // A millionth less, because similarities are rounded.
            self.floor = (least.millionths() - 1) as f64 / 1e6;
        }
    }
}

impl<G: Group> Index<G> {
    /// The entries that answer a question, and marks them as used, which does not change the value.
    ///
    /// The similarity is that of the vectors as they are stored. Every entry is compared up to 15,360,000 components;
    /// beyond, those of at least 256 entries whose signs differ least from the question's.
    pub fn search(&self, now_ms: i64, question: Question, scratch: &mut Scratch) -> Answer<'_, G> {
        self.search_with(now_ms, question, scratch, EXACT_COMPONENTS)
    }

    pub(super) fn search_with(
        &self,
        now_ms: i64,
        question: Question,
        scratch: &mut Scratch,
        exact_components: usize,
    ) -> Answer<'_, G> {
        debug_assert_eq!(question.query.dimensions(), self.dimensions());
        let threshold = question.threshold.or(self.threshold()).unwrap_or(Similarity::DEFAULT_THRESHOLD);
        let mut best = Best::new(threshold, question.count + PASSED_OVER);
        if self.len() * self.dimensions() <= exact_components {
            self.rank_all(now_ms, question.query, scratch, &mut best);
        } else {
            self.rank_chosen(now_ms, question.query, scratch, &mut best);
        }
        let Best { heap, below, .. } = best;
        let ranked: Vec<Ranked<G>> = heap.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked).collect();
        let answers = |ranked: &Ranked<G>| {
            ranked.entry.rejected().is_none_or(|rejected| ranked.similarity > rejected)
                && question.guards.agree(question.text, ranked.entry.text())
        };
        let similarity_at = |place: usize| ranked.get(place).map(|ranked| ranked.similarity).or(below);
        let places = ranked.iter().enumerate().filter(|(_, ranked)| answers(ranked)).take(question.count);
        let matches = places.map(|(place, &Ranked { similarity, row, entry })| {
            self.touch(row);
            let expires_at_ms = self.expires_at_ms.get(row).copied().unwrap_or(0);
            Match { entry, similarity, expires_at_ms, runner_up: similarity_at(place + 1) }
        });
        Answer { matches: matches.collect(), nearest: similarity_at(0) }
    }

    /// Offers every entry.
    fn rank_all<'a>(&'a self, now_ms: i64, query: &Query, scratch: &mut Scratch, best: &mut Best<'a, G>) {
        let mut row = 0;
        for codes in self.codes.chunks() {
            scratch.products.clear();
            kernel::products(codes, &query.integers, &mut scratch.products);
            let (inverse_lengths, expires_at_ms) = (self.inverse_lengths.get(row..), self.expires_at_ms.get(row..));
            let lists = inverse_lengths.unwrap_or_default().iter().zip(expires_at_ms.unwrap_or_default());
            for (&product, (&inverse_length, &expires_at_ms)) in scratch.products.iter().zip(lists) {
                if expires_at_ms > now_ms {
                    best.offer(self, row, query.cosine(product, inverse_length));
                }
                row += 1;
            }
        }
    }

    /// Offers the entries whose signs differ least from the question's.
    fn rank_chosen<'a>(&'a self, now_ms: i64, query: &Query, scratch: &mut Scratch, best: &mut Best<'a, G>) {
        scratch.distances.clear();
        self.signs.chunks().for_each(|signs| kernel::distances(signs, &query.signs, &mut scratch.distances));
        // How many entries there are at each distance.
        let mut counts = vec![0_usize; self.dimensions() + 1];
        for (distance, &expires_at_ms) in scratch.distances.iter_mut().zip(&self.expires_at_ms) {
            // No distance: expired.
            if expires_at_ms <= now_ms {
                *distance = u16::MAX;
            } else if let Some(count) = counts.get_mut(usize::from(*distance)) {
                *count += 1;
            }
        }
        let mut wanted = CHOSEN;
        loop {
            let mut sum = 0;
            let radius = counts.iter().position(|count| {
                sum += count;
                sum >= wanted
            });
            // Fewer are left than are wanted: all of them.
            let radius = radius.unwrap_or(self.dimensions());
            scratch.chosen.clear();
            for (row, &distance) in scratch.distances.iter().enumerate() {
                let distance = usize::from(distance);
                let is_near =
                    distance < radius || (distance == radius && scratch.chosen.len() < wanted + CHOSEN_MAX - CHOSEN);
                if is_near && !self.is_cleared(row) {
                    scratch.chosen.push(row);
                }
            }
            // Entries that were cleared and not removed yet may have taken the places of others.
            if scratch.chosen.len() >= CHOSEN.min(wanted) || radius == self.dimensions() {
                break;
            }
            wanted *= 4;
        }
        for &row in &scratch.chosen {
            scratch.products.clear();
            kernel::products(self.codes.get(row), &query.integers, &mut scratch.products);
            if let (Some(&product), Some(&inverse_length)) = (scratch.products.first(), self.inverse_lengths.get(row)) {
                best.offer(self, row, query.cosine(product, inverse_length));
            }
        }
    }
}
