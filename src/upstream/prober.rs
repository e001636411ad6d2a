//! One thread that decides when servers are probed. The probe itself is made by one of the server's own workers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::observe::held::{self, HeldFile, HeldServer, Released};
use crate::threads::{self, Kind};

use super::Clusters;

/// A look more often than this, or more rarely, is of no use.
const PERIOD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The thread.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Prober {
    /// Starts it. It also keeps the state file true.
    pub fn start(clusters: Arc<Clusters>, state: Option<PathBuf>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = threads::spawn(Kind::Prober, "prober".to_owned(), move || {
            let me = std::thread::current();
            while !stopped.load(Ordering::Relaxed) {
                let now = Instant::now();
                let mut next = now + PERIOD.1;
                for cluster in clusters.all() {
                    let _known_already = cluster.prober.set(me.clone());
                    if let Some(due) = cluster.look_after_health(now) {
                        next = next.min(due);
                    }
                }
                save(&clusters, state.as_ref());
                let left = next.saturating_duration_since(Instant::now());
                std::thread::park_timeout(left.max(PERIOD.0));
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ended_either_way = self.thread.join();
    }
}

/// Writes down who is kept out of use, if that has changed.
fn save(clusters: &Clusters, path: Option<&PathBuf>) {
    let mut changed = false;
    for cluster in clusters.all() {
        changed |= cluster.take_holds_changed();
    }
    let Some(path) = path.filter(|_| changed) else { return };
    let all = clusters.all();
    let held = all.iter().flat_map(|cluster| cluster.held()).collect::<Vec<_>>();
    let is_same =
        |held: &HeldServer, released: &Released| (&held.cluster, &held.server) == (&released.cluster, &released.server);
    let change = |file: &mut HeldFile| {
        // Whom somebody has released meanwhile is still held until the next SIGHUP.
        file.released
            .retain(|released| held.iter().any(|held| is_same(held, released)));
        file.held.clone_from(&held);
        file.held
            .retain(|held| !file.released.iter().any(|released| is_same(held, released)));
    };
    // One that is damaged is out of the way then, and written anew.
    for _ in 0..2 {
        match held::update(path, change) {
            Ok(()) => return,
            Err(error) => log::error!("servers kept offline are not remembered: {error}"),
        }
        if path.exists() {
            return;
        }
    }
}
