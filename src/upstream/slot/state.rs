//! What a slot knows, without its lock, its bell and the moments at which things happen: each
//! method is one transition.

use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::health::ProbeId;
use crate::upstream::connection::{Idle, Upload};
use crate::upstream::link::Link;

/// What a slot knows. `J` is a job.
#[derive(Debug)]
pub(super) struct State<J> {
    inbox: Inbox<J>,
    /// The worker is to look how its server is.
    pub(super) probe: Option<ProbeId>,
    serving: Serving,
    /// The connection over which the worker serves, or served last. `None` once it is given up.
    line: Option<Line>,
    /// Exchanges whose clients have left. They may not have been begun yet, or their turn may not
    /// have come.
    leavers: Vec<Leaver>,
    /// When the connection is to be broken, if the exchange that is served now is still served
    /// then.
    abort: Option<Abort>,
    /// The worker is to end once it has served what it has.
    pub(super) is_stopped: bool,
}

/// What lies in the slot for the worker.
#[derive(Debug)]
enum Inbox<J> {
    /// Nothing. The worker is busy, or it has no connection.
    Empty,
    /// Nothing. The worker waits, and a request can be sent for it over this connection.
    Waiting(Idle),
    /// Another thread sends a request for the worker, outside the lock. Until that is done the
    /// worker goes on with nothing.
    Sending,
    /// A job, and how much of its request is sent.
    Job(J, Upload),
}

/// What the worker serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Serving {
    /// Nothing.
    #[default]
    Nothing,
    /// This exchange. No other one is under way over the connection.
    Alone(u64),
    /// This exchange, whose turn it is of several that were sent together: others depend on the
    /// connection.
    InTurn(u64),
    /// Nothing, before the next of several.
    BetweenTurns,
}

/// A connection to the server.
#[derive(Debug)]
struct Line {
    link: Link,
    /// The server was told that a client has left: the connection ends with that exchange.
    is_notified: bool,
}

/// An exchange whose client has left.
#[derive(Clone, Copy, Debug)]
struct Leaver {
    id: u64,
    grace: Grace,
}

/// What a server is granted for a client that has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) struct Grace {
    /// How long it may go on without progress; `None` is to the end.
    pub(in crate::upstream) time: Option<Duration>,
    /// It is told that the client has left.
    pub(in crate::upstream) is_told: bool,
}

/// A grace that runs.
#[derive(Clone, Copy, Debug)]
struct Abort {
    at: Instant,
    time: Duration,
    /// What progress there was when it began.
    progress: u64,
}

impl Serving {
    fn exchange(self) -> Option<u64> {
        match self {
            Self::Alone(id) | Self::InTurn(id) => Some(id),
            Self::Nothing | Self::BetweenTurns => None,
        }
    }
}

impl<J> State<J> {
    /// What an empty slot knows.
    pub(super) fn new() -> Self {
        Self {
            inbox: Inbox::Empty,
            probe: None,
            serving: Serving::Nothing,
            line: None,
            leavers: Vec::new(),
            abort: None,
            is_stopped: false,
        }
    }

    // === The inbox

    /// A job comes, which serves exchange `id`. Returns the connection over which its request is to
    /// be sent for the worker; [`Self::sent`] follows then. Otherwise the job is put into the slot
    /// as it is.
    ///
    /// Only the first attempt is sent for the worker, which looks more closely at another one, and
    /// at an exchange whose client may have left.
    pub(super) fn put(&mut self, job: J, id: u64, is_first_attempt: bool) -> Option<(J, Idle)> {
        if let Some(line) = &mut self.line {
            // What the server was told of an earlier client says nothing of this one.
            line.is_notified = false;
        }
        match std::mem::replace(&mut self.inbox, Inbox::Sending) {
            Inbox::Waiting(idle) if is_first_attempt && self.leaver(id).is_none() => {
                self.serve(Serving::Alone(id), idle.link());
                Some((job, idle))
            }
            _ => {
                self.inbox = Inbox::Job(job, Upload::default());
                None
            }
        }
    }

    /// The request of this job was sent for the worker, so far.
    pub(super) fn sent(&mut self, job: J, upload: Upload) {
        if !upload.has_begun {
            self.serving = Serving::Nothing;
            self.abort = None;
        }
        self.inbox = Inbox::Job(job, upload);
    }

    /// Returns whether another thread sends for the worker.
    pub(super) fn is_sending(&self) -> bool {
        matches!(self.inbox, Inbox::Sending)
    }

    /// The worker waits, over this connection if it has one. Returns `false` if there is something
    /// for it already.
    pub(super) fn wait(&mut self, idle: Option<Idle>) -> bool {
        if self.probe.is_some() || self.is_stopped || !matches!(self.inbox, Inbox::Empty) {
            return false;
        }
        self.inbox = idle.map_or(Inbox::Empty, Inbox::Waiting);
        true
    }

    /// Takes the job out, if it is the worker's already; a worker that waits does so no longer.
    /// While another thread sends, nothing is taken.
    pub(super) fn take(&mut self) -> Option<(J, Upload)> {
        match std::mem::replace(&mut self.inbox, Inbox::Empty) {
            Inbox::Job(job, upload) => Some((job, upload)),
            Inbox::Empty | Inbox::Waiting(_) => None,
            Inbox::Sending => {
                // Not the worker's yet.
                self.inbox = Inbox::Sending;
                None
            }
        }
    }

    /// The worker has panicked: its connection is lost, and nothing that it was doing goes on.
    /// Returns the job whose request was sent over that connection and which the worker has not
    /// taken yet. Another one stays.
    pub(super) fn reset(&mut self) -> Option<J> {
        self.serving = Serving::Nothing;
        self.line = None;
        self.abort = None;
        match self.take() {
            Some((job, upload)) if upload.has_begun => Some(job),
            Some((job, upload)) => {
                self.inbox = Inbox::Job(job, upload);
                None
            }
            None => None,
        }
    }

    // === What is served

    /// The worker serves this exchange, alone, over this connection. Returns `false` if it must
    /// not, for its client has left and the request is not to be served to the end;
    /// [`Self::end`] follows all the same.
    pub(super) fn begin(&mut self, id: u64, link: &Link) -> bool {
        if let Some(place) = self.leaver(id)
            && self.leavers[place].grace.time.is_some()
        {
            self.leavers.swap_remove(place);
            return false;
        }
        self.serve(Serving::Alone(id), link);
        true
    }

    /// It is this exchange's turn, of several that were sent over this connection. If its client
    /// has left, its grace begins.
    pub(super) fn turn(&mut self, id: u64, link: &Link, progress: u64, now: Instant) {
        self.serve(Serving::InTurn(id), link);
        if let Some(place) = self.leaver(id) {
            self.abort = Abort::after(self.leavers[place].grace, progress, now);
        }
    }

    /// The worker is through with this exchange, and has none besides if it `was_last`. Returns
    /// whether its client has left meanwhile.
    pub(super) fn end(&mut self, id: u64, was_last: bool) -> bool {
        self.serving = if was_last {
            Serving::Nothing
        } else {
            Serving::BetweenTurns
        };
        self.abort = None;
        let found = self.leaver(id);
        if was_last {
            // With those that were noted after their exchange had ended.
            self.leavers.clear();
        } else if let Some(place) = found {
            self.leavers.swap_remove(place);
        }
        found.is_some()
    }

    /// The connection is not the worker's any more.
    pub(super) fn forget_connection(&mut self) {
        self.line = None;
    }

    fn serve(&mut self, serving: Serving, link: &Link) {
        self.serving = serving;
        match &mut self.line {
            Some(line) if line.link.is_same(link) => line.is_notified = false,
            line => {
                *line = Some(Line {
                    link: link.clone(),
                    is_notified: false,
                });
            }
        }
    }

    // === Clients that leave

    /// The client of this exchange has left. If its server says nothing for the time of the grace,
    /// and the worker is not through with it, the connection is broken.
    pub(super) fn cancel(&mut self, id: u64, grace: Grace, progress: u64, now: Instant) {
        if self.leaver(id).is_none() {
            self.leavers.push(Leaver { id, grace });
        }
        // The turn of another exchange is not to end because of it.
        if self.serving.exchange() == Some(id) {
            self.abort = Abort::after(grace, progress, now);
        }
    }

    /// Tells the server that the client of this exchange has left, if that is what it serves, and
    /// serves alone.
    pub(super) fn notify(&mut self, id: u64) {
        let is_wanted = self
            .leaver(id)
            .is_some_and(|place| self.leavers[place].grace.is_told);
        if is_wanted
            && self.serving == Serving::Alone(id)
            && let Some(line) = &mut self.line
        {
            line.link.end();
            line.is_notified = true;
        }
    }

    /// Returns whether the server was told that the client of the exchange that was served last
    /// has left: the connection is of no use any more.
    pub(super) fn is_notified(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.is_notified)
    }

    /// Returns whether the worker has an exchange whose client has left.
    pub(super) fn has_leavers(&self) -> bool {
        !self.leavers.is_empty()
    }

    /// Returns whether the client of this exchange has left.
    pub(super) fn has_left(&self, id: u64) -> bool {
        self.leaver(id).is_some()
    }

    /// Returns whether the client of this exchange has left and its request is not to be served to
    /// the end.
    pub(super) fn is_called_off(&self, id: u64) -> bool {
        self.leaver(id)
            .is_some_and(|place| self.leavers[place].grace.time.is_some())
    }

    /// Breaks the connection if the grace of the exchange that is served is over. A client that
    /// only ended its sending side still gets what comes: progress extends the grace.
    pub(super) fn abort_if_due(&mut self, progress: u64, now: Instant) {
        let Some(abort) = &mut self.abort else {
            return;
        };
        if abort.at > now {
            return;
        }
        if progress != abort.progress {
            abort.progress = progress;
            abort.at = after(now, abort.time);
            return;
        }
        self.abort = None;
        self.break_off();
    }

    /// Breaks the connection if something is being served, or is about to be in the next turn.
    pub(super) fn break_off(&self) {
        if self.serving != Serving::Nothing
            && let Some(line) = &self.line
        {
            line.link.break_off();
        }
    }

    fn leaver(&self, id: u64) -> Option<usize> {
        self.leavers.iter().position(|leaver| leaver.id == id)
    }
}

impl Abort {
    fn after(grace: Grace, progress: u64, now: Instant) -> Option<Self> {
        grace.time.map(|time| Self {
            at: after(now, time),
            time,
            progress,
        })
    }
}

#[cfg(test)]
mod tests;
