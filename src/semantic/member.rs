//! An index as it is here: its entries are members of the response cache's groups.

use std::sync::Arc;

use gateway_core::semantic::{self, Index};

use crate::cache::category::Counters;
use crate::cache::group::Group;
use crate::cache::{groups, join};

pub type SemanticIndex = Index<Member>;

/// A group that an entry is in.
#[derive(Clone)]
pub struct Member(Arc<Group>);

impl Member {
    pub fn counters(&self) -> &'static Counters {
        self.0.counters()
    }
}

fn members((category, tags): groups::Joined) -> (Member, Box<[Member]>) {
    (Member(category), tags.into_iter().map(Member).collect())
}

impl semantic::Group for Member {
    fn of_new(category: &[u8], tags: Vec<&[u8]>, created_at_ms: i64) -> (Self, Box<[Self]>) {
        members(join::of_new(category, tags, created_at_ms))
    }

    fn of_loaded(category: &[u8], tags: Vec<&[u8]>, created_at_ms: i64, was_cleared: bool) -> (Self, Box<[Self]>) {
        members(join::of_loaded(category, tags, created_at_ms, was_cleared))
    }

    fn name(&self) -> &[u8] {
        self.0.name()
    }

    fn is_cleared(&self) -> bool {
        self.0.is_cleared()
    }

    fn entry_made(&self, bytes: [u64; 2]) {
        self.0.entry_made(bytes);
    }

    fn entry_gone(&self, bytes: [u64; 2]) {
        self.0.entry_gone(bytes);
    }

    fn tagged(&self) {
        self.0.tagged();
    }

    fn untagged(&self) {
        self.0.untagged();
    }
}
