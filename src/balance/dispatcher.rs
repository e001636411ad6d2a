//! Round robin over the servers, one first-in-first-out queue (or one for each server, bound early).
//!
//! What every operation keeps true: *while a worker is idle, no job waits that it may take.* So an offer has never to look at
//! the queue before it takes an idle worker, and a worker that becomes idle has never to look at the others.
//!
//! Bound early, a job is given to a server as it comes in. If none can be reached then, or the server is lost, it is open to all
//! like one bound late, and the first worker that comes up takes it.

use std::collections::VecDeque;
use std::time::Instant;

use super::budget::RetryBudget;
use super::queue::{End, Queue, Slot, Waiting};
use super::scheduler::RoundRobin;
use super::servers::Servers;
use super::{Cancelled, Change, Counts, Handout, Link, Offer, Refusal, ServerId, Settings, Ticket, Verdict, WorkerId};

/// One cluster's dispatcher.
#[derive(Debug)]
pub struct Dispatcher<J> {
    settings: Settings,
    closed: bool,
    queue: Queue<J>,
    servers: Servers,
    scheduler: RoundRobin,
    budget: RetryBudget,
}

/// Where a job goes that is not in the queue.
enum Destination {
    Worker(WorkerId),
    /// To wait, for a worker of this server only if one is named.
    Queue(Option<ServerId>),
    /// Nobody can be reached, and it shall not wait.
    Nowhere,
}

impl<J> Dispatcher<J> {
    /// A dispatcher with no server.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            closed: false,
            queue: Queue::new(),
            servers: Servers::default(),
            scheduler: RoundRobin::default(),
            budget: RetryBudget::new(settings.retry_floor, settings.retry_share),
        }
    }

    /// A new job: to an idle worker of the next server that has one, else into the queue, else refused.
    pub fn offer(&mut self, job: J, ticket: Ticket, now: Instant) -> Offer<J> {
        if self.closed {
            return Offer::Refused(Refusal::Closed, job);
        }
        if ticket.deadline <= now {
            return Offer::Refused(Refusal::QueueTimeout, job);
        }
        match self.destination(ticket.avoid) {
            Destination::Worker(worker) => {
                self.servers.start(worker, ticket.id, false);
                Offer::Assigned(worker, job)
            }
            Destination::Queue(_) if self.queue.len() >= self.settings.queue_limit => {
                Offer::Refused(Refusal::QueueFull, job)
            }
            Destination::Queue(bound) => {
                self.queue.push(
                    End::Tail,
                    bound,
                    Waiting {
                        job,
                        ticket,
                        retry: false,
                    },
                );
                Offer::Queued
            }
            Destination::Nowhere => Offer::Refused(Refusal::NoServer, job),
        }
    }

    /// A worker has ended its job, or its connection has changed. With [`Link::Up`] it asks for its next job and, if there is none,
    /// is idle. If it was idle and a job was assigned to it meanwhile, the answer is empty: the job is in its slot.
    pub fn next(&mut self, worker: WorkerId, verdict: Verdict<J>, link: Link, now: Instant) -> Handout<J> {
        self.next_batch(worker, verdict, link, (1, &mut VecDeque::new()), now)
    }

    /// The same for a worker that may take several jobs at once, `most` of them. The first is the answer's; `more` gets those that
    /// wait right behind it, if all of them are batchable and of one bucket, and not more than the worker's part of what waits. Nobody
    /// is idle then who might have taken one of them. The next call ends all of them but those that [`Self::part`] has ended before.
    pub fn next_batch(
        &mut self,
        worker: WorkerId,
        verdict: Verdict<J>,
        link: Link,
        (most, more): (usize, &mut VecDeque<J>),
        now: Instant,
    ) -> Handout<J> {
        let mut handout = Handout::default();
        let Some(server) = self.servers.server_of(worker) else {
            // Nobody knows this worker; its job shall not vanish all the same.
            if let Verdict::Retry { job, .. } = verdict {
                handout.refused.push((Refusal::Closed, job));
            }
            return handout;
        };
        let in_progress = self.in_progress();
        let ended_retry = !matches!(verdict, Verdict::None) && self.end(worker);
        if self.servers.set_link(worker, link) {
            self.queue.unbind(server);
        }
        self.again(verdict, ended_retry, in_progress, (server, link), now, &mut handout);
        let mut first = None;
        if link == Link::Up && !self.servers.is_serving(worker) {
            (handout.next, first) = self.take(worker, server, now, &mut handout.refused).unzip();
        }
        self.settle(now, &mut handout);
        if most > 1
            && let Some(first) = first
        {
            self.take_more(worker, server, first, (most - 1, more), now, &mut handout.refused);
        }
        handout
    }

    /// One of several jobs that a worker has is over, or shall be tried again; the worker goes on with the others, or comes for its
    /// next.
    pub fn part(&mut self, worker: WorkerId, id: u64, verdict: Verdict<J>, now: Instant) -> Handout<J> {
        let mut handout = Handout::default();
        let Some(server) = self.servers.server_of(worker) else {
            if let Verdict::Retry { job, .. } = verdict {
                handout.refused.push((Refusal::Closed, job));
            }
            return handout;
        };
        let in_progress = self.in_progress();
        let ended_retry = self.servers.end_one(worker, id).unwrap_or(false);
        if ended_retry {
            self.budget.end();
        }
        self.again(
            verdict,
            ended_retry,
            in_progress,
            (server, Link::Connecting),
            now,
            &mut handout,
        );
        self.settle(now, &mut handout);
        handout
    }

    /// An idle worker has lost its connection. `false` if a job was assigned to it meanwhile: it is in its slot, and the worker serves
    /// it over a new connection. Then nothing has changed here, nor if the worker was not idle: only [`Self::next`] has a way to hand
    /// out what such a change may set free.
    pub fn retire(&mut self, worker: WorkerId, link: Link) -> bool {
        if self.servers.is_serving(worker) {
            return false;
        }
        if self.servers.is_idle(worker) {
            // Whatever waits now avoids this worker's server, or it would have been taken, and whoever else may take it is busy:
            // nothing is set free by losing this one.
            let link = if link == Link::Up { Link::Connecting } else { link };
            self.servers.set_link(worker, link);
        }
        true
    }

    /// A client left.
    pub fn cancel(&mut self, id: u64) -> Cancelled<J> {
        if let Some(slot) = self.queue.find(id)
            && let Some(waiting) = self.withdraw(slot)
        {
            return Cancelled::Queued(waiting.job);
        }
        match self.servers.serving(id) {
            Some(worker) => Cancelled::Serving(worker),
            None => Cancelled::Unknown,
        }
    }

    /// Jobs whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<J> {
        let mut expired = Vec::new();
        while let Some(slot) = self.queue.first_expired(now)
            && let Some(waiting) = self.withdraw(slot)
        {
            expired.push(waiting.job);
        }
        expired
    }

    /// When `expire` is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline()
    }

    /// Changes the cluster.
    pub fn apply(&mut self, change: Change, now: Instant) -> Handout<J> {
        let mut handout = Handout::default();
        match change {
            Change::AddServer { capacity } => {
                self.queue.add_server();
                self.servers.add(capacity);
            }
            Change::Close => {
                self.closed = true;
                self.refuse_all(Refusal::Closed, &mut handout.refused);
            }
        }
        self.settle(now, &mut handout);
        handout
    }

    /// Counts to look at.
    pub fn counts(&self) -> Counts {
        Counts {
            queued: self.queue.len(),
            serving: self.servers.serving_count(),
            up: self.servers.up_count(),
            workers: self.servers.worker_count(),
        }
    }

    fn in_progress(&self) -> usize {
        self.queue.len() + self.servers.serving_count()
    }

    /// Whether a server that is to be avoided must be: there is another. (Who asks has found the one in question reachable.)
    fn heed_avoidance(&self) -> bool {
        self.servers.reachable().len() > 1
    }

    /// Where a job goes now. The round goes on, whatever becomes of the job.
    fn destination(&mut self, avoid: Option<ServerId>) -> Destination {
        if self.servers.reachable().is_empty() {
            return if self.settings.wait_for_server {
                Destination::Queue(None)
            } else {
                Destination::Nowhere
            };
        }
        let except = avoid.filter(|_| self.heed_avoidance());
        let among = if self.settings.early_binding {
            self.servers.reachable()
        } else {
            self.servers.idle()
        };
        let Some(server) = self.scheduler.choose(among, except) else {
            return Destination::Queue(None);
        };
        match self.servers.idle_worker(server) {
            Some(worker) => Destination::Worker(worker),
            None => Destination::Queue(Some(server)),
        }
    }

    /// Ends a worker's job; `true` if that was a retry that counted.
    fn end(&mut self, worker: WorkerId) -> bool {
        let retry = self.servers.end(worker).unwrap_or(false);
        if retry {
            self.budget.end();
        }
        retry
    }

    /// Puts a job back that shall be tried again, if it may.
    fn again(
        &mut self,
        verdict: Verdict<J>,
        ended_retry: bool,
        in_progress: usize,
        (server, link): (ServerId, Link),
        now: Instant,
        handout: &mut Handout<J>,
    ) {
        let Verdict::Retry { job, ticket, free } = verdict else {
            return;
        };
        match self.check_retry(ticket.deadline, free, in_progress, now) {
            Ok(()) => {
                let retry = ended_retry || !free;
                // What was tried before goes alone.
                let ticket = Ticket {
                    batchable: false,
                    ..ticket
                };
                self.put_back(Waiting { job, ticket, retry }, server, link, handout);
            }
            Err(refusal) => handout.refused.push((refusal, job)),
        }
    }

    fn check_retry(&self, deadline: Instant, free: bool, in_progress: usize, now: Instant) -> Result<(), Refusal> {
        if self.closed {
            Err(Refusal::Closed)
        } else if deadline <= now {
            Err(Refusal::QueueTimeout)
        } else if self.servers.reachable().is_empty() && !self.settings.wait_for_server {
            Err(Refusal::NoServer)
        } else if !free && !self.budget.allows(in_progress) {
            Err(Refusal::RetryBudget)
        } else {
            Ok(())
        }
    }

    /// Puts a job at the head of the queue, for [`Self::take`] and [`Self::settle`] to find it there; bound early it has to
    /// find its server now.
    fn put_back(&mut self, waiting: Waiting<J>, server: ServerId, link: Link, handout: &mut Handout<J>) {
        if waiting.retry {
            self.budget.begin();
        }
        let bound = match self.settings.early_binding {
            true => match self.destination(waiting.ticket.avoid) {
                // Rather the worker that asks than to wake another one of its server.
                Destination::Worker(worker) if link != Link::Up || self.servers.server_of(worker) != Some(server) => {
                    self.servers.start(worker, waiting.ticket.id, waiting.retry);
                    handout.assigned.push((worker, waiting.job));
                    return;
                }
                Destination::Worker(_) => Some(server),
                Destination::Queue(bound) => bound,
                Destination::Nowhere => None,
            },
            false => None,
        };
        self.queue.push(End::Head, bound, waiting);
    }

    /// The next job of a worker whose connection is up; it is idle if there is none.
    fn take(
        &mut self,
        worker: WorkerId,
        server: ServerId,
        now: Instant,
        refused: &mut Vec<(Refusal, J)>,
    ) -> Option<(J, Ticket)> {
        if let Some(slot) = self.first_in_time(server, now, refused) {
            let ticket = *self.queue.ticket(slot)?;
            return Some((self.start(slot, worker)?, ticket));
        }
        self.servers.rest(worker);
        None
    }

    /// The first job for a worker of this server. Those before it whose deadline has passed are refused.
    fn first_in_time(&mut self, server: ServerId, now: Instant, refused: &mut Vec<(Refusal, J)>) -> Option<Slot> {
        while let Some(slot) = self.queue.first_for(server, self.heed_avoidance()) {
            if self.queue.ticket(slot).is_some_and(|ticket| ticket.deadline > now) {
                return Some(slot);
            }
            refused.extend(self.withdraw(slot).map(|waiting| (Refusal::QueueTimeout, waiting.job)));
        }
        None
    }

    /// What a worker takes besides its first job: no more than what would be each worker's if all came now.
    fn take_more(
        &mut self,
        worker: WorkerId,
        server: ServerId,
        first: Ticket,
        (most, more): (usize, &mut VecDeque<J>),
        now: Instant,
        refused: &mut Vec<(Refusal, J)>,
    ) {
        if !first.batchable {
            return;
        }
        let (waiting, workers) = if self.settings.early_binding {
            (self.queue.bound_len(server), self.servers.up_of(server))
        } else {
            (self.queue.len(), self.servers.up_count())
        };
        for _ in 0..most.min(waiting / workers.max(1)) {
            let Some(slot) = self.first_in_time(server, now, refused) else {
                break;
            };
            let joins = |ticket: &Ticket| ticket.batchable && ticket.bucket == first.bucket;
            if !self.queue.ticket(slot).is_some_and(joins) {
                break;
            }
            let Some(waiting) = self.queue.remove(slot) else { break };
            self.servers.start_besides(worker, waiting.ticket.id);
            more.push_back(waiting.job);
        }
    }

    /// Brings together what a change has set free: idle workers and open jobs. (A bound job is never left while its server
    /// has an idle worker.)
    fn settle(&mut self, now: Instant, handout: &mut Handout<J>) {
        if self.queue.is_empty() {
            return;
        }
        if self.servers.reachable().is_empty() && !self.settings.wait_for_server {
            self.refuse_all(Refusal::NoServer, &mut handout.refused);
            return;
        }
        while let Some(slot) = self.first_takeable()
            && let Some(&Ticket { deadline, avoid, .. }) = self.queue.ticket(slot)
        {
            if deadline <= now {
                // Before the round goes on for nothing.
                handout
                    .refused
                    .extend(self.withdraw(slot).map(|waiting| (Refusal::QueueTimeout, waiting.job)));
                continue;
            }
            let except = avoid.filter(|_| self.heed_avoidance());
            let Some(server) = self.scheduler.choose(self.servers.idle(), except) else {
                break;
            };
            let Some(worker) = self.servers.idle_worker(server) else {
                break;
            };
            let Some(job) = self.start(slot, worker) else { break };
            handout.assigned.push((worker, job));
        }
    }

    /// The first open job that some idle worker may take.
    fn first_takeable(&self) -> Option<Slot> {
        let idle = self.servers.idle();
        match idle.next_from(0) {
            // One of several is never the one that the job avoids.
            Some(_) if idle.len() > 1 || !self.heed_avoidance() => self.queue.first_open(),
            Some(only) => self.queue.first_open_not_avoiding(ServerId(only)),
            None => None,
        }
    }

    /// Takes a job out of the queue for a worker.
    fn start(&mut self, slot: Slot, worker: WorkerId) -> Option<J> {
        let Waiting { job, ticket, retry } = self.queue.remove(slot)?;
        self.servers.start(worker, ticket.id, retry);
        Some(job)
    }

    /// Takes a job out of the queue that is over with that.
    fn withdraw(&mut self, slot: Slot) -> Option<Waiting<J>> {
        let waiting = self.queue.remove(slot)?;
        if waiting.retry {
            self.budget.end();
        }
        Some(waiting)
    }

    fn refuse_all(&mut self, refusal: Refusal, refused: &mut Vec<(Refusal, J)>) {
        while let Some(slot) = self.queue.any()
            && let Some(waiting) = self.withdraw(slot)
        {
            refused.push((refusal, waiting.job));
        }
    }
}

#[cfg(test)]
impl<J> Dispatcher<J> {
    /// Whether all parts agree with each other, and with this number of retries alive.
    pub(super) fn check(&self, live_retries: usize) {
        self.queue.check();
        self.servers.check();
        assert_eq!(self.budget.live(), live_retries);
    }
}
