//! Brings waiting jobs to workers: to a worker that asks for its next jobs, and to idle workers
//! after a change.

use std::collections::VecDeque;
use std::time::Instant;

use crate::balance::queue::{Position, Taker};
use crate::balance::{BucketId, Handout, Refusal, ServerId, Ticket, WorkerId};

use super::Dispatcher;

impl<J> Dispatcher<J> {
    /// Returns the next job of a worker whose connection is up, and the bucket whose jobs may join
    /// it, if any may. Without a job the worker becomes idle.
    pub(super) fn take(
        &mut self,
        worker: WorkerId,
        server: ServerId,
        now: Instant,
        refused: &mut Vec<(Refusal, J)>,
    ) -> Option<(J, Option<BucketId>)> {
        if !self.queue.is_empty()
            && self.servers.may_work(worker)
            && let Some(place) = self.next_place(self.taker_at(server), now, refused)
        {
            let ticket = &self.queue.get(place)?.ticket;
            let joins = ticket.batchable.then_some(ticket.bucket);
            return Some((self.start(place, worker, now)?, joins));
        }
        self.servers.set_idle(worker);
        None
    }

    /// Takes more jobs for a worker besides its first one, which keeps the only token. The worker
    /// takes no more than its part: the waiting jobs divided by the jobs that can be served at
    /// once. It takes none if a job of another bucket waits.
    pub(super) fn take_more(
        &mut self,
        worker: WorkerId,
        server: ServerId,
        bucket: BucketId,
        (most, more): (usize, &mut VecDeque<J>),
        now: Instant,
        refused: &mut Vec<(Refusal, J)>,
    ) {
        if self.buckets.queued(bucket) < self.queue.len() {
            return;
        }
        let (waiting, workers) = if self.settings.early_binding {
            (
                self.servers.bound_count(server),
                self.servers.capacity_of(server),
            )
        } else {
            (self.queue.len(), self.servers.capacity())
        };
        let taker = self.taker_at(server);
        let mut left = most.min(waiting / workers.max(1));
        while left > 0
            && let Some(place) = self.queue.first_for(bucket, taker)
        {
            if let Some(refusal) = self.is_late(place, now) {
                refused.extend(self.withdraw(place).map(|waiting| (refusal, waiting.job)));
                continue;
            }
            if !self
                .queue
                .get(place)
                .is_some_and(|waiting| waiting.ticket.batchable)
            {
                break;
            }
            let Some(waiting) = self.queue.serve(place) else {
                break;
            };
            if let Some(server) = waiting.bound {
                self.servers.count_bound(server, false);
            }
            self.buckets.leave(bucket, waiting.is_open());
            self.servers
                .start_besides(worker, waiting.ticket.id, bucket, now);
            more.push_back(waiting.job);
            left -= 1;
        }
    }

    pub(super) fn taker_at(&self, server: ServerId) -> Taker {
        Taker {
            server: Some(server),
            avoided: Some(server).filter(|_| self.heed_avoidance()),
        }
    }

    /// Returns the next job for this taker that is not late. Late ones are refused.
    pub(super) fn next_place(
        &mut self,
        taker: Taker,
        now: Instant,
        refused: &mut Vec<(Refusal, J)>,
    ) -> Option<Position> {
        loop {
            let Self {
                queue,
                buckets,
                servers,
                ..
            } = self;
            let bucket = buckets.next(servers.free(), |bucket| {
                queue.first_for(bucket, taker).is_some()
            })?;
            let place = queue.first_for(bucket, taker)?;
            let Some(refusal) = self.is_late(place, now) else {
                return Some(place);
            };
            refused.extend(self.withdraw(place).map(|waiting| (refusal, waiting.job)));
        }
    }

    /// Returns why it is too late to serve a waiting job, if it is: the server would work in vain,
    /// and all jobs behind it would become late too.
    pub(super) fn is_late(&self, place: Position, now: Instant) -> Option<Refusal> {
        if self.queue.has_expired(place, now) {
            return Some(Refusal::QueueTimeout);
        }
        let Ticket {
            bucket, answer_by, ..
        } = self.queue.get(place)?.ticket;
        let left = answer_by?.saturating_duration_since(now);
        (self.pace(bucket).mostly() > left).then_some(Refusal::Hopeless)
    }

    /// Brings together idle workers and jobs that a change has set free.
    pub(in crate::balance) fn settle(&mut self, now: Instant, handout: &mut Handout<J>) {
        if self.queue.is_empty() {
            return;
        }
        if self.servers.in_use().is_empty() && !self.settings.wait_for_server {
            self.refuse_queued(Refusal::NoServer, &mut handout.refused);
            return;
        }
        while let Some(only) = self.servers.idle() {
            // With several idle servers, one is never the server that the job avoids.
            let avoided = only.filter(|_| self.heed_avoidance());
            let taker = Taker {
                server: None,
                avoided,
            };
            let Some(place) = self.next_place(taker, now, &mut handout.refused) else {
                break;
            };
            let Some((avoid, affinity)) = self.queue.get(place).map(|waiting| {
                let ticket = &waiting.ticket;
                (ticket.avoid, ticket.affinity.unwrap_or(ticket.id))
            }) else {
                break;
            };
            let except = avoid.filter(|_| self.heed_avoidance());
            let server = match self.settings.early_binding {
                true => self
                    .servers
                    .all_idle()
                    .find(|server| Some(*server) != except),
                false => self.servers.choose(except, affinity, now),
            };
            let Some(worker) = server.and_then(|server| self.servers.idle_worker(server)) else {
                break;
            };
            let Some(job) = self.start(place, worker, now) else {
                break;
            };
            handout.assigned.push((worker, job));
        }
        if self.settings.early_binding {
            self.settle_bound(now, handout);
        }
    }

    /// Serves bound jobs. A token that comes back may be for a job that is bound to an idle server,
    /// and a server may be below its limit again.
    pub(super) fn settle_bound(&mut self, now: Instant, handout: &mut Handout<J>) {
        let idle = self
            .servers
            .all_idle()
            .filter(|server| self.servers.has_bound(*server))
            .collect::<Vec<_>>();
        for server in idle {
            while let Some(worker) = self.servers.idle_worker(server) {
                let taker = self.taker_at(server);
                let Some(place) = self.next_place(taker, now, &mut handout.refused) else {
                    break;
                };
                let Some(job) = self.start(place, worker, now) else {
                    break;
                };
                handout.assigned.push((worker, job));
            }
        }
    }

    /// Removes a job from the queue for a worker.
    pub(super) fn start(&mut self, place: Position, worker: WorkerId, now: Instant) -> Option<J> {
        let waiting = self.queue.serve(place)?;
        let Ticket { id, bucket, .. } = waiting.ticket;
        if let Some(server) = waiting.bound {
            self.servers.count_bound(server, false);
        }
        self.buckets.grant(bucket, waiting.is_open());
        self.servers.start(worker, id, bucket, waiting.retry, now);
        Some(waiting.job)
    }
}
