//! Writes responses, and breaks them off.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use crate::request::Head;
use crate::stats::Executing;
use crate::stream::Stream;

/// What happens to the connection after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request follows.
    Next,
    /// The connection ends.
    Close,
}

/// A response under construction.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    stream: &'a Stream,
    out: Vec<u8>,
    executing: Option<Executing<'a>>,
    no_body: bool,
    /// The connection goes on after the response.
    pub(crate) keep_alive: bool,
    /// The client speaks HTTP/1.0.
    pub(crate) old: bool,
    /// Fields that go into every head.
    pub(crate) common: Vec<String>,
}

impl<'a> Reply<'a> {
    /// Makes a response to this request.
    pub(crate) fn new(stream: &'a Stream, head: &Head, executing: Option<Executing<'a>>) -> Self {
        Self {
            stream,
            out: Vec::new(),
            executing,
            no_body: head.method == "HEAD",
            keep_alive: head.keep_alive(),
            old: head.minor == 0,
            common: Vec::new(),
        }
    }

    /// Writes a head. `Connection` is added where it differs from the version's default.
    pub(crate) fn head(&mut self, status: u16, fields: &[&str]) {
        let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for field in self
            .common
            .iter()
            .map(String::as_str)
            .chain(fields.iter().copied())
        {
            text += field;
            text += "\r\n";
        }
        match (self.keep_alive, self.old) {
            (true, true) => text += "Connection: keep-alive\r\n",
            (false, _) => text += "Connection: close\r\n",
            (true, false) => {}
        }
        text += "\r\n";
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes an interim head.
    pub(crate) fn interim(&mut self, status: u16, fields: &[&str]) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for field in fields {
            text += field;
            text += "\r\n";
        }
        text += "\r\n";
        self.raw(text.as_bytes());
        self.flush()
    }

    /// Writes a whole response with a body of known length.
    pub(crate) fn whole(
        &mut self,
        status: u16,
        content_type: &str,
        body: &[u8],
    ) -> io::Result<After> {
        self.head(
            status,
            &[
                &format!("Content-Type: {content_type}"),
                &format!("Content-Length: {}", body.len()),
            ],
        );
        self.body(body)?;
        self.end()
    }

    /// Writes a whole response of one line of text.
    pub(crate) fn text(&mut self, status: u16, text: &str) -> io::Result<After> {
        self.whole(status, "text/plain; charset=utf-8", text.as_bytes())
    }

    /// Writes bytes of the body, except in response to HEAD.
    pub(crate) fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.no_body {
            return Ok(());
        }
        self.raw(bytes);
        if self.out.len() > 128 * 1024 {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes any bytes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Returns the number of bytes written and not sent yet.
    pub(crate) fn written(&self) -> usize {
        self.out.len()
    }

    /// Drops the bytes that are not sent yet.
    pub(crate) fn forget(&mut self) {
        self.out.clear();
    }

    /// Sends what is written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Sends the rest.
    pub(crate) fn end(&mut self) -> io::Result<After> {
        // The request stops executing before the client can know the end (see `stats`).
        self.executing = None;
        self.flush()?;
        Ok(if self.keep_alive {
            After::Next
        } else {
            After::Close
        })
    }

    /// Sends what is written so far and ends the connection.
    pub(crate) fn cut(&mut self, reset: bool) -> io::Result<After> {
        self.executing = None;
        self.flush()?;
        if reset {
            self.stream.reset_on_close();
        }
        Ok(After::Close)
    }

    /// Ends a connection on which unread bytes may still arrive. Shuts down the sending side and
    /// waits a little for the client to leave: closing at once would be a reset, which may overtake
    /// the response.
    pub(crate) fn linger(&mut self) -> io::Result<After> {
        self.end()?;
        self.stream.shut(Shutdown::Write);
        self.stream.read_timeout(Some(Duration::from_secs(2)))?;
        let mut stream = self.stream;
        let mut buffer = [0; 16 * 1024];
        while io::Read::read(&mut stream, &mut buffer).is_ok_and(|n| n > 0) {}
        Ok(After::Close)
    }
}

/// Returns the reason phrase of a status.
fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        418 => "I'm a teapot",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
