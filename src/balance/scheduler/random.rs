//! Chooses any server, in proportion to the weights.

use super::{Candidates, Scheduler, Wish};
use crate::balance::fenwick::Fenwick;
use crate::balance::random::Random;

#[derive(Debug, Default)]
pub(super) struct Weighted {
    weights: Fenwick,
}

impl Weighted {
    /// Draws one of all servers except this one.
    pub(super) fn draw(&self, except: Option<u32>, random: &mut Random) -> Option<u32> {
        let left_out = except.map_or(0, |server| self.weights.weight(server));
        let total = self.weights.total() - left_out;
        if total == 0 {
            return None;
        }
        // A number in or behind the part that is left out is moved behind it.
        let number = random.below(total);
        match self.weights.find(number)? {
            server if left_out == 0 || Some(server) < except => Some(server),
            _ => self.weights.find(number + left_out),
        }
    }
}

impl Scheduler for Weighted {
    fn choose(&mut self, _: Candidates<'_>, wish: Wish, random: &mut Random) -> Option<u32> {
        self.draw(wish.except, random)
    }

    fn enter(&mut self, server: u32, candidates: Candidates<'_>) {
        let weight = u64::from(candidates.loads[server as usize].weight.max(1));
        if self.weights.weight(server) != weight {
            self.weights.set(server, weight);
        }
    }

    fn leave(&mut self, server: u32) {
        if self.weights.weight(server) > 0 {
            self.weights.set(server, 0);
        }
    }
}
