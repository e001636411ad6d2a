//! What servers are told of the client: X-Forwarded-*, Forwarded (RFC 7239), Via, X-Request-Id.

use std::net::IpAddr;

use crate::http::{FieldId, RequestHead};
use crate::plan::Listener;

/// What is known of the client besides its request.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts {
    /// Its address as the balancer sees it (after a PROXY header); `None` on Unix sockets.
    pub address: Option<IpAddr>,
    /// It came over TLS.
    pub tls: bool,
    /// Number for a request id, different for each request of this process and unguessable enough to differ between processes.
    pub request_id: u128,
}

/// Fields of the client's request to leave out, at most so many.
pub type Omitted = [FieldId; 8];

/// Appends the field lines to add (each with CRLF) to `append` and answers which of the client's fields to leave out (the rest of the
/// array is `FieldId::Other`, which leaves out nothing).
///
/// `x-forwarded`: For, Proto, Host; what a trusted client sent is appended to (For), kept (Proto, Host), else replaced.
/// `rfc7239`: one `Forwarded` element `for=…;host=…;proto=…` (quoted where needed), after a trusted client's own.
/// A value in several field lines is joined in order. A trusted client is one whose address lies in `forwarded.trusted`.
pub fn apply(listener: &Listener, client: &ClientFacts, buffer: &[u8], head: &RequestHead, append: &mut Vec<u8>) -> Omitted {
    let _ = (listener, client, buffer, head, append);
    todo!()
}
