//! Whether a job is accepted: as an offer, in the queue, or for another attempt.

use std::time::{Duration, Instant};

use crate::balance::drain::Pace;
use crate::balance::{Admin, BucketId, Refusal, ServerId, Ticket};

use super::Dispatcher;

impl<J> Dispatcher<J> {
    pub(super) fn refuses_offers(&self) -> Option<Refusal> {
        if self.closed {
            Some(Refusal::Closed)
        } else if self.admin != Admin::Enabled {
            Some(Refusal::Disabled)
        } else {
            None
        }
    }

    pub(super) fn refuses_to_queue(
        &self,
        ticket: &Ticket,
        bound: Option<ServerId>,
        now: Instant,
    ) -> Option<Refusal> {
        let queued = self.buckets.queued(ticket.bucket);
        let mut left = self
            .buckets
            .queue_limit(ticket.bucket)
            .saturating_sub(queued);
        // Whatever other buckets ask for, there are never more such jobs than tokens.
        if !self.buckets.has_place(ticket.bucket) {
            left = left.min(self.settings.queue_limit.saturating_sub(self.queue.len()));
        }
        if left == 0 {
            return Some(Refusal::QueueFull);
        }
        let mut before = queued;
        if let Some(key) = ticket.key {
            // A client may have one place more than it leaves: of two places one client may take
            // both, of more than two never all.
            let own = self.queue.of_client(ticket.bucket, key, bound);
            if own > left {
                return Some(Refusal::ClientQueueFull);
            }
            // Each other client goes at most as often before it.
            let clients = self.queue.clients(ticket.bucket, bound) + usize::from(own == 0);
            before = before.min((own + 1) * clients);
        }
        let service = self.pace(ticket.bucket).mostly();
        match ticket.answer_by {
            Some(answer_by) => {
                let needed = self
                    .expected_wait_behind(ticket.bucket, before)
                    .saturating_add(service);
                (needed > answer_by.saturating_duration_since(now)).then_some(Refusal::Hopeless)
            }
            None => None,
        }
    }

    pub(super) fn expected_wait_behind(&self, bucket: BucketId, before: usize) -> Duration {
        let counts = self.buckets.counts(bucket);
        self.pace(bucket)
            .wait(before, counts.assured.max(counts.held))
    }

    /// Forgets what is known of the bucket that had this number before.
    pub(in crate::balance) fn forget_pace(&mut self, bucket: BucketId) {
        if let Some(pace) = self.paces.get_mut(bucket.0 as usize) {
            *pace = Pace::default();
        }
    }

    pub(super) fn pace(&self, bucket: BucketId) -> Pace {
        self.paces
            .get(bucket.0 as usize)
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn check_retry(
        &self,
        ticket: &Ticket,
        (free, rests): (bool, bool),
        in_progress: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.closed {
            Err(Refusal::Closed)
        } else if self.admin == Admin::Disabled {
            Err(Refusal::Disabled)
        } else if ticket.deadline <= now
            || ticket.answer_by.is_some_and(|answer_by| answer_by <= now)
        {
            Err(Refusal::QueueTimeout)
        } else if !rests && self.servers.in_use().is_empty() && !self.settings.wait_for_server {
            Err(Refusal::NoServer)
        } else if !free && !self.budget.allows(in_progress) {
            Err(Refusal::RetryBudget)
        } else {
            Ok(())
        }
    }

    pub(super) fn in_progress(&self) -> usize {
        self.queue.len() + self.resting.len() + self.servers.serving_count()
    }

    /// Returns whether to avoid the server that a job avoids: only if another one is in use. (The
    /// caller has found the server to avoid in use.)
    pub(super) fn heed_avoidance(&self) -> bool {
        self.servers.in_use().len() > 1
    }
}
