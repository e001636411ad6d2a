//! The prober: one thread that decides when servers are probed, and has the state file kept true.
//! The probes themselves are made by workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Hub;
use crate::state::Keeper;
use crate::state::held::HeldServer;
use crate::threads::{self, Kind};
use crate::upstream::clusters::Clusters;

use super::watch;

/// The shortest and the longest time between two looks.
const PERIOD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// A cluster whose look has panicked is looked at again so soon.
const AFTER_PANIC: Duration = Duration::from_millis(50);

/// The thread.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prober {
    /// Starts it. The servers that are kept out of use are written down by `keeper`.
    pub fn start(
        clusters: Arc<Clusters>,
        hub: &Hub,
        mut keeper: Option<Keeper>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = threads::tend(Kind::Prober, "prober".to_owned(), move || {
            while !stopped.load(Ordering::Relaxed) {
                Point::ProberLook.pass();
                let now = Instant::now();
                let next = look(&clusters, now);
                if let Some(keeper) = &mut keeper {
                    let (held, is_asked) = held(&clusters);
                    keeper.keep(held, is_asked, now);
                }
                // Not parked, so that no cluster can ask for looks more often than this.
                std::thread::sleep(PERIOD.0);
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
            if let Some(keeper) = keeper.take() {
                let (held, is_asked) = held(&clusters);
                keeper.keep_finally(held, is_asked, Instant::now());
            }
        })?;
        // Before its first round, so that no cluster ever rings in vain.
        hub.prober.set(thread.thread());
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join(); // It has ended either way.
    }
}

/// Looks after the health of all clusters. Returns when to look again.
fn look(clusters: &Clusters, now: Instant) -> Instant {
    let mut next = after(now, PERIOD.1);
    for controller in clusters.all() {
        // A cluster whose look panics each time holds up no other.
        let look = AssertUnwindSafe(|| {
            Point::ClusterLook.pass();
            watch::look_after(&controller, now)
        });
        match catch_unwind(look) {
            Ok(due) => next = due.map_or(next, |due| next.min(due)),
            Err(_) => {
                controller.cluster().hub.answer_lost();
                next = next.min(after(now, AFTER_PANIC));
            }
        }
    }
    next
}

/// The servers of all clusters that are kept out of use, and whether they are to be written down
/// whether they have changed or not.
fn held(clusters: &Clusters) -> (Vec<HeldServer>, bool) {
    let (mut held, mut is_asked) = (Vec::new(), false);
    for controller in clusters.all() {
        held.extend(controller.held());
        is_asked |= controller.take_remember();
    }
    (held, is_asked)
}
