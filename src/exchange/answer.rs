//! Responses that are made here: short, plain, and with the reason.

use std::borrow::Cow;
use std::io::Write;

use crate::fault::Fault;
use crate::http::Method;
use crate::plan::ErrorPage;
use crate::proto::h1::Persistence;

/// A response that is made here.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Why, if it is about a failure.
    pub fault: Option<Fault>,
    /// `Retry-After` of a 503, in seconds.
    pub retry_after: u32,
    /// `Location`, where there is one.
    pub location: Option<Vec<u8>>,
    /// It names the methods that are served (`Allow`).
    allow: bool,
    text: Cow<'static, str>,
}

/// What is passed on, if a server takes it. TRACE is passed on too, but not answered here.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Answer {
    /// Tells a failure.
    pub fn fault(fault: Fault) -> Self {
        Self {
            status: fault.status(),
            fault: Some(fault),
            retry_after: 1,
            location: None,
            allow: false,
            text: Cow::Borrowed(fault.text()),
        }
    }

    /// The balancer is well, or about to stop.
    pub fn health(draining: bool) -> Self {
        let (status, text) = if draining {
            (503, "draining")
        } else {
            (200, "ok")
        };
        Self {
            status,
            fault: None,
            retry_after: 1,
            location: None,
            allow: false,
            text: Cow::Borrowed(text),
        }
    }

    /// Go there instead, with the same method.
    pub fn redirect(location: Vec<u8>) -> Self {
        Self {
            status: 308,
            fault: None,
            retry_after: 1,
            location: Some(location),
            allow: false,
            text: Cow::Borrowed("this is served over https"),
        }
    }

    /// An OPTIONS or TRACE that nobody may pass on any more (`Max-Forwards: 0`, RFC 9110 §7.6.2).
    ///
    /// TRACE is not answered with what came (RFC 9110 §9.3.8): that would show a script in a
    /// browser, or the client of a proxy before us, fields that were not meant for it.
    pub fn last_hop(method: Method) -> Self {
        let answer = match method {
            Method::Trace => Self::fault(Fault::TraceEnds),
            _ => Self {
                status: 200,
                fault: None,
                text: Cow::Borrowed("the request was to go no further"),
                ..Self::health(false)
            },
        };
        Self {
            allow: true,
            ..answer
        }
    }

    /// Writes it out. `page`, the operator's own for this status, takes the place of a failure's
    /// text. `head_only` for HEAD.
    pub fn render(
        &self,
        out: &mut Vec<u8>,
        page: Option<&ErrorPage>,
        head_only: bool,
        persistence: Persistence,
        date: &[u8],
    ) {
        let reason = reason_phrase(self.status);
        let page = page.filter(|_| self.fault.is_some());
        let text;
        let (content_type, body): (&str, &[u8]) = match page {
            Some(page) => (&page.content_type, &page.body),
            None => {
                text = format!("{} {reason}: {}\n", self.status, self.text);
                ("text/plain; charset=utf-8", text.as_bytes())
            }
        };
        let length = body.len();
        let _a_vec_takes_all = write!(
            out,
            "HTTP/1.1 {} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: \
             {length}\r\nCache-Control: no-store\r\n",
            self.status,
        );
        let mut field = |name: &[u8], value: &[u8]| {
            out.extend_from_slice(name);
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        field(b"Date: ", date);
        if let Some(location) = &self.location {
            field(b"Location: ", location);
        }
        if self.allow {
            field(b"Allow: ", ALLOW);
        }
        if self.status == 503 {
            field(b"Retry-After: ", self.retry_after.to_string().as_bytes());
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
