//! Consistent hashing by jumps (Lamping and Veach). It needs no memory besides a list of the
//! servers in use, each as often as its weight asks for. It is best where servers come and go at
//! the end of the list: a server that leaves from the middle moves other keys too.

use super::{Candidates, Scheduler, Wish, others, within_bound};
use crate::balance::random::{Random, mix};

/// The most places in the list.
const PLACES: u64 = 4096;

/// How often a key is sent on before the least loaded server takes it.
const JUMPS: u64 = 16;

#[derive(Debug)]
pub(super) struct Jump {
    /// The most load in relation to the average, in percent.
    balance: u32,
    places: Vec<u32>,
}

impl Jump {
    pub(super) fn new(balance: u32) -> Self {
        Self {
            balance: balance.max(100),
            places: Vec::new(),
        }
    }
}

/// Returns one of `places` places for this key. When there are more places, as few keys as possible
/// move.
fn jump(mut key: u64, places: u64) -> u64 {
    let (mut place, mut next) = (0, 0);
    while next < places {
        place = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((place + 1) as f64 * ((1u64 << 31) as f64 / ((key >> 33) + 1) as f64)) as u64;
    }
    place
}

impl Scheduler for Jump {
    fn choose(&mut self, candidates: Candidates<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let sums = candidates.sums;
        let may = |server: &u32| candidates.among.contains(*server) && Some(*server) != wish.except;
        if !self.places.is_empty() {
            let jumps = (0..JUMPS).map(|turn| {
                let place = jump(
                    mix(wish.key.wrapping_add(turn.wrapping_mul(0x9e37_79b9))),
                    self.places.len() as u64,
                );
                self.places[place as usize]
            });
            let found = jumps
                .filter(may)
                .find(|server| within_bound(candidates, *server, self.balance, sums));
            if found.is_some() {
                return found;
            }
        }
        others(candidates, wish).min_by_key(|server| candidates.loads[*server as usize].pressure())
    }

    fn changed(&mut self, candidates: Candidates<'_>) {
        self.places.clear();
        let weight = |server: u32| u64::from(candidates.loads[server as usize].weight.max(1));
        // The list is as short as the weights' ratio allows: a weight of 1 is one place, not one
        // thousand.
        let least = candidates.in_use.iter().map(weight).min().unwrap_or(1);
        let total: u64 = candidates.in_use.iter().map(weight).sum();
        let uniform = total == least * candidates.in_use.len() as u64;
        let unit = if uniform {
            least
        } else {
            (total / PLACES).max(1).max(least / 16)
        };
        for server in candidates.in_use.iter() {
            let places = (weight(server) / unit).max(1);
            self.places.extend((0..places).map(|_| server));
        }
    }
}
