//! Latencies, counted from the time at which a request was due.
//!
//! A client that waits for a stalled response before its next request never meets the stall again,
//! while clients that arrive meanwhile would ("coordinated omission"). So each request has its time
//! from the start, and a request without a response at the end counts with the time that it has
//! waited by then.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::problem::{Outcome, about};
use crate::results::PERCENTILES;

/// A minute, in microseconds. Longer times count as this.
const LONGEST: u64 = 60_000_000;

/// The times at which requests are due, at equal distances from the start on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    per_second: f64,
}

impl Schedule {
    pub(crate) fn new(per_second: f64) -> Self {
        Self { per_second }
    }

    /// The time of a request after the start. The first one is number 0.
    pub(crate) fn intended(self, number: u64) -> Duration {
        Duration::from_secs_f64(number as f64 / self.per_second)
    }
}

/// Latencies in microseconds, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Outcome<Self> {
        Histogram::new_with_bounds(1, LONGEST, 3)
            .map(Self)
            .map_err(about("histogram"))
    }

    /// Records a response, or the end without one, `at` after the start, for the request that was
    /// due at `intended`.
    pub(crate) fn record(&mut self, intended: Duration, at: Duration) {
        let us = at
            .saturating_sub(intended)
            .as_micros()
            .try_into()
            .unwrap_or(LONGEST);
        self.0.saturating_record(us);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so no value is out of range.
        let _ = self.0.add(&other.0);
    }

    /// The values for `PERCENTILES`. Empty where nothing was recorded.
    pub(crate) fn percentiles(&self) -> Vec<u64> {
        if self.0.is_empty() {
            return Vec::new();
        }
        PERCENTILES
            .iter()
            .map(|percentile| self.0.value_at_percentile(*percentile))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(latencies: &Latencies, percentile: f64) -> f64 {
        let index = PERCENTILES
            .iter()
            .position(|known| *known == percentile)
            .unwrap();
        latencies.percentiles()[index] as f64
    }

    fn is_near(value: f64, wanted: f64) -> bool {
        (value / wanted - 1.0).abs() < 0.01
    }

    #[test]
    fn requests_come_at_equal_distances() {
        let schedule = Schedule::new(200.0);
        assert_eq!(schedule.intended(0), Duration::ZERO);
        assert_eq!(schedule.intended(1), Duration::from_millis(5));
        assert_eq!(schedule.intended(400), Duration::from_secs(2));
    }

    #[test]
    fn a_stall_counts_for_all_that_were_due_during_it() {
        // 100 requests a second. The server responds within 1 ms, but not at all from 0 s to 1 s.
        let schedule = Schedule::new(100.0);
        let mut latencies = Latencies::new().unwrap();
        for number in 0..200 {
            let intended = schedule.intended(number);
            let done = intended.max(Duration::from_secs(1)) + Duration::from_millis(1);
            latencies.record(intended, done);
        }
        // Half of the requests waited, the longest for a second. Counted from their sending, 199 of
        // 200 would have taken 1 ms.
        assert!(
            is_near(at(&latencies, 25.0), 1000.0),
            "{:?}",
            latencies.percentiles()
        );
        assert!(
            is_near(at(&latencies, 75.0), 501_000.0),
            "{:?}",
            latencies.percentiles()
        );
        assert!(
            is_near(at(&latencies, 99.0), 981_000.0),
            "{:?}",
            latencies.percentiles()
        );
        assert!(
            is_near(at(&latencies, 100.0), 1_001_000.0),
            "{:?}",
            latencies.percentiles()
        );
    }

    #[test]
    fn what_never_ends_counts_as_the_longest() {
        let mut latencies = Latencies::new().unwrap();
        assert!(latencies.percentiles().is_empty());
        latencies.record(Duration::ZERO, Duration::from_secs(1000));
        assert!(is_near(at(&latencies, 50.0), 60_000_000.0));
        let mut more = Latencies::new().unwrap();
        more.record(Duration::from_secs(2), Duration::from_secs(1));
        latencies.add(&more);
        assert!(at(&latencies, 1.0) <= 1.0 && at(&latencies, 100.0) > 1.0);
    }
}
