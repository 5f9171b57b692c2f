//! Medians, and ratios of paired runs.

use crate::measure::Sample;

/// The median of a few paired ratios, and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// The middle value; of an even number, the mean of the middle two. NaN of none.
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

/// By what factor the candidate's `of` exceeds the reference's, run by run.
pub fn ratio(candidate: &[Sample], reference: &[Sample], of: fn(&Sample) -> f64) -> Ratio {
    let ratios: Vec<f64> = candidate.iter().zip(reference).map(|(one, other)| of(one) / of(other)).collect();
    Ratio {
        median: median(ratios.iter().copied()),
        min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }
}
