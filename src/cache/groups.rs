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

lazy_static! {
    static ref STATE: MainThread<State> = MainThread::new(State::default());
}

/// The group of new entries of the category.
pub fn of_category(name: &[u8]) -> Arc<Group> {
    let State { era, categories, .. } = &mut *STATE.borrow();
    categories.named(name, || Group::of_category(name, Category::named(name), era))
}

/// The groups of entries that were cleared before they were loaded.
pub fn cleared_category(name: &[u8]) -> Arc<Group> {
    Group::of_category(name, Category::named(name), &Arc::default()).into_cleared()
}

pub fn cleared_tag(name: &[u8]) -> Arc<Group> {
    Group::of_tag(name).into_cleared()
}

pub fn of_tag(name: &[u8]) -> Arc<Group> {
    STATE.borrow().tags.named(name, || Group::of_tag(name))
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
    let State { era, categories, tags } = std::mem::take(&mut *STATE.borrow());
    era.clear();
    Old([categories, tags])
}
