//! A cluster as sessions and workers see it: the lock round its dispatcher, the workers' slots, and
//! what the dispatcher's decisions lead to. What changes a cluster is in `control`.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::{Mutex, MutexGuard};

use crate::balance::{
    Cancelled, Counts, Dispatcher, Handout, LinkState, Offer, Refusal, ServerId, Ticket, Verdict,
    WorkerId,
};
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Answer, Exchange, Hub};
use crate::fault::Fault;
use crate::observe::account::{OpenAccount, Totals};
use crate::plan::{self, ErrorPage, OnClientAbort};

use super::lane::Lane;
use super::slot::{Grace, Slot};

/// The longest time that a refused client is told to wait (`Retry-After`), in seconds.
const RETRY_AFTER: u64 = 300;

/// The reaper looks for what is due at least this often.
pub(super) const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// The slots of a cluster's workers, by the workers' numbers.
type Slots = Vec<Option<Arc<Slot>>>;

/// A cluster: its dispatcher, its slots and its settings.
#[derive(Debug)]
pub struct Cluster {
    name: Arc<str>,
    pub(super) hub: Arc<Hub>,
    plan: ArcSwap<plan::Cluster>,
    dispatcher: Mutex<Dispatcher<Exchange>>,
    account: OpenAccount,
    /// What is long.
    lane: Arc<Lane>,
    /// Replaced only under the control lock.
    slots: ArcSwap<Slots>,
}

impl Cluster {
    /// A cluster without servers and workers.
    pub(super) fn new(
        plan: &plan::Cluster,
        hub: &Arc<Hub>,
        dispatcher: Dispatcher<Exchange>,
    ) -> Self {
        Self {
            name: Arc::from(plan.name.as_str()),
            hub: Arc::clone(hub),
            plan: ArcSwap::from_pointee(plan.clone()),
            dispatcher: Mutex::new(dispatcher),
            account: hub.accounts.open(),
            lane: Arc::default(),
            slots: ArcSwap::default(),
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's name, to be shared.
    pub(super) fn name_shared(&self) -> &Arc<str> {
        &self.name
    }

    /// The cluster's settings.
    pub fn plan(&self) -> Guard<Arc<plan::Cluster>> {
        self.plan.load()
    }

    /// Counts of the dispatcher.
    pub fn counts(&self) -> Counts {
        self.dispatcher.lock().counts()
    }

    /// Returns what the cluster has done: the exchanges that were offered to it and have ended.
    pub(super) fn totals(&self) -> Totals {
        self.account.totals()
    }

    // === For sessions

    /// Takes a whole request: it goes to a worker, waits, or is refused.
    pub fn offer(&self, mut exchange: Exchange) {
        let now = Instant::now();
        exchange.times.offered = Some(now);
        exchange.times.waiting_since = now;
        exchange.cluster_account = Some(self.account.id());
        if self.hub.access.is_some() {
            exchange.cluster_name = Some(Arc::clone(&self.name));
        }
        let mut ticket = ticket(&exchange, None);
        ticket.batchable = exchange.destination.pipelines && exchange.request.is_batchable();
        // The reaper looks often enough for what is due later.
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

    /// The client of exchange `id` has left.
    pub fn cancel(&self, id: u64) {
        let plan = self.plan.load();
        let mut dispatcher = self.dispatcher.lock();
        let found = match plan.on_client_abort {
            // A request is served to its end, whether its client waits for that or not.
            OnClientAbort::Ignore => dispatcher
                .serving(id)
                .map_or(Cancelled::Unknown, Cancelled::Serving),
            OnClientAbort::Close | OnClientAbort::Notify => dispatcher.cancel(id),
        };
        match found {
            Cancelled::Queued(exchange) => {
                drop(dispatcher);
                exchange.call_off(Fault::ClientGoneQueue);
            }
            Cancelled::Serving(worker) => {
                if let Some(slot) = self.slot(worker) {
                    // Still under the lock: the worker cannot have come to another exchange, whose
                    // own cancel would be lost.
                    let grace = Grace {
                        time: (plan.on_client_abort != OnClientAbort::Ignore)
                            .then_some(plan.timeout.abort),
                        is_told: plan.on_client_abort == OnClientAbort::Notify,
                    };
                    slot.cancel(id, grace, Instant::now());
                    drop(dispatcher);
                    if grace.is_told {
                        slot.notify(id);
                    }
                }
            }
            Cancelled::Unknown => {
                drop(dispatcher);
                self.lane.cancel(id);
            }
        }
    }

    /// Ends an exchange with the reason why it failed.
    pub fn respond(&self, exchange: Exchange, fault: Fault) {
        self.respond_later(exchange, fault, 1);
    }

    /// Ends an exchange with the reason why it failed. A 503 tells the client to come again
    /// after `retry_after` seconds.
    fn respond_later(&self, exchange: Exchange, fault: Fault, retry_after: u32) {
        let mut answer = Answer::fault(fault);
        answer.retry_after = retry_after;
        let plan = self.plan.load();
        let page = ErrorPage::find(&plan.error_pages, answer.status);
        exchange.answer(&answer, page, false);
    }

    // === For the reaper

    /// Does what is due at `now`: refuses requests that waited too long, gives out retries whose
    /// time has come, breaks connections whose servers had their grace.
    pub(super) fn tick(&self, now: Instant) {
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
        for slot in self.slots().iter().flatten() {
            slot.abort_if_due(now);
        }
    }

    /// The moment at which [`Self::tick`] has to be called next, so that nothing is much too late.
    pub(super) fn next_tick(&self, now: Instant) -> Instant {
        // Deadlines in the queue are known. A grace that a client's leaving has begun is not, so
        // the reaper looks for it.
        let regular = after(
            now,
            (self.plan.load().timeout.abort / 4).min(LONGEST_PERIOD),
        );
        let deadline = self.dispatcher.lock().next_deadline();
        deadline.map_or(regular, |deadline| deadline.min(regular))
    }

    // === For workers

    /// What is long.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// The slot of a worker, as long as the worker is there.
    pub(super) fn slot(&self, worker: WorkerId) -> Option<Arc<Slot>> {
        self.slots().get(worker.0 as usize).cloned().flatten()
    }

    /// A worker has ended its job, or its connection has changed. Returns its next job.
    pub(super) fn next(
        &self,
        worker: WorkerId,
        verdict: Verdict<Exchange>,
        link: LinkState,
    ) -> Option<Exchange> {
        let is_delayed = is_delayed(&verdict);
        let handout = self
            .dispatcher
            .lock()
            .next(worker, verdict, link, Instant::now());
        self.follow_up(handout, is_delayed)
    }

    /// Like [`Self::next`], but for up to `most` jobs at once: `behind` gets those after the first.
    #[must_use = "the worker has to serve this"]
    pub(super) fn next_batch(
        &self,
        worker: WorkerId,
        verdict: Verdict<Exchange>,
        link: LinkState,
        (most, behind): (usize, &mut VecDeque<Exchange>),
    ) -> Option<Exchange> {
        let (now, is_delayed) = (Instant::now(), is_delayed(&verdict));
        let handout = self
            .dispatcher
            .lock()
            .next_batch(worker, verdict, link, (most, behind), now);
        self.follow_up(handout, is_delayed)
    }

    /// One of several jobs of a worker is over or goes back; the worker keeps the others.
    pub(super) fn end_one(&self, worker: WorkerId, id: u64, verdict: Verdict<Exchange>) {
        let is_delayed = is_delayed(&verdict);
        let handout = self
            .dispatcher
            .lock()
            .end_one(worker, id, verdict, Instant::now());
        if is_delayed {
            self.alarm();
        }
        self.carry_out_all(handout);
    }

    /// A worker takes no jobs until it calls [`Self::next`]. Returns `false` if a job was assigned
    /// to it just before: that job is in its slot, or on the way there.
    pub(super) fn retire(&self, worker: WorkerId) -> bool {
        self.dispatcher.lock().retire(worker)
    }

    fn follow_up(&self, handout: Handout<Exchange>, is_delayed: bool) -> Option<Exchange> {
        if is_delayed {
            self.alarm();
        }
        self.carry_out(handout)
    }

    // === For the controller

    /// The dispatcher. Nothing that may block happens under this lock.
    pub(super) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher<Exchange>> {
        self.dispatcher.lock()
    }

    /// Has the settings replaced.
    pub(super) fn set_plan(&self, plan: &plan::Cluster) {
        self.plan.store(Arc::new(plan.clone()));
    }

    /// The slots of all workers.
    pub(super) fn slots(&self) -> Guard<Arc<Slots>> {
        self.slots.load()
    }

    /// Puts a worker's slot in its place, or takes it away. Called under the control lock only.
    pub(super) fn set_slot(&self, worker: WorkerId, slot: Option<Arc<Slot>>) {
        let mut slots = Vec::clone(&self.slots());
        let place = worker.0 as usize;
        if slots.len() <= place {
            slots.resize(place + 1, None);
        }
        slots[place] = slot;
        self.slots.store(Arc::new(slots));
    }

    /// Wakes the reaper: something is due before its next look.
    pub(super) fn alarm(&self) {
        self.hub.reaper.ring();
    }

    /// Does what the dispatcher has decided where no worker has asked for a job.
    pub(super) fn carry_out_all(&self, handout: Handout<Exchange>) {
        if let Some(exchange) = self.carry_out(handout) {
            log::error!(
                "{}: a request was given to a worker that asked for none",
                self.name
            );
            self.respond(exchange, Fault::Internal);
        }
    }

    // === What the dispatcher's decisions lead to

    /// Does what the dispatcher has decided. Returns the job of the worker that asked for one.
    #[must_use = "the worker that asked has to serve this"]
    fn carry_out(&self, handout: Handout<Exchange>) -> Option<Exchange> {
        for (worker, exchange) in handout.assigned {
            self.fenced(|| self.give(worker, exchange));
        }
        for (refusal, exchange) in handout.refused {
            self.fenced(|| self.refuse(refusal, exchange));
        }
        handout.next
    }

    /// Does something for one exchange, so that a panic costs no other one.
    fn fenced(&self, act: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(act)).is_err() {
            self.hub.answer_lost();
        }
    }

    fn give(&self, worker: WorkerId, exchange: Exchange) {
        match self.slots().get(worker.0 as usize) {
            Some(Some(slot)) => slot.put(exchange),
            // Unreachable: a worker that has a job is not let go.
            _ => self.respond(exchange, Fault::Internal),
        }
    }

    fn refuse(&self, refusal: Refusal, exchange: Exchange) {
        let failed = exchange.attempts.failed();
        let fault = match refusal {
            Refusal::QueueFull => Fault::QueueFull,
            Refusal::ClientQueueFull => Fault::ClientQueueFull,
            // The failure that made a retry necessary says more than that its time is up.
            Refusal::Hopeless => failed.unwrap_or(Fault::Hopeless),
            Refusal::QueueTimeout => failed.unwrap_or_else(|| late(&exchange)),
            Refusal::NoServer => failed.unwrap_or(Fault::NoServer),
            Refusal::RetryBudget => failed.unwrap_or(Fault::NoServer),
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

/// Returns whether the job is to be tried again later, and not at once.
fn is_delayed(verdict: &Verdict<Exchange>) -> bool {
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

/// The moment by which the client wants the whole response, if it said so.
pub(super) fn answer_by(exchange: &Exchange) -> Option<Instant> {
    exchange
        .destination
        .time
        .and_then(|time| exchange.times.began.checked_add(time))
}

/// The time limit that an exchange has exceeded in the queue: the client's own, or the queue's.
fn late(exchange: &Exchange) -> Fault {
    match answer_by(exchange) {
        Some(answer_by) if answer_by <= Instant::now() => Fault::DeadlinePassed,
        _ => Fault::QueueTimeout,
    }
}
