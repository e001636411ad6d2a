//! Clusters that the configuration does not have any more. They serve what was admitted to them,
//! and go when nothing is left of that.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::exchange::Promise;
use crate::upstream::{Clusters, Controller};

/// Clusters on their way out.
#[derive(Debug, Default)]
pub(super) struct Retired(Mutex<Vec<Leaving>>);

#[derive(Debug)]
struct Leaving {
    number: usize,
    cluster: Arc<Controller>,
    /// Tables that lead there, as long as requests are on the way that were admitted by them.
    tables: Vec<Weak<Promise>>,
    is_closing: bool,
}

impl Retired {
    /// No request is admitted to this cluster any more; those that were, were by one of these
    /// tables.
    pub(super) fn add(&self, number: usize, cluster: &Arc<Controller>, tables: &[Weak<Promise>]) {
        self.0.lock().push(Leaving {
            number,
            cluster: Arc::clone(cluster),
            tables: tables.to_vec(),
            is_closing: false,
        });
    }

    /// To be called every second.
    pub(super) fn look(&self, clusters: &Clusters) {
        self.0.lock().retain_mut(|leaving| {
            // First, whether anything can still come there: what has come is counted from then on.
            let is_unknown = leaving.tables.iter().all(|table| table.strong_count() == 0);
            let counts = leaving.cluster.cluster().counts();
            let is_idle = counts.queued + counts.resting + counts.serving == 0;
            if !leaving.is_closing && is_unknown && is_idle {
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
