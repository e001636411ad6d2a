//! A cluster as it runs: the lock round its dispatcher, its workers' slots, and what the dispatcher's decisions lead to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::balance::{
    BucketId, Cancelled, Change, Counts, Dispatcher, Handout, Link, NewServer, Offer, Refusal, ServerId, Settings,
    Ticket, Verdict, WorkerId,
};
use crate::base::date::DateCache;
use crate::exchange::{Answer, Exchange, Hub};
use crate::fault::Fault;
use crate::plan::{self, Binding, OnClientAbort, OnUnavailable};
use crate::proto::h1::Persistence;
use crate::threads::{self, Kind};

use super::slot::Slot;
use super::worker::Worker;

/// So many retries at once are allowed whatever the load.
const RETRY_FLOOR: usize = 10;

/// A cluster as it runs.
#[derive(Debug)]
pub struct Cluster {
    plan: Arc<plan::Cluster>,
    name: Arc<str>,
    hub: Arc<Hub>,
    dispatcher: Mutex<Dispatcher<Exchange>>,
    slots: Vec<Slot>,
    servers: Vec<Arc<str>>,
    first_tries: Mutex<usize>,
    tried: Condvar,
    alive: AtomicUsize,
}

impl Cluster {
    /// A cluster with all its workers. They begin to connect at once.
    pub fn start(plan: &Arc<plan::Cluster>, hub: &Arc<Hub>, now: Instant) -> std::io::Result<Arc<Self>> {
        let mut dispatcher = Dispatcher::new(Settings {
            early_binding: plan.binding == Binding::Early,
            queue_limit: plan.queue_limit,
            wait_for_server: plan.on_unavailable == OnUnavailable::Queue,
            retry_floor: RETRY_FLOOR,
            retry_share: plan.retry_budget,
            ..Settings::default()
        });
        let mut started = Vec::new();
        for server in &plan.servers {
            let added = Change::AddServer(NewServer::with_capacity(server.capacity));
            // A server that is new can always be added.
            if let Ok(outcome) = dispatcher.apply(added, now) {
                started.extend(outcome.started);
            }
        }
        let workers = started.len();
        let cluster = Arc::new(Self {
            plan: Arc::clone(plan),
            name: Arc::from(plan.name.as_str()),
            hub: Arc::clone(hub),
            dispatcher: Mutex::new(dispatcher),
            slots: (0..workers).map(|_| Slot::new()).collect::<std::io::Result<_>>()?,
            servers: plan
                .servers
                .iter()
                .map(|server| Arc::from(server.name.as_str()))
                .collect(),
            first_tries: Mutex::new(workers),
            tried: Condvar::new(),
            alive: AtomicUsize::new(workers),
        });
        let mut numbers = vec![0; plan.servers.len()];
        for (server, id) in started {
            let number = &mut numbers[server.0 as usize];
            let name = format!("w-{}-{number}", plan.servers[server.0 as usize].name);
            *number += 1;
            let worker = Worker::new(&cluster, id, server);
            threads::spawn(Kind::Worker, name, move || worker.run())?;
        }
        Ok(cluster)
    }

    /// A whole request.
    pub fn offer(&self, mut exchange: Exchange) {
        let now = Instant::now();
        exchange.times.offered = Some(now);
        exchange.times.waiting_since = now;
        if self.hub.access.is_some() {
            exchange.cluster_name = Some(Arc::clone(&self.name));
        }
        let ticket = Ticket {
            id: exchange.id,
            bucket: BucketId::default(),
            key: None,
            deadline: now + self.plan.queue_timeout,
            answer_by: None,
            avoid: None,
            batchable: self.plan.pipeline > 1 && exchange.is_batchable(),
        };
        let offer = self.dispatcher.lock().offer(exchange, ticket, now);
        match offer {
            Offer::Assigned(worker, exchange) => self.give(worker, exchange),
            Offer::Queued => {}
            Offer::Refused(refusal, exchange) => self.refuse(refusal, exchange),
        }
    }

    /// The client of this exchange has left.
    pub fn cancel(&self, id: u64) {
        let mut dispatcher = self.dispatcher.lock();
        match dispatcher.cancel(id) {
            Cancelled::Queued(mut exchange) => {
                drop(dispatcher);
                exchange.fault = Some(Fault::ClientGoneQueue);
                let client = Arc::clone(&exchange.client);
                client.drop_exchange(exchange);
            }
            Cancelled::Serving(worker) => {
                let grace = match self.plan.on_client_abort {
                    OnClientAbort::Close | OnClientAbort::Notify => Some(self.plan.timeout.abort),
                    OnClientAbort::Ignore => None,
                };
                // Still under the lock: the worker can have come to no other exchange then, whose own cancel would be lost.
                if let Some(slot) = self.slots.get(worker.0 as usize) {
                    slot.cancel(id, grace, Instant::now());
                }
            }
            Cancelled::Unknown => {}
        }
    }

    /// Answers an exchange with the reason why it failed.
    pub fn respond(&self, mut exchange: Exchange, fault: Fault) {
        let client = Arc::clone(&exchange.client);
        let answer = Answer::fault(fault);
        let close = !exchange.request.keep_alive || client.must_close();
        let persistence = Persistence::of(close, exchange.request.version);
        exchange.status = answer.status;
        exchange.fault = Some(fault);
        let head_only = exchange.request.method == crate::http::Method::Head;
        let mut bytes = Vec::with_capacity(512);
        let mut date = DateCache::default();
        answer.render(
            &mut bytes,
            &self.plan.error_pages,
            head_only,
            persistence,
            date.at(SystemTime::now()),
        );
        client.finish(&[&bytes], close, exchange);
    }

    /// Does what is due now: requests that waited too long, servers that had their grace.
    pub fn tick(&self, now: Instant) {
        let due = {
            let mut dispatcher = self.dispatcher.lock();
            match dispatcher.next_deadline() {
                Some(deadline) if deadline <= now => dispatcher.wake(now),
                _ => Handout::default(),
            }
        };
        self.carry_out(due);
        for slot in &self.slots {
            slot.abort_if_due(now);
        }
    }

    /// How often [`Self::tick`] has to be called so that nothing is much too late.
    pub fn tick_period(&self) -> Duration {
        self.plan.queue_timeout.min(self.plan.timeout.abort) / 4
    }

    /// Waits until every worker has tried to connect once, at most until then.
    pub fn wait_tried(&self, until: Instant) {
        let mut left = self.first_tries.lock();
        while *left > 0 {
            if self.tried.wait_until(&mut left, until).timed_out() {
                return;
            }
        }
    }

    /// Refuses what waits, and ends the workers once they have served what they have.
    pub fn close(&self) {
        let closed = self.dispatcher.lock().apply(Change::Close, Instant::now());
        if let Ok(outcome) = closed {
            self.carry_out(outcome.handout);
        }
        for slot in &self.slots {
            slot.stop();
        }
    }

    /// After [`Self::close`]: breaks off what is being served all the same.
    pub fn abort(&self) {
        self.slots.iter().for_each(Slot::abort);
    }

    /// Waits until no worker is left, at most until then.
    pub fn wait_closed(&self, until: Instant) {
        while self.alive.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Counts to look at.
    pub fn counts(&self) -> Counts {
        self.dispatcher.lock().counts()
    }

    /// Its settings.
    pub fn plan(&self) -> &plan::Cluster {
        &self.plan
    }

    // === For its workers

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(super) fn slot(&self, worker: WorkerId) -> &Slot {
        &self.slots[worker.0 as usize]
    }

    pub(super) fn server(&self, server: ServerId) -> (&plan::Server, &Arc<str>) {
        (&self.plan.servers[server.0 as usize], &self.servers[server.0 as usize])
    }

    /// A worker has ended its job or its connection has changed; answers its next job.
    pub(super) fn next(&self, worker: WorkerId, verdict: Verdict<Exchange>, link: Link) -> Option<Exchange> {
        let handout = self.dispatcher.lock().next(worker, verdict, link, Instant::now());
        self.carry_out(handout)
    }

    /// The same, and up to `most` at once: `more` gets those behind the first.
    pub(super) fn next_batch(
        &self,
        worker: WorkerId,
        verdict: Verdict<Exchange>,
        link: Link,
        batch: (usize, &mut VecDeque<Exchange>),
    ) -> Option<Exchange> {
        let now = Instant::now();
        let handout = self.dispatcher.lock().next_batch(worker, verdict, link, batch, now);
        self.carry_out(handout)
    }

    /// One of several exchanges that a worker has is over or goes back; it keeps the others.
    pub(super) fn part(&self, worker: WorkerId, id: u64, verdict: Verdict<Exchange>) {
        let handout = self.dispatcher.lock().part(worker, id, verdict, Instant::now());
        let _it_did_not_ask = self.carry_out(handout);
    }

    pub(super) fn retire(&self, worker: WorkerId) -> bool {
        self.dispatcher.lock().retire(worker)
    }

    pub(super) fn ticket(&self, exchange: &Exchange, avoid: ServerId) -> Ticket {
        let offered = exchange.times.offered.unwrap_or(exchange.times.began);
        Ticket {
            id: exchange.id,
            bucket: BucketId::default(),
            key: None,
            deadline: offered + self.plan.queue_timeout,
            answer_by: None,
            avoid: Some(avoid),
            batchable: false,
        }
    }

    pub(super) fn note_first_try(&self) {
        *self.first_tries.lock() -= 1;
        self.tried.notify_all();
    }

    pub(super) fn note_worker_gone(&self) {
        self.alive.fetch_sub(1, Ordering::Release);
    }

    fn carry_out(&self, handout: Handout<Exchange>) -> Option<Exchange> {
        for (worker, exchange) in handout.assigned {
            self.give(worker, exchange);
        }
        for (refusal, exchange) in handout.refused {
            self.refuse(refusal, exchange);
        }
        handout.next
    }

    fn give(&self, worker: WorkerId, exchange: Exchange) {
        self.slots[worker.0 as usize].put(exchange);
    }

    fn refuse(&self, refusal: Refusal, exchange: Exchange) {
        let fault = match refusal {
            Refusal::QueueFull | Refusal::ClientQueueFull => Fault::QueueFull,
            // What made a retry necessary says more than that its time is up.
            Refusal::QueueTimeout => exchange.fault.unwrap_or(Fault::QueueTimeout),
            Refusal::NoServer => exchange.fault.unwrap_or(Fault::NoServer),
            Refusal::RetryBudget => exchange.fault.unwrap_or(Fault::NoServer),
            Refusal::Hopeless => Fault::QueueTimeout,
            Refusal::Closed | Refusal::Disabled => Fault::Draining,
        };
        self.respond(exchange, fault);
    }
}
