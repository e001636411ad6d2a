//! What goes out to a client: through TLS if there is any, then to the socket as far as it has
//! room, then to the outbox. Where that has no room either, the worker waits for the client.

use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;
use rustls::ServerConnection;

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::courier::Carried;
use crate::exchange::spool::{Share, SpoolFile};
use crate::fault::Fault;

use super::ending::Ending;
use super::pace::{Limit, Pace};
use super::shared::{End, Guarded, Out, Sent, Wire};
use super::writer::Writer;

/// After the last byte is sent, the client may go on sending so long before it is cut (RFC 9112
/// §9.6).
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Of the room for ciphertext so much is kept for the next time.
const KEPT_WIRE: usize = 256 * 1024;

/// A thread that waits for a client looks so often whether that makes progress.
const LOOK: Duration = Duration::from_millis(100);

/// What becomes of bytes for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::exchange) enum Without {
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

impl<T: Guarded, E: Ending> Wire<T, E> {
    /// Says a clean end in TLS, if there is TLS.
    pub(in crate::exchange) fn close_tls(
        self: &Arc<Self>,
        out: &mut MutexGuard<'_, Out<T, E>>,
    ) -> Result<(), Fault> {
        let Some(tls) = &mut out.tls else {
            return Ok(());
        };
        tls.send_close_notify();
        self.push(out, [], Without::Keep)
    }

    /// Sends what TLS has to say of itself (rustls bounds how often a client can ask for that).
    pub(super) fn push_tls(self: &Arc<Self>, out: &mut MutexGuard<'_, Out<T, E>>) {
        // A connection that cannot be written to shows itself in reading as well.
        let _ = self.push(out, [], Without::Keep);
    }

    /// Everything put in so far is with the kernel.
    pub(in crate::exchange) fn delivered(&self, out: &mut Out<T, E>) {
        let now = Instant::now();
        out.idle_since = now;
        if out.end == End::Closing {
            self.marks
                .linger_until
                .store(self.hub.uptime_ms(after(now, LINGER)), Ordering::Relaxed);
            self.transport.shutdown(Shutdown::Write);
        } else if !out.turn.is_busy() {
            self.marks
                .idle_at
                .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
    }

    /// Returns what `sent` means to the thread that handed something in.
    pub(in crate::exchange) fn outcome(
        &self,
        out: &mut Out<T, E>,
        sent: Result<(), Fault>,
    ) -> Sent {
        match sent {
            Err(fault) => Sent::Gone(self.die(out, fault)),
            Ok(()) => match out.outbox.unsent() {
                0 => Sent::All,
                unsent => Sent::Pending(unsent),
            },
        }
    }

    /// Has a courier deliver what the socket has not taken, if there is any.
    pub(in crate::exchange) fn call_courier(self: &Arc<Self>, out: &mut Out<T, E>) {
        if out.is_with_courier || out.outbox.unsent() == 0 {
            return;
        }
        out.is_with_courier = true;
        if let Err(error) = self
            .hub
            .couriers
            .call(&(Arc::clone(self) as Arc<dyn Carried>))
        {
            log::warn!("a client's socket cannot be watched: {error}");
            out.is_with_courier = false;
            self.die(out, Fault::Internal);
        }
    }

    /// Cuts the connection. What was not delivered never will be. Returns why it is cut, which may
    /// be another thread's reason.
    pub(in crate::exchange) fn die(&self, out: &mut Out<T, E>, fault: Fault) -> Fault {
        if matches!(fault, Fault::SlowClient | Fault::GaveWayResponse) {
            // It has not read what it was sent, and shall neither keep the kernel's buffers with
            // that nor take a part for the whole.
            self.transport.reset_on_close();
        }
        self.die_by(out, fault, Shutdown::Both)
    }

    /// Cuts the connection so that this cannot be taken for an end: by a reset, once all have let
    /// go of the client. Returns why it is cut.
    pub(in crate::exchange) fn reset(&self, out: &mut Out<T, E>, fault: Fault) -> Fault {
        self.transport.reset_on_close();
        // Ending the writing side would send the very end that must not be seen, unless what a
        // courier has not delivered is in front of it. The session is woken either way.
        let side = if out.is_with_courier {
            Shutdown::Both
        } else {
            Shutdown::Read
        };
        self.die_by(out, fault, side)
    }

    fn die_by(&self, out: &mut Out<T, E>, fault: Fault, side: Shutdown) -> Fault {
        if let End::Dead(fault) = out.end {
            return fault;
        }
        let fault = match fault {
            // It was ended here, perhaps by a thread that could not say so.
            Fault::ClientGoneData if self.is_condemned() => Fault::GaveWayResponse,
            fault => fault,
        };
        out.end = End::Dead(fault);
        self.transport.shutdown(side);
        // A courier that is still with it ends by itself.
        self.note_backlog(out, false);
        for mut ending in out.outbox.abandon() {
            // Of everything in there the head was on its way.
            ending.blame(match fault {
                Fault::ClientGoneHead => Fault::ClientGoneData,
                fault => fault,
            });
            ending.complete();
        }
        self.wake_awaiting(out);
        self.room.notify_all();
        fault
    }

    /// Hands in these pieces, in one system call if the socket has room for them.
    pub(in crate::exchange) fn push<const N: usize>(
        self: &Arc<Self>,
        out: &mut MutexGuard<'_, Out<T, E>>,
        pieces: [&[u8]; N],
        without: Without,
    ) -> Result<(), Fault> {
        self.push_slices(out, &mut pieces.map(IoSlice::new), without)
    }

    fn push_slices(
        self: &Arc<Self>,
        out: &mut MutexGuard<'_, Out<T, E>>,
        slices: &mut [IoSlice<'_>],
        without: Without,
    ) -> Result<(), Fault> {
        out.alive()?;
        if out.tls.is_none() {
            return self.push_raw(out, slices, without);
        }
        WIRE.with_borrow_mut(|wire| {
            wire.clear();
            let encrypted = out.tls.as_mut().map(|tls| encrypt(tls, slices, wire));
            let pushed = match encrypted {
                Some(Err(_)) => Err(Fault::ClientGoneData),
                _ => self.push_raw(out, &mut [IoSlice::new(wire)], without),
            };
            wire.shrink_to(KEPT_WIRE);
            pushed
        })
    }

    /// Sends bytes that are encrypted, or need not be, and then lets go of the writer.
    fn push_raw(
        self: &Arc<Self>,
        out: &mut MutexGuard<'_, Out<T, E>>,
        rest: &mut [IoSlice<'_>],
        without: Without,
    ) -> Result<(), Fault> {
        // A panic must not leave a writer behind that others wait for.
        let pushed = catch_unwind(AssertUnwindSafe(|| self.push_rest(out, rest, without)))
            .unwrap_or_else(|panic| {
                out.writer = Writer::None;
                self.die(out, Fault::Internal);
                self.sent.notify_all();
                resume_unwind(panic)
            });
        if out.writer.let_go() {
            self.sent.notify_all();
            self.note_taken(out, 0);
            if !out.is_occupied() {
                self.wake_awaiting(out);
            }
        }
        pushed
    }

    fn push_rest(
        self: &Arc<Self>,
        out: &mut MutexGuard<'_, Out<T, E>>,
        mut rest: &mut [IoSlice<'_>],
        without: Without,
    ) -> Result<(), Fault> {
        // Leaves only what has bytes.
        IoSlice::advance_slices(&mut rest, 0);
        let has_any = !rest.is_empty();
        loop {
            if !out.is_with_courier {
                self.flush(out).map_err(|_| Fault::ClientGoneData)?;
                if out.outbox.unsent() == 0 {
                    self.send_unlocked(out, &mut rest)
                        .map_err(|_| Fault::ClientGoneData)?;
                }
            }
            out.alive()?;
            if rest.is_empty() {
                if has_any && !out.writer.is_holding() && out.outbox.unsent() == 0 {
                    // All of it went out at once: the client keeps up.
                    out.pace = None;
                }
                return Ok(());
            }
            self.keep(out, &mut rest);
            out.alive()?;
            if rest.is_empty() {
                self.note_backlog(out, true);
                return Ok(());
            }
            match without {
                Without::Wait => self.wait_for_room(out)?,
                Without::Keep => {
                    rest.iter()
                        .for_each(|piece| out.outbox.put_in_excess(piece));
                    self.note_backlog(out, true);
                    return Ok(());
                }
            }
        }
    }

    /// Sends what is in the outbox's memory as far as the socket has room. (What is in the file is
    /// a courier's.)
    fn flush(&self, out: &mut Out<T, E>) -> io::Result<()> {
        while let Some(front) = out.outbox.front() {
            match self.transport.write_now(front) {
                Ok(sent) => {
                    out.outbox.advance(sent);
                    self.note_taken(out, sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Keeps what the socket has no room for, as far as there is room: in memory, then in the
    /// spool.
    fn keep(&self, out: &mut MutexGuard<'_, Out<T, E>>, rest: &mut &mut [IoSlice<'_>]) {
        let limit = &self.listener().limit;
        while let Some(piece) = rest.first() {
            let kept = out
                .outbox
                .put(piece, limit.response_memory, &self.hub.buffers);
            IoSlice::advance_slices(rest, kept);
            if kept == 0 {
                break;
            }
        }
        while let Some(piece) = rest.first() {
            let most = if out.may_spool {
                limit.response_spool
            } else {
                0
            };
            let Some((file, offset, left)) = out.outbox.end_of_file(most) else {
                return;
            };
            let part = &piece[..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            // The disk may be slow, and the session and the courier need the lock.
            out.writer.begin_sending();
            let written = MutexGuard::unlocked(out, || {
                let create = || SpoolFile::create(&self.hub.spool, Share::Responses).map(Arc::new);
                file.or_else(create)
                    .filter(|file| file.append(part, offset))
            });
            self.end_sending(out);
            let Some(file) = written else { return };
            if matches!(out.end, End::Dead(_)) {
                return;
            }
            out.outbox.wrote(file, part.len());
            let kept = part.len();
            IoSlice::advance_slices(rest, kept);
        }
    }

    /// Returns whether so many bytes more have room until the client takes them, in memory or in
    /// the spool.
    pub(in crate::exchange) fn has_room(&self, bytes: u64) -> bool {
        let limit = &self.listener().limit;
        let out = self.lock();
        let in_file = || out.outbox.end_of_file(limit.response_spool);
        out.outbox.has_memory(bytes, limit.response_memory)
            || out.may_spool
                && in_file().is_some_and(|(_, _, left)| bytes <= left)
                && self.hub.spool.has_room(Share::Responses, bytes)
    }

    /// Nothing more of what is said now goes to the spool.
    pub(in crate::exchange) fn stop_spooling(&self) {
        self.lock().may_spool = false;
    }

    /// Waits until the client has taken something, at most for a moment. Fails if the client is
    /// gone or takes too little, and for no other reason: nobody is cut because room is lacking.
    fn wait_for_room(self: &Arc<Self>, out: &mut MutexGuard<'_, Out<T, E>>) -> Result<(), Fault> {
        out.writer.hold();
        self.note_backlog(out, true);
        self.call_courier(out);
        Point::WireWait.pass();
        if out.outbox.unsent() > 0 {
            self.room.wait_for(out, LOOK);
        } else {
            // What it takes is counted when it has taken it.
            let _ = MutexGuard::unlocked(out, || self.transport.wait_for_room(LOOK));
        }
        out.alive()?;
        if self.is_too_slow(out, Instant::now()) {
            return Err(Fault::SlowClient);
        }
        Ok(())
    }

    /// Returns whether the client takes too little of what lies undelivered.
    pub(super) fn is_too_slow(&self, out: &mut Out<T, E>, now: Instant) -> bool {
        let Some(pace) = &mut out.pace else {
            return false;
        };
        // A socket has room again only when a third of its buffer is free: what a slow client takes
        // until then is seen in what the kernel still has.
        let limit = Limit::of(self.listener());
        if pace.look(|| self.transport.queued(), limit, now) {
            self.marks
                .taken_at
                .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
        pace.is_too_slow(limit, now)
    }

    /// Starts the client's time if something lies undelivered, and stops it otherwise.
    pub(super) fn note_backlog(&self, out: &mut Out<T, E>, is_there: bool) {
        match &out.pace {
            Some(pace) if pace.is_paused() != is_there => return,
            None if !is_there => return,
            Some(_) | None => {}
        }
        let now = Instant::now();
        match &mut out.pace {
            None => out.pace = Some(Pace::starting(now)),
            Some(pace) if is_there => pace.resume(now),
            Some(pace) => pace.pause(now),
        }
        let since = if is_there { self.hub.uptime_ms(now) } else { 0 };
        self.marks.taken_at.store(since, Ordering::Relaxed);
    }

    /// The client has taken so many of the bytes that lay undelivered.
    pub(super) fn note_taken(&self, out: &mut Out<T, E>, bytes: usize) {
        let Some(pace) = &mut out.pace else { return };
        if bytes > 0 && !pace.is_paused() {
            let now = Instant::now();
            pace.took(bytes as u64, Limit::of(self.listener()), now);
            self.marks
                .taken_at
                .store(self.hub.uptime_ms(now), Ordering::Relaxed);
        }
        if out.outbox.unsent() == 0 && !out.writer.is_holding() {
            // A writer that has more will say so.
            self.note_backlog(out, false);
        }
    }

    fn end_sending(&self, out: &mut Out<T, E>) {
        out.writer.end_sending();
        self.sent.notify_all();
    }

    /// Sends what the socket has room for, outside the lock: the caller's next step must not rely
    /// on what it knew before.
    fn send_unlocked(
        &self,
        out: &mut MutexGuard<'_, Out<T, E>>,
        rest: &mut &mut [IoSlice<'_>],
    ) -> io::Result<()> {
        if rest.is_empty() {
            return Ok(());
        }
        out.writer.begin_sending();
        let sent = MutexGuard::unlocked(out, || {
            Point::WireSend.pass();
            self.transport.write_pieces_now(rest)
        });
        self.end_sending(out);
        match sent {
            Ok(sent) => {
                IoSlice::advance_slices(rest, sent);
                self.note_taken(out, sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The last bytes of `ending` were handed in: a courier is called for those that the socket has
    /// not taken, and it ends when they are delivered. Returns it if all are with the kernel.
    pub(in crate::exchange) fn mark_end(
        self: &Arc<Self>,
        out: &mut Out<T, E>,
        ending: E,
    ) -> Option<E> {
        if out.outbox.unsent() > 0 {
            out.outbox.mark(ending);
            self.call_courier(out);
            return None;
        }
        self.delivered(out);
        Some(ending)
    }

    /// Everything was handed in: a courier is called for what the socket has not taken.
    pub(in crate::exchange) fn settle(self: &Arc<Self>, out: &mut Out<T, E>) {
        if out.outbox.unsent() > 0 {
            self.call_courier(out);
        } else {
            self.delivered(out);
        }
    }

    /// Lets a courier deliver what the socket has not taken.
    pub(in crate::exchange) fn hand_over(self: &Arc<Self>) {
        let mut out = self.lock_to_write();
        self.call_courier(&mut out);
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
