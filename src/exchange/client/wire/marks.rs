//! What others see of a client without its wire's lock: whether it is idle, makes progress, and
//! takes of what all share.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use crate::exchange::registry::{Holds, Short};

/// The first request of a client that has come in may take so long, whatever others lack.
const FRESH_MS: u64 = 1000;

/// What others see of a client.
#[derive(Debug)]
pub(super) struct Marks {
    /// Since when it is idle, in milliseconds of uptime; 0 while it is not.
    pub(super) idle_at: AtomicU64,
    /// When to stop waiting for its end, in milliseconds of uptime; 0 is never.
    pub(super) linger_until: AtomicU64,
    /// It has asked for something.
    pub(super) has_asked: AtomicBool,
    /// A request of it is being read.
    pub(super) reading: AtomicBool,
    /// It is to end after what it has sent, whatever else it says.
    pub(super) dismissed: AtomicBool,
    /// It has to give way to others.
    pub(super) condemned: AtomicBool,
    /// When it took something of what lies undelivered, in milliseconds of uptime; 0 if nothing
    /// does.
    pub(super) taken_at: AtomicU64,
    /// When something of a request came, in milliseconds of uptime; 0 while none is being read.
    pub(super) read_at: AtomicU64,
    /// How long the next of it may take, in milliseconds.
    pub(super) read_limit: AtomicU64,
    /// What of the shared room that request takes: a [`Holds`].
    pub(super) holds: AtomicU8,
}

impl Marks {
    /// Those of a client that is idle since then, in milliseconds of uptime.
    pub(super) fn idle(since: u64) -> Self {
        Self {
            idle_at: AtomicU64::new(since),
            linger_until: AtomicU64::new(0),
            has_asked: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
            taken_at: AtomicU64::new(0),
            read_at: AtomicU64::new(0),
            read_limit: AtomicU64::new(0),
            holds: AtomicU8::new(Holds::Nothing as u8),
        }
    }

    /// Returns whether it has come in just now: its first request may be on the way.
    pub(super) fn is_fresh(&self, now_ms: u64) -> bool {
        let since = self.idle_at.load(Ordering::Relaxed);
        !self.has_asked.load(Ordering::Relaxed) && now_ms.saturating_sub(since) < FRESH_MS
    }

    /// Returns whether a lingering end is over: its time is up, and nothing came for `linger_ms`.
    pub(super) fn has_lingered(&self, now_ms: u64, linger_ms: u64) -> bool {
        let until = self.linger_until.load(Ordering::Relaxed);
        let read_at = self.read_at.load(Ordering::Relaxed);
        let is_reading = read_at != 0 && now_ms.saturating_sub(read_at) < linger_ms;
        until != 0 && now_ms >= until && !is_reading
    }

    /// Returns for how long the client has made no progress with something of which others lack
    /// room, if that is for a quarter of its time limit: then it is to give way. Those with more of
    /// it come first. The client has `write_limit` to take something.
    pub(super) fn stands_still(
        &self,
        short: Short,
        now_ms: u64,
        write_limit: Duration,
    ) -> Option<(Holds, Duration)> {
        let over = |since: u64, limit: Duration| {
            let still = Duration::from_millis(now_ms.saturating_sub(since));
            (since != 0 && still >= limit / 4).then_some(still)
        };
        let takes = || over(self.taken_at.load(Ordering::Relaxed), write_limit);
        let gives = || {
            let limit = Duration::from_millis(self.read_limit.load(Ordering::Relaxed));
            over(self.read_at.load(Ordering::Relaxed), limit)
        };
        if self.condemned.load(Ordering::Relaxed) {
            return None;
        }
        let holds = self.holds.load(Ordering::Relaxed);
        let has = |what: Holds| holds == what as u8;
        match short {
            Short::Requests if has(Holds::Spool) => gives().map(|still| (Holds::Spool, still)),
            Short::Requests if has(Holds::Memory) => gives().map(|still| (Holds::Memory, still)),
            Short::Heads if has(Holds::Head) => gives().map(|still| (Holds::Head, still)),
            Short::Sessions => takes().max(gives()).map(|still| (Holds::Nothing, still)),
            Short::Requests | Short::Heads => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    fn marks() -> Marks {
        let marks = Marks::idle(1);
        marks.read_limit.store(400, Ordering::Relaxed);
        marks
    }

    #[test]
    fn a_client_that_reads_a_request_gives_way_only_for_what_it_holds() {
        let marks = marks();
        marks.read_at.store(1000, Ordering::Relaxed);
        let still = Duration::from_millis(100);
        for (holds, shorts) in [
            (Holds::Nothing, &[][..]),
            (Holds::Head, &[Short::Heads][..]),
            (Holds::Memory, &[Short::Requests][..]),
            (Holds::Spool, &[Short::Requests][..]),
        ] {
            marks.holds.store(holds as u8, Ordering::Relaxed);
            for short in [Short::Heads, Short::Requests] {
                let expected = shorts.contains(&short).then_some((holds, still));
                assert_eq!(
                    marks.stands_still(short, 1100, LIMIT),
                    expected,
                    "{short:?}"
                );
                assert_eq!(marks.stands_still(short, 1099, LIMIT), None, "it goes on");
            }
            let expected = Some((Holds::Nothing, still));
            assert_eq!(marks.stands_still(Short::Sessions, 1100, LIMIT), expected);
        }
        marks.condemned.store(true, Ordering::Relaxed);
        assert_eq!(marks.stands_still(Short::Sessions, 1100, LIMIT), None);
    }

    #[test]
    fn a_client_that_takes_nothing_gives_way_for_a_session_alone() {
        let marks = marks();
        assert_eq!(
            marks.stands_still(Short::Sessions, 9000, LIMIT),
            None,
            "idle"
        );
        marks.taken_at.store(1000, Ordering::Relaxed);
        assert_eq!(marks.stands_still(Short::Requests, 1100, LIMIT), None);
        let still = Some((Holds::Nothing, Duration::from_millis(100)));
        assert_eq!(marks.stands_still(Short::Sessions, 1100, LIMIT), still);
    }

    #[test]
    fn a_client_that_has_asked_for_nothing_is_fresh_for_a_second() {
        let marks = Marks::idle(5000);
        assert!(marks.is_fresh(5000) && marks.is_fresh(5999) && !marks.is_fresh(6000));
        marks.has_asked.store(true, Ordering::Relaxed);
        assert!(!marks.is_fresh(5000));
    }

    #[test]
    fn an_end_lingers_as_long_as_something_comes() {
        let marks = marks();
        assert!(!marks.has_lingered(9000, 50), "there is none");
        marks.linger_until.store(2000, Ordering::Relaxed);
        assert!(!marks.has_lingered(1999, 50) && marks.has_lingered(2000, 50));
        marks.read_at.store(1960, Ordering::Relaxed);
        assert!(!marks.has_lingered(2009, 50) && marks.has_lingered(2010, 50));
    }
}
