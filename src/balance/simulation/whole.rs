//! Everything at once: random trees of buckets, arrivals, service times, crashes and
//! reconfigurations. After every step the test checks what must hold in any case, as computed by a
//! [`Shadow`] that knows nothing of the dispatcher's inside.

mod changes;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::shadow::{Job, Server, Shadow};
use super::{PrintedOnPanic, Random};
use crate::balance::*;

const SEEDS: u64 = 6000;
const STEPS: usize = 250;
const MOST_SERVERS: usize = 5;
const MOST_BUCKETS: usize = 7;

#[test]
fn whatever_happens_the_rules_hold() {
    super::for_each_seed(SEEDS, |seed| simulate(seed, None));
}

/// The same with panics of workers every few steps.
#[test]
fn panics_of_workers_cost_nothing_but_what_was_in_their_hands() {
    super::for_each_seed(SEEDS / 4, |seed| {
        simulate(seed, Some(1 + seed as usize % 8));
    });
}

/// `panics`: one in this many steps is the panic of a worker.
fn simulate(seed: u64, panics: Option<usize>) {
    let _seed = PrintedOnPanic(seed);
    let mut random = Random::new(seed);
    let mut simulation = Simulation::new(&mut random);
    for _ in 0..STEPS {
        match panics {
            Some(steps) if random.one_in(steps) => simulation.panic(&mut random),
            _ => simulation.step(&mut random),
        }
        simulation.check();
    }
    simulation.clear(&mut random);
}

struct Simulation {
    dispatcher: Dispatcher<u64>,
    shadow: Shadow,
    now: Instant,
    offered: u64,
    /// One in this many requests has a deadline of its own.
    clients: usize,
    /// How rarely something is changed.
    calm: usize,
}

fn schedule(random: &mut Random) -> Schedule {
    random.pick(&[
        Schedule::RoundRobin,
        Schedule::Chance,
        Schedule::LeastLoad,
        Schedule::Random,
        Schedule::TwoChoices,
        Schedule::PeakEwma,
        Schedule::Rendezvous { balance: 125 },
        Schedule::Jump { balance: 125 },
    ])
}

fn lending(random: &mut Random) -> Lending {
    random.pick(&[
        Lending::WorkConserving,
        Lending::WorkConserving,
        Lending::Reserve,
    ])
}

fn bucket(random: &mut Random) -> Bucket {
    let share = |random: &mut Random| {
        if random.one_in(4) {
            Share::Requests(random.below(6) as u32)
        } else {
            Share::Part(random.below(11) as f64 / 10.0)
        }
    };
    let queue_limit = if random.one_in(3) {
        random.below(6)
    } else {
        usize::MAX
    };
    Bucket {
        assured: share(random),
        ceiling: if random.one_in(2) {
            Share::Part(1.0)
        } else {
            share(random)
        },
        queue_limit,
    }
}

impl Simulation {
    fn new(random: &mut Random) -> Self {
        let settings = Settings {
            early_binding: random.one_in(5),
            queue_limit: if random.one_in(4) {
                random.below(20)
            } else {
                200
            },
            wait_for_server: random.one_in(2),
            retry_floor: random.below(10),
            retry_share: random.below(5) as f64 / 10.0,
            schedule: schedule(random),
            lending: lending(random),
            seed: random.below(1000) as u64,
        };
        let mut simulation = Self {
            dispatcher: Dispatcher::new(settings),
            shadow: Shadow {
                early: settings.early_binding,
                reserve: settings.lending == Lending::Reserve,
                buckets: [(0, None)].into(),
                ..Shadow::default()
            },
            now: Instant::now(),
            offered: 0,
            clients: 1 + random.below(4),
            calm: 1 + random.below(40),
        };
        for _ in 0..1 + random.below(3) {
            simulation.add_server(random);
        }
        for _ in 0..random.below(MOST_BUCKETS) {
            simulation.add_bucket(random);
        }
        if !random.one_in(4) {
            let workers = simulation
                .shadow
                .workers
                .keys()
                .copied()
                .collect::<Vec<_>>();
            for worker in workers {
                simulation.next(worker, Verdict::None, LinkState::Up, 1);
            }
        }
        simulation
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(33) {
            0..14 => self.offer(random),
            14..27 => self.act_on_a_worker(random),
            27 => self.cancel(random),
            28 => self.borrow(random),
            29 | 30 => self.now += Duration::from_millis(random.below(20) as u64),
            31 => self.wake(),
            _ if random.one_in(self.calm) => self.change(random),
            _ => {}
        }
    }

    fn offer(&mut self, random: &mut Random) {
        self.offered += 1;
        let mut ticket = Ticket {
            id: self.offered,
            // Sometimes one that does not exist.
            bucket: BucketId(random.below(self.shadow.buckets.len() + 1) as u32),
            key: (!random.one_in(5)).then(|| random.below(self.clients) as u64),
            affinity: (!random.one_in(5)).then(|| random.below(self.clients) as u64),
            deadline: self.now + Duration::from_millis(random.below(400) as u64),
            answer_by: random
                .one_in(8)
                .then(|| self.now + Duration::from_millis(random.below(300) as u64)),
            avoid: random
                .one_in(20)
                .then(|| ServerId(random.below(MOST_SERVERS + 1) as u32)),
            batchable: !random.one_in(4),
        };
        let before = self.shadow.missing();
        let was_idle = !self.shadow.idle().is_empty();
        let known = Some(ticket.bucket.0).filter(|bucket| self.shadow.buckets.contains_key(bucket));
        let has_token = self.shadow.may_have_token(known.unwrap_or(0));
        let offer = self.dispatcher.offer(ticket.id, ticket, self.now);
        ticket.bucket = BucketId(known.unwrap_or(0));
        let urgent = ticket
            .avoid
            .is_some_and(|server| self.shadow.servers.contains_key(&server.0));
        if !urgent {
            ticket.avoid = None;
        }
        let job = Job {
            ticket,
            queued: false,
            rests: None,
            urgent,
            retried: false,
        };
        self.shadow.jobs.insert(ticket.id, job);
        match offer {
            Offer::Assigned(WorkerId(worker), id) => {
                assert!(has_token, "{ticket:?} may have a token");
                self.shadow.start(worker, id, false);
                assert!(
                    !self.shadow.reserve || self.shadow.missing() <= before,
                    "what is reserved is kept"
                );
            }
            Offer::Queued => {
                self.shadow.jobs.get_mut(&ticket.id).expect("known").queued = true;
            }
            Offer::Refused(refusal, id) => {
                let serves = self.dispatcher.admin == Admin::Enabled && !self.dispatcher.closed;
                assert_eq!(
                    matches!(refusal, Refusal::Closed | Refusal::Disabled),
                    !serves
                );
                if refusal == Refusal::NoServer {
                    assert!(self.shadow.used().is_empty());
                }
                if matches!(
                    refusal,
                    Refusal::QueueFull | Refusal::ClientQueueFull | Refusal::Hopeless
                ) {
                    let free = was_idle && has_token && ticket.avoid.is_none();
                    assert!(
                        !free || self.shadow.early,
                        "no job is refused ({refusal:?}) while there is room"
                    );
                }
                self.shadow.end(id);
            }
        }
    }

    fn act_on_a_worker(&mut self, random: &mut Random) {
        let workers = self.shadow.workers.keys().copied().collect::<Vec<_>>();
        if workers.is_empty() {
            return;
        }
        let worker = random.pick(&workers);
        let link = match random.below(10) {
            0 => LinkState::Connecting,
            1 => LinkState::Unreachable,
            _ => LinkState::Up,
        };
        let most = if random.one_in(2) { 1 } else { random.below(6) };
        let entry = &self.shadow.workers[&worker];
        let id = (!entry.jobs.is_empty()).then(|| random.pick(&entry.jobs));
        match id {
            Some(_) if random.one_in(20) => self.next(worker, Verdict::None, LinkState::Up, most),
            Some(_) if random.one_in(20) => assert!(!self.dispatcher.retire(WorkerId(worker))),
            Some(id) => {
                let is_part = random.one_in(if entry.jobs.len() > 1 { 2 } else { 20 });
                let verdict = if random.one_in(4) {
                    let avoid = (!random.one_in(6)).then_some(ServerId(entry.server));
                    let ticket = Ticket {
                        avoid,
                        ..self.shadow.jobs[&id].ticket
                    };
                    Verdict::Retry {
                        job: id,
                        ticket,
                        free: random.one_in(2),
                        back_off: match random.below(6) {
                            0 | 1 => Duration::from_millis(1 + random.below(60) as u64),
                            2 => Duration::MAX,
                            _ => Duration::ZERO,
                        },
                    }
                } else {
                    Verdict::Done
                };
                if is_part {
                    self.part(worker, id, verdict);
                } else {
                    self.next(worker, verdict, link, most);
                }
            }
            None if entry.leaving => self.gone(worker),
            None if random.one_in(4) => {
                assert!(self.dispatcher.retire(WorkerId(worker)));
                if entry.idle {
                    let entry = self.shadow.workers.get_mut(&worker).expect("known");
                    entry.is_fresh |= entry.link != LinkState::Connecting;
                    (entry.idle, entry.link) = (false, LinkState::Connecting);
                }
            }
            None => self.next(worker, Verdict::None, link, most),
        }
    }

    /// Makes a worker panic. The job in its hand is over. The jobs of a batch behind it are tried
    /// again, or are over too. The worker begins again, or it ends without a dismissal and another
    /// one is started in its place.
    fn panic(&mut self, random: &mut Random) {
        let workers = self.shadow.workers.keys().copied().collect::<Vec<_>>();
        if workers.is_empty() {
            return;
        }
        let worker = random.pick(&workers);
        while let [first, behind, ..] = self.shadow.workers[&worker].jobs[..] {
            if random.one_in(2) {
                let ticket = self.shadow.jobs[&behind].ticket;
                let verdict = Verdict::Retry {
                    job: behind,
                    ticket,
                    free: random.one_in(2),
                    back_off: Duration::ZERO,
                };
                self.part(worker, behind, verdict);
            } else {
                self.part(worker, first, Verdict::Done);
            }
            self.check();
        }
        let verdict = match self.shadow.workers[&worker].jobs.is_empty() {
            true => Verdict::None,
            false => Verdict::Done,
        };
        self.next(worker, verdict, LinkState::Connecting, 1);
        self.check();
        // A worker without a connection may panic again at once.
        if random.one_in(3) {
            self.next(worker, Verdict::None, LinkState::Connecting, 1);
        }
        if random.one_in(3) {
            self.gone(worker);
        } else if !self.shadow.workers[&worker].leaving && random.one_in(2) {
            self.next(worker, Verdict::None, LinkState::Up, 1);
        }
    }

    fn next(&mut self, worker: u32, verdict: Verdict<u64>, link: LinkState, most: usize) {
        let again = match &verdict {
            Verdict::Retry {
                job,
                ticket,
                back_off,
                ..
            } => Some((*job, *ticket, self.end_of_rest(ticket, *back_off))),
            Verdict::None | Verdict::Done => None,
        };
        let over = match verdict {
            Verdict::None => Vec::new(),
            _ => self.shadow.stop(worker),
        };
        for id in over {
            match again {
                Some((job, ticket, rests)) if job == id => self.shadow.put_back(id, ticket, rests),
                _ => self.shadow.end(id),
            }
        }
        let entry = self.shadow.workers.get_mut(&worker).expect("known");
        let had_job = !entry.jobs.is_empty();
        entry.is_fresh |= entry.link != link;
        entry.link = link;
        entry.idle &= link == LinkState::Up;
        let mut more = VecDeque::new();
        let handout = self.dispatcher.next_batch(
            WorkerId(worker),
            verdict,
            link,
            (most, &mut more),
            self.now,
        );
        self.carry_out(&handout, Some((worker, link == LinkState::Up && !had_job)));
        assert!(more.is_empty() || more.len() < most);
        self.check_part(worker, more.len(), handout.refused.len());
        for id in more {
            self.shadow.start_besides(worker, id);
        }
    }

    /// Returns until when a job rests before its retry, if it rests.
    fn end_of_rest(&self, ticket: &Ticket, back_off: Duration) -> Option<Instant> {
        let end = || self.now.checked_add(back_off).unwrap_or(ticket.deadline);
        (!back_off.is_zero()).then(end)
    }

    /// Checks that a worker takes besides no more than its part of what waited: what it took, what
    /// still waits, and what was refused.
    fn check_part(&self, worker: u32, more: usize, refused: usize) {
        let server = self.shadow.workers[&worker].server;
        let (waiting, workers) = if self.shadow.early {
            let bound = self
                .dispatcher
                .server(ServerId(server))
                .map(|counts| counts.bound);
            (bound.expect("known"), self.shadow.part(server))
        } else {
            (self.dispatcher.counts().queued, self.shadow.capacity())
        };
        assert!(
            more * workers <= waiting + more + refused,
            "worker {worker} leaves the others their part"
        );
    }

    /// Ends one of a worker's jobs, or puts it back.
    fn part(&mut self, worker: u32, id: u64, verdict: Verdict<u64>) {
        self.shadow.stop_one(worker, id);
        match &verdict {
            Verdict::Retry {
                ticket, back_off, ..
            } => {
                let rests = self.end_of_rest(ticket, *back_off);
                self.shadow.put_back(id, *ticket, rests);
            }
            _ => self.shadow.end(id),
        }
        let handout = self
            .dispatcher
            .end_one(WorkerId(worker), id, verdict, self.now);
        assert_eq!(handout.next, None);
        self.carry_out(&handout, None);
    }

    /// Follows what the dispatcher has decided.
    fn carry_out(&mut self, handout: &Handout<u64>, asking: Option<(u32, bool)>) {
        self.learn_shares();
        for (refusal, id) in &handout.refused {
            let job = &self.shadow.jobs[id];
            match refusal {
                Refusal::QueueTimeout => assert!(job.gives_up() <= self.now),
                Refusal::Hopeless => assert!(job.ticket.answer_by.is_some() && job.rests.is_none()),
                Refusal::NoServer => assert!(self.shadow.used().is_empty() && job.rests.is_none()),
                Refusal::Closed | Refusal::Disabled | Refusal::RetryBudget => {}
                _ => panic!("{refusal:?} is only for offers"),
            }
            self.shadow.end(*id);
        }
        let before = self.shadow.missing();
        let mut admitted = Vec::new();
        if let Some((worker, asks)) = asking {
            if let Some(id) = handout.next {
                assert!(asks);
                admitted.push(self.shadow.jobs[&id].ticket.bucket.0);
                self.shadow.start(worker, id, true);
            } else if asks {
                // Unless a job is assigned to it by the same call.
                self.shadow.rest(worker);
            }
        }
        for (WorkerId(worker), id) in &handout.assigned {
            admitted.push(self.shadow.jobs[id].ticket.bucket.0);
            self.shadow.start(*worker, *id, false);
        }
        for bucket in admitted
            .iter()
            .flat_map(|bucket| self.shadow.way_up(*bucket))
        {
            let (_, ceiling) = self.shadow.shares[&bucket];
            assert!(
                bucket == 0 || self.shadow.held(bucket) <= ceiling,
                "bucket {bucket} is below its ceiling"
            );
        }
        assert!(
            !self.shadow.reserve || admitted.is_empty() || self.shadow.missing() <= before,
            "what is reserved is kept"
        );
    }

    fn learn_shares(&mut self) {
        let shares = self.dispatcher.buckets().map(|id| {
            let counts = self.dispatcher.bucket(id);
            (id.0, (counts.assured, counts.ceiling))
        });
        self.shadow.shares = shares.collect();
    }

    /// Borrows a worker to look at a server, in use or not. The worker comes back like any other
    /// without a job.
    fn borrow(&mut self, random: &mut Random) {
        let server = random.below(MOST_SERVERS + 1) as u32;
        let expected = self.shadow.borrow(server).map(WorkerId);
        let borrowed = self.dispatcher.borrow(ServerId(server));
        assert_eq!(borrowed, expected, "borrowed from server {server}");
    }

    fn cancel(&mut self, random: &mut Random) {
        let id = self.offered + 1 - random.below(self.offered.min(40) as usize + 1) as u64;
        match self.dispatcher.cancel(id) {
            Cancelled::Queued(cancelled) => {
                assert_eq!(cancelled, id);
                assert!(self.shadow.jobs[&id].queued || self.shadow.jobs[&id].rests.is_some());
                self.shadow.end(id);
            }
            Cancelled::Serving(WorkerId(worker)) => {
                assert!(self.shadow.workers[&worker].jobs.contains(&id));
            }
            Cancelled::Unknown => assert!(!self.shadow.jobs.contains_key(&id)),
        }
    }

    fn wake(&mut self) {
        self.shadow.wake(self.now);
        let handout = self.dispatcher.wake(self.now);
        assert_eq!(handout.next, None);
        self.carry_out(&handout, None);
        assert!(
            self.shadow
                .next_deadline()
                .is_none_or(|deadline| deadline > self.now)
        );
    }

    // === Invariants

    fn check(&mut self) {
        self.learn_shares();
        self.shadow.forget_turns();
        let Self {
            shadow, dispatcher, ..
        } = self;
        dispatcher.check_parts();
        assert_eq!(
            shadow.jobs.len() + shadow.ended.len(),
            self.offered as usize,
            "no job is lost"
        );
        let queued = || shadow.jobs.values().filter(|job| job.queued);
        let resting = shadow
            .jobs
            .values()
            .filter(|job| job.rests.is_some())
            .count();
        let counts = Counts {
            queued: queued().count(),
            resting,
            serving: shadow.jobs.len() - queued().count() - resting,
            up: shadow
                .workers
                .values()
                .filter(|worker| worker.link == LinkState::Up)
                .count(),
            workers: shadow.workers.len(),
            capacity: shadow.capacity(),
        };
        assert_eq!(dispatcher.counts(), counts);
        assert_eq!(dispatcher.next_deadline(), shadow.next_deadline());
        shadow.check_staff();
        for id in shadow.servers.keys() {
            let own = shadow
                .workers
                .values()
                .filter(|worker| worker.server == *id);
            let serving = own.map(|worker| worker.jobs.len()).sum();
            let counts = dispatcher.server(ServerId(*id));
            assert_eq!(counts.map(|counts| counts.serving), Some(serving));
        }
        let mut assured_below = std::collections::BTreeMap::<u32, usize>::new();
        for (id, parent) in &shadow.buckets {
            let counts = dispatcher.bucket(BucketId(*id));
            assert_eq!(counts.held, shadow.held(*id), "tokens of bucket {id}");
            let own = queued().filter(|job| job.ticket.bucket.0 == *id).count();
            assert_eq!(counts.queued, own, "jobs in bucket {id}");
            assert_eq!(counts.violations, 0, "guarantee of bucket {id}");
            assert!(counts.assured <= counts.ceiling);
            match parent {
                Some(parent) => {
                    assert!(counts.ceiling <= shadow.shares[parent].1);
                    *assured_below.entry(*parent).or_default() += counts.assured;
                }
                None => assert_eq!(
                    (counts.assured, counts.ceiling),
                    (shadow.capacity(), shadow.capacity())
                ),
            }
        }
        for (id, below) in assured_below {
            let children = shadow
                .buckets
                .values()
                .filter(|parent| **parent == Some(id))
                .count();
            assert!(
                below <= shadow.shares[&id].0.max(children),
                "assured below {id}"
            );
        }
        // No worker is idle beside a job that it may take and whose bucket may have a token.
        let idle = shadow.idle();
        if idle.is_empty() {
            return;
        }
        for job in queued() {
            let bound = dispatcher.bound(job.ticket.id);
            if !shadow.may_have_token(job.ticket.bucket.0) {
                continue;
            }
            for worker in &idle {
                let server = shadow.workers[worker].server;
                let takes = match bound {
                    Some(bound) => bound.0 == server,
                    None => !shadow.avoids(job, server),
                };
                assert!(
                    !takes,
                    "worker {worker} of server {server} is idle beside {job:?}"
                );
            }
        }
    }

    /// In the end all jobs and workers go, and nothing is left.
    fn clear(mut self, random: &mut Random) {
        self.apply(Change::Close);
        self.shadow.closed = true;
        let Counts {
            queued, resting, ..
        } = self.dispatcher.counts();
        assert_eq!((queued, resting), (0, 0));
        // Some workers go before they are dismissed, and none is started in their place.
        let idle = self
            .shadow
            .workers
            .iter()
            .filter(|(_, worker)| worker.jobs.is_empty());
        for worker in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
            if random.one_in(2) {
                self.gone(worker);
                self.check();
            }
        }
        for id in self.shadow.servers.keys().copied().collect::<Vec<_>>() {
            if random.one_in(2) {
                self.set_server(id, random);
                self.check();
            }
        }
        for id in self.shadow.servers.keys().copied().collect::<Vec<_>>() {
            let unprotected = ServerChange {
                protected: Some(false),
                ..ServerChange::default()
            };
            if self.shadow.servers[&id].role != Role::Terminating {
                self.shadow.servers.get_mut(&id).expect("known").protected = false;
                self.apply(Change::SetServer(ServerId(id), unprotected));
                self.remove_server(id);
            }
            self.check();
        }
        while let Some(worker) = self.shadow.workers.keys().next().copied() {
            if !self.shadow.workers[&worker].jobs.is_empty() {
                self.next(worker, Verdict::Done, LinkState::Up, 1);
            } else {
                self.gone(worker);
            }
            self.check();
        }
        while self.shadow.buckets.len() > 1 {
            let buckets = self.shadow.buckets.keys().copied().collect::<Vec<_>>();
            self.remove_bucket(random.pick(&buckets));
            self.check();
        }
        assert!(self.shadow.jobs.is_empty() && self.shadow.servers.is_empty());
        assert_eq!(self.dispatcher.counts(), Counts::default());
        let root = self.dispatcher.bucket(BucketId(0));
        assert_eq!((root.held, root.queued, root.claims), (0, 0, 0));
        self.dispatcher.check(0);
    }
}
