//! Medians, and medians of paired ratios.

use std::collections::BTreeMap;

/// The values of one contender in one case, by round.
pub(crate) type ByRound = BTreeMap<u32, f64>;

/// The middle value; of an even number, the mean of the two middle ones.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle)) {
        (1, Some(value)) => Some(*value),
        (0, Some(value)) => Some(f64::midpoint(values[middle - 1], *value)),
        _ => None,
    }
}

/// The median of one / other, round by round: drift affects both. Rounds that only one of them has
/// do not count.
pub(crate) fn paired_ratio(one: &ByRound, other: &ByRound) -> Option<f64> {
    median(one.iter().filter_map(|(round, value)| {
        let against = other.get(round)?;
        (*against > 0.0).then(|| value / against)
    }))
}

/// The median of one - other, round by round.
pub(crate) fn paired_difference(one: &ByRound, other: &ByRound) -> Option<f64> {
    median(
        one.iter()
            .filter_map(|(round, value)| Some(value - other.get(round)?)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[(u32, f64)]) -> ByRound {
        values.iter().copied().collect()
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median([f64::NAN, 5.0]), Some(5.0));
    }

    #[test]
    fn the_median_of_ratios_is_not_the_ratio_of_medians() {
        // The machine is twice as fast in the second round and three times in the third. The ratio
        // hardly moves.
        let one = rounds(&[(1, 110.0), (2, 180.0), (3, 330.0)]);
        let other = rounds(&[(1, 100.0), (2, 200.0), (3, 300.0)]);
        assert_eq!(paired_ratio(&one, &other), Some(1.1));
        assert_eq!(paired_difference(&one, &other), Some(10.0));
    }

    #[test]
    fn a_round_that_one_of_them_lacks_does_not_count() {
        let one = rounds(&[(1, 10.0), (2, 1000.0), (4, 30.0)]);
        let other = rounds(&[(1, 10.0), (3, 1.0), (4, 10.0)]);
        assert_eq!(paired_ratio(&one, &other), Some(2.0));
        assert_eq!(
            paired_ratio(&rounds(&[(1, 1.0)]), &rounds(&[(2, 1.0)])),
            None
        );
        assert_eq!(
            paired_ratio(&rounds(&[(1, 1.0)]), &rounds(&[(1, 0.0)])),
            None
        );
    }
}
