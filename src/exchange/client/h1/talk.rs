//! A client over whose wire exchanges take turns.

use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConnection;

use crate::exchange::client::wire::{End, Ending, Origin, Sent, Transport, Wire, Without};
use crate::exchange::hub::Hub;
use crate::fault::Fault;
use crate::net::Stream;

use super::turn::{Left, Opened, Turn};

/// A client that speaks HTTP/1. `E` is an exchange.
pub(in crate::exchange) type Client<E> = Wire<Turn, E>;

impl<E: Ending> Client<E> {
    /// A client that has just come in.
    pub fn new(
        hub: &Arc<Hub>,
        stream: Stream,
        origin: Origin,
        tls: Option<Box<ServerConnection>>,
        now: Instant,
    ) -> Arc<Self> {
        let transport = Transport::Socket(stream);
        Self::over(transport, hub, origin, tls, Turn::Free, now)
    }

    // === The turn

    /// Opens this exchange, if none is open and the connection is to go on.
    pub fn open(&self, id: u64) -> Opened {
        let mut out = self.lock();
        let (end, is_occupied) = (out.end, out.is_occupied());
        let opened = out.turn.open(id, end, is_occupied);
        if opened == Opened::Yes {
            self.note_busy();
            self.may_spool_again(&mut out);
        }
        opened
    }

    /// Returns whether the final response to this exchange has begun; `None` if it is not open.
    pub(in crate::exchange) fn progress_of(&self, id: u64) -> Option<bool> {
        self.lock().turn.progress_of(id)
    }

    /// The client ended its sending side, or (`by_reset`) the connection broke.
    pub fn leave(&self, by_reset: bool) -> Left {
        let mut out = self.lock();
        let (left, fault) = out.turn.leave(by_reset, out.is_delivered());
        if let Some(fault) = fault {
            self.die(&mut out, fault);
        }
        left
    }

    /// Nothing more will be asked: ends the writing side, cleanly for TLS, once all that is on its
    /// way has gone out.
    pub fn say_goodbye(self: &Arc<Self>) {
        let mut out = self.lock_to_write();
        if !out.turn.make_last() && out.end == End::Open {
            out.end = End::Closing;
            match self.close_tls(&mut out) {
                Ok(()) => self.settle(&mut out),
                Err(fault) => {
                    self.die(&mut out, fault);
                }
            }
        }
    }

    // === What is said in turn

    /// Sends an interim response, which decides nothing. Waits for room like [`Self::send`].
    pub(super) fn interim(self: &Arc<Self>, bytes: &[u8]) -> Sent {
        let mut out = self.lock_to_write();
        let sent = self.push(&mut out, [bytes], Without::Wait);
        self.outcome(&mut out, sent)
    }

    /// Sends a part of the open exchange's final response, more of which follows. What neither the
    /// socket nor memory nor the spool has room for is waited with, as long as the client takes
    /// enough of the rest.
    pub(super) fn send<const N: usize>(self: &Arc<Self>, pieces: [&[u8]; N]) -> Sent {
        let mut out = self.lock_to_write();
        out.turn.begin();
        let sent = self.push(&mut out, pieces, Without::Wait);
        self.outcome(&mut out, sent)
    }

    /// Sends the last part of the open exchange's response. `without` says what becomes of bytes
    /// for which there is no room: a response that was made here, and is short, never waits. The
    /// exchange ends when all is delivered, or here and now.
    pub(super) fn finish<const N: usize>(
        self: &Arc<Self>,
        pieces: [&[u8]; N],
        closes: bool,
        without: Without,
        exchange: E,
    ) {
        self.end_exchange(pieces, closes, Some(without), exchange);
    }

    /// The response broke off: what is there is delivered, and nothing that looks like an end.
    /// `is_hard` resets the connection, where its end would look like the end of the response.
    pub(super) fn cut(self: &Arc<Self>, is_hard: bool, exchange: E) {
        if is_hard {
            let mut out = self.lock_to_write();
            out.turn.close();
            let fault = exchange.fault().unwrap_or(Fault::ResponseCut);
            self.reset(&mut out, fault);
            drop(out);
            exchange.complete();
        } else {
            self.end_exchange([], true, None, exchange);
        }
    }

    /// The open exchange ends, and the client is told nothing.
    pub(in crate::exchange) fn drop_exchange(&self, exchange: E) {
        let mut out = self.lock();
        out.turn.close();
        self.wake_awaiting(&out);
        drop(out);
        exchange.complete();
    }

    /// `clean` says how the end is handed in; without it nothing may look like an end.
    fn end_exchange<const N: usize>(
        self: &Arc<Self>,
        pieces: [&[u8]; N],
        closes: bool,
        clean: Option<Without>,
        mut exchange: E,
    ) {
        exchange.release_request();
        let mut out = self.lock_to_write();
        let is_last = out.turn.close();
        let ends = (closes || is_last) && out.end == End::Open;
        if ends {
            // Before the turn can be taken: what follows on this request is none.
            out.end = End::Closing;
        }
        self.wake_awaiting(&out);
        // What a client has not taken is bounded by its connection and holds up no other client's
        // requests.
        exchange.release_place();
        let mut sent = self.push(&mut out, pieces, clean.unwrap_or(Without::Keep));
        if ends && clean.is_some() && sent.is_ok() {
            sent = self.close_tls(&mut out);
        }
        let over = match sent {
            Err(fault) => {
                exchange.blame(self.die(&mut out, fault));
                Some(exchange)
            }
            Ok(()) => self.mark_end(&mut out, exchange),
        };
        drop(out);
        if let Some(exchange) = over {
            exchange.complete();
        }
    }
}
