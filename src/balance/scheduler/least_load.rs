//! Chooses the server with the fewest jobs for its weight. Where several have the same, the one
//! whose turn it is.

use super::turns::{Score, Turns};
use super::{Candidates, Scheduler, Wish};
use crate::balance::heap::IndexedHeap;
use crate::balance::random::Random;

/// Chooses by the lowest score.
///
/// With each choice the scores of many servers grow by the same amount: those of servers that are
/// late for their turns, and of those that are early by a turn or more. These scores are kept
/// without that amount, so that a choice does not update them. With each turn a server crosses from
/// early to late at most once. So a choice costs log n on average, however many servers are late or
/// early.
#[derive(Debug, Default)]
pub(super) struct LeastLoad {
    turns: Turns,
    /// Choosable servers, late or early, by scores that grow, less the present.
    growing: IndexedHeap<(i64, i64)>,
    /// The other choosable servers, by scores that stay. Servers that have become late since may
    /// still be here; their scores here are too low, never too high.
    staying: IndexedHeap<(i64, i64)>,
    /// The early servers, by when they stop being early.
    early: IndexedHeap<i64>,
    /// The server that was chosen last, until its score is updated. That comes with its next job,
    /// usually at once.
    taken: Option<u32>,
}

impl LeastLoad {
    /// Returns the server with the lowest score.
    fn first(&mut self, candidates: Candidates<'_>, except: Option<u32>) -> Option<u32> {
        if let Some(taken) = self.taken {
            self.enter(taken, candidates);
        }
        let present = self.turns.present();
        while let Some((_, server)) = self.early.first().filter(|(until, _)| *until < present) {
            self.enter(server, candidates);
        }
        let least = |heap: &IndexedHeap<(i64, i64)>| match except {
            Some(server) => heap.first_except(server),
            None => heap.first(),
        };
        loop {
            let growing = least(&self.growing)
                .map(|((score, date), server)| ((score.saturating_add(present), date), server));
            let Some(staying) = least(&self.staying) else {
                return growing.map(|(_, server)| server);
            };
            match growing {
                Some(growing) if growing < staying => return Some(growing.1),
                _ if self.turns.is_late(staying.1) => self.enter(staying.1, candidates),
                _ => return Some(staying.1),
            }
        }
    }
}

impl Scheduler for LeastLoad {
    fn choose(&mut self, candidates: Candidates<'_>, wish: Wish, _: &mut Random) -> Option<u32> {
        let server = self.first(candidates, wish.except)?;
        self.turns.take(server);
        if self.turns.rebase() {
            candidates
                .among
                .iter()
                .for_each(|server| self.enter(server, candidates));
        } else {
            self.taken = Some(server);
        }
        Some(server)
    }

    fn enter(&mut self, server: u32, candidates: Candidates<'_>) {
        if self.taken == Some(server) {
            self.taken = None;
        }
        let (score, early_until) = self.turns.score_apart(server, candidates.jobs(server));
        match score {
            Score::Growing(score) => {
                self.staying.remove(server);
                self.growing.set(server, score);
            }
            Score::Staying(score) => {
                self.growing.remove(server);
                self.staying.set(server, score);
            }
        }
        match early_until {
            Some(until) => self.early.set(server, until),
            None => self.early.remove(server),
        }
    }

    fn leave(&mut self, server: u32) {
        if self.taken == Some(server) {
            self.taken = None;
        }
        self.growing.remove(server);
        self.staying.remove(server);
        self.early.remove(server);
    }

    fn weigh(&mut self, server: u32, candidates: Candidates<'_>) {
        self.turns.weigh(server, candidates.weight(server));
    }

    fn forget(&mut self, server: u32) {
        self.turns.forget(server);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::super::Load;
    use super::*;
    use crate::balance::bits::Bits;

    #[derive(Clone, Debug)]
    enum Step {
        /// The server to avoid, and whether the job comes about.
        Choose(Option<u32>, bool),
        End(u32),
        Weigh(u32, u32),
        Leave(u32),
        Enter(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let server = 0u32..8;
        prop_oneof![
            6 => (prop::option::weighted(0.2, server.clone()), prop::bool::weighted(0.9))
                .prop_map(|(except, comes_about)| Step::Choose(except, comes_about)),
            4 => server.clone().prop_map(Step::End),
            1 => (server.clone(), 1u32..2000)
                .prop_map(|(server, weight)| Step::Weigh(server, weight)),
            1 => server.clone().prop_map(Step::Leave),
            1 => server.prop_map(Step::Enter),
        ]
    }

    proptest! {
        /// The choice is the server with the least score of all, searched one by one.
        #[test]
        fn the_least_score_is_chosen(
            steps in prop::collection::vec(step(), 1..300),
            weights in prop::collection::vec(1u32..2000, 8),
            moved: bool,
        ) {
            let mut scheduler = LeastLoad::default();
            let mut loads = vec![Load::default(); 8];
            let (mut among, mut in_use) = (Bits::default(), Bits::default());
            for (load, weight) in loads.iter_mut().zip(weights) {
                load.weight = weight;
            }
            for server in 0..8 {
                in_use.set(server, true);
                among.set(server, true);
            }
            macro_rules! candidates {
                () => {
                    Candidates { among: &among, in_use: &in_use, loads: &loads, sums: (0, 0) }
                };
            }
            for server in 0..8 {
                scheduler.weigh(server, candidates!());
                if moved && server == 7 {
                    scheduler.turns.move_on(1 << 40);
                }
            }
            for server in 0..8 {
                scheduler.enter(server, candidates!());
            }
            let (now, mut random) = (Instant::now(), Random::new(1));
            for step in steps {
                match step {
                    Step::Choose(except, comes_about) => {
                        let expected = among
                            .iter()
                            .filter(|server| Some(*server) != except)
                            .min_by_key(|server| {
                                let jobs = loads[*server as usize].jobs();
                                (scheduler.turns.score(*server, jobs), *server)
                            });
                        let wish = Wish { except, key: 0, now };
                        let chosen = scheduler.choose(candidates!(), wish, &mut random);
                        prop_assert_eq!(chosen, expected);
                        let Some(server) = chosen else { continue };
                        if comes_about {
                            loads[server as usize].running += 1;
                            scheduler.enter(server, candidates!());
                        }
                    }
                    Step::End(server) => {
                        let load = &mut loads[server as usize];
                        load.running = load.running.saturating_sub(1);
                        if among.contains(server) {
                            scheduler.enter(server, candidates!());
                        }
                    }
                    Step::Weigh(server, weight) => {
                        loads[server as usize].weight = weight;
                        scheduler.weigh(server, candidates!());
                        if among.contains(server) {
                            scheduler.enter(server, candidates!());
                        }
                    }
                    Step::Leave(server) => {
                        among.set(server, false);
                        scheduler.leave(server);
                    }
                    Step::Enter(server) => {
                        among.set(server, true);
                        scheduler.enter(server, candidates!());
                    }
                }
            }
        }
    }
}
