//! A response on its way: read from a server in its framing, given to the client in the client's.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Body, Client, Exchange, Sent};
use crate::fault::Fault;
use crate::http::{ResponseFraming, Version};
use crate::plan::OnClientAbort;
use crate::proto::h1::{
    Coming, Going, Persistence, ResponseRewrite, framing_for, write_last_chunk, write_response,
};

use super::connection::Connection;
use super::worker::Worker;

/// So much may be unsent while a fast client is given another try, before a courier takes over.
const UNSENT: u64 = 256 * 1024;

/// What happened to the connection to the server meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// It is at the end of the response.
    Complete,
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
    ) -> Rest {
        let Some(exchange) = held else {
            return Rest::Lost;
        };
        let client = Arc::clone(&exchange.client);
        // Nothing is sent again from here on, and the response may take long.
        exchange.request.body = Body::default();
        let old = exchange.request.head.version == Version::Http10;
        let (going, framing) = framing_for(&self.head, old);
        let close = !exchange.request.head.keep_alive
            || client.must_close()
            || framing == ResponseFraming::UntilClose;
        let persistence = Persistence::of(close, exchange.request.head.version);
        self.out.clear();
        let date = if self.head.has_date {
            &[][..]
        } else {
            self.date.at(SystemTime::now())
        };
        let append = client
            .listener()
            .via
            .as_deref()
            .map(|name| format!("Via: 1.1 {name}\r\n"));
        let append = append.as_deref().unwrap_or_default().as_bytes();
        let rewrite = ResponseRewrite {
            framing,
            persistence,
            date,
            append,
        };
        write_response(&mut self.out, connection.data(), &self.head, &rewrite);
        exchange.status = self.head.status;
        connection.consume(length);
        let coming = Coming::of(self.head.framing, self.trailer_limits());
        match self.relay_body(connection, held, &client, (coming, going), close) {
            Ok(rest) => rest,
            Err(coming) => {
                // What is thrown away may take long, and nothing is to keep the client's descriptor
                // meanwhile.
                drop(client);
                self.discard(connection, coming)
            }
        }
    }

    /// Gives the body on. Answers what is still to come if the client is gone.
    fn relay_body(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        client: &Arc<Client>,
        (mut coming, going): (Coming, Going),
        close: bool,
    ) -> Result<Rest, Coming> {
        // A server often sends head and body apart; one look may save the client a piece.
        let mut look_first = !matches!(coming, Coming::Length(0)) && connection.data().is_empty();
        loop {
            if std::mem::take(&mut look_first) {
                // An end or an error shows itself again at the next read.
                let _nothing_yet = connection.fill_now();
            }
            let step = coming.step(connection.data(), going, &mut self.out);
            if step.fault.is_some() {
                if let Some(exchange) = held.as_mut().filter(|exchange| exchange.bytes > 0) {
                    // What is good of it, as if it had come alone.
                    exchange.bytes += self.out.len() as u64;
                    let _shown_by_the_cut = self.slot().giving(|| client.send(&[&self.out]));
                }
                return Ok(self.break_off(held, client, &coming, going, Fault::ResponseMalformed));
            }
            let direct = connection
                .data()
                .get(step.direct.clone())
                .unwrap_or_default();
            let pieces = [self.out.as_slice(), direct, step.behind];
            if step.finished {
                if let Some(exchange) = held.take() {
                    self.slot()
                        .giving(|| client.finish_response(&pieces, close, exchange));
                }
                connection.consume(step.used);
                return Ok(Rest::Complete);
            }
            let mut unsent = 0;
            if pieces.iter().any(|piece| !piece.is_empty()) {
                if let Some(exchange) = held.as_mut() {
                    exchange.bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
                }
                match self.slot().giving(|| client.send(&pieces)) {
                    Sent::All => {}
                    Sent::Pending(pending) => unsent = pending,
                    Sent::Gone(fault) => {
                        connection.consume(step.used);
                        end_alone(held, client, fault);
                        return Err(coming);
                    }
                }
                self.out.clear();
            }
            connection.consume(step.used);
            Point::WorkerRelay.pass();
            if unsent > UNSENT {
                client.hand_over();
            }
            let filled = match (unsent > 0).then(|| connection.fill_now()).flatten() {
                Some(filled) => filled,
                None => {
                    // Whoever waits for the server must not be who the client waits for.
                    if unsent > 0 {
                        client.hand_over();
                    }
                    connection.fill(self.timeout.read)
                }
            };
            match filled {
                // Unless it was us who ended it, because the time of a stop is up.
                Ok(0) if matches!(coming, Coming::UntilClose) && !self.slot().is_stopped() => {
                    if going == Going::Chunks {
                        write_last_chunk(&mut self.out, &[]);
                    }
                    if let Some(exchange) = held.take() {
                        client.finish(&[&self.out], close, exchange);
                    }
                    return Ok(Rest::Lost);
                }
                Ok(0) => {
                    return Ok(self.break_off(held, client, &coming, going, Fault::ResponseCut));
                }
                Ok(_) => self.slot().note_progress(),
                Err(fault) => return Ok(self.break_off(held, client, &coming, going, fault)),
            }
        }
    }

    /// The response broke off, and the client has to see that it did.
    fn break_off(
        &mut self,
        held: &mut Option<Exchange>,
        client: &Arc<Client>,
        coming: &Coming,
        going: Going,
        fault: Fault,
    ) -> Rest {
        if let Some(gone) = client.gone() {
            // Then it is us who broke it off, after the grace.
            end_alone(held, client, gone);
            return Rest::Lost;
        }
        // A stop whose time is up breaks the connections to servers.
        let fault = if self.slot().is_stopped() {
            Fault::Draining
        } else {
            fault
        };
        if let Some(mut exchange) = held.take() {
            if self.slot().is_cancelled(exchange.id) {
                // The client had ended its sending side, and the grace is over.
                exchange.fault = Some(Fault::ClientGoneData);
                client.cut(true, exchange);
                return Rest::Lost;
            }
            if let Some(class) = fault.evidence() {
                self.evidence = Some(Err(self.seen_by(&exchange, class)));
            }
            log::info!("{}: {}", self.name(), fault.text());
            if exchange.bytes == 0 {
                // Not even the head is out.
                self.cluster().respond(exchange, fault);
                return Rest::Lost;
            }
            exchange.fault = Some(fault);
            // Only where the end of the connection would be the end of the response does it take a
            // reset.
            let hard = going == Going::Plain && !matches!(coming, Coming::Length(_));
            client.cut(hard, exchange);
        }
        Rest::Lost
    }

    /// The client is gone: reads the rest of the response, if that comes in time, to keep the
    /// connection.
    pub(super) fn discard(&mut self, connection: &mut Connection, mut coming: Coming) -> Rest {
        let until = match self.on_client_abort {
            OnClientAbort::Close | OnClientAbort::Notify => {
                Some(after(Instant::now(), self.timeout.abort))
            }
            OnClientAbort::Ignore => None,
        };
        loop {
            match coming.skip(connection.data(), &mut self.out) {
                Ok((used, finished)) => {
                    connection.consume(used);
                    if finished {
                        return Rest::Complete;
                    }
                }
                Err(_) => return Rest::Lost,
            }
            let patience = match until {
                None => self.timeout.read,
                Some(until) => match until.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => {
                        connection.hurry(left);
                        left
                    }
                    _ => return Rest::Lost,
                },
            };
            if !connection.fill(patience).is_ok_and(|read| read > 0) {
                return Rest::Lost;
            }
            self.slot().note_heard();
        }
    }
}

/// Ends the exchange of a client that is gone.
pub(super) fn end_alone(held: &mut Option<Exchange>, client: &Client, fault: Fault) {
    if let Some(mut exchange) = held.take() {
        exchange.fault = Some(fault);
        client.drop_exchange(exchange);
    }
}
