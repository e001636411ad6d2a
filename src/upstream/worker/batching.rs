//! How many exchanges a worker may send at once: fewer where batches break.

use std::time::{Duration, Instant};

use crate::base::time::after;

/// The number of batches in a row that may break.
pub(super) const BROKEN: u32 = 3;

/// Then none is sent for so long.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// How many exchanges a worker takes at once.
#[derive(Debug)]
pub(super) struct Batching {
    most: usize,
    /// The number of batches in a row that broke.
    broken: u32,
    paused_until: Option<Instant>,
}

impl Batching {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            broken: 0,
            paused_until: None,
        }
    }

    /// It may take so many from now on.
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// How many it may take now.
    pub(super) fn most(&mut self, now: Instant) -> usize {
        match self.paused_until {
            None => self.most,
            Some(until) if until > now => 1,
            Some(_) => {
                self.paused_until = None;
                self.most
            }
        }
    }

    /// Notes how a batch ended. Returns `true` if it is the first one that leads to a pause; each
    /// pause ends with a batch to try.
    pub(super) fn note(&mut self, is_clean: bool, now: Instant) -> bool {
        if is_clean {
            self.broken = 0;
            return false;
        }
        self.broken = self.broken.saturating_add(1);
        if self.broken >= BROKEN {
            self.paused_until = Some(after(now, PAUSE));
        }
        self.broken == BROKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_broken_batches_in_a_row_lead_to_a_pause() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut batching = Batching::new(8);
        assert_eq!(batching.most(at(0)), 8);
        for is_clean in [false, false, true, false, false] {
            assert!(!batching.note(is_clean, at(0)));
            assert_eq!(batching.most(at(0)), 8);
        }
        assert!(batching.note(false, at(0)));
        assert_eq!((batching.most(at(0)), batching.most(at(59))), (1, 1));
        // One is tried then. It is told only once.
        assert_eq!(batching.most(at(60)), 8);
        assert!(!batching.note(false, at(61)));
        assert_eq!((batching.most(at(120)), batching.most(at(121))), (1, 8));
        // And a clean one makes up for all.
        assert!(!batching.note(true, at(121)));
        assert!(!batching.note(false, at(122)));
        assert_eq!(batching.most(at(122)), 8);
    }
}
