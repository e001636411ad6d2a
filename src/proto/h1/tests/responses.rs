//! Verdicts on response heads.

use crate::http::{Method, ResponseFraming, ResponseHead, Version};

use super::super::{HeadLimits, Persistence, ResponseRewrite, parse_response, write_response};
use super::{HeadScanner, LIMITS, Malformed, response};

#[test]
fn a_plain_response() {
    let text = b"HTTP/1.1 200 All \xe4 right\r\nContent-Length: 5\r\nDate: x\r\n\
          Keep-Alive: max=3, Timeout=7\r\n\r\nhello";
    let head = response(text, Method::Get).unwrap();
    assert_eq!(
        (head.version, head.status, head.reason.of(text)),
        (Version::Http11, 200, &b"All \xe4 right"[..])
    );
    assert_eq!(
        (head.framing, head.content_length),
        (ResponseFraming::Length(5), Some(5))
    );
    assert_eq!((head.keep_alive, head.has_date), (true, true));
    assert_eq!(head.keep_alive_timeout.map(|time| time.as_secs()), Some(7));
}

/// RFC 9112 §4.
#[test]
fn status_lines() {
    for (line, expected) in [
        ("HTTP/1.1 200 OK", Ok((200, "OK"))),
        ("HTTP/1.0 404 Not\tFound  ", Ok((404, "Not\tFound  "))),
        ("HTTP/1.1 100 ", Ok((100, ""))),
        ("HTTP/1.1 599", Ok((599, ""))),
        ("HTTP/1.1 200  x", Ok((200, " x"))),
        ("HTTP/1.1 600 x", Ok((600, "x"))),
        ("HTTP/1.1 999", Ok((999, ""))),
        ("HTTP/1.1  200 x", Ok((200, "x"))),
        ("HTTP/1.1\t 200\tx", Ok((200, "x"))),
        ("HTTP/1.2 200 x", Ok((200, "x"))),
        ("HTTP/2.0 200 x", Ok((200, "x"))),
        ("HTTP/1.1 200 a\x01b\x7f", Ok((200, "a\x01b\x7f"))),
        ("HTTP/1.1 099 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 20 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 2000 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 200x", Err(Malformed::StartLine)),
        ("HTTP/1.1200 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 +20 x", Err(Malformed::StartLine)),
        ("HTTP/1.1\x01200 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 ", Err(Malformed::StartLine)),
        ("HTTP/1.1", Err(Malformed::StartLine)),
        ("HTTP/2 200 x", Err(Malformed::StartLine)),
        ("HTTP/0.9 200 x", Err(Malformed::Version)),
        ("http/1.1 200 x", Err(Malformed::StartLine)),
        ("ICY 200 x", Err(Malformed::StartLine)),
        ("", Err(Malformed::StartLine)),
    ] {
        for end in ["\r\n", "\n"] {
            let text = format!("{line}{end}Content-Length: 0\r\n{end}");
            let found = response(text.as_bytes(), Method::Get).map(|head| {
                (
                    head.status,
                    str::from_utf8(head.reason.of(text.as_bytes())).unwrap(),
                )
            });
            assert_eq!(found, expected, "{line}");
        }
    }
    // Refused as soon as the bytes cannot be HTTP any more.
    assert_eq!(
        HeadScanner::for_response().scan(b"HTTP/", &LIMITS),
        Ok(None)
    );
    assert_eq!(
        HeadScanner::for_response().scan(b"HTX", &LIMITS),
        Err(Malformed::StartLine)
    );
    let mut scanner = HeadScanner::for_response();
    scanner.reset();
    assert_eq!(scanner.scan(b"GET", &LIMITS), Err(Malformed::StartLine));
}

/// Framing, and whether the connection may be used again (RFC 9112 §6.3; RFC 9110 §8.6). The
/// balancer delivers where nginx and HAProxy both deliver.
#[test]
fn response_framing() {
    use Malformed::{ContentLength, TransferEncoding, UnknownCoding};
    use Method::{Get, Head};
    use ResponseFraming::{Chunked, Length, None, UntilClose};
    const CL: &str = "Content-Length: 5\r\n";
    const TE: &str = "Transfer-Encoding: chunked\r\n";
    const BOTH: &str = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    // The second value is the declared length, which also a client without a body gets.
    let cases = [
        ("1.1 200", Get, "", Ok((UntilClose, Option::None, false))),
        ("1.1 200", Get, CL, Ok((Length(5), Some(5), true))),
        ("2.0 200", Get, CL, Ok((Length(5), Some(5), false))),
        ("1.0 200", Get, CL, Ok((Length(5), Some(5), false))),
        (
            "1.1 200",
            Get,
            "Content-Length: 5\r\nContent-Length: 05\r\n",
            Ok((Length(5), Some(5), true)),
        ),
        (
            "1.1 200",
            Get,
            "Content-Length: 5, 5\r\n",
            Ok((Length(5), Some(5), true)),
        ),
        (
            "1.1 200",
            Get,
            "Content-Length: 5, 6\r\n",
            Err(ContentLength),
        ),
        ("1.1 200", Get, "Content-Length: 5,\r\n", Err(ContentLength)),
        ("1.1 200", Get, "Content-Length:\r\n", Err(ContentLength)),
        (
            "1.1 200",
            Get,
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Err(ContentLength),
        ),
        ("1.1 200", Get, "Content-Length: +5\r\n", Err(ContentLength)),
        (
            "1.1 200",
            Get,
            "Content-Length: 18446744073709551616\r\n",
            Err(ContentLength),
        ),
        ("1.1 200", Get, TE, Ok((Chunked, Option::None, true))),
        ("1.1 200", Get, BOTH, Ok((Chunked, Option::None, false))),
        (
            "1.1 200",
            Get,
            "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
            Ok((Chunked, Option::None, false)),
        ),
        ("1.0 200", Get, TE, Ok((Chunked, Option::None, false))),
        (
            "1.0 200",
            Get,
            "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
            Ok((Chunked, Option::None, false)),
        ),
        (
            "1.1 200",
            Get,
            "Transfer-Encoding: gzip\r\n",
            Err(TransferEncoding),
        ),
        (
            "1.1 200",
            Get,
            "Transfer-Encoding: identity\r\n",
            Err(TransferEncoding),
        ),
        (
            "1.1 200",
            Get,
            "Transfer-Encoding: chunked, chunked\r\n",
            Err(TransferEncoding),
        ),
        (
            "1.1 200",
            Get,
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(UnknownCoding),
        ),
        ("1.1 200", Head, CL, Ok((None, Some(5), true))),
        ("1.1 200", Head, TE, Ok((None, Option::None, true))),
        ("1.1 200", Head, BOTH, Ok((None, Option::None, false))),
        (
            "1.1 200",
            Head,
            "Content-Length: x\r\n",
            Ok((None, Option::None, false)),
        ),
        (
            "1.1 200",
            Head,
            "Transfer-Encoding: gzip\r\n",
            Ok((None, Option::None, true)),
        ),
        ("1.1 200", Head, "", Ok((None, Option::None, true))),
        ("1.1 304", Get, CL, Ok((None, Some(5), true))),
        ("1.1 304", Get, TE, Ok((None, Option::None, false))),
        (
            "1.1 304",
            Get,
            "Content-Length: 5, 6\r\n",
            Ok((None, Option::None, false)),
        ),
        ("1.1 204", Get, "", Ok((None, Option::None, true))),
        (
            "1.1 204",
            Get,
            "Content-Length: 0\r\n",
            Ok((None, Some(0), true)),
        ),
        ("1.1 204", Get, CL, Ok((None, Some(5), false))),
        (
            "1.1 204",
            Get,
            "Content-Length: x\r\n",
            Ok((None, Option::None, false)),
        ),
        ("1.1 204", Get, TE, Ok((None, Option::None, false))),
        (
            "1.1 204",
            Get,
            "Transfer-Encoding: x y\r\n",
            Ok((None, Option::None, false)),
        ),
        ("1.1 100", Method::Post, "", Ok((None, Option::None, true))),
        ("1.1 103", Head, CL, Ok((None, Some(5), false))),
        ("1.1 101", Get, TE, Ok((None, Option::None, false))),
        ("1.1 205", Get, CL, Ok((Length(5), Some(5), true))),
    ];
    for (line, method, fields, expected) in cases {
        let text = format!("HTTP/{line} x\r\n{fields}\r\n");
        let head = response(text.as_bytes(), method);
        let found = head.map(|head| (head.framing, head.content_length, head.keep_alive));
        assert_eq!(found, expected, "{line} {method:?} {fields}");
    }
}

/// Fields as servers write them, and as they are sent on.
#[test]
fn fields_are_written_anew() {
    for (fields, expected) in [
        ("X: b\nY: c\r\n", Ok("X: b\r\nY: c\r\n")),
        ("X:b \t\nY:\n", Ok("X: b\r\nY: \r\n")),
        ("X: a\x01b\x1b\x7fc\td\r\n", Ok("X: a b  c\td\r\n")),
        (
            "X: a\r\n b\r\n\tc\r\nY: d\r\n",
            Ok("X: a   b  \tc\r\nY: d\r\n"),
        ),
        ("X: a\n b\n", Ok("X: a  b\r\n")),
        ("X:\r\n  b \r\n", Ok("X: b\r\n")),
        ("X: a\r\n \r\n", Ok("X: a\r\n")),
        ("Connection: x\r\nX: a\r\n b\r\nY: c\r\n", Ok("Y: c\r\n")),
        (" X: a\r\n", Err(Malformed::ObsoleteFold)),
        ("Content-Length: 1\r\n 0\r\n", Err(Malformed::ObsoleteFold)),
        (
            "Transfer-Encoding:\r\n chunked\r\n",
            Err(Malformed::ObsoleteFold),
        ),
        ("Connection: a,\r\n b\r\n", Err(Malformed::ObsoleteFold)),
        ("X: a\x00b\r\n", Err(Malformed::ControlByte)),
        ("X: a\rb\r\n", Err(Malformed::BareLineEnd)),
        ("X: a\r\r\n", Err(Malformed::BareLineEnd)),
        ("X : a\r\n", Err(Malformed::FieldName)),
        ("X Y: a\r\n", Err(Malformed::FieldName)),
        ("X(Y): a\r\n", Err(Malformed::FieldName)),
        ("\x01X: a\r\n", Err(Malformed::FieldName)),
        ("Content\x0b-Length: 5\r\n", Err(Malformed::FieldName)),
        (": a\r\n", Err(Malformed::FieldName)),
        ("a\r\n", Err(Malformed::FieldName)),
    ] {
        for end in ["\r\n", "\n"] {
            let text = format!("HTTP/1.1 200 o\x02k\r\n{fields}{end}");
            let mut out = Vec::new();
            let found = response(text.as_bytes(), Method::Head).map(|head| {
                let rewrite = ResponseRewrite {
                    framing: head.framing,
                    persistence: Persistence::Silent,
                    date: b"now",
                    append: b"",
                };
                write_response(&mut out, text.as_bytes(), &head, &rewrite);
                str::from_utf8(&out).unwrap()
            });
            let expected =
                expected.map(|fields| format!("HTTP/1.1 200 o k\r\n{fields}Date: now\r\n\r\n"));
            assert_eq!(found.map(str::to_owned), expected, "{fields:?}");
        }
    }
}

/// Folded lines count as lines.
#[test]
fn folded_lines_are_limited() {
    let limits = HeadLimits {
        fields: 4,
        ..LIMITS
    };
    for (folds, expected) in [(3, Ok(())), (4, Err(Malformed::TooManyFields))] {
        let text = format!("HTTP/1.1 200 x\r\nX: a\r\n{}\r\n", " b\r\n".repeat(folds));
        let mut head = ResponseHead::default();
        assert_eq!(
            parse_response(text.as_bytes(), Method::Get, &limits, &mut head),
            expected
        );
        let scanned = HeadScanner::for_response().scan(text.as_bytes(), &limits);
        assert_eq!(scanned.map(|_| ()), expected);
    }
}

#[test]
fn keep_alive_timeouts() {
    for (value, expected) in [
        ("timeout=5", Some(5)),
        ("max=100, TIMEOUT=15", Some(15)),
        ("timeout=0", Some(0)),
        ("timeout=18446744073709551615", Some(86_400)),
        ("timeout=9223372036854775807", Some(86_400)),
        ("timeout", None),
        ("timeout=", None),
        ("timeout=-1", None),
        ("xtimeout=5", None),
        ("", None),
    ] {
        let text = format!("HTTP/1.1 204 x\r\nKeep-Alive: {value}\r\n\r\n");
        let head = response(text.as_bytes(), Method::Get).unwrap();
        assert_eq!(
            head.keep_alive_timeout.map(|time| time.as_secs()),
            expected,
            "{value}"
        );
    }
}
