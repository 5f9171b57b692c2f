//! Searches in lists sorted by expiry. Most searches end at one end of the list: a new item expires after all others, and
//! none has expired. So that end is looked at first, since a binary search reads all over the list.

/// The number of items at the front for which `is_before` holds, as [`slice::partition_point`]; fast if there are none.
pub fn count_first<T>(sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    match sorted.first() {
        Some(first) if is_before(first) => sorted.partition_point(is_before),
        _ => 0,
    }
}

/// As [`count_first`]; fast if `is_before` holds for all.
pub fn count_but_last<T>(sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    match sorted.last() {
        Some(last) if !is_before(last) => sorted.partition_point(is_before),
        _ => sorted.len(),
    }
}
