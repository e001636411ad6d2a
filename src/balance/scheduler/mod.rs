//! Which server gets the next job. A scheduler chooses among the servers that it is shown, and
//! never queues. The servers shown have passed the filters (connected, enabled, healthy, their role
//! in use, below their capacity). The server to avoid is named.
//!
//! Each role has a scheduler of its own, so that servers of one role do not use up the turns of
//! another.

mod chance;
mod choice;
mod jump;
mod kinds;
mod least_load;
mod peak_ewma;
mod random;
mod rendezvous;
mod round_robin;
#[cfg(test)]
mod tests;
mod turns;
mod two_choices;

pub(super) use choice::{Candidates, Load, Scheduler, Wish};
pub(super) use kinds::scheduler;

use choice::{others, within_bound};
