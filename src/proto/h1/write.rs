//! Heads written anew from parsed ones: the same fields in the same order and spelling, but for what the protocol demands.

use crate::http::{BodyFraming, FieldId, RequestHead, ResponseFraming, ResponseHead, Version};

/// What to change in a request on its way to a server.
#[derive(Debug)]
pub struct RequestRewrite<'a> {
    /// The framing to send: `Length` and `Chunked` as said; `None` leaves the message without either field.
    pub framing: BodyFraming,
    /// Fields to leave out besides hop-by-hop ones, Expect and framing.
    pub omit: &'a [FieldId],
    /// Whole field lines, each with its CRLF, to add at the end.
    pub append: &'a [u8],
}

/// What a client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, which HTTP/1.0 clients need to hear.
    KeepAlive,
    /// Nothing: HTTP/1.1 keeps by default.
    Silent,
}

/// What to change in a response on its way to a client.
#[derive(Debug)]
pub struct ResponseRewrite<'a> {
    /// The framing to send. `None` and `UntilClose` write no framing field, but a Content-Length that the server sent is kept
    /// with `None` (HEAD, 304), never with 1xx and 204.
    pub framing: ResponseFraming,
    /// About the connection.
    pub persistence: Persistence,
    /// Value of the Date field to add where the server sent none (not to 1xx).
    pub date: &'a [u8],
    /// Whole field lines, each with its CRLF, to add at the end.
    pub append: &'a [u8],
}

/// Appends the head to send to a server, in HTTP/1.1: request line in origin (or asterisk) form, Host (that of an absolute
/// target where there is one; in its old place where there was one, else first), the client's fields, framing, `Connection: keep-alive`.
pub fn write_request(out: &mut Vec<u8>, buffer: &[u8], head: &RequestHead, rewrite: &RequestRewrite<'_>) {
    let _ = (out, buffer, head, rewrite);
    todo!()
}

/// Appends the head to send to a client. The status line always says HTTP/1.1 (RFC 9110 §2.5).
pub fn write_response(out: &mut Vec<u8>, buffer: &[u8], head: &ResponseHead, rewrite: &ResponseRewrite<'_>) {
    let _ = (out, buffer, head, rewrite, Version::Http11);
    todo!()
}

/// Appends a chunk's size line.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    let _ = (out, size);
    todo!()
}

/// Appends the last chunk and the trailer lines (each with its CRLF, may be empty).
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[u8]) {
    let _ = (out, trailers);
    todo!()
}
