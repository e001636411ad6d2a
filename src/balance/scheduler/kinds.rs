//! Makes the scheduler of each kind.

use crate::balance::Schedule;

use super::{
    Scheduler, chance, jump, least_load, peak_ewma, random, rendezvous, round_robin, two_choices,
};

/// Makes a scheduler of this kind.
pub(in crate::balance) fn scheduler(schedule: Schedule) -> Box<dyn Scheduler> {
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
