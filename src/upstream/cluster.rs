//! A cluster as it runs: the lock round its dispatcher, its workers' slots, and what the
//! dispatcher's decisions lead to.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Condvar, Mutex};

use crate::balance::{
    BucketCounts, BucketId, Cancelled, Change, Counts, Dispatcher, Handout, Link, Offer, Refusal,
    ServerId, Ticket, Verdict, WorkerId,
};
use crate::base::date::DateCache;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Answer, Exchange, Hub};
use crate::fault::Fault;
use crate::plan::{self, ErrorPage, OnClientAbort};
use crate::proto::h1::Persistence;

use super::control::Control;
use super::slot::Slot;

/// A client that is refused is told to come again after so long at most, in seconds.
const RETRY_AFTER: u64 = 300;

/// It is looked at least so often whether something is due.
pub(super) const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// A cluster as it runs.
#[derive(Debug)]
pub struct Cluster {
    pub(super) name: Arc<str>,
    pub(super) hub: Arc<Hub>,
    pub(super) plan: ArcSwap<plan::Cluster>,
    pub(super) dispatcher: Mutex<Dispatcher<Exchange>>,
    /// By the workers' numbers.
    pub(super) slots: ArcSwap<Vec<Option<Arc<Slot>>>>,
    /// Its servers and buckets by name. Held while something is changed; taken before the
    /// dispatcher's lock.
    pub(super) control: Mutex<Control>,
    pub(super) first_tries: Mutex<usize>,
    pub(super) tried: Condvar,
    pub(super) alive: AtomicUsize,
    pub(super) is_closed: AtomicBool,
    /// Who is held back is to be written down, whether it has changed or not.
    pub(super) is_to_remember: AtomicBool,
}

impl Cluster {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A whole request.
    pub fn offer(&self, mut exchange: Exchange) {
        let now = Instant::now();
        exchange.times.offered = Some(now);
        exchange.times.waiting_since = now;
        if self.hub.access.is_some() {
            exchange.cluster_name = Some(Arc::clone(&self.name));
        }
        let mut ticket = ticket(&exchange, None);
        ticket.batchable = exchange.destination.pipelines && exchange.request.is_batchable();
        // What is due later is found in time by whoever looks.
        let is_soon = ticket.gives_up() < after(now, LONGEST_PERIOD);
        let (offer, is_first) = {
            let mut dispatcher = self.dispatcher.lock();
            let offer = dispatcher.offer(exchange, ticket, now);
            let is_queued = matches!(offer, Offer::Queued);
            let is_first =
                is_queued && is_soon && dispatcher.next_deadline() == Some(ticket.gives_up());
            (offer, is_first)
        };
        match offer {
            Offer::Assigned(worker, exchange) => self.give(worker, exchange),
            Offer::Queued => {
                if is_first {
                    self.alarm();
                }
            }
            Offer::Refused(refusal, exchange) => self.refuse(refusal, exchange),
        }
    }

    /// The client of this exchange has left.
    pub fn cancel(&self, id: u64) {
        let plan = self.plan.load();
        let mut dispatcher = self.dispatcher.lock();
        let found = match plan.on_client_abort {
            // What was asked for is done, whoever waits for it.
            OnClientAbort::Ignore => dispatcher
                .serving(id)
                .map_or(Cancelled::Unknown, Cancelled::Serving),
            OnClientAbort::Close | OnClientAbort::Notify => dispatcher.cancel(id),
        };
        match found {
            Cancelled::Queued(mut exchange) => {
                drop(dispatcher);
                exchange.fault = Some(Fault::ClientGoneQueue);
                let client = Arc::clone(&exchange.client);
                client.drop_exchange(exchange);
            }
            Cancelled::Serving(worker) => {
                if let Some(slot) = self.slot(worker) {
                    // Still under the lock: the worker can have come to no other exchange then,
                    // whose own cancel would be lost.
                    let grace = match plan.on_client_abort {
                        OnClientAbort::Close | OnClientAbort::Notify => Some(plan.timeout.abort),
                        OnClientAbort::Ignore => None,
                    };
                    let notify = plan.on_client_abort == OnClientAbort::Notify;
                    slot.cancel(id, (grace, notify), Instant::now());
                    drop(dispatcher);
                    if notify {
                        slot.notify(id);
                    }
                }
            }
            Cancelled::Unknown => {}
        }
    }

    /// Answers an exchange with the reason why it failed.
    pub fn respond(&self, exchange: Exchange, fault: Fault) {
        self.respond_later(exchange, fault, 1);
    }

    /// The same; a 503 says after how many seconds to come again.
    fn respond_later(&self, mut exchange: Exchange, fault: Fault, retry_after: u32) {
        let client = Arc::clone(&exchange.client);
        let mut answer = Answer::fault(fault);
        answer.retry_after = retry_after;
        let close = !exchange.request.head.keep_alive || client.must_close();
        let persistence = Persistence::of(close, exchange.request.head.version);
        exchange.status = answer.status;
        exchange.fault = Some(fault);
        let head_only = exchange.request.head.method == crate::http::Method::Head;
        let mut bytes = Vec::with_capacity(512);
        let mut date = DateCache::default();
        let plan = self.plan.load();
        let of_listener = || ErrorPage::find(&client.listener().error_pages, answer.status);
        let page = ErrorPage::find(&plan.error_pages, answer.status).or_else(of_listener);
        answer.render(
            &mut bytes,
            page,
            head_only,
            persistence,
            date.at(SystemTime::now()),
        );
        client.finish(&[&bytes], close, exchange);
    }

    /// Does what is due now: requests that waited too long, retries whose time has come, servers
    /// that had their grace.
    pub fn tick(self: &Arc<Self>, now: Instant) {
        let handout = {
            let mut dispatcher = self.dispatcher.lock();
            match dispatcher.next_deadline() {
                Some(deadline) if deadline <= now => Some(dispatcher.wake(now)),
                _ => None,
            }
        };
        if let Some(handout) = handout {
            self.carry_out_all(handout);
        }
        for slot in self.slots.load().iter().flatten() {
            slot.abort_if_due(now);
        }
        self.start_again();
    }

    /// When [`Self::tick`] has to be called next, so that nothing is much too late.
    pub fn next_tick(&self, now: Instant) -> Instant {
        // Who waits has a deadline that is known; what a client's leaving has begun is looked for.
        let regular = after(
            now,
            (self.plan.load().timeout.abort / 4).min(LONGEST_PERIOD),
        );
        let deadline = self.dispatcher.lock().next_deadline();
        deadline.map_or(regular, |deadline| deadline.min(regular))
    }

    /// Waits until every worker has tried to connect once and every server that is probed before it
    /// is used was, at most until then.
    pub fn wait_tried(&self, until: Instant) {
        let mut left = self.first_tries.lock();
        while *left > 0 {
            if self.tried.wait_until(&mut left, until).timed_out() {
                return;
            }
        }
        drop(left);
        while self.has_unknown_servers() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Refuses what waits, and ends the workers once they have served what they have.
    pub fn close(self: &Arc<Self>) {
        self.is_closed.store(true, Ordering::Release);
        // With the lock: whoever starts workers has seen this, or has started them.
        let control = self.control.lock();
        let closed = self.dispatcher.lock().apply(Change::Close, Instant::now());
        if let Ok(outcome) = closed {
            self.carry_out_all(outcome.handout);
        }
        for slot in self.slots.load().iter().flatten() {
            slot.stop();
        }
        for server in control.servers() {
            server.remove();
        }
    }

    /// After [`Self::close`]: breaks off what is being served all the same.
    pub fn abort(&self) {
        self.slots
            .load()
            .iter()
            .flatten()
            .for_each(|slot| slot.abort());
    }

    /// Waits until no worker is left, at most until then.
    pub fn wait_closed(&self, until: Instant) {
        while self.alive.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it is closed and no worker is left.
    pub fn is_gone(&self) -> bool {
        self.is_closed.load(Ordering::Acquire) && self.alive.load(Ordering::Acquire) == 0
    }

    /// Counts to look at.
    pub fn counts(&self) -> Counts {
        self.dispatcher.lock().counts()
    }

    /// Counts of its buckets, by name, the root first.
    pub fn buckets(&self) -> Vec<(String, BucketCounts)> {
        let control = self.control.lock();
        let dispatcher = self.dispatcher.lock();
        let root = ("root".to_owned(), dispatcher.bucket(BucketId::default()));
        let others = control.buckets.iter();
        std::iter::once(root)
            .chain(others.map(|bucket| (bucket.plan.name.clone(), dispatcher.bucket(bucket.id))))
            .collect()
    }

    /// Its settings.
    pub fn plan(&self) -> Guard<Arc<plan::Cluster>> {
        self.plan.load()
    }

    // === For its workers

    pub(super) fn slot(&self, worker: WorkerId) -> Option<Arc<Slot>> {
        self.slots.load().get(worker.0 as usize).cloned().flatten()
    }

    /// A worker has ended its job or its connection has changed; answers its next job.
    pub(super) fn next(
        &self,
        worker: WorkerId,
        verdict: Verdict<Exchange>,
        link: Link,
    ) -> Option<Exchange> {
        let rests = rests(&verdict);
        let handout = self
            .dispatcher
            .lock()
            .next(worker, verdict, link, Instant::now());
        self.follow_up(handout, rests)
    }

    /// The same, and up to `most` at once: `more` gets those behind the first.
    pub(super) fn next_batch(
        &self,
        worker: WorkerId,
        verdict: Verdict<Exchange>,
        link: Link,
        batch: (usize, &mut VecDeque<Exchange>),
    ) -> Option<Exchange> {
        let (now, rests) = (Instant::now(), rests(&verdict));
        let handout = self
            .dispatcher
            .lock()
            .next_batch(worker, verdict, link, batch, now);
        self.follow_up(handout, rests)
    }

    /// One of several exchanges that a worker has is over or goes back; it keeps the others.
    pub(super) fn part(&self, worker: WorkerId, id: u64, verdict: Verdict<Exchange>) {
        let rests = rests(&verdict);
        let handout = self
            .dispatcher
            .lock()
            .end_one(worker, id, verdict, Instant::now());
        if rests {
            self.alarm();
        }
        self.carry_out_all(handout);
    }

    fn follow_up(&self, handout: Handout<Exchange>, rests: bool) -> Option<Exchange> {
        if rests {
            self.alarm();
        }
        self.carry_out(handout)
    }

    pub(super) fn retire(&self, worker: WorkerId) -> bool {
        self.dispatcher.lock().retire(worker)
    }

    /// Something is due before whoever looks after that expects it.
    pub(super) fn alarm(&self) {
        self.hub.reaper.ring();
    }

    pub(super) fn note_first_try(&self) {
        let mut left = self.first_tries.lock();
        *left = left.saturating_sub(1);
        self.tried.notify_all();
    }

    /// Does what was decided. Returns the job of the worker that asked for one.
    #[must_use = "a worker that asked has to serve this"]
    fn carry_out(&self, handout: Handout<Exchange>) -> Option<Exchange> {
        for (worker, exchange) in handout.assigned {
            self.fenced(|| self.give(worker, exchange));
        }
        for (refusal, exchange) in handout.refused {
            self.fenced(|| self.refuse(refusal, exchange));
        }
        handout.next
    }

    /// Does what was decided where nobody has asked for a job.
    pub(super) fn carry_out_all(&self, handout: Handout<Exchange>) {
        if let Some(exchange) = self.carry_out(handout) {
            log::error!(
                "{}: a request was given to a worker that asked for none",
                self.name
            );
            self.respond(exchange, Fault::Internal);
        }
    }

    /// Does something for one exchange: a panic costs no other one.
    fn fenced(&self, act: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(act)).is_err() {
            self.hub.answer_lost();
        }
    }

    fn give(&self, worker: WorkerId, exchange: Exchange) {
        match self.slots.load().get(worker.0 as usize) {
            Some(Some(slot)) => slot.put(exchange),
            // A worker that has a job is not let go.
            _ => self.respond(exchange, Fault::Internal),
        }
    }

    fn refuse(&self, refusal: Refusal, exchange: Exchange) {
        let fault = match refusal {
            Refusal::QueueFull => Fault::QueueFull,
            Refusal::ClientQueueFull => Fault::ClientQueueFull,
            // What made a retry necessary says more than that its time is up.
            Refusal::Hopeless => exchange.fault.unwrap_or(Fault::Hopeless),
            Refusal::QueueTimeout => exchange.fault.unwrap_or_else(|| late(&exchange)),
            Refusal::NoServer => exchange.fault.unwrap_or(Fault::NoServer),
            Refusal::RetryBudget => exchange.fault.unwrap_or(Fault::NoServer),
            Refusal::Closed => Fault::Draining,
            Refusal::Disabled => Fault::Disabled,
        };
        Point::Refuse.pass();
        let retry_after = match refusal {
            Refusal::QueueFull | Refusal::ClientQueueFull | Refusal::Hopeless => {
                let wait = self
                    .dispatcher
                    .lock()
                    .expected_wait(exchange.destination.bucket);
                u32::try_from(wait.as_millis().div_ceil(1000).clamp(1, RETRY_AFTER.into()))
                    .unwrap_or(1)
            }
            _ => 1,
        };
        self.respond_later(exchange, fault, retry_after);
    }
}

/// Whether its job is to be tried again later.
fn rests(verdict: &Verdict<Exchange>) -> bool {
    matches!(verdict, Verdict::Retry { back_off, .. } if !back_off.is_zero())
}

/// What the dispatcher sees of an exchange.
pub(super) fn ticket(exchange: &Exchange, avoid: Option<ServerId>) -> Ticket {
    let destination = &exchange.destination;
    let offered = exchange.times.offered.unwrap_or(exchange.times.began);
    Ticket {
        id: exchange.id,
        bucket: destination.bucket,
        key: destination.key,
        affinity: destination.affinity,
        deadline: after(offered, destination.patience),
        answer_by: answer_by(exchange),
        avoid,
        batchable: false,
    }
}

pub(super) fn answer_by(exchange: &Exchange) -> Option<Instant> {
    exchange
        .destination
        .time
        .and_then(|time| exchange.times.began.checked_add(time))
}

/// What it waited for in vain: the queue's time limit, or its client's.
fn late(exchange: &Exchange) -> Fault {
    match answer_by(exchange) {
        Some(answer_by) if answer_by <= Instant::now() => Fault::DeadlinePassed,
        _ => Fault::QueueTimeout,
    }
}
