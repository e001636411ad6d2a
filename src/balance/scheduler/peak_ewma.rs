//! Chooses the better of two servers by expected wait: response time times jobs. The response time
//! is a moving average that rises at once with a slow response and falls slowly, so that a server
//! in trouble is spared before its queue shows the trouble.
//!
//! Response times that differ by less than a factor of two say nothing. Then the two are compared
//! as in `two_choices`, so that similar servers have their shares, and a server whose times are not
//! known yet gets no more than its share.

use std::time::{Duration, Instant};

use super::two_choices::TwoChoices;
use super::{Candidates, Load, Scheduler, Wish};
use crate::balance::random::Random;

/// An observation counts for 1/e after this many seconds.
const DECAY: f64 = 10.0;

/// A server is slow in relation to another if its response time is more than this many times the
/// other's.
const SLOW: f64 = 2.0;

#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    two: TwoChoices,
}

impl Scheduler for PeakEwma {
    fn choose(
        &mut self,
        candidates: Candidates<'_>,
        wish: Wish,
        random: &mut Random,
    ) -> Option<u32> {
        self.two.better(candidates, wish, random, |first, second| {
            let (first, second) = (
                &candidates.loads[first as usize],
                &candidates.loads[second as usize],
            );
            // The quick server may still take longer because of its jobs.
            if first.is_slow_beside(second, wish.now) {
                Some(second.wait(second.latency) <= first.wait(first.latency_at(wish.now)))
            } else if second.is_slow_beside(first, wish.now) {
                Some(first.wait(first.latency) > second.wait(second.latency_at(wish.now)))
            } else {
                None
            }
        })
    }

    fn enter(&mut self, server: u32, candidates: Candidates<'_>) {
        self.two.enter(server, candidates);
    }

    fn leave(&mut self, server: u32) {
        self.two.leave(server);
    }

    fn weigh(&mut self, server: u32, candidates: Candidates<'_>) {
        self.two.weigh(server, candidates);
    }

    fn forget(&mut self, server: u32) {
        self.two.forget(server);
    }
}

impl Load {
    /// Adds a job's time.
    pub(in crate::balance) fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let part = match self.measured {
            Some(then) => (-now.saturating_duration_since(then).as_secs_f64() / DECAY).exp(),
            None => 0.0,
        };
        self.latency = if took > self.latency {
            took
        } else {
            self.latency * part + took * (1.0 - part)
        };
        self.measured = Some(now);
    }

    /// Returns the average as of `now`. It falls while a server gets no jobs, or the server's
    /// recovery would never be noticed.
    fn latency_at(&self, now: Instant) -> f64 {
        match self.measured {
            Some(then) => {
                self.latency * (-now.saturating_duration_since(then).as_secs_f64() / DECAY).exp()
            }
            None => 0.0,
        }
    }

    /// Returns whether this server is slow in relation to another. This one's average has fallen by
    /// `now`, but the other's is taken as last updated. Otherwise a server would count as quicker
    /// only because it gets no jobs, and would get more than its share.
    fn is_slow_beside(&self, other: &Self, now: Instant) -> bool {
        // Usually this decides without the clock.
        let bound = SLOW * other.latency;
        other.measured.is_some() && self.latency > bound && self.latency_at(now) > bound
    }

    /// Returns how long one more job would take here, with this response time.
    fn wait(&self, latency: f64) -> f64 {
        latency * f64::from(self.jobs() + 1) / f64::from(self.weight.max(1))
    }
}
