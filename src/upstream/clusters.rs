//! All clusters, by number. Numbers are given once, so that a request in progress never finds
//! another cluster than its own.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::Cluster;

/// All clusters that run.
#[derive(Debug, Default)]
pub struct Clusters {
    by_number: ArcSwap<Vec<Option<Arc<Cluster>>>>,
    changing: Mutex<()>,
}

impl Clusters {
    /// Adds a cluster; answers its number.
    pub fn add(&self, cluster: Arc<Cluster>) -> usize {
        let _one_after_the_other = self.changing.lock();
        let mut all = Vec::clone(&self.by_number.load());
        all.push(Some(cluster));
        let number = all.len() - 1;
        self.by_number.store(Arc::new(all));
        number
    }

    /// Takes a cluster out. Its number leads nowhere from now on.
    pub fn remove(&self, number: usize) {
        let _one_after_the_other = self.changing.lock();
        let mut all = Vec::clone(&self.by_number.load());
        if let Some(cluster) = all.get_mut(number) {
            *cluster = None;
        }
        self.by_number.store(Arc::new(all));
    }

    /// Does something with the cluster of this number, if it is there.
    pub fn with<T>(&self, number: usize, act: impl FnOnce(&Arc<Cluster>) -> T) -> Option<T> {
        self.by_number
            .load()
            .get(number)
            .and_then(Option::as_ref)
            .map(act)
    }

    /// All that are there.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        self.by_number.load().iter().flatten().cloned().collect()
    }
}
