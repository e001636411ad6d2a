//! Responses that are made here, in HTTP/1.

use std::io::Write;

use crate::exchange::answer::Answer;
use crate::plan::ErrorPage;
use crate::proto::h1::Persistence;

/// What is passed on, if a server takes it. TRACE is passed on too, but not answered here.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Appends an answer. `page`, the operator's own for this status, takes the place of a failure's
/// text. `head_only` is for HEAD.
pub(super) fn render(
    out: &mut Vec<u8>,
    answer: &Answer,
    page: Option<&ErrorPage>,
    head_only: bool,
    persistence: Persistence,
    date: &[u8],
) {
    let reason = reason_phrase(answer.status);
    let page = page.filter(|_| answer.fault.is_some());
    let text;
    let (content_type, body): (&str, &[u8]) = match page {
        Some(page) => (&page.content_type, &page.body),
        None => {
            text = format!("{} {reason}: {}\n", answer.status, answer.text);
            ("text/plain; charset=utf-8", text.as_bytes())
        }
    };
    let length = body.len();
    // A `Vec` takes everything.
    let _ = write!(
        out,
        "HTTP/1.1 {} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: \
         {length}\r\nCache-Control: no-store\r\n",
        answer.status,
    );
    let mut field = |name: &[u8], value: &[u8]| {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    field(b"Date: ", date);
    if let Some(location) = &answer.location {
        field(b"Location: ", location);
    }
    if answer.allow {
        field(b"Allow: ", ALLOW);
    }
    if answer.status == 503 {
        field(b"Retry-After: ", answer.retry_after.to_string().as_bytes());
    }
    match persistence {
        Persistence::Close => field(b"Connection: ", b"close"),
        Persistence::KeepAlive => field(b"Connection: ", b"keep-alive"),
        Persistence::Silent => {}
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(body);
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
