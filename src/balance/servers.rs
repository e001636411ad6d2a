//! Servers and their workers: which may be used, which are idle, and which job each worker serves.

#[cfg(test)]
mod check;
mod running;
mod staff;

use std::time::{Duration, Instant};

use super::bits::Bits;
use super::random::Random;
use super::scheduler::{Candidates, Load, Scheduler, Wish, scheduler};
use super::{Admin, BucketId, Health, LinkState, Role, Schedule, ServerCounts, ServerId, WorkerId};
use running::{NONE, Running, RunningJob};

/// The warmth of a warm server.
const WARM: u16 = 1000;

/// The number of roles whose servers get jobs. They are asked in this order.
const TIERS: usize = 3;

/// All servers of a cluster.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
    loads: Vec<Load>,
    workers: Vec<Worker>,
    /// Numbers of workers that are gone.
    free_workers: Vec<u32>,
    running: Running,
    tiers: [Tier; TIERS],
    /// Servers that get jobs: usable, and their role is asked for.
    in_use: Bits,
    early_binding: bool,
    schedule: Schedule,
    random: Random,
    /// The scheduler uses response times.
    measures: bool,
    /// The scheduler needs every change of a load.
    follows_loads: bool,
    /// The weights of all servers in use.
    weights: u64,
    /// What the servers in use can serve at once.
    capacity: usize,
    /// Workers of these servers that have a job.
    busy: usize,
    /// Jobs of these servers, including those that wait for one of them alone.
    loaded: u64,
    serving: usize,
    up: usize,
    worker_count: usize,
    /// Servers that have gone out of use since [`Self::take_lost`].
    lost: Vec<u32>,
}

/// The servers of one role.
#[derive(Debug)]
struct Tier {
    scheduler: Box<dyn Scheduler>,
    /// Servers with a worker that may have a job now.
    idle: Bits,
    /// Servers in use.
    in_use: Bits,
    /// The number of servers that could be used if their role is asked for.
    usable: usize,
}

#[derive(Debug)]
struct Server {
    /// The server is not gone.
    exists: bool,
    weight: u32,
    capacity: usize,
    role: Role,
    admin: Admin,
    health: Health,
    warmth: u16,
    protected: bool,
    /// Workers that are not gone, and those of them that are not leaving.
    live: usize,
    staying: usize,
    /// The staying workers that are not unreachable.
    reachable: usize,
    /// The staying workers that have a job.
    busy: usize,
    /// The first of the idle workers to get a job: the one whose last job ended last, for its
    /// connection is the warmest. Behind those that have had jobs over their connections come the
    /// others, the one that connected first before them.
    next_idle: u32,
    /// The last of the idle workers to get a job.
    final_idle: u32,
    /// The tier in which the server is usable.
    tier: Option<usize>,
    in_use: bool,
    /// Its part of the capacity in use.
    part: usize,
}

#[derive(Debug)]
struct Worker {
    server: ServerId,
    link: LinkState,
    state: State,
    leaving: bool,
    /// It has had no job over this connection.
    is_fresh: bool,
    /// Neighbours among the server's idle workers: the one that gets a job before it, and the one
    /// after it.
    before: u32,
    behind: u32,
    /// Its first job in `running`, which is the one that it got last.
    first: u32,
    /// Jobs that it has taken since it had none.
    taken: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The worker waits for a job.
    Idle,
    /// The worker is busy with its connection or its server.
    Away,
    /// The worker has a job, or several.
    Serving,
    /// The worker has ended.
    Gone,
}

/// What a worker has done from its first job until it had none any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) bucket: BucketId,
    /// The jobs counted against the retry budget.
    pub(super) retry: bool,
    /// How long each of its jobs took: they are served one after the other.
    pub(super) took: Duration,
}

impl Servers {
    pub(super) fn new(schedule: Schedule, early_binding: bool, seed: u64) -> Self {
        Self {
            servers: Vec::new(),
            loads: Vec::new(),
            workers: Vec::new(),
            free_workers: Vec::new(),
            running: Running::new(),
            tiers: std::array::from_fn(|_| Tier {
                scheduler: scheduler(schedule),
                idle: Bits::default(),
                in_use: Bits::default(),
                usable: 0,
            }),
            in_use: Bits::default(),
            early_binding,
            schedule,
            random: Random::new(seed),
            measures: schedule == Schedule::PeakEwma,
            follows_loads: schedule == Schedule::LeastLoad,
            weights: 0,
            capacity: 0,
            busy: 0,
            loaded: 0,
            serving: 0,
            up: 0,
            worker_count: 0,
            lost: Vec::new(),
        }
    }

    // === Looking

    /// Returns the server of this worker, if there is such a worker.
    pub(super) fn server_of(&self, worker: WorkerId) -> Option<ServerId> {
        self.workers
            .get(worker.0 as usize)
            .filter(|worker| worker.state != State::Gone)
            .map(|worker| worker.server)
    }

    /// Returns the servers that get jobs.
    pub(super) fn in_use(&self) -> &Bits {
        &self.in_use
    }

    /// Returns what the servers in use can serve at once.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns what a server that is in use can serve at once.
    pub(super) fn capacity_of(&self, server: ServerId) -> usize {
        self.servers[server.0 as usize].part
    }

    /// Returns the number of jobs that wait for this server alone.
    pub(super) fn bound_count(&self, server: ServerId) -> usize {
        self.loads[server.0 as usize].bound as usize
    }

    /// Returns how much of the capacity is free.
    pub(super) fn free(&self) -> usize {
        self.capacity.saturating_sub(self.busy)
    }

    /// Returns the servers with a worker that may have a job now: `None` for none, `Some(Some(_))`
    /// for one, `Some(None)` for more.
    pub(super) fn idle(&self) -> Option<Option<ServerId>> {
        let mut found = None;
        for tier in &self.tiers {
            match tier.idle.len() {
                0 => {}
                1 if found.is_none() => found = tier.idle.next_from(0),
                _ => return Some(None),
            }
        }
        found.map(|server| Some(ServerId(server)))
    }

    /// Returns the idle servers, by tier and in order.
    pub(super) fn all_idle(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.tiers
            .iter()
            .flat_map(|tier| tier.idle.iter().map(ServerId))
    }

    /// Returns whether a server has a worker that may have a job now.
    pub(super) fn has_idle(&self, server: ServerId) -> bool {
        self.tiers.iter().any(|tier| tier.idle.contains(server.0))
    }

    /// Returns whether jobs wait for this server alone.
    pub(super) fn has_bound(&self, server: ServerId) -> bool {
        self.loads[server.0 as usize].bound > 0
    }

    /// Returns this server's idle worker that is to get the next job, if it may have one.
    pub(super) fn idle_worker(&self, server: ServerId) -> Option<WorkerId> {
        let next = self.servers.get(server.0 as usize)?.next_idle;
        (next != NONE && self.has_idle(server)).then_some(WorkerId(next))
    }

    pub(super) fn is_idle(&self, worker: WorkerId) -> bool {
        self.state(worker) == Some(State::Idle)
    }

    pub(super) fn is_serving(&self, worker: WorkerId) -> bool {
        self.state(worker) == Some(State::Serving)
    }

    /// Returns whether this worker, which is not idle, may have a job: its server is in use and
    /// below its limit.
    pub(super) fn may_work(&self, worker: WorkerId) -> bool {
        let Some(entry) = self.workers.get(worker.0 as usize) else {
            return false;
        };
        let server = &self.servers[entry.server.0 as usize];
        !entry.leaving
            && server.in_use
            && (self.loads[entry.server.0 as usize].running as usize) < server.limit()
    }

    /// Returns the worker that serves the job with this number.
    pub(super) fn serving(&self, id: u64) -> Option<WorkerId> {
        self.running.find(id).map(|entry| WorkerId(entry.worker))
    }

    /// Returns the number of jobs being served.
    pub(super) fn serving_count(&self) -> usize {
        self.serving
    }

    /// Returns the number of workers whose connection is up.
    pub(super) fn up_count(&self) -> usize {
        self.up
    }

    /// Returns the number of all workers.
    pub(super) fn worker_count(&self) -> usize {
        self.worker_count
    }

    pub(super) fn counts(&self, server: ServerId) -> ServerCounts {
        let entry = &self.servers[server.0 as usize];
        let load = &self.loads[server.0 as usize];
        ServerCounts {
            serving: (load.running + load.besides) as usize,
            bound: load.bound as usize,
            workers: entry.staying,
            leaving: entry.live - entry.staying,
            in_use: entry.in_use,
            latency: load
                .measured
                .map(|_| Duration::try_from_secs_f64(load.latency).unwrap_or_default()),
        }
    }

    /// Returns a server that has gone out of use, each once.
    pub(super) fn take_lost(&mut self) -> Option<ServerId> {
        self.lost.pop().map(ServerId)
    }

    // === At work

    /// Returns the server that gets the next job. With late binding it has an idle worker.
    pub(super) fn choose(
        &mut self,
        except: Option<ServerId>,
        key: u64,
        now: Instant,
    ) -> Option<ServerId> {
        let except = except.map(|server| server.0);
        for tier in &mut self.tiers {
            let Tier {
                scheduler,
                idle,
                in_use,
                ..
            } = tier;
            let among = if self.early_binding { &*in_use } else { &*idle };
            if among.is_empty() {
                continue;
            }
            let candidates = Candidates {
                among,
                in_use,
                loads: &self.loads,
                sums: (self.loaded, self.weights),
            };
            if let Some(server) =
                scheduler.choose(candidates, Wish { except, key, now }, &mut self.random)
            {
                return Some(ServerId(server));
            }
        }
        None
    }

    /// Returns an idle standby server that could help out this active one.
    pub(super) fn idle_standby(&self, instead_of: ServerId) -> Option<ServerId> {
        if self.servers[instead_of.0 as usize].tier != Some(0) {
            return None;
        }
        self.tiers[1].idle.next_from(instead_of.0).map(ServerId)
    }

    /// Notes the state of a connection. A worker whose connection is not up is not idle. Returns
    /// whether what can be served has changed.
    pub(super) fn set_link(&mut self, worker: WorkerId, link: LinkState) -> bool {
        let Some(entry) = self.workers.get_mut(worker.0 as usize) else {
            return false;
        };
        let old = std::mem::replace(&mut entry.link, link);
        if old == link {
            return false;
        }
        let (id, leaving) = (entry.server, entry.leaving);
        entry.is_fresh = true;
        self.up += usize::from(link == LinkState::Up);
        self.up -= usize::from(old == LinkState::Up);
        if self.is_idle(worker) {
            self.leave_idle(worker, State::Away);
            self.touch(id);
        }
        if leaving || (link == LinkState::Unreachable) == (old == LinkState::Unreachable) {
            return false;
        }
        let server = &mut self.servers[id.0 as usize];
        server.reachable += usize::from(link != LinkState::Unreachable);
        server.reachable -= usize::from(old != LinkState::Unreachable);
        self.refresh(id);
        true
    }

    /// Takes away the idle worker of this server that would get a job last, for another task.
    pub(super) fn borrow(&mut self, server: ServerId) -> Option<WorkerId> {
        let last = self.servers.get(server.0 as usize)?.final_idle;
        if last == NONE {
            return None;
        }
        self.leave_idle(WorkerId(last), State::Away);
        // It comes back among those that have been used: so that each is taken in its turn.
        self.workers[last as usize].is_fresh = false;
        self.touch(server);
        Some(WorkerId(last))
    }

    /// Makes a worker idle, if it may have a job.
    pub(super) fn set_idle(&mut self, worker: WorkerId) {
        let Some(entry) = self.workers.get_mut(worker.0 as usize) else {
            return;
        };
        if entry.state != State::Away || entry.link != LinkState::Up || entry.leaving {
            return;
        }
        let id = entry.server;
        let server = &mut self.servers[id.0 as usize];
        entry.state = State::Idle;
        // A server that works on one connection at a time works on the one that came first.
        let (before, behind) = if entry.is_fresh {
            (std::mem::replace(&mut server.final_idle, worker.0), NONE)
        } else {
            (NONE, std::mem::replace(&mut server.next_idle, worker.0))
        };
        (entry.before, entry.behind) = (before, behind);
        if before == NONE && behind == NONE {
            (server.next_idle, server.final_idle) = (worker.0, worker.0);
            self.touch(id);
        } else if before == NONE {
            self.workers[behind as usize].before = worker.0;
        } else {
            self.workers[before as usize].behind = worker.0;
        }
    }

    /// Gives this job to a worker that has none.
    pub(super) fn start(
        &mut self,
        worker: WorkerId,
        id: u64,
        bucket: BucketId,
        retry: bool,
        now: Instant,
    ) {
        match self.state(worker) {
            None | Some(State::Gone | State::Serving) => return,
            Some(State::Idle) => self.leave_idle(worker, State::Serving),
            Some(State::Away) => self.workers[worker.0 as usize].state = State::Serving,
        }
        let place = self
            .running
            .add(RunningJob::new(id, worker.0, NONE, bucket, retry, now));
        let entry = &mut self.workers[worker.0 as usize];
        (entry.first, entry.taken, entry.is_fresh) = (place, 1, false);
        let (server, leaving) = (entry.server, entry.leaving);
        self.serving += 1;
        self.count_worker(server, leaving, true);
    }

    /// Gives this job to a worker besides its other jobs of the bucket.
    pub(super) fn start_besides(
        &mut self,
        worker: WorkerId,
        id: u64,
        bucket: BucketId,
        now: Instant,
    ) {
        let Some(&Worker { server, first, .. }) = self.workers.get(worker.0 as usize) else {
            return;
        };
        let place = self
            .running
            .add(RunningJob::new(id, worker.0, first, bucket, false, now));
        let entry = &mut self.workers[worker.0 as usize];
        entry.first = place;
        entry.taken += 1;
        self.serving += 1;
        self.count_besides(server, 1, true);
    }

    /// Ends all jobs of a worker.
    pub(super) fn end(&mut self, worker: WorkerId, now: Instant) -> Option<Ended> {
        let entry = self.workers.get_mut(worker.0 as usize)?;
        let Worker {
            server,
            leaving,
            taken,
            ..
        } = *entry;
        let mut place = std::mem::replace(&mut entry.first, NONE);
        let RunningJob {
            bucket,
            retry,
            since,
            ..
        } = *self.running.get(place)?;
        entry.state = State::Away;
        let mut jobs = 0;
        while place != NONE {
            place = self.running.remove(place);
            jobs += 1;
        }
        self.serving -= jobs as usize;
        let mut took = now.saturating_duration_since(since);
        if taken > 1 {
            took /= taken;
        }
        if self.measures {
            self.loads[server.0 as usize].observe(took, now);
        }
        if jobs > 1 {
            self.count_besides(server, jobs - 1, false);
        }
        self.count_worker(server, leaving, false);
        Some(Ended {
            bucket,
            retry,
            took,
        })
    }

    /// Returns whether a worker has this job and no other.
    pub(super) fn has_only(&self, worker: WorkerId, id: u64) -> bool {
        let first = self
            .workers
            .get(worker.0 as usize)
            .map_or(NONE, |worker| worker.first);
        (self.running.get(first)).is_some_and(|entry| entry.next == NONE && entry.id == id)
    }

    /// Ends one of several jobs of a worker. Returns its bucket, or `None` if the worker does not
    /// have the job.
    pub(super) fn end_one(&mut self, worker: WorkerId, id: u64) -> Option<BucketId> {
        let entry = self.workers.get(worker.0 as usize)?;
        let server = entry.server;
        let (mut previous, mut place) = (NONE, entry.first);
        let bucket = loop {
            let running = self.running.get(place)?;
            if running.id == id {
                break running.bucket;
            }
            (previous, place) = (place, running.next);
        };
        let next = self.running.remove(place);
        match previous {
            NONE => self.workers[worker.0 as usize].first = next,
            previous => self.running.set_next(previous, next),
        }
        self.serving -= 1;
        self.count_besides(server, 1, false);
        Some(bucket)
    }

    /// Moves all served jobs of a bucket to another one.
    pub(super) fn move_running(&mut self, from: BucketId, to: BucketId) {
        self.running.move_all(from, to);
    }

    /// Counts a job that waits for this server alone, or counts it out.
    pub(super) fn count_bound(&mut self, server: ServerId, more: bool) {
        let load = &mut self.loads[server.0 as usize];
        let in_use = self.servers[server.0 as usize].in_use;
        load.bound = if more { load.bound + 1 } else { load.bound - 1 };
        if in_use {
            self.loaded = if more {
                self.loaded + 1
            } else {
                self.loaded - 1
            };
        }
        self.touch(server);
    }

    /// Counts a worker that gets a job, or counts it out. Its further jobs are counted by
    /// [`Self::count_besides`], because they take no slot.
    fn count_worker(&mut self, id: ServerId, leaving: bool, more: bool) {
        let server = &mut self.servers[id.0 as usize];
        let load = &mut self.loads[id.0 as usize];
        if more {
            load.running += 1;
            server.busy += usize::from(!leaving);
        } else {
            load.running -= 1;
            server.busy -= usize::from(!leaving);
        }
        if server.in_use {
            if more {
                self.busy += usize::from(!leaving);
                self.loaded += 1;
            } else {
                self.busy -= usize::from(!leaving);
                self.loaded -= 1;
            }
        }
        self.touch(id);
    }

    fn count_besides(&mut self, id: ServerId, jobs: u32, more: bool) {
        let load = &mut self.loads[id.0 as usize];
        let loaded = if self.servers[id.0 as usize].in_use {
            u64::from(jobs)
        } else {
            0
        };
        if more {
            load.besides += jobs;
            self.loaded += loaded;
        } else {
            load.besides -= jobs;
            self.loaded -= loaded;
        }
        self.touch(id);
    }

    fn state(&self, worker: WorkerId) -> Option<State> {
        self.workers
            .get(worker.0 as usize)
            .map(|worker| worker.state)
    }

    /// The caller has to call [`Self::touch`] afterwards.
    fn leave_idle(&mut self, worker: WorkerId, state: State) {
        let entry = &mut self.workers[worker.0 as usize];
        entry.state = state;
        let (id, before, behind) = (entry.server, entry.before, entry.behind);
        match before {
            NONE => self.servers[id.0 as usize].next_idle = behind,
            before => self.workers[before as usize].behind = behind,
        }
        match behind {
            NONE => self.servers[id.0 as usize].final_idle = before,
            behind => self.workers[behind as usize].before = before,
        }
    }

    /// Puts a server among the idle ones if it belongs there, and tells its scheduler the load.
    fn touch(&mut self, id: ServerId) {
        self.place(id, false);
    }

    /// Does the work of [`Self::touch`]. `anew`: the server has come into use or gone out of use,
    /// or its weight has changed.
    fn place(&mut self, id: ServerId, anew: bool) {
        let server = &self.servers[id.0 as usize];
        let Some(index) = server.tier else { return };
        let is_idle = server.in_use
            && server.next_idle != NONE
            && (self.loads[id.0 as usize].running as usize) < server.limit();
        let in_use = server.in_use;
        let Tier {
            scheduler,
            idle,
            in_use: tier_in_use,
            ..
        } = &mut self.tiers[index];
        let changed = idle.set(id.0, is_idle);
        if !anew && !self.follows_loads && (!changed || self.early_binding) {
            // With early binding, the choosable servers change only with those in use.
            return;
        }
        let (there, among) = match self.early_binding {
            true => (in_use, &*tier_in_use),
            false => (is_idle, &*idle),
        };
        let candidates = Candidates {
            among,
            in_use: tier_in_use,
            loads: &self.loads,
            sums: (self.loaded, self.weights),
        };
        if anew {
            scheduler.weigh(id.0, candidates);
        }
        if there {
            scheduler.enter(id.0, candidates);
        } else if anew || changed || self.early_binding {
            scheduler.leave(id.0);
        }
    }
}

impl Server {
    /// Returns the most jobs at once, which is less than the capacity while the server starts
    /// slowly.
    fn limit(&self) -> usize {
        if self.warmth >= WARM {
            usize::MAX
        } else {
            (self.capacity * usize::from(self.warmth))
                .div_ceil(usize::from(WARM))
                .max(1)
        }
    }
}

/// Returns the weight in thousandths, so that a part of even a weight of 1 is possible.
fn effective_weight(weight: u32, warmth: u16) -> u32 {
    weight.clamp(1, 1_000_000) * u32::from(warmth)
}
