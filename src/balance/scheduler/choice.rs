//! What every scheduler is: it is shown servers, and chooses one.

use std::fmt::Debug;
use std::time::Instant;

use crate::balance::bits::Bits;
use crate::balance::random::Random;

/// What a scheduler knows of a server.
#[derive(Clone, Debug, Default)]
pub(in crate::balance) struct Load {
    /// Its share in relation to other servers; less while it starts slowly.
    pub(in crate::balance) weight: u32,
    /// Workers that have a job.
    pub(in crate::balance) running: u32,
    /// Jobs that these workers have besides their first.
    pub(in crate::balance) besides: u32,
    /// Jobs that wait for this server alone.
    pub(in crate::balance) bound: u32,
    /// Its response time in seconds, rising at once and falling slowly; see `peak_ewma`.
    pub(in crate::balance) latency: f64,
    /// When the response time was last updated.
    pub(in crate::balance) measured: Option<Instant>,
}

impl Load {
    /// Returns the number of its jobs.
    pub(in crate::balance) fn jobs(&self) -> u32 {
        self.running + self.besides + self.bound
    }

    /// Returns the jobs for each unit of weight if it got one more, in 2^-32.
    pub(in crate::balance) fn pressure(&self) -> u64 {
        ((u64::from(self.jobs()) + 1) << 32) / u64::from(self.weight.max(1))
    }
}

/// The servers to choose from.
#[derive(Clone, Copy, Debug)]
pub(in crate::balance) struct Candidates<'a> {
    /// Servers that may be chosen.
    pub(in crate::balance) among: &'a Bits,
    /// Servers that could be chosen if they were not busy.
    pub(in crate::balance) in_use: &'a Bits,
    /// All servers, by number.
    pub(in crate::balance) loads: &'a [Load],
    /// The jobs and the weights of all servers in use.
    pub(in crate::balance) sums: (u64, u64),
}

impl Candidates<'_> {
    /// Returns the number of a server's jobs.
    pub(super) fn jobs(&self, server: u32) -> u32 {
        self.loads[server as usize].jobs()
    }

    /// Returns a server's weight, if it is in use.
    pub(super) fn weight(&self, server: u32) -> Option<u32> {
        self.in_use
            .contains(server)
            .then(|| self.loads[server as usize].weight)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::balance) struct Wish {
    /// Not this server.
    pub(in crate::balance) except: Option<u32>,
    /// The key of the request's client.
    pub(in crate::balance) key: u64,
    pub(in crate::balance) now: Instant,
}

/// A way to choose. The scheduler is told which servers come, go and change, so that it need not
/// look through all of them and keeps what it knows of the others.
pub(in crate::balance) trait Scheduler: Debug + Send {
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

/// Returns every choosable server except the one to avoid.
pub(super) fn others<'a>(candidates: Candidates<'a>, wish: Wish) -> impl Iterator<Item = u32> + 'a {
    candidates
        .among
        .iter()
        .filter(move |server| Some(*server) != wish.except)
}

/// Returns whether a server with one more job would have at most `balance` percent of its part of
/// all jobs (bounded load).
pub(super) fn within_bound(
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
