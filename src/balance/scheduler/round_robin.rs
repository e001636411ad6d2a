//! Each server in its turn, the heavier ones more often, and as evenly spread as can be.

use super::turns::Turns;
use super::{Scheduler, View, Wish};
use crate::balance::heap::IndexedHeap;
use crate::balance::random::Random;

/// Chosen is the server with the earliest date of those that may be; of several the first of the
/// list.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    turns: Turns,
    /// Those that may be chosen.
    by_date: IndexedHeap<i64>,
}

impl Scheduler for RoundRobin {
    fn choose(&mut self, view: View<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let (_, server) = match wish.except {
            Some(server) => self.by_date.first_except(server)?,
            None => self.by_date.first()?,
        };
        let next = self.turns.take_first(server);
        if self.turns.rebase() {
            view.among
                .iter()
                .for_each(|server| self.enter(server, view));
        } else {
            self.by_date.set(server, next);
        }
        Some(server)
    }

    fn enter(&mut self, server: u32, _: View<'_>) {
        self.by_date.set(server, self.turns.date(server));
    }

    fn leave(&mut self, server: u32) {
        self.by_date.remove(server);
    }

    fn weigh(&mut self, server: u32, view: View<'_>) {
        self.turns.weigh(server, view.weight(server));
    }

    fn forgive(&mut self, server: u32) {
        self.turns.forgive(server);
    }

    fn forget(&mut self, server: u32) {
        self.turns.forget(server);
    }
}
