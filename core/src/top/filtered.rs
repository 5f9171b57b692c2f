//! A table with cells in front of it, for the span under way: see the [module's documentation](super).

use super::name::Name;
use super::table::{Summary, Table};
use crate::memory::allocated_bytes;

/// Cells for each key that a list can be sure of. With eight, a tenth of the rare names enters the table
/// (docs/src/internals/decisions.md, "Heavy hitters").
const CELLS_PER_KEY: usize = 8;

#[derive(Debug)]
pub(super) struct Filtered {
    table: Table,
    /// The most that each name outside the table can have counted, by its fingerprint. None exceeds the table's floor.
    cells: Box<[u128]>,
}

impl Filtered {
    pub fn new(keys: usize) -> Self {
        let cells = vec![0; (CELLS_PER_KEY * keys).next_power_of_two()];
        Self { table: Table::new(keys), cells: cells.into_boxed_slice() }
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
            entry.excess = entry.excess.saturating_add(weight);
            entry.seen = entry.seen.saturating_add(weight);
            return;
        }
        let (floor, place) = (self.table.floor(), place(&self.cells, name.fingerprint()));
        let Some(cell) = self.cells.get_mut(place) else { return };
        let count = cell.saturating_add(weight);
        if count <= floor {
            *cell = count;
        } else {
            self.enter(name, weight);
        }
    }

    #[cold]
    fn enter(&mut self, name: &Name, weight: u128) {
        if self.table.is_full() {
            let cells = &mut self.cells;
            self.table.shrink(|fingerprint, count| {
                let place = place(cells, fingerprint);
                if let Some(cell) = cells.get_mut(place) {
                    *cell = count.max(*cell);
                }
            });
        }
        let (floor, place) = (self.table.floor(), place(&self.cells, name.fingerprint()));
        let Some(cell) = self.cells.get_mut(place) else { return };
        // The floor may have passed the count.
        let count = cell.saturating_add(weight);
        if count <= floor {
            *cell = count;
        } else {
            self.table.insert(name, count - floor, weight);
        }
    }

    /// Ends the span: returns what was counted, and begins with nothing.
    pub fn close(&mut self) -> Summary {
        self.cells.fill(0);
        self.table.close()
    }
}

/// The cell of a fingerprint, by other bits than the table's.
#[inline]
fn place(cells: &[u128], fingerprint: u64) -> usize {
    (fingerprint >> 32) as usize & (cells.len() - 1)
}
