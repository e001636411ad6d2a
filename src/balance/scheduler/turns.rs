//! Whose turn it is, by weight.
//!
//! Each server in use has a *date* for its next turn. A turn lasts the inverse of the server's
//! weight, so that servers that are chosen by date alone have their shares, evenly spread. The
//! *present* is where the dates of a server that has exactly its share lie on average.
//!
//! A place between two turns is kept as a part of a turn through every change:
//!
//! * A new weight shortens or lengthens only what is left until the next turn. A server that warms
//!   up comes nearer to its next turn with each request, the faster the warmer it is.
//! * While a server is out of use, what is left stays as it is. The server neither gains nor loses.
//! * A new server has half a turn left.
//!
//! A server may be early or late by [`MEMORY`] turns of its own. That much is made up for when its
//! connections are free again.

/// The length of a turn of weight 1.
const TURN: i64 = 1 << 44;

/// How many of its turns a server may be early or late. (Simulated: with less, servers that are
/// full now and then do not get their share; with more, one that was full for long gets many
/// requests at once.)
const MEMORY: i64 = 4;

/// All dates are moved back when the present reaches this value, long before they overflow.
const LAST: i64 = 1 << 60;

/// The inverse of a weight, in whole numbers whose sums are exact.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    weight: i64,
    whole: i64,
    /// The remainder of [`TURN`] for each step, and how much of the remainders has not been given
    /// out.
    part: i64,
    carried: i64,
}

impl Step {
    fn new(weight: i64) -> Self {
        let per = weight.max(1);
        Self {
            weight,
            whole: TURN / per,
            part: TURN % per,
            carried: 0,
        }
    }

    fn next(&mut self) -> i64 {
        self.carried += self.part;
        if self.carried < self.weight {
            return self.whole;
        }
        self.carried -= self.weight;
        self.whole + 1
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// The date; of a server out of use, the time from the present to it.
    date: i64,
    /// The length of a turn. Its weight is 0 while the server is unknown.
    step: Step,
    in_use: bool,
}

/// A score, by how it develops until something about the server changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Score {
    /// The score is this plus the present, and grows with the present.
    Growing((i64, i64)),
    /// The score is this and stays.
    Staying((i64, i64)),
}

/// The turns of the servers of one role.
#[derive(Debug, Default)]
pub(super) struct Turns {
    servers: Vec<Turn>,
    present: i64,
    /// How far the present moves with each choice: the inverse of all weights in use.
    step: Step,
}

impl Turns {
    /// Sets a server's weight; with `None` it goes out of use.
    pub(super) fn weigh(&mut self, server: u32, weight: Option<u32>) {
        let place = server as usize;
        if self.servers.len() <= place {
            self.servers.resize(place + 1, Turn::default());
        }
        let turn = &mut self.servers[place];
        let weight = weight.map(|weight| i64::from(weight.max(1)));
        if weight == turn.in_use.then_some(turn.step.weight) {
            return;
        }
        let old = turn.step;
        let left = match turn.in_use {
            true => turn.date - self.present,
            false => turn.date,
        };
        let mut weights = self.step.weight - if turn.in_use { old.weight } else { 0 };
        *turn = match weight {
            None => Turn {
                date: left,
                step: old,
                in_use: false,
            },
            Some(weight) => {
                weights += weight;
                let step = Step::new(weight);
                let left = match old.weight {
                    0 => step.whole / 2,
                    same if same == weight => left,
                    _ => {
                        let most = MEMORY * old.whole;
                        let part = i128::from(left.clamp(-most, most)) * i128::from(step.whole);
                        (part / i128::from(old.whole)) as i64
                    }
                };
                Turn {
                    date: self.present + left,
                    step,
                    in_use: true,
                }
            }
        };
        self.step = Step::new(weights);
    }

    /// Forgets the server that had this number.
    pub(super) fn forget(&mut self, server: u32) {
        self.weigh(server, None);
        self.servers[server as usize] = Turn::default();
    }

    /// Lets a server make up for nothing that it has missed.
    pub(super) fn forgive(&mut self, server: u32) {
        if let Some(turn) = self
            .servers
            .get_mut(server as usize)
            .filter(|turn| turn.in_use)
        {
            turn.date = turn.date.max(self.present);
        }
    }

    // === By date alone

    /// Returns the date of a server's next turn.
    pub(super) fn date(&self, server: u32) -> i64 {
        self.servers[server as usize].date
    }

    /// Takes a server's turn, the earliest of all that may be chosen. Returns the date of its next
    /// one.
    pub(super) fn take_first(&mut self, server: u32) -> i64 {
        let turn = &mut self.servers[server as usize];
        let late = turn.date.max(self.present - MEMORY * turn.step.whole);
        self.present = self.present.max(late);
        turn.date = late + turn.step.whole;
        turn.date
    }

    // === By load, and by date where that does not decide

    /// Returns the score, of which the least is first: the load for each unit of weight (the part
    /// of a turn that is left counts as a part of a job), then the date. The score only grows until
    /// something about the server changes.
    pub(super) fn score(&self, server: u32, jobs: u32) -> (i64, i64) {
        let Turn { date, step, .. } = self.servers[server as usize];
        // Less than a whole job, so that of two servers with the same weight the one with fewer
        // jobs is always first.
        let left = (date - self.present).clamp(0, step.whole - 1);
        let load = step.whole.saturating_mul(i64::from(jobs));
        (load.saturating_add(self.present + left), date)
    }

    /// Returns the score by how it develops. The second value is for a server that is early by a
    /// turn or more: once the present is past this value, the score stays. A score that stays
    /// begins to grow when the server is late.
    pub(super) fn score_apart(&self, server: u32, jobs: u32) -> (Score, Option<i64>) {
        let Turn { date, step, .. } = self.servers[server as usize];
        let load = step.whole.saturating_mul(i64::from(jobs));
        let most = step.whole - 1;
        match date - self.present {
            ..=0 => (Score::Growing((load, date)), None),
            left if left < most => (Score::Staying((load.saturating_add(date), date)), None),
            _ => (
                Score::Growing((load.saturating_add(most), date)),
                Some(date - most),
            ),
        }
    }

    pub(super) fn present(&self) -> i64 {
        self.present
    }

    /// Returns whether a server's date has come.
    pub(super) fn is_late(&self, server: u32) -> bool {
        self.servers[server as usize].date <= self.present
    }

    /// Takes a server's turn, which may be early.
    pub(super) fn take(&mut self, server: u32) {
        let turn = &mut self.servers[server as usize];
        let most = MEMORY * turn.step.whole;
        let late = turn.date.max(self.present - most);
        turn.date = (late + turn.step.next()).min(self.present + most);
        self.present += self.step.next();
    }

    /// Moves all dates back when the present is at its limit. Returns whether it did.
    pub(super) fn rebase(&mut self) -> bool {
        if self.present < LAST {
            return false;
        }
        for turn in self.servers.iter_mut().filter(|turn| turn.in_use) {
            turn.date = (turn.date - self.present).max(-MEMORY * turn.step.whole);
        }
        self.present = 0;
        true
    }
}

#[cfg(test)]
impl Turns {
    /// Moves the present to `before` below the value at which all dates are moved back.
    pub(super) fn move_on(&mut self, before: i64) {
        let by = LAST - before - self.present;
        self.present += by;
        for turn in self.servers.iter_mut().filter(|turn| turn.in_use) {
            turn.date += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes the turn of the next server, by date or by score, and returns the server.
    fn take(turns: &mut Turns, in_use: &[u32], by_score: bool) -> u32 {
        let key = |server: &&u32| match by_score {
            true => (turns.score(**server, 0), **server),
            false => ((0, turns.date(**server)), **server),
        };
        let first = *in_use.iter().min_by_key(key).expect("one is in use");
        if by_score {
            turns.take(first);
        } else {
            turns.take_first(first);
        }
        first
    }

    #[test]
    fn dates_are_moved_back_unnoticed() {
        for by_score in [false, true] {
            let weights = [5000, 1000, 300, 7];
            let mut turns = [Turns::default(), Turns::default()];
            for turns in &mut turns {
                (0..4).for_each(|server| turns.weigh(server, Some(weights[server as usize])));
                turns.weigh(3, None);
            }
            let [plain, late] = &mut turns;
            late.move_on(TURN / 100);
            let mut moved = 0;
            for _ in 0..10_000 {
                let both = [&mut *plain, &mut *late].map(|turns| take(turns, &[0, 1, 2], by_score));
                assert_eq!(both[0], both[1]);
                moved += usize::from(late.rebase());
            }
            assert_eq!(moved, 1);
            assert!(!plain.rebase());
            for turns in [plain, late] {
                turns.weigh(3, Some(weights[3]));
                let left = turns.date(3) - turns.present;
                assert_eq!(left, turns.servers[3].step.whole / 2);
            }
        }
    }

    proptest! {
        /// For any weights and changes, nothing overflows, what is left of a turn stays the same
        /// part of a turn, and each server has its share between two changes.
        #[test]
        fn places_are_kept(
            by_score: bool,
            changes in prop::collection::vec(
                (0u32..6, prop::option::weighted(0.8, 1u32..=1_000_000_000), 0usize..80),
                1..40,
            ),
        ) {
            let mut turns = Turns::default();
            let mut weights = [None; 6];
            let part = |turns: &Turns, server: u32| {
                let Turn { date, step, in_use } = turns.servers[server as usize];
                (date - if in_use { turns.present } else { 0 }) as f64 / step.whole as f64
            };
            for (server, weight, jobs) in changes {
                let places = |turns: &Turns| {
                    let is_known = |server: &u32| {
                        turns.servers[*server as usize].step.weight > 0
                    };
                    let known = (0..turns.servers.len() as u32).filter(is_known);
                    known.map(|server| (server, part(turns, server))).collect::<Vec<_>>()
                };
                let before = places(&turns);
                turns.weigh(server, weight);
                weights[server as usize] = weight;
                for (other, left) in before {
                    let now = part(&turns, other);
                    prop_assert!(
                        (left - now).abs() < 1e-3 || left.abs() > MEMORY as f64,
                        "{other}: {left} {now}"
                    );
                }
                let is_in_use = |server: &u32| weights[*server as usize].is_some();
                let in_use = (0..6).filter(is_in_use).collect::<Vec<_>>();
                if in_use.is_empty() {
                    continue;
                }
                let mut counts = [0.0; 6];
                for _ in 0..jobs {
                    counts[take(&mut turns, &in_use, by_score) as usize] += 1.0;
                }
                let weight = |server: u32| f64::from(weights[server as usize].unwrap_or_default());
                let all: f64 = in_use.iter().map(|server| weight(*server)).sum();
                for server in in_use {
                    let expected = jobs as f64 * weight(server) / all;
                    let most = MEMORY as f64 + 1.5 + expected;
                    prop_assert!(
                        counts[server as usize] <= expected + most,
                        "{server}: {counts:?} {expected}"
                    );
                }
            }
        }
    }
}
