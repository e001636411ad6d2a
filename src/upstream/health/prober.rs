//! One thread that decides when servers are probed. The probe itself is made by one of the server's
//! own workers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Hub;
use crate::observe::held::{self, HeldFile, HeldServer};
use crate::threads::{self, Kind};

use crate::upstream::clusters::Clusters;

use super::watch;

/// A look more often than this, or more rarely, is of no use.
const PERIOD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// A cluster whose look has panicked is looked at again so soon.
const AFTER_PANIC: Duration = Duration::from_millis(50);

/// What could not be written is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// The thread.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prober {
    /// Starts it. It also keeps the state file true.
    pub fn start(
        clusters: Arc<Clusters>,
        hub: &Hub,
        state: Option<PathBuf>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut memory = state.map(Memory::new);
        let thread = threads::tend(Kind::Prober, "prober".to_owned(), move || {
            while !stopped.load(Ordering::Relaxed) {
                Point::ProberLook.pass();
                let now = Instant::now();
                let mut next = after(now, PERIOD.1);
                for controller in clusters.all() {
                    // One that panics each time holds up no other.
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
                if let Some(memory) = &mut memory {
                    memory.keep(&clusters, now);
                }
                // However often somebody asks for another look.
                std::thread::sleep(PERIOD.0);
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
            if let Some(memory) = &mut memory {
                memory.again = None;
                memory.keep(&clusters, Instant::now());
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

/// The state file, and what was written there last.
#[derive(Debug)]
struct Memory {
    path: PathBuf,
    written: Option<Vec<HeldServer>>,
    /// After a failure it is not tried again before.
    again: Option<Instant>,
}

impl Memory {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            written: None,
            again: None,
        }
    }

    /// Writes down who is kept out of use, if that is not what was written last.
    fn keep(&mut self, clusters: &Clusters, now: Instant) {
        let clusters = clusters.all();
        let held = clusters
            .iter()
            .flat_map(|cluster| cluster.held())
            .collect::<Vec<_>>();
        let mut is_asked = false;
        for cluster in &clusters {
            is_asked |= cluster.take_remember();
        }
        // When it was, is known to the second only, and not always rounded alike.
        let is_like = |written: &Vec<HeldServer>| {
            written.len() == held.len()
                && written
                    .iter()
                    .zip(&held)
                    .all(|(one, other)| one.is_like(other))
        };
        let is_known = !is_asked && self.written.as_ref().is_some_and(is_like);
        if is_known || self.again.is_some_and(|again| now < again) {
            return;
        }
        match self.write(&held) {
            Ok(()) => (self.written, self.again) = (Some(held), None),
            Err(error) => {
                if self.again.is_none() {
                    log::error!("servers kept offline are not remembered: {error}");
                }
                (self.written, self.again) = (None, Some(after(now, AGAIN)));
            }
        }
    }

    fn write(&self, held: &[HeldServer]) -> std::io::Result<()> {
        if held.is_empty() && !self.path.exists() {
            return Ok(());
        }
        let change = |file: &mut HeldFile| {
            // Whom somebody has released meanwhile is still held until the next SIGHUP. What was
            // released before it fell again is not.
            file.released
                .retain(|released| held.iter().any(|held| released.is_of(held)));
            file.held = held.to_vec();
            file.held
                .retain(|held| !file.released.iter().any(|released| released.is_of(held)));
        };
        // One that is damaged is out of the way then, and written anew.
        match held::update(&self.path, change) {
            Err(error) if !self.path.exists() => {
                log::error!("{error}");
                held::update(&self.path, change)
            }
            outcome => outcome,
        }
    }
}
