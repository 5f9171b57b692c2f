//! The target for the encoding of semantic indexes, whose entries here are in groups of nothing but a name.

use gateway_core::semantic::{Group, Guards, Index, Query, Question, Scratch, Similarity};
use gateway_core::stored::Stored;

use crate::fields::Fields;
use crate::stored;

#[derive(Clone)]
struct Named {
    name: Box<[u8]>,
    is_cleared: bool,
}

impl Group for Named {
    fn of_new(category: &[u8], tags: Vec<&[u8]>, created_at_ms: i64) -> (Self, Box<[Self]>) {
        Self::of_loaded(category, tags, created_at_ms, false)
    }

    fn of_loaded(category: &[u8], tags: Vec<&[u8]>, _created_at_ms: i64, is_cleared: bool) -> (Self, Box<[Self]>) {
        let named = |name: &[u8]| Named { name: name.into(), is_cleared };
        (named(category), tags.into_iter().map(named).collect())
    }

    fn name(&self) -> &[u8] {
        &self.name
    }

    fn is_cleared(&self) -> bool {
        self.is_cleared
    }

    fn entry_made(&self, _bytes: [u64; 2]) {}

    fn entry_gone(&self, _bytes: [u64; 2]) {}

    fn tagged(&self) {}

    fn untagged(&self) {}
}

/// What loads is a value like any other, and can be searched, and written in pieces.
pub fn semantic(data: &[u8]) {
    stored::check::<Index<Named>>(data);
    let Ok(index) = Index::<Named>::load(&mut Fields::new(data), 0) else { return };
    let numbers: Vec<u8> = (0..index.dimensions()).flat_map(|number| (number as f32 - 2.5).to_le_bytes()).collect();
    let query = Query::from_fp32(&numbers).expect("numbers of which none is 0");
    let guards = Guards { digits: true, negation: true };
    for (count, guards) in [(1, Guards::default()), (100, guards)] {
        let question = Question { query: &query, threshold: Some(Similarity::MIN), count, text: b"not 1", guards };
        let answer = index.search(0, question, &mut Scratch::default());
        let similarities = answer.matches.iter().map(|found| found.similarity);
        assert!(similarities.clone().rev().is_sorted(), "answers are out of order");
        assert!(similarities.max() <= answer.nearest, "an answer is nearer than the nearest");
    }
    let mut joined = Index::<Named>::new(index.dimensions());
    index.save_pieces(&mut |piece| joined.append(Index::load_piece(&piece.0).expect("a piece does not load")));
    assert!(index.is_empty() || stored::saved(&joined) == stored::saved(&index), "the pieces are another index");
}
