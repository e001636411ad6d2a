//! One bucket and round robin, compared with a slow and simple model.
//!
//! The model follows the documentation with lists that are searched from their beginning, and
//! predicts the result of each call. After every step the test also checks what must hold whatever
//! the model says.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::model::{Job, Model, ModelWorker};
use super::{PrintedOnPanic, Random};
use crate::balance::*;

const SEEDS: u64 = 400;
const STEPS: usize = 400;
const MOST_SERVERS: usize = 5;

#[test]
fn the_dispatcher_does_what_is_documented() {
    super::for_each_seed(SEEDS, simulate);
}

fn simulate(seed: u64) {
    let _seed = PrintedOnPanic(seed);
    let mut random = Random::new(seed);
    let mut simulation = Simulation::new(&mut random);
    for _ in 0..STEPS {
        simulation.step(&mut random);
        simulation.check();
    }
    simulation.close();
    simulation.check();
    simulation.drain(&mut random);
}

/// The dispatcher next to its model, and what happened to the jobs.
struct Simulation {
    dispatcher: Dispatcher<Job>,
    model: Model,
    now: Instant,
    offered: u64,
    ended: HashSet<u64>,
}

impl Simulation {
    fn new(random: &mut Random) -> Self {
        let settings = Settings {
            early_binding: random.one_in(2),
            queue_limit: if random.one_in(4) {
                random.below(3)
            } else {
                random.below(30)
            },
            wait_for_server: random.one_in(2),
            retry_floor: random.below(4),
            retry_share: random.below(5) as f64 / 10.0,
            ..Settings::default()
        };
        let mut simulation = Self {
            dispatcher: Dispatcher::new(settings),
            model: Model::new(settings),
            now: Instant::now(),
            offered: 0,
            ended: HashSet::new(),
        };
        for _ in 0..random.below(MOST_SERVERS + 1) {
            simulation.add_server(random);
        }
        // Otherwise all workers start disconnected.
        if !random.one_in(4) {
            for worker in 0..simulation.model.workers.len() {
                simulation.next(worker, Verdict::None, LinkState::Up, 1);
            }
        }
        simulation
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(40) {
            0..16 => self.offer(random),
            16..30 => self.act_on_a_worker(random),
            30..34 => self.cancel(random),
            34..38 => self.now += Duration::from_millis(random.below(20) as u64),
            38 => self.wake(),
            _ if random.one_in(4) && self.model.servers < MOST_SERVERS => self.add_server(random),
            _ if random.one_in(8) => self.set_binding(random.one_in(2)),
            _ if random.one_in(40) => self.close(),
            _ => {}
        }
    }

    fn offer(&mut self, random: &mut Random) {
        self.offered += 1;
        let ticket = Ticket {
            id: self.offered,
            bucket: BucketId(0),
            key: None,
            affinity: None,
            answer_by: None,
            deadline: self.now + Duration::from_millis(random.below(120) as u64),
            // Sometimes a server that does not exist.
            avoid: random
                .one_in(6)
                .then(|| ServerId(random.below(self.model.servers + 2) as u32)),
            batchable: !random.one_in(4),
        };
        let expected = self.model.offer(ticket, self.now);
        let offer = self.dispatcher.offer(Job(ticket.id), ticket, self.now);
        assert_eq!(offer, expected, "offer of {ticket:?}");
        if let Offer::Refused(_, Job(id)) = offer {
            self.end(id);
        }
    }

    fn act_on_a_worker(&mut self, random: &mut Random) {
        if self.model.workers.is_empty() {
            return;
        }
        let worker = random.below(self.model.workers.len());
        let link = match random.below(6) {
            0 => LinkState::Connecting,
            1 => LinkState::Unreachable,
            _ => LinkState::Up,
        };
        let most = if random.one_in(2) { 1 } else { random.below(5) };
        let serving = &self.model.workers[worker].serving;
        match serving.first() {
            // A race: the worker does not know of its job yet.
            Some(_) if random.one_in(8) => self.next(worker, Verdict::None, link, most),
            Some(_) if random.one_in(8) => self.retire(worker),
            Some(_) if serving.len() > 1 && random.one_in(2) => self.part(worker, random),
            Some(last) => {
                let verdict = last.verdict(self.model.workers[worker].server, random);
                self.next(worker, verdict, link, most);
            }
            // The worker has no such job.
            None if random.one_in(12) => self.part(worker, random),
            None if random.one_in(6) => self.borrow(random),
            None if random.one_in(3) => self.retire(worker),
            // Also if the worker is idle already.
            None => self.next(worker, Verdict::None, link, most),
        }
    }

    fn next(&mut self, worker: usize, verdict: Verdict<Job>, link: LinkState, most: usize) {
        let over: Vec<_> = self.model.workers[worker]
            .serving
            .iter()
            .map(|serving| serving.ticket.id)
            .collect();
        match &verdict {
            Verdict::None => {}
            Verdict::Done => over.into_iter().for_each(|id| self.end(id)),
            Verdict::Retry { ticket, .. } => {
                let others = over.into_iter().filter(|id| *id != ticket.id);
                others.for_each(|id| self.end(id));
            }
        }
        let (mut expected, expected_more) = self.model.next(worker, &verdict, link, most, self.now);
        let mut more = VecDeque::new();
        let handout = self.dispatcher.next_batch(
            WorkerId(worker as u32),
            verdict,
            link,
            (most, &mut more),
            self.now,
        );
        let more: Vec<_> = more.into_iter().map(|job| job.0).collect();
        assert_eq!(more, expected_more, "what worker {worker} takes besides");
        self.compare(
            handout,
            &mut expected,
            &format!("next of worker {worker}, {link:?}"),
        );
    }

    /// Ends one job of several, or one that the worker does not have.
    fn part(&mut self, worker: usize, random: &mut Random) {
        let ModelWorker {
            server, serving, ..
        } = &self.model.workers[worker];
        let (id, verdict) = match serving.len() {
            0 => (self.offered + 1, Verdict::Done),
            some => {
                let serving = &serving[random.below(some)];
                (serving.ticket.id, serving.verdict(*server, random))
            }
        };
        if let Verdict::Done = verdict
            && id <= self.offered
        {
            self.end(id);
        }
        let mut expected = self.model.part(worker, id, &verdict, self.now);
        let handout = self
            .dispatcher
            .end_one(WorkerId(worker as u32), id, verdict, self.now);
        self.compare(
            handout,
            &mut expected,
            &format!("part of worker {worker}, {id}"),
        );
    }

    fn compare(&mut self, mut handout: Handout<Job>, expected: &mut Handout<Job>, what: &str) {
        for (_, Job(id)) in &handout.refused {
            self.end(*id);
        }
        // The order of refusals does not matter.
        handout.refused.sort_by_key(|(_, job)| job.0);
        expected.refused.sort_by_key(|(_, job)| job.0);
        assert_eq!(&handout, expected, "{what}");
    }

    fn retire(&mut self, worker: usize) {
        let expected = self.model.retire(worker);
        assert_eq!(
            self.dispatcher.retire(WorkerId(worker as u32)),
            expected,
            "retirement of worker {worker}"
        );
    }

    fn borrow(&mut self, random: &mut Random) {
        let server = random.below(self.model.servers + 1);
        let expected = self
            .model
            .borrow(server)
            .map(|worker| WorkerId(worker as u32));
        let borrowed = self.dispatcher.borrow(ServerId(server as u32));
        assert_eq!(borrowed, expected, "borrowed from server {server}");
    }

    fn cancel(&mut self, random: &mut Random) {
        // Any job of the past or one that never was, more often a recent one.
        let id = self.offered + 1 - random.below(self.offered.min(40) as usize + 1) as u64;
        let expected = self.model.cancel(id);
        let cancelled = self.dispatcher.cancel(id);
        assert_eq!(cancelled, expected, "cancelling {id}");
        if let Cancelled::Queued(Job(id)) = cancelled {
            self.end(id);
        }
    }

    fn wake(&mut self) {
        let mut expected = self.model.wake(self.now);
        let handout = self.dispatcher.wake(self.now);
        self.compare(handout, &mut expected, "waking");
    }

    fn add_server(&mut self, random: &mut Random) {
        // Rarely one without workers.
        let capacity = if random.one_in(12) {
            0
        } else {
            1 + random.below(4)
        };
        // At the end no worker is started any more.
        let started = if self.model.closed { 0 } else { capacity };
        self.model.add_server(started);
        let added = Change::AddServer(NewServer::with_capacity(capacity));
        let outcome = self
            .dispatcher
            .apply(added, self.now)
            .expect("a server can be added");
        assert_eq!(outcome.handout, Handout::default());
        assert_eq!(outcome.started.len(), started);
    }

    fn set_binding(&mut self, early: bool) {
        let mut expected = self.model.set_binding(early, self.now);
        let change = Change::SetBinding { early };
        let outcome = self
            .dispatcher
            .apply(change, self.now)
            .expect("it can be bound so");
        self.compare(
            outcome.handout,
            &mut expected,
            &format!("binding, early: {early}"),
        );
    }

    fn close(&mut self) {
        let expected = self.model.close();
        let handout = self
            .dispatcher
            .apply(Change::Close, self.now)
            .expect("it can be closed")
            .handout;
        assert!(handout.next.is_none() && handout.assigned.is_empty());
        let mut refused = Vec::new();
        for (refusal, Job(id)) in handout.refused {
            assert_eq!(refusal, Refusal::Closed);
            refused.push(id);
        }
        refused.sort_unstable();
        assert_eq!(refused, expected);
        refused.into_iter().for_each(|id| self.end(id));
    }

    /// Notes that a job is over.
    fn end(&mut self, id: u64) {
        assert!(self.ended.insert(id), "job {id} ends only once");
    }

    /// Checks what must hold at any time.
    fn check(&self) {
        let Model {
            queue,
            resting,
            workers,
            ..
        } = &self.model;
        let serving = workers.iter().flat_map(|worker| &worker.serving);
        let mut places = HashSet::new();
        let rest = resting.iter().map(|(_, waiting)| waiting);
        for id in (queue.iter().chain(rest).chain(serving.clone())).map(|waiting| waiting.ticket.id)
        {
            assert!(places.insert(id), "job {id} is in one place");
            assert!(!self.ended.contains(&id), "job {id} is not over");
        }
        assert_eq!(
            places.len() + self.ended.len(),
            self.offered as usize,
            "no job is lost"
        );
        for waiting in queue {
            let taker = (0..workers.len()).find(|worker| {
                self.model.is_idle(*worker) && self.model.may_take(*worker, waiting)
            });
            assert_eq!(taker, None, "no worker is idle that may take {waiting:?}");
        }
        let counts = Counts {
            queued: queue.len(),
            resting: resting.len(),
            serving: serving.count(),
            up: workers
                .iter()
                .filter(|worker| worker.link == LinkState::Up)
                .count(),
            workers: workers.len(),
            capacity: workers
                .iter()
                .filter(|worker| worker.link != LinkState::Unreachable)
                .count(),
        };
        assert_eq!(self.dispatcher.counts(), counts);
        let deadlines = queue.iter().map(|waiting| waiting.ticket.deadline);
        let rests = resting
            .iter()
            .map(|(end, waiting)| waiting.ticket.deadline.min(*end));
        assert_eq!(
            self.dispatcher.next_deadline(),
            deadlines.chain(rests).min()
        );
        self.dispatcher.check(self.model.live_retries());
    }

    /// After the close, served jobs end and nothing is left.
    fn drain(mut self, random: &mut Random) {
        for worker in 0..self.model.workers.len() {
            if let Some(serving) = self.model.workers[worker].serving.first() {
                let verdict = serving.verdict(self.model.workers[worker].server, random);
                self.next(worker, verdict, LinkState::Up, 1);
                self.check();
            }
        }
        let Counts {
            queued,
            resting,
            serving,
            ..
        } = self.dispatcher.counts();
        assert_eq!((queued, resting, serving), (0, 0, 0));
        assert_eq!(self.ended.len() as u64, self.offered);
        self.dispatcher.check(0);
    }
}
