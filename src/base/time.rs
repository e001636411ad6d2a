//! Moments that are computed from durations of other parties.
//!
//! `Instant + Duration` panics where the sum lies beyond what the clock can represent. A duration
//! from the wire or from a configuration is as large as its sender likes.

use std::time::{Duration, Instant};

/// The longest wait: 100 years.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Returns the moment `wait` after `now`, or one 100 years away if the clock cannot represent that.
pub fn after(now: Instant, wait: Duration) -> Instant {
    let later = now.checked_add(wait).or_else(|| now.checked_add(FAR));
    later.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_without_an_end_is_a_moment_far_away() {
        let now = Instant::now();
        assert_eq!(
            after(now, Duration::from_millis(5)),
            now + Duration::from_millis(5)
        );
        for endless in [u64::MAX, u64::MAX / 2, i64::MAX as u64] {
            assert!(after(now, Duration::from_secs(endless)) >= now + FAR);
        }
        assert!(after(after(now, Duration::MAX), Duration::MAX) >= now + FAR);
    }
}
