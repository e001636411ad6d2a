//! Converts fractions into whole requests.

use crate::balance::change::Share;

/// The error that rounding may cause.
const TOLERANCE: f64 = 1e-6;

/// Returns the assured shares of a parent's children in whole requests. Each fraction is a part of
/// the parent's own.
///
/// The result is rounded by largest remainder, so that nothing is lost between the children. A
/// child that asks for more than nothing gets at least 1, taken from the largest where there is one
/// above 1. Together the shares are at most what the parent has, unless it has less than one for
/// each. Requests for more than there is (absolute shares of a cluster that has lost servers) are
/// reduced in proportion.
pub(super) fn divide(whole: u32, shares: &[Share]) -> Vec<u32> {
    let wanted = shares
        .iter()
        .map(|share| share.of(whole))
        .collect::<Vec<_>>();
    let sum: f64 = wanted.iter().sum();
    let scale = if sum > f64::from(whole) {
        f64::from(whole) / sum
    } else {
        1.0
    };
    let exact = wanted
        .iter()
        .map(|wanted| wanted * scale)
        .collect::<Vec<_>>();
    let mut given = exact
        .iter()
        .map(|exact| (exact + TOLERANCE) as u32)
        .collect::<Vec<_>>();
    let total = (exact.iter().sum::<f64>() + TOLERANCE) as u32;
    let mut by_remainder = (0..exact.len()).collect::<Vec<_>>();
    by_remainder.sort_by(|a, b| {
        let remainder = |index: usize| exact[index] - f64::from(given[index]);
        remainder(*b).total_cmp(&remainder(*a)).then(a.cmp(b))
    });
    let missing = total.saturating_sub(given.iter().sum());
    for index in by_remainder.into_iter().take(missing as usize) {
        given[index] += 1;
    }
    if whole == 0 {
        return given;
    }
    for (given, wanted) in given.iter_mut().zip(&wanted) {
        if *wanted > 0.0 {
            *given = (*given).max(1);
        }
    }
    while given.iter().sum::<u32>() > whole
        && let Some(largest) = given.iter_mut().max()
        && *largest > 1
    {
        *largest -= 1;
    }
    given
}

/// Returns the ceiling in whole requests: at most the parent's, at least the assured share, and at
/// least 1 if it asks for anything.
pub(super) fn ceiling(parent: u32, share: Share, assured: u32) -> u32 {
    let wanted = share.of(parent);
    let least = if wanted > 0.0 {
        assured.max(1)
    } else {
        assured
    };
    ((wanted + TOLERANCE) as u32).max(least).min(parent)
}

impl Share {
    fn of(self, whole: u32) -> f64 {
        match self {
            Self::Part(part) => part * f64::from(whole),
            Self::Requests(requests) => f64::from(requests),
        }
    }

    /// Returns whether the value is a valid share.
    pub(super) fn is_valid(self) -> bool {
        match self {
            Self::Part(part) => (0.0..=1.0 + TOLERANCE).contains(&part),
            Self::Requests(_) => true,
        }
    }

    /// Returns whether this is certainly less than another. Shares of different kinds cannot be
    /// compared.
    pub(super) fn is_less(self, other: Self) -> bool {
        match (self, other) {
            (Self::Part(part), Self::Part(other)) => part + TOLERANCE < other,
            (Self::Requests(requests), Self::Requests(other)) => requests < other,
            _ => false,
        }
    }
}

/// Returns whether these assured shares add up to more than the whole.
pub(super) fn exceed(shares: impl Iterator<Item = Share>) -> bool {
    let parts = shares.map(|share| match share {
        Share::Part(part) => part,
        Share::Requests(_) => 0.0,
    });
    parts.sum::<f64>() > 1.0 + TOLERANCE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(parts: &[f64]) -> Vec<Share> {
        parts.iter().map(|part| Share::Part(*part)).collect()
    }

    #[test]
    fn nothing_is_lost_between_children() {
        assert_eq!(divide(10, &parts(&[0.1, 0.5])), [1, 5]);
        assert_eq!(divide(5, &parts(&[0.5])), [2]);
        assert_eq!(divide(5, &parts(&[0.5, 0.5])), [3, 2]);
        assert_eq!(divide(10, &parts(&[0.33, 0.33, 0.34])), [3, 3, 4]);
        assert_eq!(divide(3, &parts(&[0.1, 0.0, 0.9])), [1, 0, 2]);
        assert_eq!(divide(2, &parts(&[0.2, 0.2, 0.2])), [1, 1, 1]);
        assert_eq!(divide(0, &parts(&[0.5, 0.5])), [0, 0]);
        assert_eq!(divide(10, &[Share::Requests(4), Share::Part(0.5)]), [4, 5]);
        assert_eq!(divide(4, &[Share::Requests(6), Share::Requests(2)]), [3, 1]);
    }

    #[test]
    fn ceilings_are_rounded_down_to_at_least_the_assured_share() {
        assert_eq!(ceiling(7, Share::Part(0.5), 2), 3);
        assert_eq!(ceiling(3, Share::Part(0.1), 0), 1);
        assert_eq!(ceiling(3, Share::Part(0.0), 0), 0);
        assert_eq!(ceiling(10, Share::Requests(20), 3), 10);
        assert_eq!(ceiling(10, Share::Requests(2), 3), 3);
        assert_eq!(ceiling(0, Share::Part(1.0), 0), 0);
    }

    proptest! {
        #[test]
        fn shares_add_up(
            whole in 0u32..300,
            weights in prop::collection::vec(0u32..20, 1..12),
            spare in 0u32..20,
        ) {
            let sum = f64::from(weights.iter().sum::<u32>() + spare).max(1.0);
            let share = |weight: &u32| Share::Part(f64::from(*weight) / sum);
            let shares = weights.iter().map(share).collect::<Vec<_>>();
            let given = divide(whole, &shares);
            let asking = weights.iter().filter(|weight| **weight > 0).count() as u32;
            prop_assert!(given.iter().sum::<u32>() <= whole.max(asking));
            for (given, weight) in given.iter().zip(&weights) {
                let exact = f64::from(whole) * f64::from(*weight) / sum;
                if whole >= asking * 2 {
                    prop_assert!(f64::from(*given) > exact - f64::from(asking) - 1.0);
                }
                prop_assert!(f64::from(*given) < exact + 1.0 + 1e-6 || *given == 1);
                prop_assert!(*weight == 0 || whole == 0 || *given >= 1);
                prop_assert!(*weight > 0 || *given == 0);
            }
        }
    }
}
