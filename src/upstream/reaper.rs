//! One thread that looks after what is due in every cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::threads::{self, Kind};

use super::Cluster;

/// Looks more rarely or more often than this are of no use.
const PERIOD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The thread.
#[derive(Debug)]
pub struct Reaper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Reaper {
    /// Starts it.
    pub fn start(clusters: Vec<Arc<Cluster>>) -> std::io::Result<Self> {
        let shortest = clusters
            .iter()
            .map(|cluster| cluster.tick_period())
            .min()
            .unwrap_or(PERIOD.1);
        let period = shortest.clamp(PERIOD.0, PERIOD.1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = threads::spawn(Kind::Reaper, "reaper".to_owned(), move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(period);
                let now = Instant::now();
                clusters.iter().for_each(|cluster| cluster.tick(now));
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
