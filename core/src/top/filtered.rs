//! A table with cells in front of it, for the span under way: see the [module's documentation](super).

use super::name::Name;
use super::table::{Summary, Table};
use crate::memory::allocated_bytes;

/// Cells for each key that a list can be sure of. With eight, a tenth of the rare names enters the table
/// (docs/src/internals/decisions.md, "Heavy hitters").
const CELLS_PER_KEY: usize = 8;

/// The part of the weight in cells that makes the floor rise: see the proof in the [module's documentation](super), which
/// would allow all of it. The more, the fewer of the rare names enter the table, and the larger is the error bound.
const RISING_PART: u128 = 2;

#[derive(Debug)]
pub(super) struct Filtered {
    table: Table,
    /// The most that each name outside the table can have counted, by its fingerprint. None exceeds the table's floor.
    cells: Box<[u128]>,
    /// What was counted in cells since the floor rose last.
    turned_away: u128,
}

impl Filtered {
    pub fn new(keys: usize) -> Self {
        let cells = vec![0; (CELLS_PER_KEY * keys).next_power_of_two()];
        Self { table: Table::new(keys), cells: cells.into_boxed_slice(), turned_away: 0 }
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes() + allocated_bytes(size_of_val(&*self.cells))
    }

    #[inline]
    pub fn add(&mut self, name: &Name, weight: u128) {
        if let Some(entry) = self.table.get_mut(name.fingerprint()) {
            entry.excess += weight;
            entry.seen += weight;
        } else if !self.turn_away(name.fingerprint(), weight) {
            self.enter(name.shown(), name.label(), name.fingerprint(), weight);
        }
    }

    /// Counts a name outside the table in its cell, unless that would exceed the floor.
    #[inline]
    fn turn_away(&mut self, fingerprint: u64, weight: u128) -> bool {
        let place = place(&self.cells, fingerprint);
        let Some(cell) = self.cells.get_mut(place) else { return true };
        let count = *cell + weight;
        let is_light = count <= self.table.floor();
        if is_light {
            *cell = count;
            self.turned_away += weight;
        }
        is_light
    }

    /// The parts of the name are passed one by one: a reference to it would keep it out of registers, for every call.
    #[cold]
    fn enter(&mut self, key: &[u8], label: &[u8], fingerprint: u64, weight: u128) {
        if self.table.is_full() {
            self.make_room();
            // The floor may have passed the count.
            if self.turn_away(fingerprint, weight) {
                return;
            }
        }
        let cell = self.cells.get(place(&self.cells, fingerprint)).copied().unwrap_or_default();
        self.table.insert((key, label), fingerprint, cell + weight - self.table.floor(), weight);
    }

    fn make_room(&mut self) {
        let rise = std::mem::take(&mut self.turned_away) / (RISING_PART * (self.table.keys() as u128 + 1));
        let cells = &mut self.cells;
        self.table.shrink(rise, |fingerprint, count| {
            let place = place(cells, fingerprint);
            if let Some(cell) = cells.get_mut(place) {
                *cell = count.max(*cell);
            }
        });
    }

    /// Ends the span: returns what was counted, and begins with nothing.
    pub fn close(&mut self) -> Summary {
        self.cells.fill(0);
        self.turned_away = 0;
        self.table.close()
    }
}

/// The cell of a fingerprint, by other bits than the table's.
#[inline]
fn place(cells: &[u128], fingerprint: u64) -> usize {
    (fingerprint >> 32) as usize & (cells.len() - 1)
}
