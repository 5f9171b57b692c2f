//! The whole life of an index against a list.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::*;
use crate::codec::{Decoder, Encoded};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::Stored;

/// A group of the tests.
#[derive(Default)]
pub(super) struct Counts {
    name: Vec<u8>,
    cleared: Cell<bool>,
    entries: Cell<u64>,
    bytes: Cell<u64>,
}

/// A group by name, of those of the test's thread.
#[derive(Clone)]
pub(super) struct Named(Rc<Counts>);

thread_local! {
    static GROUPS: RefCell<HashMap<(bool, Vec<u8>), Named>> = RefCell::default();
}

impl Named {
    fn new(name: &[u8]) -> Self {
        Named(Rc::new(Counts { name: name.to_vec(), ..Counts::default() }))
    }

    fn of(is_tag: bool, name: &[u8]) -> Self {
        GROUPS
            .with_borrow_mut(|groups| groups.entry((is_tag, name.to_vec())).or_insert_with(|| Self::new(name)).clone())
    }

    /// Clears the group of that name, if there is one.
    pub fn clear(is_tag: bool, name: &[u8]) {
        if let Some(group) = GROUPS.with_borrow_mut(|groups| groups.remove(&(is_tag, name.to_vec()))) {
            group.0.cleared.set(true);
        }
    }

    fn lone_cleared(name: &[u8]) -> Self {
        let group = Self::new(name);
        group.0.cleared.set(true);
        group
    }
}

impl Group for Named {
    fn of_new(category: &[u8], mut tags: Vec<&[u8]>, _created_at_ms: i64) -> (Self, Box<[Self]>) {
        crate::cache::without_repeats(&mut tags);
        (Self::of(false, category), tags.into_iter().map(|tag| Self::of(true, tag)).collect())
    }

    fn of_loaded(category: &[u8], tags: Vec<&[u8]>, created_at_ms: i64, was_cleared: bool) -> (Self, Box<[Self]>) {
        match was_cleared {
            true => (Self::lone_cleared(category), tags.into_iter().map(Self::lone_cleared).collect()),
            false => Self::of_new(category, tags, created_at_ms),
        }
    }

    fn name(&self) -> &[u8] {
        &self.0.name
    }

    fn is_cleared(&self) -> bool {
        self.0.cleared.get()
    }

    fn entry_made(&self, [_, bytes]: [u64; 2]) {
        self.0.entries.update(|entries| entries + 1);
        self.0.bytes.update(|sum| sum + bytes);
    }

    fn entry_gone(&self, [_, bytes]: [u64; 2]) {
        self.0.entries.update(|entries| entries - 1);
        self.0.bytes.update(|sum| sum - bytes);
    }

    fn tagged(&self) {
        self.0.entries.update(|entries| entries + 1);
    }

    fn untagged(&self) {
        self.0.entries.update(|entries| entries - 1);
    }
}

pub(super) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// From -1 to 1.
    pub fn number(&mut self) -> f32 {
        (self.next() as f64 / (1_u64 << 52) as f64 - 1.0) as f32
    }
}

pub(super) fn fp32(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// An entry of the model. They lie in the order of the index's rows.
#[derive(Clone, Debug)]
struct Listed {
    id: Vec<u8>,
    numbers: Vec<f32>,
    value: Vec<u8>,
    created_at_ms: i64,
    expires_at_ms: i64,
    saved: Amount,
    text: Vec<u8>,
    category: usize,
    tags: Vec<usize>,
    rejected: Option<Similarity>,
    cleared: bool,
    used: u64,
}

const DIMENSIONS: usize = 5;
const CATEGORIES: [&[u8]; 2] = [b"chat", b"search"];
const TAGS: [&[u8]; 3] = [b"x", b"y", b"z"];
const TEXTS: [&[u8]; 4] = [b"", b"can I pay 10", b"can't I pay 10", b"can I pay 100"];

/// The similarity, from the numbers alone.
fn similarity(question: &[f32], stored: &[f32]) -> Similarity {
    let integers = |numbers: &[f32], max: f64| -> Vec<f64> {
        let largest = numbers.iter().fold(0.0_f64, |largest, number| largest.max(f64::from(number.abs())));
        numbers.iter().map(|&number| (f64::from(number) * (max / largest)).round()).collect()
    };
    let (one, other) = (integers(question, 4_095.0), integers(stored, 127.0));
    let squares = |numbers: &[f64]| numbers.iter().map(|number| number * number).sum::<f64>();
    let product: f64 = one.iter().zip(&other).map(|(one, other)| one * other).sum();
    // The length of a stored vector is kept in 32 bits.
    Similarity::nearest(product * f64::from((1.0 / squares(&other).sqrt()) as f32) * (1.0 / squares(&one).sqrt()))
}

#[derive(Default)]
struct Model {
    list: Vec<Listed>,
    threshold: Option<Similarity>,
    ticks: u64,
}

impl Model {
    fn remove(&mut self, id: &[u8]) -> bool {
        let found = self.list.iter().position(|entry| entry.id == id);
        found.map(|row| self.list.swap_remove(row)).is_some()
    }

    fn touch(&mut self, row: usize) {
        self.ticks += 1;
        self.list[row].used = self.ticks;
    }

    /// The ids that a set removes, if the bound is a number of entries.
    fn to_remove(&self, now_ms: i64, kept: &[u8], max_entries: usize) -> Vec<Vec<u8>> {
        let (mut gone, mut rest): (Vec<_>, Vec<_>) =
            self.list.iter().filter(|entry| entry.id != kept).partition(|entry| entry.expires_at_ms <= now_ms);
        rest.sort_by_key(|entry| entry.used);
        gone.extend(rest.iter().take((rest.len() + 1).saturating_sub(max_entries)));
        gone.into_iter().map(|entry| entry.id.clone()).collect()
    }

    /// The rows of all entries that can be found, the nearest first.
    fn ranked(&self, now_ms: i64, question: &[f32]) -> Vec<(Similarity, usize)> {
        let is_live = |entry: &Listed| entry.expires_at_ms > now_ms && !entry.cleared;
        let rows = (0..self.list.len()).filter(|&row| is_live(&self.list[row]));
        let mut ranked: Vec<_> = rows.map(|row| (similarity(question, &self.list[row].numbers), row)).collect();
        ranked.sort_by(|(one, a), (other, b)| {
            let (a, b) = (&self.list[*a], &self.list[*b]);
            other.cmp(one).then(b.created_at_ms.cmp(&a.created_at_ms)).then(a.id.cmp(&b.id))
        });
        ranked
    }

    /// After the index was loaded: when entries were used is forgotten, and they count as used in the order of the rows.
    fn loaded(&mut self) {
        for row in 0..self.list.len() {
            self.touch(row);
        }
    }
}

struct Life {
    random: Random,
    now_ms: i64,
    index: Index<Named>,
    model: Model,
    scratch: Scratch,
    /// How often each outcome was seen, so that none goes untested.
    seen: HashMap<&'static str, u64>,
}

impl Life {
    fn saw(&mut self, what: &'static str, how_often: usize) {
        *self.seen.entry(what).or_default() += how_often as u64;
    }

    fn numbers(&mut self) -> Vec<f32> {
        let random = &mut self.random;
        // Few directions, so that many are near to each other, and some the same.
        match random.below(3) {
            0 => (0..DIMENSIONS).map(|_| random.number() * 3.0).collect(),
            _ => {
                let at = random.below(DIMENSIONS);
                let turned = (random.below(4) as f32) * 0.3;
                (0..DIMENSIONS).map(|place| f32::from(u8::from(place == at)) + turned / (place + 1) as f32).collect()
            }
        }
    }

    fn id(&mut self) -> Vec<u8> {
        format!("id{}", self.random.below(24)).into_bytes()
    }

    fn set(&mut self) {
        let (id, numbers) = (self.id(), self.numbers());
        let random = &mut self.random;
        let listed = Listed {
            value: vec![b'v'; random.below(300)],
            created_at_ms: self.now_ms,
            expires_at_ms: self.now_ms + 1 + random.below(5_000) as i64,
            saved: Amount::from_picos(random.below(2) as i128).unwrap(),
            text: TEXTS[random.below(4)].to_vec(),
            category: random.below(2),
            tags: (0..random.below(3)).map(|_| random.below(3)).collect(),
            rejected: None,
            cleared: false,
            used: 0,
            id: id.clone(),
            numbers,
        };
        let max_entries = 1 + random.below(40).min(16);
        let new = New {
            id: &id,
            value: &listed.value,
            pack_from_bytes: 64 * random.below(2),
            created_at_ms: listed.created_at_ms,
            expires_at_ms: listed.expires_at_ms,
            saved: listed.saved,
            text: &listed.text,
            category: CATEGORIES[listed.category],
            tags: listed.tags.iter().map(|&tag| TAGS[tag]).collect(),
        };
        self.index.set(&Vector::from_fp32(&fp32(&listed.numbers)).unwrap(), new);
        let replaced = self.model.remove(&id);
        self.model.list.push(listed);
        self.model.touch(self.model.list.len() - 1);

        let limits = Limits { max_entries, max_bytes: usize::MAX };
        let removed = self.index.to_remove(self.now_ms, &id, limits);
        let mut expected = self.model.to_remove(self.now_ms, &id, max_entries);
        let mut sorted: Vec<Vec<u8>> = removed.iter().map(|id| id.to_vec()).collect();
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected);
        for id in &removed {
            assert!(self.index.remove(id).is_some() && self.model.remove(id));
        }
        self.saw("replaced", replaced.into());
        self.saw("removed", removed.len());
    }

    fn search(&mut self) {
        let numbers = self.numbers();
        let query = Query::from_fp32(&fp32(&numbers)).unwrap();
        let random = &mut self.random;
        let threshold = (random.below(2) == 0).then(|| Similarity::nearest(random.number().into()));
        let guards = Guards { digits: random.below(3) == 0, negation: random.below(3) == 0 };
        let (count, text) = (1 + random.below(3), TEXTS[random.below(4)]);
        let question = Question { query: &query, threshold, count, text, guards };
        let answer = self.index.search(self.now_ms, question, &mut self.scratch);

        let ranked = self.model.ranked(self.now_ms, &numbers);
        assert_eq!(answer.nearest, ranked.first().map(|(similarity, _)| *similarity));
        let least = threshold.or(self.model.threshold).unwrap_or(Similarity::DEFAULT_THRESHOLD);
        let answers = |&place: &usize| {
            let (similarity, row) = ranked[place];
            let entry = &self.model.list[row];
            similarity >= least
                && entry.rejected.is_none_or(|rejected| similarity > rejected)
                && guards.agree(text, &entry.text)
        };
        let places: Vec<usize> = (0..ranked.len()).filter(answers).take(count).collect();
        assert_eq!(answer.matches.len(), places.len());
        for (found, &place) in answer.matches.iter().zip(&places) {
            let (similarity, row) = ranked[place];
            let entry = &self.model.list[row];
            let mut room = Vec::new();
            assert_eq!(found.entry.id(), entry.id);
            assert_eq!((found.similarity, found.expires_at_ms), (similarity, entry.expires_at_ms));
            assert_eq!(found.runner_up, ranked.get(place + 1).map(|(similarity, _)| *similarity));
            assert_eq!(found.entry.value().get(&mut room), Ok(&entry.value[..]));
            assert_eq!((found.entry.saved(), found.entry.text()), (entry.saved, &entry.text[..]));
        }
        let passed_over = places.first().is_some_and(|&place| place > 0);
        for place in &places {
            self.model.touch(ranked[*place].1);
        }
        self.saw("found", usize::from(!places.is_empty()));
        self.saw("missed", usize::from(places.is_empty()));
        self.saw("passed over", passed_over.into());
    }

    fn reject(&mut self) {
        let (id, at) = (self.id(), Similarity::nearest(self.random.number().into()));
        let found = self.model.list.iter_mut().find(|entry| entry.id == id);
        let is_new = found.as_ref().is_some_and(|entry| entry.rejected.is_none_or(|before| before < at));
        if let (Some(entry), true) = (found, is_new) {
            entry.rejected = Some(at);
        }
        assert_eq!(self.index.reject(&id, at), is_new);
        self.saw("rejected", is_new.into());
    }

    fn clear(&mut self) {
        let (is_tag, number) = (self.random.below(2) == 0, self.random.below(2));
        let name = if is_tag { TAGS[number] } else { CATEGORIES[number] };
        Named::clear(is_tag, name);
        let mut cleared = 0;
        for entry in &mut self.model.list {
            let is_meant = if is_tag { entry.tags.contains(&number) } else { entry.category == number };
            cleared += usize::from(is_meant && !entry.cleared);
            entry.cleared |= is_meant;
        }
        self.saw("cleared", cleared);
        if self.random.below(2) == 0 {
            let mut end = self.index.len();
            while end > 0 {
                let (ids, next) = self.index.cleared(end, 3);
                for id in ids {
                    assert!(
                        self.index.remove(&id).is_some_and(|(entry, _)| entry.is_cleared()) && self.model.remove(&id)
                    );
                }
                end = next;
            }
            assert!(self.model.list.iter().all(|entry| !entry.cleared));
        }
    }

    fn reload(&mut self) {
        // A key goes with its last entry, so none is saved without.
        if self.index.is_empty() {
            return;
        }
        let digest = |index: &Index<Named>| {
            let mut out = Encoded::default();
            index.digest(&mut out);
            out
        };
        let before = digest(&self.index);
        let loaded = if self.random.below(2) == 0 {
            let mut saved = Encoded::default();
            self.index.save(&mut saved);
            Index::load(&mut Decoder::new(&saved.0), 0).unwrap()
        } else {
            let mut loaded = Index::new(DIMENSIONS);
            self.index.save_pieces(&mut |piece| loaded.append(Index::load_piece(&piece.0).unwrap()));
            loaded
        };
        assert_eq!(digest(&loaded), before);
        self.index = loaded;
        self.model.loaded();
    }

    fn step(&mut self) {
        self.now_ms += match self.random.below(60) {
            0 => -(self.random.below(2_000) as i64),
            1 => 1_000 + self.random.below(3_000) as i64,
            _ => self.random.below(40) as i64,
        };
        match self.random.below(200) {
            0..90 => self.set(),
            90..170 => self.search(),
            170..185 => {
                let id = self.id();
                assert_eq!(self.index.remove(&id).is_some(), self.model.remove(&id));
            }
            185..193 => self.reject(),
            193..195 => {
                let threshold = Similarity::nearest(self.random.number().into());
                self.index.set_threshold(threshold);
                self.model.threshold = Some(threshold);
            }
            195..197 => self.clear(),
            197 => self.index = self.index.clone(),
            _ => self.reload(),
        }
    }

    fn check(&self) {
        assert_eq!(self.index.len(), self.model.list.len());
        let ends_at_ms = self.model.list.iter().map(|entry| entry.expires_at_ms).max();
        assert_eq!(self.index.ends_at_ms(), ends_at_ms.unwrap_or(0));
        let bytes: usize = self.index.entries().map(|(entry, _)| entry.memory_bytes()).sum();
        assert_eq!(self.index.entry_bytes(), bytes);
        for entry in &self.model.list {
            let (found, expires_at_ms) = self.index.get(&entry.id).unwrap();
            assert_eq!(
                (expires_at_ms, found.rejected(), found.is_cleared()),
                (entry.expires_at_ms, entry.rejected, entry.cleared)
            );
        }
        // Every group counts the entries that are in it.
        GROUPS.with_borrow(|groups| {
            for ((is_tag, name), group) in groups {
                let is_in = |entry: &&Listed| match is_tag {
                    true => !entry.cleared && entry.tags.iter().any(|&tag| TAGS[tag] == name),
                    false => !entry.cleared && CATEGORIES[entry.category] == name,
                };
                let listed = self.model.list.iter().filter(is_in);
                // An entry of which only another tag was cleared counts on, until it is saved and loaded.
                assert!(group.0.entries.get() >= listed.count() as u64);
            }
        });
        assert!(self.index.total_bytes() >= bytes + allocated_bytes(size_of::<Index<Named>>()));
    }
}

/// A million steps in all.
#[test]
fn an_index_is_a_list_that_is_searched_from_one_end_to_the_other() {
    for seed in 1..=20_u64 {
        let mut life = Life {
            random: Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed)),
            now_ms: 1_800_000_000_000,
            index: Index::new(DIMENSIONS),
            model: Model::default(),
            scratch: Scratch::default(),
            seen: HashMap::new(),
        };
        for step in 0..50_000 {
            life.step();
            if step % 16 == 0 {
                life.check();
            }
        }
        for what in ["found", "missed", "passed over", "replaced", "removed", "rejected", "cleared"] {
            assert!(life.seen.get(what).is_some_and(|&count| count > 100), "{what}: {:?}", life.seen);
        }
        drop(life);
        GROUPS.with_borrow_mut(|groups| {
            assert!(groups.values().all(|group| group.0.entries.get() == 0 && group.0.bytes.get() == 0));
            groups.clear();
        });
    }
}
