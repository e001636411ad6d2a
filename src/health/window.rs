//! What happened within the last while, exactly: a window that slides with every question, not one
//! that starts anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::witness::{Tally, Witness};

/// Exchanges with a server. Bounded: when it is full the oldest is forgotten early, so that then it
/// speaks of the last so many.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    most: usize,
    /// When, and how it went; oldest first.
    events: VecDeque<(Instant, Event)>,
    failures: usize,
    clients: Tally,
    paths: Tally,
}

/// How an exchange went.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// Well, or it does not count.
    Good,
    /// It failed, and this one has seen it.
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

    /// How many there were, and how many of them failed.
    pub(super) fn counts(&mut self, now: Instant) -> (usize, usize) {
        self.slide(now);
        (self.events.len(), self.failures)
    }

    /// So many failures of one client, or of one path if other paths `work`, are more than those of
    /// all others together: they do not count. Takes time by the number of clients and paths; only
    /// for failures that are many.
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
