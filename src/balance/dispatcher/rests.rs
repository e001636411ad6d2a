//! Wakes jobs whose rest or time is over.

use std::time::Instant;

use crate::balance::{Handout, Refusal};

use super::Dispatcher;

impl<J> Dispatcher<J> {
    /// Does what is due by `now`. A job whose rest is over goes to the head of its bucket (of
    /// several the one whose rest ended first), and to a worker if there is one for it. A job whose
    /// deadline has passed, resting or waiting, is refused ([`Refusal::QueueTimeout`]).
    pub fn wake(&mut self, now: Instant) -> Handout<J> {
        let mut handout = Handout::default();
        while let Some(place) = self.queue.first_expired(now)
            && let Some(waiting) = self.withdraw(place)
        {
            handout.refused.push((Refusal::QueueTimeout, waiting.job));
        }
        let due = std::iter::from_fn(|| self.resting.take_due(now)).collect::<Vec<_>>();
        for waiting in due.into_iter().rev() {
            if waiting.gives_up() <= now {
                self.forgive(&waiting);
                handout.refused.push((Refusal::QueueTimeout, waiting.job));
            } else {
                self.put_back(waiting, None, &mut handout, now);
            }
        }
        self.settle(now, &mut handout);
        handout
    }

    /// Returns when to call [`Self::wake`] next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (waiting, resting) = (self.queue.next_deadline(), self.resting.next_end());
        waiting.into_iter().chain(resting).min()
    }

    /// Removes a resting job that is over. Returns `None` if no job with this number rests.
    pub(in crate::balance) fn rouse(&mut self, id: u64) -> Option<J> {
        let waiting = self.resting.remove(id)?;
        self.forgive(&waiting);
        Some(waiting.job)
    }

    /// Refuses all resting jobs.
    pub(in crate::balance) fn refuse_resting(
        &mut self,
        refusal: Refusal,
        refused: &mut Vec<(Refusal, J)>,
    ) {
        while let Some(waiting) = self.resting.take_any() {
            self.forgive(&waiting);
            refused.push((refusal, waiting.job));
        }
    }
}
