//! How many retries may be in progress, so that a failing cluster is not drowned in its own
//! repetitions.

/// Counts the jobs alive that were tried again at a cost.
#[derive(Debug)]
pub(super) struct RetryBudget {
    floor: f64,
    share: f64,
    live: usize,
}

impl RetryBudget {
    pub(super) fn new(floor: usize, share: f64) -> Self {
        Self {
            floor: floor as f64,
            share,
            live: 0,
        }
    }

    /// Limits them differently from now on.
    pub(super) fn set(&mut self, floor: usize, share: f64) {
        (self.floor, self.share) = (floor as f64, share);
    }

    /// Whether one more is allowed while so many jobs are in progress, the one in question among
    /// them.
    pub(super) fn allows(&self, in_progress: usize) -> bool {
        (self.live as f64) < self.floor.max(self.share * in_progress as f64)
    }

    /// A job is tried again.
    pub(super) fn begin(&mut self) {
        self.live += 1;
    }

    /// Such a job is over.
    pub(super) fn end(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.live
    }
}
