//! Each server in its turn, the heavier ones more often, and as evenly spread as can be.

use super::{Scheduler, View, Wish};
use crate::balance::heap::IndexedHeap;
use crate::balance::random::Random;

/// With equal weights a round in the order of the list; who cannot be chosen is passed over.
///
/// Otherwise each server has a date for its next turn, and the earliest is next; a turn moves it on by the inverse of the weight. A server
/// that could not be chosen for a while comes in at the present date: it does not catch up.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    /// Where the round goes on.
    cursor: u32,
    /// Everyone's date, those who cannot be chosen too.
    dates: Vec<u64>,
    turns: IndexedHeap<u64>,
    /// The last date that was chosen.
    present: u64,
}

/// A turn of weight 1.
const TURN: u64 = 1 << 32;

/// Dates begin anew here, long before they overflow.
const LAST: u64 = 1 << 62;

impl Scheduler for RoundRobin {
    fn choose(&mut self, view: View<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        if view.uniform {
            let mut server = view.among.next_from(self.cursor)?;
            if wish.except == Some(server) {
                server = view.among.next_from(server + 1)?;
                if wish.except == Some(server) {
                    return None;
                }
            }
            self.cursor = server + 1;
            return Some(server);
        }
        let (date, server) = match wish.except {
            Some(server) => self.turns.first_except(server)?,
            None => self.turns.first()?,
        };
        self.present = self.present.max(date);
        if date > LAST {
            self.reset(view);
        }
        let next = self.dates[server as usize] + TURN / u64::from(view.loads[server as usize].weight.max(1));
        self.dates[server as usize] = next;
        self.turns.set(server, next);
        Some(server)
    }

    fn enter(&mut self, server: u32, view: View<'_>) {
        if view.uniform {
            return;
        }
        if self.dates.len() <= server as usize {
            self.dates.resize(server as usize + 1, self.present);
        }
        let date = &mut self.dates[server as usize];
        *date = (*date).max(self.present);
        self.turns.set(server, *date);
    }

    fn leave(&mut self, server: u32) {
        self.turns.remove(server);
    }

    fn reset(&mut self, view: View<'_>) {
        self.turns.clear();
        self.dates.clear();
        self.present = 0;
        // In the order of the round so far, and not all at the same time, so that a heavy server is not late.
        for server in view.among.iter() {
            self.enter(server, view);
        }
    }
}
