//! What goes out to a client: through TLS if there is any, then to the socket as far as it has room,
//! then to the outbox.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use crate::exchange::{Body, Exchange, out};
use crate::fault::Fault;

use super::{Client, End, Pace, Reply, Sent};

/// After the last byte is sent, the client may go on sending so long before it is cut (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Of the room for ciphertext so much is kept for the next time.
const KEPT_WIRE: usize = 256 * 1024;

thread_local! {
    /// Ciphertext on its way from TLS to the socket.
    static WIRE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Gives back the room for ciphertext of this thread, which writes rarely.
pub(super) fn forget_wire() {
    WIRE.take();
}

impl Client {
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
    pub(super) fn lock_to_write(&self) -> MutexGuard<'_, Reply> {
        let mut reply = self.reply.lock();
        self.wait_sent(&mut reply);
        reply
    }

    pub(super) fn wait_sent(&self, reply: &mut MutexGuard<'_, Reply>) {
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
    pub(super) fn delivered(&self, reply: &mut Reply) {
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

    pub(super) fn call_courier(self: &Arc<Self>, reply: &mut Reply) {
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
    pub(super) fn die(&self, reply: &mut Reply, fault: Fault) {
        if fault == Fault::SlowClient {
            // It has not read what it was sent, and shall neither keep the kernel's buffers with that nor take a part for the whole.
            self.stream.reset_on_close();
        }
        self.die_by(reply, fault, Shutdown::Both);
    }

    /// Cuts it so that nobody can take that for an end: by a reset, once all have let go of the client.
    pub(super) fn reset(&self, reply: &mut Reply, fault: Fault) {
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

    pub(super) fn push(&self, reply: &mut MutexGuard<'_, Reply>, pieces: &[&[u8]]) -> Result<(), Fault> {
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
}
