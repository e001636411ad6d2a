//! A worker's slot: where jobs are put for it, and where others tell it that a client has left.
//!
//! The thread that puts a job into the slot of a worker that waits also sends the request, if it
//! goes out in one piece: the worker, which waits for its connection as well, is then woken once,
//! by the response, and not twice.

mod state;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::base::panic_points::Point;
use crate::exchange::Exchange;
use crate::health::ProbeId;
use crate::net::bell::Bell;

use super::connection::{Connection, Upload};
use super::link::Link;

pub(super) use state::Grace;
use state::State;

/// One worker's slot.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State<Exchange>>,
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

/// What ended a wait.
#[derive(Debug)]
pub(super) enum Woken {
    /// A job, and how much of its request is sent.
    Job(Exchange, Upload),
    Probe(ProbeId),
    Nothing,
    Stop,
}

impl Slot {
    /// An empty slot.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::new(State::new()),
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
    pub(super) fn put(&self, job: Exchange) {
        let (id, is_first_attempt) = (job.id, job.attempts.failed().is_none());
        let put = self.state.lock().put(job, id, is_first_attempt);
        let Some((mut job, idle)) = put else {
            return self.bell.ring();
        };
        let sent = catch_unwind(AssertUnwindSafe(|| {
            Point::SlotSend.pass();
            if job.destination.is_long() {
                // Its worker first looks whether the lane has a place for it.
                return Upload::default();
            }
            let waiting_since = job.times.waiting_since;
            idle.send(&mut job.request, waiting_since)
        }));
        let upload = sent.unwrap_or_else(|_| {
            // The worker is given another connection, and the job with nothing sent.
            idle.link().break_off();
            Upload::default()
        });
        let is_sent = upload.is_whole;
        self.state.lock().sent(job, upload);
        self.sent.notify_one();
        if !is_sent {
            self.bell.ring();
        }
    }

    /// Waits for a job, at most this long, or until something happens to the connection.
    pub(super) fn wait(&self, connection: Option<&Connection>, patience: Duration) -> Woken {
        let mut state = self.state.lock();
        if state.wait(connection.map(Connection::idle)) {
            drop(state);
            match connection {
                Some(connection) => connection.link().wait_or_bell(&self.bell, patience),
                None => self.bell.wait(None, patience),
            }
            state = self.lock_unsending();
        }
        if let Some((job, upload)) = state.take() {
            return Woken::Job(job, upload);
        }
        match state.probe.take() {
            Some(probe) => Woken::Probe(probe),
            None if state.is_stopped => Woken::Stop,
            None => Woken::Nothing,
        }
    }

    /// The lock, with no thread that sends for the worker.
    fn lock_unsending(&self) -> MutexGuard<'_, State<Exchange>> {
        let mut state = self.state.lock();
        while state.is_sending() {
            self.sent.wait(&mut state);
        }
        state
    }

    /// The worker has panicked: its connection is lost, and nothing that it was doing goes on.
    /// Returns the job whose request was sent over that connection and which the worker has not
    /// taken yet. Another one stays.
    pub(super) fn reset(&self) -> Option<Exchange> {
        self.is_giving.store(false, Ordering::Relaxed);
        self.lock_unsending().reset()
    }

    /// Takes the probe that the worker did not come to, if there is one.
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

    /// The worker serves this exchange, alone, over this connection. Returns `false` if it must
    /// not, for its client has left and the request is not to be served to the end.
    pub(super) fn begin(&self, id: u64, link: &Link) -> bool {
        self.state.lock().begin(id, link)
    }

    /// It is this exchange's turn, of several that were sent over this connection. If its client
    /// has left, its grace begins.
    pub(super) fn turn(&self, id: u64, link: &Link) {
        let now = Instant::now();
        self.state.lock().turn(id, link, self.progress(), now);
    }

    /// The worker is through with this exchange, and has none besides if it `was_last`. Returns
    /// whether its client has left meanwhile.
    pub(super) fn end(&self, id: u64, was_last: bool) -> bool {
        self.state.lock().end(id, was_last)
    }

    /// Returns whether the server was told that the client of the exchange that was served last
    /// has left: the connection is of no use any more.
    pub(super) fn is_notified(&self) -> bool {
        self.state.lock().is_notified()
    }

    /// Returns whether the worker has an exchange whose client has left.
    pub(super) fn has_leavers(&self) -> bool {
        self.state.lock().has_leavers()
    }

    /// The connection is not the worker's any more.
    pub(super) fn forget_connection(&self) {
        self.state.lock().forget_connection();
    }

    /// The client of this exchange has left. If its server says nothing for the time of the grace,
    /// and the worker is not through with it, the connection is broken. The server is told by
    /// [`Self::notify`].
    pub(super) fn cancel(&self, id: u64, grace: Grace, now: Instant) {
        self.state.lock().cancel(id, grace, self.progress(), now);
    }

    /// Tells the server that the client of this exchange has left, if that is what it serves, and
    /// serves alone. A system call: not to be made under the dispatcher's lock.
    pub(super) fn notify(&self, id: u64) {
        self.state.lock().notify(id);
    }

    fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
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
        // First, so that a thread that looks sees one of both.
        self.note_heard();
        self.is_giving.store(false, Ordering::Release);
        given
    }

    /// Returns whether its worker does that now.
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

    /// Returns whether the client of this exchange has left.
    pub(super) fn has_left(&self, id: u64) -> bool {
        self.state.lock().has_left(id)
    }

    /// Returns whether the client of this exchange has left and its request is not to be served to
    /// the end.
    pub(super) fn is_called_off(&self, id: u64) -> bool {
        self.state.lock().is_called_off(id)
    }

    /// Breaks the connection if its time has come. Under the lock, so that it can never hit a later
    /// exchange.
    pub(super) fn abort_if_due(&self, now: Instant) {
        self.state.lock().abort_if_due(self.progress(), now);
    }

    /// Breaks the connection if something is being served, or is about to be in the next turn.
    pub(super) fn break_off(&self) {
        self.state.lock().break_off();
    }

    /// Ends the worker, once it has served what it has.
    pub(super) fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.bell.ring();
    }

    /// Returns whether the worker is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().is_stopped
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::net::Stream;
    use crate::net::stream::Peek;

    const GRACE: Duration = Duration::from_secs(1);

    const TO_THE_END: Grace = Grace {
        time: None,
        is_told: false,
    };

    fn grace(is_told: bool) -> Grace {
        Grace {
            time: Some(GRACE),
            is_told,
        }
    }

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
        slot.cancel(2, grace(false), now);
        slot.cancel(3, TO_THE_END, now);
        assert!(slot.has_left(2) && slot.has_left(3) && !slot.has_left(1));
        slot.abort_if_due(much_later);
        assert_eq!(server.peek_now(), Peek::Nothing);
        assert!(!slot.end(1, false));
        // A client that leaves too late hides no other one.
        slot.cancel(1, grace(false), now);
        slot.abort_if_due(much_later);
        // A grace to the end is never over.
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
        assert!(!slot.has_leavers(), "nothing stays behind");
    }

    #[test]
    fn a_stop_breaks_a_batch_also_between_two_turns() {
        let (slot, (connection, server)) = (Slot::new().unwrap(), pair());
        assert!(slot.begin(1, &connection));
        slot.end(1, true);
        slot.break_off();
        assert_eq!(server.peek_now(), Peek::Nothing, "nothing is served");
        slot.turn(2, &connection);
        slot.end(2, false);
        slot.break_off();
        assert_eq!(server.peek_now(), Peek::Ended);
    }

    #[test]
    fn a_server_is_told_of_the_exchange_that_it_serves_alone_and_of_no_later_one() {
        let (slot, (connection, server)) = (Slot::new().unwrap(), pair());
        let now = Instant::now();
        assert!(slot.begin(1, &connection));
        slot.cancel(1, grace(true), now);
        assert!(slot.end(1, true));
        // Between the mark and this the worker has gone on.
        assert!(slot.begin(2, &connection));
        slot.notify(1);
        assert!(!slot.is_notified());
        slot.notify(2);
        assert!(!slot.is_notified(), "its client is there");
        assert_eq!(server.peek_now(), Peek::Nothing);
        slot.cancel(2, grace(true), now);
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
        slot.cancel(2, grace(true), Instant::now());
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
        slot.cancel(1, grace(false), Instant::now());
        assert!(!slot.begin(1, &connection));
        assert!(slot.begin(2, &connection) && !slot.end(2, true));
        // Unless the request is to be served to the end.
        slot.cancel(3, TO_THE_END, Instant::now());
        assert!(slot.begin(3, &connection));
        slot.abort_if_due(Instant::now() + 1000 * GRACE);
        assert!(slot.end(3, true));
    }
}
