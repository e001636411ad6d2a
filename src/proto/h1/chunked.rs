//! Chunked coding (RFC 9112 §7.1), decoded strictly.

use std::ops::Range;

use super::{HeadLimits, Malformed};

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// Content: this range of the input.
    Data(Range<usize>),
    /// The body and its trailers have ended; what follows in the input is not of it.
    End,
    /// All input is used up, more is needed.
    More,
}

/// Decodes one chunked body, however it is split.
#[derive(Debug)]
pub struct ChunkedDecoder {
    // to be filled
}

impl ChunkedDecoder {
    /// A decoder at the first chunk size. `limits` are for the trailer section.
    pub fn new(limits: HeadLimits) -> Self {
        let _ = limits;
        todo!()
    }

    /// Reads on in `input`, and answers how much of it is used up and what was found there.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), Malformed> {
        let _ = input;
        todo!()
    }

    /// The trailer lines, each with its CRLF, once the body has ended: checked, hop-by-hop fields left out, never one that
    /// may not be in trailers. Empty if there are none.
    pub fn trailers(&self) -> &[u8] {
        todo!()
    }
}
