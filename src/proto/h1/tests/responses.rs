//! Verdicts on response heads.

use crate::http::{Method, ResponseFraming, Version};

use super::{HeadScanner, LIMITS, Malformed, response};

#[test]
fn a_plain_response() {
    let text =
        b"HTTP/1.1 200 All \xe4 right\r\nContent-Length: 5\r\nDate: x\r\nKeep-Alive: max=3, Timeout=7\r\n\r\nhello";
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
        ("HTTP/1.1 099 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 600 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 20 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 2000 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 200x", Err(Malformed::StartLine)),
        ("HTTP/1.1 200\tx", Err(Malformed::StartLine)),
        ("HTTP/1.1  200 x", Err(Malformed::StartLine)),
        ("HTTP/1.1 +20 x", Err(Malformed::StartLine)),
        ("HTTP/1.1", Err(Malformed::StartLine)),
        ("HTTP/2 200 x", Err(Malformed::StartLine)),
        ("HTTP/1.2 200 x", Err(Malformed::Version)),
        ("HTTP/2.0 200 x", Err(Malformed::Version)),
        ("http/1.1 200 x", Err(Malformed::StartLine)),
        ("ICY 200 x", Err(Malformed::StartLine)),
        ("", Err(Malformed::StartLine)),
    ] {
        let text = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        let found = response(text.as_bytes(), Method::Get)
            .map(|head| (head.status, str::from_utf8(head.reason.of(text.as_bytes())).unwrap()));
        assert_eq!(found, expected, "{line}");
    }
    // As soon as it cannot be HTTP any more.
    assert_eq!(HeadScanner::for_response().scan(b"HTTP/", &LIMITS), Ok(None));
    assert_eq!(
        HeadScanner::for_response().scan(b"HTX", &LIMITS),
        Err(Malformed::StartLine)
    );
    let mut scanner = HeadScanner::for_response();
    scanner.reset();
    assert_eq!(scanner.scan(b"GET", &LIMITS), Err(Malformed::StartLine));
}

/// RFC 9112 §6.3; RFC 9110 §8.6.
#[test]
fn response_framing() {
    let cases = [
        ("1.1 200", Method::Get, "", Ok(ResponseFraming::UntilClose)),
        (
            "1.1 200",
            Method::Get,
            "Content-Length: 5\r\n",
            Ok(ResponseFraming::Length(5)),
        ),
        (
            "1.1 200",
            Method::Get,
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Ok(ResponseFraming::Length(5)),
        ),
        (
            "1.1 200",
            Method::Get,
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Err(Malformed::ContentLength),
        ),
        (
            "1.1 200",
            Method::Get,
            "Content-Length: x\r\n",
            Err(Malformed::ContentLength),
        ),
        (
            "1.1 200",
            Method::Get,
            "Transfer-Encoding: chunked\r\n",
            Ok(ResponseFraming::Chunked),
        ),
        (
            "1.1 200",
            Method::Get,
            "Transfer-Encoding: gzip\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "1.1 200",
            Method::Get,
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(Malformed::UnknownCoding),
        ),
        (
            "1.0 200",
            Method::Get,
            "Transfer-Encoding: chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "1.1 200",
            Method::Get,
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(Malformed::LengthAndEncoding),
        ),
        (
            "1.1 200",
            Method::Head,
            "Content-Length: 5\r\n",
            Ok(ResponseFraming::None),
        ),
        (
            "1.1 200",
            Method::Head,
            "Transfer-Encoding: chunked\r\n",
            Ok(ResponseFraming::None),
        ),
        ("1.1 200", Method::Head, "", Ok(ResponseFraming::None)),
        (
            "1.1 304",
            Method::Get,
            "Content-Length: 5\r\n",
            Ok(ResponseFraming::None),
        ),
        (
            "1.1 304",
            Method::Get,
            "Transfer-Encoding: chunked\r\n",
            Ok(ResponseFraming::None),
        ),
        ("1.1 204", Method::Get, "", Ok(ResponseFraming::None)),
        (
            "1.1 204",
            Method::Get,
            "Content-Length: 0\r\n",
            Ok(ResponseFraming::None),
        ),
        (
            "1.1 204",
            Method::Get,
            "Content-Length: 5\r\n",
            Err(Malformed::ContentLength),
        ),
        (
            "1.1 204",
            Method::Get,
            "Transfer-Encoding: chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        ("1.1 100", Method::Post, "", Ok(ResponseFraming::None)),
        (
            "1.1 103",
            Method::Head,
            "Content-Length: 5\r\n",
            Err(Malformed::ContentLength),
        ),
        (
            "1.1 101",
            Method::Get,
            "Transfer-Encoding: chunked\r\n",
            Err(Malformed::TransferEncoding),
        ),
        (
            "1.1 205",
            Method::Get,
            "Content-Length: 0\r\n",
            Ok(ResponseFraming::Length(0)),
        ),
    ];
    for (line, method, fields, expected) in cases {
        let text = format!("HTTP/{line} x\r\n{fields}\r\n");
        let head = response(text.as_bytes(), method);
        assert_eq!(
            head.as_ref().map(|head| head.framing).map_err(|&why| why),
            expected,
            "{line} {method:?} {fields}"
        );
        if let Ok(head) = head {
            assert_eq!(head.keep_alive, head.framing != ResponseFraming::UntilClose);
            assert_eq!(head.content_length.is_some(), fields.starts_with("Content-Length"));
        }
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
        assert_eq!(head.keep_alive_timeout.map(|time| time.as_secs()), expected, "{value}");
    }
}
