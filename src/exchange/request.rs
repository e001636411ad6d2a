//! A request as an exchange keeps it: parsed, whole, and in no server's protocol. It is encoded
//! for each attempt anew, when the server is known.

use crate::filter::forwarded::{self, ClientFacts};
use crate::http::{BodyFraming, Edits, Method, RequestHead};
use crate::plan::Listener;

use super::Body;

/// Bytes of a head, or of a head's encoding, for which room is kept between requests. More is given
/// back.
const KEPT_HEAD: usize = 4096;

/// Fields for which room is kept between requests.
const KEPT_FIELDS: usize = 64;

/// Bytes of added fields for which room is kept between requests.
const KEPT_EDITS: usize = 1024;

/// A request. Made once and filled again and again.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    /// The head, parsed from [`Self::bytes`].
    pub head: RequestHead,
    /// What of the head is changed for every server.
    pub edits: Edits,
    /// The body with its trailers, whole.
    pub body: Body,
    /// The protocol that the client asks for, and may.
    pub upgrade: Option<String>,
    /// The head as it goes to the server of this attempt, in that server's protocol.
    pub encoded: Vec<u8>,
}

impl Request {
    /// Keeps the bytes that the head was parsed from: they leave the client's input.
    pub fn keep(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that the head was parsed from, once they are kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds what servers are told of the client, and leaves out what only the balancer may say.
    pub fn tell_client(&mut self, listener: &Listener, client: &ClientFacts) {
        forwarded::apply(listener, client, &self.bytes, &self.head, &mut self.edits);
    }

    /// The framing for a server. The body is whole, so that chunks are needed only where trailers
    /// follow them.
    pub fn framing(&self) -> BodyFraming {
        match self.head.framing {
            BodyFraming::Chunked if self.body.trailers.is_empty() => {
                BodyFraming::Length(self.body.length())
            }
            framing => framing,
        }
    }

    /// The path asked for, without the query. Never empty.
    pub fn path(&self) -> &[u8] {
        let asks_for_server =
            self.head.method == Method::Options && self.head.path_and_query.is_empty();
        match self.head.path.of(&self.bytes) {
            [] if asks_for_server => b"*",
            [] => b"/",
            path => path,
        }
    }

    /// Returns whether the request may be sent together with others (RFC 9112 §9.3.2): it may be
    /// repeated, nothing follows its head, and it names a host. Without one a server gets it in
    /// HTTP/1.0, and many close after that, which breaks the batch of the others.
    pub fn is_batchable(&self) -> bool {
        matches!(self.head.method, Method::Get | Method::Head)
            && !self.head.authority.is_empty()
            && self.body.length() == 0
            && self.body.trailers.is_empty()
    }

    /// Forgets everything but the room that was made.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_HEAD);
        self.head.clear(KEPT_FIELDS);
        self.edits.clear(KEPT_EDITS);
        self.body = Body::default();
        self.upgrade = None;
        self.encoded.clear();
        self.encoded.shrink_to(KEPT_HEAD);
    }
}

#[cfg(test)]
mod tests {
    use crate::base::buffers::BufferPool;
    use crate::exchange::Spool;
    use crate::proto::h1::{HeadLimits, parse_request};

    use super::*;

    fn request(text: &str) -> Request {
        let limits = HeadLimits {
            head: 8192,
            fields: 100,
            target: 8192,
        };
        let mut request = Request::default();
        parse_request(text.as_bytes(), &limits, &mut request.head).unwrap();
        request.keep(text.as_bytes());
        request
    }

    fn with_body(text: &str, body: &[u8]) -> Request {
        let mut request = request(text);
        let pool = BufferPool::new(64, 16);
        let spool = Spool::new(std::env::temp_dir(), 0);
        assert_eq!(
            request.body.append(body, 64, &pool, &spool),
            body.len(),
            "it fits into memory"
        );
        request
    }

    #[test]
    fn chunks_go_on_only_where_trailers_follow_them() {
        const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut request = with_body(CHUNKED, b"abc");
        assert_eq!(request.framing(), BodyFraming::Length(3));
        request.body.trailers.extend_from_slice(b"A: b\r\n");
        assert_eq!(request.framing(), BodyFraming::Chunked);
        let sized = self::request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(sized.framing(), BodyFraming::Length(0));
        let bare = self::request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(bare.framing(), BodyFraming::None);
    }

    #[test]
    fn the_path_is_what_a_server_is_asked_for() {
        for (line, path) in [
            ("GET /a/b?c", "/a/b"),
            ("GET http://h/a", "/a"),
            ("GET http://h", "/"),
            ("GET http://h?a", "/"),
            ("OPTIONS http://h", "*"),
            ("OPTIONS http://h?a", "/"),
            ("OPTIONS *", "*"),
        ] {
            let request = request(&format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(request.path(), path.as_bytes(), "{line}");
        }
    }

    #[test]
    fn only_what_has_nothing_behind_its_head_is_batched() {
        for (text, is_batchable) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ] {
            assert_eq!(request(text).is_batchable(), is_batchable, "{text}");
        }
        const LONG: &str = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
        assert!(!with_body(LONG, b"x").is_batchable());
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_but_room() {
        let mut request = with_body("PUT /a HTTP/1.0\r\nA: b\r\n\r\n", b"x");
        request.edits.add("Via", &[b"1.0 a"]);
        request.edits.omit(&[crate::http::FieldId::Via]);
        request.clear();
        assert!(request.bytes().is_empty() && request.head.fields.is_empty());
        assert!(request.head.fields.capacity() > 0);
        assert_eq!(request.head.method, Method::Get);
        assert_eq!(request.edits.lines(), b"");
        assert!(!request.edits.omits(crate::http::FieldId::Via));
        assert_eq!(request.body.length(), 0);
    }
}
