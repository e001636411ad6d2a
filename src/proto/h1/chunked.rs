//! Chunked coding (RFC 9112 §7.1), decoded strictly from clients and tolerantly from servers.
//!
//! A server's body is rewritten for its client, in chunks of our own. So padding behind a size,
//! line feeds alone, leading zeros and extensions of any shape are read as nginx and HAProxy read
//! them, and a trailer that is not allowed is left out. A doubtful size or end of a chunk is still
//! refused.

use std::ops::Range;

use crate::http::{FieldId, fold};

use super::parse::split_field;
use super::syntax::is_token_byte;
use super::{HeadLimits, Malformed};

/// The most hexadecimal digits of a chunk's size, including leading zeros: no more fit in 64 bits.
const MOST_DIGITS: u8 = 16;

/// The most bytes of extensions in one line.
const LINE_EXTENSIONS: usize = 4096;

/// The most bytes of extensions in a whole body, besides one byte for each byte of content.
/// Extensions are read and dropped (RFC 9112 §7.1.1 asks for a limit): a body of extensions alone
/// would cost work without end.
const BODY_EXTENSIONS: u64 = 16 * 1024;

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// Content: this range of the input.
    Data(Range<usize>),
    /// The body and its trailers have ended. What follows in the input is not part of the body.
    End,
    /// All input is used up and more is needed.
    More,
}

/// Decodes one chunked body, however it is split.
///
/// After an error the decoder returns the same error again, and after the end the end.
#[derive(Debug)]
pub struct ChunkedDecoder {
    limits: HeadLimits,
    state: State,
    /// The size as far as it is read, then the rest of the chunk's content in bytes.
    size: u64,
    digits: u8,
    /// Bytes of extensions that this line may still have.
    line_allowance: usize,
    /// Bytes of extensions that this body may still have.
    body_allowance: u64,
    /// Trailer lines; the last one may be incomplete.
    trailers: Vec<u8>,
    /// Where the last line in `trailers` begins.
    trailer_start: usize,
    /// Where the line before that one begins, if it was kept.
    trailer_before: usize,
    trailer_bytes: usize,
    trailer_fields: usize,
    is_tolerant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Whitespace after the size: only an extension may follow.
    SizeSpace,
    /// After a semicolon.
    NameSpace,
    Name,
    /// Whitespace after an extension's name.
    NameEnd,
    /// After an equals sign.
    ValueSpace,
    Value,
    Quoted,
    Escaped,
    /// After a closing quote: the line may end.
    QuotedEnd,
    /// Whitespace after an extension's value: only another extension may follow.
    ValueEnd,
    /// Behind a semicolon, where the shape does not matter.
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    FinalLf,
    End,
    Failed(Malformed),
}

impl ChunkedDecoder {
    /// Makes a decoder at the first chunk size. `limits` apply to the trailer section.
    pub fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            state: State::Size,
            size: 0,
            digits: 0,
            line_allowance: LINE_EXTENSIONS,
            body_allowance: BODY_EXTENSIONS,
            trailers: Vec::new(),
            trailer_start: 0,
            trailer_before: 0,
            trailer_bytes: 0,
            trailer_fields: 0,
            is_tolerant: false,
        }
    }

    /// Makes a decoder for a server's body.
    pub fn tolerant(limits: HeadLimits) -> Self {
        Self {
            is_tolerant: true,
            ..Self::new(limits)
        }
    }

    /// Continues in `input`. Returns the number of bytes used up and what was found in them.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, ChunkEvent), Malformed> {
        let mut used = 0;
        loop {
            match self.state {
                State::End => return Ok((used, ChunkEvent::End)),
                State::Failed(why) => return Err(why),
                _ => {}
            }
            let Some(&byte) = input.get(used) else {
                return Ok((used, ChunkEvent::More));
            };
            if self.state == State::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let end = used.saturating_add(left).min(input.len());
                self.size -= (end - used) as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Ok((end, ChunkEvent::Data(used..end)));
            }
            self.state = self.step(byte).unwrap_or_else(State::Failed);
            used += 1;
        }
    }

    /// Returns how much content of the current chunk is still to come.
    pub fn left_of_chunk(&self) -> u64 {
        if self.state == State::Data {
            self.size
        } else {
            0
        }
    }

    /// Returns the trailer lines, each with its CRLF, once the body has ended. They are checked,
    /// without hop-by-hop fields and without fields that are not allowed in trailers. Empty if
    /// there are none.
    pub fn trailers(&self) -> &[u8] {
        if self.state == State::End {
            &self.trailers
        } else {
            &[]
        }
    }

    /// Processes one byte that is not content.
    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        use State::{
            Data, DataCr, DataLf, End, Escaped, Extension, Failed, FinalLf, Name, NameEnd,
            NameSpace, Quoted, QuotedEnd, Size, SizeLf, SizeSpace, Trailer, TrailerLf,
            TrailerStart, Value, ValueEnd, ValueSpace,
        };
        if self.is_tolerant
            && let Some(next) = self.step_tolerantly(byte)
        {
            return next;
        }
        let next = match (self.state, byte) {
            (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => return self.add_digit(byte),
            (Size, b'\r') if self.digits > 0 => return Ok(SizeLf),
            (SizeLf, b'\n') => return Ok(self.begin_chunk()),
            (DataCr, b'\r') => return Ok(DataLf),
            (DataLf, b'\n') => return Ok(Size),

            // chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
            (Name | Value | QuotedEnd, b'\r') => return Ok(SizeLf),
            (Size, b';') if self.digits > 0 => NameSpace,
            (Size, b' ' | b'\t') if self.digits > 0 => SizeSpace,
            (SizeSpace | Name | NameEnd | Value | QuotedEnd | ValueEnd, b';') => NameSpace,
            (Name | NameEnd, b'=') => ValueSpace,
            (Name | NameEnd, b' ' | b'\t') => NameEnd,
            (Value | QuotedEnd | ValueEnd, b' ' | b'\t') => ValueEnd,
            (SizeSpace | NameSpace | ValueSpace, b' ' | b'\t') => self.state,
            (NameSpace | Name, _) if is_token_byte(byte) => Name,
            (ValueSpace, b'"') => Quoted,
            (ValueSpace | Value, _) if is_token_byte(byte) => Value,
            (Quoted, b'"') => QuotedEnd,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | 0x20..=0x7e | 0x80..) => Quoted,

            (TrailerStart | Trailer | TrailerLf | FinalLf, _) => return self.step_trailer(byte),
            (Data | End | Failed(_) | Extension, _) => return Ok(self.state),
            _ => return Err(Malformed::Chunk),
        };
        // Only extensions get here.
        self.spend_line()?;
        self.body_allowance = self.body_allowance.checked_sub(1).ok_or(Malformed::Chunk)?;
        Ok(next)
    }

    /// Processes a byte that is read differently from a server. Returns `None` where there is no
    /// difference.
    fn step_tolerantly(&mut self, byte: u8) -> Option<Result<State, Malformed>> {
        use State::{
            DataCr, Extension, FinalLf, Size, SizeLf, SizeSpace, Trailer, TrailerLf, TrailerStart,
        };
        match (self.state, byte) {
            (Size, b'\n') if self.digits > 0 => Some(Ok(self.begin_chunk())),
            (SizeSpace | Extension, b'\n') => Some(Ok(self.begin_chunk())),
            (SizeSpace | Extension, b'\r') => Some(Ok(SizeLf)),
            // Servers that pad do so in each line, however small its chunk, so padding uses up no
            // allowance of the body.
            (Size, b' ' | b'\t') if self.digits > 0 => Some(self.spend_line().map(|()| SizeSpace)),
            (SizeSpace, b' ' | b'\t') => Some(self.spend_line().map(|()| SizeSpace)),
            (Size, b';') if self.digits > 0 => Some(self.spend_extension()),
            (SizeSpace, b';') | (Extension, 1..) => Some(self.spend_extension()),
            (Extension, 0) => Some(Err(Malformed::Chunk)),
            (DataCr, b'\n') => Some(Ok(Size)),
            (TrailerStart | Trailer | TrailerLf | FinalLf, _) => {
                Some(self.step_trailer_tolerantly(byte))
            }
            _ => None,
        }
    }

    fn spend_line(&mut self) -> Result<(), Malformed> {
        self.line_allowance = self.line_allowance.checked_sub(1).ok_or(Malformed::Chunk)?;
        Ok(())
    }

    fn spend_extension(&mut self) -> Result<State, Malformed> {
        self.spend_line()?;
        self.body_allowance = self.body_allowance.checked_sub(1).ok_or(Malformed::Chunk)?;
        Ok(State::Extension)
    }

    fn add_digit(&mut self, byte: u8) -> Result<State, Malformed> {
        if self.digits == MOST_DIGITS {
            // After leading zeros the size still fits.
            if !self.is_tolerant || self.size >> 60 != 0 {
                return Err(Malformed::Chunk);
            }
            self.spend_line()?;
            self.digits -= 1;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn begin_chunk(&mut self) -> State {
        self.digits = 0;
        self.line_allowance = LINE_EXTENSIONS;
        self.body_allowance = self.body_allowance.saturating_add(self.size);
        if self.size == 0 {
            State::TrailerStart
        } else {
            State::Data
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, Malformed> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.head {
            return Err(Malformed::HeadTooLarge);
        }
        match (self.state, byte) {
            (State::FinalLf, b'\n') => return Ok(State::End),
            (State::TrailerStart, b'\r') => return Ok(State::FinalLf),
            (State::TrailerStart, b' ' | b'\t') => return Err(Malformed::Trailer),
            (State::TrailerStart, _) => {
                self.trailer_fields += 1;
                if self.trailer_fields > self.limits.fields {
                    return Err(Malformed::TooManyFields);
                }
            }
            _ => {}
        }
        self.trailers.push(byte);
        match (self.state, byte) {
            (State::TrailerLf, b'\n') => self.end_trailer(),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => {
                Ok(State::Trailer)
            }
            _ => Err(Malformed::Trailer),
        }
    }

    fn end_trailer(&mut self) -> Result<State, Malformed> {
        let line = self
            .trailers
            .get(self.trailer_start..self.trailers.len().saturating_sub(2))
            .unwrap_or_default();
        let split = split_field(line).map_err(|_| Malformed::Trailer)?;
        match judge_trailer(&line[..split.name], split.odd) {
            Verdict::Keep => self.trailer_start = self.trailers.len(),
            Verdict::Drop => self.trailers.truncate(self.trailer_start),
            Verdict::Refuse => return Err(Malformed::Trailer),
        }
        Ok(State::TrailerStart)
    }
}

impl ChunkedDecoder {
    /// Reads trailers of a server. The content is complete by then, so a bad trailer does not fail
    /// the response. A line that is not a field, a field that is not allowed (RFC 9112 §7.1.2) and
    /// a folded field are left out.
    fn step_trailer_tolerantly(&mut self, byte: u8) -> Result<State, Malformed> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.limits.head {
            return Err(Malformed::HeadTooLarge);
        }
        match (self.state, byte) {
            (State::FinalLf | State::TrailerStart, b'\n') => Ok(State::End),
            (State::TrailerStart, b'\r') => Ok(State::FinalLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::Trailer | State::TrailerLf, b'\n') => {
                self.end_trailer_tolerantly();
                Ok(State::TrailerStart)
            }
            (State::TrailerStart | State::Trailer, 1..) => {
                self.trailers.push(byte);
                Ok(State::Trailer)
            }
            _ => Err(Malformed::Trailer),
        }
    }

    fn end_trailer_tolerantly(&mut self) {
        let line = self
            .trailers
            .get_mut(self.trailer_start..)
            .unwrap_or_default();
        if let [b' ' | b'\t', ..] = line {
            self.trailers.truncate(self.trailer_before);
            self.trailer_start = self.trailer_before;
            return;
        }
        self.trailer_before = self.trailer_start;
        let is_kept = self.trailer_fields < self.limits.fields
            && split_field(line).is_ok_and(|split| {
                matches!(judge_trailer(&line[..split.name], split.odd), Verdict::Keep)
            });
        if !is_kept {
            self.trailers.truncate(self.trailer_start);
            return;
        }
        for byte in line
            .iter_mut()
            .filter(|byte| matches!(byte, 1..=8 | 10..=31 | 127))
        {
            *byte = b' ';
        }
        self.trailer_fields += 1;
        self.trailers.extend_from_slice(b"\r\n");
        self.trailer_start = self.trailers.len();
    }
}

#[derive(Clone, Copy)]
enum Verdict {
    Drop,
    Keep,
    Refuse,
}

/// RFC 9110 §6.5.1: trailers must not have a field that decides framing, routing, who is asking,
/// how the request is meant, or what the content is. Servers may merge trailers into the head, and
/// then such a field would have passed all checks of the head.
///
/// A name that is `odd` counts as the one that a server may take it for.
fn judge_trailer(name: &[u8], odd: bool) -> Verdict {
    const REFUSED: &[&str] = &[
        "accept-encoding",
        "age",
        "authorization",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "pragma",
        "range",
        "set-cookie",
        "vary",
        "www-authenticate",
    ];
    let mut room = [0; fold::FOLDED_MOST];
    let name = if odd {
        fold::fold(name, &mut room)
    } else {
        name
    };
    match FieldId::from_name(name) {
        FieldId::KeepAlive | FieldId::ProxyConnection | FieldId::Upgrade if !odd => Verdict::Drop,
        FieldId::Connection
        | FieldId::ContentLength
        | FieldId::Expect
        | FieldId::Forwarded
        | FieldId::Host
        | FieldId::KeepAlive
        | FieldId::MaxForwards
        | FieldId::ProxyAuthenticate
        | FieldId::ProxyAuthorization
        | FieldId::ProxyConnection
        | FieldId::Te
        | FieldId::Trailer
        | FieldId::TransferEncoding
        | FieldId::Upgrade
        | FieldId::Via
        | FieldId::XForwarded
        | FieldId::XForwardedFor
        | FieldId::XForwardedHost
        | FieldId::XForwardedProto
        | FieldId::XRealIp
        | FieldId::XRequestId => Verdict::Refuse,
        FieldId::Date | FieldId::Referer | FieldId::UserAgent => Verdict::Keep,
        FieldId::Other
            if REFUSED
                .iter()
                .any(|refused| name.eq_ignore_ascii_case(refused.as_bytes())) =>
        {
            Verdict::Refuse
        }
        FieldId::Other => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests;
