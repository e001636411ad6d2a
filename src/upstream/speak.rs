//! What a server speaks, without the connection that it is spoken over: how a request is encoded,
//! what the bytes that come back are, and what follows from them for the connection.

use std::time::Duration;

use crate::exchange::Request;
use crate::http::{BodyFraming, Method, ResponseHead};
use crate::proto::h1::{
    Coming, HeadLimits, HeadScanner, Malformed, RequestRewrite, Step, parse_response,
    write_chunk_size, write_last_chunk, write_request,
};

/// Interim responses to one request may have this many times the bytes that one head may have.
const INTERIM_HEADS: usize = 8;

/// Bytes that the trailers of a response may have.
const TRAILERS: usize = 32 * 1024;

/// How requests are encoded for a server. Enough to begin an attempt for a worker that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As HTTP/1.1.
    Http1,
}

/// One side of a conversation with a server, over one connection.
#[derive(Debug)]
pub(super) enum Speak {
    /// HTTP/1.1.
    Http1(Http1),
}

/// What the next bytes that came are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Not all of a head.
    More,
    /// An interim response of this many bytes. Another head follows.
    Interim(usize),
    /// The head of the final response, of this many bytes. Its body follows.
    Final(usize),
    /// The server speaks another protocol from here on, behind this many bytes.
    Upgraded(usize),
}

/// Why the bytes that came are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHead {
    /// A head has too many bytes or fields, or there are too many interim responses.
    TooLarge,
    /// The bytes are no head.
    Malformed,
}

/// What becomes of the connection after a response that is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// The connection ends.
    No,
    /// Another request may be sent, within this time if one is given.
    Within(Option<Duration>),
}

impl Encoding {
    /// Encodes the head of the request for the attempt that begins, into the buffer that the
    /// request has for that. No lock is held meanwhile: to encode takes longer than any lock may
    /// be held.
    pub(super) fn encode(self, request: &mut Request) {
        let mut out = std::mem::take(&mut request.encoded);
        out.clear();
        let rewrite = RequestRewrite {
            framing: request.framing(),
            edits: &request.edits,
            upgrade: request.upgrade.as_deref(),
        };
        match self {
            Self::Http1 => write_request(&mut out, request.bytes(), &request.head, &rewrite),
        }
        request.encoded = out;
    }

    /// Writes what goes out before the next `length` bytes of the request's body, and returns what
    /// goes out behind them.
    pub(super) fn frame(
        self,
        request: &Request,
        length: usize,
        before: &mut Vec<u8>,
    ) -> &'static [u8] {
        match self {
            // A chunk of length 0 would end the body.
            Self::Http1 if length > 0 && request.framing() == BodyFraming::Chunked => {
                write_chunk_size(before, length);
                b"\r\n"
            }
            Self::Http1 => b"",
        }
    }

    /// Writes what goes out behind the request's body: its end and its trailers.
    pub(super) fn end_body(self, request: &Request, out: &mut Vec<u8>) {
        match self {
            Self::Http1 if request.framing() == BodyFraming::Chunked => {
                write_last_chunk(out, &request.body.trailers);
            }
            Self::Http1 => {}
        }
    }
}

impl Speak {
    /// HTTP/1.1, with responses of these limits.
    pub(super) fn http1(limits: HeadLimits) -> Self {
        Self::Http1(Http1 {
            limits,
            scanner: HeadScanner::for_response(),
            head: ResponseHead::default(),
            method: Method::default(),
            interim_bytes: 0,
            is_in_doubt: false,
            body: Coming::Length(0),
        })
    }

    /// How requests are encoded.
    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Self::Http1(_) => Encoding::Http1,
        }
    }

    /// The limits of responses.
    pub(super) fn limits(&self) -> HeadLimits {
        match self {
            Self::Http1(http1) => http1.limits,
        }
    }

    /// Goes by other limits from now on.
    pub(super) fn set_limits(&mut self, limits: HeadLimits) {
        match self {
            Self::Http1(http1) => http1.limits = limits,
        }
    }

    /// What comes next is the response to a request of this method.
    pub(super) fn begin(&mut self, method: Method) {
        match self {
            Self::Http1(http1) => http1.begin(method),
        }
    }

    /// Looks what the next bytes are: all that came and were not used. Where they are a head, the
    /// caller uses as many as that has.
    pub(super) fn head(&mut self, input: &[u8]) -> Result<Head, BadHead> {
        match self {
            Self::Http1(http1) => http1.head(input),
        }
    }

    /// The head that was found last.
    pub(super) fn response(&self) -> &ResponseHead {
        match self {
            Self::Http1(http1) => &http1.head,
        }
    }

    /// Returns whether an interim response came before the head that was found last.
    pub(super) fn has_interims(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.interim_bytes > 0,
        }
    }

    /// Takes what it can of `input`, which follows the final head or what was taken before, and
    /// moves the content in there together.
    pub(super) fn body(&mut self, input: &mut [u8]) -> Step {
        match self {
            Self::Http1(http1) => http1.body.step(input),
        }
    }

    /// The trailer lines of a body that is at its end, each with its CRLF.
    pub(super) fn trailers(&self) -> &[u8] {
        match self {
            Self::Http1(http1) => http1.body.trailers(),
        }
    }

    /// Returns whether nothing of the body is still to come, though nothing was taken of it.
    pub(super) fn has_no_body(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.body.has_ended(),
        }
    }

    /// Returns whether the body is at its end where the connection ends, and nowhere else.
    pub(super) fn ends_with_connection(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.body.ends_with_connection(),
        }
    }

    /// Takes what it can of `input` and appends the content to `body`. Returns how many bytes that
    /// took, and whether the body ends with them.
    pub(super) fn collect(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<(usize, bool), Malformed> {
        match self {
            Self::Http1(http1) => http1.body.collect(input, body),
        }
    }

    /// Takes what it can of `input` and drops the content. Returns how many bytes that took, and
    /// whether the body ends with them.
    pub(super) fn skip(&mut self, input: &[u8]) -> Result<(usize, bool), Malformed> {
        match self {
            Self::Http1(http1) => http1.body.skip(input),
        }
    }

    /// Returns whether these bytes are all of the body of the response whose head was found last.
    pub(super) fn is_whole_body(&self, input: &[u8]) -> bool {
        match self {
            Self::Http1(http1) => {
                let mut body = http1.coming_body();
                body.skip(input) == Ok((input.len(), true))
            }
        }
    }

    /// Returns whether the connection may carry another request once the response is at its end.
    pub(super) fn reuse(&self) -> Reuse {
        match self {
            Self::Http1(http1) => http1.reuse(),
        }
    }
}

/// HTTP/1.1 with a server, as its client.
#[derive(Debug)]
pub(super) struct Http1 {
    limits: HeadLimits,
    scanner: HeadScanner,
    head: ResponseHead,
    /// The request's method: it decides whether a response has a body.
    method: Method,
    /// Bytes of the interim responses to the request.
    interim_bytes: usize,
    /// An interim response has claimed to have a body, or to end the connection: what follows may
    /// be that body, taken for a response.
    is_in_doubt: bool,
    /// The body of the final response, as far as it is still to come.
    body: Coming,
}

impl Http1 {
    fn begin(&mut self, method: Method) {
        self.scanner.reset();
        self.method = method;
        self.interim_bytes = 0;
        self.is_in_doubt = false;
    }

    fn head(&mut self, input: &[u8]) -> Result<Head, BadHead> {
        let length = match self.scanner.scan(input, &self.limits) {
            Ok(Some(length)) => length,
            Ok(None) => return Ok(Head::More),
            Err(Malformed::HeadTooLarge | Malformed::TooManyFields) => {
                return Err(BadHead::TooLarge);
            }
            Err(_) => return Err(BadHead::Malformed),
        };
        self.scanner.reset();
        let bytes = input.get(..length).unwrap_or_default();
        if parse_response(bytes, self.method, &self.limits, &mut self.head).is_err() {
            return Err(BadHead::Malformed);
        }
        if self.head.status >= 200 {
            self.body = self.coming_body();
            return Ok(Head::Final(length));
        }
        self.is_in_doubt |= !self.head.keep_alive;
        if self.head.status == 101 {
            return Ok(Head::Upgraded(length));
        }
        self.interim_bytes = self.interim_bytes.saturating_add(length);
        if self.interim_bytes > self.limits.head.saturating_mul(INTERIM_HEADS) {
            return Err(BadHead::TooLarge);
        }
        Ok(Head::Interim(length))
    }

    /// The whole body of the response whose head was found last.
    fn coming_body(&self) -> Coming {
        let limits = HeadLimits {
            head: TRAILERS,
            ..self.limits
        };
        Coming::of(self.head.framing, limits)
    }

    fn reuse(&self) -> Reuse {
        if !self.head.keep_alive || self.is_in_doubt {
            return Reuse::No;
        }
        // A request that is on its way when the server's time is up would be lost.
        let margin = |limit: Duration| (limit / 2).min(Duration::from_secs(1));
        let limit = self.head.keep_alive_timeout;
        Reuse::Within(limit.map(|limit| limit.saturating_sub(margin(limit))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::base::buffers::BufferPool;
    use crate::exchange::Spool;
    use crate::proto::h1::parse_request;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        head: 200,
        fields: 10,
        target: 200,
    };

    fn speak(method: Method) -> Speak {
        let mut speak = Speak::http1(LIMITS);
        speak.begin(method);
        speak
    }

    /// What is found in these bytes, up to the final head or a fault.
    fn heads(speak: &mut Speak, mut input: &[u8]) -> Vec<Result<Head, BadHead>> {
        let mut found = Vec::new();
        loop {
            let head = speak.head(input);
            found.push(head);
            match head {
                Ok(Head::Interim(length)) => input = &input[length..],
                _ => return found,
            }
        }
    }

    fn reuse_after(method: Method, text: &str) -> Reuse {
        let mut speak = speak(method);
        let found = heads(&mut speak, text.as_bytes());
        assert!(matches!(found.last(), Some(Ok(Head::Final(_)))), "{text}");
        speak.reuse()
    }

    #[test]
    fn interim_heads_come_before_the_final_one() {
        let text = b"HTTP/1.1 103 \r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest";
        let mut speak = speak(Method::Get);
        assert_eq!(
            heads(&mut speak, text),
            [Ok(Head::Interim(26)), Ok(Head::Final(19))]
        );
        assert_eq!(speak.response().status, 200);
        // The next response begins anew.
        speak.begin(Method::Get);
        assert_eq!(speak.head(b"HTTP/1.1 404 "), Ok(Head::More));
        assert_eq!(speak.head(b"HTTP/1.1 404 \r\n\r\n"), Ok(Head::Final(17)));
    }

    #[test]
    fn what_is_no_head_or_too_large_is_told() {
        let mut speak = speak(Method::Get);
        assert_eq!(
            speak.head(b"HTTP/1.1 101 \r\nUpgrade: a\r\n\r\n"),
            Ok(Head::Upgraded(29))
        );
        speak.begin(Method::Get);
        assert_eq!(speak.head(b"SSH-2.0-x\r\n\r\n"), Err(BadHead::Malformed));
        speak.begin(Method::Get);
        let long = format!("HTTP/1.1 200 \r\nA: {}", "a".repeat(200));
        assert_eq!(speak.head(long.as_bytes()), Err(BadHead::TooLarge));
        speak.begin(Method::Get);
        let many = format!("HTTP/1.1 200 \r\n{}\r\n", "A: b\r\n".repeat(11));
        assert_eq!(speak.head(many.as_bytes()), Err(BadHead::TooLarge));
    }

    #[test]
    fn interim_heads_are_bounded_together() {
        let one = format!("HTTP/1.1 102 \r\nA: {}\r\n\r\n", "a".repeat(178));
        assert_eq!(one.len(), LIMITS.head);
        let mut speak = speak(Method::Get);
        let found = heads(&mut speak, one.repeat(INTERIM_HEADS + 1).as_bytes());
        assert_eq!(found.len(), INTERIM_HEADS + 1);
        assert_eq!(found.last(), Some(&Err(BadHead::TooLarge)));
        // But only those of one request.
        speak.begin(Method::Get);
        assert_eq!(speak.head(one.as_bytes()), Ok(Head::Interim(LIMITS.head)));
    }

    #[test]
    fn a_connection_is_used_again_unless_its_server_ends_it_or_leaves_it_in_doubt() {
        let get = |text: &str| reuse_after(Method::Get, text);
        let seconds = |number| Reuse::Within(Some(Duration::from_secs(number)));
        assert_eq!(get("HTTP/1.1 204 \r\n\r\n"), Reuse::Within(None));
        assert_eq!(get("HTTP/1.1 204 \r\nConnection: close\r\n\r\n"), Reuse::No);
        assert_eq!(get("HTTP/1.0 204 \r\n\r\n"), Reuse::No);
        for (limit, reuse) in [(0, 0), (5, 4), (60, 59)] {
            let text = format!("HTTP/1.1 204 \r\nKeep-Alive: timeout={limit}\r\n\r\n");
            assert_eq!(get(&text), seconds(reuse), "{limit}");
        }
        let interim = "HTTP/1.1 103 \r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 \r\n\r\n";
        assert_eq!(get(interim), Reuse::No);
        // The response to HEAD has no body, whatever it says.
        let head = reuse_after(Method::Head, "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n");
        assert_eq!(head, Reuse::Within(None));
    }

    #[test]
    fn the_body_of_the_final_head_is_what_follows_it() {
        let chunks = b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        let head = "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut speak = speak(Method::Get);
        heads(
            &mut speak,
            format!("HTTP/1.1 103 \r\n\r\n{head}").as_bytes(),
        );
        assert!(speak.has_interims() && speak.is_whole_body(chunks));
        assert!(!speak.is_whole_body(&chunks[..chunks.len() - 1]));
        let mut body = Vec::new();
        assert_eq!(speak.collect(&chunks[..8], &mut body), Ok((8, false)));
        assert_eq!(
            speak.collect(&chunks[8..], &mut body),
            Ok((chunks.len() - 8, true))
        );
        assert_eq!(body, b"abc");
        // To look at it whole has taken nothing, and a new response has its own.
        for (head, length) in [
            (head, chunks.len()),
            ("HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\n", 3),
            ("HTTP/1.1 204 \r\n\r\n", 0),
        ] {
            speak.begin(Method::Get);
            heads(&mut speak, head.as_bytes());
            assert!(!speak.has_interims());
            assert_eq!(speak.skip(chunks), Ok((length, true)));
        }
        speak.begin(Method::Get);
        heads(&mut speak, b"HTTP/1.1 200 \r\n\r\n");
        assert!(!speak.is_whole_body(chunks), "only the end ends it");
    }

    fn chunked() -> Request {
        const TEXT: &[u8] = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut request = Request::default();
        parse_request(TEXT, &LIMITS, &mut request.head).unwrap();
        request.keep(TEXT);
        request
    }

    #[test]
    fn a_body_is_framed_only_where_trailers_follow() {
        let mut request = chunked();
        let pool = BufferPool::new(64, 64);
        let spool = Spool::new(std::env::temp_dir(), 0);
        assert_eq!(request.body.append(b"abc", 64, &pool, &spool), 3);
        let mut out = Vec::new();
        assert_eq!(Encoding::Http1.frame(&request, 3, &mut out), b"");
        Encoding::Http1.end_body(&request, &mut out);
        assert_eq!(out, b"");
        request.body.trailers.extend_from_slice(b"A: b\r\n");
        assert_eq!(Encoding::Http1.frame(&request, 3, &mut out), b"\r\n");
        Encoding::Http1.end_body(&request, &mut out);
        assert_eq!(out, b"3\r\n0\r\nA: b\r\n\r\n");
        out.clear();
        assert_eq!(Encoding::Http1.frame(&request, 0, &mut out), b"");
        assert_eq!(out, b"", "an empty piece is no last chunk");
    }

    #[test]
    fn a_request_is_encoded_as_often_as_need_be() {
        let mut request = chunked();
        request.edits.add("Via", &[b"1.1 a"]);
        let expected = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nVia: 1.1 a\r\n\
                        Connection: keep-alive\r\n\r\n";
        for _ in 0..2 {
            Encoding::Http1.encode(&mut request);
            assert_eq!(request.encoded, expected.as_bytes());
        }
    }

    proptest! {
        /// However the bytes come, the same heads are found.
        #[test]
        fn heads_do_not_depend_on_how_the_bytes_come(
            heads in prop::collection::vec(
                prop_oneof![
                    Just("HTTP/1.1 100 \r\n\r\n"),
                    Just("HTTP/1.1 103 \r\nA: b\r\n\r\n"),
                    Just("HTTP/1.1 103 \nContent-Length: 1\n\n"),
                    Just("HTTP/1.1 200 \r\nA: b\r\n\r\n"),
                    Just("HTTP/1.1 101 \r\n\r\n"),
                    Just("HTTP/1.1 99 \r\n\r\n"),
                    Just("HTTP/1.1 200 \rA"),
                ],
                1..6,
            ),
            cuts in prop::collection::vec(1_usize..20, 0..40),
        ) {
            let text = heads.concat().into_bytes();
            let mut whole = speak(Method::Get);
            let expected = self::heads(&mut whole, &text);
            let mut cut = speak(Method::Get);
            let (mut start, mut end, mut cuts) = (0, 0, cuts.into_iter());
            let mut found = Vec::new();
            loop {
                match cut.head(&text[start..end]) {
                    Ok(Head::More) if end < text.len() => {
                        end = text.len().min(end + cuts.next().unwrap_or(text.len()));
                    }
                    head => {
                        found.push(head);
                        let Ok(Head::Interim(length)) = head else { break };
                        start += length;
                    }
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(cut.reuse(), whole.reuse());
        }
    }
}
