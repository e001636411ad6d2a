//! Consistent hashing by rendezvous: each key ranks all servers, and goes to the first that may
//! have it. A server that goes or comes takes only its own keys with it.
//!
//! Keys fall into so many places, and a place remembers which server it ranks first among all that
//! are in use, so that the ranking is computed (linear in the servers) only after a change, and
//! when that server is full.

use super::{Scheduler, View, Wish, others, within_bound};
use crate::balance::random::{Random, mix};

const PLACES: usize = 1 << 14;

/// Not computed yet.
const UNKNOWN: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Rendezvous {
    /// Most load beside the average, in percent.
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

/// How much a place wants a server, beside others: -weight / ln(u), u even over 0..1 for each pair
/// (weighted rendezvous).
fn rank(place: u64, server: u32, weight: u32) -> f64 {
    let hash = mix(mix(place ^ 0x5bd1_e995) ^ (u64::from(server) << 32 | 0x27d4_eb2d));
    let even = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight.max(1)) / even.ln()
}

fn best(place: u64, view: View<'_>, servers: impl Iterator<Item = u32>) -> Option<u32> {
    servers
        .map(|server| {
            (
                rank(place, server, view.loads[server as usize].weight),
                server,
            )
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, server)| server)
}

impl Scheduler for Rendezvous {
    fn choose(&mut self, view: View<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let place = mix(wish.key) % PLACES as u64;
        let sums = view.sums;
        let first = &mut self.first[place as usize];
        if *first == UNKNOWN {
            *first = best(place, view, view.in_use.iter())?;
        }
        let first = *first;
        if view.among.contains(first)
            && Some(first) != wish.except
            && within_bound(view, first, self.balance, sums)
        {
            return Some(first);
        }
        let within =
            others(view, wish).filter(|server| within_bound(view, *server, self.balance, sums));
        best(place, view, within).or_else(|| best(place, view, others(view, wish)))
    }

    fn changed(&mut self, _: View<'_>) {
        self.first.fill(UNKNOWN);
    }
}
