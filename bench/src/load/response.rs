//! Enough of HTTP to find the end of a response. All have a Content-Length.

use std::io;

/// The response in progress on one connection.
#[derive(Debug, Default)]
pub(crate) struct Response {
    head: Vec<u8>,
    /// Bytes of body to come, once the head is whole.
    left: Option<usize>,
    ok: bool,
}

/// How far a response has come.
#[derive(Debug, PartialEq)]
pub(crate) enum Progress {
    More,
    /// The response is whole. `ok`: its status is 200.
    Done {
        ok: bool,
    },
}

impl Response {
    /// Takes received bytes. Nothing may follow the end, because there is one request at a time.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> io::Result<Progress> {
        let body = match self.left {
            Some(left) => bytes.len().min(left),
            None => {
                let searched = self.head.len().saturating_sub(3);
                self.head.extend_from_slice(bytes);
                let Some(at) = self.head[searched..]
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                else {
                    return Ok(Progress::More);
                };
                let end = searched + at + 4;
                let (ok, length) = read_head(&self.head[..end])?;
                self.ok = ok;
                self.left = Some(length);
                self.head.len() - end
            }
        };
        let left = self.left.unwrap_or(0);
        if body > left {
            return Err(io::Error::other("more than the response"));
        }
        self.left = Some(left - body);
        if left > body {
            return Ok(Progress::More);
        }
        let ok = self.ok;
        self.head.clear();
        self.left = None;
        Ok(Progress::Done { ok })
    }
}

/// Returns whether the status is 200, and the length of the body.
fn read_head(head: &[u8]) -> io::Result<(bool, usize)> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let ok = lines
        .next()
        .is_some_and(|line| line.starts_with("HTTP/1.1 200"));
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| io::Error::other("a response without Content-Length"))?;
    Ok((ok, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length:  5\r\nX: y\r\n\r\nhello";

    #[test]
    fn a_response_ends_where_it_says_however_it_comes() {
        for step in 1..=WHOLE.len() {
            let mut response = Response::default();
            for _ in 0..2 {
                let mut pieces = WHOLE.chunks(step).peekable();
                while let Some(piece) = pieces.next() {
                    let wanted = match pieces.peek() {
                        Some(_) => Progress::More,
                        None => Progress::Done { ok: true },
                    };
                    assert_eq!(response.take(piece).unwrap(), wanted, "in pieces of {step}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_well_is_told() {
        let refused = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            Response::default().take(refused).unwrap(),
            Progress::Done { ok: false }
        );
        assert!(
            Response::default()
                .take(b"HTTP/1.1 200 OK\r\n\r\n")
                .is_err()
        );
        let more = [WHOLE, b"H"].concat();
        assert!(Response::default().take(&more).is_err());
    }
}
