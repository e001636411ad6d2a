//! Random work, faults and changes on a virtual clock. A failing seed is printed; `JUGGLER_SEED=…`
//! runs that seed alone.

mod exact;
mod model;
mod shadow;
mod shares;
mod whole;

/// Random numbers for a simulation.
struct Random(super::random::Random);

impl Random {
    fn new(seed: u64) -> Self {
        Self(super::random::Random::new(seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
    }

    fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Runs a simulation for many seeds, or for the one in `JUGGLER_SEED`.
fn for_each_seed(seeds: u64, mut simulate: impl FnMut(u64)) {
    match std::env::var("JUGGLER_SEED") {
        Ok(seed) => simulate(seed.parse().expect("JUGGLER_SEED is a number")),
        Err(_) => (0..seeds).for_each(simulate),
    }
}

/// Prints the seed if dropped in a panic.
struct PrintedOnPanic(u64);

impl Drop for PrintedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was JUGGLER_SEED={}", self.0);
        }
    }
}
