//! How fast a client takes what lies undelivered, whichever thread delivers it. The time counts
//! from the last byte taken, and a least rate over `timeout.write`.

use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::plan::Listener;

/// After so long without a byte that the socket took, a look at what the kernel still has of those
/// before is worth a system call.
const LOOK_AFTER: Duration = Duration::from_secs(1);

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
    /// What the kernel had to send still, and when that was looked at.
    queued: Option<(u64, Instant)>,
    /// Since when nothing lies undelivered. Only a piece that goes out at once shows that the
    /// client keeps up; until then the time before counts together with the time after.
    paused: Option<Instant>,
}

impl Pace {
    /// The backlog begins now.
    pub(super) fn starting(now: Instant) -> Self {
        Self {
            last: now,
            since: now,
            taken: 0,
            was_too_slow: false,
            queued: None,
            paused: None,
        }
    }

    /// Nothing lies undelivered for now.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Something lies undelivered again.
    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            let pause = now.saturating_duration_since(paused);
            self.last = after(self.last, pause);
            self.since = after(self.since, pause);
            self.queued = None;
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The socket took so many bytes.
    pub(super) fn took(&mut self, bytes: u64, limit: Limit, now: Instant) {
        self.queued = None;
        self.count(bytes, limit, now);
    }

    /// Looks, every now and then, at what the kernel has to send still (`queued`). Returns whether
    /// the client has taken some of it.
    pub(super) fn look(
        &mut self,
        queued: impl Fn() -> Option<u64>,
        limit: Limit,
        now: Instant,
    ) -> bool {
        let looked_at = self.queued.map_or(self.last, |(_, at)| at);
        if now.saturating_duration_since(looked_at) < LOOK_AFTER.min(limit.span / 8) {
            return false;
        }
        let before = self.queued;
        self.queued = queued().map(|bytes| (bytes, now));
        let (Some((before, _)), Some((left, _))) = (before, self.queued) else {
            return false;
        };
        let taken = before.saturating_sub(left);
        if taken > 0 {
            self.count(taken, limit, now);
        }
        taken > 0
    }

    fn count(&mut self, bytes: u64, limit: Limit, now: Instant) {
        self.taken = self.taken.saturating_add(bytes);
        self.last = now;
        if now.saturating_duration_since(self.since) >= limit.span {
            self.was_too_slow |= self.taken < limit.least;
            self.since = now;
            self.taken = 0;
        }
    }

    /// Returns whether the client has taken nothing for `timeout.write`, or less than
    /// `limit.min_rate` asks for over that time.
    pub(super) fn is_too_slow(&self, limit: Limit, now: Instant) -> bool {
        let span = limit.span;
        if self.is_paused() {
            return false;
        }
        self.was_too_slow
            || now.saturating_duration_since(self.last) >= span
            || now.saturating_duration_since(self.since) >= span && self.taken < limit.least
    }
}

/// What a client has to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Something in this time,
    span: Duration,
    /// and so many bytes.
    least: u64,
}

impl Limit {
    pub(super) fn of(listener: &Listener) -> Self {
        let span = listener.timeout.write;
        let least = listener.limit.min_rate as f64 * span.as_secs_f64();
        Self {
            span,
            least: (least as u64).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        span: Duration::from_secs(8),
        least: 1000,
    };

    fn at(start: Instant, seconds: u64) -> Instant {
        after(start, Duration::from_secs(seconds))
    }

    #[test]
    fn the_time_counts_from_the_last_byte() {
        let start = Instant::now();
        let mut pace = Pace::starting(start);
        pace.took(5000, LIMIT, at(start, 7));
        assert!(!pace.is_too_slow(LIMIT, at(start, 14)));
        assert!(pace.is_too_slow(LIMIT, at(start, 15)));
    }

    #[test]
    fn a_trickle_is_too_slow_though_it_goes_on_through_pauses() {
        let start = Instant::now();
        let mut pace = Pace::starting(start);
        let mut now = 0;
        while !pace.is_too_slow(LIMIT, at(start, now)) {
            // Every second one byte, and every other second nothing lies undelivered.
            pace.took(1, LIMIT, at(start, now));
            pace.pause(at(start, now));
            assert!(
                !pace.is_too_slow(LIMIT, at(start, now + 1)),
                "nothing is asked for"
            );
            pace.resume(at(start, now + 1));
            now += 2;
            assert!(now < 40, "never");
        }
        assert!(now >= 16, "eight seconds of backlog, {now}");
    }

    #[test]
    fn what_leaves_the_kernel_is_progress() {
        let start = Instant::now();
        let mut pace = Pace::starting(start);
        for second in 1..60 {
            let left = 1_000_000 - second * 500;
            pace.look(|| Some(left), LIMIT, at(start, second));
            assert!(!pace.is_too_slow(LIMIT, at(start, second)), "{second}");
        }
        for second in 60..70 {
            pace.look(|| Some(970_000), LIMIT, at(start, second));
        }
        assert!(pace.is_too_slow(LIMIT, at(start, 70)));
        assert!(
            !pace.look(|| None, LIMIT, at(start, 80)),
            "a system that does not tell"
        );
    }
}
