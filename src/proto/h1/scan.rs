//! Finds the end of a head and refuses bad bytes as they come, so that a reader does not wait for
//! an end that cannot come.

use crate::http::Version;

use super::syntax::{find_control, is_token_byte};
use super::{HeadLimits, Malformed};

/// The bytes of a request line besides its target: a method, two spaces, a version, CRLF.
pub(super) const BESIDES_TARGET: usize = 64;

/// Checks each byte of a head once, however the head is split.
///
/// The verdict depends only on the bytes, never on how they were cut into reads. Errors and limits
/// are found in the order of bytes.
#[derive(Debug, Default)]
pub struct HeadScanner {
    /// The number of bytes checked.
    position: usize,
    /// The first byte of the line that `position` is in.
    line_start: usize,
    /// The number of lines that have ended.
    lines: usize,
    /// The head begins with a status line.
    is_response: bool,
}

impl HeadScanner {
    /// Makes a scanner for response heads. The first line must be a status line, and
    /// `limits.target` is ignored. ([`HeadScanner::default`] makes one for requests.) The scanner
    /// accepts what [`super::parse_response`] tolerates.
    pub fn for_response() -> Self {
        Self {
            is_response: true,
            ..Self::default()
        }
    }

    /// Begins anew, for the next head of the same kind.
    pub fn reset(&mut self) {
        *self = Self {
            is_response: self.is_response,
            ..Self::default()
        };
    }

    /// Continues over `buffer`, which holds the head's first bytes and has only grown since the
    /// last call. Returns the head's length, including the blank line, once it is whole.
    pub fn scan(&mut self, buffer: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Malformed> {
        loop {
            let limit = self.limit(limits);
            let window = &buffer[..buffer.len().min(limit)];
            if self.lines == 0 {
                self.check_beginning(window)?;
            } else if self.position == self.line_start {
                match window.get(self.position) {
                    // RFC 9112 §5.2: a gateway refuses folded lines or repairs them. The scanner
                    // refuses those of requests, and any that continues the status line.
                    Some(b' ' | b'\t') if !self.is_response || self.lines < 2 => {
                        return Err(Malformed::ObsoleteFold);
                    }
                    Some(b'\n') if self.is_response => {}
                    Some(&first) if first != b'\r' && self.lines > limits.fields => {
                        return Err(Malformed::TooManyFields);
                    }
                    Some(_) | None => {}
                }
            }
            let rest = window.get(self.position..).unwrap_or_default();
            let Some(place) = find_control(rest) else {
                self.position = window.len();
                return self.wait(buffer, limit, limits);
            };
            let at = self.position + place;
            match (rest[place], rest.get(place + 1)) {
                (b'\r', Some(b'\n')) => {
                    if at == self.line_start {
                        return Ok(Some(at + 2));
                    }
                    if self.lines == 0 && !self.is_response {
                        // HTTP/0.9 sends only this line. HTTP/2 continues with other bytes.
                        check_version(&window[..at])?;
                    }
                    self.next_line(at + 2);
                }
                (b'\n', _) if self.is_response => {
                    if at == self.line_start {
                        return Ok(Some(at + 1));
                    }
                    self.next_line(at + 1);
                }
                (b'\r', None) => {
                    self.position = at;
                    return self.wait(buffer, limit, limits);
                }
                (b'\r' | b'\n', _) => return Err(Malformed::BareLineEnd),
                (b'\t', _) if self.lines > 0 => self.position = at + 1,
                (1.., _) if self.is_response => self.position = at + 1,
                _ => return Err(Malformed::ControlByte),
            }
        }
    }

    fn next_line(&mut self, start: usize) {
        self.lines += 1;
        self.line_start = start;
        self.position = start;
    }

    /// Returns by which byte the first line (while in it) or the head must have ended.
    fn limit(&self, limits: &HeadLimits) -> usize {
        if self.lines == 0 && !self.is_response {
            limits
                .head
                .min(limits.target.saturating_add(BESIDES_TARGET))
        } else {
            limits.head
        }
    }

    /// Refuses bytes that cannot begin a first line: a TLS ClientHello, empty lines (the reader has
    /// skipped those that RFC 9112 §2.2 allows), a server that does not speak HTTP.
    fn check_beginning(&self, window: &[u8]) -> Result<(), Malformed> {
        const PROTOCOL: &[u8] = b"HTTP/";
        if self.is_response {
            let length = window.len().min(PROTOCOL.len());
            return if window[..length] == PROTOCOL[..length] {
                Ok(())
            } else {
                Err(Malformed::StartLine)
            };
        }
        match window.first() {
            Some(b'\n') => Err(Malformed::BareLineEnd),
            Some(&first) if !is_token_byte(first) => Err(Malformed::StartLine),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns `None` if more bytes are needed and allowed, else the limit that is exceeded.
    fn wait(
        &self,
        buffer: &[u8],
        limit: usize,
        limits: &HeadLimits,
    ) -> Result<Option<usize>, Malformed> {
        if buffer.len() < limit {
            return Ok(None);
        }
        if limit == limits.head {
            return Err(Malformed::HeadTooLarge);
        }
        // RFC 9112 §3: 414 for a target, 400 or 501 for a line without even a method.
        let has_method = buffer.iter().take(BESIDES_TARGET).any(|&byte| byte == b' ');
        Err(if has_method {
            Malformed::TargetTooLong
        } else {
            Malformed::StartLine
        })
    }
}

/// Returns the version at the end of a request line, or an error if it is neither 1.0 nor 1.1.
pub(super) fn check_version(line: &[u8]) -> Result<Version, Malformed> {
    match line {
        [.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'] => Ok(Version::Http11),
        [.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => Ok(Version::Http10),
        [.., b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Malformed::Version)
        }
        _ => Err(Malformed::StartLine),
    }
}
