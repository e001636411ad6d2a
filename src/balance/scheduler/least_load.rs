//! The server with the fewest jobs for its weight; of several, the one that was chosen longest ago.

use super::{Scheduler, View, Wish};
use crate::balance::heap::IndexedHeap;
use crate::balance::random::Random;

#[derive(Debug, Default)]
pub(super) struct LeastLoad {
    by_load: IndexedHeap<(u64, u64)>,
    /// When each was chosen last, in choices.
    chosen: Vec<u64>,
    choices: u64,
}

impl Scheduler for LeastLoad {
    fn choose(&mut self, view: View<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let (_, server) = match wish.except {
            Some(server) => self.by_load.first_except(server)?,
            None => self.by_load.first()?,
        };
        self.choices += 1;
        self.chosen[server as usize] = self.choices;
        self.enter(server, view);
        Some(server)
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        if self.chosen.len() <= server as usize {
            self.chosen.resize(server as usize + 1, 0);
        }
        let pressure = view.loads[server as usize].pressure();
        self.by_load.set(server, (pressure, self.chosen[server as usize]));
    }

    fn leave(&mut self, server: u32) {
        self.by_load.remove(server);
    }

    fn reset(&mut self, view: View<'_>) {
        self.by_load.clear();
        for server in view.among.iter() {
            self.enter(server, view);
        }
    }
}
