//! Brings jobs and workers together. Buckets decide whose turn it is, the queue which of their jobs
//! is next, and the scheduler which server gets it.
//!
//! Every operation keeps this true: *while a worker is idle that may work, no job waits that the
//! worker may take and whose bucket may have a token.* So an offer takes an idle worker without
//! looking at the queue, and a worker that becomes idle does not look at other workers.
//!
//! With early binding a job is bound to a server when it arrives. If no server can be used then, or
//! the server is lost, the job is open to all servers like a late-bound one, and the first worker
//! that comes up takes it.
//!
//! A worker may take several jobs of one bucket at once (a *batch*: its server gets them over one
//! connection and answers them one after the other). All of them share one token, that of the first
//! job, which comes back with the last. A batch is only taken while no other bucket has a waiting
//! job, so it takes nothing away from other buckets: a later job finds one slot taken, as with a
//! single job.

mod admission;
mod rests;
mod taking;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bucket::{BucketCounts, Tree};
use super::budget::RetryBudget;
use super::drain::Pace;
use super::queue::{Position, Queue, Waiting};
use super::resting::Resting;
use super::servers::{Ended, Servers};
use super::{
    Admin, BucketId, Cancelled, Counts, Handout, LinkState, Offer, Refusal, ServerCounts, ServerId,
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

/// Where a job that is not in the queue goes.
enum Destination {
    Worker(WorkerId),
    /// Into the queue. If a server is named, only a worker of that server may take the job.
    Queue(Option<ServerId>),
    /// No server can be reached, and the job may not wait.
    Nowhere,
}

impl<J> Dispatcher<J> {
    /// Makes a dispatcher without servers and with one bucket, the root.
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

    /// Offers a new job. The job goes to an idle worker of the chosen server, else into the queue,
    /// else it is refused.
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

    /// Tells that a worker has ended its jobs, or that its connection has changed. With
    /// [`LinkState::Up`] the worker asks for its next job, and is idle if there is none. If the
    /// worker was idle and a job was assigned to it meanwhile, the result has no job: that job is
    /// in the worker's slot.
    pub fn next(
        &mut self,
        worker: WorkerId,
        verdict: Verdict<J>,
        link: LinkState,
        now: Instant,
    ) -> Handout<J> {
        self.next_batch(worker, verdict, link, (1, &mut VecDeque::new()), now)
    }

    /// [`Self::next`] for a worker that may take up to `most` jobs at once. The first job is in the
    /// result, and `more` gets the jobs that wait right behind it. There are more only if all of
    /// them are batchable and no job waits in another bucket, and no more than the worker's part of
    /// what waits. No idle worker could have had one of them. The next call ends all of them except
    /// those that [`Self::end_one`] has ended before.
    pub fn next_batch(
        &mut self,
        worker: WorkerId,
        verdict: Verdict<J>,
        link: LinkState,
        (most, more): (usize, &mut VecDeque<J>),
        now: Instant,
    ) -> Handout<J> {
        let mut handout = Handout::default();
        let Some(server) = self.servers.server_of(worker) else {
            // The worker is unknown, but its job must not get lost.
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
        let asking = (link == LinkState::Up).then_some(server);
        self.retry(verdict, ended, in_progress, asking, now, &mut handout);
        let mut joins = None;
        if link == LinkState::Up && !self.servers.is_serving(worker) {
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

    /// Ends one of several jobs that a worker has, or tries it again. The worker goes on with its
    /// other jobs, or asks for its next.
    pub fn end_one(
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
            // The other jobs keep the token. A job of a batch is not a retry.
            self.servers
                .end_one(worker, id)
                .map(|bucket| (bucket, false))
        };
        // The worker does not ask for another job.
        self.retry(verdict, ended, in_progress, None, now, &mut handout);
        self.settle(now, &mut handout);
        handout
    }

    /// Tells that an idle worker has lost its connection and makes a new one. Returns `false` if a
    /// job was assigned to it meanwhile: the job is in the worker's slot, and the worker serves it
    /// over a new connection. Nothing changes then, nor if the worker was not idle. If the server
    /// cannot be reached any more, that is told to [`Self::next`], because only that can hand out
    /// what such a change sets free.
    pub fn retire(&mut self, worker: WorkerId) -> bool {
        if self.servers.is_serving(worker) {
            return false;
        }
        if self.servers.is_idle(worker) {
            // This worker may not take any job that waits now, and all workers that may are busy.
            // So losing this one sets nothing free.
            self.servers.set_link(worker, LinkState::Connecting);
        }
        true
    }

    /// Takes away an idle worker of this server, for a look at the server. It is the worker that
    /// would get a job last, so that all connections are looked at in turn. The server need not be
    /// in use. The worker's link stays and counts. The worker is neither idle nor serving until it
    /// comes back by [`Self::next`] with [`Verdict::None`].
    pub fn borrow(&mut self, server: ServerId) -> Option<WorkerId> {
        self.servers.borrow(server)
    }

    /// Cancels a job whose client has left.
    pub fn cancel(&mut self, id: u64) -> Cancelled<J> {
        if let Some(place) = self.queue.find(id)
            && let Some(waiting) = self.withdraw(place)
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

    /// Returns the worker that serves this job.
    pub fn serving(&self, id: u64) -> Option<WorkerId> {
        self.servers.serving(id)
    }

    /// Returns the counts of the cluster.
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

    /// Returns the counts of a bucket, or of the root if there is no such bucket.
    pub fn bucket(&self, bucket: BucketId) -> BucketCounts {
        self.buckets.counts(self.buckets.resolve(bucket))
    }

    /// Returns all buckets.
    pub fn buckets(&self) -> impl Iterator<Item = BucketId> + '_ {
        self.buckets.ids()
    }

    /// Returns the server that is added next.
    pub fn next_server(&self) -> ServerId {
        self.servers.next_server()
    }

    /// Returns the counts of a server.
    pub fn server(&self, server: ServerId) -> Option<ServerCounts> {
        self.servers
            .exists(server)
            .then(|| self.servers.counts(server))
    }

    /// Estimates how long a job that came to this bucket now would wait, from the jobs waiting
    /// there, the bucket's slots, and the time that its jobs have taken. `Retry-After` tells this
    /// to a refused client.
    pub fn expected_wait(&self, bucket: BucketId) -> Duration {
        let bucket = self.buckets.resolve(bucket);
        self.expected_wait_behind(bucket, self.buckets.queued(bucket))
    }

    // === Destination

    /// Returns where a job goes now. The scheduler's turn is used up, whatever happens to the job.
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

    // === Retries and ends

    fn waiting(
        &self,
        job: J,
        mut ticket: Ticket,
        bound: Option<ServerId>,
        retry: bool,
    ) -> Waiting<J> {
        // A server that is added later with this number is not the one to avoid.
        ticket.avoid = ticket.avoid.filter(|server| self.servers.exists(*server));
        Waiting {
            job,
            ticket,
            bound,
            retry,
        }
    }

    /// Counts a job that is about to wait.
    fn enter(&mut self, waiting: &Waiting<J>) {
        self.buckets.join(waiting.ticket.bucket, waiting.is_open());
        if let Some(server) = waiting.bound {
            self.servers.count_bound(server, true);
        }
    }

    /// Ends a worker's jobs. Returns their bucket, and whether they were a retry that counted.
    fn end(&mut self, worker: WorkerId, now: Instant) -> Option<(BucketId, bool)> {
        let Ended {
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

    /// Puts back a job that is tried again, if it may, or lets it rest before. `ended` is the
    /// result of [`Self::end`]. `asking` is the worker's server, if the worker asks for its next
    /// job.
    fn retry(
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
                // The job's bucket may have been removed while it was served.
                let (bucket, was_retry) = ended.unwrap_or((ticket.bucket, false));
                ticket.bucket = self.buckets.resolve(bucket);
                // A job that was tried before goes alone.
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

    /// Takes over a change of what the servers in use can serve.
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

    /// Opens the jobs bound to the server `lost` to all others, or with `None` all bound jobs.
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

    /// Puts a job at the head of its bucket, where [`Self::take`] and [`Self::settle`] find it.
    /// With early binding the job gets its server now.
    pub(super) fn put_back(
        &mut self,
        mut waiting: Waiting<J>,
        asking: Option<ServerId>,
        handout: &mut Handout<J>,
        now: Instant,
    ) {
        if self.settings.early_binding {
            waiting.bound = match self.destination(&waiting.ticket, now) {
                // The worker that asks takes the job, instead of waking another one of its server.
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

    /// Removes a waiting job that is over.
    pub(super) fn withdraw(&mut self, place: Position) -> Option<Waiting<J>> {
        let waiting = self.queue.remove(place)?;
        self.forgive(&waiting);
        if let Some(server) = waiting.bound {
            self.servers.count_bound(server, false);
        }
        self.buckets.leave(waiting.ticket.bucket, waiting.is_open());
        Some(waiting)
    }

    /// Ends the count of a job against the retry budget.
    pub(super) fn forgive(&mut self, waiting: &Waiting<J>) {
        if waiting.retry {
            self.budget.end();
        }
    }

    /// Refuses all jobs that wait or rest.
    pub(super) fn refuse_all(&mut self, refusal: Refusal, refused: &mut Vec<(Refusal, J)>) {
        self.refuse_queued(refusal, refused);
        self.refuse_resting(refusal, refused);
    }

    fn refuse_queued(&mut self, refusal: Refusal, refused: &mut Vec<(Refusal, J)>) {
        while let Some(place) = self.queue.any()
            && let Some(waiting) = self.withdraw(place)
        {
            refused.push((refusal, waiting.job));
        }
    }
}

#[cfg(test)]
impl<J> Dispatcher<J> {
    /// Checks that all parts agree with each other, and with this number of retries alive.
    pub(super) fn check(&self, live_retries: usize) {
        self.check_parts();
        assert_eq!(self.budget.live(), live_retries);
    }

    /// Checks that all parts agree with each other.
    pub(super) fn check_parts(&self) {
        self.queue.check();
        self.resting.check();
        self.servers.check();
        self.buckets.check();
    }

    /// Returns the server that a waiting job is bound to.
    pub(super) fn bound(&self, id: u64) -> Option<ServerId> {
        self.queue
            .find(id)
            .and_then(|place| self.queue.get(place)?.bound)
    }
}
