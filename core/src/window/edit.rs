//! How a window's chunks change.

use super::chunk::{CHUNK_BYTES, Chunk};
use super::pair::{PAIR_BYTES_MAX, Pair, get_pair, put_pair};
use super::value::SlidingWindow;

impl SlidingWindow {
    /// Forgets all units.
    pub(super) fn clear(&mut self) {
        self.sealed = None;
        self.open.pairs.clear();
        self.open.units_before = self.units_end;
        self.forget_hints();
    }

    fn forget_hints(&mut self) {
        self.live = self.cursor_at(0);
        self.release = (0, i64::MIN);
    }

    pub(super) fn drop_dead_chunks(&mut self) {
        if let Some(sealed) = &mut self.sealed {
            sealed.drain(..self.live.chunk as usize);
            self.live.chunk = 0;
            if sealed.is_empty() {
                self.sealed = None;
            } else if sealed.capacity() > 4 * sealed.len() {
                sealed.shrink_to(2 * sealed.len());
            }
        }
    }

    /// Cuts off the oldest chunk's pairs before the cursor, which is in that chunk.
    pub(super) fn drop_dead_pairs(&mut self) {
        let live = self.live;
        let oldest = match &mut self.sealed {
            Some(sealed) => sealed.front_mut(),
            None => {
                self.newest_offset = self.newest_offset.saturating_sub(live.offset);
                Some(&mut self.open)
            }
        };
        if let Some(oldest) = oldest {
            oldest.pairs.drain(..usize::from(live.offset));
            oldest.base_ms = live.at_ms;
            oldest.units_before = live.units;
            self.live.offset = 0;
        }
    }

    /// Removes the newest `units`, fewer than there are. All pairs are live.
    pub(super) fn drop_newest(&mut self, units: u64) {
        let end = self.units_end.wrapping_sub(units);
        let first = self.first_units();
        let kept = end.wrapping_sub(first);
        while self.open.units_before.wrapping_sub(first) >= kept {
            let Some(before) = self.sealed.as_mut().and_then(|sealed| sealed.pop_back()) else { break };
            self.open = before;
        }
        self.sealed = self.sealed.take().filter(|sealed| !sealed.is_empty());
        let mut left = end.wrapping_sub(self.open.units_before);
        let (mut at_ms, mut start, mut next) = (self.open.base_ms, 0, 0);
        while let Some(pair) = get_pair(&self.open.pairs, &mut next) {
            at_ms = at_ms.saturating_add_unsigned(pair.gap_ms);
            if pair.units >= left {
                self.open.pairs.truncate(start);
                put_pair(&mut self.open.pairs, Pair { units: left, ..pair });
                break;
            }
            left -= pair.units;
            start = next;
        }
        self.newest_offset = start as u16;
        self.newest_ms = at_ms;
        self.units_end = end;
        self.forget_hints();
    }

    /// Changes the units at a time not after the newest. All pairs are live.
    pub(super) fn adjust_pair(&mut self, at_ms: i64, more: i64) {
        let index = match &self.sealed {
            // A chunk's pairs are later than its base, except for the very first pair.
            Some(sealed) if self.open.base_ms >= at_ms => {
                sealed.partition_point(|chunk| chunk.base_ms < at_ms).saturating_sub(1)
            }
            sealed => sealed.as_ref().map_or(0, |sealed| sealed.len()),
        };
        let chunk = match &mut self.sealed {
            Some(sealed) if index < sealed.len() => &mut sealed[index],
            _ => &mut self.open,
        };
        let change = chunk.adjust(at_ms, more);
        let emptied = chunk.pairs.is_empty();
        let tail = if chunk.pairs.len() > 2 * CHUNK_BYTES { chunk.split() } else { None };
        let sealed = self.sealed.iter_mut().flat_map(|sealed| sealed.iter_mut()).skip(index + 1);
        sealed.for_each(|chunk| chunk.units_before = chunk.units_before.wrapping_add_signed(change));
        if index < self.sealed_len() {
            self.open.units_before = self.open.units_before.wrapping_add_signed(change);
        }
        self.units_end = self.units_end.wrapping_add_signed(change);
        match &mut self.sealed {
            Some(sealed) if index < sealed.len() => {
                if emptied {
                    sealed.remove(index);
                }
                if let Some(tail) = tail {
                    sealed.insert(index + 1, tail);
                }
            }
            sealed => {
                if emptied && let Some(before) = sealed.as_mut().and_then(|sealed| sealed.pop_back()) {
                    self.open = before;
                }
                if let Some(tail) = tail {
                    let full = std::mem::replace(&mut self.open, tail);
                    sealed.get_or_insert_default().push_back(full);
                }
            }
        }
        self.sealed = self.sealed.take().filter(|sealed| !sealed.is_empty());
        self.find_newest();
        self.forget_hints();
    }

    /// Finds the newest pair again, after the open chunk has changed.
    fn find_newest(&mut self) {
        let (mut at_ms, mut start, mut next) = (self.open.base_ms, 0, 0);
        while let Some(pair) = get_pair(&self.open.pairs, &mut next) {
            at_ms = at_ms.saturating_add_unsigned(pair.gap_ms);
            self.newest_offset = start as u16;
            start = next;
        }
        if start > 0 {
            self.newest_ms = at_ms;
        }
    }

    pub(super) fn shift_back(&mut self, by_ms: i64) {
        for chunk in self.sealed.iter_mut().flat_map(|sealed| sealed.iter_mut()) {
            chunk.base_ms -= by_ms;
        }
        self.open.base_ms -= by_ms;
        self.newest_ms -= by_ms;
        self.forget_hints();
    }

    pub(super) fn append(&mut self, at_ms: i64, units: u64) {
        if self.open.pairs.is_empty() && self.sealed.is_none() {
            self.open.base_ms = at_ms;
            self.newest_ms = at_ms;
            self.forget_hints();
        }
        let at_ms = at_ms.max(self.newest_ms);
        let mut pair = Pair { gap_ms: at_ms.abs_diff(self.newest_ms), units };
        if pair.gap_ms == 0 && !self.open.pairs.is_empty() {
            // The same tick as the newest pair: they merge.
            let mut at = usize::from(self.newest_offset);
            if let Some(newest) = get_pair(&self.open.pairs, &mut at) {
                pair = Pair { gap_ms: newest.gap_ms, units: newest.units + units };
                self.open.pairs.truncate(usize::from(self.newest_offset));
            }
        } else {
            self.make_room();
        }
        self.newest_offset = self.open.pairs.len() as u16;
        put_pair(&mut self.open.pairs, pair);
        self.newest_ms = at_ms;
        self.units_end = self.units_end.wrapping_add(units);
    }

    /// Makes room for a pair in the open chunk: cuts off dead pairs before it grows, and seals it when it is full.
    fn make_room(&mut self) {
        let Chunk { pairs, .. } = &self.open;
        if pairs.capacity() - pairs.len() >= PAIR_BYTES_MAX {
            return;
        }
        let dead = usize::from(self.live.offset);
        if self.sealed.is_none() && dead > 0 && dead >= pairs.len() / 2 {
            self.drop_dead_pairs();
        } else if pairs.len() + PAIR_BYTES_MAX > CHUNK_BYTES {
            let next = Chunk { base_ms: self.newest_ms, units_before: self.units_end, pairs: Vec::new() };
            let full = std::mem::replace(&mut self.open, next);
            self.sealed.get_or_insert_default().push_back(full);
        }
    }
}
