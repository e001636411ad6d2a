//! What must be true of the servers at any time.

use super::{NONE, Server, Servers, State, Worker, effective_weight};
use crate::balance::{Admin, Health, LinkState, Role, ServerId};

impl Servers {
    /// Checks that every count and list agrees with the workers.
    pub(in crate::balance) fn check(&self) {
        let alive = || {
            let workers = self.workers.iter().enumerate();
            workers.filter(|(_, worker)| worker.state != State::Gone)
        };
        let count =
            |which: &dyn Fn(&Worker) -> bool| alive().filter(|(_, worker)| which(worker)).count();
        let jobs_of = |place: usize| {
            let first = self.workers[place].first;
            let (mut jobs, mut next) = (0, first);
            while let Some(entry) = self.running.get(next) {
                assert_eq!(entry.worker as usize, place);
                let bucket = self.running.get(first).map(|first| first.bucket);
                assert_eq!(Some(entry.bucket), bucket, "a batch is of one bucket");
                assert!(
                    !entry.retry || (next == first && entry.next == NONE),
                    "a retry goes alone"
                );
                next = entry.next;
                jobs += 1;
            }
            assert!(jobs <= self.workers[place].taken);
            assert_eq!(jobs > 0, self.workers[place].state == State::Serving);
            jobs
        };
        let all: u32 = alive().map(|(place, _)| jobs_of(place)).sum();
        assert_eq!(self.serving, all as usize);
        self.running.check(self.serving);
        assert_eq!(self.up, count(&|worker| worker.link == LinkState::Up));
        assert_eq!(self.worker_count, count(&|_| true));
        let usable = |role: Role| {
            let by_role = |(place, server): &(usize, &Server)| {
                server.role == role && self.is_usable(ServerId(*place as u32))
            };
            self.servers.iter().enumerate().filter(by_role).count()
        };
        let backups = usable(Role::Active) + usable(Role::Standby) == 0;
        let (mut capacity, mut in_use_busy, mut loaded, mut weights, mut in_use, mut idles) =
            (0, 0, 0, 0, 0, 0);
        for (index, server) in self.servers.iter().enumerate() {
            let id = ServerId(index as u32);
            let own = |worker: &Worker| worker.server == id;
            assert_eq!(server.live, count(&own));
            assert_eq!(
                server.staying,
                count(&|worker| own(worker) && !worker.leaving)
            );
            assert!(
                server.exists || server.live == 0,
                "nothing is left of a server that is gone"
            );
            assert_eq!(
                server.reachable,
                count(&|worker| own(worker)
                    && !worker.leaving
                    && worker.link != LinkState::Unreachable)
            );
            let busy = |leaving: bool| {
                count(&|worker| {
                    own(worker) && worker.state == State::Serving && (leaving || !worker.leaving)
                })
            };
            let load = &self.loads[index];
            assert_eq!(
                (server.busy, load.running as usize),
                (busy(false), busy(true))
            );
            let jobs: u32 = alive()
                .filter(|(_, worker)| own(worker))
                .map(|(place, _)| jobs_of(place))
                .sum();
            assert_eq!(load.running + load.besides, jobs);
            let (mut idle, mut before, mut worker) = (0, NONE, server.next_idle);
            while worker != NONE {
                let entry = &self.workers[worker as usize];
                assert!(
                    own(entry)
                        && entry.state == State::Idle
                        && entry.link == LinkState::Up
                        && entry.before == before
                );
                assert!(!entry.leaving);
                (before, worker) = (worker, entry.behind);
                idle += 1;
            }
            assert_eq!(
                server.final_idle, before,
                "the worker that gets a job last is at the end"
            );
            assert_eq!(
                idle,
                count(&|worker| own(worker) && worker.state == State::Idle)
            );
            let used = self.is_usable(id) && (server.role != Role::Backup || backups);
            assert_eq!((server.in_use, self.in_use.contains(id.0)), (used, used));
            let may_work = used && idle > 0 && busy(true) < server.limit();
            assert_eq!(self.has_idle(id), may_work);
            idles += usize::from(may_work);
            if used {
                in_use += 1;
                capacity += server.reachable.min(server.limit());
                in_use_busy += busy(false);
                loaded += u64::from(self.loads[index].jobs());
                weights += u64::from(effective_weight(server.weight, server.warmth));
            }
        }
        assert_eq!(self.in_use.len(), in_use);
        assert_eq!(self.all_idle().count(), idles);
        assert_eq!((self.capacity, self.busy), (capacity, in_use_busy));
        assert_eq!((self.loaded, self.weights), (loaded, weights));
    }

    /// Returns whether a server could get jobs if its role is asked for.
    fn is_usable(&self, id: ServerId) -> bool {
        let server = &self.servers[id.0 as usize];
        server.exists
            && server.admin == Admin::Enabled
            && server.health == Health::Online
            && server.role != Role::Terminating
            && server.reachable > 0
    }
}
