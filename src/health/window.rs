//! What happened within the last while, exactly: a window that slides with every question, not one that starts anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Exchanges with a server. Bounded: when it is full the oldest is forgotten early, so that then it speaks of the last so many.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    most: usize,
    /// When, and whether it failed; oldest first.
    events: VecDeque<(Instant, bool)>,
    failures: usize,
}

impl Window {
    pub(super) fn new(length: Duration, most: usize) -> Self {
        Self {
            length,
            most: most.max(1),
            events: VecDeque::new(),
            failures: 0,
        }
    }

    pub(super) fn push(&mut self, failed: bool, now: Instant) {
        self.slide(now);
        if self.events.len() == self.most {
            self.drop_oldest();
        }
        self.events.push_back((now, failed));
        self.failures += usize::from(failed);
    }

    /// How many there were, and how many of them failed.
    pub(super) fn counts(&mut self, now: Instant) -> (usize, usize) {
        self.slide(now);
        (self.events.len(), self.failures)
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.failures = 0;
    }

    fn slide(&mut self, now: Instant) {
        while let Some((then, _)) = self.events.front()
            && now.saturating_duration_since(*then) >= self.length
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, failed)) = self.events.pop_front() {
            self.failures -= usize::from(failed);
        }
    }
}
