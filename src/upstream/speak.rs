//! What is spoken with a server: how a request that an exchange keeps is encoded for it.

use crate::exchange::Request;
use crate::proto::h1::{RequestRewrite, write_request};

/// Encodes the head of the request for the attempt that begins, into the buffer that the request
/// has for that. No lock is held meanwhile: the encoding is the longest part of a hand-over.
pub(super) fn encode(request: &mut Request) {
    let mut out = std::mem::take(&mut request.encoded);
    out.clear();
    let rewrite = RequestRewrite {
        framing: request.framing(),
        edits: &request.edits,
    };
    write_request(&mut out, request.bytes(), &request.head, &rewrite);
    request.encoded = out;
}
