//! Limits the retries in progress, so that a failing cluster is not flooded with its own
//! repetitions.

/// Counts the living jobs that were tried again at a cost.
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

    /// Changes the limits.
    pub(super) fn set(&mut self, floor: usize, share: f64) {
        (self.floor, self.share) = (floor as f64, share);
    }

    /// Returns whether one more retry is allowed while `in_progress` jobs are in progress,
    /// including this one.
    pub(super) fn allows(&self, in_progress: usize) -> bool {
        (self.live as f64) < self.floor.max(self.share * in_progress as f64)
    }

    /// Counts a job that is tried again.
    pub(super) fn begin(&mut self) {
        self.live += 1;
    }

    /// Counts out a retried job that is over.
    pub(super) fn end(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn live(&self) -> usize {
        self.live
    }
}
