//! What goes out to a client: through TLS if there is any, then to the socket as far as it has
//! room, then to the outbox. Where that has no room either, the worker waits for the client.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use rustls::ServerConnection;

use crate::base::time::after;
use crate::exchange::registry::Short;
use crate::exchange::spool::{Share, SpoolFile};
use crate::exchange::{Body, Exchange};
use crate::fault::Fault;

use super::pace::{Limit, Pace};
use super::{Client, End, Reply, Sent};

/// After the last byte is sent, the client may go on sending so long before it is cut (RFC 9112
/// §9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Of the room for ciphertext so much is kept for the next time.
const KEPT_WIRE: usize = 256 * 1024;

/// A thread that waits for a client looks so often whether that makes progress.
const LOOK: Duration = Duration::from_millis(100);

/// What becomes of bytes for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// The thread waits until the client has taken others. For what may be long.
    Wait,
    /// They are kept all the same. For short answers of our own, which any thread may give.
    Keep,
}

thread_local! {
    /// Ciphertext on its way from TLS to the socket.
    static WIRE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives back the room for ciphertext of this thread, which writes rarely.
pub(super) fn forget_wire() {
    WIRE.take();
}

impl Client {
    /// An interim response or `100 Continue`: no turning point. Waits for room like [`Self::send`].
    pub(super) fn interim(self: &Arc<Self>, bytes: &[u8]) -> Sent {
        let mut reply = self.lock_to_write();
        let sent = self.push(&mut reply, &[bytes], Without::Wait);
        self.outcome(&mut reply, sent)
    }

    /// A part of the open exchange's final response, more of which follows. What neither the socket
    /// nor memory nor the spool has room for is waited with, as long as the client takes enough of
    /// the rest.
    pub(super) fn send(self: &Arc<Self>, pieces: &[&[u8]]) -> Sent {
        let mut reply = self.lock_to_write();
        if let Some(open) = &mut reply.open {
            open.writing = true;
        }
        let sent = self.push(&mut reply, pieces, Without::Wait);
        self.outcome(&mut reply, sent)
    }

    /// A whole answer to the open exchange, or the rest of one, that was made here and is short. It
    /// never waits. The exchange ends when it is delivered, or here and now.
    pub(super) fn finish(self: &Arc<Self>, pieces: &[&[u8]], close: bool, exchange: Exchange) {
        self.end_exchange(pieces, close, Some(Without::Keep), exchange);
    }

    /// The last part of the open exchange's response, which waits for room like [`Self::send`].
    pub(super) fn finish_response(
        self: &Arc<Self>,
        pieces: &[&[u8]],
        close: bool,
        exchange: Exchange,
    ) {
        self.end_exchange(pieces, close, Some(Without::Wait), exchange);
    }

    /// The response broke off: what is there is delivered, and nothing that looks like an end.
    /// `hard` resets the connection, where its end would look like the response's.
    pub(super) fn cut(self: &Arc<Self>, hard: bool, exchange: Exchange) {
        if hard {
            let mut reply = self.lock_to_write();
            reply.open = None;
            self.reset(&mut reply, exchange.fault.unwrap_or(Fault::ResponseCut));
            drop(reply);
            exchange.complete();
        } else {
            self.end_exchange(&[], true, None, exchange);
        }
    }

    /// The open exchange ends with nobody to tell.
    pub(in crate::exchange) fn drop_exchange(&self, exchange: Exchange) {
        let mut reply = self.reply.lock();
        reply.open = None;
        if reply.awaited {
            self.turned.notify_one();
        }
        drop(reply);
        exchange.complete();
    }

    /// Lets a courier deliver what the socket has not taken.
    pub(in crate::exchange) fn hand_over(self: &Arc<Self>) {
        let mut reply = self.lock_to_write();
        self.call_courier(&mut reply);
    }

    /// `clean` says how the end is handed in; without it nothing may look like an end.
    fn end_exchange(
        self: &Arc<Self>,
        pieces: &[&[u8]],
        close: bool,
        clean: Option<Without>,
        mut exchange: Exchange,
    ) {
        // Who has the whole response may ask again at once: what this request took is free by then.
        exchange.request.body = Body::default();
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
        // What a client has not taken is bounded by its connection and holds up nobody else's
        // requests.
        exchange.permit = None;
        let mut sent = self.push(&mut reply, pieces, clean.unwrap_or(Without::Keep));
        if ends && clean.is_some() && sent.is_ok() {
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
    pub(super) fn lock_to_write(&self) -> MutexGuard<'_, Reply> {
        let mut reply = self.reply.lock();
        self.wait_sent(&mut reply);
        reply
    }

    pub(super) fn wait_sent(&self, reply: &mut MutexGuard<'_, Reply>) {
        while reply.sending || reply.in_hand {
            self.sent.wait(reply);
        }
    }

    /// A clean end is said in TLS.
    fn close_tls(self: &Arc<Self>, reply: &mut MutexGuard<'_, Reply>) -> Result<(), Fault> {
        let Some(tls) = &mut reply.tls else {
            return Ok(());
        };
        tls.send_close_notify();
        self.push(reply, &[], Without::Keep)
    }

    /// Sends what TLS has to say of itself (rustls bounds how often a client can ask for that).
    pub(super) fn push_tls(self: &Arc<Self>, reply: &mut MutexGuard<'_, Reply>) {
        // A connection that cannot be written to shows itself in reading as well.
        let _unwritable = self.push(reply, &[], Without::Keep);
    }

    /// Everything put in so far is with the kernel.
    pub(super) fn delivered(&self, reply: &mut Reply) {
        let now = Instant::now();
        reply.idle_since = now;
        if reply.end == End::Closing {
            self.linger_until
                .store(self.hub.uptime_ms(after(now, LINGER)), Ordering::Relaxed);
            self.stream.shutdown(Shutdown::Write);
        } else if reply.open.is_none() {
            self.idle_at
                .store(self.hub.uptime_ms(now), Ordering::Relaxed);
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

    pub(super) fn call_courier(self: &Arc<Self>, reply: &mut Reply) {
        if reply.courier || reply.outbox.unsent() == 0 {
            return;
        }
        reply.courier = true;
        if let Err(error) = self.hub.couriers.call(self) {
            log::warn!("a client's socket cannot be watched: {error}");
            reply.courier = false;
            self.die(reply, Fault::Internal);
        }
    }

    /// Cuts the connection. What was not delivered never will be.
    pub(super) fn die(&self, reply: &mut Reply, fault: Fault) {
        if matches!(fault, Fault::SlowClient | Fault::GaveWayResponse) {
            // It has not read what it was sent, and shall neither keep the kernel's buffers with
            // that nor take a part for the whole.
            self.stream.reset_on_close();
        }
        self.die_by(reply, fault, Shutdown::Both);
    }

    /// Cuts it so that nobody can take that for an end: by a reset, once all have let go of the
    /// client.
    pub(super) fn reset(&self, reply: &mut Reply, fault: Fault) {
        self.stream.reset_on_close();
        // Ending the writing side would send the very end that must not be seen, unless what a
        // courier has not delivered is in front of it. The session is woken either way.
        let side = if reply.courier {
            Shutdown::Both
        } else {
            Shutdown::Read
        };
        self.die_by(reply, fault, side);
    }

    fn die_by(&self, reply: &mut Reply, fault: Fault, side: Shutdown) {
        if matches!(reply.end, End::Dead(_)) {
            return;
        }
        let fault = match fault {
            // It was ended here, perhaps by a thread that could not say so.
            Fault::ClientGoneData if self.is_condemned() => Fault::GaveWayResponse,
            fault => fault,
        };
        reply.end = End::Dead(fault);
        self.stream.shutdown(side);
        // A courier that is still with it ends by itself.
        self.note_backlog(reply, false);
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
        self.room.notify_all();
    }

    fn push(
        self: &Arc<Self>,
        reply: &mut MutexGuard<'_, Reply>,
        pieces: &[&[u8]],
        without: Without,
    ) -> Result<(), Fault> {
        if let End::Dead(fault) = reply.end {
            return Err(fault);
        }
        let mut slices = [IoSlice::new(&[]); 4];
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        let slices = &mut slices[..pieces.len().min(4)];
        if reply.tls.is_none() {
            return self.push_raw(reply, slices, without);
        }
        WIRE.with_borrow_mut(|wire| {
            wire.clear();
            let encrypted = reply.tls.as_mut().map(|tls| encrypt(tls, slices, wire));
            let pushed = match encrypted {
                Some(Err(_)) => Err(Fault::ClientGoneData),
                _ => self.push_raw(reply, &mut [IoSlice::new(wire)], without),
            };
            wire.shrink_to(KEPT_WIRE);
            pushed
        })
    }

    /// What is pushed here goes out as it is.
    fn push_raw(
        self: &Arc<Self>,
        reply: &mut MutexGuard<'_, Reply>,
        rest: &mut [IoSlice<'_>],
        without: Without,
    ) -> Result<(), Fault> {
        let pushed = self.push_rest(reply, rest, without);
        if reply.in_hand {
            reply.in_hand = false;
            self.sent.notify_all();
            self.note_taken(reply, 0);
            if reply.awaited && !reply.is_occupied() {
                self.turned.notify_one();
            }
        }
        pushed
    }

    fn push_rest(
        self: &Arc<Self>,
        reply: &mut MutexGuard<'_, Reply>,
        mut rest: &mut [IoSlice<'_>],
        without: Without,
    ) -> Result<(), Fault> {
        loop {
            // Leaves only what has bytes.
            IoSlice::advance_slices(&mut rest, 0);
            if !reply.courier {
                self.flush(reply).map_err(|_| Fault::ClientGoneData)?;
                if reply.outbox.unsent() == 0 {
                    self.send_unlocked(reply, &mut rest)
                        .map_err(|_| Fault::ClientGoneData)?;
                }
            }
            alive(reply)?;
            if rest.is_empty() {
                if !reply.in_hand && reply.outbox.unsent() == 0 {
                    // All of it went out at once: the client keeps up.
                    reply.pace = None;
                }
                return Ok(());
            }
            let is_bounded = self.keep(reply, &mut rest);
            alive(reply)?;
            if rest.is_empty() {
                self.note_backlog(reply, true);
                return Ok(());
            }
            match without {
                Without::Wait => self.wait_for_room(reply, is_bounded)?,
                Without::Keep => {
                    rest.iter()
                        .for_each(|piece| reply.outbox.put_in_excess(piece));
                    self.note_backlog(reply, true);
                    return Ok(());
                }
            }
        }
    }

    /// Sends what is in the outbox's memory as far as the socket has room. (What is in the file is
    /// a courier's.)
    fn flush(&self, reply: &mut Reply) -> io::Result<()> {
        while let Some(front) = reply.outbox.front() {
            match self.stream.write_now(front) {
                Ok(sent) => {
                    reply.outbox.advance(sent);
                    self.note_taken(reply, sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Keeps what the socket has no room for, as far as there is room: in memory, then in the
    /// spool. Returns whether the rest is beyond what a client of this listener may have there,
    /// which is no lack of room.
    fn keep(&self, reply: &mut MutexGuard<'_, Reply>, rest: &mut &mut [IoSlice<'_>]) -> bool {
        let limit = &self.listener.limit;
        while let Some(piece) = rest.first() {
            let kept = reply
                .outbox
                .put(piece, limit.response_memory, &self.hub.buffers);
            IoSlice::advance_slices(rest, kept);
            if kept == 0 {
                break;
            }
        }
        while let Some(piece) = rest.first() {
            let Some((file, offset, left)) = reply.outbox.end_of_file(limit.response_spool) else {
                return true;
            };
            let part = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            // The disk may be slow, and the session and the courier need the lock.
            reply.sending = true;
            let written = MutexGuard::unlocked(reply, || {
                let create = || SpoolFile::create(&self.hub.spool, Share::Responses).map(Arc::new);
                file.or_else(create)
                    .filter(|file| file.append(part, offset))
            });
            self.end_sending(reply);
            let Some(file) = written else { return false };
            if matches!(reply.end, End::Dead(_)) {
                return false;
            }
            reply.outbox.wrote(file, part.len());
            self.spooled.store(true, Ordering::Relaxed);
            let kept = part.len();
            IoSlice::advance_slices(rest, kept);
        }
        false
    }

    /// Waits until the client has taken something, at most for a moment. Fails if the client is
    /// gone or takes too little. If others have what is lacking, the one of them that has made no
    /// progress for longest gives way.
    fn wait_for_room(
        self: &Arc<Self>,
        reply: &mut MutexGuard<'_, Reply>,
        is_bounded: bool,
    ) -> Result<(), Fault> {
        reply.in_hand = true;
        self.note_backlog(reply, true);
        self.call_courier(reply);
        if reply.outbox.unsent() > 0 {
            self.room.wait_for(reply, LOOK);
        } else {
            // What it takes is counted when it has taken it.
            let _looked_at_anyway = MutexGuard::unlocked(reply, || self.stream.wait_for_room(LOOK));
        }
        alive(reply)?;
        let now = Instant::now();
        if self.is_too_slow(reply, now) {
            return Err(Fault::SlowClient);
        }
        if !is_bounded {
            MutexGuard::unlocked(reply, || {
                self.hub.clients.give_way(Short::Responses, now, &self.hub)
            });
        }
        Ok(())
    }

    /// Returns whether the client takes too little of what lies undelivered.
    pub(super) fn is_too_slow(&self, reply: &mut Reply, now: Instant) -> bool {
        let Some(pace) = &mut reply.pace else {
            return false;
        };
        // A socket has room again only when a third of its buffer is free: what a slow client takes
        // until then is seen in what the kernel still has.
        let limit = Limit::of(&self.listener);
        if pace.look(|| self.stream.queued(), limit, now) {
            self.taken_at
                .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
        pace.is_too_slow(limit, now)
    }

    /// Notes whether something lies undelivered. The client's time runs from then on.
    pub(super) fn note_backlog(&self, reply: &mut Reply, is_there: bool) {
        match &reply.pace {
            Some(pace) if pace.is_paused() != is_there => return,
            None if !is_there => return,
            Some(_) | None => {}
        }
        let now = Instant::now();
        match &mut reply.pace {
            None => reply.pace = Some(Pace::starting(now)),
            Some(pace) if is_there => pace.resume(now),
            Some(pace) => pace.pause(now),
        }
        let since = if is_there { self.hub.uptime_ms(now) } else { 0 };
        self.taken_at.store(since, Ordering::Relaxed);
        self.spooled
            .store(reply.outbox.is_spooled(), Ordering::Relaxed);
    }

    /// The client has taken so many of the bytes that lay undelivered.
    pub(super) fn note_taken(&self, reply: &mut Reply, bytes: usize) {
        let Some(pace) = &mut reply.pace else { return };
        if bytes > 0 && !pace.is_paused() {
            let now = Instant::now();
            pace.took(bytes as u64, Limit::of(&self.listener), now);
            self.taken_at
                .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
        self.spooled
            .store(reply.outbox.is_spooled(), Ordering::Relaxed);
        if reply.outbox.unsent() == 0 && !reply.in_hand {
            // A writer that has more will say so.
            self.note_backlog(reply, false);
        }
    }

    fn end_sending(&self, reply: &mut Reply) {
        reply.sending = false;
        self.sent.notify_all();
    }

    /// Sends what the socket has room for, outside the lock: the caller's next step must not rely
    /// on what it knew before.
    fn send_unlocked(
        &self,
        reply: &mut MutexGuard<'_, Reply>,
        rest: &mut &mut [IoSlice<'_>],
    ) -> io::Result<()> {
        if rest.is_empty() {
            return Ok(());
        }
        reply.sending = true;
        let sent = MutexGuard::unlocked(reply, || self.stream.write_pieces_now(rest));
        self.end_sending(reply);
        match sent {
            Ok(sent) => {
                IoSlice::advance_slices(rest, sent);
                self.note_taken(reply, sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Nothing more will be asked: ends the writing side, cleanly for TLS, once all that is on its
    /// way has gone out.
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
}

fn alive(reply: &Reply) -> Result<(), Fault> {
    match reply.end {
        End::Dead(fault) => Err(fault),
        End::Open | End::Closing => Ok(()),
    }
}

/// Gives TLS plaintext and appends what it makes of it, and what it has to say besides, to `wire`.
/// What is given together goes into one record if it fits.
fn encrypt(
    tls: &mut ServerConnection,
    mut plain: &mut [IoSlice<'_>],
    wire: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        // Leaves only what has bytes.
        IoSlice::advance_slices(&mut plain, 0);
        if !plain.is_empty() {
            // It takes no more than 64 KiB at once, until those have gone out.
            let taken = tls.writer().write_vectored(plain)?;
            IoSlice::advance_slices(&mut plain, taken);
        }
        while tls.wants_write() {
            tls.write_tls(wire)?;
        }
        if plain.is_empty() {
            return Ok(());
        }
    }
}
