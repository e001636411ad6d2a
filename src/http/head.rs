//! Parsed heads: ranges into the buffer that was parsed, in the order and spelling in which they
//! came.

use std::time::Duration;

use super::FieldId;
use super::Method;
use super::Version;

/// A range of bytes in the buffer that a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Whether there is nothing in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The bytes, or none if the buffer is not the one that was parsed.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Its name as spelt.
    pub name: Span,
    /// Its value without surrounding whitespace.
    pub value: Span,
    /// What its name means.
    pub id: FieldId,
    /// It ends here: hop-by-hop by its name (RFC 9110 §7.6.1), because Connection names it, or
    /// because the listener keeps it from servers.
    pub hop_by_hop: bool,
    /// Control bytes or line ends are in the value (of responses alone): each goes on as a space
    /// (RFC 9110 §5.5).
    pub has_controls: bool,
    /// Its name is one that servers may take for another ([`super::fold::is_odd`]).
    pub odd: bool,
}

/// Form of a request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `http://host/path`, as clients send it to proxies.
    Absolute,
    /// `*`, for OPTIONS.
    Asterisk,
    /// `host:port`, for CONNECT (always refused later on, with 501).
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
    /// So many bytes (may be 0).
    Length(u64),
    /// No body.
    #[default]
    None,
}

/// How long a response's body is (RFC 9112 §6.3), the request's method and the status looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseFraming {
    /// Chunked coding.
    Chunked,
    /// So many bytes.
    Length(u64),
    /// No body: HEAD, 1xx, 204, 304.
    #[default]
    None,
    /// Until the connection ends.
    UntilClose,
}

/// A request head. Made once and filled again and again.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as spelt.
    pub method_text: Span,
    /// The whole target as spelt.
    pub target: Span,
    /// The target's form.
    pub form: TargetForm,
    /// Path and query to send on: the target itself in origin form, what follows the authority in
    /// absolute form (empty if nothing follows: then `/` is sent, or `*` for OPTIONS), `*` in
    /// asterisk form.
    pub path_and_query: Span,
    /// The path alone, without the query.
    pub path: Span,
    /// The authority asked for: of an absolute target, else of Host. Empty if HTTP/1.0 named none,
    /// or `*` was asked for.
    pub authority: Span,
    /// The version.
    pub version: Version,
    /// All fields.
    pub fields: Vec<Field>,
    /// One of them has a name that servers may take for another.
    pub has_odd_field: bool,
    /// `Max-Forwards` of OPTIONS and TRACE (RFC 9110 §7.6.2): how many servers more may pass the
    /// request on.
    pub max_forwards: Option<u64>,
    /// How long the body is.
    pub framing: BodyFraming,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
    /// `Expect: 100-continue` (of HTTP/1.1; ignored in 1.0, RFC 9110 §10.1.1).
    pub expect_continue: bool,
    /// The client accepts trailers (`TE: trailers`).
    pub te_trailers: bool,
}

impl RequestHead {
    /// The values of the lines of this field in the order in which they came, but of those that end
    /// here. `buffer` is what the head was parsed from.
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

    /// The values of the lines of this name, in any case of letters, those too that end here.
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

/// A response head. Made once and filled again and again.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, may be empty.
    pub reason: Span,
    /// All fields.
    pub fields: Vec<Field>,
    /// How long the body is.
    pub framing: ResponseFraming,
    /// Declared `Content-Length` even where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// The server will keep the connection.
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=N`.
    pub keep_alive_timeout: Option<Duration>,
    /// A Date field is there.
    pub has_date: bool,
}
