//! How fast a bucket's queue gets shorter, and so how long a new job would wait.

use std::time::Duration;

/// One observation is one part of this many in the average.
const PARTS: i64 = 8;

/// How long a bucket's jobs have taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The moving average in nanoseconds; 0 as long as nothing is known.
    service: i64,
    /// The moving average of the deviation from it.
    deviation: i64,
}

impl Pace {
    /// Adds a job's time.
    pub(super) fn observe(&mut self, took: Duration) {
        // The bound is far more than any job may take.
        let took =
            took.as_secs().min(1 << 30) as i64 * 1_000_000_000 + i64::from(took.subsec_nanos());
        if self.service == 0 {
            self.service = took;
        } else {
            let off = took - self.service;
            self.service += off / PARTS;
            self.deviation += (off.abs() - self.deviation) / PARTS;
        }
    }

    /// Returns how long a job takes.
    pub(super) fn service(&self) -> Duration {
        Duration::from_nanos(self.service.unsigned_abs())
    }

    /// Returns how long most jobs take. (If a whole queue is about to be late, a job at its head
    /// has about this time left. With the average, half of such jobs would be late.)
    pub(super) fn mostly(&self) -> Duration {
        Duration::from_nanos((self.service + 2 * self.deviation).unsigned_abs())
    }

    /// Returns how long a job waits with `before` jobs before it, served by `slots` slots.
    pub(super) fn wait(&self, before: usize, slots: usize) -> Duration {
        let seconds = (before as f64 + 1.0) * self.service().as_secs_f64() / slots.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}
