//! Reading a request's body: whole, within its limits in size and time, and at a least pace.

use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::exchange::{Body, Exchange, Holds, Short};
use crate::fault::Fault;
use crate::http::BodyFraming;
use crate::plan::Listener;
use crate::proto::h1::{ChunkEvent, ChunkedDecoder, HeadLimits, Malformed};

use super::malformed::fault_of;
use super::reader::{Reader, Stop};
use super::room::retry_for_room;

/// Chunks of a body that may have any size.
const SMALL_CHUNKS: u64 = 16 * 1024;

/// The fewest bytes of the chunks beyond these, on average: a body in chunks of one byte costs the
/// balancer many times what it costs its sender.
const LEAST_CHUNK: u64 = 16;

/// Reads the body that follows the head of this exchange into it.
pub(super) fn read_body(
    reader: &mut Reader<'_>,
    limits: HeadLimits,
    exchange: &mut Exchange,
) -> Result<(), Stop> {
    let listener = reader.listener;
    let mut pace = Pace::starting(listener, Instant::now());
    let mut coming = match exchange.request.head.framing {
        BodyFraming::Length(length) => Coming::Length(length),
        BodyFraming::Chunked | BodyFraming::None => Coming::Chunks(Box::new(Chunks::new(limits))),
    };
    loop {
        Point::SessionBody.pass();
        let body = &mut exchange.request.body;
        let had = reader.input.data().len();
        let limit = listener.limit.body.saturating_sub(body.length());
        let step = coming.step(reader.input.data_mut(), limit);
        if step.is_err()
            && let Coming::Chunks(chunks) = &coming
        {
            reader.malformed = chunks.malformed;
        }
        let step = step?;
        store(reader, body, step.content)?;
        reader.input.consume(step.used);
        if step.is_last {
            if let Coming::Chunks(chunks) = &coming {
                body.trailers.extend_from_slice(chunks.decoder.trailers());
            }
            return Ok(());
        }
        if !reader.input.is_empty() && step.used > 0 {
            continue;
        }
        if reader.has_ended {
            return Err(Stop::Ended);
        }
        reader.input.settle();
        // A large body is read in large pieces if the region has room.
        if coming.may_exceed(reader.input.space().len()) {
            let _ = reader.input.grow(&reader.client.hub().buffers); // Small pieces will do.
        }
        let left = had - step.used;
        let holds = match body.length() {
            _ if body.is_spooled() => Holds::Spool,
            0 => Holds::Nothing,
            _ => Holds::Memory,
        };
        let limit = listener.timeout.body;
        reader.client.note_read(Instant::now(), limit, holds);
        reader.fill_until(pace.deadline(), Fault::BodyTimeout)?;
        let came = reader.input.data().len().saturating_sub(left);
        if !pace.note(came, Instant::now()) {
            return Err(Stop::Fault(Fault::BodyTimeout));
        }
    }
}

/// Appends the first `length` bytes of the input to the body. If there is no room for them, others
/// that stand still give way.
fn store(reader: &Reader<'_>, body: &mut Body, length: usize) -> Result<(), Stop> {
    let hub = reader.client.hub();
    let memory = reader.listener.limit.body_memory;
    let mut rest = reader.input.data().get(..length).unwrap_or_default();
    let mut append = || {
        let stored = body.append(rest, memory, &hub.buffers, &hub.spool);
        rest = rest.get(stored..).unwrap_or_default();
        rest.is_empty()
    };
    if append() || retry_for_room(hub, Short::Requests, append) {
        return Ok(());
    }
    Err(Stop::Fault(Fault::NoBuffer))
}

/// What is still to come of a body.
enum Coming {
    Length(u64),
    Chunks(Box<Chunks>),
}

/// What a piece of input amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    /// Bytes of the input that are used.
    used: usize,
    /// Bytes of content, which are at the beginning of the input now.
    content: usize,
    /// The body ends behind them.
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

    /// Returns whether more than `bytes` bytes may come.
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
    /// What is wrong with them.
    malformed: Option<Malformed>,
}

impl Chunks {
    fn new(limits: HeadLimits) -> Self {
        Self {
            decoder: ChunkedDecoder::new(limits),
            count: 0,
            bytes: 0,
            malformed: None,
        }
    }

    fn step(&mut self, input: &mut [u8], limit: u64) -> Result<Step, Fault> {
        let mut step = Step::default();
        loop {
            let rest = input.get(step.used..).unwrap_or_default();
            let (used, event) = match self.decoder.next(rest) {
                Ok(next) => next,
                Err(malformed) => return Err(self.refuse(malformed)),
            };
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
            return Err(self.refuse(Malformed::Chunk));
        }
        Ok(())
    }

    fn refuse(&mut self, malformed: Malformed) -> Fault {
        self.malformed = Some(malformed);
        fault_of(malformed)
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
        let total = listener.timeout.body_total;
        let rate = listener.limit.min_upload_rate;
        Self::of(listener.timeout.body, rate, total, now)
    }

    /// Of at least `rate` bytes per second, with pauses of at most `pause`, and no longer than
    /// `total` in all.
    fn of(pause: Duration, rate: u64, total: Option<Duration>, now: Instant) -> Self {
        Self {
            pause,
            least: (rate as f64 * pause.as_secs_f64()) as u64,
            end: total.and_then(|total| now.checked_add(total)),
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

    /// `bytes` bytes came. Returns `false` if that is too slow.
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

#[cfg(test)]
mod tests {
    use crate::base::time::after;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        head: 1024,
        fields: 10,
        target: 100,
    };

    fn chunked(input: &str, limit: u64) -> Result<(Step, String), Fault> {
        let mut input = input.as_bytes().to_vec();
        let mut coming = Coming::Chunks(Box::new(Chunks::new(LIMITS)));
        let step = coming.step(&mut input, limit)?;
        let content = String::from_utf8(input[..step.content].to_vec()).unwrap();
        Ok((step, content))
    }

    #[test]
    fn a_body_of_known_length_ends_with_its_last_byte() {
        let mut coming = Coming::Length(5);
        let step = |used, is_last| Step {
            used,
            content: used,
            is_last,
        };
        assert!(coming.may_exceed(4) && !coming.may_exceed(5));
        assert_eq!(coming.step(&mut [0; 3], 9), Ok(step(3, false)));
        // What follows belongs to the next request.
        assert_eq!(coming.step(&mut [0; 3], 9), Ok(step(2, true)));
    }

    #[test]
    fn chunks_become_content_at_the_beginning_of_the_input() {
        let (step, content) = chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET", 9).unwrap();
        assert_eq!(content, "abcde");
        assert!(step.is_last);
        assert_eq!(step.used, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".len());
        let (step, content) = chunked("3\r\nab", 9).unwrap();
        assert_eq!((&*content, step.is_last), ("ab", false));
    }

    #[test]
    fn a_chunk_that_is_too_large_is_refused_before_it_has_come() {
        assert!(chunked("9\r\n", 9).is_ok());
        assert_eq!(chunked("a\r\n", 9), Err(Fault::BodyTooLarge));
        assert_eq!(chunked("a\r\nx", 9), Err(Fault::BodyTooLarge));
        assert_eq!(chunked("5\r\nabcde\r\n5\r\n", 9), Err(Fault::BodyTooLarge));
        assert_eq!(chunked("x\r\n", 9), Err(Fault::BadRequest));
    }

    #[test]
    fn many_chunks_of_one_byte_are_refused() {
        let many = SMALL_CHUNKS as usize;
        assert!(chunked(&"1\r\nx\r\n".repeat(many), u64::MAX).is_ok());
        // Those that are measured need 16 bytes on average, and may draw on the ones before.
        let measured = many / (LEAST_CHUNK as usize - 1);
        let at_most = "1\r\nx\r\n".repeat(many + measured);
        assert!(chunked(&at_most, u64::MAX).is_ok());
        let one_more = at_most + &"1\r\nx\r\n".repeat(2);
        assert_eq!(chunked(&one_more, u64::MAX), Err(Fault::BadRequest));
    }

    #[test]
    fn a_body_that_comes_too_slowly_is_seen_after_each_pause() {
        let start = Instant::now();
        let at = |seconds| after(start, Duration::from_secs(seconds));
        let pace = || Pace::of(Duration::from_secs(10), 5, None, start);
        let mut slow = pace();
        assert_eq!(slow.deadline(), at(10));
        assert!(slow.note(20, at(4)));
        assert_eq!(slow.deadline(), at(14));
        // 50 bytes in 10 seconds are asked for.
        assert!(!slow.note(29, at(10)));
        let mut just_enough = pace();
        assert!(just_enough.note(20, at(9)) && just_enough.note(30, at(10)));
        assert!(!just_enough.note(49, at(20)), "each period counts alone");
    }

    #[test]
    fn a_total_limit_ends_a_body_however_fast_it_comes() {
        let start = Instant::now();
        let total = Some(Duration::from_secs(15));
        let mut pace = Pace::of(Duration::from_secs(10), 0, total, start);
        assert!(pace.note(usize::MAX, after(start, Duration::from_secs(9))));
        assert_eq!(pace.deadline(), after(start, Duration::from_secs(15)));
    }
}
