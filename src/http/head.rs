//! Parsed heads: ranges into the buffer that was parsed, in their original order and spelling.

use std::time::Duration;

use super::FieldId;
use super::Method;
use super::Version;

/// A range of bytes in the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Returns whether the range has no bytes.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Returns the bytes of the range, or no bytes if `buffer` is not the one that was parsed.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// The name as spelt.
    pub name: Span,
    /// The value without surrounding whitespace.
    pub value: Span,
    /// What the name means.
    pub id: FieldId,
    /// The field is not sent on. It is hop-by-hop by its name (RFC 9110 §7.6.1), or Connection
    /// names it, or the listener withholds it from servers.
    pub hop_by_hop: bool,
    /// The value (of a response; never of a request) has control bytes or line ends. Each of these
    /// is sent on as a space (RFC 9110 §5.5).
    pub has_controls: bool,
    /// Servers may take the name for another one ([`super::fold::is_odd`]).
    pub odd: bool,
}

/// The form of a request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `http://host/path`, as clients send it to proxies.
    Absolute,
    /// `*`, for OPTIONS.
    Asterisk,
    /// `host:port`, for CONNECT (always refused later, with 501).
    Authority,
    /// `/path?query`.
    #[default]
    Origin,
}

/// How long a request's body is (RFC 9112 §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    /// Chunked coding.
    Chunked,
    /// `n` bytes (may be 0).
    Length(u64),
    /// No body.
    #[default]
    None,
}

/// How long a response's body is (RFC 9112 §6.3), given the request's method and the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseFraming {
    /// Chunked coding.
    Chunked,
    /// `n` bytes.
    Length(u64),
    /// No body: HEAD, 1xx, 204, 304.
    #[default]
    None,
    /// Until the connection ends.
    UntilClose,
}

/// How long the body of a response is, as far as that is known when its head is said. How a client
/// learns where the body ends follows from this and from what the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is no body: HEAD, 1xx, 204, 304.
    None,
    /// Bytes.
    Known(u64),
    /// The end is known when it is there.
    Unknown,
}

impl ResponseFraming {
    /// How long a body of this framing is.
    pub fn length(self) -> Length {
        match self {
            Self::None => Length::None,
            Self::Length(length) => Length::Known(length),
            Self::Chunked | Self::UntilClose => Length::Unknown,
        }
    }
}

/// A request head. One value is filled again for each request.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as spelt.
    pub method_text: Span,
    /// The whole target as spelt.
    pub target: Span,
    /// The form of the target.
    pub form: TargetForm,
    /// Path and query to send on. In origin form this is the target itself. In absolute form it is
    /// what follows the authority; if nothing follows, `/` is sent, or `*` for OPTIONS. In asterisk
    /// form it is `*`.
    pub path_and_query: Span,
    /// The path without the query.
    pub path: Span,
    /// The authority of an absolute target, else of Host. Empty if an HTTP/1.0 request names none,
    /// or if the target is `*`.
    pub authority: Span,
    /// The version.
    pub version: Version,
    /// All fields.
    pub fields: Vec<Field>,
    /// Servers may take the name of at least one field for another name.
    pub has_odd_field: bool,
    /// `Max-Forwards` of OPTIONS and TRACE (RFC 9110 §7.6.2): how many more servers may pass the
    /// request on.
    pub max_forwards: Option<u64>,
    /// How long the body is.
    pub framing: BodyFraming,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
    /// `Expect: 100-continue` of an HTTP/1.1 request. Ignored in HTTP/1.0 (RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The client accepts trailers (`TE: trailers`).
    pub te_trailers: bool,
}

impl RequestHead {
    /// Forgets the head, but keeps room for at most `room` fields.
    pub fn clear(&mut self, room: usize) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        fields.shrink_to(room);
        *self = Self {
            fields,
            ..Self::default()
        };
    }

    /// Returns the values of this field's lines, in order. Fields that are not sent on are left
    /// out. `buffer` is the buffer that the head was parsed from.
    pub fn values<'a>(
        &'a self,
        id: FieldId,
        buffer: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let lines = self.fields.iter();
        lines
            .filter(move |field| field.id == id && !field.hop_by_hop)
            .map(|field| field.value.of(buffer))
    }

    /// Returns the protocol that the client asks to switch to (RFC 9110 §7.8), if it is one and
    /// nothing follows the head.
    pub fn upgrade<'a>(&'a self, buffer: &'a [u8]) -> Option<&'a str> {
        if self.version != Version::Http11
            || !matches!(self.framing, BodyFraming::None | BodyFraming::Length(0))
            || !self.fields.iter().any(|field| field.id == FieldId::Upgrade)
        {
            return None;
        }
        let mut values = self.values_named("upgrade", buffer);
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._/+".contains(byte);
        let is_one = !value.is_empty() && value.iter().all(is_token);
        let is_meant = self.values_named("connection", buffer).any(|options| {
            let mut options = options.split(|&byte| byte == b',');
            options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        });
        (is_one && is_meant)
            .then(|| std::str::from_utf8(value).ok())
            .flatten()
    }

    /// Returns the values of all lines with this name, in any case of letters. Fields that are not
    /// sent on are included.
    pub fn values_named<'a>(
        &'a self,
        name: &str,
        buffer: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        let lines = self.fields.iter();
        lines
            .filter(move |field| field.name.of(buffer).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| field.value.of(buffer))
    }
}

impl ResponseHead {
    /// Returns whether it is the head of a stream of events, which is sent piece by piece and may
    /// never end (`text/event-stream`, HTML §9.2).
    pub fn is_event_stream(&self, buffer: &[u8]) -> bool {
        const NAME: &[u8] = b"content-type";
        const TYPE: &[u8] = b"text/event-stream";
        let is_sized = matches!(
            self.framing,
            ResponseFraming::None | ResponseFraming::Length(_)
        );
        // Most responses are told by their framing alone.
        !is_sized
            && self.fields.iter().any(|field| {
                let (name, value) = (field.name.of(buffer), field.value.of(buffer));
                let is_type = name.eq_ignore_ascii_case(NAME);
                let starts = || {
                    value
                        .get(..TYPE.len())
                        .is_some_and(|it| it.eq_ignore_ascii_case(TYPE))
                };
                let ends = || matches!(value.get(TYPE.len()), None | Some(b';' | b' ' | b'\t'));
                is_type && starts() && ends()
            })
    }
}

/// A response head. One value is filled again for each response.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: Span,
    /// All fields.
    pub fields: Vec<Field>,
    /// How long the body is.
    pub framing: ResponseFraming,
    /// The declared `Content-Length`, even where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// The server keeps the connection open.
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=N`.
    pub keep_alive_timeout: Option<Duration>,
    /// The head has a Date field.
    pub has_date: bool,
}
