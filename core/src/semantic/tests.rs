//! What an index promises, case by case.

use super::model::{Named, Random, fp32};
use super::*;
use crate::codec::{Decoder, Encoded};
use crate::memory::allocated_bytes;
use crate::money::Amount;
use crate::stored::Stored;

const NEVER_MS: i64 = 4_000_000_000_000;

fn new(id: &[u8]) -> New<'_> {
    New {
        id,
        value: b"value",
        pack_from_bytes: 0,
        created_at_ms: 0,
        expires_at_ms: NEVER_MS,
        saved: Amount::ZERO,
        text: b"",
        category: b"c",
        tags: Vec::new(),
    }
}

/// A vector of independent numbers, and one that is near to it.
fn random_numbers(random: &mut Random, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| random.number() + random.number() + random.number()).collect()
}

fn near(random: &mut Random, numbers: &[f32], noise: f32) -> Vec<f32> {
    numbers.iter().map(|number| number + noise * (random.number() + random.number() + random.number())).collect()
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let product =
        |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

fn index_of(vectors: &[Vec<f32>]) -> Index<Named> {
    let mut index = Index::new(vectors[0].len());
    for (number, numbers) in vectors.iter().enumerate() {
        index.set(&Vector::from_fp32(&fp32(numbers)).unwrap(), new(number.to_string().as_bytes()));
    }
    index
}

fn nearest(index: &Index<Named>, question: &[f32], exact_components: usize) -> (usize, Similarity) {
    let query = Query::from_fp32(&fp32(question)).unwrap();
    let question =
        Question { query: &query, threshold: Some(Similarity::MIN), count: 1, text: b"", guards: Guards::default() };
    let answer = index.search_with(1, question, &mut Scratch::default(), exact_components);
    let found = &answer.matches[0];
    (std::str::from_utf8(found.entry.id()).unwrap().parse().unwrap(), found.similarity)
}

/// Against all vectors in f64. With every entry compared, the nearest differs only if two are within the error of the
/// quantisation; by their signs, questions with a near entry find it.
#[test]
fn the_nearest_is_that_of_exact_numbers() {
    for (dimensions, entries) in [(384, 2_000), (1_536, 600)] {
        let mut random = Random(dimensions as u64);
        let vectors: Vec<_> = (0..entries).map(|_| random_numbers(&mut random, dimensions)).collect();
        let index = index_of(&vectors);
        let (mut wrong, mut wrong_by_signs) = (0, 0);
        for question in 0..500 {
            let is_near = question % 2 == 0;
            let numbers = match is_near {
                true => near(&mut random, &vectors[question % entries], 1.2),
                false => random_numbers(&mut random, dimensions),
            };
            let all: Vec<f64> = vectors.iter().map(|vector| cosine(&numbers, vector)).collect();
            let best = all.iter().copied().fold(f64::MIN, f64::max);
            let (row, similarity) = nearest(&index, &numbers, usize::MAX);
            let error = (similarity.millionths() as f64 / 1e6 - all[row]).abs();
            assert!(error < 0.002, "{error}");
            // Another one than the best is as good as it within twice the error.
            wrong += usize::from(all[row] < best);
            assert!(best - all[row] < 0.002, "{} of {best}", all[row]);
            let (row, _) = nearest(&index, &numbers, 0);
            wrong_by_signs += usize::from(is_near && all[row] < best);
        }
        // Random vectors have no near neighbours: a few of the nearest are nearly as near as the next.
        assert!(wrong <= 5, "{wrong} of 500");
        assert_eq!(wrong_by_signs, 0);
    }
}

#[test]
fn entries_that_differ_in_as_many_signs_are_all_looked_at() {
    // All in the same octant: no sign tells them apart.
    let mut random = Random(5);
    let vectors: Vec<Vec<f32>> = (0..600).map(|_| (0..64).map(|_| random.number().abs() + 0.01).collect()).collect();
    let index = index_of(&vectors);
    for vector in &vectors {
        assert_eq!(nearest(&index, vector, 0), nearest(&index, vector, usize::MAX));
    }
}

#[test]
fn cleared_and_expired_entries_do_not_take_the_places_of_others() {
    let mut random = Random(9);
    let mut index = Index::<Named>::new(64);
    let numbers = random_numbers(&mut random, 64);
    for number in 0..3_000 {
        let id = format!("gone{number}");
        let expires_at_ms = if number % 2 == 0 { 1 } else { NEVER_MS };
        let tags: Vec<&[u8]> = if number % 2 == 0 { vec![] } else { vec![b"gone"] };
        let vector = Vector::from_fp32(&fp32(&near(&mut random, &numbers, 0.01))).unwrap();
        index.set(&vector, New { expires_at_ms, tags, ..new(id.as_bytes()) });
    }
    // Further away in signs than all of those.
    let far = near(&mut random, &numbers, 0.5);
    index.set(&Vector::from_fp32(&fp32(&far)).unwrap(), new(b"7"));
    Named::clear(true, b"gone");
    for exact_components in [0, usize::MAX] {
        assert_eq!(nearest(&index, &numbers, exact_components).0, 7);
    }
}

#[test]
fn bytes_are_bounded_by_removing_what_was_not_used_for_longest() {
    let mut random = Random(3);
    let vectors: Vec<_> = (0..200).map(|_| random_numbers(&mut random, 16)).collect();
    let mut index = index_of(&vectors);
    // The first two were used last.
    assert_eq!((nearest(&index, &vectors[1], usize::MAX).0, nearest(&index, &vectors[0], usize::MAX).0), (1, 0));
    let each = index.weight_bytes() / index.len();
    let limits = Limits { max_entries: usize::MAX, max_bytes: index.weight_bytes() - 10 * each + each / 2 };
    let removed = index.to_remove(1, b"199", limits);
    let expected: Vec<Box<[u8]>> = (2..12).map(|number: i32| number.to_string().into_bytes().into()).collect();
    assert_eq!(removed[..removed.len().min(10)], expected[..]);
    assert!(removed.len() <= 11, "{}", removed.len());
    // Far above the bounds, one set removes no more than it has time for.
    let removed = index.to_remove(1, b"199", Limits { max_entries: 1, max_bytes: 0 });
    assert_eq!(removed.len(), REMOVED_MAX);
    removed.iter().for_each(|id| assert!(index.remove(id).is_some()));
    assert!(index.get(b"0").is_some() && index.get(b"199").is_some());
}

/// At most 1.3 times the bytes of the quantised vectors, without the ids and the values.
#[test]
fn an_entry_takes_little_more_than_its_vector() {
    for (entries, dimensions) in [(1_000, 384), (10_000, 384), (1_000, 1_536)] {
        let mut random = Random(1);
        let mut index = Index::<Named>::new(dimensions);
        let vector = Vector::from_fp32(&fp32(&random_numbers(&mut random, dimensions))).unwrap();
        for number in 0..entries {
            let id = format!("{number:08}");
            index.set(&vector, New { value: b"a value.", ..new(id.as_bytes()) });
        }
        let quantised = dimensions + dimensions / 8 + size_of::<f32>();
        let bytes = index.total_bytes() / entries - allocated_bytes(8) - allocated_bytes(8);
        assert!(bytes * 10 <= quantised * 13, "{bytes} bytes for {quantised}");
        assert!(index.weight_bytes() <= index.total_bytes());
    }
}

#[test]
fn buffers_are_visited_once_each_however_often_the_visit_pauses() {
    let mut random = Random(4);
    let vectors: Vec<_> = (0..400).map(|_| random_numbers(&mut random, 384)).collect();
    let mut index = index_of(&vectors);
    let mut all = Vec::new();
    assert_eq!(
        index.buffers(0, &mut |buffer| {
            all.push(buffer.clone());
            true
        }),
        None
    );
    assert!(all.len() > 403);
    let (mut paused, mut from) = (Vec::new(), Some(0));
    while let Some(cursor) = from {
        from = index.buffers(cursor, &mut |buffer| {
            paused.push(buffer.clone());
            false
        });
    }
    assert_eq!(paused, all);
}

#[test]
fn broken_indexes_do_not_load() {
    let mut index = index_of(&[vec![1.0, 2.0], vec![-1.0, 0.5]]);
    index.reject(b"1", Similarity::MAX);
    let saved = |index: &Index<Named>| {
        let mut out = Encoded::default();
        index.save(&mut out);
        out.0
    };
    let bytes = saved(&index);
    let load = |bytes: &[u8]| Index::<Named>::load(&mut Decoder::new(bytes), 0);
    assert!(load(&bytes).is_ok_and(|loaded| saved(&loaded) == bytes));
    for end in 0..bytes.len() {
        assert!(load(&bytes[..end]).is_err(), "{end} bytes");
    }
    assert!(load(&saved(&Index::new(2))).is_err(), "no entries");
    // Whatever one byte becomes, what loads works.
    for at in 0..bytes.len() {
        for to in [0, 1, 0x7f, 0x80, 0xff, b'u', b'i', b'b'] {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            if let Ok(loaded) = load(&bytes) {
                assert!(load(&saved(&loaded)).is_ok());
                let query = Query::from_fp32(&fp32(&vec![1.0; loaded.dimensions()])).unwrap();
                let question =
                    Question { query: &query, threshold: None, count: 2, text: b"", guards: Guards::default() };
                loaded.search(0, question, &mut Scratch::default());
            }
        }
    }
}
