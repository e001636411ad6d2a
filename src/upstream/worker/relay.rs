//! A worker gives a response on, or hands it over to the lane, and deals with what breaks off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::exchange::{Body, Exchange, FarEnd, Sent};
use crate::fault::Fault;
use crate::plan::OnClientAbort;
use crate::upstream::carrier::{self, Load};
use crate::upstream::connection::Connection;
use crate::upstream::lane::InLane;
use crate::upstream::relay::{Passage, Relay};
use crate::upstream::tunnel::Far;

use super::state::Worker;

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
        let head = connection.response();
        let is_stream = exchange.destination.is_stream || head.is_event_stream(connection.data());
        if is_stream && self.plan.lane > 0 {
            return self.relay_stream(connection, held, length);
        }
        // Nothing is sent again from here on, and the response may take long.
        exchange.request.body = Body::default();
        exchange.say_head(
            &mut self.scratch,
            connection.data(),
            head,
            head.framing.length(),
        );
        connection.consume(length);
        let mut scratch = std::mem::take(&mut self.scratch);
        let slot = Arc::clone(&self.slot);
        let mut relay = Relay::by_worker(&slot, &mut scratch, self.timeout.read, connection);
        let fate = loop {
            break match relay.body(connection, held) {
                Passage::Complete => Fate::Complete,
                Passage::Ended => Fate::Ended,
                // The exchange is over. To read the rest may take long, and nothing keeps the
                // client's descriptor meanwhile.
                Passage::Gone => self.discard(connection),
                Passage::Broken(fault) => self.break_off(held, fault),
                Passage::Slow if self.hand_over(connection, held) => Fate::Lost,
                Passage::Slow => {
                    relay.wait_for_room();
                    continue;
                }
            };
        };
        self.scratch = scratch;
        fate
    }

    /// Gives on the head of a stream, the rest of which goes on in the lane: each piece goes out at
    /// once, and nothing to the spool. Without a place in the lane the client is refused.
    fn relay_stream(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        length: usize,
    ) -> Fate {
        let Some((mut exchange, place)) = self.take_place(connection, held) else {
            return Fate::Lost;
        };
        exchange.request.body = Body::default();
        let head = connection.response();
        let (data, framing) = (connection.data(), head.framing.length());
        exchange.say_head(&mut self.scratch, data, head, framing);
        connection.consume(length);
        if let Sent::Gone(fault) = exchange.say(&mut self.scratch, &[]) {
            exchange.call_off(fault);
            return Fate::Lost;
        }
        self.go_on_in_lane(connection, exchange, place, None)
    }

    /// The server has switched protocols, in the first `length` bytes read: what comes next is the
    /// tunnel's.
    pub(super) fn open_tunnel(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        length: usize,
    ) -> Fate {
        let Some((mut exchange, place)) = self.take_place(connection, held) else {
            return Fate::Lost;
        };
        let (data, head) = (connection.data(), connection.response());
        let sent = exchange.say_switch(&mut self.scratch, data, head);
        connection.consume(length);
        if let Sent::Gone(fault) = sent {
            exchange.call_off(fault);
            return Fate::Lost;
        }
        let far = Arc::new(Far::new(connection.link(), self.timeout.send));
        if let Some(switching) = &exchange.switching {
            switching.open(Arc::clone(&far) as Arc<dyn FarEnd>);
        }
        self.go_on_in_lane(connection, exchange, place, Some(far))
    }

    /// Takes a place in the lane for what cannot do without one. Where there is none the client is
    /// refused.
    fn take_place(
        &self,
        connection: &Connection,
        held: &mut Option<Exchange>,
    ) -> Option<(Exchange, InLane)> {
        let exchange = held.take()?;
        match self.place(connection, &exchange) {
            Some(place) => Some((exchange, place)),
            None => {
                self.cluster().respond(exchange, Fault::LaneFull);
                None
            }
        }
    }

    fn go_on_in_lane(
        &mut self,
        connection: &mut Connection,
        exchange: Exchange,
        place: InLane,
        tunnel: Option<Arc<Far>>,
    ) -> Fate {
        let patience = self.timeout.stream;
        if let Err(load) = self.send_to_lane(connection, exchange, place, patience, tunnel) {
            *connection = load.connection;
            return self.break_off(&mut Some(load.exchange), Fault::Internal);
        }
        Fate::Lost
    }

    /// Hands the response over to the lane, with its connection. Returns `false` if the lane has no
    /// place for it.
    fn hand_over(&mut self, connection: &mut Connection, held: &mut Option<Exchange>) -> bool {
        let place = held
            .as_ref()
            .and_then(|exchange| self.place(connection, exchange));
        let Some(place) = place else { return false };
        let Some(exchange) = held.take() else {
            return false;
        };
        match self.send_to_lane(connection, exchange, place, self.timeout.read, None) {
            Ok(()) => true,
            Err(load) => {
                *connection = load.connection;
                *held = Some(load.exchange);
                false
            }
        }
    }

    fn place(&self, connection: &Connection, exchange: &Exchange) -> Option<InLane> {
        let (server, most) = (self.server.id, self.plan.lane);
        let lane = self.cluster().lane();
        lane.enter(exchange.id, server, connection.link(), most)
    }

    /// The load comes back if no thread can be had for it.
    fn send_to_lane(
        &self,
        connection: &mut Connection,
        mut exchange: Exchange,
        place: InLane,
        patience: Duration,
        tunnel: Option<Arc<Far>>,
    ) -> Result<(), Box<Load>> {
        // Long responses are bounded by the lane, and take no place among the requests at once.
        exchange.permit = None;
        let load = Load {
            exchange,
            connection: connection.hand_over(),
            place,
            patience,
            name: self.name().to_owned(),
            tunnel,
        };
        carrier::start(load)
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
