//! Servers and their workers: who is idle, who serves what, who can be reached.

use super::bits::Bits;
use super::{Link, ServerId, WorkerId};

/// No worker.
const NONE: u32 = u32::MAX;

/// Number of no job; a job that had it all the same would still be found (the worker's state decides).
const NO_JOB: u64 = u64::MAX;

/// All servers of a cluster.
#[derive(Debug, Default)]
pub(super) struct Servers {
    servers: Vec<Server>,
    workers: Vec<Worker>,
    /// What each worker serves. Apart from `workers`, so that a job is found by one pass over dense memory.
    jobs: Vec<u64>,
    /// Servers with an idle worker.
    idle: Bits,
    /// Servers with a worker that is not unreachable.
    reachable: Bits,
    serving: usize,
    /// Those of them that a worker has besides its first.
    batched: usize,
    up: usize,
}

#[derive(Debug)]
struct Server {
    /// The idle worker that became so last; its connection is the warmest.
    last_idle: u32,
    /// Workers that are not unreachable.
    reachable: usize,
    /// Workers whose connection is up.
    up: usize,
}

#[derive(Debug)]
struct Worker {
    server: ServerId,
    link: Link,
    state: State,
    /// What it serves besides the job in `jobs`; such a job counts against no retry budget.
    more: Vec<u64>,
    /// Neighbours among the server's idle workers.
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for a job.
    Idle,
    /// It looks after its connection.
    Away,
    /// It has a job.
    Serving {
        /// The job counts against the retry budget.
        retry: bool,
    },
}

impl Servers {
    /// Adds a server with so many workers, all being connected.
    pub(super) fn add(&mut self, capacity: usize) {
        let server = ServerId(self.servers.len() as u32);
        self.servers.push(Server {
            last_idle: NONE,
            reachable: capacity,
            up: 0,
        });
        if capacity > 0 {
            self.reachable.insert(server.0);
        }
        for _ in 0..capacity {
            self.workers.push(Worker {
                server,
                link: Link::Connecting,
                state: State::Away,
                more: Vec::new(),
                newer: NONE,
                older: NONE,
            });
            self.jobs.push(NO_JOB);
        }
    }

    /// The server of this worker, if there is such a worker.
    pub(super) fn server_of(&self, worker: WorkerId) -> Option<ServerId> {
        self.workers.get(worker.0 as usize).map(|worker| worker.server)
    }

    /// Servers with an idle worker.
    pub(super) fn idle(&self) -> &Bits {
        &self.idle
    }

    /// Servers with a worker that is connected or being connected.
    pub(super) fn reachable(&self) -> &Bits {
        &self.reachable
    }

    /// The idle worker of this server that became so last.
    pub(super) fn idle_worker(&self, server: ServerId) -> Option<WorkerId> {
        self.servers
            .get(server.0 as usize)
            .filter(|server| server.last_idle != NONE)
            .map(|server| WorkerId(server.last_idle))
    }

    pub(super) fn is_idle(&self, worker: WorkerId) -> bool {
        self.state(worker) == Some(State::Idle)
    }

    pub(super) fn is_serving(&self, worker: WorkerId) -> bool {
        matches!(self.state(worker), Some(State::Serving { .. }))
    }

    /// Who serves the job of this number.
    pub(super) fn serving(&self, id: u64) -> Option<WorkerId> {
        let mut start = 0;
        while let Some(found) = self.jobs[start..].iter().position(|job| *job == id) {
            let worker = WorkerId((start + found) as u32);
            if self.is_serving(worker) {
                return Some(worker);
            }
            start += found + 1;
        }
        self.serving_besides(id)
    }

    /// Who serves the job of this number besides another.
    fn serving_besides(&self, id: u64) -> Option<WorkerId> {
        if self.batched == 0 {
            return None;
        }
        let found = self.workers.iter().position(|worker| worker.more.contains(&id));
        found.map(|worker| WorkerId(worker as u32))
    }

    /// Jobs being served.
    pub(super) fn serving_count(&self) -> usize {
        self.serving
    }

    /// Workers whose connection is up.
    pub(super) fn up_count(&self) -> usize {
        self.up
    }

    /// Workers of this server whose connection is up.
    pub(super) fn up_of(&self, server: ServerId) -> usize {
        self.servers.get(server.0 as usize).map_or(0, |server| server.up)
    }

    /// Workers in all.
    pub(super) fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Notes the state of a connection. Who is not up is not idle. `true` if the server could be reached so far and no longer can.
    pub(super) fn set_link(&mut self, worker: WorkerId, link: Link) -> bool {
        let Some(entry) = self.workers.get_mut(worker.0 as usize) else {
            return false;
        };
        let old = std::mem::replace(&mut entry.link, link);
        if old == link {
            return false;
        }
        let id = entry.server;
        self.up += usize::from(link == Link::Up);
        self.up -= usize::from(old == Link::Up);
        if self.is_idle(worker) {
            self.leave_idle(worker, State::Away);
        }
        let server = &mut self.servers[id.0 as usize];
        server.reachable += usize::from(link != Link::Unreachable);
        server.reachable -= usize::from(old != Link::Unreachable);
        server.up += usize::from(link == Link::Up);
        server.up -= usize::from(old == Link::Up);
        if server.reachable > 0 {
            self.reachable.insert(id.0);
            return false;
        }
        self.reachable.remove(id.0);
        old != Link::Unreachable
    }

    /// A worker waits for a job from now on.
    pub(super) fn rest(&mut self, worker: WorkerId) {
        let Some(entry) = self.workers.get_mut(worker.0 as usize) else {
            return;
        };
        if entry.state != State::Away || entry.link != Link::Up {
            return;
        }
        let server = &mut self.servers[entry.server.0 as usize];
        let older = std::mem::replace(&mut server.last_idle, worker.0);
        (entry.state, entry.newer, entry.older) = (State::Idle, NONE, older);
        self.idle.insert(entry.server.0);
        if older != NONE {
            self.workers[older as usize].newer = worker.0;
        }
    }

    /// A worker has this job from now on.
    pub(super) fn start(&mut self, worker: WorkerId, id: u64, retry: bool) {
        match self.state(worker) {
            None | Some(State::Serving { .. }) => return,
            Some(State::Idle) => self.leave_idle(worker, State::Serving { retry }),
            Some(State::Away) => self.workers[worker.0 as usize].state = State::Serving { retry },
        }
        self.jobs[worker.0 as usize] = id;
        self.serving += 1;
    }

    /// A worker that has a job has this one besides.
    pub(super) fn start_besides(&mut self, worker: WorkerId, id: u64) {
        self.workers[worker.0 as usize].more.push(id);
        self.serving += 1;
        self.batched += 1;
    }

    /// All that a worker has is over. `Some(true)` if it had a job that counts against the retry budget.
    pub(super) fn end(&mut self, worker: WorkerId) -> Option<bool> {
        let Some(State::Serving { retry }) = self.state(worker) else {
            return None;
        };
        let entry = &mut self.workers[worker.0 as usize];
        entry.state = State::Away;
        self.batched -= entry.more.len();
        self.serving -= 1 + entry.more.len();
        entry.more.clear();
        self.jobs[worker.0 as usize] = NO_JOB;
        Some(retry)
    }

    /// One of a worker's jobs is over. `Some(true)` if it counts against the retry budget, `None` if the worker does not have it.
    pub(super) fn end_one(&mut self, worker: WorkerId, id: u64) -> Option<bool> {
        let Some(State::Serving { retry }) = self.state(worker) else {
            return None;
        };
        let (entry, first) = (&mut self.workers[worker.0 as usize], &mut self.jobs[worker.0 as usize]);
        let mut ended = false;
        if *first == id {
            if entry.more.is_empty() {
                return self.end(worker);
            }
            *first = entry.more.swap_remove(0);
            entry.state = State::Serving { retry: false };
            ended = retry;
        } else {
            let place = entry.more.iter().position(|job| *job == id)?;
            entry.more.swap_remove(place);
        }
        self.serving -= 1;
        self.batched -= 1;
        Some(ended)
    }

    fn state(&self, worker: WorkerId) -> Option<State> {
        self.workers.get(worker.0 as usize).map(|worker| worker.state)
    }

    fn leave_idle(&mut self, worker: WorkerId, state: State) {
        let entry = &mut self.workers[worker.0 as usize];
        entry.state = state;
        let (id, newer, older) = (entry.server, entry.newer, entry.older);
        match newer {
            NONE => self.servers[id.0 as usize].last_idle = older,
            newer => self.workers[newer as usize].older = older,
        }
        if older != NONE {
            self.workers[older as usize].newer = newer;
        }
        if self.servers[id.0 as usize].last_idle == NONE {
            self.idle.remove(id.0);
        }
    }
}

#[cfg(test)]
impl Servers {
    /// Whether every count and list agrees with the workers.
    pub(super) fn check(&self) {
        let count = |which: &dyn Fn(&Worker) -> bool| self.workers.iter().filter(|worker| which(worker)).count();
        let batched: usize = self.workers.iter().map(|worker| worker.more.len()).sum();
        assert_eq!(self.batched, batched);
        assert_eq!(
            self.serving,
            batched + count(&|worker| matches!(worker.state, State::Serving { .. }))
        );
        assert!(
            self.workers
                .iter()
                .all(|worker| worker.more.is_empty() || matches!(worker.state, State::Serving { .. }))
        );
        assert_eq!(self.up, count(&|worker| worker.link == Link::Up));
        let mut with_idle = 0;
        let mut reachable = 0;
        for (index, server) in self.servers.iter().enumerate() {
            let own = |worker: &Worker| worker.server == ServerId(index as u32);
            assert_eq!(server.up, count(&|worker| own(worker) && worker.link == Link::Up));
            assert_eq!(
                server.reachable,
                count(&|worker| own(worker) && worker.link != Link::Unreachable)
            );
            let (mut idle, mut newer, mut worker) = (0, NONE, server.last_idle);
            while worker != NONE {
                let entry = &self.workers[worker as usize];
                assert!(own(entry) && entry.state == State::Idle && entry.link == Link::Up && entry.newer == newer);
                (newer, worker) = (worker, entry.older);
                idle += 1;
            }
            assert_eq!(idle, count(&|worker| own(worker) && worker.state == State::Idle));
            let listed = |bits: &Bits| bits.next_from(index as u32) == Some(index as u32);
            assert_eq!(listed(&self.idle), idle > 0);
            assert_eq!(listed(&self.reachable), server.reachable > 0);
            with_idle += usize::from(idle > 0);
            reachable += usize::from(server.reachable > 0);
        }
        assert_eq!((self.idle.len(), self.reachable.len()), (with_idle, reachable));
        for (worker, job) in self.workers.iter().zip(&self.jobs) {
            assert_eq!(*job == NO_JOB, !matches!(worker.state, State::Serving { .. }));
        }
    }
}
