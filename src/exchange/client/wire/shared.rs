//! The parts of a wire that its threads share.

use std::fmt;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustls::ServerConnection;

use crate::exchange::hub::Hub;
use crate::exchange::listener::OpenListener;
use crate::exchange::outbox::Outbox;
use crate::exchange::registry::{Holds, Listed};
use crate::fault::Fault;
use crate::net::Stream;

use super::ending::Ending;
use super::marks::Marks;
use super::pace::Pace;
use super::transport::Transport;
use super::writer::Writer;

/// Responses that may lie undelivered before the client's next request is taken up. Each costs its
/// bookkeeping as well, so that they are bounded by number and not by bytes alone.
const UNDELIVERED: usize = 16;

/// Bytes that may lie undelivered before the client's next request is taken up.
const UNDELIVERED_BYTES: u64 = 64 * 1024;

/// What the user of a wire guards with the wire's lock.
pub trait Guarded: fmt::Debug + Send + 'static {
    /// Returns whether more is to come of what is being said.
    fn is_busy(&self) -> bool;
}

/// Where a client comes from.
#[derive(Debug)]
pub struct Origin {
    /// Where it came in.
    pub listener: Arc<OpenListener>,
    /// Its address; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// What it says of others counts: it is one of the listener's `forwarded.trusted`.
    pub is_trusted: bool,
}

/// A client's connection, over which `E` are said in turns that `T` orders.
#[derive(Debug)]
pub struct Wire<T: Guarded, E: Ending> {
    pub(super) hub: Arc<Hub>,
    pub(super) transport: Transport,
    origin: Origin,
    is_tls: bool,
    pub(super) out: Mutex<Out<T, E>>,
    /// Less lies undelivered, or the wire is busy no longer.
    pub(super) turned: Condvar,
    /// The writer is through.
    pub(super) sent: Condvar,
    /// The client has taken something.
    pub(super) room: Condvar,
    pub(super) marks: Marks,
}

/// What goes out to a client.
#[derive(Debug)]
pub(in crate::exchange) struct Out<T, E> {
    /// What the wire's user guards with this lock.
    pub(in crate::exchange) turn: T,
    pub(super) tls: Option<Box<ServerConnection>>,
    pub(super) outbox: Outbox<E>,
    /// A courier delivers: no other thread touches the writing side of the socket.
    pub(super) is_with_courier: bool,
    pub(super) writer: Writer,
    /// What memory has no room for may go to the spool.
    pub(super) may_spool: bool,
    pub(in crate::exchange) end: End,
    /// A thread waits until less lies undelivered and the wire is not busy.
    pub(super) is_awaited: bool,
    pub(super) idle_since: Instant,
    /// While something lies undelivered.
    pub(super) pace: Option<Pace>,
}

/// How the wire's writing side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exchange) enum End {
    /// It does not.
    Open,
    /// Nothing more comes; the writing side ends once the outbox is empty.
    Closing,
    /// Cut.
    Dead(Fault),
}

/// What became of bytes that were given to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the client may be gone"]
pub enum Sent {
    /// They are with the kernel.
    All,
    /// The client is gone.
    Gone(Fault),
    /// The number of bytes that are not with the kernel yet, in memory or in the spool.
    Pending(u64),
}

impl<T: Guarded, E: Ending> Out<T, E> {
    /// Returns whether everything that was handed in is with the kernel.
    pub(in crate::exchange) fn is_delivered(&self) -> bool {
        self.outbox.unsent() == 0 && self.writer.is_none()
    }

    /// Returns whether the client's next request has to wait: another one is open, or so much of
    /// what was answered before lies undelivered that a client that never reads would fill the
    /// memory.
    pub(in crate::exchange) fn is_occupied(&self) -> bool {
        self.turn.is_busy()
            || self.outbox.undelivered() >= UNDELIVERED
            || self.outbox.unsent() > UNDELIVERED_BYTES
    }

    /// Fails if the connection was cut.
    pub(super) fn alive(&self) -> Result<(), Fault> {
        match self.end {
            End::Dead(fault) => Err(fault),
            End::Open | End::Closing => Ok(()),
        }
    }
}

impl<T: Guarded, E: Ending> Wire<T, E> {
    /// The wire to a client that has just come in.
    pub(in crate::exchange) fn over(
        transport: Transport,
        hub: &Arc<Hub>,
        origin: Origin,
        tls: Option<Box<ServerConnection>>,
        turn: T,
        now: Instant,
    ) -> Arc<Self> {
        let is_tls = tls.is_some();
        let out = Out {
            turn,
            tls,
            outbox: Outbox::default(),
            is_with_courier: false,
            writer: Writer::None,
            may_spool: true,
            end: End::Open,
            is_awaited: false,
            idle_since: now,
            pace: None,
        };
        let wire = Arc::new(Self {
            hub: Arc::clone(hub),
            transport,
            origin,
            is_tls,
            out: Mutex::new(out),
            turned: Condvar::new(),
            sent: Condvar::new(),
            room: Condvar::new(),
            marks: Marks::idle(hub.uptime_ms(now)),
        });
        let listed: Arc<dyn Listed> = Arc::clone(&wire) as _;
        hub.clients.add(&listed);
        wire
    }

    /// What all share.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The connection, for its reading side.
    pub fn stream(&self) -> &Stream {
        self.transport.stream()
    }

    /// Where it came in.
    pub fn listener(&self) -> &Arc<OpenListener> {
        &self.origin.listener
    }

    /// Its address; `None` on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.origin.peer
    }

    /// What it says of others counts: it is one of the listener's `forwarded.trusted`.
    pub fn is_trusted(&self) -> bool {
        self.origin.is_trusted
    }

    /// It came over TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// It is to end after what it has sent: responses say `Connection: close`.
    pub fn must_close(&self) -> bool {
        self.hub.is_draining() || self.is_dismissed()
    }

    /// It was told to end by [`Self::dismiss`].
    pub fn is_dismissed(&self) -> bool {
        self.marks.dismissed.load(Ordering::Relaxed)
    }

    /// Notes whether a request of it is being read: then it is not idle, whatever became of the one
    /// before.
    pub fn note_reading(&self, reading: bool) {
        self.marks.reading.store(reading, Ordering::Relaxed);
    }

    /// A request of it is being read.
    pub fn is_reading(&self) -> bool {
        self.marks.reading.load(Ordering::Relaxed)
    }

    /// Ends it after what it has sent: its session sees an end of input.
    pub fn dismiss(&self) {
        self.marks.dismissed.store(true, Ordering::Relaxed);
        self.transport.shutdown(Shutdown::Read);
    }

    /// Returns whether the client has to give way to others.
    pub fn is_condemned(&self) -> bool {
        self.marks.condemned.load(Ordering::Relaxed)
    }

    /// Something of a request came now, and the next of it has to come within this time. It `holds`
    /// so much of what all share.
    pub fn note_read(&self, now: Instant, limit: Duration, holds: Holds) {
        self.marks
            .read_at
            .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.marks.read_limit.store(limit, Ordering::Relaxed);
        self.marks.holds.store(holds as u8, Ordering::Relaxed);
    }

    /// Nothing of a request is waited for any more.
    pub fn note_read_whole(&self) {
        self.marks.read_at.store(0, Ordering::Relaxed);
        self.marks
            .holds
            .store(Holds::Nothing as u8, Ordering::Relaxed);
    }

    // === The lock

    /// The lock, whether a thread sends outside it or not.
    pub(in crate::exchange) fn lock(&self) -> MutexGuard<'_, Out<T, E>> {
        self.out.lock()
    }

    /// The lock, with no thread that adds to what goes out.
    pub(in crate::exchange) fn lock_to_write(&self) -> MutexGuard<'_, Out<T, E>> {
        let mut out = self.out.lock();
        self.wait_sent(&mut out);
        out
    }

    pub(super) fn wait_sent(&self, out: &mut MutexGuard<'_, Out<T, E>>) {
        while !out.writer.is_none() {
            self.sent.wait(out);
        }
    }

    /// Waits until the client's next request may be taken up, at most this long. Returns `false` if
    /// it may not.
    pub fn wait_turn(&self, patience: Duration) -> bool {
        let mut out = self.out.lock();
        if out.is_occupied() {
            out.is_awaited = true;
            self.turned.wait_for(&mut out, patience);
            out.is_awaited = false;
        }
        !out.is_occupied()
    }

    /// Wakes the thread that waits in [`Self::wait_turn`], if one does.
    pub(in crate::exchange) fn wake_awaiting(&self, out: &Out<T, E>) {
        if out.is_awaited {
            self.turned.notify_one();
        }
    }

    /// Something else is said from now on, and may go to the spool again.
    pub(in crate::exchange) fn may_spool_again(&self, out: &mut Out<T, E>) {
        out.may_spool = true;
    }

    /// The client is not idle from now on.
    pub(in crate::exchange) fn note_busy(&self) {
        self.marks.has_asked.store(true, Ordering::Relaxed);
        self.marks.idle_at.store(0, Ordering::Relaxed);
    }

    /// Since when it is idle; `None` while an exchange is open or something is still being
    /// delivered.
    pub fn idle_since(&self) -> Option<Instant> {
        let out = self.out.lock();
        (!out.turn.is_busy() && out.is_delivered()).then_some(out.idle_since)
    }

    /// Returns whether its writing side has ended or will as soon as everything is delivered.
    pub fn is_closing(&self) -> bool {
        self.out.lock().end != End::Open
    }

    /// Why nothing reaches it any more, if that is so.
    pub fn gone(&self) -> Option<Fault> {
        self.out.lock().alive().err()
    }
}

impl<T: Guarded, E: Ending> Drop for Wire<T, E> {
    fn drop(&mut self) {
        self.hub.clients.remove(std::ptr::from_ref(self).addr());
    }
}
