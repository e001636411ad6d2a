//! A worker: one thread, one server, one connection at a time. It connects before it is needed,
//! serves one exchange after the other, and connects anew when the connection is not good any more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::{Verdict, WorkerId};
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{Exchange, Scratch};
use crate::fault::Fault;
use crate::filter::client_key::{address_key, hash};
use crate::health::{self, FaultClass, Witness};
use crate::http::{Method, ResponseFraming};
use crate::plan::{self, ClientKey, ClusterTimeout, OnClientAbort};
use crate::proto::h1::HeadLimits;
use crate::retry::{Failure, Judgement, Meanwhile, RetrySettings, hides_5xx, judge, may_retry};
use crate::route::path::{self, PathRoom};

use super::batch::Batching;
use super::cluster::{Cluster, ticket};
use super::connection::{Connection, SendError, Upload};
use super::life::Hands;
use super::overseer::Overseer;
use super::relay::Rest;
use super::server::Server;
use super::slot::Slot;
use super::speak::{BadHead, Head};

/// Room for what of a request's body lies in the spool.
const ROOM: usize = 64 * 1024;

/// After the response to a HEAD its server has so long to send the body that it should not send.
pub(super) const AFTER_HEAD: Duration = Duration::from_millis(2);

/// A worker.
pub(super) struct Worker {
    cluster: Arc<Cluster>,
    overseer: Arc<dyn Overseer>,
    pub(super) id: WorkerId,
    pub(super) server: Arc<Server>,
    pub(super) slot: Arc<Slot>,
    /// Settings, and what the server's version was when they were looked at.
    pub(super) plan: Arc<plan::Cluster>,
    pub(super) version: u64,
    /// What the server's version was when the connection was found to lead there.
    pub(super) at_home: u64,
    pub(super) limits: HeadLimits,
    pub(super) timeout: ClusterTimeout,
    pub(super) on_client_abort: OnClientAbort,
    pub(super) retry: RetrySettings,
    /// Heads of requests that are sent together.
    pub(super) out: Vec<u8>,
    /// What the client is told next.
    pub(super) scratch: Scratch,
    room: Box<[u8]>,
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
    /// No final head went to the client. What has become of the connection.
    Failed(Failure, Rest),
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
            retry: plan.retry_settings(),
            out: Vec::new(),
            scratch: Scratch::default(),
            room: vec![0; ROOM].into_boxed_slice(),
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
        self.out.clear();
        self.scratch.reset();
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
        let address = || exchange.peer().map(|peer| address_key(peer.ip()));
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
            let rest = if self.slot().is_notified() {
                Rest::Lost
            } else {
                Rest::Untouched
            };
            exchange.call_off(Fault::ClientGoneQueue);
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
        exchange.attempts.begin();
        exchange.server_account = Some(self.server.account.id());
        exchange.times.taken = Some(now);
        exchange.times.first_byte = None;
        let waiting_since = exchange.times.waiting_since;
        let waited = now.saturating_duration_since(waiting_since);
        exchange.times.queued = exchange.times.queued.saturating_add(waited);
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
        let (failure, rest) = match attempt {
            Ok(Attempt::Over(_)) if has_left && self.slot().is_notified() => {
                return (Verdict::Done, Rest::Lost);
            }
            Ok(Attempt::Over(rest)) => return (Verdict::Done, rest),
            Ok(Attempt::Failed(failure, rest)) => {
                self.evidence = match &held {
                    Some(exchange) if !has_left => failure
                        .evidence()
                        .map(|class| Err(self.seen_by(exchange, class))),
                    _ => None,
                };
                if has_left && self.slot().is_notified() {
                    (failure, Rest::Lost)
                } else {
                    (failure, rest)
                }
            }
            Err(_) => {
                self.cluster.hub.answer_lost();
                (Failure::of(Fault::Internal), Rest::Lost)
            }
        };
        let verdict = match held {
            Some(exchange) => self.carry_out(failure, exchange, has_left),
            None => Verdict::Done,
        };
        (verdict, rest)
    }

    /// Judges an exchange whose attempt failed, and does what follows.
    fn carry_out(
        &self,
        failure: Failure,
        mut exchange: Exchange,
        client_has_left: bool,
    ) -> Verdict<Exchange> {
        let meanwhile = Meanwhile {
            client_has_left,
            // Only a panic ends an attempt with the head out.
            head_is_out: exchange.status >= 200,
            is_stopped: self.slot().is_stopped(),
        };
        let method = exchange.request.head.method;
        match judge(failure, method, &exchange.attempts, &self.retry, meanwhile) {
            Judgement::Retry { is_free, back_off } => {
                log::debug!(
                    "{}: attempt={} why=\"{}\"",
                    self.name(),
                    exchange.attempts.begun() + 1,
                    failure.fault().text()
                );
                exchange.attempts.fail(failure, &self.retry);
                return self.retry(exchange, is_free, back_off);
            }
            Judgement::Respond(fault) => {
                if !meanwhile.is_stopped {
                    log::info!("{}: {}", self.name(), fault.text());
                }
                self.cluster.respond(exchange, fault);
            }
            Judgement::Cut(fault) => {
                exchange.fault = Some(fault);
                exchange.cut();
            }
            Judgement::Drop(fault) => exchange.call_off(fault),
        }
        Verdict::Done
    }

    /// One of several exchanges was served: if it shall be tried again, it goes back.
    pub(super) fn part(&self, id: u64, verdict: Verdict<Exchange>) {
        if matches!(verdict, Verdict::Retry { .. }) {
            self.cluster.part(self.id, id, verdict);
        }
    }

    /// No attempt can be begun here, for this reason: the exchange goes on elsewhere.
    pub(super) fn put_off(&self, mut exchange: Exchange, why: Fault) -> Verdict<Exchange> {
        exchange.attempts.put_off(why);
        let back_off = exchange.attempts.back_off(&self.retry);
        self.retry(exchange, true, back_off)
    }

    /// The exchange waits for its next attempt from now on.
    fn retry(
        &self,
        mut exchange: Exchange,
        is_free: bool,
        back_off: Duration,
    ) -> Verdict<Exchange> {
        exchange.times.waiting_since = Instant::now();
        let ticket = ticket(&exchange, Some(self.server.id));
        Verdict::Retry {
            job: exchange,
            ticket,
            free: is_free,
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
                    return Attempt::Failed(Failure::unsent(Fault::SendFailed), Rest::Lost);
                }
                // The server may have answered before it broke the connection: that is read before
                // judging.
                Err(SendError::Broken { unsent: false }) => false,
                Err(SendError::Spool(error)) => {
                    log::error!("spool: {error}");
                    return Attempt::Failed(Failure::of(Fault::Internal), Rest::Lost);
                }
                Err(SendError::Timeout) => {
                    return Attempt::Failed(Failure::of(Fault::SendTimeout), Rest::Lost);
                }
            };
            match self.read_head(connection, exchange, may_go_on) {
                Ok(Some(length)) => break (length, is_whole),
                // Only a final response stops an upload.
                Ok(None) => {}
                Err(failure) if is_whole => return Attempt::Failed(failure, Rest::Lost),
                Err(failure) => return Attempt::Failed(failure.while_sending(), Rest::Lost),
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
        let status = connection.response().status;
        if let 500..=599 = status
            && hides_5xx(
                exchange.request.head.method,
                &exchange.attempts,
                &self.retry,
            )
        {
            let rest = self.skip_response(connection, length);
            return Attempt::Failed(Failure::of(Fault::ServerError), rest);
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
        let rest = self.relay(connection, held, length);
        let may_say_more = connection.response().framing == ResponseFraming::None && !is_followed;
        let is_good = is_whole
            && connection.may_be_reused()
            && !(may_say_more && connection.says_more(patience));
        Attempt::Over(if is_good { rest } else { Rest::Lost })
    }

    /// Reads until a final head is here, and returns its length. Interim responses are given to the
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

    /// Whether this 408 (its head is the first `length` bytes that came) says that the server gave
    /// up waiting for a request at the moment when one came: it ends a connection that had been
    /// used, and the request can be sent over another. Any other is what the server has to say to
    /// this request.
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

    /// Skips a response whose head is the first `length` bytes that came. What of it is here already
    /// is worth a connection; what is not is not worth waiting for.
    fn skip_response(&mut self, connection: &mut Connection, length: usize) -> Rest {
        connection.consume(length);
        match connection.skip() {
            Ok(true) if connection.may_be_reused() => Rest::Complete,
            _ => Rest::Lost,
        }
    }
}
