//! Which server gets the next job. A scheduler chooses among the servers that it is shown, and
//! never queues: who is shown has passed the filters (connected, enabled, healthy, its role in use,
//! below its capacity), the server to avoid is named.
//!
//! Each role has a scheduler of its own, so that servers of one role do not use up the turns of
//! another.

mod chance;
mod jump;
mod least_load;
mod peak_ewma;
mod random;
mod rendezvous;
mod round_robin;
#[cfg(test)]
mod tests;
mod turns;
mod two_choices;

use std::fmt::Debug;
use std::time::Instant;

use super::Schedule;
use super::bits::Bits;
use super::random::Random;

/// What a scheduler knows of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// Its share beside others; less while it starts slowly.
    pub(super) weight: u32,
    /// Workers that have a job.
    pub(super) running: u32,
    /// Jobs that they have besides their first.
    pub(super) besides: u32,
    /// Jobs that wait for it alone.
    pub(super) bound: u32,
    /// Its response time, in seconds, rising at once and falling slowly; see `peak_ewma`.
    pub(super) latency: f64,
    /// When that was last brought up to date.
    pub(super) measured: Option<Instant>,
}

impl Load {
    /// Jobs that it has.
    pub(super) fn jobs(&self) -> u32 {
        self.running + self.besides + self.bound
    }

    /// Jobs for each unit of weight if it got one more, in 2^-32.
    pub(super) fn pressure(&self) -> u64 {
        ((u64::from(self.jobs()) + 1) << 32) / u64::from(self.weight.max(1))
    }
}

/// What there is to choose from.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// Who may be chosen.
    pub(super) among: &'a Bits,
    /// Who could be if it were not busy.
    pub(super) in_use: &'a Bits,
    /// Every server, by number.
    pub(super) loads: &'a [Load],
    /// Jobs of all servers that are in use, and their weights.
    pub(super) sums: (u64, u64),
}

impl View<'_> {
    /// Jobs that a server has.
    fn jobs(&self, server: u32) -> u32 {
        self.loads[server as usize].jobs()
    }

    /// Its weight, if it is in use.
    fn weight(&self, server: u32) -> Option<u32> {
        self.in_use
            .contains(server)
            .then(|| self.loads[server as usize].weight)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Not this one.
    pub(super) except: Option<u32>,
    /// Whose request it is.
    pub(super) key: u64,
    pub(super) now: Instant,
}

/// A way to choose. It is told which servers come, go and change, so that it need not look through
/// all, and nothing that it knows of the others is lost by that.
pub(super) trait Scheduler: Debug + Send {
    /// One of those that may be chosen, if there is one.
    fn choose(&mut self, view: View<'_>, wish: Wish, random: &mut Random) -> Option<u32>;

    /// This server may be chosen from now on, or its weight or (least load only) its load has
    /// changed while it may.
    fn enter(&mut self, _server: u32, _view: View<'_>) {}

    /// It may not any more.
    fn leave(&mut self, _server: u32) {}

    /// It has come into use or gone out of it, or its weight has changed. [`Self::enter`] or
    /// [`Self::leave`] follows.
    fn weigh(&mut self, _server: u32, _view: View<'_>) {}

    /// It makes up for nothing that it has missed while its connections were busy: from now on that
    /// does not matter. [`Self::enter`] follows.
    fn forgive(&mut self, _server: u32) {}

    /// It is gone, and another one has its number from now on.
    fn forget(&mut self, _server: u32) {}

    /// Servers have come into use or gone out of it, or weights have changed: everything is in the
    /// view. For what is worked out from all of them.
    fn changed(&mut self, _view: View<'_>) {}
}

/// A scheduler of this kind.
pub(super) fn scheduler(schedule: Schedule) -> Box<dyn Scheduler> {
    match schedule {
        Schedule::RoundRobin => Box::<round_robin::RoundRobin>::default(),
        Schedule::Chance => Box::new(chance::Chance),
        Schedule::LeastLoad => Box::<least_load::LeastLoad>::default(),
        Schedule::Random => Box::<random::Weighted>::default(),
        Schedule::TwoChoices => Box::<two_choices::TwoChoices>::default(),
        Schedule::PeakEwma => Box::<peak_ewma::PeakEwma>::default(),
        Schedule::Rendezvous { balance } => Box::new(rendezvous::Rendezvous::new(balance)),
        Schedule::Jump { balance } => Box::new(jump::Jump::new(balance)),
    }
}

/// Every choosable server but the excepted one.
fn others<'a>(view: View<'a>, wish: Wish) -> impl Iterator<Item = u32> + 'a {
    view.among
        .iter()
        .filter(move |server| Some(*server) != wish.except)
}

/// Bounded load: whether a server would have at most `balance` percent of what would be its part of
/// all jobs.
fn within_bound(view: View<'_>, server: u32, balance: u32, (jobs, weights): (u64, u64)) -> bool {
    let load = &view.loads[server as usize];
    // jobs of the server + 1 <= ceil(balance% x (all jobs + 1) x weight / all weights)
    let part = u128::from(balance) * u128::from(jobs + 1) * u128::from(load.weight);
    u128::from(load.jobs() + 1) <= part.div_ceil(100 * u128::from(weights.max(1)))
}
