//! Changes to a running cluster: started, reloaded, servers that come and go, workers that begin
//! and end.
//!
//! All of it happens under the control lock, one change after the other. The data path never takes
//! it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use crate::balance::{
    Admin, BucketId, Change, Dispatcher, Health, Link, NewServer, Outcome, Rejection, ServerChange,
    ServerId, Settings, Share, Verdict, WorkerId,
};
use crate::exchange::{Exchange, Hub};
use crate::health::State;
use crate::plan::{self, Binding, OnUnavailable, ServerAddress};
use crate::threads::{self, Kind};

use super::Cluster;
use super::server::Server;
use super::slot::Slot;
use super::worker::Worker;

/// So many retries at once are allowed whatever the load.
const RETRY_FLOOR: usize = 10;

/// How often it is looked whether a new server works.
const LOOK: Duration = Duration::from_millis(2);

/// What of a cluster only changes know.
#[derive(Debug, Default)]
pub(super) struct Control {
    entries: Vec<Entry>,
    pub(super) buckets: Vec<RunningBucket>,
    /// Workers for which no thread could be started.
    unstarted: Vec<(ServerId, WorkerId)>,
    /// That was told.
    is_short_of_workers: bool,
    /// Makes the seeds of health monitors differ.
    seed: u64,
    /// Fewer servers than the panic threshold asks for are well.
    pub(super) panics: bool,
}

/// A server, and what the dispatcher was told of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) server: Arc<Server>,
    pub(super) used: bool,
    pub(super) warmth: u16,
    /// It is not in the plan any more, and the dispatcher has not been told yet.
    is_to_go: bool,
    /// Numbers in the names of its workers.
    numbers: Vec<Option<WorkerId>>,
}

/// A bucket below the root.
#[derive(Debug)]
pub(super) struct RunningBucket {
    pub(super) id: BucketId,
    pub(super) plan: plan::Bucket,
    /// Name of its parent; `None` is the root.
    parent: Option<String>,
}

impl Control {
    /// All servers that are there, those too that are leaving.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.entries.iter().map(|entry| &entry.server)
    }

    pub(super) fn entries_to_see(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn entries(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    fn entry(&mut self, server: ServerId) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| entry.server.id == server)
    }

    /// The server of this name that is in the plan.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Server>> {
        self.servers()
            .find(|server| &*server.name == name && !server.is_removed())
    }
}

impl Cluster {
    /// A cluster with all its workers. They begin to connect at once.
    pub fn start(plan: &plan::Cluster, hub: &Arc<Hub>, now: Instant) -> Arc<Self> {
        let dispatcher = Dispatcher::new(Settings {
            early_binding: plan.binding == Binding::Early,
            queue_limit: plan.queue_limit,
            wait_for_server: plan.on_unavailable == OnUnavailable::Queue,
            retry_floor: RETRY_FLOOR,
            retry_share: plan.retry_budget,
            schedule: plan.schedule,
            lending: plan.lending,
            seed: seed(),
        });
        let in_use = plan
            .servers
            .iter()
            .filter(|server| server.admin != Admin::Disabled);
        let first_tries = in_use.map(|server| server.capacity).sum();
        let cluster = Arc::new(Self {
            name: Arc::from(plan.name.as_str()),
            hub: Arc::clone(hub),
            plan: ArcSwap::from_pointee(plan.clone()),
            dispatcher: Mutex::new(dispatcher),
            slots: ArcSwap::default(),
            control: Mutex::new(Control {
                seed: seed(),
                ..Control::default()
            }),
            first_tries: Mutex::new(first_tries),
            tried: Condvar::new(),
            alive: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            is_to_remember: AtomicBool::new(false),
        });
        let mut control = cluster.control.lock();
        cluster.apply(&mut control, Change::SetAdmin(plan.admin), now);
        cluster.adjust_buckets(&mut control, &plan.buckets, now);
        for server in &plan.servers {
            cluster.add_server(&mut control, plan, server, now);
        }
        drop(control);
        cluster
    }

    /// Why it cannot become like this.
    pub fn objections(&self, plan: &plan::Cluster) -> Vec<String> {
        let control = self.control.lock();
        control
            .servers()
            .filter(|server| !server.is_removed() && server.plan().protected)
            .filter(|server| plan.servers.iter().all(|other| other.name != *server.name))
            .map(|server| protected(server))
            .collect()
    }

    /// Why it cannot be removed.
    pub fn objections_to_removal(&self) -> Vec<String> {
        let control = self.control.lock();
        control
            .servers()
            .filter(|server| !server.is_removed() && server.plan().protected)
            .map(|server| protected(server))
            .collect()
    }

    /// Becomes like this, with all that is going on. Nothing is lost: who is let go first ends what
    /// it has.
    pub fn reload(self: &Arc<Self>, plan: &plan::Cluster, now: Instant) {
        let mut control = self.control.lock();
        let old = self.plan.load_full();
        self.plan.store(Arc::new(plan.clone()));
        let mut change = |is_new: bool, change: Change| {
            if is_new {
                self.apply(&mut control, change, now);
            }
        };
        change(
            old.schedule != plan.schedule,
            Change::SetSchedule(plan.schedule),
        );
        change(
            old.lending != plan.lending,
            Change::SetLending(plan.lending),
        );
        change(
            old.binding != plan.binding,
            Change::SetBinding {
                early: plan.binding == Binding::Early,
            },
        );
        change(
            old.queue_limit != plan.queue_limit || old.on_unavailable != plan.on_unavailable,
            Change::SetQueue {
                limit: plan.queue_limit,
                wait_for_server: plan.on_unavailable == OnUnavailable::Queue,
            },
        );
        #[allow(clippy::float_cmp, reason = "whatever is different is a change")]
        let other_budget = old.retry_budget != plan.retry_budget;
        change(
            other_budget,
            Change::SetRetries {
                floor: RETRY_FLOOR,
                share: plan.retry_budget,
            },
        );
        self.adjust_buckets(&mut control, &plan.buckets, now);
        self.adjust_servers(&mut control, plan, now);
        // Last, so that what is switched on finds its servers.
        if old.admin != plan.admin {
            self.apply(&mut control, Change::SetAdmin(plan.admin), now);
        }
        let mut changes = Vec::new();
        for server in control.servers() {
            if old.health.settings != plan.health.settings
                && let Some(change) = server.set_health(plan.health.settings, now)
            {
                changes.push((Arc::clone(server), change));
            }
            server.touch();
        }
        for (server, change) in changes {
            self.tell(&server, &change);
        }
        self.settle_health(&mut control, now);
        drop(control);
        // Time limits may have become shorter, and intervals.
        self.alarm();
        self.hurry_prober();
    }

    /// The buckets' numbers, in the order of the plan that it has.
    pub fn bucket_ids(&self, plan: &plan::Cluster) -> Vec<BucketId> {
        let control = self.control.lock();
        let id = |name: &str| {
            let known = control
                .buckets
                .iter()
                .find(|bucket| bucket.plan.name == name);
            known.map_or_else(BucketId::default, |bucket| bucket.id)
        };
        plan.buckets.iter().map(|bucket| id(&bucket.name)).collect()
    }

    // === Servers

    fn add_server(
        self: &Arc<Self>,
        control: &mut Control,
        plan: &plan::Cluster,
        server: &plan::Server,
        now: Instant,
    ) {
        // Its number is only known afterwards, and its workers need it.
        let expected = self.dispatcher.lock().next_server();
        control.seed = control.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let running = Arc::new(Server::new(
            expected,
            &self.name,
            server,
            plan.health.settings,
            control.seed,
            now,
        ));
        let used = running.seen(now).usable;
        control.entries.push(Entry {
            server: Arc::clone(&running),
            used,
            warmth: 1000,
            is_to_go: false,
            numbers: Vec::new(),
        });
        if let ServerAddress::Name { host, port } = &server.address {
            self.resolve(&running, host.clone(), *port);
        }
        let new = NewServer {
            weight: server.weight,
            capacity: server.capacity,
            role: server.role,
            admin: server.admin,
            health: health_of(used),
            protected: server.protected,
        };
        self.apply(control, Change::AddServer(new), now);
    }

    fn adjust_servers(self: &Arc<Self>, control: &mut Control, plan: &plan::Cluster, now: Instant) {
        let mut stay = Vec::new();
        // Who is new comes before who is old goes, so that there always is somebody.
        for server in &plan.servers {
            let known = control
                .named(&server.name)
                .filter(|known| known.plan().address == server.address)
                .cloned();
            let Some(known) = known else {
                self.add_server(control, plan, server, now);
                stay.extend(control.entries.last().map(|entry| entry.server.id));
                continue;
            };
            stay.push(known.id);
            let old = known.plan();
            known.set_plan(server);
            let mut health = None;
            if old.admin == Admin::Disabled && server.admin != Admin::Disabled {
                known.monitor().forget(now);
                let used = known.seen(now).usable;
                health = Some(health_of(used));
                control
                    .entry(known.id)
                    .into_iter()
                    .for_each(|entry| entry.used = used);
            }
            let change = ServerChange {
                weight: Some(server.weight).filter(|weight| *weight != old.weight),
                capacity: Some(server.capacity).filter(|capacity| *capacity != old.capacity),
                role: Some(server.role).filter(|role| *role != old.role),
                admin: Some(server.admin).filter(|admin| *admin != old.admin),
                protected: Some(server.protected).filter(|protected| *protected != old.protected),
                health,
                ..ServerChange::default()
            };
            if change != ServerChange::default() {
                self.apply(control, Change::SetServer(known.id, change), now);
            }
        }
        for entry in &mut control.entries {
            if !stay.contains(&entry.server.id) && !entry.server.is_removed() {
                entry.server.remove();
                entry.is_to_go = true;
            }
        }
    }

    /// The second part of a reload: servers that are not in the plan any more go, once those that
    /// came in their place work or had the time to.
    pub fn settle_reload(self: &Arc<Self>, until: Instant) {
        loop {
            let control = self.control.lock();
            if !control.entries.iter().any(|entry| entry.is_to_go) {
                return;
            }
            let is_ready = |server: &Arc<Server>| {
                let is_off = server.is_removed() || server.plan().admin == Admin::Disabled;
                is_off || server.connected() > 0 && !(is_watched(server) && is_unknown(server))
            };
            if control.servers().all(is_ready)
                || Instant::now() >= until
                || self.is_closed.load(Ordering::Acquire)
            {
                break;
            }
            drop(control);
            std::thread::sleep(LOOK);
        }
        let mut control = self.control.lock();
        let leaving = control.entries.iter_mut().filter(|entry| entry.is_to_go);
        let leaving = leaving.map(|entry| {
            entry.is_to_go = false;
            Arc::clone(&entry.server)
        });
        for server in leaving.collect::<Vec<_>>() {
            self.remove_server(&mut control, &server, Instant::now());
        }
    }

    fn remove_server(self: &Arc<Self>, control: &mut Control, server: &Arc<Server>, now: Instant) {
        let unprotected = ServerChange {
            protected: Some(false),
            ..ServerChange::default()
        };
        // One of the same name at another address takes its place, or it could not have come to
        // this.
        if server.plan().protected {
            self.apply(control, Change::SetServer(server.id, unprotected), now);
        }
        self.apply(control, Change::RemoveServer(server.id), now);
        self.forget_gone(control);
    }

    /// Servers whose last worker has ended are no more.
    fn forget_gone(&self, control: &mut Control) {
        let dispatcher = self.dispatcher.lock();
        control.entries.retain(|entry| {
            !entry.server.is_removed() || dispatcher.server(entry.server.id).is_some()
        });
    }

    // === Buckets

    fn adjust_buckets(
        self: &Arc<Self>,
        control: &mut Control,
        wanted: &[plan::Bucket],
        now: Instant,
    ) {
        let parent = |bucket: &plan::Bucket| {
            bucket
                .parent
                .and_then(|place| wanted.get(place))
                .map(|it| it.name.clone())
        };
        let stays = |running: &RunningBucket| {
            wanted
                .iter()
                .any(|bucket| bucket.name == running.plan.name && parent(bucket) == running.parent)
        };
        // Those below first; whoever's parent goes, goes too.
        let mut gone: Vec<String> = Vec::new();
        for running in &control.buckets {
            if !stays(running)
                || running
                    .parent
                    .as_ref()
                    .is_some_and(|parent| gone.contains(parent))
            {
                gone.push(running.plan.name.clone());
            }
        }
        while let Some(name) = gone.pop() {
            if let Some(place) = control
                .buckets
                .iter()
                .position(|bucket| bucket.plan.name == name)
            {
                let bucket = control.buckets.remove(place);
                self.apply(control, Change::RemoveBucket(bucket.id), now);
            }
        }
        // What is taken from one may be what another one gets.
        let mut changes = Vec::new();
        for running in &mut control.buckets {
            let Some(bucket) = wanted
                .iter()
                .find(|bucket| bucket.name == running.plan.name)
            else {
                continue;
            };
            if bucket.share != running.plan.share {
                changes.push((
                    part(bucket.share.assured) - part(running.plan.share.assured),
                    running.id,
                    bucket.share,
                ));
            }
            running.plan = bucket.clone();
        }
        changes.sort_by(|(one, ..), (other, ..)| one.total_cmp(other));
        for (_, id, share) in changes {
            self.apply(control, Change::SetBucket(id, share), now);
        }
        let mut ordered = Vec::new();
        for bucket in wanted {
            let known = control
                .buckets
                .iter()
                .position(|running| running.plan.name == bucket.name);
            if let Some(place) = known {
                ordered.push(control.buckets.remove(place));
                continue;
            }
            let parent = parent(bucket);
            let of = |name: &String| {
                ordered
                    .iter()
                    .find(|running: &&RunningBucket| running.plan.name == *name)
            };
            let parent_id = parent
                .as_ref()
                .and_then(of)
                .map_or_else(BucketId::default, |it| it.id);
            let outcome = self.apply(control, Change::AddBucket(parent_id, bucket.share), now);
            if let Some(id) = outcome.and_then(|outcome| outcome.bucket) {
                ordered.push(RunningBucket {
                    id,
                    plan: bucket.clone(),
                    parent,
                });
            }
        }
        control.buckets = ordered;
    }

    // === Workers

    /// Makes a change, and does what follows from it. What the configuration allows is never
    /// rejected; if it is all the same, that is told, and nothing is different.
    pub(super) fn apply(
        self: &Arc<Self>,
        control: &mut Control,
        change: Change,
        now: Instant,
    ) -> Option<Outcome<Exchange>> {
        let applied: Result<_, Rejection> = self.dispatcher.lock().apply(change, now);
        match applied {
            Ok(mut outcome) => {
                self.follow(control, &mut outcome);
                Some(outcome)
            }
            Err(rejection) => {
                log::error!("{}: {change:?} is not possible: {rejection:?}", self.name);
                None
            }
        }
    }

    fn follow(self: &Arc<Self>, control: &mut Control, outcome: &mut Outcome<Exchange>) {
        for (server, worker) in std::mem::take(&mut outcome.started) {
            self.start_worker(control, server, worker);
        }
        for worker in std::mem::take(&mut outcome.dismissed) {
            // One whose thread could not be started has nobody to tell.
            if control.unstarted.iter().any(|(_, other)| *other == worker) {
                control.unstarted.retain(|(_, other)| *other != worker);
                self.note_gone(control, worker);
            } else if let Some(slot) = self.slot(worker) {
                slot.stop();
            }
        }
        self.carry_out_all(std::mem::take(&mut outcome.handout));
    }

    fn start_worker(self: &Arc<Self>, control: &mut Control, server: ServerId, worker: WorkerId) {
        if self.is_closed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.try_start(control, server, worker) {
            if !control.is_short_of_workers {
                log::error!(
                    "{}: a worker cannot be started: {error}; it is tried again",
                    self.name
                );
            }
            control.is_short_of_workers = true;
            control.unstarted.push((server, worker));
            // So that nobody counts on it.
            self.next(worker, Verdict::None, Link::Unreachable);
            self.note_first_try();
        }
    }

    fn try_start(
        self: &Arc<Self>,
        control: &mut Control,
        id: ServerId,
        worker: WorkerId,
    ) -> io::Result<()> {
        let Some(entry) = control.entry(id) else {
            return Ok(());
        };
        let slot = Arc::new(Slot::new()?);
        let mut slots = Vec::clone(&self.slots.load());
        let place = worker.0 as usize;
        if slots.len() <= place {
            slots.resize(place + 1, None);
        }
        slots[place] = Some(Arc::clone(&slot));
        self.slots.store(Arc::new(slots));
        let free = entry.numbers.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            entry.numbers.push(None);
            entry.numbers.len() - 1
        });
        let name = format!("w-{}-{number}", entry.server.name);
        let mut worker_thread = Worker::new(self, worker, &entry.server, slot);
        self.alive.fetch_add(1, Ordering::AcqRel);
        match threads::tend(Kind::Worker, name, move || worker_thread.run()) {
            Ok(_) => {
                entry.numbers[number] = Some(worker);
                Ok(())
            }
            Err(error) => {
                self.alive.fetch_sub(1, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// The workers of a server.
    pub(super) fn workers_of(&self, server: &Server) -> Vec<WorkerId> {
        let control = self.control.lock();
        let entry = control
            .entries
            .iter()
            .find(|entry| entry.server.id == server.id);
        entry.map_or_else(Vec::new, |entry| {
            entry.numbers.iter().copied().flatten().collect()
        })
    }

    /// Tries again to start workers that could not be started.
    pub(super) fn start_again(self: &Arc<Self>) {
        let Some(mut control) = self.control.try_lock() else {
            return;
        };
        if control.unstarted.is_empty() {
            return;
        }
        for (server, worker) in std::mem::take(&mut control.unstarted) {
            self.start_worker(&mut control, server, worker);
        }
        if control.unstarted.is_empty() {
            control.is_short_of_workers = false;
            log::info!("{}: all workers are started", self.name);
        }
    }

    /// A worker's thread ends; it has no job, and never gets one again.
    pub(super) fn worker_ended(self: &Arc<Self>, worker: WorkerId, server: ServerId) {
        let mut control = self.control.lock();
        if let Some(entry) = control.entry(server) {
            for number in entry
                .numbers
                .iter_mut()
                .filter(|number| **number == Some(worker))
            {
                *number = None;
            }
        }
        self.note_gone(&mut control, worker);
        drop(control);
        self.alive.fetch_sub(1, Ordering::Release);
    }

    fn note_gone(self: &Arc<Self>, control: &mut Control, worker: WorkerId) {
        let mut slots = Vec::clone(&self.slots.load());
        if let Some(slot) = slots.get_mut(worker.0 as usize) {
            *slot = None;
        }
        self.slots.store(Arc::new(slots));
        let mut outcome = self.dispatcher.lock().gone(worker, Instant::now());
        self.follow(control, &mut outcome);
        self.forget_gone(control);
    }
}

fn health_of(used: bool) -> Health {
    if used {
        Health::Online
    } else {
        Health::Offline
    }
}

pub(super) fn health_change(used: bool, warmth: u16) -> ServerChange {
    ServerChange {
        health: Some(health_of(used)),
        warmth: Some(warmth),
        ..ServerChange::default()
    }
}

/// Whether it waits for its first probe.
fn is_unknown(server: &Server) -> bool {
    server.monitor().state() == State::Unknown
}

/// What is asked of siblings together.
fn part(share: Share) -> f64 {
    match share {
        Share::Part(part) => part,
        Share::Requests(_) => 0.0,
    }
}

fn protected(server: &Server) -> String {
    format!(
        "{} is protected and would be removed; set protected = false and reload before",
        server.full_name
    )
}

/// Whether anything of this server is of interest to health checks.
pub(super) fn is_watched(server: &Server) -> bool {
    server.is_monitored() && !server.is_removed() && server.plan().admin != Admin::Disabled
}

/// Another one at each start.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
