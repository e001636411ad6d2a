//! Runs a server's bytes through the whole relay in memory. For any bytes the client gets
//! well-formed HTTP with unambiguous framing, whatever the cuts between the server's reads are.

use crate::http::{Length, Method, ResponseFraming, ResponseHead, Version};
use crate::proto::h1::{
    ChunkEvent, ChunkedDecoder, Coming, Going, HeadLimits, HeadScanner, Persistence,
    ResponseRewrite, parse_response, write_response,
};

use super::splits::{AMPLE, LIMITS, assert_splits};

/// The request that is answered, chosen by the first byte of the data.
#[derive(Clone, Copy)]
struct Asked {
    method: Method,
    /// The client speaks HTTP/1.0.
    old: bool,
    limits: HeadLimits,
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The response is whole. The value is the number of the server's bytes read for it.
    Whole(usize),
    /// The response broke off, or was malformed behind its head.
    Cut,
    /// There is no head, so the client gets a 502.
    Refused,
}

/// What a client gets.
struct Delivered {
    out: Vec<u8>,
    end: End,
}

/// What the client understands: heads, content and trailers.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    heads: Vec<String>,
    content: Vec<u8>,
    trailers: Vec<u8>,
    end: End,
}

/// Runs `data` through parser, framing, decoder and writer. The first byte chooses the request, the
/// others are the server's.
pub fn relay(data: &[u8]) {
    let Some((&flags, data)) = data.split_first() else {
        return;
    };
    let asked = Asked {
        method: if flags & 1 == 0 {
            Method::Get
        } else {
            Method::Head
        },
        old: flags & 2 != 0,
        limits: LIMITS[usize::from(flags & 4 != 0)],
    };
    let whole = read(&deliver([data], asked), asked);
    assert_splits(data, &whole, |pieces| {
        read(&deliver(pieces.iter().copied(), asked), asked)
    });
}

/// Relays as a worker does: `pieces` are its reads, and then the server ends the connection.
fn deliver<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, asked: Asked) -> Delivered {
    let mut scanner = HeadScanner::for_response();
    let mut head = ResponseHead::default();
    let mut body: Option<(Coming, Going)> = None;
    let (mut buffer, mut out, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while body.is_none() {
            let length = match scanner.scan(&buffer, &asked.limits) {
                Ok(None) => break,
                Ok(Some(length)) => length,
                Err(_) => {
                    return Delivered {
                        out,
                        end: End::Refused,
                    };
                }
            };
            let text = &buffer[..length];
            if parse_response(text, asked.method, &asked.limits, &mut head).is_err()
                || head.status == 101
            {
                return Delivered {
                    out,
                    end: End::Refused,
                };
            }
            let is_final = head.status >= 200;
            let length_of_body = match is_final {
                true => head.framing.length(),
                false => Length::None,
            };
            let version = match asked.old {
                true => Version::Http10,
                false => Version::Http11,
            };
            let going = Going::of(length_of_body, version);
            let close = going.ends_with_connection();
            let rewrite = ResponseRewrite {
                framing: going.framing(length_of_body),
                persistence: if close {
                    Persistence::Close
                } else {
                    Persistence::Silent
                },
                date: b"now",
                append: b"",
            };
            if is_final || !asked.old {
                write_response(&mut out, text, &head, &rewrite);
            }
            if is_final {
                body = Some((Coming::of(head.framing, asked.limits), going));
            }
            buffer.drain(..length);
            used += length;
            scanner.reset();
        }
        let Some((coming, going)) = &mut body else {
            continue;
        };
        let step = coming.step(&mut buffer);
        assert!(step.used <= buffer.len() && step.data.end <= step.used);
        let behind = going.write_before(&mut out, step.data.len());
        out.extend_from_slice(&buffer[step.data]);
        out.extend_from_slice(behind);
        used += step.used;
        if step.fault.is_some() {
            return Delivered { out, end: End::Cut };
        }
        if step.end {
            going.write_end(&mut out, coming.trailers());
            return Delivered {
                out,
                end: End::Whole(used),
            };
        }
        buffer.drain(..step.used);
        assert!(buffer.is_empty(), "what can be taken is taken");
    }
    let end = match body {
        None => End::Refused,
        Some((Coming::UntilClose, going)) => {
            going.write_end(&mut out, &[]);
            End::Whole(used)
        }
        Some(_) => End::Cut,
    };
    Delivered { out, end }
}

/// Reads the delivered bytes as strictly as possible.
fn read(delivered: &Delivered, asked: Asked) -> Read {
    let mut read = Read {
        heads: Vec::new(),
        content: Vec::new(),
        trailers: Vec::new(),
        end: delivered.end,
    };
    let mut rest = &delivered.out[..];
    let framing = loop {
        if rest.is_empty() {
            assert_eq!(
                delivered.end,
                End::Refused,
                "nothing but interim responses went out"
            );
            return read;
        }
        let length = 4 + rest
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .expect("a whole head");
        let (text, after) = rest.split_at(length);
        rest = after;
        read.heads.push(text.escape_ascii().to_string());
        let (status, framing) = read_head(text, asked);
        if status >= 200 {
            break framing;
        }
        assert!(!asked.old, "HTTP/1.0 knows no interim responses");
    };
    assert_ne!(delivered.end, End::Refused, "a final head went out");
    let is_whole = matches!(delivered.end, End::Whole(_));
    match framing {
        ResponseFraming::None => assert!(rest.is_empty() && is_whole),
        ResponseFraming::Length(length) => {
            assert!(rest.len() as u64 <= length);
            assert_eq!(rest.len() as u64 == length, is_whole);
            read.content.extend_from_slice(rest);
        }
        ResponseFraming::UntilClose => {
            assert!(asked.old, "HTTP/1.1 is told where it ends");
            read.content.extend_from_slice(rest);
        }
        ResponseFraming::Chunked => {
            let mut decoder = ChunkedDecoder::new(AMPLE);
            let has_ended = loop {
                let (used, event) = decoder.next(rest).expect("chunks to the letter");
                match event {
                    ChunkEvent::Data(range) => read.content.extend_from_slice(&rest[range]),
                    ChunkEvent::End => {
                        assert_eq!(used, rest.len(), "nothing behind the end");
                        break true;
                    }
                    ChunkEvent::More => break false,
                }
                rest = &rest[used..];
            };
            assert_eq!(has_ended, is_whole);
            read.trailers.extend_from_slice(decoder.trailers());
        }
    }
    read
}

/// Reads one head strictly. Returns its status and where its body ends.
fn read_head(text: &[u8], asked: Asked) -> (u16, ResponseFraming) {
    let shown = text.escape_ascii();
    for (index, &byte) in text.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(text.get(index + 1), Some(&b'\n'), "{shown}"),
            b'\n' => {
                assert!(index > 0 && text[index - 1] == b'\r', "{shown}");
                assert!(
                    !matches!(text.get(index + 1), Some(b' ' | b'\t')),
                    "no fold: {shown}"
                );
            }
            b'\t' | 0x20..=0x7e | 0x80.. => {}
            _ => panic!("a control byte: {shown}"),
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut theirs = httparse::Response::new(&mut fields);
    assert_eq!(
        theirs.parse(text),
        Ok(httparse::Status::Complete(text.len())),
        "{shown}"
    );
    let status = theirs.code.expect("a status");
    assert!(
        (100..1000).contains(&status) && theirs.version == Some(1),
        "{shown}"
    );
    let all = |name: &str| {
        let found = theirs
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| field.value).collect::<Vec<_>>()
    };
    let lengths = all("content-length");
    let codings = all("transfer-encoding");
    assert!(lengths.len() + codings.len() <= 1, "one framing: {shown}");
    assert!(
        all("keep-alive").is_empty() && all("upgrade").is_empty(),
        "{shown}"
    );
    let length = lengths.first().map(|value| {
        assert!(
            !value.is_empty() && value.iter().all(u8::is_ascii_digit),
            "{shown}"
        );
        str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("a number that fits")
    });
    let has_no_content = status < 200 || status == 204;
    let framing = match (length, codings.first()) {
        _ if has_no_content => {
            assert!(length.is_none() && codings.is_empty(), "{shown}");
            ResponseFraming::None
        }
        _ if status == 304 || asked.method == Method::Head => {
            assert!(codings.is_empty(), "{shown}");
            ResponseFraming::None
        }
        (Some(length), _) => ResponseFraming::Length(length),
        (None, Some(coding)) => {
            assert!(*coding == b"chunked" && !asked.old, "{shown}");
            ResponseFraming::Chunked
        }
        (None, None) => ResponseFraming::UntilClose,
    };
    // Our own parser must agree.
    let mut head = ResponseHead::default();
    let ours = parse_response(text, asked.method, &AMPLE, &mut head);
    assert_eq!(
        (ours, head.status, head.framing),
        (Ok(()), status, framing),
        "{shown}"
    );
    assert!(
        head.fields.iter().all(|field| !field.has_controls),
        "{shown}"
    );
    (status, framing)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const PIECES: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Hint\n",
        b"HTTP/1.1 204\r\n",
        b"HTTP/1.0 304 x\r\n",
        b"HTTP/2.0  999\tx\x01\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: 7\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Connection: close, X\r\n",
        b"Keep-Alive: timeout=5\r\n",
        b"Trailer: X\r\n",
        b"Date: now\r\n",
        b"X: a\x7fb\n",
        b" fold\r\n",
        b"\r\n",
        b"\n",
        b"5\r\nhello\r\n",
        b"5 \nhello\n",
        b"0001;x\r\na\r\n",
        b"0\r\n",
        b"Cache-Control: x\r\n",
        b"hello",
        b"\0",
    ];

    const BEGINNINGS: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 5, 5\n\n",
        b"HTTP/1.1 103 Hint\r\nContent-Length: 4\r\n\r\n\
          HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
    ];

    proptest! {
        // A failure becomes a seed of the fuzzer instead.
        #![proptest_config(ProptestConfig {
            cases: 600,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_bytes_of_servers(data in vec(any::<u8>(), 0..100)) {
            relay(&data);
        }

        #[test]
        fn near_responses_of_servers(
            flags in 0..8_u8,
            beginning in select(BEGINNINGS),
            pieces in vec(select(PIECES), 0..12),
            odd in vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
        ) {
            let mut data = [&[flags], beginning, &pieces.concat()].concat();
            for (place, byte) in odd {
                let place = 1 + place.index(data.len());
                data.insert(place.min(data.len()), byte);
            }
            relay(&data);
        }
    }
}
