//! The HTTP/1 requests of one client, one after the other. Each is read whole and given on. The
//! session never waits for a response: while one is on its way the session reads again, and sees
//! the client leave.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::ServerConnection;

use crate::base::address::Peer;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{
    Admission, Answer, Client, Exchange, Hub, Left, OpenListener, Opened, Origin, Service, switch,
};
use crate::fault::Fault;
use crate::filter::forwarded::ClientFacts;
use crate::filter::look_alikes;
use crate::http::{BodyFraming, Method};
use crate::net::Stream;
use crate::plan::{ErrorPage, Listener};
use crate::proto::h1::{HeadLimits, HeadScanner};

use super::body::read_body;
use super::greet::Greeting;
use super::handshake::{Handshake, handshake};
use super::head::{capture, parse_head, read_head};
use super::input::Input;
use super::linger::{self, linger};
use super::reader::{Filled, Reader, Stop};
use super::tunnel;

/// While a pipelined request waits for its turn, how often to look whether its client is still
/// there.
const TURN_TICK: Duration = Duration::from_millis(100);

/// Empty lines allowed before a request line (RFC 9112 §2.2).
const EMPTY_LINES: usize = 8;

/// Serves this client to its end.
pub(super) fn serve(
    hub: &Arc<Hub>,
    service: &dyn Service,
    listener: &Arc<OpenListener>,
    stream: Stream,
    greeting: Greeting,
    tls: Option<Box<ServerConnection>>,
    began: Instant,
) {
    let trusted = greeting.is_trusted(listener);
    let client = Client::new(
        hub,
        stream,
        Origin {
            listener: Arc::clone(listener),
            peer: greeting.peer,
            is_trusted: trusted,
        },
        tls,
        began,
    );
    let limits = HeadLimits {
        // A head lies in one buffer: what fits into none is too large, and not a lack of buffers.
        head: listener.limit.head.min(Input::most(&hub.buffers)),
        fields: listener.limit.fields,
        target: listener.limit.target,
    };
    let mut session = Session {
        service,
        client: &client,
        listener,
        limits,
        reader: Reader::new(&client, listener, &greeting.first),
        scanner: HeadScanner::default(),
        cluster: 0,
        routed: None,
    };
    if client.is_tls() {
        let handshake = handshake(&mut session.reader, began);
        if handshake == Handshake::PlainHttp {
            session.refuse_plain();
        }
        if handshake != Handshake::Done {
            hub.counters.sessions_refused.add(1);
            return;
        }
    }
    client.note_read_whole();
    while session.next_request().is_ok() {}
}

struct Session<'a> {
    service: &'a dyn Service,
    client: &'a Arc<Client>,
    listener: &'a Listener,
    limits: HeadLimits,
    reader: Reader<'a>,
    scanner: HeadScanner,
    /// Cluster of the exchange that is open.
    cluster: usize,
    /// Cluster of the request that is being read, once its route is known.
    routed: Option<usize>,
}

/// The session is over, and everything is done that its end asks for.
struct Over;

impl Session<'_> {
    /// Reads one request and gives it on, or answers it.
    fn next_request(&mut self) -> Result<(), Over> {
        self.await_first_byte()?;
        self.client.note_reading(true);
        let mut exchange = Exchange::begin(self.client, Instant::now());
        self.routed = None;
        let length = match self.read_head(&mut exchange) {
            Ok(length) => length,
            Err(Stop::Fault(fault)) => return self.refuse(exchange, fault),
            Err(stop @ (Stop::Broken | Stop::Ended)) => return self.client_left(exchange, stop),
        };
        Point::SessionHead.pass();
        let (bytes, body) = self.reader.input.data().split_at(length);
        if let Err(fault) = parse_head(self.client, bytes, &self.limits, &mut exchange) {
            return self.refuse(exchange, fault);
        }
        let head = &exchange.request.head;
        let framing = head.framing;
        let has_body = !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        let body_is_coming = body.is_empty();

        // Everything that the head alone decides comes before the body is asked for. The pass is
        // kept until the request is submitted or answered, however long its turn or its body takes.
        let (destination, _pass) = match self.service.admit(self.client, bytes, head) {
            Admission::Cluster(destination, pass) => (destination, pass),
            Admission::Answer(answer) => return self.answer(exchange, &answer, has_body, length),
        };
        exchange.destination = destination;
        self.routed = Some(exchange.destination.cluster);
        if let BodyFraming::Length(length) = framing
            && length > self.listener.limit.body
        {
            return self.refuse(exchange, Fault::BodyTooLarge);
        }
        let mut exchange = self.take_turn(exchange)?;
        // Not before the turn of this request: a connection holds one place among the requests at
        // once, however many it sends.
        exchange.permit = self.client.hub().permit();
        if exchange.permit.is_none() {
            return self.answer_opened(
                exchange,
                &Answer::fault(Fault::TooManyRequests),
                has_body,
                length,
            );
        }
        self.cluster = exchange.destination.cluster;
        if has_body {
            self.with_body(exchange, length, body_is_coming)
        } else {
            exchange.request.keep(&self.reader.input.data()[..length]);
            self.reader.input.consume(length);
            if exchange.destination.is_tunnel {
                return self.with_upgrade(exchange);
            }
            self.submit(exchange);
            Ok(())
        }
    }

    /// Waits for the first byte of a request. The response to the request before may still be on
    /// its way.
    fn await_first_byte(&mut self) -> Result<(), Over> {
        let mut empty_lines = 0;
        let idle = self.listener.timeout.idle;
        let mut patience = idle;
        self.client.note_reading(false);
        loop {
            // One empty line more than allowed stays, and is refused with what follows.
            while empty_lines < EMPTY_LINES && self.reader.input.data().starts_with(b"\r\n") {
                self.reader.input.consume(2);
                empty_lines += 1;
            }
            let only_half_an_empty_line =
                self.reader.input.data() == b"\r" && empty_lines < EMPTY_LINES;
            if !self.reader.input.is_empty() && !only_half_an_empty_line {
                return Ok(());
            }
            if self.reader.has_ended {
                return self.end_idle();
            }
            self.reader.shrink();
            let wait = std::mem::replace(&mut patience, idle);
            match self.reader.fill_within(wait) {
                Filled::Some => {}
                Filled::Nothing | Filled::Timeout => {
                    // Idle time counts from the end of the response. While there is no end, the
                    // client is not idle.
                    if let Some(since) = self.client.idle_since() {
                        let idle_for = since.elapsed();
                        if idle_for >= idle {
                            return self.end_idle();
                        }
                        patience = idle.saturating_sub(idle_for);
                    }
                }
                Filled::End => self.at_end()?,
                Filled::Broken | Filled::Full => {
                    self.leave(true);
                    return Err(Over);
                }
            }
        }
    }

    /// Reads until a head is whole, and returns its length.
    fn read_head(&mut self, exchange: &mut Exchange) -> Result<usize, Stop> {
        let deadline = after(exchange.times.began, self.listener.timeout.header);
        let read = read_head(&mut self.reader, &mut self.scanner, &self.limits, deadline);
        self.client.note_read_whole();
        if read.is_err() {
            capture(self.client, exchange, self.reader.input.data());
        }
        read
    }

    /// Waits until everything before this request is answered. Only a pipelined request ever has
    /// to.
    fn take_turn(&mut self, mut exchange: Exchange) -> Result<Exchange, Over> {
        loop {
            match self.client.open(exchange.id) {
                Opened::Yes => return Ok(exchange),
                Opened::Cut(fault) => {
                    exchange.fault = Some(fault);
                    exchange.complete();
                    return Err(Over);
                }
                // Bytes after the last request of a connection are no request, and not logged as
                // one (RFC 9112 §9.6).
                Opened::Never => {
                    exchange.forget();
                    linger(&mut self.reader);
                    return Err(Over);
                }
                Opened::NotYet => {}
            }
            if !self.client.wait_turn(TURN_TICK)
                && !self.reader.has_ended
                && self.client.stream().has_ended()
                && !self.is_ended_here()
                && !self.listener.half_close_serve
            {
                exchange.fault = Some(Fault::ClientGoneQueue);
                exchange.complete();
                self.leave(false);
                return Err(Over);
            }
        }
    }

    /// Reads the body of the request and gives the request on.
    fn with_body(
        &mut self,
        mut exchange: Exchange,
        length: usize,
        is_coming: bool,
    ) -> Result<(), Over> {
        if exchange.request.head.expect_continue && is_coming {
            exchange.ask_for_body();
        }
        // The body takes the head's room in the input.
        exchange.request.keep(&self.reader.input.data()[..length]);
        self.reader.input.consume(length);
        self.reader.input.settle();
        let read = read_body(&mut self.reader, self.limits, &mut exchange).and_then(|()| {
            look_alikes::keep_back_trailers(
                self.listener,
                self.client.is_trusted(),
                &mut exchange.request.body.trailers,
            )?;
            Ok(())
        });
        self.client.note_read_whole();
        match read {
            Ok(()) => {
                self.submit(exchange);
                Ok(())
            }
            Err(Stop::Fault(fault)) => self.finish_refused(exchange, fault),
            Err(Stop::Broken | Stop::Ended) => {
                exchange.call_off(Fault::ClientGoneRequest);
                Err(Over)
            }
        }
    }

    /// Gives on a request whose client asks for another protocol, and waits for the decision: what
    /// the client says next may be of that protocol.
    fn with_upgrade(&mut self, mut exchange: Exchange) -> Result<(), Over> {
        let (switching, switched) = switch();
        let request = &mut exchange.request;
        request.upgrade = request.head.upgrade(request.bytes()).map(str::to_owned);
        exchange.switching = Some(switching);
        let id = exchange.id;
        self.submit(exchange);
        let mut has_left = false;
        let far = tunnel::wait(&switched, TURN_TICK, || {
            let may_leave = !has_left && !self.is_ended_here() && !self.listener.half_close_serve;
            if may_leave && self.client.stream().has_ended() {
                has_left = true;
                self.leave(false);
            }
        });
        let Some(far) = far else { return Ok(()) };
        match tunnel::pump(&mut self.reader, &*far, &switched) {
            tunnel::Ended::Over => {}
            tunnel::Ended::Broken => {
                self.client.leave(true);
                self.service.cancel(self.cluster, id);
            }
        }
        Err(Over)
    }

    /// Gives the whole request on, with what servers are told of its client.
    fn submit(&mut self, mut exchange: Exchange) {
        let client = self.client;
        let facts = ClientFacts {
            address: client.peer().map(|peer| peer.ip()),
            trusted: client.is_trusted(),
            tls: client.is_tls(),
            request_id: request_id(self.listener, exchange.id),
        };
        exchange.request.tell_client(self.listener, &facts);
        self.service.submit(exchange);
    }

    /// Gives the answer that the head alone decided. The connection goes on if there is no body to
    /// skip.
    fn answer(
        &mut self,
        exchange: Exchange,
        answer: &Answer,
        has_body: bool,
        length: usize,
    ) -> Result<(), Over> {
        let exchange = self.take_turn(exchange)?;
        self.answer_opened(exchange, answer, has_body, length)
    }

    /// Gives an answer to an exchange that has its turn.
    fn answer_opened(
        &mut self,
        mut exchange: Exchange,
        answer: &Answer,
        has_body: bool,
        length: usize,
    ) -> Result<(), Over> {
        let permit = self.client.hub().permit_regardless();
        exchange.permit.get_or_insert(permit);
        self.reader.input.consume(length);
        let page = self.error_page(answer.status);
        if exchange.answer(answer, page.as_ref(), has_body) {
            linger(&mut self.reader);
            return Err(Over);
        }
        Ok(())
    }

    /// Refuses what cannot be a request; that always ends the connection.
    fn refuse(&mut self, exchange: Exchange, fault: Fault) -> Result<(), Over> {
        let exchange = self.take_turn(exchange)?;
        self.finish_refused(exchange, fault)
    }

    /// Refuses what has its turn already.
    fn finish_refused(&mut self, mut exchange: Exchange, fault: Fault) -> Result<(), Over> {
        if let Some(malformed) = self.reader.malformed.take() {
            exchange.cause = Some(malformed.text());
        }
        let answer = Answer::because(fault, exchange.cause);
        log::debug!(
            "{}: {}: {}",
            self.listener.name,
            Peer(self.client.peer()),
            answer.text()
        );
        let page = self.error_page(answer.status);
        exchange.answer(&answer, page.as_ref(), true);
        linger(&mut self.reader);
        Err(Over)
    }

    /// The page for failures of this status of the cluster that the request goes to.
    fn error_page(&self, status: u16) -> Option<ErrorPage> {
        self.routed
            .and_then(|cluster| self.service.error_page(cluster, status))
    }

    /// The client has left in the middle of a request head, `how` says in which way.
    fn client_left(&mut self, mut exchange: Exchange, how: Stop) -> Result<(), Over> {
        // Bytes after the last request of a connection are no request.
        if self.client.is_closing() {
            exchange.forget();
        } else {
            exchange.fault = Some(Fault::ClientGoneRequest);
            exchange.complete();
        }
        match how {
            Stop::Ended => self.at_end()?,
            Stop::Broken | Stop::Fault(_) => self.leave(true),
        }
        self.end_idle()
    }

    /// The balancer has ended the reading. What the client has asked for is still answered.
    fn is_ended_here(&self) -> bool {
        self.client.is_dismissed() || self.client.is_condemned()
    }

    /// The client has ended its sending side between requests.
    fn at_end(&mut self) -> Result<(), Over> {
        if !self.is_ended_here() && !self.listener.half_close_serve {
            self.leave(false);
            self.client.say_goodbye();
            return Err(Over);
        }
        // What the client has asked for is still answered.
        while !self.client.wait_turn(TURN_TICK) {}
        self.reader.has_ended = true;
        Ok(())
    }

    /// The client is gone: what it waits for is called off.
    fn leave(&self, reset: bool) {
        if let Left::Cancel(id) = self.client.leave(reset) {
            self.service.cancel(self.cluster, id);
        }
    }

    /// Ends a connection on which nothing is going on.
    fn end_idle(&mut self) -> Result<(), Over> {
        self.client.say_goodbye();
        if !self.reader.has_ended {
            linger(&mut self.reader);
        }
        Err(Over)
    }

    /// Refuses a client that speaks plain HTTP to a TLS listener, in plain HTTP. TLS has said
    /// nothing yet and never will.
    fn refuse_plain(&mut self) {
        let mut exchange = Exchange::begin(self.client, Instant::now());
        capture(self.client, &mut exchange, self.reader.cipher.data());
        if self.reader.cipher.data().starts_with(b"HEAD ") {
            exchange.request.head.method = Method::Head;
        }
        let answer = Answer::fault(Fault::HttpToTls);
        let page = self.error_page(answer.status);
        exchange.answer_in_plain(&answer, page.as_ref(), linger::PAUSE);
        linger(&mut self.reader);
    }
}

/// The id of a request: it differs between requests by their number, and between processes by a
/// random key.
fn request_id(listener: &Listener, id: u64) -> u128 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    if !listener.request_id {
        return 0;
    }
    let key = KEY.get_or_init(RandomState::new);
    u128::from(key.hash_one(id)) << 64 | u128::from(key.hash_one(!id))
}

#[cfg(test)]
mod tests;
