//! A worker: one thread, one server, one connection at a time. It connects before it is needed,
//! serves one exchange after the other, and connects anew when the connection is not good any more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{Verdict, WorkerId};
use crate::base::date::DateCache;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::filter::client_key::{address_key, hash};
use crate::health::{self, FaultClass, Witness};
use crate::http::{Method, ResponseFraming, ResponseHead, Version};
use crate::plan::{self, ClientKey, ClusterTimeout, On5xx, OnClientAbort};
use crate::proto::h1::{
    Coming, HeadLimits, HeadScanner, Malformed, Persistence, ResponseRewrite, parse_response,
    write_response,
};
use crate::route::path::{self, PathRoom};

use super::batch::Batching;
use super::cluster::{Cluster, ticket};
use super::connection::{Connection, SendError, Upload};
use super::life::Hands;
use super::overseer::Overseer;
use super::relay::{Rest, end_alone};
use super::server::Server;
use super::slot::Slot;

/// Waiting between retries does not grow beyond this.
const MOST_BACK_OFF: Duration = Duration::from_secs(1);

/// Room for what of a request's body lies in the spool.
const ROOM: usize = 64 * 1024;

/// Interim responses to one request may have so many bytes together, in limits of one head
/// (`limit.head`).
const INTERIM_HEADS: usize = 8;

/// After the response to a HEAD its server has so long to send the body that it should not send.
pub(super) const AFTER_HEAD: Duration = Duration::from_millis(2);

/// Bytes of a response's trailers.
const TRAILERS: usize = 32 * 1024;

/// A worker.
pub(super) struct Worker {
    cluster: Arc<Cluster>,
    overseer: Arc<dyn Overseer>,
    pub(super) id: WorkerId,
    pub(super) server: Arc<Server>,
    slot: Arc<Slot>,
    /// Settings, and what the server's version was when they were looked at.
    pub(super) plan: Arc<plan::Cluster>,
    pub(super) version: u64,
    /// What the server's version was when the connection was found to lead there.
    pub(super) at_home: u64,
    pub(super) limits: HeadLimits,
    pub(super) timeout: ClusterTimeout,
    pub(super) on_client_abort: OnClientAbort,
    pub(super) scanner: HeadScanner,
    pub(super) head: ResponseHead,
    /// What is written for the client next.
    pub(super) out: Vec<u8>,
    room: Box<[u8]>,
    pub(super) date: DateCache,
    /// Exchanges that it has besides the one that it serves: sent together with it, or to be sent
    /// one by one.
    pub(super) behind: VecDeque<Exchange>,
    pub(super) batching: Batching,
    /// What the last attempt shows of the server, if anything.
    pub(super) evidence: Option<Result<(), health::Failure>>,
    pub(super) hands: Hands,
    /// When the request in hand was sent, or its turn came: from then on the server has
    /// `timeout.first_byte`.
    pub(super) sent_at: Instant,
}

/// How an attempt ended.
pub(super) enum Attempt {
    /// Nothing of it can be tried again; the exchange is over.
    Over(Rest),
    /// No final head went to the client.
    Failed(Failure),
}

/// What is known of the interim responses to one request.
#[derive(Debug, Default)]
pub(super) struct Interims {
    /// Bytes of them.
    bytes: usize,
    /// The connection must not be used after one of them: what follows on it may be the body that
    /// it claims to have, taken for a response.
    ends_connection: bool,
}

/// An attempt that may be worth another.
pub(super) struct Failure {
    pub(super) fault: Fault,
    again: Again,
    rest: Rest,
    is_stale: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing was sent: always, and free.
    Always,
    /// The server may have acted on it: only what may be done twice.
    IfIdempotent,
    Never,
}

impl Failure {
    pub(super) fn new(fault: Fault, again: Again) -> Self {
        Self {
            fault,
            again,
            rest: Rest::Lost,
            is_stale: false,
        }
    }

    /// The server closed a connection that had been used before, and sent nothing back.
    fn stale() -> Self {
        Self {
            is_stale: true,
            ..Self::new(Fault::ResponseMissing, Again::IfIdempotent)
        }
    }

    /// What it shows of the server.
    fn class(&self) -> Option<FaultClass> {
        match self.fault {
            Fault::SendFailed | Fault::ResponseMissing
                if self.is_stale || self.again == Again::Always =>
            {
                None
            }
            fault => fault.evidence(),
        }
    }
}

/// How long a request waits for its next attempt after so many, if `least` is what it waits for the
/// third.
fn back_off(tries: u32, least: Duration) -> Duration {
    match tries {
        // The first retry goes at once: it mostly goes elsewhere, and to find a connection closed
        // is no failure of anybody's.
        0 | 1 => Duration::ZERO,
        tries => least
            .saturating_mul(2_u32.pow((tries - 2).min(10)))
            .min(MOST_BACK_OFF.max(least)),
    }
}

pub(super) fn limits(plan: &plan::Cluster) -> HeadLimits {
    HeadLimits {
        head: plan.response_head,
        fields: plan.response_fields,
        target: usize::MAX,
    }
}

impl Worker {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        overseer: Arc<dyn Overseer>,
        id: WorkerId,
        server: &Arc<Server>,
        slot: Arc<Slot>,
    ) -> Self {
        let version = server.version();
        let plan = Arc::clone(&cluster.plan());
        Self {
            cluster: Arc::clone(cluster),
            overseer,
            id,
            server: Arc::clone(server),
            slot,
            version,
            at_home: version,
            limits: limits(&plan),
            timeout: plan.timeout,
            on_client_abort: plan.on_client_abort,
            scanner: HeadScanner::for_response(),
            head: ResponseHead::default(),
            out: Vec::with_capacity(4096),
            room: vec![0; ROOM].into_boxed_slice(),
            date: DateCache::default(),
            behind: VecDeque::new(),
            batching: Batching::new(plan.pipeline),
            evidence: None,
            hands: Hands::default(),
            sent_at: Instant::now(),
            plan,
        }
    }

    /// Forgets what it was in the middle of reading or writing.
    pub(super) fn reset(&mut self) {
        self.scanner = HeadScanner::for_response();
        self.head = ResponseHead::default();
        self.out.clear();
        self.date = DateCache::default();
        self.evidence = None;
    }

    /// `cluster/server`, for messages.
    pub(super) fn name(&self) -> &str {
        &self.server.full_name
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(super) fn overseer(&self) -> &dyn Overseer {
        &*self.overseer
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Health checks learn what the last exchange shows of the server.
    fn tell_evidence(&mut self) {
        // What a stop breaks off is not the server's fault.
        if let Some(result) = self.evidence.take()
            && self.server.is_monitored()
            && !self.slot().is_stopped()
        {
            self.overseer.exchanged(&self.server, result);
        }
    }

    /// A failure of this exchange, for health checks: whose it is counts, so that nobody alone can
    /// take a server from all.
    pub(super) fn seen_by(&self, exchange: &Exchange, class: FaultClass) -> health::Failure {
        // A cookie is the client's to choose; a field counts, and an address is named, by a trusted
        // peer alone.
        let named = match self.plan.client_key {
            ClientKey::Address | ClientKey::Field(_) => exchange.destination.key,
            ClientKey::None | ClientKey::Cookie(_) => None,
        };
        let address = || exchange.client.peer().map(|peer| address_key(peer.ip()));
        health::Failure {
            class,
            witness: Some(Witness {
                client: named.or_else(address).unwrap_or_default(),
                // As routes see it: to spell one path in many ways makes no more witnesses.
                path: hash(path::see(exchange.request.path(), &mut PathRoom::new()).path),
            }),
        }
    }

    /// Serves one exchange. Answers the verdict for the dispatcher and what is left of the
    /// connection.
    pub(super) fn serve(
        &mut self,
        connection: &mut Connection,
        mut exchange: Exchange,
        upload: Upload,
        now: Instant,
    ) -> (Verdict<Exchange>, Rest) {
        let id = exchange.id;
        // Who left while another worker had it, connecting or giving up, was looked for there.
        let is_second_try = exchange.fault.is_some();
        let has_left = !upload.has_begun
            && (!self.slot().begin(id, connection.link())
                || is_second_try
                    && self.on_client_abort != OnClientAbort::Ignore
                    && exchange.client.gone().is_some());
        if has_left {
            self.slot().end(id, self.behind.is_empty());
            // The server was told while another thread was about to send the request, none of which
            // went out then.
            let rest = if self.slot().is_notified() {
                Rest::Lost
            } else {
                Rest::Untouched
            };
            let client = Arc::clone(&exchange.client);
            end_alone(&mut Some(exchange), &client, Fault::ClientGoneQueue);
            return (Verdict::Done, rest);
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
        exchange.why = exchange.fault.take().or(exchange.why);
        exchange.tries += 1;
        exchange.times.taken = Some(now);
        exchange.times.first_byte = None;
        let waiting_since = exchange.times.waiting_since;
        let waited = now.saturating_duration_since(waiting_since);
        exchange.times.queued = exchange.times.queued.saturating_add(waited);
        exchange.attempts += 1;
        if self.cluster.hub.access.is_some() {
            exchange.server = Some(Arc::clone(&self.server.name));
        }
    }

    /// What follows from how an attempt ended.
    pub(super) fn conclude(
        &mut self,
        id: u64,
        attempt: std::thread::Result<Attempt>,
        held: Option<Exchange>,
    ) -> (Verdict<Exchange>, Rest) {
        let has_left = self.slot().end(id, self.behind.is_empty());
        let concluded = self.conclude_attempt(attempt, held, has_left);
        self.tell_evidence();
        concluded
    }

    fn conclude_attempt(
        &mut self,
        attempt: std::thread::Result<Attempt>,
        held: Option<Exchange>,
        has_left: bool,
    ) -> (Verdict<Exchange>, Rest) {
        let failure = match attempt {
            Ok(Attempt::Over(_)) if has_left && self.slot().is_notified() => {
                return (Verdict::Done, Rest::Lost);
            }
            Ok(Attempt::Over(rest)) => return (Verdict::Done, rest),
            Ok(Attempt::Failed(mut failure)) => {
                if has_left && self.slot().is_notified() {
                    failure.rest = Rest::Lost;
                }
                self.evidence = match &held {
                    Some(exchange) if !has_left => failure
                        .class()
                        .map(|class| Err(self.seen_by(exchange, class))),
                    _ => None,
                };
                failure
            }
            Err(_) => {
                self.cluster.hub.answer_lost();
                Failure::new(Fault::Internal, Again::Never)
            }
        };
        let rest = failure.rest;
        (self.after(failure, held, has_left), rest)
    }

    /// Decides what becomes of an exchange whose attempt failed before a final head went to the
    /// client.
    fn after(&self, failure: Failure, held: Option<Exchange>, has_left: bool) -> Verdict<Exchange> {
        let Some(mut exchange) = held else {
            return Verdict::Done;
        };
        let client = Arc::clone(&exchange.client);
        // What was not sent is still to be done if clients that leave are ignored.
        let is_to_be_done =
            self.on_client_abort == OnClientAbort::Ignore && failure.again == Again::Always;
        if has_left && !is_to_be_done {
            end_alone(&mut Some(exchange), &client, Fault::ClientGoneHead);
            return Verdict::Done;
        }
        if exchange.status >= 200 {
            // Only a panic gets here: the head is out.
            exchange.fault = Some(failure.fault);
            client.cut(true, exchange);
            return Verdict::Done;
        }
        if self.slot().is_stopped() {
            self.cluster.respond(exchange, Fault::Draining);
            return Verdict::Done;
        }
        let unsent = failure.again == Again::Always;
        if unsent {
            exchange.attempts -= 1;
        } else if failure.is_stale && self.plan.attempts > 1 {
            exchange.met_ends += 1;
        }
        let may_be_repeated = exchange.request.head.method.is_idempotent()
            && exchange.attempts_that_count() < self.plan.attempts;
        if unsent || failure.again == Again::IfIdempotent && may_be_repeated {
            log::debug!(
                "{}: attempt={} why=\"{}\"",
                self.name(),
                exchange.tries + 1,
                failure.fault.text()
            );
            return self.again(exchange, failure.fault, unsent);
        }
        log::info!("{}: {}", self.name(), failure.fault.text());
        self.cluster.respond(exchange, failure.fault);
        Verdict::Done
    }

    /// One of several exchanges was served: if it shall be tried again, it goes back.
    pub(super) fn part(&self, id: u64, verdict: Verdict<Exchange>) {
        if matches!(verdict, Verdict::Retry { .. }) {
            self.cluster.part(self.id, id, verdict);
        }
    }

    pub(super) fn again(
        &self,
        mut exchange: Exchange,
        fault: Fault,
        free: bool,
    ) -> Verdict<Exchange> {
        exchange.fault = Some(fault);
        exchange.times.waiting_since = Instant::now();
        let ticket = ticket(&exchange, Some(self.server.id));
        let back_off = back_off(exchange.tries, self.plan.retry_back_off);
        Verdict::Retry {
            job: exchange,
            ticket,
            free,
            back_off,
        }
    }

    /// Sends the request and gives the response on.
    fn attempt(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        mut upload: Upload,
    ) -> Attempt {
        let Some(exchange) = held.as_mut() else {
            return Attempt::Over(Rest::Untouched);
        };
        let mut interims = Interims::default();
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
                    return Attempt::Failed(Failure::new(Fault::SendFailed, Again::Always));
                }
                // The server may have answered before it broke the connection: that is read before
                // judging.
                Err(SendError::Broken { unsent: false }) => false,
                Err(SendError::Spool(error)) => {
                    log::error!("spool: {error}");
                    return Attempt::Failed(Failure::new(Fault::Internal, Again::Never));
                }
                Err(SendError::Timeout) => {
                    return Attempt::Failed(Failure::new(Fault::SendTimeout, Again::Never));
                }
            };
            match self.read_head(connection, exchange, &mut interims, may_go_on) {
                Ok(Some(length)) => break (length, is_whole),
                // Only a final response stops an upload.
                Ok(None) => {}
                Err(mut failure) => {
                    if !is_whole && failure.fault == Fault::ResponseMissing {
                        failure.fault = Fault::SendFailed;
                    }
                    return Attempt::Failed(failure);
                }
            }
        };
        self.answer(connection, held, length, (is_whole, false))
    }

    /// Gives the response on whose final head is here. `is_followed` if another is to come right
    /// behind it.
    pub(super) fn answer(
        &mut self,
        connection: &mut Connection,
        held: &mut Option<Exchange>,
        length: usize,
        (is_whole, is_followed): (bool, bool),
    ) -> Attempt {
        let Some(exchange) = held.as_ref() else {
            return Attempt::Over(Rest::Lost);
        };
        if let Some(failure) = self.server_error(connection, exchange, length) {
            return Attempt::Failed(failure);
        }
        self.evidence = Some(match self.head.status {
            500..=599 => Err(self.seen_by(exchange, FaultClass::Status)),
            _ => Ok(()),
        });
        self.heed_keep_alive(connection);
        Point::WorkerHead.pass();
        let keeps = self.head.keep_alive && is_whole;
        let patience = match exchange.request.head.method {
            Method::Head => AFTER_HEAD,
            _ => Duration::ZERO,
        };
        let rest = self.relay(connection, held, length);
        let may_say_more = self.head.framing == ResponseFraming::None && !is_followed;
        if !keeps || may_say_more && connection.says_more(patience) {
            return Attempt::Over(Rest::Lost);
        }
        Attempt::Over(rest)
    }

    /// The server has said for how long it keeps the connection.
    fn heed_keep_alive(&self, connection: &mut Connection) {
        heed_keep_alive(&self.head, connection);
    }

    /// Reads until a final head is whole and parsed, and answers its length. Interim ones are given
    /// on; `None` after one of these if asked to return then. `interims` keeps what is known of
    /// them.
    pub(super) fn read_head(
        &mut self,
        connection: &mut Connection,
        exchange: &mut Exchange,
        interims: &mut Interims,
        only_one: bool,
    ) -> Result<Option<usize>, Failure> {
        let never = |fault| Failure::new(fault, Again::Never);
        let until = after(self.sent_at, self.timeout.first_byte);
        self.scanner.reset();
        loop {
            let found = match self.scanner.scan(connection.data(), &self.limits) {
                Ok(found) => found,
                Err(Malformed::HeadTooLarge | Malformed::TooManyFields) => {
                    return Err(never(Fault::ResponseTooLarge));
                }
                Err(_) => return Err(never(Fault::ResponseMalformed)),
            };
            let Some(length) = found else {
                if connection.is_full() {
                    return Err(never(Fault::ResponseTooLarge));
                }
                self.read_more(connection, exchange, until)?;
                continue;
            };
            let bytes = connection.data().get(..length).unwrap_or_default();
            if parse_response(
                bytes,
                exchange.request.head.method,
                &self.limits,
                &mut self.head,
            )
            .is_err()
            {
                return Err(never(Fault::ResponseMalformed));
            }
            let status = self.head.status;
            match status {
                101 => return Err(never(Fault::UnaskedUpgrade)),
                408 if interims.bytes == 0 && self.is_farewell(connection, exchange, length) => {
                    return Err(Failure::stale());
                }
                200.. => {
                    self.head.keep_alive &= !interims.ends_connection;
                    return Ok(Some(length));
                }
                _ => {
                    interims.bytes += length;
                    interims.ends_connection |= !self.head.keep_alive;
                    if interims.bytes > self.limits.head.saturating_mul(INTERIM_HEADS) {
                        return Err(never(Fault::ResponseTooLarge));
                    }
                    // 100 was for the request's body, and the client has had it. HTTP/1.0 knows
                    // none of these.
                    if status != 100 && exchange.request.head.version == Version::Http11 {
                        self.out.clear();
                        let rewrite = ResponseRewrite {
                            framing: ResponseFraming::None,
                            persistence: Persistence::Silent,
                            date: &[],
                            append: &[],
                        };
                        write_response(&mut self.out, bytes, &self.head, &rewrite);
                        self.slot().giving(|| exchange.client.interim(&self.out));
                    }
                    connection.consume(length);
                    self.scanner.reset();
                    if only_one {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether this 408 (its head is the first `length` bytes that came) says that the server gave
    /// up waiting for a request at the moment when one came: it ends a connection that had been
    /// used, and the request can be sent over another. Any other is what the server has to say to
    /// this request.
    fn is_farewell(
        &mut self,
        connection: &Connection,
        exchange: &mut Exchange,
        length: usize,
    ) -> bool {
        // The attempt counts as one that met the end of a connection (see `after`).
        exchange.met_ends += 1;
        let may_be_repeated = self.plan.attempts > 1
            && exchange.request.head.method.is_idempotent()
            && exchange.attempts_that_count() < self.plan.attempts;
        exchange.met_ends -= 1;
        connection.is_used
            && may_be_repeated
            && (!self.head.keep_alive || self.is_followed_by_end(connection, length))
    }

    /// Whether the whole response is here, and the end of the connection right behind it.
    fn is_followed_by_end(&mut self, connection: &Connection, length: usize) -> bool {
        let body = connection.data().get(length..).unwrap_or_default();
        let mut coming = Coming::of(self.head.framing, self.trailer_limits());
        coming.skip(body, &mut self.out) == Ok((body.len(), true)) && connection.has_ended()
    }

    /// Limits of a response's trailers.
    pub(super) fn trailer_limits(&self) -> HeadLimits {
        trailer_limits(self.limits)
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
            return Err(Failure::new(Fault::ResponseTimeout, Again::Never));
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
                Err(Failure::stale())
            }
            Ok(0) | Err(Fault::ResponseCut) => {
                Err(Failure::new(Fault::ResponseMissing, Again::IfIdempotent))
            }
            Ok(_) => {
                self.slot().note_heard();
                if exchange.times.first_byte.is_none() {
                    exchange.times.first_byte = Some(Instant::now());
                }
                Ok(())
            }
            Err(_) => Err(Failure::new(Fault::ResponseTimeout, Again::Never)),
        }
    }

    /// A 5xx that the client shall not see (`on_5xx`).
    fn server_error(
        &mut self,
        connection: &mut Connection,
        exchange: &Exchange,
        length: usize,
    ) -> Option<Failure> {
        if !(500..=599).contains(&self.head.status) {
            return None;
        }
        let plan = &self.plan;
        let again = match plan.on_5xx {
            On5xx::Pass => return None,
            On5xx::BadGateway => Again::Never,
            On5xx::Retry
                if exchange.request.head.method.is_idempotent()
                    && exchange.attempts_that_count() < plan.attempts =>
            {
                Again::IfIdempotent
            }
            On5xx::Retry => return None,
        };
        connection.consume(length);
        let mut coming = Coming::of(self.head.framing, self.trailer_limits());
        // What is here already is skipped; what is not is not worth waiting for.
        let rest = match coming.skip(connection.data(), &mut self.out) {
            Ok((used, true)) if self.head.keep_alive => {
                connection.consume(used);
                Rest::Complete
            }
            _ => Rest::Lost,
        };
        Some(Failure {
            fault: Fault::ServerError,
            again,
            rest,
            is_stale: false,
        })
    }
}

/// The server has said in this head for how long it keeps the connection.
pub(super) fn heed_keep_alive(head: &ResponseHead, connection: &mut Connection) {
    let limit = head.keep_alive_timeout;
    connection.idle_limit =
        limit.map(|limit| limit.saturating_sub((limit / 2).min(Duration::from_secs(1))));
}

/// Limits of the trailers behind a head of these limits.
pub(super) fn trailer_limits(limits: HeadLimits) -> HeadLimits {
    HeadLimits {
        head: TRAILERS,
        ..limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_wait_twice_as_long_each_time_up_to_a_second_or_what_was_asked_for() {
        let waits = |least| {
            let least = Duration::from_millis(least);
            [0, 1, 2, 3, 4, 100].map(|tries| back_off(tries, least).as_millis())
        };
        assert_eq!(waits(0), [0; 6]);
        assert_eq!(waits(20), [0, 0, 20, 40, 80, 1000]);
        assert_eq!(waits(600), [0, 0, 600, 1000, 1000, 1000]);
        assert_eq!(waits(5000), [0, 0, 5000, 5000, 5000, 5000]);
        assert_eq!(waits(60_000), [0, 0, 60_000, 60_000, 60_000, 60_000]);
    }
}
