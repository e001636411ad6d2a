//! A worker's life: it connects, waits, serves one exchange after the other, and connects anew. And
//! what is left of it after a panic: nothing but the exchange in its hand is lost by one.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{LinkState, Verdict};
use crate::base::panic_points::Point;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::upstream::connection::{Connection, Upload};
use crate::upstream::contact::{Manner, TRIAL, Trial, Turn};
use crate::upstream::slot::Woken;

use super::relay::Fate;
use super::state::Worker;

/// An idle worker looks at its connection so often.
const LOOK: Duration = Duration::from_millis(500);

/// It never looks more often than this.
const SHORTEST_LOOK: Duration = Duration::from_millis(20);

impl Worker {
    /// Its life. A panic costs the exchange in its hand; called again, the worker begins anew.
    pub(in crate::upstream) fn run(&mut self) {
        if std::mem::replace(&mut self.hands.has_begun, true) {
            self.recover();
        } else if self.cluster().hub.batch_scheduling() {
            let _ = crate::sys::schedule_as_batch(); // Not a must.
        }
        self.live();
        self.end_trial(Trial::NoResult);
        self.leave();
        self.overseer().ended(self.id, self.server.id);
        if let Some(probe) = self.slot().take_probe() {
            self.server.monitor().skipped(probe, Instant::now());
        }
    }

    /// Puts right what a panic has left undone.
    fn recover(&mut self) {
        log::warn!("{}: a worker begins anew after a panic", self.name());
        // First of all its client learns of it.
        self.cluster().hub.answer_lost();
        if std::mem::take(&mut self.hands.is_connected) {
            self.server.note_connected(false);
        }
        if std::mem::take(&mut self.hands.is_first_try) {
            self.overseer().tried();
        }
        self.give_up_trying();
        self.end_trial(Trial::NoResult);
        let probe = self.hands.probe.take();
        if let Some(probe) = probe {
            self.server.monitor().skipped(probe, Instant::now());
        }
        self.reset();
        let half_sent = self.slot().reset();
        let had_job = self.hands.job;
        let now = Instant::now();
        self.note_broken_batch(now);
        if self.hands.left_over.is_none() {
            self.hands.left_over = self.next_behind();
        }
        self.hands.job = self.hands.left_over.as_ref().map(|exchange| exchange.id);
        match (had_job, &self.hands.left_over) {
            (Some(id), Some(next)) if next.id != id => {
                self.cluster().end_one(self.id, id, Verdict::Done);
            }
            (_, Some(_)) => {}
            (had_job, None) if had_job.is_some() || half_sent.is_some() => {
                self.cluster()
                    .next(self.id, Verdict::Done, LinkState::Connecting);
            }
            (None, None) if probe.is_some() => {
                self.cluster()
                    .next(self.id, Verdict::None, LinkState::Connecting);
            }
            // A job that lies in the slot is served over the next connection.
            (_, None) => {
                self.cluster().retire(self.id);
            }
        }
        // The exchange in hand is over, and the one whose request this worker's connection has
        // taken half of.
        drop(half_sent);
        self.cluster().hub.answer_lost();
    }

    /// Connects and serves until the end. A job that came before a connection was there waits for
    /// the connection.
    fn live(&mut self) {
        let mut job = self.hands.left_over.take();
        while job.is_some() || !self.slot().is_stopped() {
            self.look_at_settings(None);
            if job.is_none() && !self.hands.is_trial && self.needs_no_connection() {
                job = self.wait_unconnected();
                if job.is_none() {
                    continue;
                }
            }
            let turn = self.server.contact(|contact| contact.turn(Instant::now()));
            job = match turn {
                Turn::Now { is_alone } => {
                    self.hands.is_trying = is_alone;
                    self.live_connecting(job)
                }
                Turn::At(due) => self.wait_for_server(job, Some(due)),
                Turn::Wait => self.wait_for_server(job, None),
            };
        }
    }

    /// Connects, for this job if there is one, and serves. Returns a job that is to be served over
    /// the next connection.
    fn live_connecting(&mut self, mut job: Option<Exchange>) -> Option<Exchange> {
        match self.connect(job.as_mut()) {
            Ok(connection) => {
                self.note_reached();
                if job.is_some() || self.hands.is_trial || self.server.manner() == Manner::Warm {
                    return self.live_connected(connection, job);
                }
                // It was to be found out whether the server can be reached, and now is known.
                self.note_tried();
                None
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // The job has no more time. Whether the server can be reached is seen without it.
                self.give_up_trying();
                self.give_back(job, Fault::DeadlinePassed, LinkState::Connecting);
                None
            }
            Err(error) => {
                self.end_trial(Trial::NoResult);
                self.note_unreachable(&error);
                self.give_back(job, Fault::ConnectFailed, LinkState::Unreachable);
                self.note_tried();
                None
            }
        }
    }

    /// Serves over this connection as long as it is good. Returns a job that is to be served over
    /// the next one.
    fn live_connected(
        &mut self,
        mut connection: Connection,
        mut job: Option<Exchange>,
    ) -> Option<Exchange> {
        self.note_connected(true);
        if job.is_none() {
            job = self.next(Verdict::None, LinkState::Up);
        }
        self.note_tried();
        job = self.serve_all(&mut connection, job);
        self.slot().forget_connection();
        self.note_connected(false);
        job
    }

    /// Waits for a job without a connection. Returns `None` at the end, or if a connection is
    /// needed for that now.
    fn wait_unconnected(&mut self) -> Option<Exchange> {
        self.note_tried();
        let next = self.next(Verdict::None, LinkState::Up);
        if next.is_some() {
            return next;
        }
        loop {
            Point::WorkerIdle.pass();
            let is_over = match self.slot().wait(None, LOOK) {
                Woken::Job(exchange, _) => {
                    self.hands.job = Some(exchange.id);
                    return Some(exchange);
                }
                Woken::Probe(probe) => {
                    self.hands.probe = Some(probe);
                    self.look_at_settings(None);
                    self.probe_unconnected(probe);
                    self.hands.probe = None;
                    let next = self.next(Verdict::None, LinkState::Up);
                    if next.is_some() {
                        return next;
                    }
                    self.needs_a_connection_now()
                }
                Woken::Stop => {
                    // A job that was assigned just now is on its way.
                    std::thread::yield_now();
                    true
                }
                Woken::Nothing => self.needs_a_connection_now(),
            };
            if is_over && self.cluster().retire(self.id) {
                return None;
            }
            self.end_trial(Trial::NoResult);
        }
    }

    /// The server is left alone until it is `due`, or another worker is finding out whether it can
    /// be reached: waits for that. Returns a job that came all the same.
    fn wait_for_server(&mut self, job: Option<Exchange>, due: Option<Instant>) -> Option<Exchange> {
        let now = Instant::now();
        if due.is_some() || job.is_some() {
            // The dispatcher gives nothing to an unreachable worker.
            self.give_back(job, Fault::ConnectFailed, LinkState::Unreachable);
            self.note_tried();
        }
        let patience = due.map_or(LOOK, |due| due.saturating_duration_since(now));
        // A stop ends this wait, or another worker that has found out. So does a job that was
        // assigned before a panic, and that lies in the slot since.
        match self.slot().wait(None, patience) {
            Woken::Job(exchange, _) => {
                self.hands.job = Some(exchange.id);
                Some(exchange)
            }
            Woken::Probe(probe) => {
                // The failure to connect, which says more, is told.
                self.server.monitor().skipped(probe, now);
                None
            }
            Woken::Nothing | Woken::Stop => None,
        }
    }

    /// No connection can be had for this job: it goes on elsewhere, with all that was behind it.
    fn give_back(&mut self, job: Option<Exchange>, why: Fault, link: LinkState) {
        self.give_back_behind();
        let verdict = job.map_or(Verdict::None, |exchange| self.put_off(exchange, why));
        let next = self.next(verdict, link);
        debug_assert!(next.is_none(), "a worker that is not connected gets no job");
    }

    fn note_tried(&mut self) {
        if std::mem::take(&mut self.hands.is_first_try) {
            self.overseer().tried();
        }
    }

    /// Ends its part in the dispatcher's work. A job that was assigned before is tried elsewhere:
    /// the dispatcher counts it as served until the worker says otherwise.
    fn leave(&mut self) {
        while !self.cluster().retire(self.id) {
            match self.slot().wait(None, SHORTEST_LOOK) {
                Woken::Job(exchange, upload) => {
                    self.hands.job = Some(exchange.id);
                    let verdict = if upload.has_begun {
                        self.cluster().respond(exchange, Fault::Draining);
                        Verdict::Done
                    } else {
                        self.put_off(exchange, Fault::Draining)
                    };
                    self.next(verdict, LinkState::Connecting);
                }
                Woken::Probe(probe) => self.server.monitor().skipped(probe, Instant::now()),
                // A stopped slot does not wait, and the job is on its way.
                Woken::Stop => std::thread::sleep(Duration::from_millis(1)),
                Woken::Nothing => {}
            }
        }
    }

    fn note_connected(&mut self, is_connected: bool) {
        self.hands.is_connected = is_connected;
        self.server.note_connected(is_connected);
    }

    /// Tells the dispatcher how the last job ended and how the connection is, and takes the next
    /// job.
    fn next(&mut self, verdict: Verdict<Exchange>, link: LinkState) -> Option<Exchange> {
        let next = self.cluster().next(self.id, verdict, link);
        self.hands.job = next.as_ref().map(|exchange| exchange.id);
        next
    }

    /// Serves over this connection until it is not good any more. Returns the job that found it so,
    /// if one did.
    fn serve_all(
        &mut self,
        connection: &mut Connection,
        job: Option<Exchange>,
    ) -> Option<Exchange> {
        let mut next = job;
        let mut is_batch = false;
        loop {
            let (exchange, upload) = match next.take() {
                // It follows at once on what came before, which is as good as a look.
                Some(exchange) if !connection.has_pipelined || connection.is_silent() => {
                    (exchange, Upload::default())
                }
                Some(exchange) => {
                    self.note_batch(false);
                    return Some(exchange);
                }
                None => {
                    let (exchange, upload) = self.wait(connection)?;
                    // The thread that has sent something has looked before.
                    if !upload.has_begun && !self.is_usable(connection) {
                        let trial = self.lost_trial(connection);
                        self.end_trial(trial);
                        log::debug!(
                            "{}: the idle connection is of no use, connecting anew",
                            self.name()
                        );
                        return Some(exchange);
                    }
                    (exchange, upload)
                }
            };
            self.look_at_settings(Some(connection));
            let id = exchange.id;
            let is_first = !connection.is_used;
            self.end_trial(Trial::NoResult);
            Point::WorkerTaken.pass();
            let now = upload.began_at().unwrap_or_else(Instant::now);
            let (verdict, fate) = if is_batch {
                self.serve_batch(connection, exchange, now)
            } else {
                self.serve(connection, exchange, upload, now)
            };
            Point::WorkerEnd.pass();
            let is_clean = match fate {
                Fate::Complete => connection.settle(),
                Fate::Ended | Fate::Lost => false,
                Fate::Untouched => true,
            };
            if self.server.is_learning() {
                self.learn(fate, is_first);
            }
            if is_batch {
                self.note_batch(is_clean);
            }
            let is_good = is_clean && !self.slot().is_stopped() && self.is_at_home(connection);
            if !is_good {
                self.slot().forget_connection();
            }
            next = self.next_behind();
            is_batch = false;
            if let Some(next) = &next {
                self.hands.job = Some(next.id);
                self.return_one(id, verdict);
            } else {
                let link = self.link_state(is_good);
                let cluster = Arc::clone(self.cluster());
                let batch = (self.batching.most(now), &mut self.behind);
                next = cluster.next_batch(self.id, verdict, link, batch);
                self.hands.job = next.as_ref().map(|exchange| exchange.id);
                is_batch = !self.behind.is_empty();
            }
            if !is_good || next.is_none() && self.keeps_for() == Some(Duration::ZERO) {
                return next;
            }
        }
    }

    /// What the dispatcher is told of a worker whose connection is good, or not.
    fn link_state(&self, is_good: bool) -> LinkState {
        if is_good || !self.slot().is_stopped() && self.needs_no_connection() {
            LinkState::Up
        } else {
            LinkState::Connecting
        }
    }

    /// Returns whether the next request may go over this connection: the server neither has closed
    /// it nor says anything, and is still where it leads to.
    fn is_usable(&mut self, connection: &mut Connection) -> bool {
        connection.is_quiet() && self.is_at_home(connection)
    }

    /// Waits for a job, and looks after the connection meanwhile. `None` if it is lost, or at the
    /// end.
    fn wait(&mut self, connection: &mut Connection) -> Option<(Exchange, Upload)> {
        // What another thread has sent meanwhile is picked up before its response is late.
        let mut look = LOOK.min(self.timeout.first_byte.max(SHORTEST_LOOK));
        let began = Instant::now();
        loop {
            Point::WorkerIdle.pass();
            let kept_for = self.keeps_for();
            if let Some(kept_for) = kept_for {
                look = look.min(kept_for.max(SHORTEST_LOOK));
            }
            let is_lost = match self.slot().wait(Some(connection), look) {
                Woken::Job(exchange, upload) => {
                    self.hands.job = Some(exchange.id);
                    return Some((exchange, upload));
                }
                Woken::Probe(probe) => {
                    self.hands.probe = Some(probe);
                    // The connection is used now.
                    self.end_trial(Trial::NoResult);
                    self.look_at_settings(Some(connection));
                    let is_good = self.probe(connection, probe) && self.is_at_home(connection);
                    self.hands.probe = None;
                    let link = self.link_state(is_good);
                    if let Some(exchange) = self.next(Verdict::None, link) {
                        return Some((exchange, Upload::default()));
                    }
                    !is_good
                }
                Woken::Stop => {
                    // A job that was assigned just now is on its way.
                    std::thread::yield_now();
                    true
                }
                Woken::Nothing if !self.is_usable(connection) => {
                    let trial = self.lost_trial(connection);
                    self.end_trial(trial);
                    true
                }
                Woken::Nothing => {
                    if self.hands.is_trial && began.elapsed() >= TRIAL {
                        self.end_trial(Trial::Held);
                    }
                    kept_for.is_some_and(|kept_for| began.elapsed() >= kept_for)
                }
            };
            // If a job was assigned just now it is in the slot. The worker takes it before the loss
            // counts, and looks at the connection again then.
            if is_lost && (self.needs_no_connection() || self.cluster().retire(self.id)) {
                return None;
            }
        }
    }
}
