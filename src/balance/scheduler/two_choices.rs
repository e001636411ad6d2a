//! The better of two that are drawn by weight: nearly as good as the least load, without everybody
//! running to the same server.
//!
//! The draw gives each server as many opportunities as it needs for its share, and more. It is not
//! what makes the share: of the two, the one with the fewer jobs for its weight is chosen, and
//! where that does not decide the one whose turn it is. So weights count once, however often the
//! heavier server is drawn.

use super::random::Weighted;
use super::turns::Turns;
use super::{Scheduler, View, Wish};
use crate::balance::random::Random;

/// How often a second one is drawn that shall not be the first.
const DRAWS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct TwoChoices {
    drawn: Weighted,
    turns: Turns,
}

impl TwoChoices {
    /// One of two: the second if `prefers` says so of the first and it, or the one with the lower
    /// score if that says nothing.
    pub(super) fn better(
        &mut self,
        view: View<'_>,
        wish: Wish,
        random: &mut Random,
        prefers: impl Fn(u32, u32) -> Option<bool>,
    ) -> Option<u32> {
        let first = self.drawn.draw(wish.except, random)?;
        let second = (0..DRAWS)
            .filter_map(|_| self.drawn.draw(wish.except, random))
            .find(|server| *server != first);
        let score = |server: u32| self.turns.score(server, view.jobs(server));
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
    fn choose(&mut self, view: View<'_>, wish: Wish, random: &mut Random) -> Option<u32> {
        self.better(view, wish, random, |_, _| None)
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        self.drawn.enter(server, view);
    }

    fn leave(&mut self, server: u32) {
        self.drawn.leave(server);
    }

    fn weigh(&mut self, server: u32, view: View<'_>) {
        self.turns.weigh(server, view.weight(server));
    }

    fn forget(&mut self, server: u32) {
        self.turns.forget(server);
    }
}
