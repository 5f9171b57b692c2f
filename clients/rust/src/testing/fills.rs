//! Who computes which of the cache's values.

use std::collections::HashMap;

use crate::Text;

pub(super) struct FillLease {
    token: i64,
    end: i64,
    holder: Option<Text>,
}

/// What was cleared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Cleared {
    All,
    Category(Text),
    Tag(Text),
}

pub(super) struct FillLeases {
    pub(super) leases: HashMap<Text, FillLease>,
    pub(super) last: i64,
    /// The last token before each clear.
    pub(super) cleared: HashMap<Cleared, i64>,
}

impl FillLeases {
    pub(super) fn new() -> Self {
        Self { leases: HashMap::new(), last: 1_000_000, cleared: HashMap::new() }
    }

    /// The token, 0 if another call has the lease; and how long the lease lasts.
    pub(super) fn ask(&mut self, key: &Text, now: i64, length: i64, holder: Option<Text>) -> (i64, i64) {
        match self.leases.get(key).filter(|own| own.end > now) {
            Some(own) if holder.is_some() && own.holder == holder => (own.token, own.end - now),
            Some(own) => (0, own.end - now),
            None => {
                self.last += 1;
                self.leases.insert(key.clone(), FillLease { token: self.last, end: now + length, holder });
                (self.last, length)
            }
        }
    }

    pub(super) fn end(&mut self, key: &Text, token: i64, now: i64) -> bool {
        let held = self.leases.get(key).is_some_and(|own| own.end > now && own.token == token);
        if held {
            self.leases.remove(key);
        }
        held
    }

    /// Whether nothing that the value belongs to was cleared since the token was given.
    pub(super) fn may_store(&self, token: i64, category: &Text, tags: &[Text]) -> bool {
        let tags = tags.iter().cloned().map(Cleared::Tag);
        let mut names = [Cleared::All, Cleared::Category(category.clone())].into_iter().chain(tags);
        !names.any(|name| self.cleared.get(&name).is_some_and(|&last| last >= token))
    }
}
