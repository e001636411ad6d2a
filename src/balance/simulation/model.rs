//! A dispatcher of one bucket and round robin, with lists that are searched from their beginning.
//! It predicts the result of each call.

use std::time::{Duration, Instant};

use super::Random;
use crate::balance::*;

/// A job. It cannot be cloned, and there is only one of each number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job(pub(super) u64);

/// What the dispatcher's documentation says, done the slow way.
pub(super) struct Model {
    settings: Settings,
    pub(super) closed: bool,
    pub(super) servers: usize,
    pub(super) workers: Vec<ModelWorker>,
    /// Idle workers. Of those of one server the last gets the next job.
    idle: Vec<usize>,
    /// Waiting jobs, in the order of service.
    pub(super) queue: Vec<Waiting>,
    /// Resting jobs, each with the end of its rest.
    pub(super) resting: Vec<(Instant, Waiting)>,
    /// The next turn of each server, in halves of a turn: a date, or while the server is not in use
    /// the time after the present.
    turns: Vec<Turn>,
    /// The latest turn so far.
    present: i64,
}

struct Turn {
    half: i64,
    in_use: bool,
}

pub(super) struct ModelWorker {
    pub(super) server: usize,
    pub(super) link: LinkState,
    /// It has had no job over this connection.
    is_fresh: bool,
    /// The worker's jobs: the first, and those taken besides.
    pub(super) serving: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    retry: bool,
    urgent: bool,
    bound: Option<usize>,
}

impl Waiting {
    /// Returns how a job ends here, or that it does not.
    pub(super) fn verdict(&self, server: usize, random: &mut Random) -> Verdict<Job> {
        if random.one_in(2) {
            return Verdict::Done;
        }
        let avoid = if random.one_in(6) {
            None
        } else {
            Some(ServerId(server as u32))
        };
        let ticket = Ticket {
            avoid,
            ..self.ticket
        };
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
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            closed: false,
            servers: 0,
            workers: vec![],
            idle: vec![],
            queue: vec![],
            resting: vec![],
            turns: vec![],
            present: 0,
        }
    }

    pub(super) fn add_server(&mut self, capacity: usize) {
        for _ in 0..capacity {
            self.workers.push(ModelWorker {
                server: self.servers,
                link: LinkState::Connecting,
                is_fresh: true,
                serving: Vec::new(),
            });
        }
        self.servers += 1;
    }

    pub(super) fn set_binding(&mut self, early: bool, now: Instant) -> Handout<Job> {
        self.note_use();
        if self.settings.early_binding != early {
            // Turns that a server missed while it was busy do not count any more.
            let in_use = self.turns.iter_mut().filter(|turn| turn.in_use);
            in_use.for_each(|turn| turn.half = turn.half.max(self.present));
        }
        self.settings.early_binding = early;
        if !early {
            self.queue
                .iter_mut()
                .for_each(|waiting| waiting.bound = None);
        }
        let mut handout = Handout::default();
        self.settle(now, &mut handout);
        handout
    }

    pub(super) fn close(&mut self) -> Vec<u64> {
        self.closed = true;
        self.take_out(|_, _| true, Instant::now())
    }

    pub(super) fn offer(&mut self, ticket: Ticket, now: Instant) -> Offer<Job> {
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
        // A job that avoids a server waits before all that do not.
        waiting.urgent = ticket
            .avoid
            .is_some_and(|server| (server.0 as usize) < self.servers);
        let place = match waiting.urgent {
            true => self.queue.iter().position(|other| !other.urgent),
            false => None,
        };
        self.enqueue(place.unwrap_or(self.queue.len()), waiting);
        Offer::Queued
    }

    pub(super) fn next(
        &mut self,
        worker: usize,
        verdict: &Verdict<Job>,
        link: LinkState,
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
        self.again(
            (worker, link),
            verdict,
            &ended,
            in_progress,
            now,
            &mut handout,
        );
        let mut first = None;
        if link == LinkState::Up && self.workers[worker].serving.is_empty() {
            first = self.take(worker, now, &mut handout);
            handout.next = first.map(|first| Job(first.ticket.id));
            if first.is_none() && !self.idle.contains(&worker) {
                match self.workers[worker].is_fresh {
                    true => self.idle.insert(0, worker),
                    false => self.idle.push(worker),
                }
            }
        }
        self.settle(now, &mut handout);
        let mut more = Vec::new();
        if let Some(first) = first.filter(|first| first.ticket.batchable && most > 1) {
            let server = self.workers[worker].server;
            let early = self.settings.early_binding;
            let counts = |other: &&ModelWorker| {
                other.link != LinkState::Unreachable && (!early || other.server == server)
            };
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
                    id,
                    batchable,
                    bucket,
                    ..
                } = self.queue[place].ticket;
                if !batchable || bucket != first.ticket.bucket {
                    break;
                }
                let waiting = self.queue.remove(place);
                let eager = (0..self.workers.len())
                    .find(|other| self.is_idle(*other) && self.may_take(*other, &waiting));
                assert_eq!(
                    eager, None,
                    "no batch while a worker is idle that may take {waiting:?}"
                );
                self.workers[worker].serving.push(waiting);
                more.push(id);
            }
        }
        (handout, more)
    }

    pub(super) fn part(
        &mut self,
        worker: usize,
        id: u64,
        verdict: &Verdict<Job>,
        now: Instant,
    ) -> Handout<Job> {
        let mut handout = Handout::default();
        let in_progress = self.in_progress();
        let ended: Vec<_> = self.workers[worker]
            .serving
            .extract_if(.., |serving| serving.ticket.id == id)
            .collect();
        // The worker does not ask for another job.
        let link = LinkState::Connecting;
        self.again(
            (worker, link),
            verdict,
            &ended,
            in_progress,
            now,
            &mut handout,
        );
        self.settle(now, &mut handout);
        handout
    }

    fn in_progress(&self) -> usize {
        self.queue.len()
            + self.resting.len()
            + self
                .workers
                .iter()
                .map(|worker| worker.serving.len())
                .sum::<usize>()
    }

    fn again(
        &mut self,
        (worker, link): (usize, LinkState),
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
            let budget = (self.settings.retry_floor as f64)
                .max(self.settings.retry_share * in_progress as f64);
            let refusal = if self.closed {
                Some(Refusal::Closed)
            } else if ticket.deadline <= now {
                Some(Refusal::QueueTimeout)
            } else if *back_off == Duration::ZERO
                && self.reachable_servers() == 0
                && !self.settings.wait_for_server
            {
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
                        let asking = (link == LinkState::Up).then(|| self.workers[worker].server);
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

    fn first_in_time(
        &mut self,
        worker: usize,
        now: Instant,
        handout: &mut Handout<Job>,
    ) -> Option<usize> {
        loop {
            let place = self
                .queue
                .iter()
                .position(|waiting| self.may_take(worker, waiting))?;
            if self.queue[place].ticket.deadline > now {
                return Some(place);
            }
            let late = self.queue.remove(place);
            handout
                .refused
                .push((Refusal::QueueTimeout, Job(late.ticket.id)));
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
            // With early binding, only arrivals use up turns.
            let server = match self.settings.early_binding {
                true => (0..self.servers)
                    .find(|server| Some(*server) != except && self.idle_worker(*server).is_some()),
                false => self.choose(|model, server| model.idle_worker(server).is_some(), except),
            };
            let worker = server
                .and_then(|server| self.idle_worker(server))
                .expect("there is one");
            self.serve(worker, waiting);
            handout.assigned.push((WorkerId(worker as u32), job));
        }
    }

    fn put_back(
        &mut self,
        mut waiting: Waiting,
        asking: Option<usize>,
        handout: &mut Handout<Job>,
    ) {
        if self.settings.early_binding {
            let (server, worker) = self.destination(waiting.ticket.avoid);
            if let Some(worker) = worker.filter(|_| server != asking) {
                handout
                    .assigned
                    .push((WorkerId(worker as u32), Job(waiting.ticket.id)));
                self.serve(worker, waiting);
                return;
            }
            waiting.bound = server;
        }
        self.enqueue(0, waiting);
    }

    fn enqueue(&mut self, place: usize, mut waiting: Waiting) {
        waiting.ticket.avoid = waiting
            .ticket
            .avoid
            .filter(|server| (server.0 as usize) < self.servers);
        self.queue.insert(place, waiting);
    }

    pub(super) fn retire(&mut self, worker: usize) -> bool {
        if !self.workers[worker].serving.is_empty() {
            return false;
        }
        if self.is_idle(worker) {
            self.set_link(worker, LinkState::Connecting);
        }
        true
    }

    /// Takes away the idle worker that would get a job last.
    pub(super) fn borrow(&mut self, server: usize) -> Option<usize> {
        let own = |idle: &usize| self.workers[*idle].server == server;
        let place = self.idle.iter().position(own)?;
        let worker = self.idle.remove(place);
        self.workers[worker].is_fresh = false;
        Some(worker)
    }

    pub(super) fn cancel(&mut self, id: u64) -> Cancelled<Job> {
        if !self
            .take_out(|waiting, _| waiting.ticket.id == id, Instant::now())
            .is_empty()
        {
            return Cancelled::Queued(Job(id));
        }
        let serves =
            |worker: &ModelWorker| worker.serving.iter().any(|serving| serving.ticket.id == id);
        match self.workers.iter().position(serves) {
            Some(worker) => Cancelled::Serving(WorkerId(worker as u32)),
            None => Cancelled::Unknown,
        }
    }

    pub(super) fn wake(&mut self, now: Instant) -> Handout<Job> {
        let late = self.take_out(|waiting, now| waiting.ticket.deadline <= now, now);
        let mut handout = Handout::default();
        (handout.refused).extend(late.into_iter().map(|id| (Refusal::QueueTimeout, Job(id))));
        let mut due: Vec<_> = self
            .resting
            .extract_if(.., |(end, _)| *end <= now)
            .collect();
        due.sort_by_key(|(end, waiting)| (*end, waiting.ticket.id));
        for (_, waiting) in due.into_iter().rev() {
            self.put_back(waiting, None, &mut handout);
        }
        self.settle(now, &mut handout);
        handout
    }

    /// Removes waiting and resting jobs that `which` accepts, and returns their numbers.
    fn take_out(&mut self, which: impl Fn(&Waiting, Instant) -> bool, now: Instant) -> Vec<u64> {
        let mut out = self.take_out_waiting(&which, now);
        let resting = self
            .resting
            .extract_if(.., |(_, waiting)| which(waiting, now));
        out.extend(resting.map(|(_, waiting)| waiting.ticket.id));
        out.sort_unstable();
        out
    }

    fn take_out_waiting(
        &mut self,
        which: impl Fn(&Waiting, Instant) -> bool,
        now: Instant,
    ) -> Vec<u64> {
        let out = self.queue.extract_if(.., |waiting| which(waiting, now));
        out.map(|waiting| waiting.ticket.id).collect()
    }

    /// Returns the server whose turn it is, and its idle worker. With late binding every such
    /// server has an idle worker.
    fn destination(&mut self, avoid: Option<ServerId>) -> (Option<usize>, Option<usize>) {
        let except = self.forbidden(avoid);
        let server = match self.settings.early_binding {
            true => self.choose(Self::is_reachable, except),
            false => self.choose(|model, server| model.idle_worker(server).is_some(), except),
        };
        (server, server.and_then(|server| self.idle_worker(server)))
    }

    /// Round robin: the earliest turn, of several the first of the list. A server can be late by
    /// four turns at most.
    fn choose(
        &mut self,
        among: impl Fn(&Self, usize) -> bool,
        except: Option<usize>,
    ) -> Option<usize> {
        self.note_use();
        let all =
            (0..self.servers).filter(|server| Some(*server) != except && among(self, *server));
        let server = all.min_by_key(|server| (self.turns[*server].half, *server))?;
        let late = self.turns[server].half.max(self.present - 8);
        self.turns[server].half = late + 2;
        self.present = self.present.max(late);
        Some(server)
    }

    /// What is left of a turn stays while a server is not in use. A new server has half a turn
    /// left.
    fn note_use(&mut self) {
        for server in 0..self.servers {
            let in_use = self.is_reachable(server);
            if self.turns.len() <= server {
                self.turns.push(Turn {
                    half: 1,
                    in_use: false,
                });
            }
            let turn = &mut self.turns[server];
            match (turn.in_use, in_use) {
                (false, true) => turn.half += self.present,
                (true, false) => turn.half -= self.present,
                _ => {}
            }
            turn.in_use = in_use;
        }
    }

    fn serve(&mut self, worker: usize, waiting: Waiting) {
        assert!(
            self.workers[worker].serving.is_empty(),
            "worker {worker} takes more only at once"
        );
        self.idle.retain(|idle| *idle != worker);
        self.workers[worker].serving.push(waiting);
        self.workers[worker].is_fresh = false;
    }

    fn set_link(&mut self, worker: usize, link: LinkState) {
        let entry = &mut self.workers[worker];
        entry.is_fresh |= entry.link != link;
        entry.link = link;
        if link != LinkState::Up {
            self.idle.retain(|idle| *idle != worker);
        }
        let server = self.workers[worker].server;
        if !self.is_reachable(server) {
            for waiting in self
                .queue
                .iter_mut()
                .filter(|waiting| waiting.bound == Some(server))
            {
                waiting.bound = None;
            }
        }
    }

    pub(super) fn may_take(&self, worker: usize, waiting: &Waiting) -> bool {
        let server = self.workers[worker].server;
        match waiting.bound {
            Some(bound) => bound == server,
            None => self.forbidden(waiting.ticket.avoid) != Some(server),
        }
    }

    /// Returns the server to avoid, if there is another.
    fn forbidden(&self, avoid: Option<ServerId>) -> Option<usize> {
        let avoid = avoid?.0 as usize;
        (0..self.servers)
            .any(|server| server != avoid && self.is_reachable(server))
            .then_some(avoid)
    }

    fn is_reachable(&self, server: usize) -> bool {
        self.workers
            .iter()
            .any(|worker| worker.server == server && worker.link != LinkState::Unreachable)
    }

    fn reachable_servers(&self) -> usize {
        (0..self.servers)
            .filter(|server| self.is_reachable(*server))
            .count()
    }

    pub(super) fn is_idle(&self, worker: usize) -> bool {
        self.idle.contains(&worker)
    }

    /// Returns the idle worker that gets the next job.
    fn idle_worker(&self, server: usize) -> Option<usize> {
        self.idle
            .iter()
            .rev()
            .copied()
            .find(|worker| self.workers[*worker].server == server)
    }

    pub(super) fn live_retries(&self) -> usize {
        let serving = self.workers.iter().flat_map(|worker| &worker.serving);
        let resting = self.resting.iter().map(|(_, waiting)| waiting);
        let alive = self.queue.iter().chain(resting).chain(serving);
        alive.filter(|waiting| waiting.retry).count()
    }
}
