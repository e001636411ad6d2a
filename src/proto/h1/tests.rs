//! Verdicts on heads: tables of bytes, each with the rule that it tests.

mod responses;
mod written;

use crate::http::{BodyFraming, FieldId, Method, RequestHead, ResponseHead, TargetForm, Version};

use super::{HeadLimits, HeadScanner, Malformed, parse_request, parse_response};

const LIMITS: HeadLimits = HeadLimits {
    head: 32 * 1024,
    fields: 100,
    target: 8 * 1024,
};

/// Scans and parses as a session does. Bytes after the head must not matter.
fn request(text: &[u8]) -> Result<RequestHead, Malformed> {
    let length = HeadScanner::default()
        .scan(text, &LIMITS)?
        .expect("a whole head");
    let mut head = RequestHead::default();
    parse_request(&text[..length], &LIMITS, &mut head)?;
    Ok(head)
}

fn response(text: &[u8], method: Method) -> Result<ResponseHead, Malformed> {
    let length = HeadScanner::for_response()
        .scan(text, &LIMITS)?
        .expect("a whole head");
    let mut head = ResponseHead::default();
    parse_response(&text[..length], method, &LIMITS, &mut head)?;
    Ok(head)
}
#[test]
fn a_plain_request() {
    let text = b"GET /a/b?c=d HTTP/1.1\r\nHost: example.org\r\nAccept:  */* \t\r\nX:\r\n\r\nrest";
    let head = request(text).unwrap();
    assert_eq!(
        (head.method, head.method_text.of(text)),
        (Method::Get, &b"GET"[..])
    );
    assert_eq!(head.target.of(text), b"/a/b?c=d");
    assert_eq!(head.path_and_query.of(text), b"/a/b?c=d");
    assert_eq!(head.path.of(text), b"/a/b");
    assert_eq!(head.authority.of(text), b"example.org");
    assert_eq!(
        (head.version, head.form, head.framing),
        (Version::Http11, TargetForm::Origin, BodyFraming::None)
    );
    assert_eq!(
        (head.keep_alive, head.expect_continue, head.te_trailers),
        (true, false, false)
    );
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (field.name.of(text), field.value.of(text), field.id))
        .collect();
    let expected: [(&[u8], &[u8], FieldId); 3] = [
        (b"Host", b"example.org", FieldId::Host),
        (b"Accept", b"*/*", FieldId::Other),
        (b"X", b"", FieldId::Other),
    ];
    assert_eq!(fields, expected);
}

/// RFC 9112 §2.2, §3, §5; RFC 9110 §5.5: bad bytes are refused as soon as they are read.
#[test]
fn bad_bytes_are_refused_at_once() {
    let long_line = format!("GET /{}", "a".repeat(8 * 1024 + 64));
    let long_head = format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(32 * 1024));
    let no_method = "A".repeat(8 * 1024 + 64);
    let many_fields = format!("GET / HTTP/1.1\r\n{}B", "A: b\r\n".repeat(100));
    let cases: &[(&[u8], Malformed)] = &[
        // No request begins so: TLS, SSLv2, empty lines that the reader should have skipped, JSON.
        (b"\x16", Malformed::StartLine),
        (b"\x80", Malformed::StartLine),
        (b" ", Malformed::StartLine),
        (b"\r", Malformed::StartLine),
        (b"{", Malformed::StartLine),
        (b"\n", Malformed::BareLineEnd),
        // The request line.
        (b"PRI * HTTP/2.0\r\n", Malformed::Version),
        (b"GET /\r\n", Malformed::StartLine),
        (b"GET / HTTP/1.1 \r\n", Malformed::StartLine),
        (b"GET / http/1.1\r\n", Malformed::StartLine),
        (b"GET / HTTP/1.2\r\n", Malformed::Version),
        (b"GET / HTTP/0.9\r\n", Malformed::Version),
        (b"GET / HTTP/3\r\n", Malformed::StartLine),
        (b"GET / HTTP/1.10\r\n", Malformed::StartLine),
        (b"GET / HTTPS/1.1\r\n", Malformed::StartLine),
        (b"GET\t", Malformed::ControlByte),
        (b"GET /\0", Malformed::ControlByte),
        (b"GET / HTTP/1.1\n", Malformed::BareLineEnd),
        (b"GET / HTTP/1.1\r\r", Malformed::BareLineEnd),
        // Fields.
        (b"GET / HTTP/1.1\r\n ", Malformed::ObsoleteFold),
        (b"GET / HTTP/1.1\r\nA: b\r\n\t", Malformed::ObsoleteFold),
        (b"GET / HTTP/1.1\r\nA: b\n", Malformed::BareLineEnd),
        (b"GET / HTTP/1.1\r\nA: b\rC", Malformed::BareLineEnd),
        (b"GET / HTTP/1.1\r\nA: b\r\n\n", Malformed::BareLineEnd),
        (b"GET / HTTP/1.1\r\nA: b\0", Malformed::ControlByte),
        (b"GET / HTTP/1.1\r\nA: b\x0b", Malformed::ControlByte),
        (b"GET / HTTP/1.1\r\nA: b\x7f", Malformed::ControlByte),
        (b"GET / HTTP/1.1\r\nA\x1b", Malformed::ControlByte),
        // Limits.
        (long_line.as_bytes(), Malformed::TargetTooLong),
        (no_method.as_bytes(), Malformed::StartLine),
        (long_head.as_bytes(), Malformed::HeadTooLarge),
        (many_fields.as_bytes(), Malformed::TooManyFields),
    ];
    for (text, expected) in cases {
        let shown = text[..text.len().min(60)].escape_ascii();
        assert_eq!(
            HeadScanner::default().scan(text, &LIMITS),
            Err(*expected),
            "{shown}"
        );
    }
    // Each short text is refused for its last byte.
    for (text, _) in cases
        .iter()
        .filter(|(text, _)| text.len() < 60 && !text.ends_with(b"\r\n"))
    {
        let before = &text[..text.len() - 1];
        assert_eq!(
            HeadScanner::default().scan(before, &LIMITS),
            Ok(None),
            "{}",
            before.escape_ascii()
        );
    }
}

/// Each control byte in each part of a head. HTAB is allowed only in values.
#[test]
fn control_bytes() {
    for byte in (0..0x20).chain([0x7f]) {
        let byte = char::from(byte);
        for (text, may_be_tab) in [
            (format!("GE{byte}T / HTTP/1.1\r\nA: b\r\n\r\n"), false),
            (format!("GET /{byte} HTTP/1.1\r\nA: b\r\n\r\n"), false),
            (format!("GET / HTTP/{byte}1.1\r\nA: b\r\n\r\n"), false),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\nA{byte}b: c\r\n\r\n"),
                false,
            ),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\nA: b{byte}c\r\n\r\n"),
                true,
            ),
        ] {
            assert_eq!(
                request(text.as_bytes()).is_ok(),
                byte == '\t' && may_be_tab,
                "{text:?}"
            );
        }
    }
}

/// Limits are exact to the byte.
#[test]
fn limits() {
    let text = b"GET /23 HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\nmore";
    let length = text.len() - 4;
    let limits = HeadLimits {
        head: length,
        fields: 2,
        target: 4 - 1,
    };
    let both = |limits: &HeadLimits| {
        let scanned = HeadScanner::default().scan(text, limits)?;
        assert_eq!(scanned, Some(length));
        parse_request(&text[..length], limits, &mut RequestHead::default())
    };
    assert_eq!(both(&limits), Ok(()));
    assert_eq!(
        both(&HeadLimits {
            head: length - 1,
            ..limits
        }),
        Err(Malformed::HeadTooLarge)
    );
    assert_eq!(
        both(&HeadLimits {
            fields: 1,
            ..limits
        }),
        Err(Malformed::TooManyFields)
    );
    assert_eq!(
        both(&HeadLimits {
            target: 2,
            ..limits
        }),
        Err(Malformed::TargetTooLong)
    );
    // A head is whole or too large: one of the length of the limit without its end is known to be
    // too large.
    assert_eq!(
        HeadScanner::default().scan(&text[..length - 1], &limits),
        Ok(None)
    );
    assert_eq!(
        HeadScanner::default().scan(
            &text[..length - 1],
            &HeadLimits {
                head: length - 1,
                ..limits
            }
        ),
        Err(Malformed::HeadTooLarge)
    );
    // The parser has the same limits.
    let parse = |limits| parse_request(&text[..length], &limits, &mut RequestHead::default());
    assert_eq!(
        parse(HeadLimits {
            head: length - 1,
            ..limits
        }),
        Err(Malformed::HeadTooLarge)
    );
    assert_eq!(
        parse(HeadLimits {
            fields: 1,
            ..limits
        }),
        Err(Malformed::TooManyFields)
    );
    // A status line has no target.
    let text = format!("HTTP/1.1 200 {}\r\n\r\n", "a".repeat(10_000));
    assert!(response(text.as_bytes(), Method::Get).is_ok());
}

/// RFC 9112 §3.
#[test]
fn request_lines() {
    let cases = [
        ("GET / HTTP/1.1", Ok((TargetForm::Origin, "/", "/", "h"))),
        ("get / HTTP/1.1", Ok((TargetForm::Origin, "/", "/", "h"))),
        (
            "M!#$%&'*+-.^_`|~9 / HTTP/1.1",
            Ok((TargetForm::Origin, "/", "/", "h")),
        ),
        (
            "GET //a/../b?c?d HTTP/1.1",
            Ok((TargetForm::Origin, "//a/../b?c?d", "//a/../b", "h")),
        ),
        (
            "GET /|{}\"<>\\^` HTTP/1.1",
            Ok((TargetForm::Origin, "/|{}\"<>\\^`", "/|{}\"<>\\^`", "h")),
        ),
        (
            "OPTIONS * HTTP/1.1",
            Ok((TargetForm::Asterisk, "*", "*", "h")),
        ),
        (
            "GET http://a/b?c HTTP/1.1",
            Ok((TargetForm::Absolute, "/b?c", "/b", "a")),
        ),
        (
            "GET HTTPS://[::1]:443 HTTP/1.1",
            Ok((TargetForm::Absolute, "", "", "[::1]:443")),
        ),
        (
            "GET http://a?b/c HTTP/1.1",
            Ok((TargetForm::Absolute, "?b/c", "", "a")),
        ),
        ("GET  / HTTP/1.1", Err(Malformed::StartLine)),
        ("GET /  HTTP/1.1", Err(Malformed::StartLine)),
        ("GET / x HTTP/1.1", Err(Malformed::StartLine)),
        ("GET  HTTP/1.1", Err(Malformed::StartLine)),
        ("GET HTTP/1.1", Err(Malformed::StartLine)),
        ("G(T / HTTP/1.1", Err(Malformed::StartLine)),
        ("GET /#a HTTP/1.1", Err(Malformed::Target)),
        ("GET /ä HTTP/1.1", Err(Malformed::Target)),
        ("GET a HTTP/1.1", Err(Malformed::Target)),
        ("GET * HTTP/1.1", Err(Malformed::Target)),
        ("OPTIONS ** HTTP/1.1", Err(Malformed::Target)),
        ("GET ?a HTTP/1.1", Err(Malformed::Target)),
        ("GET http:/a HTTP/1.1", Err(Malformed::Target)),
        ("GET http:///a HTTP/1.1", Err(Malformed::Target)),
        ("GET http://:80/ HTTP/1.1", Err(Malformed::Target)),
        ("GET http://u@a/ HTTP/1.1", Err(Malformed::Target)),
        ("GET http://u:p@a/ HTTP/1.1", Err(Malformed::Target)),
        ("GET http://a:65536/ HTTP/1.1", Err(Malformed::Target)),
        ("GET http://a,b/ HTTP/1.1", Err(Malformed::Target)),
        ("GET http://a\\b/ HTTP/1.1", Err(Malformed::Target)),
        ("GET ftp://a/ HTTP/1.1", Err(Malformed::Target)),
        ("GET a:80 HTTP/1.1", Err(Malformed::Target)),
        (
            "CONNECT a:80 HTTP/1.1",
            Err(Malformed::MethodNotImplemented),
        ),
        (
            "CONNECT [::1]:80 HTTP/1.1",
            Err(Malformed::MethodNotImplemented),
        ),
        ("CONNECT a HTTP/1.1", Err(Malformed::Target)),
        ("CONNECT a: HTTP/1.1", Err(Malformed::Target)),
        ("CONNECT / HTTP/1.1", Err(Malformed::Target)),
        ("CONNECT http://a:80 HTTP/1.1", Err(Malformed::Target)),
    ];
    for (line, expected) in cases {
        let text = format!("{line}\r\nHost: h\r\n\r\n");
        let found = request(text.as_bytes());
        let found = found.as_ref().map(|head| {
            let shown = |span: crate::http::Span| str::from_utf8(span.of(text.as_bytes())).unwrap();
            (
                head.form,
                shown(head.path_and_query),
                shown(head.path),
                shown(head.authority),
            )
        });
        assert_eq!(found.map_err(|&why| why), expected, "{line}");
    }
}

fn verdict(text: &str) -> Result<(), Malformed> {
    request(text.as_bytes()).map(drop)
}

/// RFC 9112 §3.2, §3.3; RFC 9110 §7.2.
#[test]
fn hosts() {
    let cases = [
        ("GET / HTTP/1.1", "", Err(Malformed::Host)),
        ("GET / HTTP/1.0", "", Ok(())),
        ("GET / HTTP/1.1", "Host:\r\n", Err(Malformed::Host)),
        ("GET / HTTP/1.0", "Host: \t\r\n", Err(Malformed::Host)),
        ("OPTIONS / HTTP/1.1", "Host:\r\n", Err(Malformed::Host)),
        ("OPTIONS * HTTP/1.1", "Host:\r\n", Ok(())),
        (
            "GET / HTTP/1.1",
            "Host: a\r\nHost: a\r\n",
            Err(Malformed::Host),
        ),
        (
            "GET / HTTP/1.0",
            "Host: a\r\nhost: b\r\n",
            Err(Malformed::Host),
        ),
        ("GET / HTTP/1.0", "Host: a b\r\n", Err(Malformed::Host)),
        ("GET / HTTP/1.1", "Host: a, b\r\n", Err(Malformed::Host)),
        ("GET / HTTP/1.1", "Host: u@a\r\n", Err(Malformed::Host)),
        ("GET / HTTP/1.1", "Host: a/b\r\n", Err(Malformed::Host)),
        ("GET / HTTP/1.1", "Host: http://a\r\n", Err(Malformed::Host)),
        ("GET / HTTP/1.1", "Host: :80\r\n", Err(Malformed::Host)),
        ("GET http://a/ HTTP/1.1", "", Err(Malformed::Host)),
        ("GET http://a/ HTTP/1.1", "Host:\r\n", Err(Malformed::Host)),
        (
            "GET http://a/ HTTP/1.1",
            "Host: b c\r\n",
            Err(Malformed::Host),
        ),
        (
            "GET http://a/ HTTP/1.1",
            "Host: b\r\nHost: b\r\n",
            Err(Malformed::Host),
        ),
        ("GET http://a/ HTTP/1.1", "Host: b\r\n", Ok(())),
        ("GET http://a/ HTTP/1.0", "", Ok(())),
        // Connection cannot remove Host.
        ("GET / HTTP/1.1", "Host: a\r\nConnection: Host\r\n", Ok(())),
    ];
    for (line, fields, expected) in cases {
        assert_eq!(
            verdict(&format!("{line}\r\n{fields}\r\n")),
            expected,
            "{line} {fields}"
        );
    }
}

/// RFC 9112 §5.1.
#[test]
fn field_lines() {
    for (line, expected) in [
        ("A:", Ok(())),
        ("!#$%&'*+-.^_`|~9aZ:\tb", Ok(())),
        ("A: b: c", Ok(())),
        (": b", Err(Malformed::FieldName)),
        ("A", Err(Malformed::FieldName)),
        ("A : b", Err(Malformed::FieldName)),
        ("A\t: b", Err(Malformed::FieldName)),
        ("A b: c", Err(Malformed::FieldName)),
        ("Ä: b", Err(Malformed::FieldName)),
        ("A(: b", Err(Malformed::FieldName)),
        ("Content-Length : 5", Err(Malformed::FieldName)),
    ] {
        assert_eq!(
            verdict(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")),
            expected,
            "{line}"
        );
        let text = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
        assert_eq!(
            response(text.as_bytes(), Method::Get).map(drop),
            expected,
            "{line}"
        );
    }
}

/// RFC 9112 §6: every reader finds the same single length, or none.
#[test]
fn request_framing() {
    let cases = [
        ("", Ok(BodyFraming::None)),
        ("Content-Length: 0\r\n", Ok(BodyFraming::Length(0))),
        ("content-length:  42\t\r\n", Ok(BodyFraming::Length(42))),
        (
            "Content-Length: 18446744073709551615\r\n",
            Ok(BodyFraming::Length(u64::MAX)),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Ok(BodyFraming::Length(5)),
        ),
        (
            "Content-Length: 5\r\nConnection: Content-Length\r\n",
            Ok(BodyFraming::Length(5)),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Err(Malformed::ContentLength),
        ),
        ("Content-Length: 5, 5\r\n", Err(Malformed::ContentLength)),
        (
            "Content-Length: 18446744073709551616\r\n",
            Err(Malformed::ContentLength),
        ),
        ("Content-Length:\r\n", Err(Malformed::ContentLength)),
        ("Content-Length: +5\r\n", Err(Malformed::ContentLength)),
        ("Content-Length: -5\r\n", Err(Malformed::ContentLength)),
        ("Content-Length: 0x5\r\n", Err(Malformed::ContentLength)),
        ("Content-Length: 5 5\r\n", Err(Malformed::ContentLength)),
        ("Content-Length: 5;\r\n", Err(Malformed::ContentLength)),
        ("Content-Length: \"5\"\r\n", Err(Malformed::ContentLength)),
        ("Transfer-Encoding: chunked\r\n", Ok(BodyFraming::Chunked)),
        ("transfer-encoding:\tCHUNKED \r\n", Ok(BodyFraming::Chunked)),
        (
            "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n",
            Ok(BodyFraming::Chunked),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(Malformed::LengthAndEncoding),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: x\r\n",
            Err(Malformed::LengthAndEncoding),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(Malformed::UnknownCoding),
        ),
        (
            "Transfer-Encoding: gzip;q=1 , chunked\r\n",
            Err(Malformed::UnknownCoding),
        ),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            Err(Malformed::UnknownCoding),
        ),
        (
            "Transfer-Encoding: gzip\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, gzip\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: xchunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked;foo\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked foo\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: \"chunked\"\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: identity\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: identity, chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        ("Transfer-Encoding:\r\n", Err(Malformed::TransferEncoding)),
        (
            "Transfer-Encoding: , chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked,\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "Transfer-Encoding: \x0bchunked\r\n",
            Err(Malformed::ControlByte),
        ),
    ];
    for (fields, expected) in cases {
        for method in ["GET", "POST", "TRACE", "X"] {
            let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(
                request(text.as_bytes()).map(|head| head.framing),
                expected,
                "{fields}"
            );
        }
        // RFC 9112 §6.1: HTTP/1.0 has no transfer codings.
        let text = format!("POST / HTTP/1.0\r\n{fields}\r\n");
        let in_10 = match expected {
            Ok(BodyFraming::Chunked) | Err(Malformed::UnknownCoding) => {
                Err(Malformed::TransferEncoding)
            }
            other => other,
        };
        assert_eq!(
            request(text.as_bytes()).map(|head| head.framing),
            in_10,
            "{fields} in 1.0"
        );
    }
}

/// RFC 9110 §7.6.1, RFC 9112 §9.3.
#[test]
fn connection() {
    for (version, fields, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, , CLOSE\r\n", false),
        (
            "1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(
            request(text.as_bytes()).unwrap().keep_alive,
            keeps,
            "{version} {fields}"
        );
        let text = format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
        assert_eq!(
            response(text.as_bytes(), Method::Get).unwrap().keep_alive,
            keeps,
            "{version} {fields}"
        );
    }

    let text = b"GET / HTTP/1.1\r\nX-A: 1\r\nHost: a\r\n\
                 Connection: x-a, host, Via, X-FORWARDED-FOR, date, close, \"y\"\r\n\
                 Connection: X-B\r\nx-b: 1\r\nX-B: 2\r\nX-C: 1\r\nVia: v\r\n\
                 X-Forwarded-For: f\r\nDate: d\r\nClose: 1\r\nKeep-Alive: 1\r\n\
                 Proxy-Connection: 1\r\nTE: 1\r\nTrailer: 1\r\nUpgrade: 1\r\n\
                 Proxy-Authorization: 1\r\nProxy-Authenticate: 1\r\n\
                 Transfer-Encoding: chunked\r\n\r\n";
    let head = request(text).unwrap();
    let kept: Vec<_> = head
        .fields
        .iter()
        .filter(|field| !field.hop_by_hop)
        .map(|field| field.name.of(text))
        .collect();
    let kept = kept
        .into_iter()
        .map(|name| str::from_utf8(name).unwrap())
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(kept, "Host X-C Via X-Forwarded-For Date Trailer");

    // A list that names more fields than are allowed is refused, because it is only work.
    let names = |count| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n\r\n",
            "x,".repeat(count)
        )
    };
    assert_eq!(verdict(&names(100)), Ok(()));
    assert_eq!(verdict(&names(101)), Err(Malformed::TooManyFields));
}

/// RFC 9110 §10.1.1, §10.1.4.
#[test]
fn expectations_and_te() {
    let cases = [
        ("1.1", "", Ok((false, false))),
        ("1.1", "Expect: 100-Continue\r\n", Ok((true, false))),
        (
            "1.1",
            "Expect: 100-continue\r\nExpect: x\r\n",
            Err(Malformed::Expect),
        ),
        ("1.1", "Expect: 100-continue, x\r\n", Err(Malformed::Expect)),
        ("1.1", "Expect:\r\n", Err(Malformed::Expect)),
        ("1.0", "Expect: 100-continue\r\n", Ok((false, false))),
        ("1.0", "Expect: x\r\n", Ok((false, false))),
        (
            "1.1",
            "TE: gzip;q=0.5, Trailers ;q=1\r\n",
            Ok((false, true)),
        ),
        ("1.1", "TE: xtrailers\r\n", Ok((false, false))),
        // Framing is judged first, because it decides whether the connection can go on.
        (
            "1.1",
            "Expect: x\r\nTransfer-Encoding: x\r\n",
            Err(Malformed::TransferEncoding),
        ),
    ];
    for (version, fields, expected) in cases {
        let text = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
        let found = request(text.as_bytes()).map(|head| (head.expect_continue, head.te_trailers));
        assert_eq!(found, expected, "{version} {fields}");
    }
}

/// A head is filled again for each request, and nothing of the previous one may stay.
#[test]
fn nothing_stays_from_the_head_before() {
    let full =
        b"POST http://x:1/y?z HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\
          TE: trailers\r\n\r\n";
    let plain = b"GET / HTTP/1.0\r\n\r\n";
    let mut reused = RequestHead::default();
    parse_request(full, &LIMITS, &mut reused).unwrap();
    let room = reused.fields.capacity();
    parse_request(plain, &LIMITS, &mut reused).unwrap();
    assert_eq!(
        format!("{reused:?}"),
        format!("{:?}", request(plain).unwrap())
    );
    assert_eq!(reused.fields.capacity(), room);

    let full = b"HTTP/1.1 304 x\r\nDate: d\r\nContent-Length: 5\r\nKeep-Alive: timeout=5\r\n\r\n";
    let plain = b"HTTP/1.0 200\r\n\r\n";
    let mut reused = ResponseHead::default();
    parse_response(full, Method::Get, &LIMITS, &mut reused).unwrap();
    parse_response(plain, Method::Get, &LIMITS, &mut reused).unwrap();
    assert_eq!(
        format!("{reused:?}"),
        format!("{:?}", response(plain, Method::Get).unwrap())
    );
}

/// The parser accepts exactly one whole head, scanned or not.
#[test]
fn parsers_do_not_rely_on_the_scan() {
    for text in [
        "",
        "\r\n",
        "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nx",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\nC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(
            parse_request(text.as_bytes(), &LIMITS, &mut RequestHead::default()).is_err(),
            "{text:?}"
        );
    }
    for text in [
        "",
        "\r\n",
        "\r\n\r\n",
        "HTTP/1.1 204\r\nHost: a\r\n",
        "HTTP/1.1 204\r\nHost: a\r\n\r\nx",
        "HTTP/1.1 204\nHost: a\n\nx",
        "HTTP/1.1 204\nHost: a",
        "HTTP/1.1 204\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 204\r\n Host: a\r\n\r\n",
        "HTTP/1.1 204\r\nHost: a\0\r\n\r\n",
        "\r\nHTTP/1.1 204\r\nHost: a\r\n\r\n",
    ] {
        assert!(
            parse_response(
                text.as_bytes(),
                Method::Get,
                &LIMITS,
                &mut ResponseHead::default()
            )
            .is_err(),
            "{text:?}"
        );
    }
}
