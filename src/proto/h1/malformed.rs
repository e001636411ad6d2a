//! What a message must not be: its limits, and why one is refused.

/// Limits of a head or of a trailer section.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, including the blank line.
    pub head: usize,
    /// Field lines.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A line feed without a carriage return before it, or the reverse.
    BareLineEnd,
    /// A control byte where none is allowed.
    ControlByte,
    /// A field line that begins with whitespace (obs-fold).
    ObsoleteFold,
    /// Whitespace between a field's name and its colon, or a name that is not a token.
    FieldName,
    /// A bad request line or status line.
    StartLine,
    /// A bad request target.
    Target,
    /// An HTTP version other than 1.0 and 1.1.
    Version,
    /// No Host in HTTP/1.1, two of them, or a value that is not a host.
    Host,
    /// A field name that a server may take for one that decides framing or is for one hop.
    LookAlike,
    /// Max-Forwards of OPTIONS or TRACE that is not a number, or that occurs more than once.
    MaxForwards,
    /// Content-Length that is not only digits, is too large, or differs between lines.
    ContentLength,
    /// Content-Length together with Transfer-Encoding.
    LengthAndEncoding,
    /// Transfer-Encoding other than a single final `chunked`, or in HTTP/1.0.
    TransferEncoding,
    /// A transfer coding that this side does not know (501).
    UnknownCoding,
    /// Expect other than `100-continue`.
    Expect,
    /// A bad size line, extension or end of a chunk.
    Chunk,
    /// A field that is not allowed in trailers, or a bad trailer line.
    Trailer,
    /// More bytes of head than allowed.
    HeadTooLarge,
    /// More fields than allowed.
    TooManyFields,
    /// A longer target than allowed.
    TargetTooLong,
    /// CONNECT, which the balancer does not serve (501).
    MethodNotImplemented,
}

impl Malformed {
    /// What is wrong, for the client and the log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::BareLineEnd => "a line feed without a carriage return before it, or the reverse",
            Self::ControlByte => "a control byte, or one that is not ASCII where only that may be",
            Self::ObsoleteFold => "a field line that begins with white space",
            Self::FieldName => "a field name that is none, or white space before its colon",
            Self::StartLine => "a first line that is not METHOD TARGET VERSION",
            Self::Target => "a request target that is none",
            Self::Version => "another version than HTTP/1.0 and 1.1",
            Self::Host => "no Host field, more than one, or one that names no host",
            Self::LookAlike => "a field name that could be taken for one that decides framing",
            Self::MaxForwards => "Max-Forwards that is no number, or more than one",
            Self::ContentLength => "Content-Length that is no number, or several that differ",
            Self::LengthAndEncoding => "Content-Length and Transfer-Encoding together",
            Self::TransferEncoding => "Transfer-Encoding that does not end in one chunked",
            Self::UnknownCoding => "a transfer coding other than chunked",
            Self::Expect => "Expect other than 100-continue",
            Self::Chunk => "a chunk whose size line or end is none",
            Self::Trailer => "a trailer line that is none, or that may not be one",
            Self::HeadTooLarge => "more bytes than limit.head allows",
            Self::TooManyFields => "more fields than limit.fields allows",
            Self::TargetTooLong => "more bytes than limit.target allows",
            Self::MethodNotImplemented => "CONNECT",
        }
    }
}
