//! What a worker learns of its server while it connects and serves, and what it goes by.

use std::io;
use std::time::{Duration, Instant};

use crate::health::{Failure, FaultClass};
use crate::upstream::connection::Connection;
use crate::upstream::contact::{Contact, Lesson, Manner, Reached, Reason, Trial};

use super::connect::is_our_own;
use super::relay::Fate;
use super::state::Worker;

/// A connection that was used is kept for so long by a server that ends those which were not.
const KEEP_USED: Duration = Duration::from_secs(1);

impl Worker {
    /// Returns whether the worker may wait for a job without a connection.
    pub(super) fn needs_no_connection(&self) -> bool {
        self.server.manner() != Manner::Warm && self.server.is_reached()
    }

    /// How long a connection is kept that has nothing to do; `None` is as long as it is good.
    pub(super) fn keeps_for(&self) -> Option<Duration> {
        if self.server.manner() != Manner::OnDemand {
            return None;
        }
        // A server that ends connections only before they are used is worth a moment. The next
        // request may come at once.
        let least = match self.server.contact(|contact| contact.keeps_used()) {
            true => KEEP_USED,
            false => Duration::ZERO,
        };
        Some(self.plan.keep.max(least))
    }

    // === Whether the server can be reached

    /// The server was connected to.
    pub(super) fn note_reached(&mut self) {
        self.hands.is_trying = false;
        let reached = self.server.contact(Contact::reached);
        if reached == Reached::Again {
            log::info!("{}: connected again", self.name());
        }
        if reached != Reached::AsBefore {
            self.overseer().contact_changed(&self.server);
        }
    }

    /// An attempt to connect to the server failed.
    pub(super) fn note_unreachable(&mut self, error: &io::Error) {
        self.hands.is_trying = false;
        let is_ours = is_our_own(error);
        let is_news = self
            .server
            .contact(|contact| contact.failed(is_ours, Instant::now()));
        if is_news {
            let connected = self.server.connected();
            let rest = match connected {
                0 => String::new(),
                rest => format!(" ({rest} connections are left)"),
            };
            log::warn!("{}: cannot connect: {error}{rest}", self.name());
            self.overseer().contact_changed(&self.server);
        }
        if !is_ours && self.server.is_monitored() {
            let failure = Failure {
                class: FaultClass::Connect,
                witness: None,
            };
            self.overseer().exchanged(&self.server, Err(failure));
        }
    }

    /// An attempt to connect has no result.
    pub(super) fn give_up_trying(&mut self) {
        if std::mem::take(&mut self.hands.is_trying) {
            self.server.contact(Contact::give_up);
        }
    }

    // === What connections are worth

    /// What an exchange shows of the worth of connections, the first over its connection or not.
    pub(super) fn learn(&self, fate: Fate, is_first: bool) {
        let now = Instant::now();
        let lesson = self.server.contact(|contact| match fate {
            Fate::Complete => contact.left_open(now),
            Fate::Ended if is_first => contact.ended_used(now),
            Fate::Ended | Fate::Lost | Fate::Untouched => None,
        });
        self.tell_lesson(lesson);
    }

    pub(super) fn tell_lesson(&self, lesson: Option<Lesson>) {
        let name = self.name();
        match lesson {
            None => return,
            Some(Lesson::Keeps) => log::debug!("{name}: leaves its connections open"),
            Some(Lesson::Holds) => log::debug!("{name}: all its workers connect"),
            Some(Lesson::Ends(Reason::EndsUsed)) => log::info!(
                "{name}: ends each connection after a response: it is connected to for each \
                 request from now on (connect = \"auto\")"
            ),
            Some(Lesson::Ends(Reason::EndsUnused)) => log::info!(
                "{name}: ends connections that no request came over: it is connected to when a \
                 request comes from now on (connect = \"auto\")"
            ),
        }
        self.overseer().contact_changed(&self.server);
    }

    /// Begins a trial, if one is due. Returns whether a worker that waits without a connection is
    /// to connect, for that or for another reason.
    pub(super) fn needs_a_connection_now(&mut self) -> bool {
        self.hands.is_trial =
            self.server.manner() == Manner::Unsettled && self.server.contact(Contact::begin_trial);
        self.hands.is_trial || !self.needs_no_connection()
    }

    /// Ends a trial that this worker makes: its connection is of no use any more, or has been held
    /// long enough, or is about to be used.
    pub(super) fn end_trial(&mut self, trial: Trial) {
        if std::mem::take(&mut self.hands.is_trial) {
            let now = Instant::now();
            let lesson = self.server.contact(|contact| contact.end_trial(trial, now));
            self.tell_lesson(lesson);
        }
    }

    /// What a trial comes to whose connection cannot be used any more.
    pub(super) fn lost_trial(&mut self, connection: &Connection) -> Trial {
        match connection.has_ended() && !connection.is_used && self.is_at_home(connection) {
            true => Trial::Ended,
            false => Trial::NoResult,
        }
    }
}
