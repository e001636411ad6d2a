//! A response on its way: read from a server in its framing, and said to the client. A worker does
//! that, and whatever takes long goes on in the lane.

use std::time::Duration;

use crate::base::panic_points::Point;
use crate::exchange::{Exchange, Scratch, Sent};
use crate::fault::Fault;

use super::connection::{Connection, ROOM};
use super::slot::Slot;

/// Bytes that may be unsent before a courier takes over: a fast client takes them meanwhile.
const UNSENT: u64 = 256 * 1024;

/// What may come with the content of one read: the framing for the client.
const FRAMING: u64 = 1024;

/// How far a response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is at its end.
    Complete,
    /// It is at its end, and with it the connection.
    Ended,
    /// The client is gone, and not all of the response has come. The exchange is over.
    Gone,
    /// It broke off.
    Broken(Fault),
    /// The client takes it slowly, and there is no more room for what it has not taken.
    Slow,
}

/// A response that is being given on.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    /// The worker's slot; a carrier has none.
    slot: Option<&'a Slot>,
    scratch: &'a mut Scratch,
    /// How long the server may say nothing.
    patience: Duration,
    /// It ends where room for the client ends, instead of waiting for the client.
    stops_for_room: bool,
    look_first: bool,
    is_head_due: bool,
    unsent: u64,
}

impl<'a> Relay<'a> {
    /// By a worker with this slot. The head is said, and kept back in `scratch`.
    pub(super) fn by_worker(
        slot: &'a Slot,
        scratch: &'a mut Scratch,
        patience: Duration,
        connection: &Connection,
    ) -> Self {
        Self {
            slot: Some(slot),
            scratch,
            patience,
            stops_for_room: true,
            // A server often sends head and body apart; one look may save the client a piece.
            look_first: !connection.has_no_body() && connection.data().is_empty(),
            // The head has to go out, content or not.
            is_head_due: true,
            unsent: 0,
        }
    }

    /// By a carrier, which goes on where a worker stopped.
    pub(super) fn by_carrier(scratch: &'a mut Scratch, patience: Duration) -> Self {
        Self {
            slot: None,
            scratch,
            patience,
            stops_for_room: false,
            look_first: false,
            is_head_due: false,
            unsent: 0,
        }
    }

    /// From now on the client is waited for.
    pub(super) fn wait_for_room(&mut self) {
        self.stops_for_room = false;
    }

    /// Gives on what was kept back of the head, and what is here of the body.
    pub(super) fn body(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
    ) -> Passage {
        loop {
            if std::mem::take(&mut self.look_first) {
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
                    let _ = giving(self.slot, || exchange.say(self.scratch, content));
                }
                return Passage::Broken(Fault::ResponseMalformed);
            }
            if step.end {
                if let Some(exchange) = held.take() {
                    let trailers = connection.trailers();
                    giving(self.slot, || {
                        exchange.finish(self.scratch, content, trailers);
                    });
                }
                connection.consume(step.used);
                return Passage::Complete;
            }
            if let Some(exchange) = held.as_mut()
                && (self.is_head_due || !content.is_empty())
            {
                self.is_head_due = false;
                match giving(self.slot, || exchange.say(self.scratch, content)) {
                    Sent::All => self.unsent = 0,
                    Sent::Pending(pending) => self.unsent = pending,
                    Sent::Gone(fault) => {
                        connection.consume(step.used);
                        if let Some(exchange) = held.take() {
                            exchange.call_off(fault);
                        }
                        return Passage::Gone;
                    }
                }
            }
            connection.consume(step.used);
            Point::WorkerRelay.pass();
            if self.unsent > UNSENT {
                held.iter().for_each(Exchange::hand_over);
            }
            if self.stops_for_room
                && self.unsent > 0
                && let Some(exchange) = held.as_ref()
                && !exchange.has_room(ROOM as u64 + FRAMING)
            {
                return Passage::Slow;
            }
            match self.fill(connection, held.as_ref()) {
                // Unless a stop, whose time is up, ended the connection.
                Ok(0) if connection.ends_body() && !self.is_stopped() => {
                    if let Some(exchange) = held.take() {
                        exchange.finish(self.scratch, &[], &[]);
                    }
                    return Passage::Ended;
                }
                Ok(0) => return Passage::Broken(Fault::ResponseCut),
                Ok(_) => {
                    if let Some(slot) = self.slot {
                        slot.note_progress();
                    }
                }
                Err(fault) => return Passage::Broken(fault),
            }
        }
    }

    fn fill(
        &self,
        connection: &mut Connection,
        exchange: Option<&Exchange>,
    ) -> Result<usize, Fault> {
        if self.unsent > 0 {
            if let Some(filled) = connection.fill_now() {
                return filled;
            }
            // While this thread waits for the server, no client may have to wait for it.
            exchange.iter().for_each(|exchange| exchange.hand_over());
        }
        connection.fill(self.patience)
    }

    fn is_stopped(&self) -> bool {
        self.slot.is_some_and(Slot::is_stopped)
    }
}

/// Gives something to the client. Until that is done the server's silence is none.
fn giving<T>(slot: Option<&Slot>, give: impl FnOnce() -> T) -> T {
    match slot {
        Some(slot) => slot.giving(give),
        None => give(),
    }
}
