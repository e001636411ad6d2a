//! How fast a bucket's queue gets shorter, and so how long a new job would wait.

use std::time::Duration;

/// An observation counts for one part of so many in the average.
const PARTS: i64 = 8;

/// What a bucket's jobs have taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// Moving average, in nanoseconds; 0 as long as nothing is known.
    service: i64,
    /// Moving average of how far off that was.
    deviation: i64,
}

impl Pace {
    /// A job took so long.
    pub(super) fn observe(&mut self, took: Duration) {
        // Far more than any job may take.
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

    /// How long a job takes.
    pub(super) fn service(&self) -> Duration {
        Duration::from_nanos(self.service.unsigned_abs())
    }

    /// How long most jobs take. (Whoever has just this long left is one of a queue in which all are
    /// about to be late: with the average, half of them would be.)
    pub(super) fn mostly(&self) -> Duration {
        Duration::from_nanos((self.service + 2 * self.deviation).unsigned_abs())
    }

    /// How long a job waits with so many before it, served by so many slots.
    pub(super) fn wait(&self, before: usize, slots: usize) -> Duration {
        let seconds = (before as f64 + 1.0) * self.service().as_secs_f64() / slots.max(1) as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}
