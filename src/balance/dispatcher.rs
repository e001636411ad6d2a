//! Round robin over the servers, one first-in-first-out queue (or one for each server, bound early).

use std::time::Instant;

use super::{Cancelled, Change, Counts, Handout, Link, Offer, Settings, Ticket, Verdict, WorkerId};

/// One cluster's dispatcher.
#[derive(Debug)]
pub struct Dispatcher<J> {
    settings: Settings,
    jobs: Vec<J>,
}

impl<J> Dispatcher<J> {
    /// A dispatcher with no server.
    pub fn new(settings: Settings) -> Self {
        Self { settings, jobs: Vec::new() }
    }

    /// A new job: to an idle worker of the next server that has one, else into the queue, else refused.
    pub fn offer(&mut self, job: J, ticket: Ticket, now: Instant) -> Offer<J> {
        let _ = (job, ticket, now, &self.settings, &self.jobs);
        todo!()
    }

    /// A worker has ended its job, or its connection has changed. With [`Link::Up`] it asks for its next job and, if there is none,
    /// is idle. If it was idle and a job was assigned to it meanwhile, the answer is empty: the job is in its slot.
    pub fn next(&mut self, worker: WorkerId, verdict: Verdict<J>, link: Link, now: Instant) -> Handout<J> {
        let _ = (worker, verdict, link, now);
        todo!()
    }

    /// An idle worker has lost its connection. `false` if a job was assigned to it meanwhile: it is in its slot, and the worker serves
    /// it over a new connection.
    pub fn retire(&mut self, worker: WorkerId, link: Link) -> bool {
        let _ = (worker, link);
        todo!()
    }

    /// A client left.
    pub fn cancel(&mut self, id: u64) -> Cancelled<J> {
        let _ = id;
        todo!()
    }

    /// Jobs whose deadline has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<J> {
        let _ = now;
        todo!()
    }

    /// When `expire` is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Changes the cluster.
    pub fn apply(&mut self, change: Change, now: Instant) -> Handout<J> {
        let _ = (change, now);
        todo!()
    }

    /// Counts to look at.
    pub fn counts(&self) -> Counts {
        todo!()
    }
}
