//! Running sums of amounts by time, so that the sum up to a time takes a binary search.

use std::ops::Add;

/// Running sums by time in microseconds.
pub struct Tally<T> {
    /// (time, sum up to and including it), in the order of time.
    sums: Vec<(i128, T)>,
}

impl<T: Copy + Default + Add<Output = T>> Tally<T> {
    pub fn new(amounts: impl Iterator<Item = (i128, T)>) -> Self {
        let mut sums: Vec<(i128, T)> = amounts.collect();
        sums.sort_by_key(|&(at_us, _)| at_us);
        let mut sum = T::default();
        for (_, amount) in &mut sums {
            sum = sum + *amount;
            *amount = sum;
        }
        Self { sums }
    }

    /// The sum of all amounts up to and including `at_us`.
    pub fn until(&self, at_us: i128) -> T {
        self.get(at_us).unwrap_or_default()
    }

    /// The entry at `at_us`, or the last one before it.
    pub fn get(&self, at_us: i128) -> Option<T> {
        let count = self.sums.partition_point(|&(time, _)| time <= at_us);
        self.sums[..count].last().map(|&(_, sum)| sum)
    }

    /// Replaces each sum by another value, in the order of time.
    pub fn map(&self, mut of: impl FnMut(i128, T) -> T) -> Self {
        Self { sums: self.sums.iter().map(|&(at_us, sum)| (at_us, of(at_us, sum))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_in_the_order_of_time() {
        let tally = Tally::new([(30, 5), (10, 1), (20, 2), (20, 3)].into_iter());
        assert_eq!([9, 10, 19, 20, 29, 30, 99].map(|at_us| tally.until(at_us)), [0, 1, 1, 6, 6, 11, 11]);
        assert_eq!((tally.get(9), tally.get(10)), (None, Some(1)));
        assert_eq!(tally.map(|at_us, sum| at_us as i32 * sum).until(20), 120);
    }
}
