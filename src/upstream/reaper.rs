//! The reaper: one thread that looks after what is due in every cluster.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Hub;
use crate::threads::{self, Kind};

use super::cluster::LONGEST_PERIOD;
use super::clusters::Clusters;

/// The shortest and the longest time between two looks.
const PERIOD: (Duration, Duration) = (Duration::from_millis(2), LONGEST_PERIOD);

/// A cluster whose look has panicked is looked at again so soon.
const AFTER_PANIC: Duration = Duration::from_millis(50);

/// The thread.
#[derive(Debug)]
pub struct Reaper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reaper {
    /// Starts it.
    pub fn start(clusters: Arc<Clusters>, hub: &Arc<Hub>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let shared = Arc::clone(hub);
        let thread = threads::tend(Kind::Reaper, "reaper".to_owned(), move || {
            while !stopped.load(Ordering::Relaxed) {
                Point::ReaperTick.pass();
                let now = Instant::now();
                let mut next = after(now, PERIOD.1);
                for controller in clusters.all() {
                    // A cluster whose look panics each time holds up no other.
                    let look = AssertUnwindSafe(|| {
                        Point::ClusterTick.pass();
                        controller.tick(now);
                        controller.cluster().next_tick(now)
                    });
                    next = next.min(catch_unwind(look).unwrap_or_else(|_| after(now, AFTER_PANIC)));
                }
                shared.answer_lost();
                let left = next.saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.max(PERIOD.0));
            }
        })?;
        // Before its first round, so that no cluster ever rings in vain.
        hub.reaper.set(thread.thread());
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join(); // It has ended either way.
    }
}
