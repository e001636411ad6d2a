//! An attempt at an exchange: the request is sent, and the head of the response is read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::Verdict;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::health::FaultClass;
use crate::http::{Method, ResponseFraming};
use crate::plan::OnClientAbort;
use crate::retry::{Failure, hides_5xx, may_retry};
use crate::upstream::connection::{AFTER_HEAD, Connection, SendError, Upload};
use crate::upstream::speak::{BadHead, Head};

use super::outcome::Outcome;
use super::relay::Fate;
use super::state::Worker;

/// How a response stands to its request and to others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The request was sent whole.
    pub(super) is_whole: bool,
    /// Another response is to come right behind it.
    pub(super) is_followed: bool,
}

impl Worker {
    /// Serves one exchange. Returns the verdict for the dispatcher and what is left of the
    /// connection.
    pub(super) fn serve(
        &mut self,
        connection: &mut Connection,
        mut exchange: Exchange,
        upload: Upload,
        now: Instant,
    ) -> (Verdict<Exchange>, Fate) {
        let id = exchange.id;
        // The client may have left while another worker held this exchange. That worker's slot
        // recorded it, so look here too.
        let is_second_try = exchange.attempts.failed().is_some();
        let has_left = !upload.has_begun
            && (!self.slot().begin(id, connection.link())
                || is_second_try
                    && self.on_client_abort != OnClientAbort::Ignore
                    && exchange.gone().is_some());
        if has_left {
            self.slot().end(id, self.behind.is_empty());
            // The server was told while another thread was about to send the request, none of which
            // went out then.
            let fate = if self.slot().is_notified() {
                Fate::Lost
            } else {
                Fate::Untouched
            };
            exchange.call_off(Fault::ClientGoneQueue);
            return (Verdict::Done, fate);
        }
        self.begin_attempt(&mut exchange, now);
        let mut held = Some(exchange);
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            self.attempt(connection, &mut held, upload)
        }));
        self.conclude(id, attempt, held)
    }

    /// Notes an attempt in the exchange.
    pub(super) fn begin_attempt(&self, exchange: &mut Exchange, now: Instant) {
        exchange.attempts.begin();
        exchange.server_account = Some(self.server.account.id());
        exchange.times.taken = Some(now);
        exchange.times.first_byte = None;
        let waiting_since = exchange.times.waiting_since;
        let waited = now.saturating_duration_since(waiting_since);
        exchange.times.queued = exchange.times.queued.saturating_add(waited);
        if self.cluster().hub.access.is_some() {
            exchange.server = Some(Arc::clone(&self.server.name));
        }
    }

    /// Sends the request and gives the response on.
    fn attempt(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        mut upload: Upload,
    ) -> Outcome {
        let Some(exchange) = held.as_mut() else {
            return Outcome::Over(Fate::Untouched);
        };
        let is_long = exchange.destination.is_long();
        if is_long && !upload.has_begun && !self.has_place() {
            return Outcome::Failed(Failure::of(Fault::LaneFull), Fate::Untouched);
        }
        connection.begin_response(exchange.request.head.method);
        let mut was_sent_at = upload.sent_at.filter(|_| upload.is_whole);
        let (length, is_whole) = loop {
            let sent = connection.send(
                &mut exchange.request,
                &mut upload,
                &mut self.room,
                self.timeout.send,
            );
            self.sent_at = was_sent_at.take().unwrap_or_else(Instant::now);
            Point::WorkerSent.pass();
            let may_go_on = matches!(sent, Err(SendError::Answered));
            let is_whole = match sent {
                Ok(()) => true,
                Err(SendError::Answered) => false,
                Err(SendError::Broken { unsent: true }) => {
                    return Outcome::Failed(Failure::unsent(Fault::SendFailed), Fate::Lost);
                }
                // The server may have answered before it broke the connection: that is read before
                // judging.
                Err(SendError::Broken { unsent: false }) => false,
                Err(SendError::Spool(error)) => {
                    log::error!("spool: {error}");
                    return Outcome::Failed(Failure::of(Fault::Internal), Fate::Lost);
                }
                Err(SendError::Timeout) => {
                    return Outcome::Failed(Failure::of(Fault::SendTimeout), Fate::Lost);
                }
            };
            match self.read_head(connection, exchange, may_go_on) {
                Ok(Some(length)) => break (length, is_whole),
                // Only a final response stops an upload.
                Ok(None) => {}
                Err(failure) if is_whole => return Outcome::Failed(failure, Fate::Lost),
                Err(failure) => return Outcome::Failed(failure.while_sending(), Fate::Lost),
            }
        };
        if connection.response().status == 101 {
            self.evidence = Some(Ok(()));
            return Outcome::Over(self.open_tunnel(connection, held, length));
        }
        let standing = Standing {
            is_whole,
            is_followed: false,
        };
        self.pass_on(connection, held, length, standing)
    }

    /// Returns whether a stream or tunnel would have a place in the lane.
    fn has_place(&self) -> bool {
        self.cluster().lane().count(self.server.id) < self.plan.lane
    }

    /// Passes the response on whose final head is here.
    pub(super) fn pass_on(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        length: usize,
        standing: Standing,
    ) -> Outcome {
        let Some(exchange) = held.as_ref() else {
            return Outcome::Over(Fate::Lost);
        };
        let status = connection.response().status;
        if let 500..=599 = status
            && hides_5xx(
                exchange.request.head.method,
                &exchange.attempts,
                &self.retry,
            )
        {
            let fate = self.skip_response(connection, length);
            return Outcome::Failed(Failure::of(Fault::ServerError), fate);
        }
        self.evidence = Some(match status {
            500..=599 => Err(self.seen_by(exchange, FaultClass::Status)),
            _ => Ok(()),
        });
        Point::WorkerHead.pass();
        let patience = match exchange.request.head.method {
            Method::Head => AFTER_HEAD,
            _ => Duration::ZERO,
        };
        let fate = self.relay(connection, held, length);
        match fate {
            Fate::Complete => {}
            Fate::Ended if standing.is_whole => return Outcome::Over(Fate::Ended),
            // The connection may be a carrier's by now, and is not to be looked at.
            _ => return Outcome::Over(Fate::Lost),
        }
        let has_no_body = connection.response().framing == ResponseFraming::None;
        let may_say_more = has_no_body && !standing.is_followed;
        let is_good = standing.is_whole
            && connection.may_be_reused()
            && !(may_say_more && connection.says_more(patience));
        Outcome::Over(if is_good {
            Fate::Complete
        } else if standing.is_whole && connection.is_closing() {
            Fate::Ended
        } else {
            Fate::Lost
        })
    }

    /// Reads until a final head is here, or the server switches to the protocol that was asked for,
    /// and returns the head's length. Interim responses are given to the
    /// client; if `only_one`, returns `None` after one of these.
    pub(super) fn read_head(
        &mut self,
        connection: &mut Connection,
        exchange: &mut Exchange,
        only_one: bool,
    ) -> Result<Option<usize>, Failure> {
        let until = after(self.sent_at, self.timeout.first_byte);
        loop {
            let fault = match connection.head() {
                Ok(Head::More) if !connection.is_full() => {
                    self.read_more(connection, exchange, until)?;
                    continue;
                }
                Ok(Head::Interim(length)) => {
                    self.give_interim(connection, exchange, length);
                    connection.consume(length);
                    if only_one {
                        return Ok(None);
                    }
                    continue;
                }
                Ok(Head::Final(length)) if self.is_farewell(connection, exchange, length) => {
                    return Err(Failure::met_end());
                }
                Ok(Head::Final(length)) => return Ok(Some(length)),
                Ok(Head::Upgraded(length)) if exchange.request.upgrade.is_some() => {
                    return Ok(Some(length));
                }
                Ok(Head::Upgraded(_)) => Fault::UnaskedUpgrade,
                Ok(Head::More) | Err(BadHead::TooLarge) => Fault::ResponseTooLarge,
                Err(BadHead::Malformed) => Fault::ResponseMalformed,
            };
            return Err(Failure::of(fault));
        }
    }

    /// Gives an interim response to the client, whose head is the first `length` bytes that came.
    fn give_interim(&mut self, connection: &Connection, exchange: &mut Exchange, length: usize) {
        let (head, bytes) = (connection.response(), connection.data());
        // 100 was for the request's body, and the client has had it.
        if head.status == 100 {
            return;
        }
        let bytes = bytes.get(..length).unwrap_or_default();
        // A client that is gone is noticed with the final response.
        let _ = self
            .slot
            .giving(|| exchange.say_interim(&mut self.scratch, bytes, head));
    }

    /// Returns whether this 408 (its head is the first `length` bytes that came) says that the
    /// server gave up waiting for a request at the moment when one came: it ends a connection that
    /// had been used, and the request can be sent over another. Any other is what the server has to
    /// say to this request.
    fn is_farewell(&mut self, connection: &Connection, exchange: &Exchange, length: usize) -> bool {
        let (method, attempts) = (exchange.request.head.method, &exchange.attempts);
        connection.response().status == 408
            && connection.is_used
            && !connection.has_interims()
            && may_retry(Failure::met_end(), method, attempts, &self.retry)
            && (connection.is_closing() || connection.is_whole_and_ended(length))
    }

    fn read_more(
        &self,
        connection: &mut Connection,
        exchange: &mut Exchange,
        until: Instant,
    ) -> Result<(), Failure> {
        let began = !connection.data().is_empty();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::of(Fault::ResponseTimeout));
        }
        // The time for the head is a total: a drip does not reset it.
        let patience = if began {
            self.timeout.read.min(left)
        } else {
            left
        };
        match connection.fill(patience) {
            // The server gave up the idle connection at the moment when it was used: that says
            // nothing of how it is.
            Ok(0) | Err(Fault::ResponseCut) if connection.is_used && !began => {
                Err(Failure::met_end())
            }
            Ok(0) | Err(Fault::ResponseCut) => Err(Failure::of(Fault::ResponseMissing)),
            Ok(_) => {
                self.slot().note_heard();
                if exchange.times.first_byte.is_none() {
                    exchange.times.first_byte = Some(Instant::now());
                }
                Ok(())
            }
            Err(_) => Err(Failure::of(Fault::ResponseTimeout)),
        }
    }

    /// Skips a response whose head is the first `length` bytes that came. What of it is here
    /// already is worth a connection; what is not is not worth waiting for.
    fn skip_response(&mut self, connection: &mut Connection, length: usize) -> Fate {
        connection.consume(length);
        match connection.skip() {
            Ok(true) if connection.may_be_reused() => Fate::Complete,
            _ => Fate::Lost,
        }
    }
}
