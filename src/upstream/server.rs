//! A server as it runs: where it is, how it is, and how many workers are connected to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use crate::balance::ServerId;
use crate::base::time::after;
use crate::health::{self, Failure, FaultClass, Held, Mode, Monitor, ProbeId, Seen};
use crate::net::resolve;
use crate::observe::account::OpenAccount;
use crate::plan::{self, ServerAddress};

use super::contact::{Contact, Manner};

/// A server as it runs.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: ServerId,
    /// Its name in the cluster.
    pub(super) name: Arc<str>,
    /// `cluster/server`, for messages.
    pub(super) full_name: String,
    plan: ArcSwap<plan::Server>,
    /// Where its name leads; the first one is in use.
    addresses: Mutex<Addresses>,
    resolved: Condvar,
    /// Grows when its workers have something to look at: settings, or the address.
    version: AtomicU64,
    monitor: Mutex<Monitor>,
    /// Health checking has anything to do with it.
    is_monitored: AtomicBool,
    /// Workers that are connected.
    connected: AtomicUsize,
    contact: Mutex<Contact>,
    /// What `contact` says of connections, to be looked at without its lock: a [`Manner`].
    manner: AtomicU8,
    /// The same of whether exchanges can teach it something.
    is_learning: AtomicBool,
    /// It is not in the plan any more.
    is_removed: AtomicBool,
    /// What its workers have heard, and since when that is all.
    heard: Mutex<(u64, Instant)>,
    /// A probe over a connection of its own is being made.
    is_probed_apart: AtomicBool,
    /// The exchanges whose last attempt was made here, and that have ended.
    pub(super) account: OpenAccount,
}

#[derive(Debug, Default)]
struct Addresses {
    found: Vec<SocketAddr>,
    /// The name was looked up, whatever came of it.
    is_tried: bool,
}

impl Server {
    pub(super) fn new(
        id: ServerId,
        cluster: &plan::Cluster,
        plan: &plan::Server,
        account: OpenAccount,
        seed: u64,
        now: Instant,
    ) -> Self {
        let health = cluster.health.settings;
        let contact = Contact::new(cluster.connect);
        Self {
            id,
            name: Arc::from(plan.name.as_str()),
            full_name: format!("{}/{}", cluster.name, plan.name),
            plan: ArcSwap::from_pointee(plan.clone()),
            addresses: Mutex::default(),
            resolved: Condvar::new(),
            version: AtomicU64::new(0),
            monitor: Mutex::new(Monitor::new(health, seed, now)),
            is_monitored: AtomicBool::new(health.mode != Mode::Disabled),
            connected: AtomicUsize::new(0),
            manner: AtomicU8::new(contact.manner() as u8),
            is_learning: AtomicBool::new(contact.is_learning()),
            contact: Mutex::new(contact),
            is_removed: AtomicBool::new(false),
            heard: Mutex::new((0, now)),
            is_probed_apart: AtomicBool::new(false),
            account,
        }
    }

    pub(super) fn plan(&self) -> Arc<plan::Server> {
        self.plan.load_full()
    }

    pub(super) fn set_plan(&self, plan: &plan::Server) {
        self.plan.store(Arc::new(plan.clone()));
    }

    /// Grows when its workers have something to look at.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    pub(super) fn touch(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self) {
        self.is_removed.store(true, Ordering::Relaxed);
        // A thread that waits for its address need not.
        self.addresses.lock().is_tried = true;
        self.resolved.notify_all();
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    pub(super) fn note_connected(&self, is_connected: bool) {
        if is_connected {
            self.connected.fetch_add(1, Ordering::Relaxed);
        } else {
            self.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Its workers that are connected.
    pub(super) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// No worker is connected, and the one that tried last could not be. Before the first attempt
    /// has ended that is not known.
    pub(super) fn is_unreachable(&self) -> bool {
        self.connected() == 0 && self.contact.lock().has_failed()
    }

    /// The last attempt to connect succeeded.
    pub(super) fn is_reached(&self) -> bool {
        self.contact.lock().is_reached()
    }

    /// What connections of it are worth.
    pub(super) fn manner(&self) -> Manner {
        match self.manner.load(Ordering::Relaxed) {
            manner if manner == Manner::Warm as u8 => Manner::Warm,
            manner if manner == Manner::OnDemand as u8 => Manner::OnDemand,
            _ => Manner::Unsettled,
        }
    }

    /// How an exchange leaves its connection can still teach something.
    pub(super) fn is_learning(&self) -> bool {
        self.is_learning.load(Ordering::Relaxed)
    }

    /// Looks at how it is connected to, or changes that.
    pub(super) fn contact<T>(&self, act: impl FnOnce(&mut Contact) -> T) -> T {
        let mut contact = self.contact.lock();
        let result = act(&mut contact);
        self.manner.store(contact.manner() as u8, Ordering::Relaxed);
        self.is_learning
            .store(contact.is_learning(), Ordering::Relaxed);
        result
    }

    // === Where it is

    /// Addresses to try, in this order. Of a name that was never looked up the first answer is
    /// waited for, at most this long.
    pub(super) fn addresses(&self, patience: Duration) -> Vec<ServerAddress> {
        let plan = self.plan.load();
        if !matches!(plan.address, ServerAddress::Name { .. }) {
            return vec![plan.address.clone()];
        }
        let until = after(Instant::now(), patience);
        let mut addresses = self.addresses.lock();
        while !addresses.is_tried {
            if self.resolved.wait_until(&mut addresses, until).timed_out() {
                break;
            }
        }
        addresses
            .found
            .iter()
            .copied()
            .map(ServerAddress::Tcp)
            .collect()
    }

    /// A connection to this address is in use from now on.
    pub(super) fn prefer(&self, address: &ServerAddress) {
        let ServerAddress::Tcp(address) = address else {
            return;
        };
        let found = &mut self.addresses.lock().found;
        if let Some(place) = found.iter().position(|other| other == address) {
            found[..=place].rotate_right(1);
        }
    }

    /// Returns whether connections to this address are still wanted.
    pub(super) fn is_at(&self, address: &ServerAddress) -> bool {
        let plan = self.plan.load();
        match (&plan.address, address) {
            (ServerAddress::Name { .. }, ServerAddress::Tcp(address)) => {
                self.addresses.lock().found.contains(address)
            }
            (planned, address) => planned == address,
        }
    }

    /// What its name leads to now. Returns the addresses if that is news.
    pub(super) fn resolved(&self, found: Option<Vec<SocketAddr>>) -> Option<Vec<SocketAddr>> {
        let mut addresses = self.addresses.lock();
        let is_first = !std::mem::replace(&mut addresses.is_tried, true);
        if is_first {
            self.resolved.notify_all();
        }
        let renewed = resolve::renew(&addresses.found, found?)?;
        addresses.found.clone_from(&renewed);
        drop(addresses);
        self.touch();
        Some(renewed)
    }

    // === How it is

    pub(super) fn monitor(&self) -> parking_lot::MutexGuard<'_, Monitor> {
        self.monitor.lock()
    }

    pub(super) fn is_monitored(&self) -> bool {
        self.is_monitored.load(Ordering::Relaxed)
    }

    pub(super) fn set_health(
        &self,
        settings: health::Settings,
        now: Instant,
    ) -> Option<health::Transition> {
        self.is_monitored
            .store(settings.mode != Mode::Disabled, Ordering::Relaxed);
        self.monitor.lock().set(settings, now)
    }

    pub(super) fn exchanged(
        &self,
        result: Result<(), Failure>,
        now: Instant,
    ) -> Option<health::Transition> {
        self.monitor.lock().exchanged(result, now)
    }

    pub(super) fn probed(
        &self,
        id: ProbeId,
        result: Result<(), FaultClass>,
        now: Instant,
    ) -> Option<health::Transition> {
        self.monitor.lock().probed(id, result, now)
    }

    pub(super) fn seen(&self, now: Instant) -> Seen {
        let monitor = self.monitor.lock();
        Seen {
            usable: monitor.is_usable(),
            may_return: monitor.was_online(),
            held: monitor.held().is_some(),
            fallen_for: monitor.fallen_for(now),
        }
    }

    /// Its workers have heard so much (another number whenever something came). Returns for how
    /// long nothing has come. That is no time at all while a worker does not listen, because it
    /// waits for its client or for a request.
    pub(super) fn note_heard(&self, heard: u64, listens: bool, now: Instant) -> Duration {
        let mut known = self.heard.lock();
        if known.0 != heard || !listens {
            *known = (heard, now);
        }
        now.saturating_duration_since(known.1)
    }

    /// A probe over a connection of its own begins. `false` if another has not ended yet.
    pub(super) fn begin_probe_apart(&self) -> bool {
        !self.is_probed_apart.swap(true, Ordering::AcqRel)
    }

    /// It has ended.
    pub(super) fn end_probe_apart(&self) {
        self.is_probed_apart.store(false, Ordering::Release);
    }

    pub(super) fn held(&self) -> Option<Held> {
        self.monitor.lock().held().cloned()
    }
}
