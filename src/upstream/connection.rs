//! A worker's connection to its server: sending a request, reading what comes back.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::exchange::{Piece, Request};
use crate::fault::Fault;
use crate::http::{Method, ResponseHead};
use crate::net::stream::{Peek, is_timeout};
use crate::plan::{ClusterTimeout, ServerAddress};
use crate::proto::h1::{HeadLimits, Malformed, Step};

use super::link::Link;
use super::speak::{BadHead, Encoding, Head, Reuse, Speak};

/// Room for what is read at once. A whole ordinary response fits; large ones come in large pieces.
pub(super) const ROOM: usize = 128 * 1024;

/// After the response to a HEAD its server has so long to send the body that it should not send.
pub(super) const AFTER_HEAD: Duration = Duration::from_millis(2);

/// A request of no more bytes than this goes into the buffers of an idle connection.
const SMALL: u64 = 16 * 1024;

/// A worker's connection.
#[derive(Debug)]
pub(super) struct Connection {
    link: Link,
    speak: Speak,
    /// The address that it leads to.
    pub(super) address: ServerAddress,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// The connection has served a request before.
    pub(super) is_used: bool,
    /// Several requests were sent at once over it. Bytes that no request asked for may come at any
    /// time then.
    pub(super) has_pipelined: bool,
    /// A request was begun and not sent whole: the server would take what is sent next for the rest
    /// of that.
    is_dirty: bool,
    /// When the last exchange over it ended.
    idle_since: Instant,
    /// How long it may be idle before the server closes it (`Keep-Alive: timeout`), less a margin.
    idle_limit: Option<Duration>,
    /// How long one read waits for bytes.
    tick: Duration,
    /// How long it does where no time limit asks for less.
    usual_tick: Duration,
}

/// How far a request is sent, so that it can go on after an interim response.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// Something went out.
    pub(super) has_begun: bool,
    /// When it went out, if another thread than the worker has sent it.
    pub(super) sent_at: Option<Instant>,
    /// Everything went out.
    pub(super) is_whole: bool,
    /// Head and body went out; the end of the body may not have.
    body_is_sent: bool,
    /// Bytes of the body that are done with.
    offset: u64,
    /// Bytes that are sent of the piece behind that, with what goes out together with it.
    of_pieces: usize,
}

impl Upload {
    /// When another thread than the worker began to send it, if one did.
    pub(super) fn began_at(&self) -> Option<Instant> {
        self.sent_at
    }
}

/// A connection over which its worker waits for a job. The thread that brings the job may send its
/// request.
#[derive(Debug)]
pub(super) struct Idle {
    link: Link,
    encoding: Encoding,
    /// When the connection may not be used any more.
    until: Option<Instant>,
}

impl Idle {
    /// What the request goes over.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends what goes out at once of a small request, as it is `now`. Sends nothing if the
    /// connection is of no use any more.
    pub(super) fn send(&self, request: &mut Request, now: Instant) -> Upload {
        let mut upload = Upload::default();
        let is_late = self.until.is_some_and(|until| now >= until);
        let body = &request.body;
        if is_late || body.length() > SMALL || !body.trailers.is_empty() || !self.link.is_quiet() {
            return upload;
        }
        self.encoding.encode(request);
        let body = &request.body;
        let length = request.encoded.len() as u64 + body.length();
        if length <= SMALL
            && let Ok(Piece::Memory(piece)) = body.piece(0, &mut [])
            && piece.len() as u64 == body.length()
            && let Ok(sent) = self
                .link
                .write_now(&[IoSlice::new(&request.encoded), IoSlice::new(piece)])
        {
            upload.has_begun = sent > 0;
            upload.sent_at = upload.has_begun.then(Instant::now);
            upload.is_whole = sent as u64 == length;
            upload.of_pieces = sent;
        }
        upload
    }
}

/// Why a request could not be sent whole.
#[derive(Debug)]
pub(super) enum SendError {
    /// The server has said something before it had everything; the rest was not sent.
    Answered,
    /// The connection broke. What the server said before may still be read.
    Broken {
        /// Not one byte went out.
        unsent: bool,
    },
    /// The body could not be read back from the spool.
    Spool(io::Error),
    /// The server takes nothing more.
    Timeout,
}

impl Connection {
    /// A connection that was just made. `limits` are those of a response head.
    pub(super) fn new(
        link: Link,
        address: ServerAddress,
        timeout: &ClusterTimeout,
        limits: HeadLimits,
    ) -> io::Result<Self> {
        let tick = timeout.first_byte.min(timeout.read);
        link.set_patience(tick)?;
        Ok(Self {
            link,
            speak: Speak::http1(limits),
            address,
            input: vec![0; ROOM.max(limits.head)].into_boxed_slice(),
            start: 0,
            end: 0,
            is_used: false,
            has_pipelined: false,
            is_dirty: false,
            idle_since: Instant::now(),
            idle_limit: None,
            tick,
            usual_tick: tick,
        })
    }

    /// Goes by these settings from now on.
    pub(super) fn adapt(&mut self, timeout: &ClusterTimeout, limits: HeadLimits) {
        self.speak.set_limits(limits);
        self.usual_tick = timeout.first_byte.min(timeout.read);
        if self.tick != self.usual_tick {
            self.set_tick(self.usual_tick);
        }
        if self.input.len() < limits.head {
            let mut larger = vec![0; limits.head].into_boxed_slice();
            larger[..self.input.len()].copy_from_slice(&self.input);
            self.input = larger;
        }
    }

    /// Gives away the connection, with what is read already. What is left leads nowhere.
    pub(super) fn hand_over(&mut self) -> Self {
        let nothing = Speak::http1(self.speak.limits());
        let given = Self {
            link: self.link.clone(),
            speak: std::mem::replace(&mut self.speak, nothing),
            address: self.address.clone(),
            input: std::mem::take(&mut self.input),
            ..*self
        };
        (self.start, self.end) = (0, 0);
        given
    }

    /// The link, for other threads: they send over it while the worker waits, or end it.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// How requests are encoded for the server.
    pub(super) fn encoding(&self) -> Encoding {
        self.speak.encoding()
    }

    /// Returns whether the server has ended the connection, behind what is read.
    pub(super) fn has_ended(&self) -> bool {
        self.link.peek() == Peek::Ended
    }

    /// Returns whether the idle connection can go on: no end, and no byte that was not asked for.
    pub(super) fn is_quiet(&self) -> bool {
        self.idle_limit
            .is_none_or(|limit| self.idle_since.elapsed() < limit)
            && self.is_silent()
    }

    /// What others need to send a request over it while its worker waits.
    pub(super) fn idle(&self) -> Idle {
        Idle {
            link: self.link.clone(),
            encoding: self.speak.encoding(),
            until: self.idle_limit.map(|limit| after(self.idle_since, limit)),
        }
    }

    /// Returns whether the connection, which was in use until now, can go on.
    pub(super) fn is_silent(&self) -> bool {
        self.start == self.end && self.link.is_quiet()
    }

    /// Waits a little whether the server says more than it was asked. Some servers send a body with
    /// responses that have none: it would be read as the response to the next request, another
    /// client's perhaps.
    pub(super) fn says_more(&self, patience: Duration) -> bool {
        self.start < self.end
            || self
                .link
                .wait(false, patience)
                .map_or(true, |(readable, _)| readable)
    }

    /// An exchange is over. Returns `false` if something is left that does not belong to it.
    pub(super) fn settle(&mut self) -> bool {
        self.next_turn();
        self.idle_since = Instant::now();
        let is_clean = self.start == self.end && !self.is_dirty;
        self.start = 0;
        self.end = 0;
        is_clean
    }

    /// An exchange is over, and the bytes that are read next belong to another.
    pub(super) fn next_turn(&mut self) {
        self.is_used = true;
        if self.tick != self.usual_tick {
            self.set_tick(self.usual_tick);
        }
    }

    // === Sending

    /// Sends several heads as far as the link has room now. Returns how many bytes went out.
    pub(super) fn send_heads(&mut self, heads: &[u8]) -> usize {
        self.has_pipelined = true;
        // What did not go out is sent over another connection, whatever the reason.
        let sent = self.link.write_now(&[IoSlice::new(heads)]).unwrap_or(0);
        self.is_dirty = sent < heads.len();
        sent
    }

    /// Sends a small request. Returns whether it went out whole.
    pub(super) fn send_small(&mut self, request: &[u8]) -> bool {
        let sent = self.link.write_now(&[IoSlice::new(request)]).unwrap_or(0);
        self.is_dirty = sent < request.len();
        !self.is_dirty
    }

    /// Sends a request from where `upload` is on: head, body, trailers. `room` is for what has to
    /// be read from the spool.
    pub(super) fn send(
        &mut self,
        request: &mut Request,
        upload: &mut Upload,
        room: &mut [u8],
        patience: Duration,
    ) -> Result<(), SendError> {
        if upload.is_whole {
            return Ok(());
        }
        let encoding = self.speak.encoding();
        if !upload.has_begun {
            encoding.encode(request);
        }
        self.is_dirty = true;
        let mut frame = Vec::new();
        while !upload.body_is_sent {
            self.look(upload)?;
            let piece = piece(request, upload.offset, room)?;
            let head = match upload.offset {
                0 => request.encoded.as_slice(),
                _ => &[],
            };
            frame.clear();
            let behind = encoding.frame(request, piece.len(), &mut frame);
            let mut pieces = [head, &frame, piece, behind].map(IoSlice::new);
            self.send_pieces(&mut pieces, upload, patience)?;
            upload.offset += piece.len() as u64;
            upload.body_is_sent = upload.offset >= request.body.length();
        }
        frame.clear();
        encoding.end_body(request, &mut frame);
        self.send_pieces(&mut [IoSlice::new(&frame)], upload, patience)?;
        self.is_dirty = false;
        upload.is_whole = true;
        Ok(())
    }

    /// Looks between pieces whether the server has answered already.
    fn look(&self, upload: &Upload) -> Result<(), SendError> {
        if upload.has_begun && (self.start < self.end || self.link.peek() == Peek::Bytes) {
            return Err(SendError::Answered);
        }
        Ok(())
    }

    /// Sends all of these. While the link has no room, also waits for a server that answers early.
    fn send_pieces(
        &self,
        mut pieces: &mut [IoSlice<'_>],
        upload: &mut Upload,
        patience: Duration,
    ) -> Result<(), SendError> {
        IoSlice::advance_slices(&mut pieces, upload.of_pieces);
        while !pieces.is_empty() {
            let unsent = !upload.has_begun;
            match self.link.write_now(pieces) {
                Ok(sent) => {
                    upload.has_begun = true;
                    upload.of_pieces += sent;
                    IoSlice::advance_slices(&mut pieces, sent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.link.wait(true, patience) {
                        Ok((_, true)) => {}
                        Ok((true, false)) => return Err(SendError::Answered),
                        Ok((false, false)) => return Err(SendError::Timeout),
                        Err(_) => return Err(SendError::Broken { unsent }),
                    }
                }
                Err(_) => return Err(SendError::Broken { unsent }),
            }
        }
        upload.of_pieces = 0;
        Ok(())
    }

    // === Reading

    /// What is read next is the response to a request of this method.
    pub(super) fn begin_response(&mut self, method: Method) {
        self.speak.begin(method);
    }

    /// Looks what the bytes are that were read and not used.
    pub(super) fn head(&mut self) -> Result<Head, BadHead> {
        self.speak.head(&self.input[self.start..self.end])
    }

    /// The head that was found last.
    pub(super) fn response(&self) -> &ResponseHead {
        self.speak.response()
    }

    /// Returns whether an interim response came before the head that was found last.
    pub(super) fn has_interims(&self) -> bool {
        self.speak.has_interims()
    }

    /// Takes what it can of the body of the response, decoded in place. The caller uses as many
    /// bytes as the step has used.
    pub(super) fn step(&mut self) -> Step {
        self.speak.body(&mut self.input[self.start..self.end])
    }

    /// The trailer lines of a body that is at its end, each with its CRLF.
    pub(super) fn trailers(&self) -> &[u8] {
        self.speak.trailers()
    }

    /// Returns whether nothing of the body is still to come, though no step was taken.
    pub(super) fn has_no_body(&self) -> bool {
        self.speak.has_no_body()
    }

    /// Returns whether the body is at its end where the connection ends, and nowhere else.
    pub(super) fn ends_body(&self) -> bool {
        self.speak.ends_with_connection()
    }

    /// Uses what has come of the body and appends it to `body`. Returns whether the body ends with
    /// that.
    pub(super) fn collect(&mut self, body: &mut Vec<u8>) -> Result<bool, Malformed> {
        let (used, is_last) = self
            .speak
            .collect(&self.input[self.start..self.end], body)?;
        self.consume(used);
        Ok(is_last)
    }

    /// Uses what has come of the body and drops it. Returns whether the body ends with that.
    pub(super) fn skip(&mut self) -> Result<bool, Malformed> {
        let (used, is_last) = self.speak.skip(&self.input[self.start..self.end])?;
        self.consume(used);
        Ok(is_last)
    }

    /// Returns whether the response says that the connection ends behind it.
    pub(super) fn is_closing(&self) -> bool {
        self.speak.reuse() == Reuse::No
    }

    /// Returns whether all of the response is here, whose head is the first `length` bytes, and the
    /// end of the connection right behind it.
    pub(super) fn is_whole_and_ended(&self, length: usize) -> bool {
        let body = self.data().get(length..).unwrap_or_default();
        self.speak.is_whole_body(body) && self.has_ended()
    }

    /// Heeds what the response, which is at its end, says of the connection. Returns whether it
    /// may be used again.
    pub(super) fn may_be_reused(&mut self) -> bool {
        match self.speak.reuse() {
            Reuse::No => false,
            Reuse::Within(limit) => {
                self.idle_limit = limit;
                true
            }
        }
    }

    /// The bytes that are read and not used.
    pub(super) fn data(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// The first `bytes` bytes are used.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// Reads more, and waits at most this long for it. Returns how many bytes came; 0 is the end.
    pub(super) fn fill(&mut self, patience: Duration) -> Result<usize, Fault> {
        // A time limit that has begun has always a little less left than the tick. That difference
        // is not worth two system calls for each response.
        if patience < self.tick.saturating_sub(self.tick / 64) {
            self.hurry(patience);
        }
        self.make_room();
        let mut waited = Duration::ZERO;
        loop {
            match self.link.read(&mut self.input[self.end..]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                // The tick is the shortest of several limits. To count ticks costs no look at the
                // clock.
                Err(error) if is_timeout(&error) => {
                    waited = waited.saturating_add(self.tick);
                    if waited >= patience {
                        return Err(Fault::ReadTimeout);
                    }
                    self.hurry(patience.saturating_sub(waited));
                }
                Err(_) => return Err(Fault::ResponseCut),
            }
        }
    }

    /// Reads more if it is there; `None` if it is not.
    pub(super) fn fill_now(&mut self) -> Option<Result<usize, Fault>> {
        self.make_room();
        match self.link.read_now(&mut self.input[self.end..]) {
            Ok(read) => {
                self.end += read;
                Some(Ok(read))
            }
            Err(error) if is_timeout(&error) => None,
            Err(_) => Some(Err(Fault::ResponseCut)),
        }
    }

    /// Nothing more fits, though nothing of the input is used.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start == self.input.len()
    }

    /// From now on a read waits at most this long.
    pub(super) fn hurry(&mut self, patience: Duration) {
        let tick = patience.min(self.usual_tick);
        if tick != self.tick {
            self.set_tick(tick);
        }
    }

    fn set_tick(&mut self, tick: Duration) {
        if self.link.set_patience(tick).is_ok() {
            self.tick = tick;
        }
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }
}

fn piece<'a>(request: &'a Request, offset: u64, room: &'a mut [u8]) -> Result<&'a [u8], SendError> {
    // A piece in memory borrows the body, and one from the file borrows the room.
    let body = &request.body;
    match body.piece(offset, room).map_err(SendError::Spool)? {
        Piece::Memory(piece) if !piece.is_empty() || body.length() == 0 => Ok(piece),
        Piece::Read(read) if read > 0 => Ok(&room[..read]),
        Piece::Memory(_) | Piece::Read(_) => Err(SendError::Spool(io::Error::from(
            io::ErrorKind::UnexpectedEof,
        ))),
    }
}

#[cfg(test)]
mod tests;
