//! Percentiles, exact, with linear interpolation between ranks (as numpy and AIPerf have it).

/// The `percent`th percentile of sorted values; `None` of nothing.
pub fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = sorted.len().saturating_sub(1) * percent;
    let (below, part) = (rank / 100, (rank % 100) as f64 / 100.0);
    let &low = sorted.get(below)?;
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    Some(low + (high - low) * part)
}

/// The median of values in any order; `None` of nothing.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    percentile(&values, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_ranks() {
        for (values, percent, expected) in [
            (&[][..], 50, None),
            (&[3.0], 99, Some(3.0)),
            (&[1.0, 2.0], 50, Some(1.5)),
            (&[1.0, 2.0, 4.0], 50, Some(2.0)),
            (&[1.0, 2.0, 4.0], 75, Some(3.0)),
            (&[1.0, 2.0, 4.0], 100, Some(4.0)),
        ] {
            assert_eq!(percentile(values, percent), expected, "{percent} of {values:?}");
        }
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
