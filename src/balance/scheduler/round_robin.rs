//! Servers take turns, the heavier ones more often, and spread as evenly as possible.

use super::turns::Turns;
use super::{Candidates, Scheduler, Wish};
use crate::balance::heap::IndexedHeap;
use crate::balance::random::Random;

/// Chooses the server with the earliest date of those that may be chosen, and of several the first
/// of the list.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    turns: Turns,
    /// The servers that may be chosen.
    by_date: IndexedHeap<i64>,
}

impl Scheduler for RoundRobin {
    fn choose(&mut self, candidates: Candidates<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let (_, server) = match wish.except {
            Some(server) => self.by_date.first_except(server)?,
            None => self.by_date.first()?,
        };
        let next = self.turns.take_first(server);
        if self.turns.rebase() {
            candidates
                .among
                .iter()
                .for_each(|server| self.enter(server, candidates));
        } else {
            self.by_date.set(server, next);
        }
        Some(server)
    }

    fn enter(&mut self, server: u32, _: Candidates<'_>) {
        self.by_date.set(server, self.turns.date(server));
    }

    fn leave(&mut self, server: u32) {
        self.by_date.remove(server);
    }

    fn weigh(&mut self, server: u32, candidates: Candidates<'_>) {
        self.turns.weigh(server, candidates.weight(server));
    }

    fn forgive(&mut self, server: u32) {
        self.turns.forgive(server);
    }

    fn forget(&mut self, server: u32) {
        self.turns.forget(server);
    }
}
