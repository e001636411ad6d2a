//! A client's connection as both sides use it: its session reads, and whoever's turn it is writes.
//!
//! One lock (`reply`) orders everything that goes out: the turn, TLS, the outbox. TLS is in it because reading may have to write
//! (key updates, alerts) and both must keep one order; with one lock there is no order of locks to get wrong. Nothing blocks under it:
//! sending takes only what the socket has room for, the rest goes to the outbox. Bytes are even sent outside it (`sending`): a
//! client that has its response asks again at once, and its session is not to wait for the end of the system call that sent it.
//!
//! One exchange is open at a time. It may be written to until its last bytes are handed in, which closes it *before* they are
//! sent, so that the client's next request never finds it open.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustls::ServerConnection;

use crate::fault::Fault;
use crate::net::Stream;
use crate::plan::Listener;

use super::outbox::{Outbox, Taken};
use super::{Body, Exchange, Hub, out};

/// After the last byte is sent, the client may go on sending so long before it is cut (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// A courier that has delivered for fewer milliseconds than this says nothing about its client's speed.
const JUDGED_AFTER: u64 = 500;

/// Responses that may lie undelivered before the client's next request is taken up. Each costs its
/// bookkeeping as well, so that they are bounded by number and not by bytes alone.
const UNDELIVERED: usize = 16;

/// Bytes that may lie undelivered before the client's next request is taken up.
const UNDELIVERED_BYTES: u64 = 64 * 1024;

/// Of the room for ciphertext so much is kept for the next time.
const KEPT_WIRE: usize = 256 * 1024;

thread_local! {
    /// Ciphertext on its way from TLS to the socket.
    static WIRE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    hub: Arc<Hub>,
    stream: Stream,
    listener: Arc<Listener>,
    peer: Option<SocketAddr>,
    is_tls: bool,
    reply: Mutex<Reply>,
    turned: Condvar,
    sent: Condvar,
    /// Since when it is idle, in milliseconds of uptime; 0 while it is not.
    idle_at: AtomicU64,
    /// When to stop waiting for its end, in milliseconds of uptime; 0 is never.
    linger_until: AtomicU64,
    /// A request of it is being read.
    reading: AtomicBool,
    /// It is to end after what it has sent, whatever else it says.
    dismissed: AtomicBool,
    /// It makes least of the spool and is to be cut.
    condemned: AtomicBool,
    /// Since when a courier delivers to it, in milliseconds of uptime; 0 while none does.
    courier_since: AtomicU64,
    /// Bytes that this courier has delivered.
    courier_sent: AtomicU64,
}

#[derive(Debug)]
struct Reply {
    tls: Option<Box<ServerConnection>>,
    outbox: Outbox,
    /// A courier delivers: nobody else touches the socket's writing side.
    courier: bool,
    /// Somebody is sending outside the lock: until that is done nobody else touches the socket's writing side or the outbox.
    sending: bool,
    open: Option<Open>,
    end: End,
    /// The session waits for its turn.
    awaited: bool,
    idle_since: Instant,
    pace: Pace,
}

impl Reply {
    /// Everything handed in is with the kernel.
    fn is_delivered(&self) -> bool {
        self.outbox.unsent() == 0 && !self.sending
    }

    /// Returns whether the client's next request has to wait: another one is open, or so much of what
    /// was answered before lies undelivered that a client that never reads would fill the memory.
    fn is_occupied(&self) -> bool {
        self.open.is_some() || self.outbox.undelivered() >= UNDELIVERED || self.outbox.unsent() > UNDELIVERED_BYTES
    }
}

/// How a courier gets on, over the time that it has spent on this client.
#[derive(Debug, Default)]
struct Pace {
    spent: Duration,
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    /// The final head has gone out.
    writing: bool,
    /// The client asks for nothing more: the connection ends with this exchange, whatever its head has said.
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
    /// A client that has just come in.
    pub fn new(
        hub: &Arc<Hub>,
        stream: Stream,
        listener: Arc<Listener>,
        peer: Option<SocketAddr>,
        tls: Option<Box<ServerConnection>>,
        now: Instant,
    ) -> Arc<Self> {
        let is_tls = tls.is_some();
        let reply = Reply {
            tls,
            outbox: Outbox::default(),
            courier: false,
            sending: false,
            open: None,
            end: End::Open,
            awaited: false,
            idle_since: now,
            pace: Pace::default(),
        };
        let client = Arc::new(Self {
            hub: Arc::clone(hub),
            stream,
            listener,
            peer,
            is_tls,
            reply: Mutex::new(reply),
            turned: Condvar::new(),
            sent: Condvar::new(),
            idle_at: AtomicU64::new(hub.uptime_ms(now)),
            linger_until: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            condemned: AtomicBool::new(false),
            courier_since: AtomicU64::new(0),
            courier_sent: AtomicU64::new(0),
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
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Its address; `None` on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
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

    /// Notes whether a request of it is being read: then it is not idle, whatever became of the one before.
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

    /// Since when it is idle; `None` while an exchange is open or something is still being delivered.
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
            Some(Open { id, writing: false, .. }) if !reset && !reply.is_delivered() => return Left::Cancel(id),
            Some(Open { id, writing: false, .. }) => (Fault::ClientGoneHead, Left::Cancel(id)),
            // Whoever serves it may be waiting for the server, and would not learn of it before that says more. What it does say is
            // still given on: the client may have ended only its sending side.
            Some(Open { id, writing: true, .. }) if !reset => return Left::Cancel(id),
            Some(Open { id, writing: true, .. }) => (Fault::ClientGoneData, Left::Cancel(id)),
            None if reset => (Fault::ClientGoneData, Left::Nothing),
            None => return Left::Nothing,
        };
        self.die(&mut reply, fault);
        left
    }

    // === Writing

    /// An interim response or `100 Continue`: no turning point.
    pub fn interim(self: &Arc<Self>, bytes: &[u8]) -> Sent {
        let mut reply = self.lock_to_write();
        let sent = self.push(&mut reply, &[bytes]);
        self.outcome(&mut reply, sent)
    }

    /// A part of the open exchange's final response, more of which follows.
    pub fn send(self: &Arc<Self>, pieces: &[&[u8]]) -> Sent {
        let mut reply = self.lock_to_write();
        if let Some(open) = &mut reply.open {
            open.writing = true;
        }
        let sent = self.push(&mut reply, pieces);
        self.outcome(&mut reply, sent)
    }

    /// The last part of the open exchange's response. The exchange ends when it is delivered, or here and now.
    pub fn finish(self: &Arc<Self>, pieces: &[&[u8]], close: bool, exchange: Exchange) {
        self.end_exchange(pieces, close, true, exchange);
    }

    /// The response broke off: what is there is delivered, and nothing that looks like an end. `hard` resets the connection, where
    /// its end would look like the response's.
    pub fn cut(self: &Arc<Self>, hard: bool, exchange: Exchange) {
        if hard {
            let mut reply = self.lock_to_write();
            reply.open = None;
            self.reset(&mut reply, exchange.fault.unwrap_or(Fault::ResponseCut));
            drop(reply);
            exchange.complete();
        } else {
            self.end_exchange(&[], true, false, exchange);
        }
    }

    /// The open exchange ends with nobody to tell.
    pub fn drop_exchange(&self, exchange: Exchange) {
        let mut reply = self.reply.lock();
        reply.open = None;
        if reply.awaited {
            self.turned.notify_one();
        }
        drop(reply);
        exchange.complete();
    }

    /// Lets a courier deliver what the socket has not taken.
    pub fn hand_over(self: &Arc<Self>) {
        let mut reply = self.lock_to_write();
        self.call_courier(&mut reply);
    }

    fn end_exchange(self: &Arc<Self>, pieces: &[&[u8]], close: bool, clean: bool, mut exchange: Exchange) {
        // Who has the whole response may ask again at once: what this request took is free by then.
        exchange.body = Body::default();
        let mut reply = self.lock_to_write();
        let is_last = reply.open.take().is_some_and(|open| open.is_last);
        let ends = (close || is_last) && reply.end == End::Open;
        if ends {
            // Before the turn can be taken: what follows on this request is none.
            reply.end = End::Closing;
        }
        if reply.awaited {
            self.turned.notify_one();
        }
        exchange.bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        // What a client has not taken is bounded by its connection and holds up nobody else's requests.
        exchange.permit = None;
        let mut sent = self.push(&mut reply, pieces);
        if ends && clean && sent.is_ok() {
            sent = self.close_tls(&mut reply);
        }
        match sent {
            Err(fault) => {
                self.die(&mut reply, fault);
                exchange.fault.get_or_insert(fault);
            }
            Ok(()) if reply.outbox.unsent() > 0 => {
                reply.outbox.mark(exchange);
                self.call_courier(&mut reply);
                return;
            }
            Ok(()) => self.delivered(&mut reply),
        }
        drop(reply);
        exchange.complete();
    }

    /// The lock, with nobody sending outside it.
    fn lock_to_write(&self) -> MutexGuard<'_, Reply> {
        let mut reply = self.reply.lock();
        self.wait_sent(&mut reply);
        reply
    }

    fn wait_sent(&self, reply: &mut MutexGuard<'_, Reply>) {
        while reply.sending {
            self.sent.wait(reply);
        }
    }

    /// A clean end is said in TLS.
    fn close_tls(&self, reply: &mut MutexGuard<'_, Reply>) -> Result<(), Fault> {
        let Some(tls) = &mut reply.tls else { return Ok(()) };
        tls.send_close_notify();
        self.push(reply, &[])
    }

    /// Everything put in so far is with the kernel.
    fn delivered(&self, reply: &mut Reply) {
        let now = Instant::now();
        reply.idle_since = now;
        if reply.end == End::Closing {
            self.linger_until
                .store(self.hub.uptime_ms(now + LINGER), Ordering::Relaxed);
            self.stream.shutdown(Shutdown::Write);
        } else if reply.open.is_none() {
            self.idle_at.store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
    }

    fn outcome(&self, reply: &mut Reply, sent: Result<(), Fault>) -> Sent {
        match sent {
            Err(fault) => {
                self.die(reply, fault);
                Sent::Gone(fault)
            }
            Ok(()) => match reply.outbox.unsent() {
                0 => Sent::All,
                unsent => Sent::Pending(unsent),
            },
        }
    }

    fn call_courier(self: &Arc<Self>, reply: &mut Reply) {
        if reply.courier || reply.outbox.unsent() == 0 {
            return;
        }
        self.courier_sent.store(0, Ordering::Relaxed);
        reply.courier = true;
        reply.pace = Pace::default();
        if !self.hub.couriers.call(self) {
            reply.courier = false;
            self.die(reply, Fault::SlowClient);
        }
    }

    /// Cuts the connection. What was not delivered never will be.
    fn die(&self, reply: &mut Reply, fault: Fault) {
        if fault == Fault::SlowClient {
            // It has not read what it was sent, and shall neither keep the kernel's buffers with that nor take a part for the whole.
            self.stream.reset_on_close();
        }
        self.die_by(reply, fault, Shutdown::Both);
    }

    /// Cuts it so that nobody can take that for an end: by a reset, once all have let go of the client.
    fn reset(&self, reply: &mut Reply, fault: Fault) {
        self.stream.reset_on_close();
        // Ending the writing side would send the very end that must not be seen, unless what a courier has not delivered is in
        // front of it. The session is woken either way.
        let side = if reply.courier { Shutdown::Both } else { Shutdown::Read };
        self.die_by(reply, fault, side);
    }

    fn die_by(&self, reply: &mut Reply, fault: Fault, side: Shutdown) {
        if matches!(reply.end, End::Dead(_)) {
            return;
        }
        reply.end = End::Dead(fault);
        self.stream.shutdown(side);
        // A courier that is still with it ends by itself; there is no more to gain from cutting this one.
        self.courier_since.store(0, Ordering::Relaxed);
        for mut exchange in reply.outbox.abandon() {
            // Of everything in there the head was on its way.
            exchange.fault.get_or_insert(match fault {
                Fault::ClientGoneHead => Fault::ClientGoneData,
                fault => fault,
            });
            exchange.complete();
        }
        if reply.awaited {
            self.turned.notify_one();
        }
    }

    fn push(&self, reply: &mut MutexGuard<'_, Reply>, pieces: &[&[u8]]) -> Result<(), Fault> {
        if let End::Dead(fault) = reply.end {
            return Err(fault);
        }
        let mut slices = [IoSlice::new(&[]); 4];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        let slices = &mut slices[..pieces.len().min(4)];
        if reply.tls.is_none() {
            return self.push_raw(reply, slices);
        }
        WIRE.with_borrow_mut(|wire| {
            wire.clear();
            let encrypted = reply.tls.as_mut().map(|tls| out::encrypt(tls, slices, wire));
            let pushed = match encrypted {
                Some(Err(_)) => Err(Fault::ClientGoneData),
                _ => self.push_raw(reply, &mut [IoSlice::new(wire)]),
            };
            wire.shrink_to(KEPT_WIRE);
            pushed
        })
    }

    /// What is pushed here goes out as it is.
    fn push_raw(&self, reply: &mut MutexGuard<'_, Reply>, mut rest: &mut [IoSlice<'_>]) -> Result<(), Fault> {
        let fault_of = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull => Fault::SlowClient,
            _ => Fault::ClientGoneData,
        };
        if !reply.courier {
            out::flush(&self.stream, &mut reply.outbox).map_err(fault_of)?;
            if reply.outbox.unsent() == 0 {
                self.send_unlocked(reply, &mut rest).map_err(fault_of)?;
                if rest.is_empty() {
                    return Ok(());
                }
                if let End::Dead(fault) = reply.end {
                    return Err(fault);
                }
            }
        }
        out::keep(&self.hub, &mut reply.outbox, rest, self.listener.limit.response_memory).map_err(fault_of)
    }

    /// Sends what the socket has room for, outside the lock: the caller's next step must not rely on what it knew before.
    fn send_unlocked(&self, reply: &mut MutexGuard<'_, Reply>, rest: &mut &mut [IoSlice<'_>]) -> io::Result<()> {
        // Leaves only what has bytes.
        IoSlice::advance_slices(rest, 0);
        if rest.is_empty() {
            return Ok(());
        }
        reply.sending = true;
        let sent = MutexGuard::unlocked(reply, || self.stream.write_pieces_now(rest));
        reply.sending = false;
        self.sent.notify_all();
        match sent {
            Ok(sent) => IoSlice::advance_slices(rest, sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    // === TLS, reading

    /// Feeds ciphertext in and takes plaintext out. What TLS has to say to that goes out in its order.
    pub fn feed(self: &Arc<Self>, cipher: &mut &[u8], into: &mut [u8]) -> Result<Fed, TlsError> {
        let mut reply = self.reply.lock();
        let fed = loop {
            let Some(tls) = &mut reply.tls else {
                return Ok(Fed::Ended);
            };
            match tls.reader().read(into) {
                Ok(0) => break Ok(Fed::Ended),
                Ok(length) => break Ok(Fed::Plain(length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break Ok(Fed::Ended),
            }
            if cipher.is_empty() {
                break Ok(Fed::More);
            }
            let read = tls.read_tls(cipher);
            let processed = tls.process_new_packets();
            if tls.wants_write() {
                self.wait_sent(&mut reply);
                // A connection that cannot be written to shows itself in reading as well.
                let _unwritable = self.push(&mut reply, &[]);
                // A session says nothing more in most cases; there are many.
                WIRE.take();
            }
            match (read, processed) {
                (_, Err(error)) => break Err(TlsError(error)),
                (Err(error), _) => break Err(TlsError(rustls::Error::General(error.to_string()))),
                (Ok(_), Ok(_)) => {}
            }
        };
        if reply.open.is_none() {
            self.call_courier(&mut reply);
        }
        fed
    }

    /// The handshake is over.
    pub fn is_greeted(&self) -> bool {
        self.reply.lock().tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// Nothing more will be asked: ends the writing side, cleanly for TLS, once all that is on its way has gone out.
    pub fn say_goodbye(self: &Arc<Self>) {
        let mut reply = self.lock_to_write();
        if let Some(open) = &mut reply.open {
            open.is_last = true;
        } else if reply.end == End::Open {
            reply.end = End::Closing;
            match self.close_tls(&mut reply) {
                Ok(()) if reply.outbox.unsent() > 0 => self.call_courier(&mut reply),
                Ok(()) => self.delivered(&mut reply),
                Err(fault) => self.die(&mut reply, fault),
            }
        }
    }

    // === For the courier

    /// The next bytes to deliver; `None` once there are none, and then the courier is released.
    pub(super) fn next_delivery(&self) -> Option<Taken> {
        let mut reply = self.reply.lock();
        match reply.outbox.take() {
            Ok(Some(taken)) => Some(taken),
            Ok(None) => {
                self.release_courier(&mut reply);
                None
            }
            Err(error) => {
                log::error!("spool: reading back failed: {error}");
                self.release_courier(&mut reply);
                self.die(&mut reply, Fault::Internal);
                None
            }
        }
    }

    /// A courier has come. (While a client waits for one, its pace is not its fault.)
    pub(super) fn greet_courier(&self, now: Instant) {
        if self.courier_since.load(Ordering::Relaxed) == 0 {
            self.courier_since.store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
    }

    /// So many of the bytes taken are with the kernel, after such a time. `false` if that is too slow.
    pub(super) fn count_delivery(&self, bytes: usize, took: Duration) -> bool {
        self.courier_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut reply = self.reply.lock();
        if matches!(reply.end, End::Dead(_)) {
            // It was cut meanwhile: the outbox knows nothing of these bytes any more.
            return false;
        }
        reply.pace.spent += took;
        reply.pace.sent += bytes as u64;
        let patience = self.listener.timeout.write;
        if reply.pace.spent >= patience {
            let least = (self.listener.limit.min_rate as f64 * patience.as_secs_f64()).max(1.0);
            if (reply.pace.sent as f64) < least {
                return false;
            }
            reply.pace = Pace::default();
        }
        reply.outbox.sent(bytes);
        while let Some(exchange) = reply.outbox.delivered() {
            exchange.complete();
        }
        if reply.outbox.unsent() == 0 && reply.open.is_none() {
            self.delivered(&mut reply);
        }
        if reply.awaited && !reply.is_occupied() {
            self.turned.notify_one();
        }
        true
    }

    /// The courier has to go on to others and will be back; so much of what it took is sent.
    pub(super) fn interrupt_delivery(&self, taken: Taken, done: usize) {
        let mut reply = self.reply.lock();
        if !matches!(reply.end, End::Dead(_)) {
            reply.outbox.give_back(taken, done);
        }
    }

    /// The courier gives up.
    pub(super) fn fail_delivery(&self, fault: Fault) {
        let mut reply = self.reply.lock();
        self.release_courier(&mut reply);
        let fault = if self.condemned.load(Ordering::Relaxed) {
            Fault::SlowClient
        } else {
            fault
        };
        self.die(&mut reply, fault);
    }

    fn release_courier(&self, reply: &mut Reply) {
        reply.courier = false;
        reply.idle_since = Instant::now();
        self.courier_since.store(0, Ordering::Relaxed);
    }

    /// The process ends: what is not finished is to be seen as cut.
    pub(super) fn abandon(&self, fault: Fault) {
        let mut reply = self.lock_to_write();
        if reply.open.is_some() || !reply.is_delivered() {
            self.reset(&mut reply, fault);
        }
    }

    // === For the registry, which may not wait for `reply`

    pub(super) fn idle_at(&self) -> u64 {
        self.idle_at.load(Ordering::Relaxed)
    }

    pub(super) fn end_lingering(&self, now_ms: u64) {
        let until = self.linger_until.load(Ordering::Relaxed);
        if until != 0 && now_ms >= until {
            self.stream.shutdown(Shutdown::Both);
        }
    }

    /// How well it takes what a courier brings, least first; `None` without a courier. Who has had one for a moment only is not
    /// judged before all others, and of equals the one who has had it longest is the slowest.
    pub(super) fn progress(&self, now_ms: u64) -> Option<(bool, u64, u64)> {
        let since = self.courier_since.load(Ordering::Relaxed);
        let sent = self.courier_sent.load(Ordering::Relaxed);
        let passed = now_ms.saturating_sub(since);
        (since != 0).then(|| (passed < JUDGED_AFTER, sent.saturating_mul(1024) / (passed + 1), since))
    }

    /// Cuts it to make room, here and now if possible: its courier may come to it only when the room is used up.
    pub(super) fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
        // Who calls holds another client's lock, or this one's.
        if let Some(mut reply) = self.reply.try_lock() {
            self.die(&mut reply, Fault::SlowClient);
        } else {
            self.stream.reset_on_close();
            self.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hub.clients.remove(self);
    }
}
