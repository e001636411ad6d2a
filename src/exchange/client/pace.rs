//! How fast a client takes what lies undelivered, whoever carries it. The time counts from the last
//! byte taken, and a least rate over `timeout.write`.

use std::time::Instant;

use crate::plan::Listener;

/// The pace of a client with a backlog.
#[derive(Debug)]
pub(super) struct Pace {
    /// When it took something the last time, or when the backlog began.
    last: Instant,
    /// Since when bytes are counted.
    since: Instant,
    /// Bytes taken since then.
    taken: u64,
    /// A whole span was too slow.
    was_too_slow: bool,
}

impl Pace {
    /// The backlog begins now.
    pub(super) fn starting(now: Instant) -> Self {
        Self {
            last: now,
            since: now,
            taken: 0,
            was_too_slow: false,
        }
    }

    /// The client took so many bytes.
    pub(super) fn took(&mut self, bytes: usize, listener: &Listener, now: Instant) {
        self.taken = self.taken.saturating_add(bytes as u64);
        if bytes > 0 {
            self.last = now;
        }
        let span = listener.timeout.write;
        if now.saturating_duration_since(self.since) >= span {
            self.was_too_slow |= self.taken < least(listener);
            self.since = now;
            self.taken = 0;
        }
    }

    /// Returns whether the client has taken nothing for `timeout.write`, or less than `limit.min_rate`
    /// asks for over that time.
    pub(super) fn is_too_slow(&self, listener: &Listener, now: Instant) -> bool {
        let span = listener.timeout.write;
        self.was_too_slow
            || now.saturating_duration_since(self.last) >= span
            || now.saturating_duration_since(self.since) >= span && self.taken < least(listener)
    }
}

/// Bytes that a client has to take in `timeout.write`.
fn least(listener: &Listener) -> u64 {
    let least = listener.limit.min_rate as f64 * listener.timeout.write.as_secs_f64();
    (least as u64).max(1)
}
