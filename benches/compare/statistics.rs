//! Medians, and ratios of paired runs.

use crate::measure::Sample;

/// The median of a few values, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// The middle value; for an even number of values, the mean of the middle two. NaN without values.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), middle.checked_sub(1).and_then(|below| values.get(below))) {
        (Some(&above), Some(&below)) if values.len().is_multiple_of(2) => (below + above) / 2.0,
        (Some(&value), _) => value,
        _ => f64::NAN,
    }
}

/// The value that a share (0 to 1) of all sorted values does not exceed; 0 without values.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// By what factor the candidate's `of` exceeds the reference's, run by run.
pub fn ratio(candidate: &[Sample], reference: &[Sample], of: fn(&Sample) -> f64) -> Spread {
    spread(candidate.iter().zip(reference).map(|(one, other)| of(one) / of(other)))
}

/// The median of some values, and how far they spread.
pub fn spread(values: impl Iterator<Item = f64>) -> Spread {
    let values: Vec<f64> = values.collect();
    Spread {
        median: median(values.iter().copied()),
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}
