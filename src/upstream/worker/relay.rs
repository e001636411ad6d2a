//! A response on its way: read from a server in its framing, and said to the client.

use std::time::Instant;

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Body, Exchange, Sent};
use crate::fault::Fault;
use crate::plan::OnClientAbort;
use crate::upstream::connection::Connection;

use super::state::Worker;

/// Bytes that may be unsent before a courier takes over: a fast client takes them meanwhile.
const UNSENT: u64 = 256 * 1024;

/// What happened to the connection to the server meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is at the end of the response.
    Complete,
    /// The response is at its end, and the server ends the connection with it.
    Ended,
    /// It is somewhere in the middle, or ended.
    Lost,
    /// Nothing has happened to it.
    Untouched,
}

impl Worker {
    /// Gives the response whose head was just parsed (and lies in the first `length` bytes read) to
    /// the client. From here on there is no other try: what fails is visible to the client as a
    /// message that has no end.
    pub(super) fn relay(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        length: usize,
    ) -> Fate {
        let Some(exchange) = held else {
            return Fate::Lost;
        };
        // Nothing is sent again from here on, and the response may take long.
        exchange.request.body = Body::default();
        let head = connection.response();
        exchange.say_head(
            &mut self.scratch,
            connection.data(),
            head,
            head.framing.length(),
        );
        connection.consume(length);
        match self.relay_body(connection, held) {
            Some(fate) => fate,
            // The exchange is over. To read the rest may take long, and nothing keeps the client's
            // descriptor meanwhile.
            None => self.discard(connection),
        }
    }

    /// Gives the body on. Returns `None` if the client is gone and not all of the body has come.
    fn relay_body(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
    ) -> Option<Fate> {
        // A server often sends head and body apart; one look may save the client a piece.
        let mut look_first = !connection.has_no_body() && connection.data().is_empty();
        // The head has to go out, content or not.
        let mut is_head_due = true;
        let mut unsent = 0;
        loop {
            if std::mem::take(&mut look_first) {
                // An end or an error shows itself again at the next read.
                let _ = connection.fill_now();
            }
            let step = connection.step();
            let content = connection.data().get(step.data.clone()).unwrap_or_default();
            if step.fault.is_some() {
                if let Some(exchange) = held.as_mut().filter(|exchange| exchange.has_begun())
                    && !content.is_empty()
                {
                    // What is good of it, as if it had come alone. A client that is gone is noticed
                    // by the cut.
                    let _ = self
                        .slot
                        .giving(|| exchange.say(&mut self.scratch, content));
                }
                return Some(self.break_off(held, Fault::ResponseMalformed));
            }
            if step.end {
                if let Some(exchange) = held.take() {
                    let trailers = connection.trailers();
                    self.slot
                        .giving(|| exchange.finish(&mut self.scratch, content, trailers));
                }
                connection.consume(step.used);
                return Some(Fate::Complete);
            }
            if let Some(exchange) = held.as_mut()
                && (is_head_due || !content.is_empty())
            {
                is_head_due = false;
                match self
                    .slot
                    .giving(|| exchange.say(&mut self.scratch, content))
                {
                    Sent::All => unsent = 0,
                    Sent::Pending(pending) => unsent = pending,
                    Sent::Gone(fault) => {
                        connection.consume(step.used);
                        end_alone(held, fault);
                        return None;
                    }
                }
            }
            connection.consume(step.used);
            Point::WorkerRelay.pass();
            let hand_over = || held.iter().for_each(Exchange::hand_over);
            if unsent > UNSENT {
                hand_over();
            }
            let filled = match (unsent > 0).then(|| connection.fill_now()).flatten() {
                Some(filled) => filled,
                None => {
                    // While the worker waits for the server, no client may have to wait for it.
                    if unsent > 0 {
                        hand_over();
                    }
                    connection.fill(self.timeout.read)
                }
            };
            match filled {
                // Unless a stop, whose time is up, ended the connection.
                Ok(0) if connection.ends_body() && !self.slot.is_stopped() => {
                    if let Some(exchange) = held.take() {
                        exchange.finish(&mut self.scratch, &[], &[]);
                    }
                    return Some(Fate::Ended);
                }
                Ok(0) => return Some(self.break_off(held, Fault::ResponseCut)),
                Ok(_) => self.slot.note_progress(),
                Err(fault) => return Some(self.break_off(held, fault)),
            }
        }
    }

    /// The response broke off, and the client has to see that it did.
    fn break_off(&mut self, held: &mut Option<Exchange>, fault: Fault) -> Fate {
        if let Some(gone) = held.as_ref().and_then(Exchange::gone) {
            // Then the slot broke the connection, after the grace.
            end_alone(held, gone);
            return Fate::Lost;
        }
        // A stop whose time is up breaks the connections to servers.
        let fault = if self.slot.is_stopped() {
            Fault::Draining
        } else {
            fault
        };
        if let Some(mut exchange) = held.take() {
            if self.slot.has_left(exchange.id) {
                // The client had ended its sending side, and the grace is over.
                exchange.fault = Some(Fault::ClientGoneData);
                exchange.cut();
                return Fate::Lost;
            }
            if let Some(class) = fault.evidence() {
                self.evidence = Some(Err(self.seen_by(&exchange, class)));
            }
            log::info!("{}: {}", self.name(), fault.text());
            if !exchange.has_begun() {
                // Not even the head is out.
                self.cluster().respond(exchange, fault);
                return Fate::Lost;
            }
            exchange.fault = Some(fault);
            exchange.cut();
        }
        Fate::Lost
    }

    /// The client is gone: reads the rest of the response, if that comes in time, to keep the
    /// connection.
    pub(super) fn discard(&mut self, connection: &mut Connection) -> Fate {
        let until = match self.on_client_abort {
            OnClientAbort::Close | OnClientAbort::Notify => {
                Some(after(Instant::now(), self.timeout.abort))
            }
            OnClientAbort::Ignore => None,
        };
        loop {
            match connection.skip() {
                Ok(true) => return Fate::Complete,
                Ok(false) => {}
                Err(_) => return Fate::Lost,
            }
            let patience = match until {
                None => self.timeout.read,
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => {
                        connection.hurry(left);
                        left
                    }
                    _ => return Fate::Lost,
                },
            };
            if !connection.fill(patience).is_ok_and(|read| read > 0) {
                return Fate::Lost;
            }
            self.slot().note_heard();
        }
    }
}

/// Ends the exchange of a client that is gone.
fn end_alone(held: &mut Option<Exchange>, fault: Fault) {
    if let Some(exchange) = held.take() {
        exchange.call_off(fault);
    }
}
