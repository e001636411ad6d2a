//! What must hold for any bytes: the bodies of the fuzz targets in `fuzz/`, which tests run too.
//!
//! Each function panics if its property does not hold. The program itself does not call them.

#[allow(
    clippy::expect_used,
    clippy::panic,
    reason = "that is how a check says no; nothing else calls it"
)]
mod relay;
mod splits;

pub use relay::relay;

use std::borrow::Cow;

use crate::http::{
    BodyFraming, Edits, Field, FieldId, Method, RequestHead, ResponseFraming, ResponseHead, Version,
};

use super::deadline::parse_deadline;
use super::h1::{
    ChunkEvent, ChunkedDecoder, HeadLimits, HeadScanner, Malformed, Persistence, RequestRewrite,
    ResponseRewrite, parse_request, parse_response, write_chunk_size, write_last_chunk,
    write_request, write_response,
};
use super::proxy_header;
use splits::{AMPLE, LIMITS, assert_splits};

/// Request heads: any split gives the same verdict. httparse reads an accepted head in the same
/// way. The head written from it is accepted with the same meaning, and writing that one again
/// changes nothing.
pub fn request_head(data: &[u8]) {
    for limits in LIMITS {
        let verdict = scan(data, &limits, HeadScanner::default);
        let Ok(Some(length)) = verdict else {
            // The parser must refuse it as well without a scan.
            let parsed = parse_request(data, &limits, &mut RequestHead::default());
            assert!(parsed.is_err(), "parsed, but not scanned: {verdict:?}");
            continue;
        };
        let text = &data[..length];
        let mut head = RequestHead::default();
        if parse_request(text, &limits, &mut head).is_err() {
            continue;
        }
        assert_same_as_httparse_request(text, &head);
        assert!(head.fields.len() <= limits.fields && head.target.of(text).len() <= limits.target);
        assert_ne!(head.method, Method::Connect);
        assert_eq!(head.method, Method::from_bytes(head.method_text.of(text)));

        let written = write_once_request(text, &head);
        let mut again = RequestHead::default();
        assert_eq!(
            scan(&written, &AMPLE, HeadScanner::default),
            Ok(Some(written.len())),
            "{}",
            written.escape_ascii()
        );
        assert_eq!(
            parse_request(&written, &AMPLE, &mut again),
            Ok(()),
            "{}",
            written.escape_ascii()
        );
        assert_eq!(again.method_text.of(&written), head.method_text.of(text));
        assert_eq!(again.authority.of(&written), head.authority.of(text));
        // If a client of HTTP/1.0 names no host, the written head has none.
        let hosts = usize::from(
            !head.authority.of(text).is_empty()
                || head.fields.iter().any(|field| field.id == FieldId::Host),
        );
        let version = if hosts == 1 {
            Version::Http11
        } else {
            Version::Http10
        };
        assert_eq!(
            (again.version, again.framing, again.keep_alive),
            (version, head.framing, true)
        );
        assert_eq!(
            again.max_forwards,
            head.max_forwards.map(|hops| hops.saturating_sub(1))
        );
        assert!(!again.expect_continue && !again.te_trailers);
        assert!(
            again
                .path_and_query
                .of(&written)
                .ends_with(head.path_and_query.of(text))
        );
        let is_kept = |field: &Field| {
            let is_dropped = field.id == FieldId::Trailer && head.framing != BodyFraming::Chunked;
            let is_counted = field.id == FieldId::MaxForwards && head.max_forwards.is_some();
            !field.hop_by_hop
                && !is_dropped
                && !is_counted
                && !matches!(
                    field.id,
                    FieldId::ContentLength | FieldId::Expect | FieldId::Host
                )
        };
        assert_eq!(
            names_and_values(text, &head.fields, is_kept),
            names_and_values(&written, &again.fields, is_kept)
        );
        assert_eq!(
            again
                .fields
                .iter()
                .filter(|field| field.id == FieldId::Host)
                .count(),
            hosts
        );
        if again.max_forwards.is_none_or(|hops| hops == 0) {
            assert_eq!(
                write_once_request(&written, &again)
                    .escape_ascii()
                    .to_string(),
                written.escape_ascii().to_string()
            );
        }
    }
}

/// Response heads: the same as for requests, for responses to GET and to HEAD.
pub fn response_head(data: &[u8]) {
    for (limits, method) in LIMITS
        .into_iter()
        .zip([Method::Get, Method::Head].into_iter().cycle())
    {
        let verdict = scan(data, &limits, HeadScanner::for_response);
        let Ok(Some(length)) = verdict else {
            let parsed = parse_response(data, method, &limits, &mut ResponseHead::default());
            assert!(parsed.is_err(), "parsed, but not scanned: {verdict:?}");
            continue;
        };
        let text = &data[..length];
        let mut head = ResponseHead::default();
        if parse_response(text, method, &limits, &mut head).is_err() {
            continue;
        }
        assert_same_as_httparse_response(text, &head);
        assert!(head.fields.len() <= limits.fields && (100..1000).contains(&head.status));
        assert!(!head.keep_alive || head.framing != ResponseFraming::UntilClose);

        let written = write_once_response(text, &head);
        let mut again = ResponseHead::default();
        let scanned = scan(&written, &AMPLE, HeadScanner::for_response);
        assert_eq!(
            scanned,
            Ok(Some(written.len())),
            "{}",
            written.escape_ascii()
        );
        assert_eq!(
            parse_response(&written, method, &AMPLE, &mut again),
            Ok(()),
            "{}",
            written.escape_ascii()
        );
        assert_eq!((again.status, again.framing), (head.status, head.framing));
        assert_eq!(again.reason.of(&written), clean(head.reason.of(text)));
        assert!(
            again.fields.iter().all(|field| !field.has_controls),
            "written anew"
        );
        assert!(!written.contains(&0), "no NUL");
        assert_eq!(again.has_date, head.status >= 200 || head.has_date);
        let is_kept = |field: &Field| {
            let is_dropped =
                field.id == FieldId::Trailer && head.framing != ResponseFraming::Chunked;
            !field.hop_by_hop
                && !is_dropped
                && !matches!(field.id, FieldId::ContentLength | FieldId::Date)
        };
        assert_eq!(
            names_and_values(text, &head.fields, is_kept),
            names_and_values(&written, &again.fields, is_kept)
        );
        assert_eq!(
            write_once_response(&written, &again)
                .escape_ascii()
                .to_string(),
            written.escape_ascii().to_string()
        );
    }
}

/// Chunked bodies: any split gives the same content, trailers and end, or the same error after the
/// same content. A body written from them reads the same.
pub fn chunked(data: &[u8]) {
    for limits in LIMITS {
        let whole = decode([data], || ChunkedDecoder::new(limits));
        assert_splits(data, &whole, |pieces| {
            decode(pieces.iter().copied(), || ChunkedDecoder::new(limits))
        });
        let tolerant = decode([data], || ChunkedDecoder::tolerant(limits));
        assert_splits(data, &tolerant, |pieces| {
            decode(pieces.iter().copied(), || ChunkedDecoder::tolerant(limits))
        });
        // A well-formed body means the same to both decoders.
        if whole.verdict == Ok(true) {
            assert_eq!(tolerant, whole);
        }
        if !matches!(whole.verdict, Ok(true)) {
            continue;
        }
        let mut written = Vec::new();
        for piece in whole.content.chunks(7) {
            write_chunk_size(&mut written, piece.len());
            written.extend_from_slice(piece);
            written.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&mut written, &whole.trailers);
        let expected = Decoded {
            used: written.len(),
            ..whole
        };
        // What follows is not part of the body.
        written.extend_from_slice(b"0\r\n");
        assert_eq!(
            decode([&written[..]], || ChunkedDecoder::new(limits)),
            expected
        );
    }
}

/// PROXY headers: more bytes do not change a verdict.
pub fn proxy_header(data: &[u8]) {
    let whole = proxy_header::parse(data);
    if let Ok(Some(header)) = whole {
        assert!((1..=data.len()).contains(&header.length));
    }
    for end in (0..data.len()).take(2 * 1024 + 256) {
        match proxy_header::parse(&data[..end]) {
            Ok(None) => {}
            verdict => assert_eq!(verdict, whole, "after {end} bytes"),
        }
    }
}

/// Deadlines: another parser with wider numbers understands the same.
pub fn deadline(data: &[u8]) {
    let text = std::str::from_utf8(data).unwrap_or_default();
    let (number, nanoseconds) = match text.char_indices().next_back() {
        Some((at, 'H')) => (&text[..at], 3_600_000_000_000),
        Some((at, 'M')) => (&text[..at], 60_000_000_000),
        Some((at, 'S')) => (&text[..at], 1_000_000_000),
        Some((at, 'm')) => (&text[..at], 1_000_000),
        Some((at, 'u')) => (&text[..at], 1000),
        Some((at, 'n')) => (&text[..at], 1),
        _ => (text, 1_000_000),
    };
    // Std accepts a plus sign.
    let expected = match number.parse::<u128>() {
        Ok(value) if number.len() <= 8 && !number.starts_with('+') => Some(value * nanoseconds),
        _ => None,
    };
    assert_eq!(
        parse_deadline(data).map(|time| time.as_nanos()),
        expected,
        "{text:?}"
    );
}

fn scan(
    data: &[u8],
    limits: &HeadLimits,
    new: fn() -> HeadScanner,
) -> Result<Option<usize>, Malformed> {
    let whole = new().scan(data, limits);
    assert_splits(data, &whole, |pieces| {
        let mut scanner = new();
        // The state after another head must not matter.
        let _ = scanner.scan(b"G\r", limits);
        scanner.reset();
        let mut end = 0;
        let mut verdict = scanner.scan(&[], limits);
        for piece in pieces {
            if verdict != Ok(None) {
                break;
            }
            end += piece.len();
            verdict = scanner.scan(&data[..end], limits);
        }
        verdict
    });
    whole
}

/// Returns names and values as they are sent on.
fn names_and_values<'a>(
    text: &'a [u8],
    fields: &[Field],
    is_kept: impl Fn(&Field) -> bool,
) -> Vec<(&'a [u8], Cow<'a, [u8]>)> {
    let kept = fields.iter().filter(|field| is_kept(field));
    kept.map(|field| match field.has_controls {
        // A control byte at an end becomes a space there, which is no part of the value.
        true => {
            let value = clean(field.value.of(text));
            let value = value.trim_ascii().to_vec();
            (field.name.of(text), Cow::Owned(value))
        }
        false => (field.name.of(text), Cow::Borrowed(field.value.of(text))),
    })
    .collect()
}

/// Returns the text with control bytes as spaces.
fn clean(text: &[u8]) -> Vec<u8> {
    let clean = |&byte: &u8| match byte {
        b'\t' => byte,
        0..0x20 | 0x7f => b' ',
        _ => byte,
    };
    text.iter().map(clean).collect()
}

fn write_once_request(text: &[u8], head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    write_request(
        &mut out,
        text,
        head,
        &RequestRewrite {
            framing: head.framing,
            edits: &Edits::default(),
            upgrade: None,
        },
    );
    out
}

fn write_once_response(text: &[u8], head: &ResponseHead) -> Vec<u8> {
    let mut out = Vec::new();
    let (framing, persistence) = (head.framing, Persistence::KeepAlive);
    write_response(
        &mut out,
        text,
        head,
        &ResponseRewrite {
            framing,
            persistence,
            date: b"now",
            append: b"",
        },
    );
    out
}

/// httparse may refuse more than our parser does, but must not read something else.
fn assert_same_as_httparse_request(text: &[u8], head: &RequestHead) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut theirs = httparse::Request::new(&mut fields);
    if theirs.parse(text) != Ok(httparse::Status::Complete(text.len())) {
        return;
    }
    assert_eq!(
        theirs.method.map(str::as_bytes),
        Some(head.method_text.of(text))
    );
    assert_eq!(theirs.path.map(str::as_bytes), Some(head.target.of(text)));
    assert_eq!(
        theirs.version,
        Some(u8::from(head.version == Version::Http11))
    );
    assert_same_fields(text, &head.fields, theirs.headers);
}

fn assert_same_as_httparse_response(text: &[u8], head: &ResponseHead) {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut theirs = httparse::Response::new(&mut fields);
    if theirs.parse(text) != Ok(httparse::Status::Complete(text.len())) {
        return;
    }
    assert_eq!(theirs.code, Some(head.status));
    assert_eq!(
        theirs.version,
        Some(u8::from(head.version == Version::Http11))
    );
    assert_same_fields(text, &head.fields, theirs.headers);
}

fn assert_same_fields(text: &[u8], ours: &[Field], theirs: &[httparse::Header<'_>]) {
    let theirs: Vec<_> = theirs
        .iter()
        .map(|field| (field.name.as_bytes(), Cow::Borrowed(field.value)))
        .collect();
    assert_eq!(names_and_values(text, ours, |_| true), theirs);
}

/// All that a decoder returned, up to the end or an error.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    content: Vec<u8>,
    trailers: Vec<u8>,
    used: usize,
    /// Whether the body has ended.
    verdict: Result<bool, Malformed>,
}

fn decode<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    new: impl Fn() -> ChunkedDecoder,
) -> Decoded {
    let mut decoder = new();
    let mut decoded = Decoded {
        content: Vec::new(),
        trailers: Vec::new(),
        used: 0,
        verdict: Ok(false),
    };
    for piece in pieces {
        let mut rest = piece;
        loop {
            let (used, event) = match decoder.next(rest) {
                Ok(found) => found,
                Err(why) => {
                    assert_eq!(decoder.next(b"0\r\n\r\n"), Err(why), "an error stays");
                    // An error does not tell how far the decoder came within the last piece.
                    return Decoded {
                        used: 0,
                        verdict: Err(why),
                        ..decoded
                    };
                }
            };
            decoded.used += used;
            match event {
                ChunkEvent::Data(range) => {
                    assert!(range.end == used && !range.is_empty());
                    decoded.content.extend_from_slice(&rest[range]);
                }
                ChunkEvent::End => {
                    assert_eq!(
                        decoder.next(b"0\r\n\r\n"),
                        Ok((0, ChunkEvent::End)),
                        "the end stays"
                    );
                    return Decoded {
                        trailers: decoder.trailers().to_vec(),
                        verdict: Ok(true),
                        ..decoded
                    };
                }
                ChunkEvent::More => {
                    assert_eq!(used, rest.len());
                    break;
                }
            }
            rest = &rest[used..];
        }
    }
    assert!(decoder.trailers().is_empty(), "no trailers before the end");
    decoded
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
    use proptest::sample::select;

    use super::*;

    /// Runs a check over the seeds that the fuzzer starts from.
    fn replay(target: &str, check: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(target);
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() >= 12, "{target} has {} seeds", files.len());
        for file in files {
            println!("{}", file.display());
            check(&fs::read(file).unwrap());
        }
    }

    #[test]
    fn request_head_corpus() {
        replay("request_head", request_head);
    }

    #[test]
    fn response_head_corpus() {
        replay("response_head", response_head);
    }

    #[test]
    fn relay_corpus() {
        replay("relay", relay);
    }

    #[test]
    fn chunked_corpus() {
        replay("chunked", chunked);
    }

    #[test]
    fn proxy_header_corpus() {
        replay("proxy_header", proxy_header);
    }

    #[test]
    fn deadline_corpus() {
        replay("deadline", deadline);
    }

    /// Returns bytes that are nearly valid: pieces of the grammar in any order, sometimes an
    /// arbitrary byte.
    fn nearly(pieces: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            20 => select(pieces).prop_map(<[u8]>::to_vec),
            1 => vec(any::<u8>(), 0..3),
        ];
        vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    const FIELDS: &[&[u8]] = &[
        b"Host: a\r\n",
        b"host:b:80\r\n",
        b"Connection: close, x\r\n",
        b"connection:keep-alive\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length:05\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"TE: trailers;q=1\r\n",
        b"Trailer: X\r\n",
        b"Keep-Alive: timeout=5\r\n",
        b"Date: now\r\n",
        b"X: 1\r\n",
        b"x:\t2 \r\n",
        b"Y:\xe4\r\n",
        b"\r\n",
        b"\n",
        b" ",
        b"Z",
        b"X: a\x01b\n",
        b" folded\r\n",
        b"Content-Length: 5, 5\n",
    ];

    const STATUS_LINES: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\n",
        b"HTTP/2.0 \t999\t\x01\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204\r\n",
        b"HTTP/1.0 304 \r\n",
        b"HTTP/1.1 103 \xe4\r\n",
        b"HTTP/1.0 599 ? \t\r\n",
    ];

    proptest! {
        // A failure becomes a seed of the fuzzer instead.
        #![proptest_config(ProptestConfig {
            cases: 400,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_bytes(data in vec(any::<u8>(), 0..200)) {
            request_head(&data);
            response_head(&data);
            chunked(&data);
            deadline(&data);
        }

        #[test]
        fn near_deadlines(
            number in any::<u64>(),
            digits in 0..11_usize,
            unit in select(&["", "H", "M", "S", "m", "u", "n"][..]),
            wrong in select(&["", "", "", "+", "-", " ", "s", "0", "\u{e4}"][..]),
        ) {
            let number = format!("{number:020}");
            let digits = &number[20 - digits..];
            deadline(format!("{digits}{unit}{wrong}").as_bytes());
            deadline(format!("{wrong}{digits}{unit}").as_bytes());
        }

        #[test]
        fn near_requests(
            line in prop_oneof![
                8 => Just(&b"POST /a?b HTTP/1.1\r\n"[..]),
                1 => Just(&b"GET / HTTP/1.0\r\n"[..]),
                1 => Just(&b"OPTIONS http://c?d HTTP/1.1\r\n"[..]),
                1 => Just(&b"OPTIONS * HTTP/1.1\r\nHost:\r\n"[..]),
                1 => Just(&b"GET http://c HTTP/1.1\r\nHost: a\r\n"[..]),
            ],
            fields in nearly(FIELDS),
        ) {
            request_head(&[line, &fields, b"\r\n"].concat());
        }

        #[test]
        fn near_responses(
            line in select(STATUS_LINES),
            fields in nearly(FIELDS),
        ) {
            response_head(&[line, &fields, b"\r\n"].concat());
        }

        #[test]
        fn near_chunks(data in nearly(&[
            b"0\r\n", b"1\r\na\r\n", b"a\r\n0123456789\r\n", b"1;x\r\na\r\n",
            b"1 ; x=\"y\\\"\" ; z\r\na\r\n", b"00\r\n", b"X: 1\r\n", b"Upgrade: x\r\n", b"\r\n",
            b"\n", b" ", b"f", b"\"", b"Host: a\r\n", b"1 \na\n", b" fold\n", b"no field\r\n",
        ])) {
            chunked(&data);
            chunked(&[&data[..], b"0\r\n\r\n"].concat());
        }

        /// However content is cut into chunks, and chunks into reads, the decoder returns the
        /// content.
        #[test]
        fn any_chunk_sizes(
            content in vec(any::<u8>(), 0..2000),
            sizes in vec(1..300_usize, 1..20),
            reads in 1..100_usize,
        ) {
            let mut body = Vec::new();
            let mut rest = &content[..];
            for size in sizes.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(size.min(rest.len()));
                write_chunk_size(&mut body, piece.len());
                body.extend_from_slice(piece);
                body.extend_from_slice(b"\r\n");
                rest = after;
            }
            write_last_chunk(&mut body, b"A: 1\r\n");
            let decoded = decode(body.chunks(reads), || ChunkedDecoder::new(LIMITS[0]));
            let expected = Decoded {
                content,
                trailers: b"A: 1\r\n".to_vec(),
                used: body.len(),
                verdict: Ok(true),
            };
            assert_eq!(decoded, expected);
        }
    }
}
