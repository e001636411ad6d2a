//! Changes are made in the dispatcher, and the workers that this asks for are started or ended.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::balance::{Change, LinkState, Outcome, Rejection, ServerId, Verdict, WorkerId};
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::threads::{self, Kind};
use crate::upstream::overseer::Overseer;
use crate::upstream::slot::Slot;
use crate::upstream::worker::Worker;

use super::controller::Controller;
use super::roster::Roster;

impl Controller {
    /// Makes a change, and does what follows from it. The configuration allows no change that the
    /// dispatcher rejects. If one is rejected all the same, the log says so and nothing is
    /// different.
    pub(super) fn apply(
        &self,
        roster: &mut Roster,
        change: Change,
        now: Instant,
    ) -> Option<Outcome<Exchange>> {
        let applied: Result<_, Rejection> = self.cluster.dispatcher().apply(change, now);
        match applied {
            Ok(mut outcome) => {
                self.follow(roster, &mut outcome);
                Some(outcome)
            }
            Err(rejection) => {
                log::error!("{}: {change:?} is not possible: {rejection:?}", self.name());
                None
            }
        }
    }

    fn follow(&self, roster: &mut Roster, outcome: &mut Outcome<Exchange>) {
        for (server, worker) in std::mem::take(&mut outcome.started) {
            self.start_worker(roster, server, worker);
        }
        for worker in std::mem::take(&mut outcome.dismissed) {
            if roster.unstarted.iter().any(|(_, other)| *other == worker) {
                // There is no thread that could be told.
                roster.unstarted.retain(|(_, other)| *other != worker);
                self.note_gone(roster, worker);
            } else if let Some(slot) = self.cluster.slot(worker) {
                slot.stop();
            }
        }
        self.cluster
            .carry_out_all(std::mem::take(&mut outcome.handout));
    }

    fn start_worker(&self, roster: &mut Roster, server: ServerId, worker: WorkerId) {
        if self.is_closed() {
            return;
        }
        if let Err(error) = self.try_start(roster, server, worker) {
            if !roster.is_short_of_workers {
                log::error!(
                    "{}: a worker cannot be started: {error}; it is tried again",
                    self.name()
                );
            }
            roster.is_short_of_workers = true;
            roster.unstarted.push((server, worker));
            // The dispatcher must not count on this worker.
            let job = self
                .cluster
                .next(worker, Verdict::None, LinkState::Unreachable);
            if let Some(exchange) = job {
                self.cluster.respond(exchange, Fault::Internal);
            }
            self.note_first_try();
        }
    }

    fn try_start(&self, roster: &mut Roster, id: ServerId, worker: WorkerId) -> io::Result<()> {
        let (Some(member), Some(own)) = (roster.member(id), self.own.upgrade()) else {
            return Ok(());
        };
        let slot = Arc::new(Slot::new()?);
        self.cluster.set_slot(worker, Some(Arc::clone(&slot)));
        let number = member.free_number();
        let name = format!("w-{}-{number}", member.server.name);
        let overseer: Arc<dyn Overseer> = own;
        let mut thread = Worker::new(&self.cluster, overseer, worker, &member.server, slot);
        self.alive.fetch_add(1, Ordering::AcqRel);
        match threads::tend(Kind::Worker, name, move || thread.run()) {
            Ok(_) => {
                member.numbers[number] = Some(worker);
                Ok(())
            }
            Err(error) => {
                self.alive.fetch_sub(1, Ordering::AcqRel);
                Err(error)
            }
        }
    }

    /// Tries again to start workers that could not be started.
    pub(super) fn start_again(&self) {
        let Some(mut roster) = self.try_roster() else {
            return;
        };
        if roster.unstarted.is_empty() {
            return;
        }
        for (server, worker) in std::mem::take(&mut roster.unstarted) {
            self.start_worker(&mut roster, server, worker);
        }
        if roster.unstarted.is_empty() {
            roster.is_short_of_workers = false;
            log::info!("{}: all workers are started", self.name());
        }
    }

    /// The thread of a worker ends.
    pub(super) fn worker_ended(&self, worker: WorkerId, server: ServerId) {
        let mut roster = self.roster();
        if let Some(member) = roster.member(server) {
            member.forget_worker(worker);
        }
        self.note_gone(&mut roster, worker);
        drop(roster);
        self.alive.fetch_sub(1, Ordering::Release);
    }

    fn note_gone(&self, roster: &mut Roster, worker: WorkerId) {
        self.cluster.set_slot(worker, None);
        let mut outcome = self.cluster.dispatcher().gone(worker, Instant::now());
        self.follow(roster, &mut outcome);
        self.forget_gone(roster);
    }

    /// Forgets removed servers whose last worker has ended.
    pub(super) fn forget_gone(&self, roster: &mut Roster) {
        let dispatcher = self.cluster.dispatcher();
        roster.members.retain(|member| {
            !member.server.is_removed() || dispatcher.server(member.server.id).is_some()
        });
    }
}
