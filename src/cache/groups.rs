//! The groups of this node's entries, by name.

use std::sync::Arc;

use lazy_static::lazy_static;

use super::category::Category;
use super::group::{Era, Group, Groups};
use crate::server::shared::MainThread;

#[derive(Default)]
struct State {
    era: Arc<Era>,
    categories: Groups,
    tags: Groups,
}

impl State {
    fn of_category(&mut self, name: &[u8]) -> Arc<Group> {
        let Self { era, categories, .. } = self;
        categories.named(name, || Group::of_category(name, Category::named(name), era))
    }

    fn of_tag(&mut self, name: &[u8]) -> Arc<Group> {
        self.tags.named(name, || Group::of_tag(name))
    }

    fn joined(&mut self, category: &[u8], tags: &[&[u8]]) -> Joined {
        (self.of_category(category), tags.iter().map(|tag| self.of_tag(tag)).collect())
    }

    /// Ends the groups: their entries no longer count, although the server may free them later, perhaps in the background.
    fn end(self) -> Old {
        self.era.clear();
        Old([self.categories, self.tags])
    }
}

lazy_static! {
    static ref STATE: MainThread<State> = MainThread::new(State::default());
    /// The groups of keys that a replica loads beside its own.
    static ref BESIDE: MainThread<Option<State>> = MainThread::new(None);
}

/// An entry's groups: of its category, and of its tags.
pub type Joined = (Arc<Group>, Box<[Arc<Group>]>);

/// The groups of a new entry.
pub fn of_new(category: &[u8], tags: &[&[u8]]) -> Joined {
    STATE.borrow().joined(category, tags)
}

/// The groups of an entry that is loaded.
pub fn of_loaded(category: &[u8], tags: &[&[u8]]) -> Joined {
    match &mut *BESIDE.borrow() {
        Some(beside) => beside.joined(category, tags),
        None => STATE.borrow().joined(category, tags),
    }
}

/// The groups of an entry that was cleared before it came here.
pub fn of_cleared(category: &[u8], tags: &[&[u8]]) -> Joined {
    let category = Group::of_category(category, Category::named(category), &Arc::default()).into_cleared();
    (category, tags.iter().map(|tag| Group::of_tag(tag).into_cleared()).collect())
}

/// A category's entries, the bytes of their values as stored, and unpacked.
pub fn held(category: Category) -> [u64; 3] {
    let state = STATE.borrow();
    match category {
        Category::OTHER => state.era.surplus(),
        named => state.categories.find(&named.name()).map_or([0; 3], Group::held),
    }
}

pub fn clear_category(name: &[u8]) -> u64 {
    let cleared = STATE.borrow().categories.clear(name);
    // A name that no entry has takes no room in the table.
    if cleared > 0 {
        Category::named(name).counters().clears.add(cleared);
    }
    cleared
}

pub fn clear_tag(name: &[u8]) -> u64 {
    STATE.borrow().tags.clear(name)
}

/// Groups that no name leads to any more. There may be millions, so they are freed in slices.
pub struct Old([Groups; 2]);

impl Old {
    /// Frees a slice. Returns whether there is more.
    pub fn free_some(&mut self) -> bool {
        // Frees from both tables, whatever the first returns.
        self.0.each_mut().map(Groups::free_some) != [false; 2]
    }
}

/// Clears all entries. Returns how many there were, and their groups.
pub fn clear_all() -> (u64, Old) {
    for category in Category::all() {
        let [entries, ..] = held(category);
        category.counters().clears.add(entries);
    }
    let State { era, categories, tags } = std::mem::take(&mut *STATE.borrow());
    (era.clear(), Old([categories, tags]))
}

/// Forgets all entries, which the server is about to free, perhaps in the background: from now on they no longer count.
pub fn forget_all() -> Old {
    std::mem::take(&mut *STATE.borrow()).end()
}

/// Whether keys are being loaded beside those that clients read.
pub fn is_loading() -> bool {
    BESIDE.borrow().is_some()
}

/// Keys are loaded beside this node's own from now on: they have groups of their own.
pub fn begin_loading() {
    *BESIDE.borrow() = Some(State::default());
}

/// The loaded keys take the place of the others. Returns the groups of those.
pub fn end_loading() -> Option<Old> {
    let loaded = BESIDE.borrow().take()?;
    Some(std::mem::replace(&mut *STATE.borrow(), loaded).end())
}

/// The loaded keys are given up. Returns their groups.
pub fn abort_loading() -> Option<Old> {
    BESIDE.borrow().take().map(State::end)
}
