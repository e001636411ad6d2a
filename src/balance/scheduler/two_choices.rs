//! Chooses the better of two servers that are drawn by weight. This is nearly as good as the least
//! load, without all balancers running to the same server.
//!
//! The draw gives each server at least as many opportunities as it needs for its share, but does
//! not make the share. Of the two, the server with the fewer jobs for its weight is chosen, and
//! where these are equal the one whose turn it is. So weights count once, however often the heavier
//! server is drawn.

use super::random::Weighted;
use super::turns::Turns;
use super::{Candidates, Scheduler, Wish};
use crate::balance::random::Random;

/// How often a second server is drawn to get one other than the first.
const DRAWS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct TwoChoices {
    drawn: Weighted,
    turns: Turns,
}

impl TwoChoices {
    /// Returns one of two servers: the second if `prefers` returns so for the first and the second,
    /// or the one with the lower score if it returns `None`.
    pub(super) fn better(
        &mut self,
        candidates: Candidates<'_>,
        wish: Wish,
        random: &mut Random,
        prefers: impl Fn(u32, u32) -> Option<bool>,
    ) -> Option<u32> {
        let first = self.drawn.draw(wish.except, random)?;
        let second = (0..DRAWS)
            .filter_map(|_| self.drawn.draw(wish.except, random))
            .find(|server| *server != first);
        let score = |server: u32| self.turns.score(server, candidates.jobs(server));
        let chosen = match second {
            Some(second)
                if prefers(first, second).unwrap_or_else(|| score(second) < score(first)) =>
            {
                second
            }
            _ => first,
        };
        self.turns.take(chosen);
        self.turns.rebase();
        Some(chosen)
    }
}

impl Scheduler for TwoChoices {
    fn choose(
        &mut self,
        candidates: Candidates<'_>,
        wish: Wish,
        random: &mut Random,
    ) -> Option<u32> {
        self.better(candidates, wish, random, |_, _| None)
    }

    fn enter(&mut self, server: u32, candidates: Candidates<'_>) {
        self.drawn.enter(server, candidates);
    }

    fn leave(&mut self, server: u32) {
        self.drawn.leave(server);
    }

    fn weigh(&mut self, server: u32, candidates: Candidates<'_>) {
        self.turns.weigh(server, candidates.weight(server));
    }

    fn forget(&mut self, server: u32) {
        self.turns.forget(server);
    }
}
