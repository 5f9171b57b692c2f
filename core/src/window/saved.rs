//! The window as it is stored.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use std::collections::VecDeque;

use super::chunk::Chunk;
use super::pair::{PAIR_BYTES_MAX, Pair, get_pair, put_pair};
use super::rule::{Rule, TICKS_PER_WINDOW_MAX};
use super::value::{SlidingWindow, USED_MAX};
use crate::codec::{Corrupt, Reader, Writer};
use crate::memory::allocated_bytes;
use crate::stored::Stored;
use crate::{PERIOD_MAX_MS, UNITS_MAX};

impl Stored for SlidingWindow {
    const ENCODING: u32 = 0;

    /// Writes the units that the last admission left, whatever chunks their pairs lie in, and whether or not they have left
    /// the window since.
    fn save(&self, out: &mut dyn Writer) {
        out.uint(self.rule.window_ms);
        out.uint(self.rule.limit);
        out.uint(self.rule.fixed.into());
        out.int(self.newest_ms);
        out.int(self.expires_at_ms);
        let kept_after_ms = self.rule.floor_ms(self.newest_ms);
        let mut previous_ms = kept_after_ms;
        let mut pairs = Vec::new();
        for (at_ms, units) in self.pairs().filter(|&(at_ms, _)| at_ms > kept_after_ms) {
            put_pair(&mut pairs, Pair { gap_ms: at_ms.abs_diff(previous_ms), units });
            previous_ms = at_ms;
        }
        out.bytes(&pairs);
    }

    fn load(from: &mut dyn Reader, _encoding: u32) -> Result<Self, Corrupt> {
        let window_ms = from.uint_max(PERIOD_MAX_MS, "window")?.max(1);
        let limit = from.uint_max(UNITS_MAX, "limit")?;
        let fixed = from.uint_max(1, "kind of window")? == 1;
        let newest_ms = from.time_ms("newest")?;
        let expires_at_ms = from.time_ms("expiry")?;
        let pairs_max = usize::try_from(TICKS_PER_WINDOW_MAX + 1).unwrap_or(usize::MAX);
        let bytes = from.bytes(pairs_max.saturating_mul(PAIR_BYTES_MAX))?;
        let mut window = Self { rule: Rule { limit, window_ms, fixed }, newest_ms, ..Self::default() };
        let (mut at, mut used, mut at_ms) = (0, 0, window.rule.floor_ms(newest_ms));
        while at < bytes.len() {
            let pair = get_pair(&bytes, &mut at).ok_or(Corrupt("a pair cut short"))?;
            if pair.gap_ms == 0 || pair.units == 0 || pair.units > USED_MAX - used {
                return Err(Corrupt("a pair out of bounds"));
            }
            used += pair.units;
            at_ms = at_ms.saturating_add_unsigned(pair.gap_ms);
            if at_ms > newest_ms {
                return Err(Corrupt("a pair after the newest"));
            }
            window.append(at_ms, pair.units);
        }
        if used > 0 && at_ms != newest_ms {
            return Err(Corrupt("no pair is the newest"));
        }
        window.newest_ms = newest_ms;
        window.expires_at_ms = expires_at_ms;
        Ok(window)
    }

    fn memory_bytes(&self) -> usize {
        let chunks = (0..=self.sealed_len()).map(|index| allocated_bytes(self.chunk(index).pairs.capacity()));
        let list = self.sealed.as_ref().map_or(0, |sealed| {
            allocated_bytes(size_of::<VecDeque<Chunk>>()) + allocated_bytes(sealed.capacity() * size_of::<Chunk>())
        });
        chunks.sum::<usize>() + list
    }

    fn allocations(&self) -> usize {
        2 + self.sealed_len()
    }

    fn buffers(&mut self, from: usize, visit: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<usize> {
        let sealed = self.sealed.iter_mut().flat_map(|sealed| sealed.iter_mut());
        let all = sealed.chain(std::iter::once(&mut self.open)).enumerate().skip(from);
        for (index, chunk) in all {
            if !visit(&mut chunk.pairs) {
                return Some(index + 1);
            }
        }
        None
    }
}

impl SlidingWindow {
    /// Every pair in order, as (time, units).
    fn pairs(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        (0..=self.sealed_len()).flat_map(move |index| {
            let chunk = self.chunk(index);
            let (mut at, mut at_ms) = (0, chunk.base_ms);
            std::iter::from_fn(move || {
                let pair = get_pair(&chunk.pairs, &mut at)?;
                at_ms = at_ms.saturating_add_unsigned(pair.gap_ms);
                Some((at_ms, pair.units))
            })
        })
    }
}
