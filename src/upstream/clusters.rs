//! All clusters, by number. A number is given once, so that a request in progress never finds
//! another cluster than its own.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::cluster::Cluster;
use super::control::Controller;

/// All clusters that run.
#[derive(Debug, Default)]
pub struct Clusters {
    by_number: ArcSwap<Vec<Option<Running>>>,
    changing: Mutex<()>,
}

/// A cluster, as the data path sees it and as changes do.
#[derive(Clone, Debug)]
struct Running {
    cluster: Arc<Cluster>,
    controller: Arc<Controller>,
}

impl Clusters {
    /// Adds a cluster. Returns its number.
    pub fn add(&self, controller: Arc<Controller>) -> usize {
        let _guard = self.changing.lock(); // One after the other.
        let mut all = Vec::clone(&self.by_number.load());
        all.push(Some(Running {
            cluster: Arc::clone(controller.cluster()),
            controller,
        }));
        let number = all.len() - 1;
        self.by_number.store(Arc::new(all));
        number
    }

    /// Takes a cluster out. Its number leads nowhere from now on.
    pub fn remove(&self, number: usize) {
        let _guard = self.changing.lock(); // One after the other.
        let mut all = Vec::clone(&self.by_number.load());
        if let Some(cluster) = all.get_mut(number) {
            *cluster = None;
        }
        self.by_number.store(Arc::new(all));
    }

    /// Does something with the cluster of this number, if it is there.
    pub fn with<T>(&self, number: usize, act: impl FnOnce(&Cluster) -> T) -> Option<T> {
        self.by_number
            .load()
            .get(number)
            .and_then(Option::as_ref)
            .map(|running| act(&running.cluster))
    }

    /// The controllers of all clusters that are there.
    pub fn all(&self) -> Vec<Arc<Controller>> {
        let all = self.by_number.load();
        all.iter()
            .flatten()
            .map(|running| Arc::clone(&running.controller))
            .collect()
    }
}
