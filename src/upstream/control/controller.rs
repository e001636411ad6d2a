//! The controller of a cluster.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::Guard;
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::balance::{ServerId, WorkerId};
use crate::plan;
use crate::upstream::cluster::Cluster;
use crate::upstream::server::Server;

use super::roster::Roster;

/// The controller of a cluster: the one that changes it.
#[derive(Debug)]
pub struct Controller {
    pub(super) cluster: Arc<Cluster>,
    /// Held while something is changed. The control lock is taken before the dispatcher's lock and
    /// before those of health monitors.
    roster: Mutex<Roster>,
    /// Workers and other threads of the cluster get a share of the controller from here.
    pub(super) own: Weak<Self>,
    first_tries: FirstTries,
    /// Worker threads that have not ended.
    pub(super) alive: AtomicUsize,
    pub(super) is_closed: AtomicBool,
    is_to_remember: AtomicBool,
}

/// The first attempts to connect, which a start waits for.
#[derive(Debug)]
struct FirstTries {
    left: Mutex<usize>,
    one_is_over: Condvar,
}

impl Controller {
    /// A controller of a cluster that has neither servers nor workers yet, and that will have so
    /// many workers at its start.
    pub(super) fn new(cluster: Cluster, roster: Roster, workers: usize) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            cluster: Arc::new(cluster),
            roster: Mutex::new(roster),
            own: Weak::clone(own),
            first_tries: FirstTries {
                left: Mutex::new(workers),
                one_is_over: Condvar::new(),
            },
            alive: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            is_to_remember: AtomicBool::new(false),
        })
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        self.cluster.name()
    }

    /// The cluster, as sessions and workers see it.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The cluster's settings.
    pub fn plan(&self) -> Guard<Arc<plan::Cluster>> {
        self.cluster.plan()
    }

    /// Returns whether the cluster is closed and no worker is left.
    pub fn is_gone(&self) -> bool {
        self.is_closed() && self.alive.load(Ordering::Acquire) == 0
    }

    /// Has the prober write down which servers are kept out of use, whether that has changed or
    /// not.
    pub fn remember(&self) {
        self.is_to_remember.store(true, Ordering::Release);
        self.hurry_prober();
    }

    /// Returns whether [`Self::remember`] was called since this was asked last.
    pub(in crate::upstream) fn take_remember(&self) -> bool {
        self.is_to_remember.swap(false, Ordering::AcqRel)
    }

    /// Wakes the prober: a probe may be due before its next look.
    pub(super) fn hurry_prober(&self) {
        self.cluster.hub.prober.ring();
    }

    /// Takes the control lock.
    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock()
    }

    /// Takes the control lock if it is free.
    pub(super) fn try_roster(&self) -> Option<MutexGuard<'_, Roster>> {
        self.roster.try_lock()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// The servers of which `is_wanted`.
    pub(in crate::upstream) fn servers(
        &self,
        is_wanted: impl Fn(&Server) -> bool,
    ) -> Vec<Arc<Server>> {
        let roster = self.roster();
        let wanted = roster.servers().filter(|server| is_wanted(server));
        wanted.cloned().collect()
    }

    /// The numbers of a server's workers.
    pub(in crate::upstream) fn workers_of(&self, server: ServerId) -> Vec<WorkerId> {
        self.roster().workers_of(server)
    }

    /// Has the workers of a server that wait look after their connections now, or try again to
    /// connect.
    pub(super) fn wake_workers(&self, server: ServerId) {
        for worker in self.workers_of(server) {
            if let Some(slot) = self.cluster.slot(worker) {
                slot.wake();
            }
        }
    }

    /// The first attempt of a worker to connect is over.
    pub(super) fn note_first_try(&self) {
        let mut left = self.first_tries.left.lock();
        *left = left.saturating_sub(1);
        self.first_tries.one_is_over.notify_all();
    }

    /// Waits until every worker has tried to connect once, at most `until` then. Returns whether
    /// all have.
    pub(super) fn wait_for_first_tries(&self, until: Instant) -> bool {
        let mut left = self.first_tries.left.lock();
        while *left > 0 {
            let waited = self.first_tries.one_is_over.wait_until(&mut left, until);
            if waited.timed_out() {
                return false;
            }
        }
        true
    }
}
