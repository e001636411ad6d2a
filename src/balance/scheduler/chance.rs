//! Chooses the first server of the list that can take the job, so one server is filled before the
//! next is used.

use super::{Candidates, Scheduler, Wish, others};
use crate::balance::random::Random;

#[derive(Debug)]
pub(super) struct Chance;

impl Scheduler for Chance {
    fn choose(&mut self, candidates: Candidates<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        others(candidates, wish).next()
    }
}
