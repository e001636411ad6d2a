//! Tells what is in no log: once a minute while lines are lost, and at the end.

use std::time::{Duration, Instant};

use crate::observe::access::AccessLog;
use crate::observe::sink::Lost;

use super::logging;

/// At least so long from one such message to the next.
const PAUSE: Duration = Duration::from_secs(60);

/// Losses of one log, and what was told of them.
#[derive(Debug, Default)]
struct Told {
    lost: Lost,
    at: Option<Instant>,
}

impl Told {
    /// What has been lost since it was told the last time, if that is to be told now.
    fn due(&mut self, now: Instant, lost: Lost) -> Option<Lost> {
        let is_late = self
            .at
            .is_none_or(|at| now.saturating_duration_since(at) >= PAUSE);
        if !is_late || lost == self.lost {
            return None;
        }
        let since = Lost {
            dropped: lost.dropped - self.lost.dropped,
            failed: lost.failed - self.lost.failed,
        };
        *self = Self {
            lost,
            at: Some(now),
        };
        Some(since)
    }
}

/// Losses of both logs.
#[derive(Debug, Default)]
pub(super) struct Losses {
    access: Told,
    messages: Told,
}

impl Losses {
    /// Tells what is due. To be called every second.
    pub(super) fn tell(&mut self, now: Instant, access: Option<&AccessLog>) {
        // Where no message can be written, this one could not be either.
        if !logging::has_room() {
            return;
        }
        if let Some((lost, error)) = access.map(AccessLog::lost)
            && let Some(since) = self.access.due(now, lost)
        {
            tell("access log", "lines", since, error);
        }
        let (lost, error) = logging::lost();
        if let Some(since) = self.messages.due(now, lost) {
            tell("messages", "of them", since, error);
        }
    }
}

fn tell(log: &str, what: &str, lost: Lost, error: Option<String>) {
    if lost.dropped > 0 {
        log::warn!(
            "{log}: {} {what} dropped: they are not written as fast as they come, and the queue \
             is full (log.queue)",
            lost.dropped
        );
    }
    if lost.failed > 0 {
        log::warn!(
            "{log}: {} {what} lost, they could not be written: {}",
            lost.failed,
            error.unwrap_or_default()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_at_once_then_once_a_minute_and_each_only_once() {
        let mut told = Told::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let lost = |dropped, failed| Lost { dropped, failed };
        assert_eq!(told.due(at(0), lost(0, 0)), None);
        assert_eq!(told.due(at(1), lost(3, 0)), Some(lost(3, 0)));
        assert_eq!(told.due(at(2), lost(9, 1)), None);
        assert_eq!(told.due(at(60), lost(9, 1)), None);
        assert_eq!(told.due(at(61), lost(10, 1)), Some(lost(7, 1)));
        assert_eq!(told.due(at(500), lost(10, 1)), None);
        assert_eq!(told.due(at(501), lost(10, 2)), Some(lost(0, 1)));
    }
}
