//! Reading a request's body: whole, within its limits in size and time, and at a least pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::exchange::{Exchange, Holds, Short};
use crate::fault::Fault;
use crate::http::BodyFraming;
use crate::plan::Listener;
use crate::proto::h1::{ChunkEvent, ChunkedDecoder, HeadLimits, Malformed};

use super::{Session, Stop, fault_of, retry_for_room};

/// So many chunks of a body may be as small as they like.
const SMALL_CHUNKS: u64 = 16 * 1024;

/// The others have so many bytes at least, on average: a body in chunks of one byte costs the
/// balancer many times what it costs its sender.
const LEAST_CHUNK: u64 = 16;

impl Session<'_> {
    pub(super) fn read_body(&mut self, exchange: &mut Exchange) -> Result<(), Stop> {
        let mut pace = Pace::starting(self.listener, Instant::now());
        let mut coming = match exchange.request.head.framing {
            BodyFraming::Length(length) => Coming::Length(length),
            BodyFraming::Chunked | BodyFraming::None => {
                Coming::Chunks(Box::new(Chunks::new(self.limits)))
            }
        };
        loop {
            Point::SessionBody.pass();
            let had = self.input.data().len();
            let body = &exchange.request.body;
            let limit = self.listener.limit.body.saturating_sub(body.length());
            let step = coming.step(self.input.data_mut(), limit)?;
            self.store(exchange, step.content)?;
            self.input.consume(step.used);
            if step.is_last {
                if let Coming::Chunks(chunks) = &coming {
                    exchange
                        .request
                        .body
                        .trailers
                        .extend_from_slice(chunks.decoder.trailers());
                }
                return Ok(());
            }
            if !self.input.is_empty() && step.used > 0 {
                continue;
            }
            if self.ended {
                return Err(Stop::Ended);
            }
            self.input.settle();
            // A large body is read in large pieces if the region has room; if not, small ones will
            // do.
            if coming.may_exceed(self.input.space().len()) {
                let _small_ones_will_do = self.input.grow(&self.client.hub().buffers);
            }
            let left = had - step.used;
            let now = Instant::now();
            let body = &exchange.request.body;
            let holds = match body.length() {
                _ if body.is_spooled() => Holds::Spool,
                0 => Holds::Nothing,
                _ => Holds::Memory,
            };
            self.client
                .note_read(now, self.listener.timeout.body, holds);
            self.fill_until(pace.deadline(), Fault::BodyTimeout)?;
            let came = self.input.data().len().saturating_sub(left);
            if !pace.note(came, Instant::now()) {
                return Err(Stop::Fault(Fault::BodyTimeout));
            }
        }
    }

    /// Appends the first so many bytes of the input to the body. If there is no room for them,
    /// others that stand still give way.
    fn store(&self, exchange: &mut Exchange, length: usize) -> Result<(), Stop> {
        let hub = Arc::clone(self.client.hub());
        let memory = self.listener.limit.body_memory;
        let mut rest = self.input.data().get(..length).unwrap_or_default();
        let body = &mut exchange.request.body;
        let mut append = || {
            let stored = body.append(rest, memory, &hub.buffers, &hub.spool);
            rest = rest.get(stored..).unwrap_or_default();
            rest.is_empty()
        };
        if append() || retry_for_room(&hub, Short::Requests, append) {
            return Ok(());
        }
        Err(Stop::Fault(Fault::NoBuffer))
    }
}

/// What is still to come of a body.
enum Coming {
    Length(u64),
    Chunks(Box<Chunks>),
}

/// What the input amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    /// So many bytes of it are used.
    used: usize,
    /// So many bytes of content are at its beginning now.
    content: usize,
    /// That was the last of it.
    is_last: bool,
}

impl Coming {
    /// Takes what it can of `input` and moves the content in it to its beginning. `limit` is how
    /// much longer the body may become.
    fn step(&mut self, input: &mut [u8], limit: u64) -> Result<Step, Fault> {
        match self {
            Self::Length(left) => {
                let part = input
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(part as u64);
                Ok(Step {
                    used: part,
                    content: part,
                    is_last: *left == 0,
                })
            }
            Self::Chunks(chunks) => chunks.step(input, limit),
        }
    }

    /// Whether more than so many bytes may come.
    fn may_exceed(&self, bytes: usize) -> bool {
        match self {
            Self::Length(left) => *left > bytes as u64,
            Self::Chunks(_) => true,
        }
    }
}

/// A body in chunks, decoded in place in one pass.
#[derive(Debug)]
struct Chunks {
    decoder: ChunkedDecoder,
    /// Chunks that have ended, and how much content there was in all.
    count: u64,
    bytes: u64,
}

impl Chunks {
    fn new(limits: HeadLimits) -> Self {
        Self {
            decoder: ChunkedDecoder::new(limits),
            count: 0,
            bytes: 0,
        }
    }

    fn step(&mut self, input: &mut [u8], limit: u64) -> Result<Step, Fault> {
        let mut step = Step::default();
        loop {
            let rest = input.get(step.used..).unwrap_or_default();
            let (used, event) = self.decoder.next(rest).map_err(fault_of)?;
            match event {
                ChunkEvent::Data(range) => {
                    let (from, to) = (step.used + range.start, step.used + range.end);
                    input.copy_within(from..to, step.content);
                    step.content += range.len();
                    self.bytes = self.bytes.saturating_add(range.len() as u64);
                    self.count_chunk()?;
                    // What a chunk's size announces is too much before it has come.
                    let announced =
                        (step.content as u64).saturating_add(self.decoder.left_of_chunk());
                    if announced > limit {
                        return Err(Fault::BodyTooLarge);
                    }
                }
                ChunkEvent::End => step.is_last = true,
                ChunkEvent::More => {
                    if self.decoder.left_of_chunk() > limit.saturating_sub(step.content as u64) {
                        return Err(Fault::BodyTooLarge);
                    }
                }
            }
            step.used += used;
            if step.is_last || step.used >= input.len() {
                return Ok(step);
            }
        }
    }

    fn count_chunk(&mut self) -> Result<(), Fault> {
        if self.decoder.left_of_chunk() == 0 {
            self.count = self.count.saturating_add(1);
        }
        let measured = self.count.saturating_sub(SMALL_CHUNKS);
        if self.bytes < measured.saturating_mul(LEAST_CHUNK) {
            return Err(fault_of(Malformed::Chunk));
        }
        Ok(())
    }
}

/// How fast a body comes: the time between two reads is limited, and so is the time in which too
/// little comes.
#[derive(Debug)]
struct Pace {
    pause: Duration,
    /// Bytes that have to come in that time.
    least: u64,
    /// No later than this, whatever comes.
    end: Option<Instant>,
    last: Instant,
    since: Instant,
    came: u64,
}

impl Pace {
    fn starting(listener: &Listener, now: Instant) -> Self {
        let pause = listener.timeout.body;
        let least = listener.limit.min_upload_rate as f64 * pause.as_secs_f64();
        Self {
            pause,
            least: least as u64,
            end: listener
                .timeout
                .body_total
                .and_then(|total| now.checked_add(total)),
            last: now,
            since: now,
            came: 0,
        }
    }

    /// When the next bytes have to be there.
    fn deadline(&self) -> Instant {
        let next = self.last.checked_add(self.pause).unwrap_or(self.last);
        self.end.map_or(next, |end| end.min(next))
    }

    /// So many bytes came. Returns `false` if that is too slow.
    fn note(&mut self, bytes: usize, now: Instant) -> bool {
        self.last = now;
        self.came = self.came.saturating_add(bytes as u64);
        if now.saturating_duration_since(self.since) < self.pause {
            return true;
        }
        let is_fast_enough = self.came >= self.least;
        self.since = now;
        self.came = 0;
        is_fast_enough
    }
}
