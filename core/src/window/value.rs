//! The window itself.

use std::collections::VecDeque;

use super::chunk::Chunk;
use super::pair::get_pair;
use super::rule::{Rule, Shape, rounded_up};
use crate::limit::{NEVER, Verdict, extended_expiry_ms, wait_ms};

/// The most units that a window counts. Forced and replicated units beyond it are not counted; no limit is near it.
pub(super) const USED_MAX: u64 = 1 << 62;

/// A place between two pairs: everything before it has left the window.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    /// The time of the pair before the cursor, or its chunk's base.
    pub at_ms: i64,
    /// Units before the cursor, from the same origin as [`Chunk::units_before`].
    pub units: u64,
    /// Index into sealed chunks; their number means the open chunk.
    pub chunk: u32,
    pub offset: u16,
}

/// An exact sliding window. See the module's documentation.
#[derive(Debug, Clone)]
pub struct SlidingWindow {
    /// As of the last admission.
    pub(super) rule: Rule,
    /// The time of the newest pair.
    pub(super) newest_ms: i64,
    /// The key's expiry as last set, 0 before the first admission.
    pub(super) expires_at_ms: i64,
    /// Units before the end, from the same origin as [`Chunk::units_before`].
    pub(super) units_end: u64,
    /// The chunk that new pairs go to; the only one of a quiet key.
    pub(super) open: Chunk,
    /// Full chunks, oldest first. Boxed because most keys have none.
    #[allow(clippy::box_collection)]
    pub(super) sealed: Option<Box<VecDeque<Chunk>>>,
    /// Hint: everything before it has left the window.
    pub(super) live: Cursor,
    /// Where the newest pair starts in the open chunk.
    pub(super) newest_offset: u16,
    /// Hint: units up to this count, from the common origin, have left by this time.
    pub(super) release: (u64, i64),
}

impl Default for SlidingWindow {
    fn default() -> Self {
        Self {
            rule: Rule { limit: 0, window_ms: 1, shape: Shape::Sliding },
            newest_ms: 0,
            expires_at_ms: 0,
            units_end: 0,
            open: Chunk::default(),
            sealed: None,
            live: Cursor::default(),
            newest_offset: 0,
            release: (0, i64::MIN),
        }
    }
}

/// A window's state at one moment, for `GW.DESCRIBE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowState {
    /// The limit, as of the last admission.
    pub rule: Rule,
    /// Units in the window now.
    pub used: u64,
    /// The time of the oldest units in the window, if there are any.
    pub oldest_ms: Option<i64>,
    /// The time of the newest.
    pub newest_ms: Option<i64>,
}

impl SlidingWindow {
    /// Decides whether `cost` units (at most 2^53) are admitted at `now_ms`, and returns what is left. Changes only
    /// hints.
    pub fn decide(&mut self, now_ms: i64, rule: Rule, cost: u64) -> Verdict {
        let Rule { limit, .. } = rule;
        let behind_ms = self.behind_ms(now_ms);
        let used = self.used(now_ms, rule, behind_ms);
        let allowed = used.saturating_add(cost) <= limit;
        let leaves_after_ms =
            |at_ms: i64| wait_ms(i128::from(rule.leaves_at_ms(at_ms - behind_ms)) - i128::from(now_ms));
        let retry_after_ms = if allowed {
            0
        } else if cost > limit {
            NEVER
        } else {
            // Both differences are positive: the request does not fit now, but would in an empty window.
            leaves_after_ms(self.release_ms(used - (limit - cost)))
        };
        let reset_after_ms = if used == 0 { 0 } else { leaves_after_ms(self.newest_ms) };
        Verdict { allowed, limit, remaining: limit.saturating_sub(used), retry_after_ms, reset_after_ms }
    }

    /// Records `units` at `now_ms` whatever the limit says, and forgets what the window no longer covers. Depends on the
    /// state and the arguments alone, so that a replica ends with the same value.
    ///
    /// A changed rule holds from now on: units that have left the former window do not come back. Those of an anchored window
    /// count on if that window began in what is now the current one.
    pub fn record(&mut self, now_ms: i64, rule: Rule, units: u64) {
        self.rewind(now_ms);
        let used = self.used(now_ms, rule, 0);
        let (at_ms, whole) = (rule.tick_at_ms(now_ms), rule.shape != Shape::Sliding);
        if used == 0 {
            self.clear();
        } else if whole || rule.floor_ms(self.newest_ms) < self.rule.floor_ms(self.newest_ms) {
            // The new floor is earlier than the old one: pairs that have left by now are dropped, so that they do not
            // come back.
            self.drop_dead_chunks();
            self.drop_dead_pairs();
        } else {
            if rule.tick_ms() > 1 {
                // Only up to the new floor: pairs above it are saved, and what is saved must not depend on how pairs
                // happen to lie in chunks. Without ticks the cursor is there already.
                self.advance(rule.floor_ms(at_ms.max(self.newest_ms)));
            }
            self.drop_dead_chunks();
        }
        self.rule = rule;
        let units = units.min(USED_MAX.saturating_sub(used));
        if units > 0 {
            // The units of a window that ends as a whole all count from its start.
            self.append(if whole && used > 0 { self.newest_ms } else { at_ms }, units);
        }
        let needed_until_ms = rule.leaves_at_ms(self.newest_ms);
        self.expires_at_ms = extended_expiry_ms(self.expires_at_ms, now_ms, needed_until_ms);
    }

    /// Milliseconds until all units recorded so far have left, right after [`Self::record`].
    pub fn reset_after_ms(&self, now_ms: i64) -> i64 {
        wait_ms(i128::from(self.rule.leaves_at_ms(self.newest_ms)) - i128::from(now_ms))
    }

    /// Removes the newest `units`, or all if there are fewer: usage that did not happen after all. As deterministic as
    /// [`Self::record`].
    pub fn give_back(&mut self, now_ms: i64, rule: Rule, units: u64) {
        self.rewind(now_ms);
        let used = self.used(now_ms, rule, 0);
        if units >= used {
            self.clear();
        } else {
            self.drop_dead_chunks();
            self.drop_dead_pairs();
            self.drop_newest(units);
        }
        self.rule = rule;
    }

    /// The units in the window at `now_ms`, by a rule that may not be that of the last admission. Changes only hints.
    pub fn used_at(&mut self, now_ms: i64, rule: Rule) -> u64 {
        let behind_ms = self.behind_ms(now_ms);
        self.used(now_ms, rule, behind_ms)
    }

    /// The time that would be recorded for units taken at `now_ms`.
    pub fn kept_at_ms(&mut self, now_ms: i64, rule: Rule) -> i64 {
        match rule.shape {
            Shape::Fixed if self.used(now_ms, rule, 0) > 0 => self.newest_ms,
            _ => rule.tick_at_ms(now_ms),
        }
    }

    /// Adjusts units recorded at `at_ms` by `more`; no-op once that time has left the window. If more units are taken
    /// away than are there, all of them are removed. `at_ms` is what [`Self::newest_at_ms`] was right after they were
    /// recorded, or [`Self::kept_at_ms`] if none were. As deterministic as [`Self::record`].
    ///
    /// Cost: O(1) in the units, a walk of one chunk, and one addition for each later chunk.
    pub fn adjust(&mut self, now_ms: i64, rule: Rule, at_ms: i64, more: i64) {
        self.rewind(now_ms);
        let used = self.used(now_ms, rule, 0);
        let gone_ms = rule.cutoff_ms(now_ms).max(self.rule.floor_ms(self.newest_ms));
        if at_ms <= gone_ms || more == 0 {
            return;
        }
        // What is added to a window that ends as a whole ends with it.
        let joins = rule.shape != Shape::Sliding && used > 0 && more > 0;
        let at_ms = if joins { self.newest_ms } else { at_ms };
        if used == 0 {
            self.clear();
        } else {
            self.drop_dead_chunks();
            self.drop_dead_pairs();
        }
        self.rule = rule;
        let more = more.min(USED_MAX.saturating_sub(used).cast_signed());
        if used == 0 || at_ms > self.newest_ms {
            if more > 0 {
                self.append(at_ms, more.unsigned_abs());
            }
        } else {
            self.adjust_pair(at_ms, more);
        }
    }

    /// Whether nothing was ever recorded, so that the window is a new one.
    pub fn is_new(&self) -> bool {
        let new = Self::default();
        let is_empty = self.sealed.is_none() && self.open.pairs.is_empty();
        is_empty && (self.rule, self.newest_ms, self.expires_at_ms) == (new.rule, new.newest_ms, new.expires_at_ms)
    }

    /// The time that is recorded for the newest units.
    pub fn newest_at_ms(&self) -> i64 {
        self.newest_ms
    }

    /// If the clock has stepped back since the newest unit, moves all units back with it, so that the newest count as taken
    /// now. Returns whether the clock has stepped back.
    ///
    /// For as long as the step, this can admit too few, never too many. Limiters call it also when they deny: otherwise
    /// the window would stand still until the clock has caught up, and deny everything for longer than a window.
    pub fn rewind(&mut self, now_ms: i64) -> bool {
        let behind_ms = self.behind_ms(now_ms);
        if behind_ms > 0 {
            self.shift_back(behind_ms);
        }
        behind_ms > 0
    }

    /// Prefetches what the next decision reads; returns a word that depends on it.
    pub fn fetch(&self) -> u64 {
        // A word from each cache line of the window.
        let own = self.units_end ^ self.live.units ^ self.release.0 ^ self.rule.limit;
        self.open.pairs.last().map_or(0, |&byte| byte.into()) ^ own
    }

    /// The key's expiry in unix milliseconds: never before its last unit has left the window.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms
    }

    /// The state at `now_ms`. Changes only hints.
    pub fn state(&mut self, now_ms: i64) -> WindowState {
        let behind_ms = self.behind_ms(now_ms);
        let used = self.used(now_ms, self.rule, behind_ms);
        WindowState {
            rule: self.rule,
            used,
            oldest_ms: (used > 0).then(|| self.release_ms(1) - behind_ms),
            newest_ms: (used > 0).then_some(self.newest_ms - behind_ms),
        }
    }

    /// How far the clock has stepped back since the newest pair, 0 if it has not. A pair's time is rounded up to its
    /// tick, so it may lie ahead of the clock by less than one.
    fn behind_ms(&self, now_ms: i64) -> i64 {
        if self.units_end == self.first_units() || self.newest_ms <= now_ms {
            return 0;
        }
        let tick_ms = self.rule.tick_ms();
        if self.newest_ms - now_ms < tick_ms as i64 {
            return 0;
        }
        (self.newest_ms - rounded_up(now_ms, tick_ms)).max(0)
    }

    /// Units in the window, if every stored time counts as `behind_ms` earlier.
    fn used(&mut self, now_ms: i64, rule: Rule, behind_ms: i64) -> u64 {
        let cutoff_ms = rule.cutoff_ms(now_ms).saturating_add(behind_ms);
        if self.newest_ms <= cutoff_ms {
            return 0;
        }
        self.advance(cutoff_ms);
        self.units_end.wrapping_sub(self.live.units)
    }

    pub(super) fn sealed_len(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| sealed.len())
    }

    pub(super) fn chunk(&self, index: usize) -> &Chunk {
        self.sealed.as_ref().and_then(|sealed| sealed.get(index)).unwrap_or(&self.open)
    }

    pub(super) fn first_units(&self) -> u64 {
        self.chunk(0).units_before
    }

    pub(super) fn cursor_at(&self, chunk: usize) -> Cursor {
        let Chunk { base_ms, units_before, .. } = *self.chunk(chunk);
        Cursor { at_ms: base_ms, units: units_before, chunk: chunk as u32, offset: 0 }
    }

    /// Moves the cursor behind every pair at or before `cutoff_ms`.
    fn advance(&mut self, cutoff_ms: i64) {
        let cutoff_ms = cutoff_ms.max(self.rule.floor_ms(self.newest_ms));
        let mut cursor = self.live;
        if cursor.at_ms > cutoff_ms {
            // Asked about an earlier cutoff than last time (a longer window, an earlier clock): start over.
            cursor = self.cursor_at(0);
        }
        let mut chunk = cursor.chunk as usize;
        let chunks = self.sealed_len();
        while chunk < chunks && self.chunk(chunk + 1).base_ms <= cutoff_ms {
            chunk += 1;
            cursor = self.cursor_at(chunk);
        }
        let pairs = &self.chunk(chunk).pairs;
        let mut next = usize::from(cursor.offset);
        while let Some(pair) = get_pair(pairs, &mut next) {
            let at_ms = cursor.at_ms.saturating_add_unsigned(pair.gap_ms);
            if at_ms > cutoff_ms {
                break;
            }
            cursor = Cursor { at_ms, units: cursor.units.wrapping_add(pair.units), offset: next as u16, ..cursor };
        }
        self.live = cursor;
    }

    /// The recorded time of the live unit that is the `needed`th to leave; `needed` is from 1 to the units used.
    fn release_ms(&mut self, needed: u64) -> i64 {
        let live = self.live;
        let target = live.units.wrapping_add(needed);
        if self.release.0 == target && self.release.1 != i64::MIN {
            return self.release.1;
        }
        let (mut low, mut high) = (live.chunk as usize, self.sealed_len());
        // Finds the last chunk with fewer than `needed` live units before its start.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.chunk(middle).units_before.wrapping_sub(live.units) < needed {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        let mut cursor = if low == live.chunk as usize { live } else { self.cursor_at(low) };
        let pairs = &self.chunk(low).pairs;
        let mut next = usize::from(cursor.offset);
        while let Some(pair) = get_pair(pairs, &mut next) {
            cursor.at_ms = cursor.at_ms.saturating_add_unsigned(pair.gap_ms);
            cursor.units = cursor.units.wrapping_add(pair.units);
            if cursor.units.wrapping_sub(live.units) >= needed {
                break;
            }
        }
        self.release = (target, cursor.at_ms);
        cursor.at_ms
    }
}
