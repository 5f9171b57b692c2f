//! Pairs of a time difference and units, as a window keeps them.

#![warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

use crate::codec::{get_varint, put_varint};

/// The longest pair in bytes: two varints of ten.
pub(super) const PAIR_BYTES_MAX: usize = 20;

/// Units, and the milliseconds since the pair before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub gap_ms: u64,
    pub units: u64,
}

/// Writes a pair as one or two varints. By far the most pairs have one unit: the low bit 0 of the time difference stands
/// for it, the low bit 1 for a second varint with the units.
pub(super) fn put_pair(out: &mut Vec<u8>, pair: Pair) {
    if pair.units == 1 {
        put_varint(out, pair.gap_ms << 1);
    } else {
        put_varint(out, pair.gap_ms << 1 | 1);
        put_varint(out, pair.units);
    }
}

/// Reads a pair at `*at` and moves `*at` behind it.
pub(super) fn get_pair(pairs: &[u8], at: &mut usize) -> Option<Pair> {
    let head = get_varint(pairs, at)?;
    let units = if head & 1 == 0 { 1 } else { get_varint(pairs, at)? };
    Some(Pair { gap_ms: head >> 1, units })
}
