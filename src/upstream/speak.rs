//! What is spoken with a server: how a request that an exchange keeps is encoded for it.

use crate::exchange::Exchange;
use crate::proto::h1::{RequestRewrite, write_request};

/// Encodes the head of the request for the attempt that begins, into the buffer that the exchange
/// has for that. No lock is held meanwhile: the encoding is the longest part of a hand-over.
pub(super) fn encode(exchange: &mut Exchange) {
    let state = &mut **exchange;
    let request = &state.request;
    state.encoded.clear();
    let rewrite = RequestRewrite {
        framing: request.framing(),
        edits: &request.edits,
    };
    write_request(&mut state.encoded, request.bytes(), &request.head, &rewrite);
}
