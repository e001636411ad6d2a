//! Brings jobs and workers together: buckets say whose turn it is, the queue which of their jobs,
//! the scheduler at which server.
//!
//! What every operation keeps true: *while a worker is idle that may work, no job waits that it may
//! take and whose bucket may have a token.* So an offer has never to look at the queue before it
//! takes an idle worker, and a worker that becomes idle has never to look at the others.
//!
//! Bound early, a job is given to a server as it comes in. If none can be used then, or the server
//! is lost, it is open to all like one bound late, and the first worker that comes up takes it.
//!
//! A worker may take several jobs of one bucket at once (a *batch*: its server gets them over one
//! connection, and answers one after the other). All of them have one token, that of the first,
//! which comes back with the last. They are only taken while no other bucket has a job that waits,
//! so a batch takes nothing away from anybody: who comes later finds one slot taken, like by a
//! single job.

mod admission;
mod taking;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bucket::{BucketCounts, Tree};
use super::budget::RetryBudget;
use super::drain::Pace;
use super::queue::{Queue, Slot, Waiting};
use super::resting::Resting;
use super::servers::{Servers, Turn};
use super::{
    Admin, BucketId, Cancelled, Counts, Handout, Link, Offer, Refusal, ServerCounts, ServerId,
    Settings, Ticket, Verdict, WorkerId,
};

/// One cluster's dispatcher.
#[derive(Debug)]
pub struct Dispatcher<J> {
    pub(super) settings: Settings,
    pub(super) admin: Admin,
    pub(super) closed: bool,
    pub(super) queue: Queue<J>,
    pub(super) resting: Resting<J>,
    pub(super) servers: Servers,
    pub(super) buckets: Tree,
    pub(super) budget: RetryBudget,
    paces: Vec<Pace>,
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
    /// A dispatcher with no server and one bucket, the root.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            admin: Admin::Enabled,
            closed: false,
            queue: Queue::new(settings.seed),
            resting: Resting::new(),
            servers: Servers::new(settings.schedule, settings.early_binding, settings.seed),
            buckets: Tree::new(settings.lending, !settings.early_binding),
            budget: RetryBudget::new(settings.retry_floor, settings.retry_share),
            paces: Vec::new(),
        }
    }

    /// A new job: to an idle worker of the server that is chosen, else into the queue, else
    /// refused.
    pub fn offer(&mut self, job: J, mut ticket: Ticket, now: Instant) -> Offer<J> {
        if let Some(refusal) = self.refuses_offers() {
            return Offer::Refused(refusal, job);
        }
        if ticket.deadline <= now || ticket.answer_by.is_some_and(|answer_by| answer_by <= now) {
            return Offer::Refused(Refusal::QueueTimeout, job);
        }
        ticket.bucket = self.buckets.resolve(ticket.bucket);
        match self.destination(&ticket, now) {
            Destination::Worker(worker) => {
                let overtakes = self.buckets.owes();
                self.buckets.take(ticket.bucket, overtakes);
                self.servers
                    .start(worker, ticket.id, ticket.bucket, false, now);
                Offer::Assigned(worker, job)
            }
            Destination::Queue(bound) => match self.refuses_to_queue(&ticket, bound, now) {
                Some(refusal) => Offer::Refused(refusal, job),
                None => {
                    let waiting = self.waiting(job, ticket, bound, false);
                    self.enter(&waiting);
                    self.queue.push(waiting);
                    Offer::Queued
                }
            },
            Destination::Nowhere => Offer::Refused(Refusal::NoServer, job),
        }
    }

    /// A worker has ended its jobs, or its connection has changed. With [`Link::Up`] it asks for
    /// its next job and, if there is none, is idle. If it was idle and a job was assigned to it
    /// meanwhile, the answer is empty: the job is in its slot.
    pub fn next(
        &mut self,
        worker: WorkerId,
        verdict: Verdict<J>,
        link: Link,
        now: Instant,
    ) -> Handout<J> {
        self.next_batch(worker, verdict, link, (1, &mut VecDeque::new()), now)
    }

    /// The same for a worker that may take several jobs at once, `most` of them. The first is the
    /// answer's; `more` gets those that wait right behind it, if all of them are batchable, nothing
    /// waits in another bucket, and not more than the worker's part of what waits. Nobody is idle
    /// then who might have had one of them. The next call ends all of them but those that
    /// [`Self::part`] has ended before.
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
        let ended = match verdict {
            Verdict::None => None,
            _ => self.end(worker, now),
        };
        if self.servers.set_link(worker, link) {
            self.adapt();
        }
        let asking = (link == Link::Up).then_some(server);
        self.again(verdict, ended, in_progress, asking, now, &mut handout);
        let mut joins = None;
        if link == Link::Up && !self.servers.is_serving(worker) {
            (handout.next, joins) = self.take(worker, server, now, &mut handout.refused).unzip();
        }
        self.settle(now, &mut handout);
        if most > 1
            && let Some(Some(bucket)) = joins
        {
            self.take_more(
                worker,
                server,
                bucket,
                (most - 1, more),
                now,
                &mut handout.refused,
            );
        }
        handout
    }

    /// One of several jobs that a worker has is over, or shall be tried again; the worker goes on
    /// with the others, or comes for its next.
    pub fn part(
        &mut self,
        worker: WorkerId,
        id: u64,
        verdict: Verdict<J>,
        now: Instant,
    ) -> Handout<J> {
        let mut handout = Handout::default();
        if self.servers.server_of(worker).is_none() {
            if let Verdict::Retry { job, .. } = verdict {
                handout.refused.push((Refusal::Closed, job));
            }
            return handout;
        }
        let in_progress = self.in_progress();
        let ended = if self.servers.has_only(worker, id) {
            self.end(worker, now)
        } else {
            // The others keep the token, and none of several is a retry.
            self.servers
                .end_one(worker, id)
                .map(|bucket| (bucket, false))
        };
        // It does not ask for another.
        self.again(verdict, ended, in_progress, None, now, &mut handout);
        self.settle(now, &mut handout);
        handout
    }

    /// An idle worker has lost its connection and makes it anew. `false` if a job was assigned to
    /// it meanwhile: it is in its slot, and the worker serves it over a new connection. Then
    /// nothing has changed here, nor if the worker was not idle. A server that cannot be reached
    /// any more is a matter for [`Self::next`]: only that has a way to hand out what such a change
    /// sets free.
    pub fn retire(&mut self, worker: WorkerId) -> bool {
        if self.servers.is_serving(worker) {
            return false;
        }
        if self.servers.is_idle(worker) {
            // Whatever waits now may not be taken by this worker, and whoever else may take it is
            // busy: nothing is set free by losing this one.
            self.servers.set_link(worker, Link::Connecting);
        }
        true
    }

    /// Takes an idle worker of this server away, to have a look at the server: the one that has
    /// been idle longest, so that all of them are looked at in turn. Whether the server is in use
    /// does not matter. The worker's link is what it was, and counts; it is neither idle nor
    /// serving until it comes back by [`Self::next`] with [`Verdict::None`].
    pub fn borrow(&mut self, server: ServerId) -> Option<WorkerId> {
        self.servers.borrow(server)
    }

    /// A client left.
    pub fn cancel(&mut self, id: u64) -> Cancelled<J> {
        if let Some(slot) = self.queue.find(id)
            && let Some(waiting) = self.withdraw(slot)
        {
            return Cancelled::Queued(waiting.job);
        }
        if let Some(job) = self.rouse(id) {
            return Cancelled::Queued(job);
        }
        match self.servers.serving(id) {
            Some(worker) => Cancelled::Serving(worker),
            None => Cancelled::Unknown,
        }
    }

    /// The worker that serves this job.
    pub fn serving(&self, id: u64) -> Option<WorkerId> {
        self.servers.serving(id)
    }

    /// Counts to look at.
    pub fn counts(&self) -> Counts {
        Counts {
            queued: self.queue.len(),
            resting: self.resting.len(),
            serving: self.servers.serving_count(),
            up: self.servers.up_count(),
            workers: self.servers.worker_count(),
            capacity: self.servers.capacity(),
        }
    }

    /// Counts of a bucket; of the root if there is no such bucket.
    pub fn bucket(&self, bucket: BucketId) -> BucketCounts {
        self.buckets.counts(self.buckets.resolve(bucket))
    }

    /// All buckets.
    pub fn buckets(&self) -> impl Iterator<Item = BucketId> + '_ {
        self.buckets.ids()
    }

    /// The server that is added next.
    pub fn next_server(&self) -> ServerId {
        self.servers.next_server()
    }

    /// Counts of a server.
    pub fn server(&self, server: ServerId) -> Option<ServerCounts> {
        self.servers
            .exists(server)
            .then(|| self.servers.counts(server))
    }

    /// How long a job that came to this bucket now would wait, as far as that can be known: by what
    /// waits there, how many slots it has, and how long its jobs have taken. What a refused client
    /// is told by `Retry-After`.
    pub fn expected_wait(&self, bucket: BucketId) -> Duration {
        let bucket = self.buckets.resolve(bucket);
        self.expected_wait_behind(bucket, self.buckets.queued(bucket))
    }

    // === Where

    /// Where a job goes now. The round goes on, whatever becomes of the job.
    fn destination(&mut self, ticket: &Ticket, now: Instant) -> Destination {
        if self.servers.in_use().is_empty() {
            return if self.settings.wait_for_server {
                Destination::Queue(None)
            } else {
                Destination::Nowhere
            };
        }
        let admitted = self.buckets.admits(ticket.bucket, self.servers.free());
        if !admitted && !self.settings.early_binding {
            return Destination::Queue(None);
        }
        let except = ticket.avoid.filter(|_| self.heed_avoidance());
        let Some(server) = self
            .servers
            .choose(except, ticket.affinity.unwrap_or(ticket.id), now)
        else {
            return Destination::Queue(None);
        };
        let worker = self.servers.idle_worker(server).or_else(|| {
            let standby = self.servers.idle_standby(server)?;
            self.servers
                .idle_worker(standby)
                .filter(|_| Some(standby) != except)
        });
        match worker {
            Some(worker) if admitted => Destination::Worker(worker),
            _ => Destination::Queue(Some(server)),
        }
    }

    // === How

    fn waiting(
        &self,
        job: J,
        mut ticket: Ticket,
        bound: Option<ServerId>,
        retry: bool,
    ) -> Waiting<J> {
        // A server that is added later is not the one that was meant.
        ticket.avoid = ticket.avoid.filter(|server| self.servers.exists(*server));
        Waiting {
            job,
            ticket,
            bound,
            retry,
        }
    }

    /// A job is about to wait.
    fn enter(&mut self, waiting: &Waiting<J>) {
        self.buckets.join(waiting.ticket.bucket, waiting.is_open());
        if let Some(server) = waiting.bound {
            self.servers.count_bound(server, true);
        }
    }

    /// Ends a worker's jobs. Answers their bucket, and whether they were a retry that counted.
    fn end(&mut self, worker: WorkerId, now: Instant) -> Option<(BucketId, bool)> {
        let Turn {
            bucket,
            retry,
            took,
        } = self.servers.end(worker, now)?;
        if retry {
            self.budget.end();
        }
        let place = bucket.0 as usize;
        if self.paces.len() <= place {
            self.paces.resize(place + 1, Pace::default());
        }
        self.paces[place].observe(took);
        self.buckets.release(bucket);
        Some((bucket, retry))
    }

    /// Puts a job back that shall be tried again, if it may, or lets it rest before. `ended`: what
    /// [`Self::end`] said of it. `asking`: the server of the worker, if that asks for its next job.
    fn again(
        &mut self,
        verdict: Verdict<J>,
        ended: Option<(BucketId, bool)>,
        in_progress: usize,
        asking: Option<ServerId>,
        now: Instant,
        handout: &mut Handout<J>,
    ) {
        let Verdict::Retry {
            job,
            mut ticket,
            free,
            back_off,
        } = verdict
        else {
            return;
        };
        let rests = !back_off.is_zero();
        match self.check_retry(&ticket, (free, rests), in_progress, now) {
            Ok(()) => {
                // Where it belongs now: its bucket may have been removed while it was served.
                let (bucket, was_retry) = ended.unwrap_or((ticket.bucket, false));
                ticket.bucket = self.buckets.resolve(bucket);
                // What was tried before goes alone.
                ticket.batchable = false;
                let retry = was_retry || !free;
                if retry {
                    self.budget.begin();
                }
                let waiting = self.waiting(job, ticket, None, retry);
                if rests {
                    self.resting.add(waiting, back_off, now);
                } else {
                    self.put_back(waiting, asking, handout, now);
                }
            }
            Err(refusal) => handout.refused.push((refusal, job)),
        }
    }

    /// What the servers in use can serve has changed.
    pub(super) fn adapt(&mut self) {
        if self.buckets.size() != self.servers.capacity() {
            self.buckets.resize(self.servers.capacity());
        }
        while let Some(lost) = self.servers.take_lost() {
            if self.settings.early_binding {
                self.open_bound(Some(lost));
            }
        }
    }

    /// Opens what is bound to a server to all others, or all that is bound to any.
    pub(super) fn open_bound(&mut self, lost: Option<ServerId>) {
        let Self {
            queue,
            buckets,
            servers,
            ..
        } = self;
        queue.move_all(|waiting| {
            let Some(server) = waiting
                .bound
                .filter(|bound| lost.is_none_or(|lost| lost == *bound))
            else {
                return false;
            };
            buckets.leave(waiting.ticket.bucket, waiting.is_open());
            servers.count_bound(server, false);
            waiting.bound = None;
            buckets.join(waiting.ticket.bucket, waiting.is_open());
            true
        });
    }

    /// Puts a job at the head of its bucket, for [`Self::take`] and [`Self::settle`] to find it
    /// there; bound early it has to find its server now.
    pub(super) fn put_back(
        &mut self,
        mut waiting: Waiting<J>,
        asking: Option<ServerId>,
        handout: &mut Handout<J>,
        now: Instant,
    ) {
        if self.settings.early_binding {
            waiting.bound = match self.destination(&waiting.ticket, now) {
                // Rather the worker that asks than to wake another one of its server.
                Destination::Worker(worker) if self.servers.server_of(worker) != asking => {
                    let Ticket { id, bucket, .. } = waiting.ticket;
                    self.buckets.take(bucket, false);
                    self.servers.start(worker, id, bucket, waiting.retry, now);
                    handout.assigned.push((worker, waiting.job));
                    return;
                }
                Destination::Worker(_) => asking,
                Destination::Queue(bound) => bound,
                Destination::Nowhere => None,
            };
        }
        self.enter(&waiting);
        self.queue.put_back(waiting);
    }

    /// Takes a job out of the queue that is over with that.
    pub(super) fn withdraw(&mut self, slot: Slot) -> Option<Waiting<J>> {
        let waiting = self.queue.remove(slot)?;
        self.forgive(&waiting);
        if let Some(server) = waiting.bound {
            self.servers.count_bound(server, false);
        }
        self.buckets.leave(waiting.ticket.bucket, waiting.is_open());
        Some(waiting)
    }

    /// A job is over: if it counted against the retry budget, it does not any more.
    pub(super) fn forgive(&mut self, waiting: &Waiting<J>) {
        if waiting.retry {
            self.budget.end();
        }
    }

    /// Whatever waits or rests is over.
    pub(super) fn refuse_all(&mut self, refusal: Refusal, refused: &mut Vec<(Refusal, J)>) {
        self.refuse_queued(refusal, refused);
        self.refuse_resting(refusal, refused);
    }

    fn refuse_queued(&mut self, refusal: Refusal, refused: &mut Vec<(Refusal, J)>) {
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
        self.check_parts();
        assert_eq!(self.budget.live(), live_retries);
    }

    /// Whether all parts agree with each other.
    pub(super) fn check_parts(&self) {
        self.queue.check();
        self.resting.check();
        self.servers.check();
        self.buckets.check();
    }

    /// The server that a waiting job is bound to.
    pub(super) fn bound(&self, id: u64) -> Option<ServerId> {
        self.queue
            .find(id)
            .and_then(|slot| self.queue.get(slot)?.bound)
    }
}
