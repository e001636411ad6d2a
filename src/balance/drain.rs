//! How fast a bucket's queue gets shorter, and so how long a new job would wait.

use std::time::Duration;

/// An observation counts for so much in the average.
const PART: f64 = 0.125;

/// What a bucket's jobs have taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Moving average, in seconds; 0 as long as nothing is known.
    service: f64,
}

impl Pace {
    /// A job took so long.
    pub(super) fn observe(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        if self.service == 0.0 {
            self.service = took;
        } else {
            self.service += (took - self.service) * PART;
        }
    }

    /// How long a job takes.
    pub(super) fn service(&self) -> Duration {
        Duration::try_from_secs_f64(self.service).unwrap_or_default()
    }

    /// How long a job waits with so many before it, served by so many slots.
    pub(super) fn wait(&self, before: usize, slots: usize) -> Duration {
        let seconds = (before as f64 + 1.0) * self.service / slots.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }
}
