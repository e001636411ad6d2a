//! Clusters that the configuration does not have any more. They serve what was admitted to them, and go when nothing is left of that.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::pipeline::Table;
use crate::upstream::{Cluster, Clusters};

/// A thread that has just admitted a request submits it within this time, however busy the machine is.
const MARGIN: Duration = Duration::from_secs(2);

/// Clusters on their way out.
#[derive(Debug, Default)]
pub(super) struct Retired(Mutex<Vec<Leaving>>);

#[derive(Debug)]
struct Leaving {
    number: usize,
    cluster: Arc<Cluster>,
    since: Instant,
    /// Tables that lead there, as long as requests are read that were admitted by them.
    tables: Vec<Weak<Table>>,
    is_closing: bool,
}

impl Retired {
    /// No request is admitted to this cluster any more; those that were, were by one of these tables.
    pub(super) fn add(&self, number: usize, cluster: &Arc<Cluster>, tables: &[Weak<Table>]) {
        self.0.lock().push(Leaving {
            number,
            cluster: Arc::clone(cluster),
            since: Instant::now(),
            tables: tables.to_vec(),
            is_closing: false,
        });
    }

    /// To be called every second.
    pub(super) fn look(&self, clusters: &Clusters) {
        self.0.lock().retain_mut(|leaving| {
            let counts = leaving.cluster.counts();
            let is_idle = counts.queued + counts.resting + counts.serving == 0;
            let is_unknown = leaving.tables.iter().all(|table| table.strong_count() == 0);
            if !leaving.is_closing && is_idle && is_unknown && leaving.since.elapsed() >= MARGIN {
                leaving.is_closing = true;
                leaving.cluster.close();
            }
            let is_gone = leaving.is_closing && leaving.cluster.is_gone();
            if is_gone {
                clusters.remove(leaving.number);
                log::info!("cluster {} is gone", leaving.cluster.name());
            }
            !is_gone
        });
    }
}
