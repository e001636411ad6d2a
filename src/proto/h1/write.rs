//! Writes heads from parsed ones: the same fields in the same order and spelling, except for
//! what the protocol demands.

use std::ops::Range;

use crate::http::{
    BodyFraming, Edits, Field, FieldId, Method, RequestHead, ResponseFraming, ResponseHead,
    TargetForm, Version,
};

use super::syntax::find_control;

/// What to change in a request on its way to a server.
#[derive(Debug)]
pub struct RequestRewrite<'a> {
    /// The framing to send. `None` sends the message without a framing field.
    pub framing: BodyFraming,
    /// Fields to leave out besides hop-by-hop ones, Expect and framing, and fields to add at the
    /// end.
    pub edits: &'a Edits,
    /// The protocol to ask the server for.
    pub upgrade: Option<&'a str>,
}

/// What a client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, which HTTP/1.0 clients need.
    KeepAlive,
    /// Nothing: HTTP/1.1 keeps connections by default.
    Silent,
}

impl Persistence {
    /// Returns what to tell a client of this version.
    pub fn of(close: bool, version: Version) -> Self {
        match (close, version) {
            (true, _) => Self::Close,
            (false, Version::Http10) => Self::KeepAlive,
            (false, Version::Http11) => Self::Silent,
        }
    }
}

/// What to change in a response on its way to a client.
#[derive(Debug)]
pub struct ResponseRewrite<'a> {
    /// The framing to send. `None` and `UntilClose` write no framing field. But with `None` a
    /// Content-Length from the server is kept (HEAD, 304), never with 1xx and 204.
    pub framing: ResponseFraming,
    /// What the client is told about its connection.
    pub persistence: Persistence,
    /// The value of the Date field to add where the server sent none (not to 1xx).
    pub date: &'a [u8],
    /// Whole field lines, each with its CRLF, to add at the end.
    pub append: &'a [u8],
}

/// Appends the head to send to a server, in HTTP/1.1 (with one exception). It has the request line
/// in origin (or asterisk) form, Host, the client's fields, framing and `Connection: keep-alive`.
/// The value of Host is the authority of an absolute target where there is one. Host stays in its
/// place, or comes first if the client sent none.
///
/// Host is sent exactly once, whatever the edits leave out. But where an HTTP/1.0 client named no
/// host, none is invented. The request then stays HTTP/1.0, since servers refuse 1.1 without a host
/// (RFC 9112 §3.2), and many refuse an empty one.
///
/// Max-Forwards of OPTIONS and TRACE is reduced by one (RFC 9110 §7.6.2). TE is hop-by-hop and not
/// sent: a server with trailers sends them anyhow or not at all. Trailer is left out unless the
/// framing is chunked.
pub fn write_request(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &RequestHead,
    rewrite: &RequestRewrite<'_>,
) {
    out.reserve(size_hint(head.target.end as usize, &head.fields) + rewrite.edits.lines().len());
    let host = head.authority.of(buffer);
    let names_host = head.fields.iter().any(|field| field.id == FieldId::Host);
    let version: &[u8] = if host.is_empty() && !names_host {
        b" HTTP/1.0\r\n"
    } else {
        b" HTTP/1.1\r\n"
    };
    write_request_line(out, buffer, head, version);
    if !host.is_empty() && !names_host {
        write_field(out, b"Host", host);
    }
    let mut lines = Lines::new(out, buffer);
    let mut is_length_due = matches!(rewrite.framing, BodyFraming::Length(_));
    for field in &head.fields {
        match field.id {
            FieldId::Other => {
                if !field.hop_by_hop {
                    lines.copy(field);
                }
            }
            FieldId::Host if head.form == TargetForm::Absolute => lines.replace(field, host),
            FieldId::Host => lines.copy(field),
            FieldId::ContentLength => {
                if let BodyFraming::Length(length) = rewrite.framing
                    && is_length_due
                {
                    is_length_due = false;
                    lines.replace_with_number(field, length);
                }
            }
            FieldId::Expect => {}
            FieldId::MaxForwards if !field.hop_by_hop && head.max_forwards.is_some() => {
                lines.replace_with_number(field, head.max_forwards.unwrap_or(0).saturating_sub(1));
            }
            FieldId::Trailer if rewrite.framing != BodyFraming::Chunked => {}
            id if field.hop_by_hop || rewrite.edits.omits(id) => {}
            _ => lines.copy(field),
        }
    }
    lines.flush();
    match rewrite.framing {
        BodyFraming::Chunked => out.extend_from_slice(CHUNKED),
        BodyFraming::Length(length) if is_length_due => write_length(out, length),
        BodyFraming::Length(_) | BodyFraming::None => {}
    }
    out.extend_from_slice(rewrite.edits.lines());
    match rewrite.upgrade {
        None => out.extend_from_slice(b"Connection: keep-alive\r\n\r\n"),
        Some(protocol) => {
            out.extend_from_slice(b"Connection: upgrade\r\n");
            write_field(out, b"Upgrade", protocol.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the head to send to a client. The status line always says HTTP/1.1 (RFC 9110 §2.5).
///
/// A 1xx head has no Connection and no new Date, whatever `rewrite` says. Trailer is left out
/// unless the framing is chunked.
pub fn write_response(
    out: &mut Vec<u8>,
    buffer: &[u8],
    head: &ResponseHead,
    rewrite: &ResponseRewrite<'_>,
) {
    out.reserve(
        size_hint(head.reason.end as usize, &head.fields)
            + rewrite.date.len()
            + rewrite.append.len(),
    );
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(out, u64::from(head.status));
    out.push(b' ');
    write_text(out, head.reason.of(buffer));
    out.extend_from_slice(b"\r\n");
    let is_informational = head.status < 200;
    let mut length = match rewrite.framing {
        ResponseFraming::Length(length) => Some(length),
        // RFC 9110 §8.6: the length that GET would have had (HEAD, 304), but never with 1xx and
        // 204.
        ResponseFraming::None if !is_informational && head.status != 204 => head.content_length,
        ResponseFraming::Chunked | ResponseFraming::None | ResponseFraming::UntilClose => None,
    };
    let mut lines = Lines::new(out, buffer);
    for field in &head.fields {
        match field.id {
            FieldId::ContentLength => {
                if let Some(length) = length.take() {
                    lines.replace_with_number(field, length);
                }
            }
            FieldId::Trailer if rewrite.framing != ResponseFraming::Chunked => {}
            _ if field.hop_by_hop => {}
            _ => lines.copy(field),
        }
    }
    lines.flush();
    if !is_informational && !head.has_date {
        write_field(out, b"Date", rewrite.date);
    }
    if let Some(length) = length {
        write_length(out, length);
    }
    if rewrite.framing == ResponseFraming::Chunked {
        out.extend_from_slice(CHUNKED);
    }
    if !is_informational {
        match rewrite.persistence {
            Persistence::Close => out.extend_from_slice(b"Connection: close\r\n"),
            Persistence::KeepAlive => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            Persistence::Silent => {}
        }
    }
    out.extend_from_slice(rewrite.append);
    out.extend_from_slice(b"\r\n");
}

/// Appends a chunk's size line. Size 0 is only the last chunk's: for that, use
/// [`write_last_chunk`].
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for index in (0..digits).rev() {
        out.push(DIGITS[size >> (index * 4) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailer lines (each with its CRLF, may be empty).
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}

const CHUNKED: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// Copies field lines. Lines that are adjacent in the buffer and already in our form are copied at
/// once.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    buffer: &'a [u8],
    run: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(out: &'a mut Vec<u8>, buffer: &'a [u8]) -> Self {
        Self {
            out,
            buffer,
            run: 0..0,
        }
    }

    fn copy(&mut self, field: &Field) {
        let start = field.name.start as usize;
        let colon = field.name.end as usize;
        let value = field.value.start as usize;
        let end = field.value.end as usize;
        let is_canonical = self.buffer.get(colon..value) == Some(b": ")
            && self.buffer.get(end..end + 2) == Some(b"\r\n");
        if field.has_controls {
            self.flush();
            self.out.extend_from_slice(field.name.of(self.buffer));
            self.out.extend_from_slice(b": ");
            // A control byte becomes a space, which at an end is no part of the value.
            let mut value = field.value.of(self.buffer);
            while let [0..=b' ' | 0x7f, rest @ ..] | [rest @ .., 0..=b' ' | 0x7f] = value {
                value = rest;
            }
            write_text(self.out, value);
            self.out.extend_from_slice(b"\r\n");
        } else if !is_canonical {
            self.replace(field, field.value.of(self.buffer));
        } else if self.run.end == start {
            self.run.end = end + 2;
        } else {
            self.flush();
            self.run = start..end + 2;
        }
    }

    fn replace(&mut self, field: &Field, value: &[u8]) {
        self.flush();
        write_field(self.out, field.name.of(self.buffer), value);
    }

    fn replace_with_number(&mut self, field: &Field, number: u64) {
        self.replace(field, itoa::Buffer::new().format(number).as_bytes());
    }

    fn flush(&mut self) {
        self.out
            .extend_from_slice(self.buffer.get(self.run.clone()).unwrap_or_default());
        self.run = 0..0;
    }
}

fn write_request_line(out: &mut Vec<u8>, buffer: &[u8], head: &RequestHead, version: &[u8]) {
    out.extend_from_slice(head.method_text.of(buffer));
    out.push(b' ');
    let target = head.path_and_query.of(buffer);
    match target {
        // RFC 9112 §3.2.4: OPTIONS for the server as a whole.
        [] if head.method == Method::Options => out.push(b'*'),
        // RFC 9112 §3.2.1: an empty path is sent as a slash.
        [] | [b'?', ..] => out.push(b'/'),
        _ => {}
    }
    out.extend_from_slice(target);
    out.extend_from_slice(version);
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends text that may have control bytes: each but HTAB becomes a space.
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    if find_control(text).is_none() {
        out.extend_from_slice(text);
    } else {
        let clean = |&byte: &u8| match byte {
            b'\t' | 0x20..=0x7e | 0x80.. => byte,
            _ => b' ',
        };
        out.extend(text.iter().map(clean));
    }
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    write_field(
        out,
        b"Content-Length",
        itoa::Buffer::new().format(length).as_bytes(),
    );
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Returns enough room for a head like the parsed one, so that the buffer grows at most once.
fn size_hint(start_line: usize, fields: &[Field]) -> usize {
    const ADDED: usize = 160;
    fields
        .last()
        .map_or(start_line, |field| field.value.end as usize)
        + ADDED
}
