//! What allocations take in memory.

use smallvec::{Array, SmallVec};

/// The bytes an allocator hands out for a request of `bytes`: jemalloc's size classes (16, then 32 … 128 in steps of 16,
/// then four steps to each doubling), which Redis and most Valkey builds use. `MEMORY USAGE` reports with it, so that
/// the figure is what the server's memory shrinks by when the key goes.
/// Source: <https://jemalloc.net/jemalloc.3.html>, "size classes".
pub fn allocated_bytes(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of((bytes - 1).ilog2().checked_sub(2).map_or(16, |shift| 1 << shift)),
    }
}

/// The largest size that an allocator hands out without rounding, up to `bytes`: see [`allocated_bytes`].
pub fn whole_bytes(bytes: usize) -> usize {
    match bytes {
        0..=127 => bytes / 16 * 16,
        _ => bytes >> (bytes.ilog2() - 2) << (bytes.ilog2() - 2),
    }
}

/// The bytes allocated behind a list that holds a few items in itself.
pub fn spilled_bytes<A: Array>(list: &SmallVec<A>) -> usize {
    match list.spilled() {
        true => allocated_bytes(list.capacity() * size_of::<A::Item>()),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{allocated_bytes, whole_bytes};

    #[test]
    fn sizes_round_up_to_jemallocs_classes() {
        for (asked, given) in [(0, 0), (1, 16), (16, 16), (17, 32), (100, 112), (128, 128), (129, 160), (160, 160)] {
            assert_eq!(allocated_bytes(asked), given, "{asked}");
        }
        for (asked, given) in
            [(161, 192), (200, 224), (256, 256), (257, 320), (513, 640), (4097, 5120), (65_536, 65_536)]
        {
            assert_eq!(allocated_bytes(asked), given, "{asked}");
        }
    }

    #[test]
    fn whole_sizes_are_those_that_are_not_rounded() {
        for bytes in 1..100_000 {
            let whole = whole_bytes(bytes);
            assert!(whole <= bytes && allocated_bytes(whole) == whole, "{bytes}");
            assert!(allocated_bytes(whole + 1) >= bytes, "{bytes}");
        }
    }
}
