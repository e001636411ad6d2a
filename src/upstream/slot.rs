//! A worker's slot: where jobs are put for it, and where others tell it that a client has left.
//!
//! Whoever puts a job into the slot of a worker that waits also sends the request, if it goes out
//! in one piece: the worker, which waits for its connection as well, is then woken once, by the
//! response, and not twice.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Exchange;
use crate::health::ProbeId;
use crate::net::bell::Bell;

use super::connection::{Connection, Idle, Upload};
use super::link::Link;

/// One worker's slot.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// The thread that was sending is through.
    sent: Condvar,
    bell: Bell,
    /// Grows while a response comes in.
    progress: AtomicU64,
    /// Grows with whatever comes from the server.
    heard: AtomicU64,
    /// The worker gives something to its client, which may take long. What the server says
    /// meanwhile is not read.
    is_giving: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    job: Option<(Exchange, Upload)>,
    /// The worker is to look how its server is.
    probe: Option<ProbeId>,
    /// The connection over which the worker waits.
    idle: Option<Idle>,
    /// Another thread sends over it, outside the lock: until that is done the worker goes on with
    /// nothing.
    is_sending: bool,
    /// The exchange being served; of several sent together the one whose turn it is.
    serving: Option<u64>,
    /// The turn passes from one of these to the next.
    between: bool,
    /// Exchanges whose clients have left, each with the grace that its server has. They may not
    /// have been begun yet, or their turn may not have come.
    cancelled: Vec<(u64, Grace)>,
    /// When the connection is to be broken, if the exchange that is served now is still served
    /// then.
    abort: Option<Abort>,
    /// Several were sent together: others depend on the connection.
    is_shared: bool,
    /// The server was told that a client has left.
    is_notified: bool,
    connection: Option<Link>,
    stopped: bool,
}

/// How long a server may go on for a client that has left (`None`: to the end), and whether it is
/// told.
pub(super) type Grace = (Option<Duration>, bool);

/// A grace that runs.
#[derive(Clone, Copy, Debug)]
struct Abort {
    at: Instant,
    grace: Duration,
    /// What progress there was when it began.
    progress: u64,
}

impl State {
    fn abort(&self) {
        if (self.serving.is_some() || self.between)
            && let Some(connection) = &self.connection
        {
            connection.break_off();
        }
    }

    fn cancelled(&self, id: u64) -> Option<usize> {
        self.cancelled
            .iter()
            .position(|(cancelled, _)| *cancelled == id)
    }

    fn serve(&mut self, id: u64, connection: &Link) {
        self.serving = Some(id);
        self.between = false;
        self.is_notified = false;
        if !self
            .connection
            .as_ref()
            .is_some_and(|known| known.is_same(connection))
        {
            self.connection = Some(connection.clone());
        }
    }
}

/// What ended a wait.
#[derive(Debug)]
pub(super) enum Woken {
    /// So much of its request is sent.
    Job(Exchange, Upload),
    Probe(ProbeId),
    Nothing,
    Stop,
}

impl Slot {
    /// An empty slot.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            sent: Condvar::new(),
            bell: Bell::new()?,
            progress: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            is_giving: AtomicBool::new(false),
        })
    }

    /// Gives the worker a job. The dispatcher sees to it that there is never a second one.
    ///
    /// The request is encoded and sent outside the lock, which the dispatcher's lock waits for
    /// ([`Self::cancel`]): a system call may take long.
    pub(super) fn put(&self, mut job: Exchange) {
        let mut state = self.state.lock();
        let idle = state.idle.take();
        // What the server was told of an earlier client says nothing of this one.
        state.is_notified = false;
        // A second try is looked at more closely, by the worker. So is who may have left.
        let Some(idle) =
            idle.filter(|_| job.attempts.failed().is_none() && state.cancelled(job.id).is_none())
        else {
            state.job = Some((job, Upload::default()));
            drop(state);
            return self.bell.ring();
        };
        state.serve(job.id, idle.link());
        state.is_sending = true;
        drop(state);
        let sent = catch_unwind(AssertUnwindSafe(|| {
            Point::SlotSend.pass();
            let waiting_since = job.times.waiting_since;
            idle.send(&mut job.request, waiting_since)
        }));
        let upload = sent.unwrap_or_else(|_| {
            // The worker is given another connection, and the job with nothing sent.
            idle.link().break_off();
            Upload::default()
        });
        let is_sent = upload.is_whole;
        let mut state = self.state.lock();
        state.is_sending = false;
        if !upload.has_begun {
            (state.serving, state.abort) = (None, None);
        }
        state.job = Some((job, upload));
        drop(state);
        self.sent.notify_one();
        if !is_sent {
            self.bell.ring();
        }
    }

    /// Waits for a job, at most this long, or until something happens to the connection.
    pub(super) fn wait(&self, connection: Option<&Connection>, patience: Duration) -> Woken {
        let mut state = self.state.lock();
        if state.job.is_none() && state.probe.is_none() && !state.stopped {
            state.idle = connection.map(Connection::idle);
            drop(state);
            match connection {
                Some(connection) => connection.link().wait_or_bell(&self.bell, patience),
                None => self.bell.wait(None, patience),
            }
            state = self.lock_unsending();
            state.idle = None;
        }
        if let Some((job, upload)) = state.job.take() {
            return Woken::Job(job, upload);
        }
        match state.probe.take() {
            Some(probe) => Woken::Probe(probe),
            None if state.stopped => Woken::Stop,
            None => Woken::Nothing,
        }
    }

    /// The lock, with nobody sending for the worker.
    fn lock_unsending(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        while state.is_sending {
            self.sent.wait(&mut state);
        }
        state
    }

    /// The worker has panicked: its connection is lost, and nothing that it was doing goes on.
    /// Returns the job whose request was sent over that connection and which the worker has not
    /// taken yet. Another one stays.
    pub(super) fn reset(&self) -> Option<Exchange> {
        self.is_giving.store(false, Ordering::Relaxed);
        let mut state = self.lock_unsending();
        let half_sent = state.job.take_if(|(_, upload)| upload.has_begun);
        let State {
            job,
            probe,
            cancelled,
            stopped,
            ..
        } = std::mem::take(&mut *state);
        *state = State {
            job,
            probe,
            cancelled,
            stopped,
            ..State::default()
        };
        half_sent.map(|(job, _)| job)
    }

    /// The probe that its worker did not come to, if there is one.
    pub(super) fn take_probe(&self) -> Option<ProbeId> {
        self.state.lock().probe.take()
    }

    /// Has the worker, which was borrowed for that, look how its server is.
    pub(super) fn put_probe(&self, probe: ProbeId) {
        self.state.lock().probe = Some(probe);
        self.bell.ring();
    }

    /// Has a worker that waits look after its connection.
    pub(super) fn wake(&self) {
        self.bell.ring();
    }

    /// The worker serves this exchange now, over this connection. `false` if its client has left
    /// already, unless it is served to the end all the same.
    pub(super) fn begin(&self, id: u64, connection: &Link) -> bool {
        let mut state = self.state.lock();
        if let Some(place) = state.cancelled(id)
            && state.cancelled[place].1.0.is_some()
        {
            state.cancelled.swap_remove(place);
            return false;
        }
        state.serve(id, connection);
        true
    }

    /// It is this exchange's turn, of several that were sent over this connection. If its client
    /// has left, its grace begins.
    pub(super) fn turn(&self, id: u64, connection: &Link) {
        let mut state = self.state.lock();
        state.serve(id, connection);
        state.is_shared = true;
        if let Some(place) = state.cancelled(id) {
            state.abort = self.abort_after(state.cancelled[place].1.0, Instant::now());
        }
    }

    /// The worker is through with this exchange, and has none besides if it `was_last`. Answers
    /// whether its client has left meanwhile.
    pub(super) fn end(&self, id: u64, was_last: bool) -> bool {
        let mut state = self.state.lock();
        state.serving = None;
        state.between = !was_last;
        state.abort = None;
        if was_last {
            state.is_shared = false;
        }
        if state.cancelled.is_empty() {
            return false;
        }
        let found = state.cancelled(id);
        if was_last {
            // With those that were told too late.
            state.cancelled.clear();
        } else if let Some(place) = found {
            state.cancelled.swap_remove(place);
        }
        found.is_some()
    }

    /// Whether the server of the exchange that was served last was told that its client had left:
    /// the connection is of no use any more.
    pub(super) fn is_notified(&self) -> bool {
        self.state.lock().is_notified
    }

    /// Whether somebody's client has left whom the worker has.
    pub(super) fn has_cancelled(&self) -> bool {
        !self.state.lock().cancelled.is_empty()
    }

    /// The connection is not the worker's any more.
    pub(super) fn forget_connection(&self) {
        let mut state = self.state.lock();
        state.connection = None;
        state.is_notified = false;
    }

    /// The client of this exchange has left. If its server says nothing for the time of the grace,
    /// and the worker is not through with it, the connection is broken. The server is told by
    /// [`Self::notify`].
    pub(super) fn cancel(&self, id: u64, grace: Grace, now: Instant) {
        let mut state = self.state.lock();
        if state.cancelled(id).is_none() {
            state.cancelled.push((id, grace));
        }
        // Another one's turn is not to end because of it.
        if state.serving == Some(id) {
            state.abort = self.abort_after(grace.0, now);
        }
    }

    /// Tells the server that the client of this exchange has left, if that is what it serves, and
    /// serves alone. A system call: not to be made under the dispatcher's lock.
    pub(super) fn notify(&self, id: u64) {
        let mut state = self.state.lock();
        let is_wanted = state
            .cancelled(id)
            .is_some_and(|place| state.cancelled[place].1.1);
        if is_wanted
            && state.serving == Some(id)
            && !state.is_shared
            && let Some(connection) = &state.connection
        {
            connection.end();
            state.is_notified = true;
        }
    }

    fn abort_after(&self, grace: Option<Duration>, now: Instant) -> Option<Abort> {
        grace.map(|grace| Abort {
            at: after(now, grace),
            grace,
            progress: self.progress.load(Ordering::Relaxed),
        })
    }

    /// Something has come from the server.
    pub(super) fn note_heard(&self) {
        // Its worker alone writes it.
        self.heard.store(
            self.heard.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    /// Gives something to the client of its worker. Until that is done the server's silence is
    /// none.
    pub(super) fn giving<T>(&self, give: impl FnOnce() -> T) -> T {
        self.is_giving.store(true, Ordering::Relaxed);
        let given = give();
        // First, so that whoever looks sees one of both.
        self.note_heard();
        self.is_giving.store(false, Ordering::Release);
        given
    }

    /// Whether its worker does that now.
    pub(super) fn is_giving(&self) -> bool {
        self.is_giving.load(Ordering::Acquire)
    }

    /// Another number whenever something has come from the server.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Something of the response has come in.
    pub(super) fn note_progress(&self) {
        self.note_heard();
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the client of this exchange has left.
    pub(super) fn is_cancelled(&self, id: u64) -> bool {
        self.state.lock().cancelled(id).is_some()
    }

    /// The same, and its request is not to be served all the same.
    pub(super) fn is_called_off(&self, id: u64) -> bool {
        let state = self.state.lock();
        state
            .cancelled(id)
            .is_some_and(|place| state.cancelled[place].1.0.is_some())
    }

    /// Breaks the connection if its time has come. Under the lock, so that it can never hit a later
    /// exchange.
    pub(super) fn abort_if_due(&self, now: Instant) {
        let mut state = self.state.lock();
        let Some(abort) = &mut state.abort else {
            return;
        };
        if abort.at > now {
            return;
        }
        let progress = self.progress.load(Ordering::Relaxed);
        if progress != abort.progress {
            // A client that only ended its sending side still gets what comes.
            abort.progress = progress;
            abort.at = after(now, abort.grace);
            return;
        }
        state.abort = None;
        state.abort();
    }

    /// Breaks the connection if something is being served.
    pub(super) fn abort(&self) {
        self.state.lock().abort();
    }

    /// Ends the worker, once it has served what it has.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.bell.ring();
    }

    /// Whether the worker is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::net::Stream;
    use crate::net::stream::Peek;

    const GRACE: Duration = Duration::from_secs(1);

    fn pair() -> (Link, Stream) {
        let (ours, servers) = UnixStream::pair().unwrap();
        (Link::from(Stream::Unix(ours)), Stream::Unix(servers))
    }

    #[test]
    fn a_connection_is_broken_only_in_the_turn_of_who_has_left() {
        let (slot, (connection, server)) = (Slot::new().unwrap(), pair());
        let now = Instant::now();
        let much_later = now + 1000 * GRACE;
        slot.turn(1, &connection);
        slot.cancel(2, (Some(GRACE), false), now);
        slot.cancel(3, (None, false), now);
        assert!(slot.is_cancelled(2) && slot.is_cancelled(3) && !slot.is_cancelled(1));
        slot.abort_if_due(much_later);
        assert_eq!(server.peek_now(), Peek::Nothing);
        assert!(!slot.end(1, false));
        // Told too late, it hides nobody else's.
        slot.cancel(1, (Some(GRACE), false), now);
        slot.abort_if_due(much_later);
        // The grace of who may stay to the end never is over.
        slot.turn(3, &connection);
        slot.abort_if_due(much_later);
        assert!(slot.end(3, false));
        assert_eq!(server.peek_now(), Peek::Nothing);
        slot.turn(2, &connection);
        slot.abort_if_due(Instant::now());
        assert_eq!(
            server.peek_now(),
            Peek::Nothing,
            "the grace begins with the turn"
        );
        slot.abort_if_due(much_later);
        assert_eq!(server.peek_now(), Peek::Ended);
        assert!(slot.end(2, true));
        assert!(!slot.has_cancelled(), "nothing stays behind");
    }

    #[test]
    fn a_stop_breaks_a_batch_also_between_two_turns() {
        let (slot, (connection, server)) = (Slot::new().unwrap(), pair());
        assert!(slot.begin(1, &connection));
        slot.end(1, true);
        slot.abort();
        assert_eq!(server.peek_now(), Peek::Nothing, "nothing is served");
        slot.turn(2, &connection);
        slot.end(2, false);
        slot.abort();
        assert_eq!(server.peek_now(), Peek::Ended);
    }

    #[test]
    fn a_server_is_told_of_the_exchange_that_it_serves_alone_and_of_no_later_one() {
        let (slot, (connection, server)) = (Slot::new().unwrap(), pair());
        let now = Instant::now();
        assert!(slot.begin(1, &connection));
        slot.cancel(1, (Some(GRACE), true), now);
        assert!(slot.end(1, true));
        // Between the mark and this the worker has gone on.
        assert!(slot.begin(2, &connection));
        slot.notify(1);
        assert!(!slot.is_notified());
        slot.notify(2);
        assert!(!slot.is_notified(), "its client is there");
        assert_eq!(server.peek_now(), Peek::Nothing);
        slot.cancel(2, (Some(GRACE), true), now);
        assert_eq!(
            server.peek_now(),
            Peek::Nothing,
            "not under the dispatcher's lock"
        );
        slot.notify(2);
        assert!(slot.is_notified());
        assert_eq!(server.peek_now(), Peek::Ended);
        // The connection is known to be half closed until it is given up.
        assert!(slot.end(2, true) && slot.is_notified());
        slot.forget_connection();
        assert!(!slot.is_notified());
    }

    #[test]
    fn a_batch_that_ends_with_nobody_leaving_is_shared_no_longer() {
        let (slot, (connection, server)) = (Slot::new().unwrap(), pair());
        slot.turn(1, &connection);
        assert!(!slot.end(1, true));
        assert!(slot.begin(2, &connection));
        slot.cancel(2, (Some(GRACE), true), Instant::now());
        slot.notify(2);
        assert_eq!(server.peek_now(), Peek::Ended, "the next is alone again");
    }

    #[test]
    fn a_server_is_not_silent_while_its_worker_waits_for_a_client() {
        let slot = Slot::new().unwrap();
        let before = slot.heard();
        assert!(!slot.is_giving());
        assert!(slot.giving(|| slot.is_giving()));
        assert!(!slot.is_giving());
        assert_ne!(slot.heard(), before, "its silence begins now");
    }

    #[test]
    fn who_left_before_it_was_begun_is_not_begun() {
        let (slot, (connection, _server)) = (Slot::new().unwrap(), pair());
        slot.cancel(1, (Some(GRACE), false), Instant::now());
        assert!(!slot.begin(1, &connection));
        assert!(slot.begin(2, &connection) && !slot.end(2, true));
        // But for whoever shall be served in any case.
        slot.cancel(3, (None, false), Instant::now());
        assert!(slot.begin(3, &connection));
        slot.abort_if_due(Instant::now() + 1000 * GRACE);
        assert!(slot.end(3, true));
    }
}
