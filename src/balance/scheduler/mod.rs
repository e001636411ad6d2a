//! Which server gets the next job. A scheduler chooses among the servers that it is shown, and
//! never queues. The servers shown have passed the filters (connected, enabled, healthy, their role
//! in use, below their capacity). The server to avoid is named.
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
    /// Its share in relation to other servers; less while it starts slowly.
    pub(super) weight: u32,
    /// Workers that have a job.
    pub(super) running: u32,
    /// Jobs that these workers have besides their first.
    pub(super) besides: u32,
    /// Jobs that wait for this server alone.
    pub(super) bound: u32,
    /// Its response time in seconds, rising at once and falling slowly; see `peak_ewma`.
    pub(super) latency: f64,
    /// When the response time was last updated.
    pub(super) measured: Option<Instant>,
}

impl Load {
    /// Returns the number of its jobs.
    pub(super) fn jobs(&self) -> u32 {
        self.running + self.besides + self.bound
    }

    /// Returns the jobs for each unit of weight if it got one more, in 2^-32.
    pub(super) fn pressure(&self) -> u64 {
        ((u64::from(self.jobs()) + 1) << 32) / u64::from(self.weight.max(1))
    }
}

/// The servers to choose from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidates<'a> {
    /// Servers that may be chosen.
    pub(super) among: &'a Bits,
    /// Servers that could be chosen if they were not busy.
    pub(super) in_use: &'a Bits,
    /// All servers, by number.
    pub(super) loads: &'a [Load],
    /// The jobs and the weights of all servers in use.
    pub(super) sums: (u64, u64),
}

impl Candidates<'_> {
    /// Returns the number of a server's jobs.
    fn jobs(&self, server: u32) -> u32 {
        self.loads[server as usize].jobs()
    }

    /// Returns a server's weight, if it is in use.
    fn weight(&self, server: u32) -> Option<u32> {
        self.in_use
            .contains(server)
            .then(|| self.loads[server as usize].weight)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Not this server.
    pub(super) except: Option<u32>,
    /// The key of the request's client.
    pub(super) key: u64,
    pub(super) now: Instant,
}

/// A way to choose. The scheduler is told which servers come, go and change, so that it need not
/// look through all of them and keeps what it knows of the others.
pub(super) trait Scheduler: Debug + Send {
    /// Returns one of the servers that may be chosen, if there is one.
    fn choose(
        &mut self,
        candidates: Candidates<'_>,
        wish: Wish,
        random: &mut Random,
    ) -> Option<u32>;

    /// This server may be chosen from now on. Or its weight or (least load only) its load has
    /// changed while it may.
    fn enter(&mut self, _server: u32, _view: Candidates<'_>) {}

    /// This server may not be chosen any more.
    fn leave(&mut self, _server: u32) {}

    /// This server has come into use or gone out of use, or its weight has changed. [`Self::enter`]
    /// or [`Self::leave`] follows.
    fn weigh(&mut self, _server: u32, _view: Candidates<'_>) {}

    /// This server does not make up for turns that it has missed while its connections were busy:
    /// from now on busy connections do not matter. [`Self::enter`] follows.
    fn forgive(&mut self, _server: u32) {}

    /// This server is gone, and another one has its number from now on.
    fn forget(&mut self, _server: u32) {}

    /// Servers have come into use or gone out of use, or weights have changed. For values that are
    /// computed from all servers in the view.
    fn changed(&mut self, _view: Candidates<'_>) {}
}

/// Makes a scheduler of this kind.
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

/// Returns every choosable server except the one to avoid.
fn others<'a>(candidates: Candidates<'a>, wish: Wish) -> impl Iterator<Item = u32> + 'a {
    candidates
        .among
        .iter()
        .filter(move |server| Some(*server) != wish.except)
}

/// Returns whether a server with one more job would have at most `balance` percent of its part of
/// all jobs (bounded load).
fn within_bound(
    candidates: Candidates<'_>,
    server: u32,
    balance: u32,
    (jobs, weights): (u64, u64),
) -> bool {
    let load = &candidates.loads[server as usize];
    // jobs of the server + 1 <= ceil(balance% x (all jobs + 1) x weight / all weights)
    let part = u128::from(balance) * u128::from(jobs + 1) * u128::from(load.weight);
    u128::from(load.jobs() + 1) <= part.div_ceil(100 * u128::from(weights.max(1)))
}
