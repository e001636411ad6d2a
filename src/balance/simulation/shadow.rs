//! What an outside observer of a dispatcher sees: which worker has which job, and which rules
//! follow from that. Everything is searched from its beginning each time, and nothing is stored
//! that can be computed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use crate::balance::*;

/// The world around a dispatcher.
#[derive(Default)]
pub(super) struct Shadow {
    pub(super) early: bool,
    pub(super) reserve: bool,
    /// No worker is started any more.
    pub(super) closed: bool,
    pub(super) servers: BTreeMap<u32, Server>,
    pub(super) workers: BTreeMap<u32, Worker>,
    pub(super) jobs: HashMap<u64, Job>,
    /// The parent of each bucket.
    pub(super) buckets: BTreeMap<u32, Option<u32>>,
    pub(super) ended: HashSet<u64>,
    /// How many times a worker has become idle.
    pub(super) rested: i64,
    /// Shares as the dispatcher tells them (`bucket::shares` has its own tests).
    pub(super) shares: BTreeMap<u32, (usize, usize)>,
    /// (bucket, waiting client, served client): how often, since the waiting client was served or
    /// came.
    pub(super) turns: HashMap<(u32, u64, u64), u32>,
}

pub(super) struct Server {
    pub(super) capacity: usize,
    pub(super) role: Role,
    pub(super) admin: Admin,
    pub(super) health: Health,
    pub(super) warmth: u16,
    pub(super) protected: bool,
}

pub(super) struct Worker {
    pub(super) server: u32,
    pub(super) link: LinkState,
    pub(super) leaving: bool,
    pub(super) idle: bool,
    /// It has had no job over this connection.
    pub(super) is_fresh: bool,
    /// The least is the last to get a job.
    pub(super) idle_since: i64,
    pub(super) jobs: Vec<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    /// The job waits. Otherwise it is served or rests.
    pub(super) queued: bool,
    /// The end of the job's rest.
    pub(super) rests: Option<Instant>,
    /// The job waits at the head.
    pub(super) urgent: bool,
    /// The job waits at the head whatever it avoids.
    pub(super) retried: bool,
}

impl Job {
    pub(super) fn gives_up(&self) -> Instant {
        let Ticket {
            deadline,
            answer_by,
            ..
        } = self.ticket;
        answer_by.map_or(deadline, |answer_by| answer_by.min(deadline))
    }
}

impl Shadow {
    pub(super) fn limit(&self, server: u32) -> usize {
        let Server {
            capacity, warmth, ..
        } = self.servers[&server];
        match warmth {
            1000 => usize::MAX,
            warmth => (capacity * usize::from(warmth)).div_ceil(1000).max(1),
        }
    }

    fn reachable(&self, server: u32) -> usize {
        let able = |worker: &&Worker| {
            worker.server == server && !worker.leaving && worker.link != LinkState::Unreachable
        };
        self.workers.values().filter(able).count()
    }

    fn usable(&self, server: u32) -> bool {
        let Server {
            role,
            admin,
            health,
            ..
        } = self.servers[&server];
        role != Role::Terminating
            && admin == Admin::Enabled
            && health == Health::Online
            && self.reachable(server) > 0
    }

    pub(super) fn in_use(&self, server: u32) -> bool {
        let front = |other: &u32| self.servers[other].role != Role::Backup && self.usable(*other);
        self.usable(server)
            && (self.servers[&server].role != Role::Backup || !self.servers.keys().any(front))
    }

    pub(super) fn used(&self) -> Vec<u32> {
        self.servers
            .keys()
            .copied()
            .filter(|server| self.in_use(*server))
            .collect()
    }

    /// Returns what a server can serve at once.
    pub(super) fn part(&self, server: u32) -> usize {
        self.reachable(server).min(self.limit(server))
    }

    pub(super) fn capacity(&self) -> usize {
        self.used()
            .into_iter()
            .map(|server| self.part(server))
            .sum()
    }

    fn running(&self, server: u32, leaving: bool) -> usize {
        let own = |worker: &&Worker| {
            worker.server == server && !worker.jobs.is_empty() && (leaving || !worker.leaving)
        };
        self.workers.values().filter(own).count()
    }

    fn free(&self) -> usize {
        let busy: usize = self
            .used()
            .into_iter()
            .map(|server| self.running(server, false))
            .sum();
        self.capacity().saturating_sub(busy)
    }

    /// Returns the idle workers that may have a job now.
    pub(super) fn idle(&self) -> Vec<u32> {
        let used = self.used();
        let free =
            |server: u32| used.contains(&server) && self.running(server, true) < self.limit(server);
        let idle = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.idle && free(worker.server));
        idle.map(|(id, _)| *id).collect()
    }

    /// Makes a worker idle, if it is not already.
    pub(super) fn rest(&mut self, worker: u32) {
        let entry = self.workers.get_mut(&worker).expect("known");
        if !entry.idle && !entry.leaving {
            self.rested += 1;
            let since = match entry.is_fresh {
                true => -self.rested,
                false => self.rested,
            };
            (entry.idle, entry.idle_since) = (true, since);
        }
    }

    /// Takes away the server's idle worker that would get a job last, whether the server is in use
    /// or not.
    pub(super) fn borrow(&mut self, server: u32) -> Option<u32> {
        let idle =
            (self.workers.iter_mut()).filter(|(_, worker)| worker.server == server && worker.idle);
        let (id, worker) = idle.min_by_key(|(_, worker)| worker.idle_since)?;
        (worker.idle, worker.is_fresh) = (false, false);
        Some(*id)
    }

    // === Buckets

    pub(super) fn way_up(&self, bucket: u32) -> Vec<u32> {
        std::iter::successors(Some(bucket), |bucket| self.buckets[bucket]).collect()
    }

    /// Returns the bucket of each worker's token, for all workers with jobs.
    fn tokens(&self) -> impl Iterator<Item = u32> + '_ {
        let first = self
            .workers
            .values()
            .filter_map(|worker| worker.jobs.first());
        first.map(|id| self.jobs[id].ticket.bucket.0)
    }

    pub(super) fn held(&self, bucket: u32) -> usize {
        self.tokens()
            .filter(|own| self.way_up(*own).contains(&bucket))
            .count()
    }

    fn own_held(&self, bucket: u32) -> usize {
        self.tokens().filter(|own| *own == bucket).count()
    }

    fn children(&self, bucket: u32) -> impl Iterator<Item = u32> + '_ {
        let below = move |(_, parent): &(&u32, &Option<u32>)| **parent == Some(bucket);
        self.buckets.iter().filter(below).map(|(id, _)| *id)
    }

    /// Returns what is used or reserved in a bucket.
    fn weight(&self, bucket: u32) -> usize {
        let below = self
            .children(bucket)
            .map(|child| self.weight(child).max(self.shares[&child].0));
        self.own_held(bucket) + below.sum::<usize>()
    }

    /// Returns the slots that are missing for what is reserved.
    pub(super) fn missing(&self) -> usize {
        (self.weight(0) - self.held(0)).saturating_sub(self.free())
    }

    /// Returns whether a job's bucket may have one more token.
    pub(super) fn may_have_token(&self, bucket: u32) -> bool {
        let way = self.way_up(bucket);
        let below_root = || way.iter().filter(|bucket| **bucket != 0);
        if below_root().any(|bucket| self.held(*bucket) >= self.shares[bucket].1) {
            return false;
        }
        // With the root alone there is no bucket to reserve for.
        !self.reserve
            || self.buckets.len() == 1
            || below_root().any(|bucket| self.weight(*bucket) < self.shares[bucket].0)
            || self.free() > self.weight(0) - self.held(0)
    }

    /// Returns whether a job avoids this server.
    pub(super) fn avoids(&self, job: &Job, server: u32) -> bool {
        job.ticket.avoid == Some(ServerId(server))
            && self.used().iter().any(|other| *other != server)
    }

    // === Events

    /// Gives a job to a worker. `asked`: it was the worker's turn, and no scheduler chose it.
    pub(super) fn start(&mut self, worker: u32, id: u64, asked: bool) {
        let job = self.jobs[&id].clone();
        let entry = &self.workers[&worker];
        let server = entry.server;
        assert!(
            entry.jobs.is_empty() && !entry.leaving && entry.link == LinkState::Up,
            "worker {worker} can"
        );
        assert!(
            asked || self.idle().contains(&worker),
            "worker {worker} may"
        );
        assert!(self.in_use(server), "server {server} is in use");
        assert!(
            self.running(server, true) < self.limit(server),
            "server {server} is below its limit"
        );
        // A job that was bound when there was no other server stays bound.
        let bound = self.early && job.queued;
        assert!(
            bound || !self.avoids(&job, server),
            "server {server} is not to be avoided"
        );
        if !asked && self.servers[&server].role == Role::Standby {
            let active = self
                .idle()
                .into_iter()
                .map(|worker| self.workers[&worker].server);
            let better = active.filter(|server| self.servers[server].role == Role::Active);
            assert!(
                self.early || !better.into_iter().any(|server| !self.avoids(&job, server)),
                "an active server first"
            );
        }
        if job.queued {
            self.note_turn(&job);
        }
        let entry = self.workers.get_mut(&worker).expect("known");
        entry.jobs.push(id);
        (entry.idle, entry.is_fresh) = (false, false);
        self.jobs.get_mut(&id).expect("known").queued = false;
    }

    /// Gives a worker this job besides its first.
    pub(super) fn start_besides(&mut self, worker: u32, id: u64) {
        let job = self.jobs[&id].clone();
        let entry = &self.workers[&worker];
        let server = entry.server;
        let first = &self.jobs[entry.jobs.first().expect("it has a first")];
        assert!(job.queued && !job.retried && job.ticket.batchable && first.ticket.batchable);
        assert!(!first.retried, "what is tried again goes alone");
        assert_eq!(
            job.ticket.bucket, first.ticket.bucket,
            "a batch is of one bucket"
        );
        let other = |other: &&Job| other.queued && other.ticket.bucket != job.ticket.bucket;
        assert_eq!(
            self.jobs.values().filter(other).count(),
            0,
            "no other bucket waits"
        );
        assert!(self.early || !self.avoids(&job, server));
        let eager = self
            .idle()
            .into_iter()
            .find(|idle| !self.early && !self.avoids(&job, self.workers[idle].server));
        assert!(
            eager.is_none() || !self.may_have_token(job.ticket.bucket.0),
            "no batch while {eager:?} is idle"
        );
        self.note_turn(&job);
        self.workers.get_mut(&worker).expect("known").jobs.push(id);
        self.jobs.get_mut(&id).expect("known").queued = false;
    }

    /// Between two turns of a waiting client, another client has at most one.
    fn note_turn(&mut self, job: &Job) {
        let (Some(key), false, false) = (job.ticket.key, job.urgent, self.early) else {
            return;
        };
        let bucket = job.ticket.bucket.0;
        self.turns
            .retain(|(of, waiting, _), _| *of != bucket || *waiting != key);
        let others = self.jobs.values().filter(|other| {
            other.queued
                && !other.urgent
                && other.ticket.bucket.0 == bucket
                && other.ticket.key != Some(key)
        });
        let others = others
            .filter_map(|other| other.ticket.key)
            .collect::<HashSet<_>>();
        for other in others {
            let turns = self.turns.entry((bucket, other, key)).or_default();
            *turns += 1;
            assert!(
                *turns <= 1,
                "client {key} has two turns while {other} waits"
            );
        }
    }

    /// Forgets the turns of clients that do not wait any more.
    pub(super) fn forget_turns(&mut self) {
        let waits = |bucket: u32, key: u64| {
            let own = |job: &Job| {
                job.queued
                    && !job.urgent
                    && job.ticket.bucket.0 == bucket
                    && job.ticket.key == Some(key)
            };
            self.jobs.values().any(own)
        };
        let waiting = self
            .turns
            .keys()
            .map(|(bucket, key, _)| (*bucket, *key))
            .collect::<HashSet<_>>();
        let waiting = waiting
            .into_iter()
            .filter(|(bucket, key)| waits(*bucket, *key))
            .collect::<HashSet<_>>();
        self.turns
            .retain(|(bucket, key, _), _| waiting.contains(&(*bucket, *key)));
    }

    /// After a change of buckets, clients begin new rounds.
    pub(super) fn begin_turns(&mut self) {
        self.turns.clear();
    }

    /// Takes all jobs from a worker.
    pub(super) fn stop(&mut self, worker: u32) -> Vec<u64> {
        std::mem::take(&mut self.workers.get_mut(&worker).expect("known").jobs)
    }

    /// Takes one of several jobs from a worker.
    pub(super) fn stop_one(&mut self, worker: u32, id: u64) {
        let entry = self.workers.get_mut(&worker).expect("known");
        entry.jobs.retain(|job| *job != id);
    }

    /// Makes a job wait again, or rest before.
    pub(super) fn put_back(&mut self, id: u64, ticket: Ticket, rests: Option<Instant>) {
        let job = self.jobs.get_mut(&id).expect("known");
        // The job's bucket may have been removed meanwhile.
        let bucket = job.ticket.bucket;
        job.ticket = Ticket {
            bucket,
            batchable: false,
            ..ticket
        };
        (job.queued, job.rests) = (rests.is_none(), rests);
        (job.urgent, job.retried) = (true, true);
    }

    /// Ends the rests that are over.
    pub(super) fn wake(&mut self, now: Instant) {
        let due = |job: &&mut Job| job.rests.is_some_and(|end| end <= now);
        for job in self.jobs.values_mut().filter(due) {
            (job.queued, job.rests) = (true, None);
        }
    }

    /// Returns when something is due: a rest ends, or a job's deadline passes, resting or not.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let not_served = self
            .jobs
            .values()
            .filter(|job| job.queued || job.rests.is_some());
        let due = not_served.map(|job| job.rests.into_iter().chain([job.gives_up()]).min());
        due.min().flatten()
    }

    /// Notes that a job is over.
    pub(super) fn end(&mut self, id: u64) {
        assert!(self.jobs.remove(&id).is_some(), "job {id} was alive");
        assert!(self.ended.insert(id), "job {id} ends only once");
    }

    /// Follows workers that start and are dismissed.
    pub(super) fn staff<J>(&mut self, outcome: &Outcome<J>) {
        for WorkerId(worker) in &outcome.dismissed {
            let worker = self
                .workers
                .get_mut(worker)
                .expect("a dismissed worker exists");
            assert!(!worker.leaving, "no worker is dismissed twice");
            (worker.leaving, worker.idle) = (true, false);
        }
        assert!(
            !self.closed || outcome.started.is_empty(),
            "no worker is started at the end"
        );
        for (server, WorkerId(worker)) in &outcome.started {
            let new = Worker {
                server: server.0,
                link: LinkState::Connecting,
                leaving: false,
                idle: false,
                is_fresh: true,
                idle_since: 0,
                jobs: Vec::new(),
            };
            assert!(
                self.workers.insert(*worker, new).is_none(),
                "its place was free"
            );
        }
    }

    /// Checks that every server has its wanted number of workers, or as many as the leaving ones
    /// allow.
    pub(super) fn check_staff(&self) {
        for (id, server) in &self.servers {
            let own = || self.workers.values().filter(|worker| worker.server == *id);
            let staying = own().filter(|worker| !worker.leaving).count();
            let off = server.role == Role::Terminating || server.admin == Admin::Disabled;
            let wanted = if off { 0 } else { server.capacity };
            assert!(staying <= wanted);
            assert!(
                staying == wanted || own().count() >= wanted || self.closed,
                "no worker is missing at {id}"
            );
            assert!(
                server.role != Role::Terminating || own().count() > 0,
                "it goes when it can"
            );
        }
    }
}
