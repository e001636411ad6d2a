//! A response on its way, without its sockets: the body as a server sends it, and as the client
//! gets it.
//!
//! Everything is written anew. What a server sends decides where its body ends; what the client
//! gets depends on nothing but the content, so a framing that two readers could understand
//! differently never goes on.

use std::ops::Range;

use crate::http::{ResponseFraming, ResponseHead};

use super::{
    ChunkEvent, ChunkedDecoder, HeadLimits, Malformed, write_chunk_size, write_last_chunk,
};

/// The body as the server sends it.
#[derive(Debug)]
pub enum Coming {
    /// In chunks.
    Chunks(Box<ChunkedDecoder>),
    /// So many bytes are still to come.
    Length(u64),
    /// Everything up to the end of the connection.
    UntilClose,
}

/// The body as the client gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// In chunks.
    Chunks,
    /// As it is.
    Plain,
}

/// What a piece of input amounts to.
#[derive(Debug, Default)]
pub struct Step {
    /// So much of it is used.
    pub used: usize,
    /// This part goes out as it is, behind what was written.
    pub direct: Range<usize>,
    /// And this behind it.
    pub behind: &'static [u8],
    /// That was the last of it.
    pub finished: bool,
    /// What comes next is none of a body. What came before it goes out all the same, however it was
    /// cut into reads.
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

    /// Takes what it can of `data`, and appends to `out` what has to be written anew.
    pub fn step(&mut self, data: &[u8], going: Going, out: &mut Vec<u8>) -> Step {
        match self {
            Self::Length(left) => {
                let part = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= part as u64;
                Step {
                    used: part,
                    direct: 0..part,
                    finished: *left == 0,
                    ..Step::default()
                }
            }
            Self::UntilClose if going == Going::Chunks && !data.is_empty() => {
                write_chunk_size(out, data.len());
                Step {
                    used: data.len(),
                    direct: 0..data.len(),
                    behind: b"\r\n",
                    ..Step::default()
                }
            }
            Self::UntilClose => Step {
                used: data.len(),
                direct: 0..data.len(),
                ..Step::default()
            },
            Self::Chunks(decoder) => decode(decoder, data, going, out),
        }
    }

    /// Takes what it can of `data` and appends what of the body is in there. Returns how much that
    /// was, and whether it was the last.
    ///
    /// # Errors
    ///
    /// Chunks that are none.
    pub fn collect(&mut self, data: &[u8], body: &mut Vec<u8>) -> Result<(usize, bool), Malformed> {
        let step = self.step(data, Going::Plain, body);
        body.extend_from_slice(data.get(step.direct).unwrap_or_default());
        step.fault.map_or(Ok((step.used, step.finished)), Err)
    }

    /// Takes what it can of `data` and throws it away. Returns how much that was, and whether it
    /// was the last.
    ///
    /// # Errors
    ///
    /// Chunks that are none.
    pub fn skip(&mut self, data: &[u8], scratch: &mut Vec<u8>) -> Result<(usize, bool), Malformed> {
        scratch.clear();
        let step = self.step(data, Going::Plain, scratch);
        step.fault.map_or(Ok((step.used, step.finished)), Err)
    }
}

fn decode(decoder: &mut ChunkedDecoder, data: &[u8], going: Going, out: &mut Vec<u8>) -> Step {
    let mut used = 0;
    loop {
        let rest = data.get(used..).unwrap_or_default();
        let (taken, event) = match decoder.next(rest) {
            Ok(found) => found,
            Err(fault) => {
                return Step {
                    used,
                    fault: Some(fault),
                    ..Step::default()
                };
            }
        };
        used += taken;
        match event {
            ChunkEvent::Data(range) => {
                let part = rest.get(range).unwrap_or_default();
                if going == Going::Chunks {
                    write_chunk_size(out, part.len());
                    out.extend_from_slice(part);
                    out.extend_from_slice(b"\r\n");
                } else {
                    out.extend_from_slice(part);
                }
            }
            ChunkEvent::End => {
                if going == Going::Chunks {
                    write_last_chunk(out, decoder.trailers());
                }
                return Step {
                    used,
                    finished: true,
                    ..Step::default()
                };
            }
            ChunkEvent::More => {
                return Step {
                    used,
                    ..Step::default()
                };
            }
        }
    }
}

/// How the client gets the body, and the framing its head declares. `old`: the client speaks
/// HTTP/1.0.
pub fn framing_for(head: &ResponseHead, old: bool) -> (Going, ResponseFraming) {
    match head.framing {
        ResponseFraming::Chunked | ResponseFraming::UntilClose if old => {
            (Going::Plain, ResponseFraming::UntilClose)
        }
        ResponseFraming::Chunked | ResponseFraming::UntilClose => {
            (Going::Chunks, ResponseFraming::Chunked)
        }
        framing => (Going::Plain, framing),
    }
}
