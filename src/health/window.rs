//! What happened within the last while, exactly: the window slides with every question, and does
//! not start anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::witness::{Tally, Witness};

/// Exchanges with a server. The number is bounded: when the window is full, the oldest is forgotten
/// early, and the window covers the last `most` exchanges.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    most: usize,
    /// When each exchange ended, and how; oldest first.
    events: VecDeque<(Instant, Event)>,
    failures: usize,
    clients: Tally,
    paths: Tally,
}

/// How an exchange went.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Well, or the failure does not count.
    Good,
    /// It failed, and this witness has seen it.
    Failed(Option<Witness>),
}

impl Window {
    pub(super) fn new(length: Duration, most: usize) -> Self {
        Self {
            length,
            most: most.max(1),
            events: VecDeque::new(),
            failures: 0,
            clients: Tally::default(),
            paths: Tally::default(),
        }
    }

    pub(super) fn push(&mut self, event: Event, now: Instant) {
        self.slide(now);
        if self.events.len() == self.most {
            self.drop_oldest();
        }
        self.events.push_back((now, event));
        if let Event::Failed(witness) = event {
            self.failures += 1;
            if let Some(witness) = witness {
                self.clients.add(witness.client);
                self.paths.add(witness.path);
            }
        }
    }

    /// Returns how many exchanges there were, and how many of them failed.
    pub(super) fn counts(&mut self, now: Instant) -> (usize, usize) {
        self.slide(now);
        (self.events.len(), self.failures)
    }

    /// Returns how many failures do not count: the excess of one client's failures over those of
    /// all others together, or of one path's if other paths `work`. The work is linear in the
    /// clients and paths, so call this only for many failures.
    pub(super) fn excess(&self, work: bool) -> usize {
        let paths = if work {
            self.paths.excess(self.failures)
        } else {
            0
        };
        self.clients.excess(self.failures).max(paths)
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.failures = 0;
        self.clients.clear();
        self.paths.clear();
    }

    fn slide(&mut self, now: Instant) {
        while let Some((then, _)) = self.events.front()
            && now.saturating_duration_since(*then) >= self.length
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, Event::Failed(witness))) = self.events.pop_front() {
            self.failures -= 1;
            if let Some(witness) = witness {
                self.clients.remove(witness.client);
                self.paths.remove(witness.path);
            }
        }
    }
}
