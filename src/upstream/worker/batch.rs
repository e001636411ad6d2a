//! Batches: several exchanges sent over one connection before the first is answered (`pipeline`,
//! RFC 9112 §9.3.2).
//!
//! Fewer system calls and fewer times to be woken, for servers that answer every request once and
//! in order. On any doubt that this one does (it closes the connection, or says that it will; a
//! head that is none; a response without an end of its own; too late; too much), nothing more is
//! read from the connection, and what has no response yet is sent again over a fresh one, one by
//! one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::balance::Verdict;
use crate::base::panic_points::Point;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::retry::Failure;
use crate::upstream::connection::{Connection, Upload};

use super::attempt::Standing;
use super::batching::{BROKEN, PAUSE};
use super::outcome::Outcome;
use super::relay::Fate;
use super::state::Worker;

/// Heads that are sent at once, in bytes. A server may read no further before it could send its
/// first response, which is not read during the sending: so they have to fit into the sockets'
/// buffers.
const HEADS: usize = 16 * 1024;

impl Worker {
    /// Sends this exchange and all behind it at once, and answers them in turn. Behind it is then
    /// what has to be sent again, alone.
    pub(super) fn serve_batch(
        &mut self,
        connection: &mut Connection,
        first: Exchange,
        now: Instant,
    ) -> (Verdict<Exchange>, Fate) {
        self.behind.push_front(first);
        if self.slot().has_leavers() {
            self.drop_left();
        }
        if self.behind.len() < 2 {
            return match self.behind.pop_front() {
                Some(only) => self.serve(connection, only, Upload::default(), now),
                None => (Verdict::Done, Fate::Untouched),
            };
        }
        let (sent, is_whole) = self.send_batch(connection, now);
        Point::WorkerBatch.pass();
        let mut fate = Fate::Untouched;
        for turn in 1..=sent {
            fate = self.serve_turn(connection, turn == 1, turn < sent);
            if fate != Fate::Complete {
                break;
            }
            if turn < sent {
                connection.next_turn();
            }
        }
        if !is_whole {
            fate = Fate::Lost;
        }
        if fate != Fate::Complete && !self.behind.is_empty() {
            let now = Instant::now();
            log::debug!(
                "{}: {} requests are sent again, one by one",
                self.name(),
                self.behind.len()
            );
            self.note_broken_batch(now);
        }
        // What is to be tried elsewhere has gone back already.
        (Verdict::Done, fate)
    }

    /// Notes in all exchanges behind that went out that their batch has broken: they wait for
    /// another attempt from now on.
    pub(super) fn note_broken_batch(&mut self, now: Instant) {
        for exchange in &mut self.behind {
            if exchange.attempts.seen() > 0 {
                exchange.attempts.note_broken_batch();
                exchange.times.waiting_since = now;
            }
        }
    }

    /// Drops the exchanges whose clients have left before anything was sent.
    fn drop_left(&mut self) {
        for _ in 0..self.behind.len() {
            let Some(exchange) = self.behind.pop_front() else {
                return;
            };
            if self.slot().is_called_off(exchange.id) {
                exchange.call_off(Fault::ClientGoneQueue);
            } else {
                self.behind.push_back(exchange);
            }
        }
    }

    /// Sends heads. Returns how many went out whole, and whether that was all that was to go; what
    /// did not is as if it had never been taken, for no server acts on half a head.
    fn send_batch(&mut self, connection: &mut Connection, now: Instant) -> (usize, bool) {
        self.out.clear();
        let mut planned = 0;
        let encoding = connection.encoding();
        for exchange in &mut self.behind {
            encoding.encode(&mut exchange.request);
            if planned > 0 && self.out.len() + exchange.request.encoded.len() > HEADS {
                break;
            }
            self.out.extend_from_slice(&exchange.request.encoded);
            planned += 1;
        }
        let mut bytes = connection.send_heads(&self.out);
        let is_whole = bytes == self.out.len();
        let mut behind = std::mem::take(&mut self.behind);
        let mut sent = 0;
        for exchange in behind.iter_mut().take(planned) {
            let Some(left) = bytes.checked_sub(exchange.request.encoded.len()) else {
                break;
            };
            bytes = left;
            sent += 1;
            self.begin_attempt(exchange, now);
        }
        self.behind = behind;
        (sent, is_whole)
    }

    /// Serves the first behind, whose request is sent and whose response is to come next.
    fn serve_turn(
        &mut self,
        connection: &mut Connection,
        is_first: bool,
        is_followed: bool,
    ) -> Fate {
        let Some(exchange) = self.behind.pop_front() else {
            return Fate::Lost;
        };
        let id = exchange.id;
        self.slot().turn(id, connection.link());
        self.sent_at = Instant::now();
        let mut held = Some(exchange);
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            self.attempt_turn(connection, &mut held, is_followed)
        }));
        if let Ok(Outcome::Failed(failure, _)) = &attempt
            && !is_first
            && !self.slot().has_left(id)
            && let Some(exchange) = held.take_if(|exchange| {
                failure.may_be_a_neighbours(exchange.times.first_byte.is_some())
            })
        {
            self.behind.push_front(exchange);
            return Fate::Lost;
        }
        let (verdict, fate) = self.conclude(id, attempt, held);
        if matches!(verdict, Verdict::Retry { .. }) {
            self.return_one(id, verdict);
            return Fate::Lost;
        }
        fate
    }

    fn attempt_turn(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        is_followed: bool,
    ) -> Outcome {
        let Some(exchange) = held.as_mut() else {
            return Outcome::Over(Fate::Lost);
        };
        connection.begin_response(exchange.request.head.method);
        if !connection.data().is_empty() {
            exchange.times.first_byte = Some(Instant::now());
        }
        match self.read_head(connection, exchange, false) {
            Ok(Some(length)) => {
                let standing = Standing {
                    is_whole: true,
                    is_followed,
                };
                self.pass_on(connection, held, length, standing)
            }
            Ok(None) => Outcome::Failed(Failure::of(Fault::Internal), Fate::Lost),
            Err(failure) => Outcome::Failed(failure, Fate::Lost),
        }
    }

    /// What it still has to serve besides, alone; at a stop these are refused.
    pub(super) fn next_behind(&mut self) -> Option<Exchange> {
        if !self.behind.is_empty() && self.slot().is_stopped() {
            for exchange in std::mem::take(&mut self.behind) {
                self.cluster().respond(exchange, Fault::Draining);
            }
        }
        self.behind.pop_front()
    }

    /// No connection can be made: other workers may serve what this one still has, in the same
    /// order.
    pub(super) fn give_back_behind(&mut self) {
        while let Some(exchange) = self.behind.pop_back() {
            let id = exchange.id;
            let verdict = self.put_off(exchange, Fault::ConnectFailed);
            self.return_one(id, verdict);
        }
    }

    /// Notes how a batch ended.
    pub(super) fn note_batch(&mut self, is_clean: bool) {
        if self.batching.note(is_clean, Instant::now()) {
            log::warn!(
                "{}: {BROKEN} batches in a row broke: this worker pipelines nothing for {} s \
                 (consider pipeline = 1)",
                self.name(),
                PAUSE.as_secs()
            );
        }
    }
}
