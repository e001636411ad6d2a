//! The body of a response as its server sends it, without its socket: what of the bytes that were
//! read is content.
//!
//! The server's framing decides where the body ends, and goes no further than this. The client's
//! framing is made anew from the content ([`super::Going`]), so a framing that two readers could
//! understand differently never goes on.

use std::ops::Range;

use crate::http::ResponseFraming;

use super::{ChunkEvent, ChunkedDecoder, HeadLimits, Malformed};

/// The body of a response as its server sends it.
#[derive(Debug)]
pub enum Coming {
    /// In chunks.
    Chunks(Box<ChunkedDecoder>),
    /// The number of bytes still to come.
    Length(u64),
    /// Everything up to the end of the connection.
    UntilClose,
}

/// What a piece of input amounts to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are used.
    pub used: usize,
    /// Where in the input the content of these bytes lies now.
    pub data: Range<usize>,
    /// The body ends behind them.
    pub end: bool,
    /// What comes behind them is not part of a body. The content before it counts all the same,
    /// however the input was cut into reads.
    pub fault: Option<Malformed>,
}

impl Coming {
    /// A body of this framing. `limits` are for its trailers.
    pub fn of(framing: ResponseFraming, limits: HeadLimits) -> Self {
        match framing {
            ResponseFraming::Chunked => Self::Chunks(Box::new(ChunkedDecoder::tolerant(limits))),
            ResponseFraming::Length(length) => Self::Length(length),
            ResponseFraming::None => Self::Length(0),
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }

    /// Takes what it can of `input`, and moves the content in there together. The content of a
    /// single chunk stays where it is.
    pub fn step(&mut self, input: &mut [u8]) -> Step {
        let decoder = match self {
            Self::Chunks(decoder) => decoder,
            Self::Length(left) => return Self::step_length(left, input.len()),
            Self::UntilClose => {
                return Step {
                    used: input.len(),
                    data: 0..input.len(),
                    ..Step::default()
                };
            }
        };
        let mut step = Step::default();
        loop {
            let rest = input.get(step.used..).unwrap_or_default();
            let (used, event) = match decoder.next(rest) {
                Ok(found) => found,
                Err(fault) => {
                    step.fault = Some(fault);
                    return step;
                }
            };
            match event {
                ChunkEvent::Data(range) if step.data.is_empty() => {
                    step.data = step.used + range.start..step.used + range.end;
                }
                ChunkEvent::Data(range) => {
                    let (from, to) = (step.used + range.start, step.used + range.end);
                    input.copy_within(from..to, step.data.end);
                    step.data.end += range.len();
                }
                ChunkEvent::End | ChunkEvent::More => {
                    step.end = event == ChunkEvent::End;
                    step.used += used;
                    return step;
                }
            }
            step.used += used;
        }
    }

    /// Takes what it can of `input` and appends the content in there to `content`. Returns how many
    /// bytes of the input that were, and whether the body ends behind them.
    ///
    /// # Errors
    ///
    /// Chunks that are malformed.
    pub fn collect(
        &mut self,
        input: &[u8],
        content: &mut Vec<u8>,
    ) -> Result<(usize, bool), Malformed> {
        self.read(input, |part| content.extend_from_slice(part))
    }

    /// Takes what it can of `input` and drops the content. Returns how many bytes of the input that
    /// were, and whether the body ends behind them.
    ///
    /// # Errors
    ///
    /// Chunks that are malformed.
    pub fn skip(&mut self, input: &[u8]) -> Result<(usize, bool), Malformed> {
        self.read(input, |_| ())
    }

    /// The trailer lines, each with its CRLF, once the body has ended. Empty if there are none.
    pub fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunks(decoder) => decoder.trailers(),
            Self::Length(_) | Self::UntilClose => &[],
        }
    }

    /// The body is whole where the connection ends, and nowhere else.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// Nothing can follow: the body is empty, or all of it was there.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Length(0))
    }

    fn step_length(left: &mut u64, available: usize) -> Step {
        let part = available.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left = left.saturating_sub(part as u64);
        Step {
            used: part,
            data: 0..part,
            end: *left == 0,
            fault: None,
        }
    }

    fn read(
        &mut self,
        input: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(usize, bool), Malformed> {
        let decoder = match self {
            Self::Chunks(decoder) => decoder,
            Self::Length(left) => {
                let step = Self::step_length(left, input.len());
                take(input.get(step.data).unwrap_or_default());
                return Ok((step.used, step.end));
            }
            Self::UntilClose => {
                take(input);
                return Ok((input.len(), false));
            }
        };
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (taken, event) = decoder.next(rest)?;
            used += taken;
            match event {
                ChunkEvent::Data(range) => take(rest.get(range).unwrap_or_default()),
                ChunkEvent::End => return Ok((used, true)),
                ChunkEvent::More => return Ok((used, false)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        head: 1000,
        fields: 10,
        target: 0,
    };

    fn chunks() -> Coming {
        Coming::of(ResponseFraming::Chunked, LIMITS)
    }

    #[test]
    fn content_of_chunks_is_moved_together_where_it_lies() {
        let mut input = *b"5\r\nhello\r\n1;x\r\n,\r\n6\r\n world\r\n0\r\nX: y\r\n\r\nHTTP/1.1";
        let mut coming = chunks();
        let step = coming.step(&mut input);
        assert_eq!(&input[step.data], b"hello, world");
        assert_eq!(&input[step.used..], b"HTTP/1.1");
        assert!(step.end && step.fault.is_none());
        assert_eq!(coming.trailers(), b"X: y\r\n");
    }

    #[test]
    fn content_before_a_fault_counts() {
        let mut input = *b"5\r\nhello\r\nnone";
        let step = chunks().step(&mut input);
        assert_eq!(&input[step.data], b"hello");
        assert_eq!((step.used, step.fault), (8, Some(Malformed::Chunk)));
    }

    #[test]
    fn a_length_ends_after_its_last_byte_and_no_connection_ends_a_body_before_its_own_end() {
        let mut coming = Coming::of(ResponseFraming::Length(4), LIMITS);
        assert_eq!(
            coming.step(&mut [0; 3]),
            Step {
                used: 3,
                data: 0..3,
                ..Step::default()
            }
        );
        assert!(!coming.has_ended());
        let step = coming.step(&mut [0; 3]);
        assert_eq!((step.used, step.end), (1, true));
        assert!(coming.has_ended() && !coming.ends_with_connection());
        let mut coming = Coming::of(ResponseFraming::UntilClose, LIMITS);
        assert!(!coming.step(&mut [0; 3]).end && coming.ends_with_connection());
        assert!(Coming::of(ResponseFraming::None, LIMITS).has_ended());
    }

    #[test]
    fn skipped_and_collected_bodies_end_at_the_same_byte() {
        let input = b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\nmore";
        let mut content = Vec::new();
        assert_eq!(chunks().collect(input, &mut content), Ok((18, true)));
        assert_eq!(content, b"abc");
        assert_eq!(chunks().skip(input), Ok((18, true)));
        assert_eq!(chunks().skip(&input[..12]), Ok((12, false)));
        assert_eq!(chunks().skip(b"x"), Err(Malformed::Chunk));
    }
}
