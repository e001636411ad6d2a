//! The better of two that are drawn by weight: nearly as good as the least load, without everybody running to the same server.

use super::random::Weighted;
use super::{Load, Scheduler, View, Wish};
use crate::balance::random::Random;

/// How often a second one is drawn that shall not be the first.
const DRAWS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct TwoChoices {
    pub(super) drawn: Weighted,
}

impl TwoChoices {
    /// The one of two with the lower cost.
    pub(super) fn better<C: PartialOrd>(
        &self,
        view: View<'_>,
        except: Option<u32>,
        random: &mut Random,
        cost: impl Fn(&Load) -> C,
    ) -> Option<u32> {
        let first = self.drawn.draw(except, random)?;
        let second = (0..DRAWS)
            .filter_map(|_| self.drawn.draw(except, random))
            .find(|server| *server != first);
        let Some(second) = second else {
            return Some(first);
        };
        let cost = |server: u32| cost(&view.loads[server as usize]);
        Some(if cost(second) < cost(first) { second } else { first })
    }
}

impl Scheduler for TwoChoices {
    fn choose(&mut self, view: View<'_>, wish: Wish, random: &mut Random) -> Option<u32> {
        // Drawn by weight already, so only what a server has beside its weight counts.
        self.better(view, wish.except, random, Load::pressure)
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        self.drawn.enter(server, view);
    }

    fn leave(&mut self, server: u32) {
        self.drawn.leave(server);
    }

    fn reset(&mut self, view: View<'_>) {
        self.drawn.reset(view);
    }
}
