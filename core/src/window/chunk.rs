//! Runs of pairs.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use super::pair::{PAIR_BYTES_MAX, Pair, get_pair, put_pair};

/// The bytes of a chunk's pairs. Small enough that walking one takes well under a microsecond.
pub(super) const CHUNK_BYTES: usize = 512;

/// A run of pairs. A pair's time is `base_ms` plus all time differences up to and including its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// Not before the newest pair of the chunk before this one, and not after the first pair of this one.
    pub base_ms: i64,
    /// Units of all pairs before this chunk, counted from an arbitrary origin, wrapping.
    pub units_before: u64,
    pub pairs: Vec<u8>,
}

impl Chunk {
    /// Adds `more` units at a time, or removes them if negative, which may make or remove a pair. Returns the change that
    /// could be made.
    pub fn adjust(&mut self, at_ms: i64, more: i64) -> i64 {
        self.rebase(at_ms);
        let (mut before_ms, mut start, mut end) = (self.base_ms, 0, 0);
        let mut found = None;
        while let Some(pair) = get_pair(&self.pairs, &mut end) {
            let pair_ms = before_ms.saturating_add_unsigned(pair.gap_ms);
            if pair_ms >= at_ms {
                found = Some((pair_ms, pair));
                break;
            }
            before_ms = pair_ms;
            start = end;
        }
        let here = found.filter(|&(pair_ms, _)| pair_ms == at_ms).map_or(0, |(_, pair)| pair.units);
        let units = here.saturating_add_signed(more);
        let mut bytes = Vec::with_capacity(2 * PAIR_BYTES_MAX);
        if units > 0 {
            put_pair(&mut bytes, Pair { gap_ms: at_ms.abs_diff(before_ms), units });
        }
        // The next pair's time counts from the pair before it: it is written anew if that changes.
        let behind = match found {
            Some((pair_ms, pair)) if pair_ms > at_ms => Some((pair_ms, pair)),
            Some((pair_ms, _)) if units == 0 => {
                get_pair(&self.pairs, &mut end).map(|pair| (pair_ms.saturating_add_unsigned(pair.gap_ms), pair))
            }
            _ => None,
        };
        if let Some((behind_ms, pair)) = behind {
            let after_ms = if units > 0 { at_ms } else { before_ms };
            put_pair(&mut bytes, Pair { gap_ms: behind_ms.abs_diff(after_ms), ..pair });
        }
        self.pairs.splice(start..end, bytes);
        units.wrapping_sub(here).cast_signed()
    }

    /// Moves the base back to `at_ms` if it is later. Only the oldest chunk's can be: units are put before its first pair.
    fn rebase(&mut self, at_ms: i64) {
        let earlier_ms = self.base_ms.saturating_sub(at_ms);
        let mut next = 0;
        if earlier_ms > 0 {
            self.base_ms = at_ms;
            if let Some(first) = get_pair(&self.pairs, &mut next) {
                let mut bytes = Vec::with_capacity(PAIR_BYTES_MAX);
                put_pair(&mut bytes, Pair { gap_ms: first.gap_ms + earlier_ms.unsigned_abs(), ..first });
                self.pairs.splice(..next, bytes);
            }
        }
    }

    /// Cuts off the second half.
    pub fn split(&mut self) -> Option<Chunk> {
        let (mut at_ms, mut units, mut next) = (self.base_ms, self.units_before, 0);
        while next < self.pairs.len() / 2 {
            let pair = get_pair(&self.pairs, &mut next)?;
            at_ms = at_ms.saturating_add_unsigned(pair.gap_ms);
            units = units.wrapping_add(pair.units);
        }
        Some(Chunk { base_ms: at_ms, units_before: units, pairs: self.pairs.split_off(next) })
    }
}
