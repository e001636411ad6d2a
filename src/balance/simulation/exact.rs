//! One bucket and round robin, against a model that is slow and plain.
//!
//! The model follows the documentation with lists searched from their beginning, and says beforehand what each call must answer.
//! Besides that, what must hold whatever the model says is checked after every step.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

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

/// A job. Not to be cloned, and only one of each number.
#[derive(Debug, PartialEq, Eq)]
struct Job(u64);

/// The dispatcher next to its model, and what became of the jobs.
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
        // Otherwise everything starts disconnected.
        if !random.one_in(4) {
            for worker in 0..simulation.model.workers.len() {
                simulation.next(worker, Verdict::None, Link::Up, 1);
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
            answer_by: None,
            deadline: self.now + Duration::from_millis(random.below(120) as u64),
            // Now and then a server that does not exist.
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
            0 => Link::Connecting,
            1 => Link::Unreachable,
            _ => Link::Up,
        };
        let most = if random.one_in(2) { 1 } else { random.below(5) };
        let serving = &self.model.workers[worker].serving;
        match serving.first() {
            // The races: the worker does not know of its job yet.
            Some(_) if random.one_in(8) => self.next(worker, Verdict::None, link, most),
            Some(_) if random.one_in(8) => self.retire(worker),
            Some(_) if serving.len() > 1 && random.one_in(2) => self.part(worker, random),
            Some(last) => {
                let verdict = last.verdict(self.model.workers[worker].server, random);
                self.next(worker, verdict, link, most);
            }
            // It has nothing of the kind.
            None if random.one_in(12) => self.part(worker, random),
            None if random.one_in(3) => self.retire(worker),
            // Even if it is idle already.
            None => self.next(worker, Verdict::None, link, most),
        }
    }

    fn next(&mut self, worker: usize, verdict: Verdict<Job>, link: Link, most: usize) {
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
        let handout = self
            .dispatcher
            .next_batch(WorkerId(worker as u32), verdict, link, (most, &mut more), self.now);
        let more: Vec<_> = more.into_iter().map(|job| job.0).collect();
        assert_eq!(more, expected_more, "what worker {worker} takes besides");
        self.compare(handout, &mut expected, &format!("next of worker {worker}, {link:?}"));
    }

    /// One job of several ends, or one that the worker does not have.
    fn part(&mut self, worker: usize, random: &mut Random) {
        let ModelWorker { server, serving, .. } = &self.model.workers[worker];
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
        let handout = self.dispatcher.part(WorkerId(worker as u32), id, verdict, self.now);
        self.compare(handout, &mut expected, &format!("part of worker {worker}, {id}"));
    }

    fn compare(&mut self, mut handout: Handout<Job>, expected: &mut Handout<Job>, what: &str) {
        for (_, Job(id)) in &handout.refused {
            self.end(*id);
        }
        // In which order jobs are refused is nobody's concern.
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

    fn cancel(&mut self, random: &mut Random) {
        // Any job there ever was, and one that never was, but rather a late one.
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
        let capacity = if random.one_in(12) { 0 } else { 1 + random.below(4) };
        // At the end nobody is started any more.
        let started = if self.model.closed { 0 } else { capacity };
        self.model.add_server(started);
        let added = Change::AddServer(NewServer::with_capacity(capacity));
        let outcome = self.dispatcher.apply(added, self.now).expect("a server can be added");
        assert_eq!(outcome.handout, Handout::default());
        assert_eq!(outcome.started.len(), started);
    }

    fn set_binding(&mut self, early: bool) {
        let mut expected = self.model.set_binding(early, self.now);
        let change = Change::SetBinding { early };
        let outcome = self.dispatcher.apply(change, self.now).expect("it can be bound so");
        self.compare(outcome.handout, &mut expected, &format!("binding, early: {early}"));
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

    /// A job is over.
    fn end(&mut self, id: u64) {
        assert!(self.ended.insert(id), "job {id} ends only once");
    }

    /// What must hold at any time.
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
        for id in (queue.iter().chain(rest).chain(serving.clone())).map(|waiting| waiting.ticket.id) {
            assert!(places.insert(id), "job {id} is in one place");
            assert!(!self.ended.contains(&id), "job {id} is not over");
        }
        assert_eq!(places.len() + self.ended.len(), self.offered as usize, "no job is lost");
        for waiting in queue {
            let taker =
                (0..workers.len()).find(|worker| self.model.is_idle(*worker) && self.model.may_take(*worker, waiting));
            assert_eq!(taker, None, "nobody is idle who may take {waiting:?}");
        }
        let counts = Counts {
            queued: queue.len(),
            resting: resting.len(),
            serving: serving.count(),
            up: workers.iter().filter(|worker| worker.link == Link::Up).count(),
            workers: workers.len(),
            capacity: workers.iter().filter(|worker| worker.link != Link::Unreachable).count(),
        };
        assert_eq!(self.dispatcher.counts(), counts);
        let deadlines = queue.iter().map(|waiting| waiting.ticket.deadline);
        let rests = resting.iter().map(|(end, waiting)| waiting.ticket.deadline.min(*end));
        assert_eq!(self.dispatcher.next_deadline(), deadlines.chain(rests).min());
        self.dispatcher.check(self.model.live_retries());
    }

    /// After the close what is served ends, and nothing is left.
    fn drain(mut self, random: &mut Random) {
        for worker in 0..self.model.workers.len() {
            if let Some(serving) = self.model.workers[worker].serving.first() {
                let verdict = serving.verdict(self.model.workers[worker].server, random);
                self.next(worker, verdict, Link::Up, 1);
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

/// What the dispatcher's documentation says, done the slow way.
struct Model {
    settings: Settings,
    closed: bool,
    servers: usize,
    workers: Vec<ModelWorker>,
    /// Idle workers in the order in which they became idle.
    idle: Vec<usize>,
    /// The first to be served first.
    queue: Vec<Waiting>,
    /// Until when, and who.
    resting: Vec<(Instant, Waiting)>,
    /// The server that is next.
    cursor: usize,
}

struct ModelWorker {
    server: usize,
    link: Link,
    /// What it has: the first, and what it took besides.
    serving: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    retry: bool,
    urgent: bool,
    bound: Option<usize>,
}

impl Waiting {
    /// How a job ends here, or does not.
    fn verdict(&self, server: usize, random: &mut Random) -> Verdict<Job> {
        if random.one_in(2) {
            return Verdict::Done;
        }
        let avoid = if random.one_in(6) {
            None
        } else {
            Some(ServerId(server as u32))
        };
        let ticket = Ticket { avoid, ..self.ticket };
        Verdict::Retry {
            job: Job(ticket.id),
            ticket,
            free: random.one_in(2),
            back_off: match random.below(6) {
                0 | 1 => Duration::from_millis(1 + random.below(60) as u64),
                2 => Duration::MAX,
                _ => Duration::ZERO,
            },
        }
    }
}

impl Model {
    fn new(settings: Settings) -> Self {
        Self {
            settings,
            closed: false,
            servers: 0,
            workers: vec![],
            idle: vec![],
            queue: vec![],
            resting: vec![],
            cursor: 0,
        }
    }

    fn add_server(&mut self, capacity: usize) {
        for _ in 0..capacity {
            self.workers.push(ModelWorker {
                server: self.servers,
                link: Link::Connecting,
                serving: Vec::new(),
            });
        }
        self.servers += 1;
    }

    fn set_binding(&mut self, early: bool, now: Instant) -> Handout<Job> {
        self.settings.early_binding = early;
        if !early {
            self.queue.iter_mut().for_each(|waiting| waiting.bound = None);
        }
        let mut handout = Handout::default();
        self.settle(now, &mut handout);
        handout
    }

    fn close(&mut self) -> Vec<u64> {
        self.closed = true;
        self.take_out(|_, _| true, Instant::now())
    }

    fn offer(&mut self, ticket: Ticket, now: Instant) -> Offer<Job> {
        let job = Job(ticket.id);
        if self.closed {
            return Offer::Refused(Refusal::Closed, job);
        }
        if ticket.deadline <= now {
            return Offer::Refused(Refusal::QueueTimeout, job);
        }
        if self.reachable_servers() == 0 && !self.settings.wait_for_server {
            return Offer::Refused(Refusal::NoServer, job);
        }
        let mut waiting = Waiting {
            ticket,
            retry: false,
            urgent: false,
            bound: None,
        };
        let (server, worker) = self.destination(ticket.avoid);
        if let Some(worker) = worker {
            self.serve(worker, waiting);
            return Offer::Assigned(WorkerId(worker as u32), job);
        }
        if self.queue.len() >= self.settings.queue_limit {
            return Offer::Refused(Refusal::QueueFull, job);
        }
        waiting.bound = server;
        // What avoids a server waits before all that do not.
        waiting.urgent = ticket.avoid.is_some_and(|server| (server.0 as usize) < self.servers);
        let place = match waiting.urgent {
            true => self.queue.iter().position(|other| !other.urgent),
            false => None,
        };
        self.enqueue(place.unwrap_or(self.queue.len()), waiting);
        Offer::Queued
    }

    fn next(
        &mut self,
        worker: usize,
        verdict: &Verdict<Job>,
        link: Link,
        most: usize,
        now: Instant,
    ) -> (Handout<Job>, Vec<u64>) {
        let mut handout = Handout::default();
        let in_progress = self.in_progress();
        let ended = match verdict {
            Verdict::None => Vec::new(),
            _ => std::mem::take(&mut self.workers[worker].serving),
        };
        self.set_link(worker, link);
        self.again((worker, link), verdict, &ended, in_progress, now, &mut handout);
        let mut first = None;
        if link == Link::Up && self.workers[worker].serving.is_empty() {
            first = self.take(worker, now, &mut handout);
            handout.next = first.map(|first| Job(first.ticket.id));
            if first.is_none() && !self.idle.contains(&worker) {
                self.idle.push(worker);
            }
        }
        self.settle(now, &mut handout);
        let mut more = Vec::new();
        if let Some(first) = first.filter(|first| first.ticket.batchable && most > 1) {
            let server = self.workers[worker].server;
            let early = self.settings.early_binding;
            let counts = |other: &&ModelWorker| other.link != Link::Unreachable && (!early || other.server == server);
            let reachable = self.workers.iter().filter(counts).count();
            let waiting = self
                .queue
                .iter()
                .filter(|waiting| !early || waiting.bound == Some(server))
                .count();
            while more.len() < (most - 1).min(waiting / reachable) {
                let Some(place) = self.first_in_time(worker, now, &mut handout) else {
                    break;
                };
                let Ticket {
                    id, batchable, bucket, ..
                } = self.queue[place].ticket;
                if !batchable || bucket != first.ticket.bucket {
                    break;
                }
                let waiting = self.queue.remove(place);
                let eager =
                    (0..self.workers.len()).find(|other| self.is_idle(*other) && self.may_take(*other, &waiting));
                assert_eq!(eager, None, "no batch while somebody is idle who may take {waiting:?}");
                self.workers[worker].serving.push(waiting);
                more.push(id);
            }
        }
        (handout, more)
    }

    fn part(&mut self, worker: usize, id: u64, verdict: &Verdict<Job>, now: Instant) -> Handout<Job> {
        let mut handout = Handout::default();
        let in_progress = self.in_progress();
        let ended: Vec<_> = self.workers[worker]
            .serving
            .extract_if(.., |serving| serving.ticket.id == id)
            .collect();
        // It does not ask for another.
        let link = Link::Connecting;
        self.again((worker, link), verdict, &ended, in_progress, now, &mut handout);
        self.settle(now, &mut handout);
        handout
    }

    fn in_progress(&self) -> usize {
        self.queue.len() + self.resting.len() + self.workers.iter().map(|worker| worker.serving.len()).sum::<usize>()
    }

    fn again(
        &mut self,
        (worker, link): (usize, Link),
        verdict: &Verdict<Job>,
        ended: &[Waiting],
        in_progress: usize,
        now: Instant,
        handout: &mut Handout<Job>,
    ) {
        if let Verdict::Retry {
            job: Job(id),
            ticket,
            free,
            back_off,
        } = verdict
        {
            let budget = (self.settings.retry_floor as f64).max(self.settings.retry_share * in_progress as f64);
            let refusal = if self.closed {
                Some(Refusal::Closed)
            } else if ticket.deadline <= now {
                Some(Refusal::QueueTimeout)
            } else if *back_off == Duration::ZERO && self.reachable_servers() == 0 && !self.settings.wait_for_server {
                Some(Refusal::NoServer)
            } else if !free && self.live_retries() as f64 >= budget {
                Some(Refusal::RetryBudget)
            } else {
                None
            };
            match refusal {
                Some(refusal) => handout.refused.push((refusal, Job(*id))),
                None => {
                    let retry = !free || ended.iter().any(|ended| ended.retry);
                    let ticket = Ticket {
                        batchable: false,
                        ..*ticket
                    };
                    let waiting = Waiting {
                        ticket,
                        retry,
                        urgent: true,
                        bound: None,
                    };
                    if *back_off > Duration::ZERO {
                        let end = now.checked_add(*back_off).unwrap_or(ticket.deadline);
                        self.resting.push((end, waiting));
                    } else {
                        let asking = (link == Link::Up).then(|| self.workers[worker].server);
                        self.put_back(waiting, asking, handout);
                    }
                }
            }
        }
    }

    fn take(&mut self, worker: usize, now: Instant, handout: &mut Handout<Job>) -> Option<Waiting> {
        let place = self.first_in_time(worker, now, handout)?;
        let waiting = self.queue.remove(place);
        self.serve(worker, waiting);
        Some(waiting)
    }

    fn first_in_time(&mut self, worker: usize, now: Instant, handout: &mut Handout<Job>) -> Option<usize> {
        loop {
            let place = self.queue.iter().position(|waiting| self.may_take(worker, waiting))?;
            if self.queue[place].ticket.deadline > now {
                return Some(place);
            }
            let late = self.queue.remove(place);
            handout.refused.push((Refusal::QueueTimeout, Job(late.ticket.id)));
        }
    }

    fn settle(&mut self, now: Instant, handout: &mut Handout<Job>) {
        if self.reachable_servers() == 0 && !self.settings.wait_for_server {
            let refused = self.take_out_waiting(|_, _| true, now);
            handout
                .refused
                .extend(refused.into_iter().map(|id| (Refusal::NoServer, Job(id))));
        }
        while let Some(place) = self
            .queue
            .iter()
            .position(|waiting| self.idle.iter().any(|idle| self.may_take(*idle, waiting)))
        {
            let waiting = self.queue.remove(place);
            let job = Job(waiting.ticket.id);
            if waiting.ticket.deadline <= now {
                handout.refused.push((Refusal::QueueTimeout, job));
                continue;
            }
            let except = self.forbidden(waiting.ticket.avoid);
            // Bound early, only arrivals use up turns.
            let server = match self.settings.early_binding {
                true => (0..self.servers).find(|server| Some(*server) != except && self.idle_worker(*server).is_some()),
                false => self.choose(|model, server| model.idle_worker(server).is_some(), except),
            };
            let worker = server
                .and_then(|server| self.idle_worker(server))
                .expect("there is one");
            self.serve(worker, waiting);
            handout.assigned.push((WorkerId(worker as u32), job));
        }
    }

    fn put_back(&mut self, mut waiting: Waiting, asking: Option<usize>, handout: &mut Handout<Job>) {
        if self.settings.early_binding {
            let (server, worker) = self.destination(waiting.ticket.avoid);
            if let Some(worker) = worker.filter(|_| server != asking) {
                handout.assigned.push((WorkerId(worker as u32), Job(waiting.ticket.id)));
                self.serve(worker, waiting);
                return;
            }
            waiting.bound = server;
        }
        self.enqueue(0, waiting);
    }

    fn enqueue(&mut self, place: usize, mut waiting: Waiting) {
        waiting.ticket.avoid = waiting.ticket.avoid.filter(|server| (server.0 as usize) < self.servers);
        self.queue.insert(place, waiting);
    }

    fn retire(&mut self, worker: usize) -> bool {
        if !self.workers[worker].serving.is_empty() {
            return false;
        }
        if self.is_idle(worker) {
            self.set_link(worker, Link::Connecting);
        }
        true
    }

    fn cancel(&mut self, id: u64) -> Cancelled<Job> {
        if !self
            .take_out(|waiting, _| waiting.ticket.id == id, Instant::now())
            .is_empty()
        {
            return Cancelled::Queued(Job(id));
        }
        let serves = |worker: &ModelWorker| worker.serving.iter().any(|serving| serving.ticket.id == id);
        match self.workers.iter().position(serves) {
            Some(worker) => Cancelled::Serving(WorkerId(worker as u32)),
            None => Cancelled::Unknown,
        }
    }

    fn wake(&mut self, now: Instant) -> Handout<Job> {
        let late = self.take_out(|waiting, now| waiting.ticket.deadline <= now, now);
        let mut handout = Handout::default();
        (handout.refused).extend(late.into_iter().map(|id| (Refusal::QueueTimeout, Job(id))));
        let mut due: Vec<_> = self.resting.extract_if(.., |(end, _)| *end <= now).collect();
        due.sort_by_key(|(end, waiting)| (*end, waiting.ticket.id));
        for (_, waiting) in due.into_iter().rev() {
            self.put_back(waiting, None, &mut handout);
        }
        self.settle(now, &mut handout);
        handout
    }

    /// Takes jobs out of the queue, or out of their rest, and says which, by number.
    fn take_out(&mut self, which: impl Fn(&Waiting, Instant) -> bool, now: Instant) -> Vec<u64> {
        let mut out = self.take_out_waiting(&which, now);
        let resting = self.resting.extract_if(.., |(_, waiting)| which(waiting, now));
        out.extend(resting.map(|(_, waiting)| waiting.ticket.id));
        out.sort_unstable();
        out
    }

    fn take_out_waiting(&mut self, which: impl Fn(&Waiting, Instant) -> bool, now: Instant) -> Vec<u64> {
        let out = self.queue.extract_if(.., |waiting| which(waiting, now));
        out.map(|waiting| waiting.ticket.id).collect()
    }

    /// The server whose turn it is, and its idle worker. Bound late there is no server without an idle worker.
    fn destination(&mut self, avoid: Option<ServerId>) -> (Option<usize>, Option<usize>) {
        let except = self.forbidden(avoid);
        let server = match self.settings.early_binding {
            true => self.choose(Self::is_reachable, except),
            false => self.choose(|model, server| model.idle_worker(server).is_some(), except),
        };
        (server, server.and_then(|server| self.idle_worker(server)))
    }

    /// Round robin.
    fn choose(&mut self, among: impl Fn(&Self, usize) -> bool, except: Option<usize>) -> Option<usize> {
        let mut round = (0..self.servers).map(|step| (self.cursor + step) % self.servers);
        let server = round.find(|server| Some(*server) != except && among(self, *server))?;
        self.cursor = server + 1;
        Some(server)
    }

    fn serve(&mut self, worker: usize, waiting: Waiting) {
        assert!(
            self.workers[worker].serving.is_empty(),
            "worker {worker} takes more only at once"
        );
        self.idle.retain(|idle| *idle != worker);
        self.workers[worker].serving.push(waiting);
    }

    fn set_link(&mut self, worker: usize, link: Link) {
        self.workers[worker].link = link;
        if link != Link::Up {
            self.idle.retain(|idle| *idle != worker);
        }
        let server = self.workers[worker].server;
        if !self.is_reachable(server) {
            for waiting in self.queue.iter_mut().filter(|waiting| waiting.bound == Some(server)) {
                waiting.bound = None;
            }
        }
    }

    fn may_take(&self, worker: usize, waiting: &Waiting) -> bool {
        let server = self.workers[worker].server;
        match waiting.bound {
            Some(bound) => bound == server,
            None => self.forbidden(waiting.ticket.avoid) != Some(server),
        }
    }

    /// The server to avoid, if there is another.
    fn forbidden(&self, avoid: Option<ServerId>) -> Option<usize> {
        let avoid = avoid?.0 as usize;
        (0..self.servers)
            .any(|server| server != avoid && self.is_reachable(server))
            .then_some(avoid)
    }

    fn is_reachable(&self, server: usize) -> bool {
        self.workers
            .iter()
            .any(|worker| worker.server == server && worker.link != Link::Unreachable)
    }

    fn reachable_servers(&self) -> usize {
        (0..self.servers).filter(|server| self.is_reachable(*server)).count()
    }

    fn is_idle(&self, worker: usize) -> bool {
        self.idle.contains(&worker)
    }

    /// The one that became idle last.
    fn idle_worker(&self, server: usize) -> Option<usize> {
        self.idle
            .iter()
            .rev()
            .copied()
            .find(|worker| self.workers[*worker].server == server)
    }

    fn live_retries(&self) -> usize {
        let serving = self.workers.iter().flat_map(|worker| &worker.serving);
        let resting = self.resting.iter().map(|(_, waiting)| waiting);
        let alive = self.queue.iter().chain(resting).chain(serving);
        alive.filter(|waiting| waiting.retry).count()
    }
}
