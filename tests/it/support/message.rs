//! Reads HTTP messages strictly. No client and no server should ever be sent what this refuses.

use std::io;

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
    Close,
}

/// A response, as a client receives it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// All its bytes, without the interim responses before it.
    pub(crate) raw: Vec<u8>,
    /// The minor version.
    pub(crate) minor: u8,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) framing: Framing,
    /// The responses before it with a status below 200.
    pub(crate) interim: Vec<Self>,
}

/// A request, as a server receives it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// All its bytes.
    pub(crate) raw: Vec<u8>,
    /// How many of these bytes are the head.
    pub(crate) head_length: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) minor: u8,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) framing: Framing,
    /// The number of its connection, counted from 0.
    pub(crate) connection: usize,
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

fn find_all<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

impl Response {
    /// The first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        find(&self.fields, name)
    }

    /// All fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        find_all(&self.fields, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns whether the message says that the connection ends after it.
    pub(crate) fn closes(&self) -> bool {
        let says = |word: &str| {
            self.field("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case(word))
        };
        self.framing == Framing::Close
            || if self.minor == 0 {
                !says("keep-alive")
            } else {
                says("close")
            }
    }

    /// Panics with the whole response when the status is another one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.raw)
        );
        self
    }
}

impl Request {
    /// The first field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        find(&self.fields, name)
    }

    /// All fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        find_all(&self.fields, name)
    }

    /// The head as text.
    pub(crate) fn head(&self) -> String {
        String::from_utf8_lossy(&self.raw[..self.head_length]).into_owned()
    }
}

/// A source of bytes: appends some to the buffer and returns how many; 0 is the end.
pub(crate) trait More {
    fn more(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize>;
}

impl<F: FnMut(&mut Vec<u8>) -> io::Result<usize>> More for F {
    fn more(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self(buffer)
    }
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Takes a message off the front of a buffer and fills the buffer as needed.
struct Taker<'a, M> {
    buffer: &'a mut Vec<u8>,
    more: &'a mut M,
    at: usize,
}

impl<M: More> Taker<'_, M> {
    fn fill(&mut self) -> io::Result<()> {
        match self.more.more(self.buffer)? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "the connection ended after {:?}",
                    String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(2000)])
                ),
            )),
            _ => Ok(()),
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut looked = self.at;
        loop {
            if let Some(end) = self.buffer[looked..].iter().position(|&byte| byte == b'\n') {
                let end = looked + end;
                let line = &self.buffer[self.at..end];
                let line = line.strip_suffix(b"\r").ok_or_else(|| wrong("a bare LF"))?;
                if line.contains(&b'\r') {
                    return Err(wrong("a bare CR"));
                }
                let text = String::from_utf8(line.to_vec())
                    .map_err(|_| wrong("a line that is not UTF-8"))?;
                self.at = end + 1;
                return Ok(text);
            }
            looked = self.buffer.len();
            self.fill()?;
        }
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| wrong(format!("no field: {line:?}")))?;
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
            {
                return Err(wrong(format!("no field name: {line:?}")));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    fn exactly(&mut self, length: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| wrong("too long for this machine"))?;
        while self.buffer.len() - self.at < length {
            self.fill()?;
        }
        out.extend_from_slice(&self.buffer[self.at..self.at + length]);
        self.at += length;
        Ok(())
    }

    fn chunked(&mut self, body: &mut Vec<u8>) -> io::Result<Vec<(String, String)>> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or("");
            if !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(wrong(format!("no chunk size: {line:?}")));
            }
            let size = u64::from_str_radix(size, 16)
                .map_err(|_| wrong(format!("no chunk size: {line:?}")))?;
            if size == 0 {
                return self.fields();
            }
            self.exactly(size, body)?;
            if !self.line()?.is_empty() {
                return Err(wrong("a chunk longer than its size"));
            }
        }
    }

    fn done(self) -> Vec<u8> {
        self.buffer.drain(..self.at).collect()
    }
}

fn version(word: &str) -> io::Result<u8> {
    match word {
        "HTTP/1.1" => Ok(1),
        "HTTP/1.0" => Ok(0),
        _ => Err(wrong(format!("no version: {word:?}"))),
    }
}

/// What the fields say about the body's end; `None` when they say nothing.
fn framing(fields: &[(String, String)]) -> io::Result<Option<(Framing, u64)>> {
    match (
        find_all(fields, "transfer-encoding").as_slice(),
        find_all(fields, "content-length").as_slice(),
    ) {
        ([], []) => Ok(None),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Some((Framing::Chunked, 0))),
        ([], [length])
            if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(Some((
                Framing::Length,
                length.parse().map_err(|_| wrong("an endless length"))?,
            )))
        }
        (codings, lengths) => Err(wrong(format!(
            "an unclear end: {codings:?} and {lengths:?}"
        ))),
    }
}

/// Reads a response and the interim ones before it. `to_head`: the request was a HEAD.
pub(crate) fn read_response(
    buffer: &mut Vec<u8>,
    more: &mut impl More,
    to_head: bool,
) -> io::Result<Response> {
    let mut interim = Vec::new();
    loop {
        let mut response = read_one_response(buffer, more, to_head)?;
        if (100..200).contains(&response.status) && response.status != 101 {
            interim.push(response);
        } else {
            response.interim = interim;
            return Ok(response);
        }
    }
}

fn read_one_response(
    buffer: &mut Vec<u8>,
    more: &mut impl More,
    to_head: bool,
) -> io::Result<Response> {
    let mut taker = Taker {
        buffer,
        more,
        at: 0,
    };
    let line = taker.line()?;
    let no_line = || wrong(format!("no status line: {line:?}"));
    let (word, rest) = line.split_once(' ').ok_or_else(no_line)?;
    let minor = version(word)?;
    let (status, reason) = rest.split_once(' ').ok_or_else(no_line)?;
    if status.len() != 3 || !status.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(no_line());
    }
    let status: u16 = status.parse().map_err(|_| no_line())?;
    let reason = reason.to_owned();
    let fields = taker.fields()?;
    let said = framing(&fields)?;
    if said.is_some() && (status < 200 || status == 204) {
        return Err(wrong(format!("a {status} with {said:?}")));
    }
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    let framing = if to_head || status < 200 || status == 204 || status == 304 {
        Framing::None
    } else {
        match said {
            Some((Framing::Chunked, _)) if minor == 0 => return Err(wrong("chunked in HTTP/1.0")),
            Some((Framing::Chunked, _)) => {
                trailers = taker.chunked(&mut body)?;
                Framing::Chunked
            }
            Some((_, length)) => {
                taker.exactly(length, &mut body)?;
                Framing::Length
            }
            None => {
                while taker.more.more(taker.buffer)? > 0 {}
                body.extend_from_slice(&taker.buffer[taker.at..]);
                taker.at = taker.buffer.len();
                Framing::Close
            }
        }
    };
    Ok(Response {
        raw: taker.done(),
        minor,
        status,
        reason,
        fields,
        body,
        trailers,
        framing,
        interim: Vec::new(),
    })
}

/// Reads a request; `None` when the connection ends before its first byte.
pub(crate) fn read_request(
    buffer: &mut Vec<u8>,
    more: &mut impl More,
) -> io::Result<Option<Request>> {
    let Some(mut request) = read_request_head(buffer, more)? else {
        return Ok(None);
    };
    read_request_body(&mut request, buffer, more)?;
    Ok(Some(request))
}

/// Reads a request's head alone.
pub(crate) fn read_request_head(
    buffer: &mut Vec<u8>,
    more: &mut impl More,
) -> io::Result<Option<Request>> {
    if buffer.is_empty() && more.more(buffer)? == 0 {
        return Ok(None);
    }
    let mut taker = Taker {
        buffer,
        more,
        at: 0,
    };
    let line = taker.line()?;
    let words: Vec<_> = line.split(' ').collect();
    let [method, target, word] = words[..] else {
        return Err(wrong(format!("no request line: {line:?}")));
    };
    let (method, target, minor) = (method.to_owned(), target.to_owned(), version(word)?);
    let fields = taker.fields()?;
    let framing = framing(&fields)?.map_or(Framing::None, |(framing, _)| framing);
    let raw = taker.done();
    Ok(Some(Request {
        head_length: raw.len(),
        raw,
        method,
        target,
        minor,
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
        framing,
        connection: 0,
    }))
}

/// Reads the body that belongs to a head.
pub(crate) fn read_request_body(
    request: &mut Request,
    buffer: &mut Vec<u8>,
    more: &mut impl More,
) -> io::Result<()> {
    let mut taker = Taker {
        buffer,
        more,
        at: 0,
    };
    match framing(&request.fields)? {
        None => {}
        Some((Framing::Chunked, _)) => request.trailers = taker.chunked(&mut request.body)?,
        Some((_, length)) => taker.exactly(length, &mut request.body)?,
    }
    let raw = taker.done();
    request.raw.extend_from_slice(&raw);
    Ok(())
}
