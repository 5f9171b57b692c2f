//! Places in sorted lists of what ends, where most that is asked for lies at one of the two ends: new ones end after all
//! others, and none has ended. The ends are looked at first, since a binary search reads from places all over the list.

/// How many come first for which `is_before` holds, as [`slice::partition_point`].
pub fn count_first<T>(sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    match sorted.first() {
        Some(first) if is_before(first) => sorted.partition_point(is_before),
        _ => 0,
    }
}

/// The same, where it most often holds for all.
pub fn count_but_last<T>(sorted: &[T], is_before: impl Fn(&T) -> bool) -> usize {
    match sorted.last() {
        Some(last) if !is_before(last) => sorted.partition_point(is_before),
        _ => sorted.len(),
    }
}
