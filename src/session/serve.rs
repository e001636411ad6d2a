//! Serves one client: reads its requests whole, one after the other, and gives them on. Never waits
//! for a response: while one is on its way the session is back in `read()`, where it sees the
//! client leave.

mod body;

use std::hash::{BuildHasher, RandomState};
use std::net::Shutdown;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConnection;

use crate::base::address::Peer;
use crate::base::date::DateCache;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::{
    Admission, Answer, Client, Exchange, Fed, Holds, Hub, Left, Opened, Service, Short,
};
use crate::fault::Fault;
use crate::filter::forwarded::ClientFacts;
use crate::filter::look_alikes;
use crate::http::{BodyFraming, FieldId, Method, RequestHead};
use crate::net::Stream;
use crate::net::stream::is_timeout;
use crate::observe::access::Captured;
use crate::plan::{ErrorPage, Listener};
use crate::proto::h1::{HeadLimits, HeadScanner, Malformed, Persistence, parse_request};

use super::cipher::Cipher;
use super::greet::Greeting;
use super::input::Input;
use super::misplaced;

/// After an answer that ends the connection, what the client still sends is read and thrown away,
/// or else a reset could overtake the answer (RFC 9112 §9.6): up to so many bytes (or as many as a
/// body may have), with such pauses between them, for so long in all. Many clients write all of a
/// body before they read.
const LINGER_BYTES: u64 = 64 << 20;
const LINGER_PAUSE: Duration = Duration::from_secs(2);
const LINGER_TIME: Duration = Duration::from_secs(30);

/// What is lacking is tried again for so long, while others give way.
const ROOM_PATIENCE: Duration = Duration::from_millis(50);

/// How often it is tried.
const ROOM_LOOK: Duration = Duration::from_millis(2);

/// While a pipelined request waits for its turn, how often to look whether its client is still
/// there.
const TURN_TICK: Duration = Duration::from_millis(100);

/// Empty lines allowed before a request line (RFC 9112 §2.2).
const EMPTY_LINES: usize = 8;

/// Serves this client to its end.
pub(super) fn serve(
    hub: &Arc<Hub>,
    service: &dyn Service,
    listener: &Arc<Listener>,
    stream: Stream,
    greeting: Greeting,
    tls: Option<Box<ServerConnection>>,
    began: Instant,
) {
    let mut cipher = Cipher::default();
    let input = if tls.is_some() {
        cipher.start_with(&greeting.rest);
        Input::new(&[])
    } else {
        Input::new(&greeting.rest)
    };
    let trusted = greeting.is_trusted(listener);
    let client = Client::new(
        hub,
        stream,
        Arc::clone(listener),
        greeting.peer,
        trusted,
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
        input,
        cipher,
        scanner: HeadScanner::default(),
        date: DateCache::default(),
        read_timeout: Duration::ZERO,
        cluster: 0,
        routed: None,
        ended: false,
    };
    if client.is_tls() && !session.handshake(began) {
        hub.counters.sessions_refused.add(1);
        return;
    }
    client.note_read_whole();
    while session.next_request().is_ok() {}
}

struct Session<'a> {
    service: &'a dyn Service,
    client: &'a Arc<Client>,
    listener: &'a Listener,
    limits: HeadLimits,
    input: Input,
    cipher: Cipher,
    scanner: HeadScanner,
    date: DateCache,
    /// What the socket is set to.
    read_timeout: Duration,
    /// Cluster of the exchange that is open.
    cluster: usize,
    /// Cluster of the request that is being read, once its route is known.
    routed: Option<usize>,
    /// The client has ended its sending side, and was served what it had sent.
    ended: bool,
}

/// The session is over; everything is said and done.
struct Over;

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filled {
    Broken,
    End,
    /// The input has no room, and none can be had.
    Full,
    /// A part of a record, which says nothing yet.
    Nothing,
    Some,
    Timeout,
}

impl Session<'_> {
    /// Reads one request and gives it on, or answers it.
    fn next_request(&mut self) -> Result<(), Over> {
        self.await_first_byte()?;
        self.client.note_reading(true);
        let mut exchange = Exchange::begin(self.client, Instant::now());
        let deadline = after(exchange.times.began, self.listener.timeout.header);
        self.routed = None;
        let read = self.read_head(deadline);
        self.client.note_read_whole();
        let length = match read {
            Ok(length) => length,
            Err(stop) => {
                self.capture(&mut exchange.captured, self.input.data(), None);
                return match stop {
                    Stop::Fault(fault) => self.refuse(exchange, fault),
                    Stop::Broken | Stop::Ended => self.gone(exchange, stop),
                };
            }
        };
        Point::SessionHead.pass();
        let whole = self.input.data();
        let (head_bytes, body_bytes) = whole.split_at(length);
        let state = &mut *exchange;
        let head = &mut state.request.head;
        let parsed = parse_request(head_bytes, &self.limits, head);
        // After an error the places in the head mean nothing.
        self.capture(
            &mut state.captured,
            head_bytes,
            parsed.is_ok().then_some(&*head),
        );
        if let Err(malformed) = parsed {
            return self.refuse(exchange, fault_of(malformed));
        }
        let trusted = self.client.is_trusted();
        if let Err(fault) = look_alikes::keep_back(self.listener, trusted, head_bytes, head) {
            return self.refuse(exchange, fault);
        }
        let framing = head.framing;
        let has_body = !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        let body_is_coming = body_bytes.is_empty();

        // Everything that the head alone decides comes before the body is asked for. The pass is
        // kept until the request is submitted or answered, however long its turn or its body takes.
        let (destination, _pass) = match self.service.admit(self.client, head_bytes, head) {
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
        // Not before its turn: a connection holds one place among the requests at once, however
        // many it sends.
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
            exchange.request.keep(&self.input.data()[..length]);
            self.input.consume(length);
            self.submit(exchange);
            Ok(())
        }
    }

    /// Keeps for the access log what it tells of a request: of one that is no request the first
    /// line, as far as there is one.
    fn capture(&self, captured: &mut Captured, bytes: &[u8], head: Option<&RequestHead>) {
        if self.client.hub().access.is_none() {
            return;
        }
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next();
        let value = |id: FieldId| {
            let field = head?.fields.iter().find(|field| field.id == id)?;
            Some(field.value.of(bytes))
        };
        captured.keep(
            line.unwrap_or_default(),
            head.map_or(&[], |head| head.authority.of(bytes)),
            value(FieldId::Referer).unwrap_or_default(),
            value(FieldId::UserAgent).unwrap_or_default(),
        );
    }

    /// Waits for the first byte of a request, through what may still be going on with the one
    /// before.
    fn await_first_byte(&mut self) -> Result<(), Over> {
        let mut empty_lines = 0;
        let idle = self.listener.timeout.idle;
        let mut patience = idle;
        self.client.note_reading(false);
        loop {
            // One more than allowed stays, to be refused however it came.
            while empty_lines < EMPTY_LINES && self.input.data().starts_with(b"\r\n") {
                self.input.consume(2);
                empty_lines += 1;
            }
            let only_half_an_empty_line = self.input.data() == b"\r" && empty_lines < EMPTY_LINES;
            if !self.input.is_empty() && !only_half_an_empty_line {
                return Ok(());
            }
            if self.ended {
                return self.part();
            }
            self.input.shrink();
            self.cipher.shrink();
            self.set_read_timeout(patience, true);
            patience = idle;
            match self.fill() {
                Filled::Some => {}
                Filled::Nothing | Filled::Timeout => {
                    // Idle time counts from the end of the response, and not at all while there is
                    // none.
                    if let Some(since) = self.client.idle_since() {
                        let idle_for = since.elapsed();
                        if idle_for >= idle {
                            return self.part();
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

    /// Reads until a head is whole, and answers its length.
    fn read_head(&mut self, deadline: Instant) -> Result<usize, Stop> {
        self.scanner.reset();
        loop {
            if misplaced::is_tls(self.input.data()) && !self.client.is_tls() {
                return Err(Stop::Fault(Fault::TlsToPlain));
            }
            match self.scanner.scan(self.input.data(), &self.limits) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => {}
                Err(malformed) => return Err(Stop::Fault(fault_of(malformed))),
            }
            if self.ended {
                return Err(Stop::Ended);
            }
            if self.input.space().is_empty() && !self.grow_for_head() {
                return Err(Stop::Fault(Fault::NoBuffer));
            }
            let holds = if self.input.is_reserved() {
                Holds::Head
            } else {
                Holds::Nothing
            };
            self.client
                .note_read(Instant::now(), self.listener.timeout.header, holds);
            self.fill_until(deadline, Fault::HeaderTimeout)?;
        }
    }

    /// Makes room for a head that does not fit into the small buffer.
    fn grow_for_head(&mut self) -> bool {
        let hub = Arc::clone(self.client.hub());
        if self.input.is_grown(&hub.buffers) {
            return false;
        }
        retry_for_room(&hub, Short::Heads, || {
            self.input.grow_for_head(&hub.buffers)
        })
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
                // What comes behind the last request is none, and not logged as one (RFC 9112
                // §9.6).
                Opened::Never => {
                    exchange.forget();
                    self.linger();
                    return Err(Over);
                }
                Opened::NotYet => {}
            }
            if !self.client.wait_turn(TURN_TICK)
                && !self.ended
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

    fn with_body(
        &mut self,
        mut exchange: Exchange,
        length: usize,
        is_coming: bool,
    ) -> Result<(), Over> {
        if exchange.request.head.expect_continue && is_coming {
            self.client.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.client.hand_over();
        }
        // The body takes the head's room in the input.
        exchange.request.keep(&self.input.data()[..length]);
        self.input.consume(length);
        self.input.settle();
        let read = self.read_body(&mut exchange).and_then(|()| {
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
                exchange.fault = Some(Fault::ClientGoneRequest);
                self.client.drop_exchange(exchange);
                Err(Over)
            }
        }
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

    /// Answers what the head alone decided. The connection goes on if there is no body to skip.
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

    /// Answers an exchange that has its turn.
    fn answer_opened(
        &mut self,
        mut exchange: Exchange,
        answer: &Answer,
        has_body: bool,
        length: usize,
    ) -> Result<(), Over> {
        let permit = self.client.hub().permit_regardless();
        exchange.permit.get_or_insert(permit);
        let close = has_body || !exchange.request.head.keep_alive || self.client.must_close();
        exchange.status = answer.status;
        exchange.fault = answer.fault;
        let bytes = self.rendered(&exchange.request.head, answer, close);
        self.input.consume(length);
        self.client.finish(&[&bytes], close, exchange);
        if close {
            self.linger();
            return Err(Over);
        }
        Ok(())
    }

    /// Refuses what cannot be a request; that always ends the connection.
    fn refuse(&mut self, exchange: Exchange, fault: Fault) -> Result<(), Over> {
        let exchange = self.take_turn(exchange)?;
        self.finish_refused(exchange, fault)
    }

    /// The same when the exchange is open already.
    fn finish_refused(&mut self, mut exchange: Exchange, fault: Fault) -> Result<(), Over> {
        log::debug!(
            "{}: {}: {}",
            self.listener.name,
            Peer(self.client.peer()),
            fault.text()
        );
        let answer = Answer::fault(fault);
        exchange.status = answer.status;
        exchange.fault = Some(fault);
        let bytes = self.rendered(&exchange.request.head, &answer, true);
        self.client.finish(&[&bytes], true, exchange);
        self.linger();
        Err(Over)
    }

    fn rendered(&mut self, head: &RequestHead, answer: &Answer, close: bool) -> Vec<u8> {
        let persistence = Persistence::of(close, head.version);
        let head_only = head.method == Method::Head;
        let of_cluster = self
            .routed
            .and_then(|cluster| self.service.error_page(cluster, answer.status));
        let of_listener = || ErrorPage::find(&self.listener.error_pages, answer.status);
        let page = of_cluster.as_ref().or_else(of_listener);
        let mut bytes = Vec::with_capacity(512);
        answer.render(
            &mut bytes,
            page,
            head_only,
            persistence,
            self.date.at(SystemTime::now()),
        );
        bytes
    }

    /// The client has left in the middle of a request head.
    fn gone(&mut self, mut exchange: Exchange, how: Stop) -> Result<(), Over> {
        // Behind the last request it was none.
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
        self.part()
    }

    /// It is the balancer that reads no more: what the client has asked for is still answered.
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
        // What it asked for is still answered.
        while !self.client.wait_turn(TURN_TICK) {}
        self.ended = true;
        Ok(())
    }

    fn leave(&self, reset: bool) {
        if let Left::Cancel(id) = self.client.leave(reset) {
            self.service.cancel(self.cluster, id);
        }
    }

    /// Ends a connection on which nothing is going on.
    fn part(&mut self) -> Result<(), Over> {
        self.client.say_goodbye();
        if !self.ended {
            self.linger();
        }
        Err(Over)
    }

    /// Reads and throws away what the client still sends, within bounds, until it ends too.
    fn linger(&mut self) {
        let until = Instant::now().checked_add(LINGER_TIME);
        let mut left = LINGER_BYTES.max(self.listener.limit.body);
        let mut room = [0; 16 * 1024];
        self.input.consume(usize::MAX);
        self.input.shrink();
        while left > 0 {
            let now = Instant::now();
            let Some(rest) = until.and_then(|until| until.checked_duration_since(now)) else {
                break;
            };
            self.client.note_read(now, LINGER_PAUSE, Holds::Nothing);
            self.set_read_timeout(rest.min(LINGER_PAUSE), true);
            match self.client.stream().read(&mut room) {
                Ok(0) | Err(_) => break,
                Ok(read) => left = left.saturating_sub(read as u64),
            }
        }
        self.client.note_read_whole();
    }

    // === Reading

    fn handshake(&mut self, began: Instant) -> bool {
        let deadline = after(began, self.listener.timeout.handshake);
        let mut was_fed = false;
        self.client
            .note_read(began, self.listener.timeout.handshake, Holds::Nothing);
        while !self.client.is_greeted() {
            match self.fill_cipher_until(deadline) {
                Filled::Nothing | Filled::Some => {}
                Filled::Broken | Filled::End | Filled::Full | Filled::Timeout => return false,
            }
            if !was_fed && misplaced::is_http(self.cipher.data()) {
                self.refuse_plain();
                return false;
            }
            was_fed = true;
            let mut cipher = self.cipher.data();
            // The client may send its first request right behind its last handshake message.
            let fed = self.client.feed(&mut cipher, self.input.space());
            let left = cipher.len();
            self.cipher.keep_last(left);
            match fed {
                Ok(Fed::Plain(read)) => self.input.filled(read),
                Ok(Fed::More) => {}
                Ok(Fed::Ended) => return false,
                Err(error) => {
                    log::debug!(
                        "{}: {}: TLS handshake: {}",
                        self.listener.name,
                        Peer(self.client.peer()),
                        error.0
                    );
                    self.client.say_goodbye();
                    self.linger();
                    return false;
                }
            }
        }
        true
    }

    /// Tells a client that speaks plain HTTP so, and in plain HTTP. TLS has said nothing yet and
    /// never will.
    fn refuse_plain(&mut self) {
        let mut exchange = Exchange::begin(self.client, Instant::now());
        self.capture(&mut exchange.captured, self.cipher.data(), None);
        if self.cipher.data().starts_with(b"HEAD ") {
            exchange.request.head.method = Method::Head;
        }
        let answer = Answer::fault(Fault::HttpToTls);
        let bytes = self.rendered(&exchange.request.head, &answer, true);
        exchange.status = answer.status;
        exchange.fault = answer.fault;
        let stream = self.client.stream();
        let until = after(Instant::now(), LINGER_PAUSE);
        let mut left = &bytes[..];
        while let Some(patience) = until.checked_duration_since(Instant::now())
            && !left.is_empty()
            && stream.set_write_timeout(patience).is_ok()
            && let Ok(written) = stream.write(left)
        {
            left = &left[written..];
        }
        exchange.bytes = (bytes.len() - left.len()) as u64;
        exchange.complete();
        stream.shutdown(Shutdown::Write);
        self.linger();
    }

    fn fill_cipher_until(&mut self, deadline: Instant) -> Filled {
        let Some(left) = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        else {
            return Filled::Timeout;
        };
        if !self.cipher.data().is_empty() {
            return Filled::Some;
        }
        self.set_read_timeout(left, true);
        match self.client.stream().read(self.cipher.space()) {
            Ok(0) => Filled::End,
            Ok(read) => {
                self.cipher.filled(read);
                Filled::Some
            }
            Err(error) if is_timeout(&error) => Filled::Timeout,
            Err(_) => Filled::Broken,
        }
    }

    /// Reads something, in time; `late` is what it means if nothing comes.
    fn fill_until(&mut self, deadline: Instant, late: Fault) -> Result<(), Stop> {
        loop {
            let Some(left) = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())
            else {
                return Err(Stop::Fault(late));
            };
            self.set_read_timeout(left, false);
            match self.fill() {
                // The socket may have been set to a little less than was left. And a record that
                // drips moves no deadline.
                Filled::Nothing | Filled::Timeout => {}
                Filled::Some => return Ok(()),
                Filled::Full => return Err(Stop::Fault(Fault::NoBuffer)),
                // It was ended here, to make room.
                Filled::Broken | Filled::End if self.client.is_condemned() => {
                    return Err(Stop::Fault(Fault::GaveWayRequest));
                }
                Filled::Broken => return Err(Stop::Broken),
                Filled::End => return Err(Stop::Ended),
            }
        }
    }

    /// Reads once, as long as the socket's timeout allows.
    fn fill(&mut self) -> Filled {
        if self.input.space().is_empty() {
            return Filled::Full;
        }
        if !self.client.is_tls() {
            return match self.client.stream().read(self.input.space()) {
                Ok(0) => Filled::End,
                Ok(read) => {
                    self.input.filled(read);
                    Filled::Some
                }
                Err(error) if is_timeout(&error) => Filled::Timeout,
                Err(_) => Filled::Broken,
            };
        }
        if let Some(filled) = self.feed() {
            return filled;
        }
        match self.client.stream().read(self.cipher.space()) {
            // Without close_notify: whatever was being said is not whole.
            Ok(0) => Filled::End,
            Ok(read) => {
                self.cipher.filled(read);
                self.feed().unwrap_or(Filled::Nothing)
            }
            Err(error) if is_timeout(&error) => Filled::Timeout,
            Err(_) => Filled::Broken,
        }
    }

    /// Gives TLS what has been read. `None` if it needs more to make something of it.
    fn feed(&mut self) -> Option<Filled> {
        let mut cipher = self.cipher.data();
        let fed = self.client.feed(&mut cipher, self.input.space());
        let left = cipher.len();
        self.cipher.keep_last(left);
        match fed {
            Ok(Fed::Plain(read)) => {
                self.input.filled(read);
                Some(Filled::Some)
            }
            Ok(Fed::Ended) => Some(Filled::End),
            Ok(Fed::More) => None,
            Err(error) => {
                log::debug!(
                    "{}: {}: TLS: {}",
                    self.listener.name,
                    Peer(self.client.peer()),
                    error.0
                );
                Some(Filled::Broken)
            }
        }
    }

    /// Sets the socket's timeout, but only if that changes enough to be worth a system call. The
    /// wait can then be off by half of what is left; whoever has a deadline looks at the clock
    /// again.
    fn set_read_timeout(&mut self, mut wanted: Duration, exact: bool) {
        let near = !exact && self.read_timeout <= wanted && self.read_timeout >= wanted / 2;
        if self.read_timeout == wanted || near {
            return;
        }
        if !exact {
            // Then it stays near for a while, though ever less is left.
            wanted = wanted.saturating_sub(wanted / 4);
        }
        if self.client.stream().set_read_timeout(wanted).is_ok() {
            self.read_timeout = wanted;
        }
    }
}

/// Tries for a moment to get what is lacking, while others give way.
fn retry_for_room(hub: &Hub, short: Short, mut attempt: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if attempt() {
            return true;
        }
        let now = Instant::now();
        if now.saturating_duration_since(began) >= ROOM_PATIENCE {
            return false;
        }
        hub.clients.give_way(short, now, hub);
        std::thread::sleep(ROOM_LOOK);
    }
}

/// Why no request came together.
enum Stop {
    /// The connection broke.
    Broken,
    /// The client sends no more.
    Ended,
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Differs between requests by its number, and between processes by a random key.
fn request_id(listener: &Listener, id: u64) -> u128 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    if !listener.request_id {
        return 0;
    }
    let key = KEY.get_or_init(RandomState::new);
    u128::from(key.hash_one(id)) << 64 | u128::from(key.hash_one(!id))
}

fn fault_of(malformed: Malformed) -> Fault {
    match malformed {
        Malformed::Expect => Fault::ExpectationFailed,
        Malformed::HeadTooLarge | Malformed::TooManyFields => Fault::HeadTooLarge,
        Malformed::MethodNotImplemented | Malformed::UnknownCoding => Fault::NotImplemented,
        Malformed::TargetTooLong => Fault::TargetTooLong,
        Malformed::Version => Fault::VersionNotSupported,
        Malformed::BareLineEnd
        | Malformed::Chunk
        | Malformed::ContentLength
        | Malformed::ControlByte
        | Malformed::FieldName
        | Malformed::Host
        | Malformed::LengthAndEncoding
        | Malformed::LookAlike
        | Malformed::MaxForwards
        | Malformed::ObsoleteFold
        | Malformed::StartLine
        | Malformed::Target
        | Malformed::Trailer
        | Malformed::TransferEncoding => Fault::BadRequest,
    }
}
