//! The better of two by expected wait: response time times jobs. The response time is a moving
//! average that jumps up with a slow response at once and comes down slowly, so that a server in
//! trouble is spared before its queue shows it.
//!
//! Response times that differ by less than a factor of two say nothing: then the two are compared
//! as in `two_choices`, so that servers that are alike have their shares, and one whose times are
//! not known yet gets no more than its own.

use std::time::{Duration, Instant};

use super::two_choices::TwoChoices;
use super::{Load, Scheduler, View, Wish};
use crate::balance::random::Random;

/// An observation counts for 1/e after so long.
const DECAY: f64 = 10.0;

/// A server is slow beside another if its response time is more than so many times that of the
/// other.
const SLOW: f64 = 2.0;

#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    two: TwoChoices,
}

impl Scheduler for PeakEwma {
    fn choose(&mut self, view: View<'_>, wish: Wish, random: &mut Random) -> Option<u32> {
        self.two.better(view, wish, random, |first, second| {
            let (first, second) = (&view.loads[first as usize], &view.loads[second as usize]);
            // Whether the quick one would take longer all the same, for its jobs.
            if first.is_slow_beside(second, wish.now) {
                Some(second.wait(second.latency) <= first.wait(first.latency_at(wish.now)))
            } else if second.is_slow_beside(first, wish.now) {
                Some(first.wait(first.latency) > second.wait(second.latency_at(wish.now)))
            } else {
                None
            }
        })
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        self.two.enter(server, view);
    }

    fn leave(&mut self, server: u32) {
        self.two.leave(server);
    }

    fn weigh(&mut self, server: u32, view: View<'_>) {
        self.two.weigh(server, view);
    }

    fn forget(&mut self, server: u32) {
        self.two.forget(server);
    }
}

impl Load {
    /// A job took so long.
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

    /// The average by now. A server that is not asked any more is forgiven in time, or its recovery
    /// would go unnoticed for ever.
    fn latency_at(&self, now: Instant) -> f64 {
        match self.measured {
            Some(then) => {
                self.latency * (-now.saturating_duration_since(then).as_secs_f64() / DECAY).exp()
            }
            None => 0.0,
        }
    }

    /// Whether it is slow, forgiveness included, beside what is known of another. That one is not
    /// taken for quicker than it was only because it has not been asked: it would get more than its
    /// share for that.
    fn is_slow_beside(&self, other: &Self, now: Instant) -> bool {
        // Mostly that is settled without a look at the clock.
        let bound = SLOW * other.latency;
        other.measured.is_some() && self.latency > bound && self.latency_at(now) > bound
    }

    /// How long one job more would take here, by this response time.
    fn wait(&self, latency: f64) -> f64 {
        latency * f64::from(self.jobs() + 1) / f64::from(self.weight.max(1))
    }
}
