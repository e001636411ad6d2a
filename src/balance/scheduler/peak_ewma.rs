//! The better of two by expected wait: response time times jobs. The response time is a moving average that jumps up with a slow
//! response at once and comes down slowly, so that a server in trouble is spared before its queue shows it.

use std::time::{Duration, Instant};

use super::two_choices::TwoChoices;
use super::{Load, Scheduler, View, Wish};
use crate::balance::random::Random;

/// An observation counts for 1/e after so long.
const DECAY: f64 = 10.0;

/// What a server without an observation is taken for: quick, so that it is tried.
const UNKNOWN: f64 = 1e-6;

#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    two: TwoChoices,
}

impl Scheduler for PeakEwma {
    fn choose(&mut self, view: View<'_>, wish: Wish, random: &mut Random) -> Option<u32> {
        self.two.better(view, wish.except, random, |load| {
            load.latency_at(wish.now).max(UNKNOWN) * load.pressure() as f64
        })
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        self.two.enter(server, view);
    }

    fn leave(&mut self, server: u32) {
        self.two.leave(server);
    }

    fn reset(&mut self, view: View<'_>) {
        self.two.reset(view);
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

    /// The average by now. Who is not asked any more is forgiven in time, or nobody would ever notice that it has recovered.
    fn latency_at(&self, now: Instant) -> f64 {
        match self.measured {
            Some(then) => self.latency * (-now.saturating_duration_since(then).as_secs_f64() / DECAY).exp(),
            None => 0.0,
        }
    }
}
