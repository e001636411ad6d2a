//! What all exchanges of the process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::alarm::Alarm;
use crate::base::buffers::BufferPool;
use crate::observe::access::AccessLog;
use crate::observe::account::Accounts;
use crate::observe::counters::Counters;

use super::courier::Couriers;
use super::lost::Lost;
use super::places::{Permit, Places};
use super::registry::Registry;
use super::spool::Spool;
use super::state::State;

/// Exchanges kept for the next requests.
const SPARE: usize = 1024;

/// What all exchanges of the process share.
#[derive(Debug)]
pub struct Hub {
    /// Memory for bodies in transit.
    pub buffers: Arc<BufferPool>,
    /// Files for what does not fit there.
    pub spool: Arc<Spool>,
    /// Counts of what is no exchange.
    pub counters: Counters,
    /// What exchanges come to: of the process, and of each cluster and server.
    pub accounts: Arc<Accounts>,
    /// The access log, when there is one.
    pub access: Option<AccessLog>,
    /// What delivers to slow clients.
    pub couriers: Couriers,
    /// All clients.
    pub clients: Registry,
    settings: HubSettings,
    places: Arc<Places>,
    resolve_ms: AtomicU64,
    leaving: AtomicBool,
    draining: AtomicBool,
    ids: AtomicU64,
    /// Last in, first out: what was used last is still in the processor's caches.
    #[allow(
        clippy::vec_box,
        reason = "they go from here into an exchange as they are"
    )]
    spare: Mutex<Vec<Box<State>>>,
    pub(super) lost: Lost,
    /// Wakes the thread that looks after deadlines.
    pub reaper: Alarm,
    /// Wakes the thread that decides when servers are probed.
    pub prober: Alarm,
    started: Instant,
}

/// What a hub is made with, besides its parts.
#[derive(Clone, Copy, Debug)]
pub struct HubSettings {
    /// Most requests at once.
    pub max_requests: usize,
    /// Most couriers at once.
    pub max_couriers: usize,
    /// Threads run as `SCHED_BATCH`.
    pub batch_scheduling: bool,
    /// How often names of servers are resolved again.
    pub resolve: Duration,
}

impl Hub {
    /// A hub of these parts.
    pub fn new(
        settings: HubSettings,
        buffers: Arc<BufferPool>,
        spool: Arc<Spool>,
        access: Option<AccessLog>,
    ) -> Arc<Self> {
        Arc::new(Self {
            buffers,
            spool,
            counters: Counters::default(),
            accounts: Arc::default(),
            access,
            couriers: Couriers::new(settings.max_couriers),
            clients: Registry::default(),
            places: Places::new(settings.max_requests),
            resolve_ms: AtomicU64::new(milliseconds(settings.resolve)),
            settings,
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            ids: AtomicU64::new(1),
            spare: Mutex::new(Vec::with_capacity(SPARE)),
            lost: Lost::default(),
            reaper: Alarm::default(),
            prober: Alarm::default(),
            started: Instant::now(),
        })
    }

    /// A place among the requests at once, if one is free.
    pub fn permit(&self) -> Option<Permit> {
        self.places.take()
    }

    /// From now on there may be so many requests at once, and names are resolved so often.
    pub fn adjust(&self, max_requests: usize, resolve: Duration) {
        self.places.set_most(max_requests);
        self.resolve_ms
            .store(milliseconds(resolve), Ordering::Relaxed);
    }

    /// How often names of servers are resolved again.
    pub fn resolve_interval(&self) -> Duration {
        Duration::from_millis(self.resolve_ms.load(Ordering::Relaxed))
    }

    /// A place for a request that is answered here and at once, whether one is free or not: what
    /// the balancer says of itself is said under any load.
    pub fn permit_regardless(&self) -> Permit {
        self.places.take_regardless()
    }

    /// Requests that hold a permit.
    pub fn in_progress(&self) -> usize {
        self.places.taken()
    }

    /// From now on the health path tells that a stop is coming.
    pub fn announce_stop(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Returns whether a stop is coming or has begun.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.is_draining()
    }

    /// From now on every response closes its connection.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Returns whether the balancer is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Threads are to run as `SCHED_BATCH`.
    pub fn batch_scheduling(&self) -> bool {
        self.settings.batch_scheduling
    }

    /// Milliseconds since the start, never 0.
    pub fn uptime_ms(&self, now: Instant) -> u64 {
        milliseconds(now.saturating_duration_since(self.started)).saturating_add(1)
    }

    /// Ends the exchanges that no thread holds: with 500, or by a cut where the response has begun.
    /// To be called by a thread that holds no lock, after each panic and every now and then.
    pub fn answer_lost(&self) {
        self.lost.end_all();
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn spare(&self) -> Option<Box<State>> {
        self.spare.lock().pop()
    }

    pub(super) fn keep(&self, state: Box<State>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE {
            spare.push(state);
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
