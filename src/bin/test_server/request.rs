//! Reads requests: small, strict, and keeping the original bytes.

use std::io::{self, Read};

use crate::check::Sum;

/// A balancer never sends a longer head.
const MOST_HEAD: usize = 1 << 20;

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The bytes are not an HTTP/1 request.
    Malformed(&'static str),
    /// The connection ended in the middle of a request.
    Unfinished,
    /// The connection failed.
    Failed,
}

impl From<io::Error> for Problem {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// A request head.
#[derive(Debug)]
pub(crate) struct Head {
    /// The original bytes, with the empty line.
    pub(crate) raw: Vec<u8>,
    pub(crate) method: String,
    pub(crate) target: String,
    /// The 1 of HTTP/1.1.
    pub(crate) minor: u8,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) framing: Framing,
}

impl Head {
    fn parse(raw: Vec<u8>) -> Result<Self, Problem> {
        use Problem::Malformed;
        let text = std::str::from_utf8(&raw).map_err(|_| Malformed("the head is not UTF-8"))?;
        let mut lines = text.strip_suffix("\r\n\r\n").unwrap_or(text).split("\r\n");
        if text
            .bytes()
            .any(|byte| byte < b' ' && !matches!(byte, b'\r' | b'\n' | b'\t'))
        {
            return Err(Malformed("control bytes in the head"));
        }
        let mut words = lines.next().unwrap_or("").split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(Malformed("the request line is not three words"));
        };
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ => return Err(Malformed("the version is neither HTTP/1.1 nor HTTP/1.0")),
        };
        if method.is_empty() || target.is_empty() {
            return Err(Malformed("no method or no target"));
        }
        let mut fields = Vec::new();
        for line in lines {
            if line.contains(['\r', '\n']) {
                return Err(Malformed("a line that does not end in CRLF"));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or(Malformed("a field without a colon"))?;
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(Malformed("a field name with white space"));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        let (method, target) = (method.to_owned(), target.to_owned());
        let framing = framing(&fields, minor)?;
        Ok(Self {
            raw,
            method,
            target,
            minor,
            fields,
            framing,
        })
    }

    /// Returns the value of the first field with that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether the client wants the connection to go on.
    pub(crate) fn keep_alive(&self) -> bool {
        let said = self.field("connection").unwrap_or("").to_ascii_lowercase();
        let mut words = said.split(',').map(str::trim);
        if self.minor == 0 {
            words.any(|word| word == "keep-alive")
        } else {
            !words.any(|word| word == "close")
        }
    }
}

fn framing(fields: &[(String, String)], minor: u8) -> Result<Framing, Problem> {
    use Problem::Malformed;
    let named = |name: &'static str| {
        fields
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let mut lengths = named("content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Malformed("more than one Content-Length"));
    }
    let mut codings = named("transfer-encoding");
    let coding = codings.next();
    match (coding, length) {
        (Some(_), Some(_)) => Err(Malformed("Transfer-Encoding and Content-Length")),
        (Some(_), None) if minor == 0 => Err(Malformed("Transfer-Encoding in HTTP/1.0")),
        (Some(coding), None)
            if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() =>
        {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(Malformed("a Transfer-Encoding other than chunked")),
        (None, Some(length)) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| Malformed("a Content-Length that is no number")),
        (None, Some(_)) => Err(Malformed("a Content-Length that is no number")),
        (None, None) => Ok(Framing::Length(0)),
    }
}

/// A request body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// The original bytes, with chunk sizes and trailers. Empty if they are not kept.
    pub(crate) raw: Vec<u8>,
    /// Bytes of content.
    pub(crate) length: u64,
    /// Checksum of the content.
    pub(crate) sum: Sum,
}

/// Reads requests off a connection.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
}

impl<R: Read> Reader<R> {
    /// Reads from `source`.
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Returns the bytes that have arrived and are not consumed yet.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads more bytes. Returns `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        let had = self.buffer.len();
        self.buffer.resize(had + 64 * 1024, 0);
        let got = loop {
            match self.source.read(&mut self.buffer[had..]) {
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                got => break got,
            }
        };
        self.buffer.truncate(had + got.as_ref().map_or(0, |&n| n));
        Ok(got? > 0)
    }

    /// Returns the next head, or `None` if the connection ends before it.
    pub(crate) fn head(&mut self) -> Result<Option<Head>, Problem> {
        let mut looked = 0;
        loop {
            let waiting = self.waiting();
            if let Some(at) = waiting[looked..]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            {
                let end = looked + at + 4;
                let raw = waiting[..end].to_vec();
                self.start += end;
                return Head::parse(raw).map(Some);
            }
            if waiting.len() > MOST_HEAD {
                return Err(Problem::Malformed("the head is endless"));
            }
            looked = waiting.len().saturating_sub(3);
            if !self.fill()? {
                return if self.waiting().is_empty() {
                    Ok(None)
                } else {
                    Err(Problem::Unfinished)
                };
            }
        }
    }

    /// Reads the body to its end.
    pub(crate) fn body(&mut self, framing: Framing, keep: bool) -> Result<Body, Problem> {
        let mut body = Body::default();
        match framing {
            Framing::Length(length) => self.content(length, keep, &mut body)?,
            Framing::Chunked => loop {
                let line = self.line(keep, &mut body)?;
                let size = line.split(|&byte| byte == b';').next().unwrap_or(&[]);
                let size = std::str::from_utf8(size)
                    .ok()
                    .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
                    .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                    .ok_or(Problem::Malformed("a chunk size that is no number"))?;
                if size == 0 {
                    while !self.line(keep, &mut body)?.is_empty() {}
                    break;
                }
                self.content(size, keep, &mut body)?;
                if !self.line(keep, &mut body)?.is_empty() {
                    return Err(Problem::Malformed("a chunk longer than its size"));
                }
            },
        }
        Ok(body)
    }

    fn content(&mut self, mut length: u64, keep: bool, body: &mut Body) -> Result<(), Problem> {
        while length > 0 {
            if self.waiting().is_empty() && !self.fill()? {
                return Err(Problem::Unfinished);
            }
            let waiting = self.waiting();
            let take = waiting
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            body.sum.add(&waiting[..take]);
            if keep {
                body.raw.extend_from_slice(&waiting[..take]);
            }
            body.length += take as u64;
            length -= take as u64;
            self.start += take;
        }
        Ok(())
    }

    /// Reads a line and returns it without its end.
    fn line(&mut self, keep: bool, body: &mut Body) -> Result<Vec<u8>, Problem> {
        loop {
            let waiting = self.waiting();
            if let Some(at) = waiting.windows(2).position(|two| two == b"\r\n") {
                let line = waiting[..at].to_vec();
                if keep {
                    body.raw.extend_from_slice(&waiting[..at + 2]);
                }
                self.start += at + 2;
                return Ok(line);
            }
            if waiting.len() > MOST_HEAD {
                return Err(Problem::Malformed("a line of the body is endless"));
            }
            if !self.fill()? {
                return Err(Problem::Unfinished);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte per read.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    #[test]
    fn reads_pipelined_requests_however_they_are_split() {
        let first = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunks = b"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nT: 1\r\n\r\n";
        let second = b"PUT /b HTTP/1.0\r\nContent-Length:  2 \r\nConnection: Keep-Alive\r\n\r\n";
        let all = [first, &chunks[..], second, b"hi"].concat();
        for whole in [true, false] {
            let mut drip = Drip(&all);
            let mut slice = &all[..];
            let source: &mut dyn Read = if whole { &mut slice } else { &mut drip };
            let mut reader = Reader::new(source);
            let head = reader.head().unwrap().unwrap();
            assert_eq!(
                (&head.raw[..], head.framing, head.keep_alive()),
                (&first[..], Framing::Chunked, true)
            );
            let body = reader.body(head.framing, true).unwrap();
            assert_eq!(
                (&body.raw[..], body.length, body.sum),
                (&chunks[..], 13, Sum::of(b"abc0123456789"))
            );
            let head = reader.head().unwrap().unwrap();
            assert_eq!(
                (head.method.as_str(), head.minor, head.keep_alive()),
                ("PUT", 0, true)
            );
            assert_eq!(reader.body(head.framing, true).unwrap().raw, b"hi");
            assert!(reader.head().unwrap().is_none());
        }
    }

    #[test]
    fn refuses_what_two_readers_could_understand_differently() {
        for head in [
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\n folded\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
            "\r\n\r\n",
        ] {
            let result = Reader::new(head.as_bytes()).head();
            assert!(
                matches!(result, Err(Problem::Malformed(_))),
                "{head:?}: {result:?}"
            );
        }
        for body in [
            "+1\r\na\r\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            " 1\r\na\r\n0\r\n\r\n",
            "\r\n",
        ] {
            let result = Reader::new(body.as_bytes()).body(Framing::Chunked, false);
            assert!(
                matches!(result, Err(Problem::Malformed(_))),
                "{body:?}: {result:?}"
            );
        }
    }

    #[test]
    fn knows_a_request_that_broke_off() {
        assert!(matches!(
            Reader::new(&b"GET / HT"[..]).head(),
            Err(Problem::Unfinished)
        ));
        assert!(matches!(
            Reader::new(&b"ab"[..]).body(Framing::Length(3), false),
            Err(Problem::Unfinished)
        ));
        assert!(matches!(
            Reader::new(&b"2\r\nab\r\n"[..]).body(Framing::Chunked, false),
            Err(Problem::Unfinished)
        ));
    }
}
