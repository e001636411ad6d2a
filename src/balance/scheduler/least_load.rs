//! The server with the fewest jobs for its weight; where that does not decide, the one whose turn it is.

use super::turns::Turns;
use super::{Scheduler, View, Wish};
use crate::balance::heap::IndexedHeap;
use crate::balance::random::Random;

#[derive(Debug, Default)]
pub(super) struct LeastLoad {
    turns: Turns,
    /// Those that may be chosen. The scores are as old as the last change of the server: they have grown since, or are the same.
    by_score: IndexedHeap<(i64, i64)>,
}

impl Scheduler for LeastLoad {
    fn choose(&mut self, view: View<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let server = loop {
            let (old, server) = match wish.except {
                Some(server) => self.by_score.first_except(server)?,
                None => self.by_score.first()?,
            };
            let score = self.turns.score(server, view.jobs(server));
            if score == old {
                break server;
            }
            self.by_score.set(server, score);
        };
        self.turns.take(server);
        if self.turns.rebase() {
            view.among.iter().for_each(|server| self.enter(server, view));
        }
        Some(server)
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        self.by_score.set(server, self.turns.score(server, view.jobs(server)));
    }

    fn leave(&mut self, server: u32) {
        self.by_score.remove(server);
    }

    fn weigh(&mut self, server: u32, view: View<'_>) {
        self.turns.weigh(server, view.weight(server));
    }

    fn forget(&mut self, server: u32) {
        self.turns.forget(server);
    }
}
