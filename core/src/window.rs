//! The exact sliding window: at most `limit` units in any `(now - window, now]`.
//!
//! Admitted units are kept as (time since the previous pair, units) pairs in chunks of a few hundred bytes, one or two
//! bytes a pair at usual rates. Only admissions are stored; a denied request leaves no trace.
//!
//! Cost: an admission appends a pair and drops chunks that have left the window, amortised O(1). A decision moves a
//! cursor over the pairs that left the window since the last decision, each pair once, and finds the unit that must leave
//! before the request fits by binary search over chunks and a walk of one chunk at most; the walk's result is kept, so
//! that a storm of denied requests is O(1) each. Cursor and kept result are hints, no part of the value: they change on a
//! read, and are neither saved nor digested.

use std::collections::VecDeque;

use crate::codec::{Corrupt, Reader, Writer, get_varint, put_varint};
use crate::limit::{NEVER, Verdict, extended_expiry_ms, wait_ms};
use crate::memory::allocated_bytes;
use crate::stored::Stored;
use crate::{PERIOD_MAX_MS, TIME_MAX_MS, UNITS_MAX};

/// A window is divided into at most this many ticks, which bounds its memory: about 2 MiB for a key that admits
/// something in every one of them.
const TICKS_PER_WINDOW_MAX: u64 = 1 << 20;

/// Pairs per chunk in bytes. Small enough that walking one takes well under a microsecond.
const CHUNK_BYTES: usize = 512;

/// The longest pair: two varints of ten bytes.
const PAIR_BYTES_MAX: usize = 20;

/// The most units a window counts. Forced and replicated units beyond it are not counted; no limit is near it.
const USED_MAX: u64 = 1 << 62;

/// What is asked of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The most units in a window: 0 to 2^53.
    pub limit: u64,
    /// The window's length in milliseconds: 1 to 366 days.
    pub window_ms: u64,
    /// A window that starts with its first unit and ends as a whole, instead of one that slides.
    pub fixed: bool,
}

impl Rule {
    /// The resolution in milliseconds: 1 for windows up to about 17 minutes (2^20 ms) and for fixed ones; longer ones are
    /// divided into 2^20 ticks. An admission's time is rounded up to the tick, so units are released late by less than
    /// one tick, never early.
    pub fn tick_ms(&self) -> u64 {
        if self.fixed { 1 } else { self.window_ms.div_ceil(TICKS_PER_WINDOW_MAX).max(1) }
    }

    /// The time under which units of `now_ms` are kept.
    pub fn tick_at_ms(&self, now_ms: i64) -> i64 {
        rounded_up(now_ms, self.tick_ms())
    }
}

/// A run of pairs. Times are sums: `base_ms` plus all time differences up to and with the pair's own.
#[derive(Debug, Clone, Default)]
struct Chunk {
    /// Not before the newest pair of the chunk before this one, not after the first pair of this one.
    base_ms: i64,
    /// Units of all pairs before this chunk, counted from an arbitrary origin, wrapping.
    units_before: u64,
    pairs: Vec<u8>,
}

impl Chunk {
    /// Changes the units at a time, making or removing a pair. Returns the change that could be made.
    fn adjust(&mut self, at_ms: i64, more: i64) -> i64 {
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
        // The pair behind counts its time from the one before it: it is written anew where that changes.
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
        units.wrapping_sub(here) as i64
    }

    /// Begins no later than at a time. Only the oldest chunk's base can be later: units are put before its first pair.
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

    /// Cuts the second half off.
    fn split(&mut self) -> Option<Chunk> {
        let (mut at_ms, mut units, mut next) = (self.base_ms, self.units_before, 0);
        while next < self.pairs.len() / 2 {
            let pair = get_pair(&self.pairs, &mut next)?;
            at_ms = at_ms.saturating_add_unsigned(pair.gap_ms);
            units = units.wrapping_add(pair.units);
        }
        Some(Chunk { base_ms: at_ms, units_before: units, pairs: self.pairs.split_off(next) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    gap_ms: u64,
    units: u64,
}

/// One unit is by far the most frequent: it is written as the low bit 0 of the time difference, others as the low bit 1
/// and a second varint.
fn put_pair(out: &mut Vec<u8>, pair: Pair) {
    if pair.units == 1 {
        put_varint(out, pair.gap_ms << 1);
    } else {
        put_varint(out, pair.gap_ms << 1 | 1);
        put_varint(out, pair.units);
    }
}

fn get_pair(pairs: &[u8], at: &mut usize) -> Option<Pair> {
    let head = get_varint(pairs, at)?;
    let units = if head & 1 == 0 { 1 } else { get_varint(pairs, at)? };
    Some(Pair { gap_ms: head >> 1, units })
}

/// A place between two pairs: everything before it has left the window.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// The time of the pair before the cursor, or its chunk's base.
    at_ms: i64,
    /// Units before the cursor, from the same origin as [`Chunk::units_before`].
    units: u64,
    /// Index into sealed chunks; their number means the open chunk.
    chunk: u32,
    offset: u16,
}

/// An exact sliding window. See the module's documentation.
#[derive(Debug, Clone)]
pub struct SlidingWindow {
    /// As of the last admission.
    rule: Rule,
    /// The time of the newest pair.
    newest_ms: i64,
    /// The key's expiry as last set, 0 before the first admission.
    expires_at_ms: i64,
    /// Units before the end, from the same origin as [`Chunk::units_before`].
    units_end: u64,
    /// Where new pairs go; the only chunk of a quiet key.
    open: Chunk,
    /// Full chunks, oldest first. Boxed because most keys have none.
    #[allow(clippy::box_collection)]
    sealed: Option<Box<VecDeque<Chunk>>>,
    /// Hint: everything before it has left the window.
    live: Cursor,
    /// Where the newest pair starts in the open chunk.
    newest_offset: u16,
    /// Hint: units up to this count, from the common origin, have left by this time.
    release: (u64, i64),
}

impl Default for SlidingWindow {
    fn default() -> Self {
        Self {
            rule: Rule { limit: 0, window_ms: 1, fixed: false },
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
    pub rule: Rule,
    /// Units in the window now.
    pub used: u64,
    /// Times of the oldest and newest units in the window, where there are any.
    pub oldest_ms: Option<i64>,
    pub newest_ms: Option<i64>,
}

impl SlidingWindow {
    /// Would `cost` units (at most 2^53) be admitted at `now_ms`, and what is left? Changes nothing but hints.
    pub fn decide(&mut self, now_ms: i64, rule: Rule, cost: u64) -> Verdict {
        let Rule { limit, window_ms, .. } = rule;
        let behind_ms = self.behind_ms(now_ms);
        let used = self.used(now_ms, window_ms, behind_ms);
        let allowed = used.saturating_add(cost) <= limit;
        let leaves_after_ms =
            |at_ms: i64| wait_ms(i128::from(at_ms - behind_ms) + i128::from(window_ms) - i128::from(now_ms));
        let retry_after_ms = if allowed {
            0
        } else if cost > limit {
            NEVER
        } else {
            // Both differences are positive here: the request does not fit, though it would in an empty window.
            leaves_after_ms(self.release_ms(used - (limit - cost)))
        };
        let reset_after_ms = if used == 0 { 0 } else { leaves_after_ms(self.newest_ms) };
        Verdict { allowed, limit, remaining: limit.saturating_sub(used), retry_after_ms, reset_after_ms }
    }

    /// Records `units` at `now_ms` whatever the limit says, and forgets what the window no longer covers. Depends on the
    /// state and the arguments alone, so that a replica ends with the same value.
    ///
    /// A changed rule holds from here on: history that the former window had already let go stays gone.
    pub fn record(&mut self, now_ms: i64, rule: Rule, units: u64) {
        self.rewind(now_ms);
        let used = self.used(now_ms, rule.window_ms, 0);
        let at_ms = rounded_up(now_ms, rule.tick_ms());
        if used == 0 {
            self.clear();
        } else if rule.fixed || floor_ms(self.newest_ms, rule) < floor_ms(self.newest_ms, self.rule) {
            // The floor will be earlier than what has left by now, and must not bring it back.
            self.drop_dead_chunks();
            self.drop_dead_pairs();
        } else {
            if rule.tick_ms() > 1 {
                // No further than the floor will be: what lies above it is saved, so it may not depend on how the pairs
                // happen to lie in chunks. Without ticks that is where the cursor is.
                self.advance(floor_ms(at_ms.max(self.newest_ms), rule));
            }
            self.drop_dead_chunks();
        }
        self.rule = rule;
        let units = units.min(USED_MAX.saturating_sub(used));
        if units > 0 {
            // A fixed window's units all count from its start.
            self.append(if rule.fixed && used > 0 { self.newest_ms } else { at_ms }, units);
        }
        let needed_until_ms = self.newest_ms.saturating_add_unsigned(rule.window_ms);
        self.expires_at_ms = extended_expiry_ms(self.expires_at_ms, now_ms, needed_until_ms);
    }

    /// Milliseconds until all units recorded so far have left, right after [`Self::record`].
    pub fn reset_after_ms(&self, now_ms: i64) -> i64 {
        wait_ms(i128::from(self.newest_ms) + i128::from(self.rule.window_ms) - i128::from(now_ms))
    }

    /// Takes the newest `units` back out, or all there are: usage that did not happen after all. As deterministic as
    /// [`Self::record`].
    pub fn give_back(&mut self, now_ms: i64, rule: Rule, units: u64) {
        self.rewind(now_ms);
        let used = self.used(now_ms, rule.window_ms, 0);
        if units >= used {
            self.clear();
        } else {
            self.drop_dead_chunks();
            self.drop_dead_pairs();
            self.drop_newest(units);
        }
        self.rule = rule;
    }

    /// Counts `more` units, or so many fewer where it is negative, at a time that [`Self::newest_at_ms`] gave right
    /// after they were recorded, or [`Rule::tick_at_ms`] where none were: usage that turned out otherwise. Where that time has left the window, nothing changes; where fewer
    /// units are left there, they go. As deterministic as [`Self::record`].
    ///
    /// Cost: O(1) in the units, a walk of one chunk, and one addition for each later chunk.
    pub fn adjust(&mut self, now_ms: i64, rule: Rule, at_ms: i64, more: i64) {
        self.rewind(now_ms);
        let used = self.used(now_ms, rule.window_ms, 0);
        let first_live_ms = now_ms.saturating_sub_unsigned(rule.window_ms).max(floor_ms(self.newest_ms, self.rule));
        if at_ms <= first_live_ms || more == 0 {
            return;
        }
        if used == 0 {
            self.clear();
        } else {
            self.drop_dead_chunks();
            self.drop_dead_pairs();
        }
        self.rule = rule;
        let more = more.min(USED_MAX.saturating_sub(used) as i64);
        if used == 0 || at_ms > self.newest_ms {
            if more > 0 {
                self.append(at_ms, more.unsigned_abs());
            }
        } else {
            self.adjust_pair(at_ms, more);
        }
    }

    /// The time under which the units that were recorded last are kept.
    pub fn newest_at_ms(&self) -> i64 {
        self.newest_ms
    }

    /// Where the clock has stepped back since the newest unit, moves the history back with it, so that the newest units
    /// count as taken now. Returns whether it had.
    ///
    /// That can admit too few for as long as the step, never too many. A limiter does it even when it denies: otherwise
    /// the window would stand still until the clock has caught up, and lock everyone out for longer than a window.
    pub fn rewind(&mut self, now_ms: i64) -> bool {
        let behind_ms = self.behind_ms(now_ms);
        if behind_ms > 0 {
            self.shift_back(behind_ms);
        }
        behind_ms > 0
    }

    /// Reads what the next decision will: its pairs lie in a place of their own.
    pub fn fetch(&self) -> u64 {
        self.open.pairs.last().map_or(0, |&byte| byte.into()) ^ self.units_end
    }

    /// When the key may go: never before its last unit has left the window.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms
    }

    pub fn state(&mut self, now_ms: i64) -> WindowState {
        let behind_ms = self.behind_ms(now_ms);
        let used = self.used(now_ms, self.rule.window_ms, behind_ms);
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

    /// Units in the window, where every stored time counts as `behind_ms` earlier.
    fn used(&mut self, now_ms: i64, window_ms: u64, behind_ms: i64) -> u64 {
        let cutoff_ms = now_ms.saturating_sub_unsigned(window_ms).saturating_add(behind_ms);
        if self.newest_ms <= cutoff_ms {
            return 0;
        }
        self.advance(cutoff_ms);
        self.units_end.wrapping_sub(self.live.units)
    }

    fn sealed_len(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| sealed.len())
    }

    fn chunk(&self, index: usize) -> &Chunk {
        self.sealed.as_ref().and_then(|sealed| sealed.get(index)).unwrap_or(&self.open)
    }

    fn first_units(&self) -> u64 {
        self.chunk(0).units_before
    }

    fn cursor_at(&self, chunk: usize) -> Cursor {
        let Chunk { base_ms, units_before, .. } = *self.chunk(chunk);
        Cursor { at_ms: base_ms, units: units_before, chunk: chunk as u32, offset: 0 }
    }

    /// Moves the cursor behind every pair at or before `cutoff_ms`.
    fn advance(&mut self, cutoff_ms: i64) {
        let cutoff_ms = cutoff_ms.max(floor_ms(self.newest_ms, self.rule));
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

    /// The stored time of the unit with which `needed` live units will have left. `needed` is 1 up to the units used.
    fn release_ms(&mut self, needed: u64) -> i64 {
        let live = self.live;
        let target = live.units.wrapping_add(needed);
        if self.release.0 == target && self.release.1 != i64::MIN {
            return self.release.1;
        }
        let (mut low, mut high) = (live.chunk as usize, self.sealed_len());
        // The last chunk before whose start fewer than `needed` live units lie.
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

    fn clear(&mut self) {
        self.sealed = None;
        self.open.pairs.clear();
        self.open.units_before = self.units_end;
        self.forget_hints();
    }

    fn forget_hints(&mut self) {
        self.live = self.cursor_at(0);
        self.release = (0, i64::MIN);
    }

    fn drop_dead_chunks(&mut self) {
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
    fn drop_dead_pairs(&mut self) {
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

    /// Takes `units`, fewer than there are, from the end. All pairs are live.
    fn drop_newest(&mut self, units: u64) {
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
    fn adjust_pair(&mut self, at_ms: i64, more: i64) {
        let index = match &self.sealed {
            // A chunk's pairs are later than its base, but for the very first.
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
                if emptied {
                    if let Some(before) = sealed.as_mut().and_then(|sealed| sealed.pop_back()) {
                        self.open = before;
                    }
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

    /// Where the newest pair is, after the open chunk has changed.
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

    fn shift_back(&mut self, by_ms: i64) {
        for chunk in self.sealed.iter_mut().flat_map(|sealed| sealed.iter_mut()) {
            chunk.base_ms -= by_ms;
        }
        self.open.base_ms -= by_ms;
        self.newest_ms -= by_ms;
        self.forget_hints();
    }

    fn append(&mut self, at_ms: i64, units: u64) {
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

    /// Room for a pair in the open chunk: dead pairs at its start are cut off before it grows, and a full one is sealed.
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

impl Stored for SlidingWindow {
    const ENCODING: u32 = 0;

    /// Writes what the last admission left: how its pairs lie in chunks, and which of them the clock has passed since,
    /// leave no trace.
    fn save(&self, out: &mut dyn Writer) {
        out.uint(self.rule.window_ms);
        out.uint(self.rule.limit);
        out.uint(self.rule.fixed.into());
        out.int(self.newest_ms);
        out.int(self.expires_at_ms);
        let kept_after_ms = floor_ms(self.newest_ms, self.rule);
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
        let bytes = from.bytes((TICKS_PER_WINDOW_MAX as usize + 1) * PAIR_BYTES_MAX)?;
        let mut window = Self { rule: Rule { limit, window_ms, fixed }, newest_ms, ..Self::default() };
        let (mut at, mut used, mut at_ms) = (0, 0, floor_ms(newest_ms, window.rule));
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

/// The end of what can still be asked about: the last admission forgot everything up to here, whether or not its bytes are
/// gone. With ticks, no later than what that admission itself left out.
fn floor_ms(newest_ms: i64, rule: Rule) -> i64 {
    newest_ms.saturating_sub_unsigned(rule.window_ms + rule.tick_ms() - 1)
}

/// `at_ms` rounded up to a multiple of `tick_ms`, within the times a value may hold.
fn rounded_up(at_ms: i64, tick_ms: u64) -> i64 {
    match tick_ms {
        1 => at_ms,
        _ => (at_ms.max(0) as u64).next_multiple_of(tick_ms).min(TIME_MAX_MS as u64) as i64,
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
