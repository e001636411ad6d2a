//! A client's connection as both sides use it: its session reads, and whoever's turn it is writes.
//!
//! One lock (`reply`) orders everything that goes out: the turn, TLS, the outbox. TLS is in it
//! because reading may have to write (key updates, alerts) and both must keep one order; with one
//! lock there is no order of locks to get wrong. Nothing blocks under it: sending takes only what
//! the socket has room for, the rest goes to the outbox. Bytes are even sent outside it
//! (`sending`): a client that has its response asks again at once, and its session is not to wait
//! for the end of the system call that sent it.
//!
//! One exchange is open at a time. It may be written to until its last bytes are handed in, which
//! closes it *before* they are sent, so that the client's next request never finds it open.

mod deliver;
mod h1;
mod pace;
mod render;
mod scratch;
mod tls;
mod write;

use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustls::ServerConnection;

use crate::fault::Fault;
use crate::net::Stream;

use super::outbox::Outbox;
use super::{Hub, OpenListener};
pub(super) use deliver::Delivered;
pub(super) use h1::Asked;
pub use h1::H1Reply;
use pace::Pace;
pub use scratch::Scratch;

/// Responses that may lie undelivered before the client's next request is taken up. Each costs its
/// bookkeeping as well, so that they are bounded by number and not by bytes alone.
const UNDELIVERED: usize = 16;

/// Bytes that may lie undelivered before the client's next request is taken up.
const UNDELIVERED_BYTES: u64 = 64 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    hub: Arc<Hub>,
    stream: Stream,
    listener: Arc<OpenListener>,
    peer: Option<SocketAddr>,
    trusted: bool,
    is_tls: bool,
    reply: Mutex<Reply>,
    turned: Condvar,
    sent: Condvar,
    room: Condvar,
    /// Since when it is idle, in milliseconds of uptime; 0 while it is not.
    idle_at: AtomicU64,
    /// When to stop waiting for its end, in milliseconds of uptime; 0 is never.
    linger_until: AtomicU64,
    /// A request of it is being read.
    reading: AtomicBool,
    /// It is to end after what it has sent, whatever else it says.
    dismissed: AtomicBool,
    /// It has to give way to others.
    condemned: AtomicBool,
    /// When it took something of what lies undelivered, in milliseconds of uptime; 0 if nothing
    /// does.
    taken_at: AtomicU64,
    /// Some of what lies undelivered is in the spool.
    spooled: AtomicBool,
    /// When something of a request came, in milliseconds of uptime; 0 while none is being read.
    read_at: AtomicU64,
    /// How long the next of it may take, in milliseconds.
    read_limit: AtomicU64,
    /// What of the shared room that request takes: a [`Holds`].
    holds: AtomicU8,
}

#[derive(Debug)]
struct Reply {
    tls: Option<Box<ServerConnection>>,
    outbox: Outbox,
    /// A courier delivers: nobody else touches the socket's writing side.
    courier: bool,
    /// Somebody is sending, or writing to the spool, outside the lock: until that is done nobody
    /// else adds to what goes out.
    sending: bool,
    /// A writer has bytes in its hand for which there is no room, and waits until the client has
    /// taken others: until they are out nobody else adds to what goes out, whether the lock is free
    /// or not.
    in_hand: bool,
    open: Option<Open>,
    end: End,
    /// The session waits for its turn.
    awaited: bool,
    idle_since: Instant,
    /// While something lies undelivered.
    pace: Option<Pace>,
}

impl Reply {
    /// Everything handed in is with the kernel.
    fn is_delivered(&self) -> bool {
        self.outbox.unsent() == 0 && !self.sending && !self.in_hand
    }

    /// Returns whether the client's next request has to wait: another one is open, or so much of
    /// what was answered before lies undelivered that a client that never reads would fill the
    /// memory.
    fn is_occupied(&self) -> bool {
        self.open.is_some()
            || self.outbox.undelivered() >= UNDELIVERED
            || self.outbox.unsent() > UNDELIVERED_BYTES
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    /// The final head has gone out.
    writing: bool,
    /// The client asks for nothing more: the connection ends with this exchange, whatever its head
    /// has said.
    is_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Nothing more comes; the writing side ends once the outbox is empty.
    Closing,
    /// Cut.
    Dead(Fault),
}

/// Whether an exchange could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The connection was cut.
    Cut(Fault),
    /// The connection is ending, as the client was told: no more exchanges on it.
    Never,
    /// Another one is open, or too much of what was answered lies undelivered.
    NotYet,
    /// It is open.
    Yes,
}

/// What became of bytes given to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the client may be gone"]
pub enum Sent {
    /// They are with the kernel.
    All,
    /// The client is gone.
    Gone(Fault),
    /// So many bytes are not with the kernel yet, in memory or in the spool.
    Pending(u64),
}

/// What a client's end means for the exchange that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is called off, and has to be cancelled where it is.
    Cancel(u64),
    /// There is none, or it is being answered already: its last byte decides.
    Nothing,
}

/// What of the room that all share a request takes while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// Only what each session has of its own.
    Nothing,
    /// A buffer for its head.
    Head,
    /// Buffers for its body.
    Memory,
    /// Buffers, and a part of the spool.
    Spool,
}

/// What came out of ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// The client has said that it sends no more.
    Ended,
    /// Nothing without more ciphertext.
    More,
    /// So many bytes of plaintext.
    Plain(usize),
}

/// TLS failed; the alert is on its way.
#[derive(Debug)]
pub struct TlsError(pub rustls::Error);

impl Client {
    /// A client that has just come in. `trusted` is whether what it says of others counts.
    pub fn new(
        hub: &Arc<Hub>,
        stream: Stream,
        listener: Arc<OpenListener>,
        peer: Option<SocketAddr>,
        trusted: bool,
        tls: Option<Box<ServerConnection>>,
        now: Instant,
    ) -> Arc<Self> {
        let is_tls = tls.is_some();
        let reply = Reply {
            tls,
            outbox: Outbox::default(),
            courier: false,
            sending: false,
            in_hand: false,
            open: None,
            end: End::Open,
            awaited: false,
            idle_since: now,
            pace: None,
        };
        let client = Arc::new(Self {
            hub: Arc::clone(hub),
            stream,
            listener,
            peer,
            trusted,
            is_tls,
            reply: Mutex::new(reply),
            turned: Condvar::new(),
            sent: Condvar::new(),
            room: Condvar::new(),
            idle_at: AtomicU64::new(hub.uptime_ms(now)),
            linger_until: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
            taken_at: AtomicU64::new(0),
            spooled: AtomicBool::new(false),
            read_at: AtomicU64::new(0),
            read_limit: AtomicU64::new(0),
            holds: AtomicU8::new(Holds::Nothing as u8),
        });
        hub.clients.add(&client);
        client
    }

    /// What all share.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The connection, for its reading side.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Where it came in.
    pub fn listener(&self) -> &Arc<OpenListener> {
        &self.listener
    }

    /// Its address; `None` on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What it says of others counts: it is one of the listener's `forwarded.trusted`.
    pub fn is_trusted(&self) -> bool {
        self.trusted
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
        self.dismissed.load(Ordering::Relaxed)
    }

    /// Notes whether a request of it is being read: then it is not idle, whatever became of the one
    /// before.
    pub fn note_reading(&self, reading: bool) {
        self.reading.store(reading, Ordering::Relaxed);
    }

    /// A request of it is being read.
    pub fn is_reading(&self) -> bool {
        self.reading.load(Ordering::Relaxed)
    }

    /// Ends it after what it has sent: its session sees an end of input.
    pub fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Relaxed);
        self.stream.shutdown(Shutdown::Read);
    }

    // === The turn

    /// Opens this exchange, if none is open and the connection is to go on.
    pub fn open(&self, id: u64) -> Opened {
        let mut reply = self.reply.lock();
        match reply.end {
            _ if reply.open.is_some() => return Opened::NotYet,
            End::Closing => return Opened::Never,
            End::Dead(fault) => return Opened::Cut(fault),
            End::Open if reply.is_occupied() => return Opened::NotYet,
            End::Open => {}
        }
        reply.open = Some(Open {
            id,
            writing: false,
            is_last: false,
        });
        self.idle_at.store(0, Ordering::Relaxed);
        Opened::Yes
    }

    /// Whether the final response to this exchange has begun; `None` if it is not open.
    pub(super) fn progress_of(&self, id: u64) -> Option<bool> {
        let open = self.reply.lock().open.filter(|open| open.id == id);
        open.map(|open| open.writing)
    }

    /// Waits until [`Self::open`] has another answer than [`Opened::NotYet`], at most this long.
    /// Returns `false` if it has not.
    pub fn wait_turn(&self, patience: Duration) -> bool {
        let mut reply = self.reply.lock();
        if reply.is_occupied() {
            reply.awaited = true;
            self.turned.wait_for(&mut reply, patience);
            reply.awaited = false;
        }
        !reply.is_occupied()
    }

    /// Since when it is idle; `None` while an exchange is open or something is still being
    /// delivered.
    pub fn idle_since(&self) -> Option<Instant> {
        let reply = self.reply.lock();
        (reply.open.is_none() && reply.is_delivered()).then_some(reply.idle_since)
    }

    /// Its writing side has ended or will as soon as everything is delivered.
    pub fn is_closing(&self) -> bool {
        self.reply.lock().end != End::Open
    }

    /// Why nothing reaches it any more, if that is so.
    pub fn gone(&self) -> Option<Fault> {
        match self.reply.lock().end {
            End::Dead(fault) => Some(fault),
            End::Open | End::Closing => None,
        }
    }

    /// The client ended its sending side, or (`reset`) the connection broke.
    pub fn leave(&self, reset: bool) -> Left {
        let mut reply = self.reply.lock();
        let (fault, left) = match reply.open {
            // What it was answered before is still delivered.
            Some(Open {
                id, writing: false, ..
            }) if !reset && !reply.is_delivered() => return Left::Cancel(id),
            Some(Open {
                id, writing: false, ..
            }) => (Fault::ClientGoneHead, Left::Cancel(id)),
            // Whoever serves it may be waiting for the server, and would not learn of it before
            // that says more. What it does say is still given on: the client may have ended only
            // its sending side.
            Some(Open {
                id, writing: true, ..
            }) if !reset => return Left::Cancel(id),
            Some(Open {
                id, writing: true, ..
            }) => (Fault::ClientGoneData, Left::Cancel(id)),
            None if reset => (Fault::ClientGoneData, Left::Nothing),
            None => return Left::Nothing,
        };
        self.die(&mut reply, fault);
        left
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hub.clients.remove(self);
    }
}
