//! Consistent hashing by rendezvous. Each key ranks all servers, and goes to the first that may
//! have it. A server that comes or goes takes only its own keys with it.
//!
//! Keys fall into a fixed number of places, and a place remembers which server it ranks first among
//! all that are in use. So the ranking (linear in the servers) is computed only after a change, and
//! when that server is full.

use super::{Candidates, Scheduler, Wish, others, within_bound};
use crate::balance::random::{Random, mix};

const PLACES: usize = 1 << 14;

/// Not computed yet.
const UNKNOWN: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Rendezvous {
    /// The most load in relation to the average, in percent.
    balance: u32,
    first: Vec<u32>,
}

impl Rendezvous {
    pub(super) fn new(balance: u32) -> Self {
        Self {
            balance: balance.max(100),
            first: vec![UNKNOWN; PLACES],
        }
    }
}

/// Returns how a place ranks a server: -weight / ln(u), with u even over 0..1 for each pair
/// (weighted rendezvous).
fn rank(place: u64, server: u32, weight: u32) -> f64 {
    let hash = mix(mix(place ^ 0x5bd1_e995) ^ (u64::from(server) << 32 | 0x27d4_eb2d));
    let even = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight.max(1)) / even.ln()
}

fn best(place: u64, candidates: Candidates<'_>, servers: impl Iterator<Item = u32>) -> Option<u32> {
    servers
        .map(|server| {
            (
                rank(place, server, candidates.loads[server as usize].weight),
                server,
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, server)| server)
}

impl Scheduler for Rendezvous {
    fn choose(&mut self, candidates: Candidates<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let place = mix(wish.key) % PLACES as u64;
        let sums = candidates.sums;
        let first = &mut self.first[place as usize];
        if *first == UNKNOWN {
            *first = best(place, candidates, candidates.in_use.iter())?;
        }
        let first = *first;
        if candidates.among.contains(first)
            && Some(first) != wish.except
            && within_bound(candidates, first, self.balance, sums)
        {
            return Some(first);
        }
        let within = others(candidates, wish)
            .filter(|server| within_bound(candidates, *server, self.balance, sums));
        best(place, candidates, within)
            .or_else(|| best(place, candidates, others(candidates, wish)))
    }

    fn changed(&mut self, _: Candidates<'_>) {
        self.first.fill(UNKNOWN);
    }
}
