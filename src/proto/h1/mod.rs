//! HTTP/1.x (RFC 9112). Requests to the letter: what two parsers could see differently is refused,
//! never repaired. Responses with the oddities that every balancer delivers, and written anew.

mod chunked;
mod parse;
mod relay;
mod response;
mod scan;
mod syntax;
mod write;

pub use chunked::{ChunkEvent, ChunkedDecoder};
pub use parse::parse_request;
pub use relay::{Coming, Going, Step, framing_for};
pub use response::parse_response;
pub use scan::HeadScanner;
pub use syntax::is_token;
pub use write::{
    Persistence, RequestRewrite, ResponseRewrite, write_chunk_size, write_last_chunk,
    write_request, write_response,
};

/// Limits of a head or of a trailer section.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, blank line included.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A line feed without a carriage return before it, or the other way round.
    BareLineEnd,
    /// A control byte where none may be.
    ControlByte,
    /// A field line that begins with whitespace (obs-fold).
    ObsoleteFold,
    /// Whitespace between a field's name and its colon, or a name that is no token.
    FieldName,
    /// The request line or status line.
    StartLine,
    /// The request target.
    Target,
    /// A version that is HTTP, but not 1.0 or 1.1.
    Version,
    /// No Host in HTTP/1.1, two of them, or one that is no host.
    Host,
    /// A field whose name a server may take for one that decides framing or is for one hop.
    LookAlike,
    /// Max-Forwards of OPTIONS or TRACE that is no number, or several.
    MaxForwards,
    /// Content-Length that is not exactly digits, too large, or differing.
    ContentLength,
    /// Content-Length together with Transfer-Encoding.
    LengthAndEncoding,
    /// Transfer-Encoding with anything but a single final `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding that this side does not know (501).
    UnknownCoding,
    /// Expect with anything but `100-continue`.
    Expect,
    /// A chunk's size line, extension or end.
    Chunk,
    /// A field that may not stand in trailers, or a bad trailer line.
    Trailer,
    /// More bytes of head than allowed.
    HeadTooLarge,
    /// More fields than allowed.
    TooManyFields,
    /// A longer target than allowed.
    TargetTooLong,
    /// CONNECT, which a balancer does not serve (501).
    MethodNotImplemented,
}

#[cfg(test)]
mod tests;
