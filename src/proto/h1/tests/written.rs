//! What is written of heads and around chunks.

use crate::http::{BodyFraming, Edits, FieldId, Method, ResponseFraming, ResponseHead};
use crate::proto::h1::{
    Persistence, RequestRewrite, ResponseRewrite, write_chunk_size, write_last_chunk,
    write_request, write_response,
};

use super::{request, response};

fn rewritten(
    text: &str,
    framing: BodyFraming,
    omitted: &'static [FieldId],
    added: &[(&str, &str)],
) -> String {
    let mut edits = Edits::default();
    edits.omit(omitted);
    for (name, value) in added {
        edits.add(name, &[value.as_bytes()]);
    }
    let head = request(text.as_bytes()).unwrap();
    let mut out = Vec::new();
    write_request(
        &mut out,
        text.as_bytes(),
        &head,
        &RequestRewrite {
            framing,
            edits: &edits,
            upgrade: None,
        },
    );
    String::from_utf8(out).unwrap()
}

#[test]
fn requests_are_written() {
    let text = "POST /x HTTP/1.1\r\nA: 1\r\nhost: a\r\nConnection: close, b\r\nB: \
                2\r\nCONTENT-length: 007\r\nC:3\r\nContent-Length: 7\r\nExpect: \
                100-continue\r\nTE: trailers\r\nTrailer: T\r\nD: 4\r\n\r\n";
    assert_eq!(
        rewritten(text, BodyFraming::Length(7), &[], &[("E", "5")]),
        "POST /x HTTP/1.1\r\nA: 1\r\nhost: a\r\nCONTENT-length: 7\r\nC: 3\r\nD: 4\r\nE: \
         5\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(
        rewritten(text, BodyFraming::Chunked, &[], &[]),
        "POST /x HTTP/1.1\r\nA: 1\r\nhost: a\r\nC: 3\r\nTrailer: T\r\nD: 4\r\nTransfer-Encoding: \
         chunked\r\nConnection: keep-alive\r\n\r\n"
    );
    let text =
        "POST http://b:80?q HTTP/1.1\r\nVia: x\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        rewritten(
            text,
            BodyFraming::Length(0),
            &[FieldId::Via, FieldId::Host],
            &[]
        ),
        "POST /?q HTTP/1.1\r\nHost: b:80\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    );
    for (line, first) in [
        ("GET http://b HTTP/1.0", "GET / HTTP/1.1\r\nHost: b\r\n"),
        ("GET / HTTP/1.0", "GET / HTTP/1.0\r\n"),
        ("OPTIONS * HTTP/1.0", "OPTIONS * HTTP/1.0\r\n"),
        (
            "OPTIONS HTTPS://b HTTP/1.0",
            "OPTIONS * HTTP/1.1\r\nHost: b\r\n",
        ),
        (
            "OPTIONS http://b/ HTTP/1.0",
            "OPTIONS / HTTP/1.1\r\nHost: b\r\n",
        ),
    ] {
        let text = format!("{line}\r\nA: 1\r\n\r\n");
        assert_eq!(
            rewritten(&text, BodyFraming::None, &[], &[]),
            format!("{first}A: 1\r\nConnection: keep-alive\r\n\r\n")
        );
    }
}

#[test]
fn responses_are_written() {
    let text = b"HTTP/1.0 200\r\nConnection: keep-alive, x\r\nX: 1\r\nKeep-Alive: timeout=5\r\n\
                 A:1\r\nContent-Length: 05\r\nTrailer: T\r\n\r\n";
    let head = response(text, Method::Get).unwrap();
    let write = |head: &ResponseHead, text: &[u8], framing, persistence| {
        let mut out = Vec::new();
        let rewrite = ResponseRewrite {
            framing,
            persistence,
            date: b"now",
            append: b"Z: 9\r\n",
        };
        write_response(&mut out, text, head, &rewrite);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        write(&head, text, ResponseFraming::Length(5), Persistence::Close),
        "HTTP/1.1 200 \r\nA: 1\r\nContent-Length: 5\r\nDate: now\r\nConnection: close\r\nZ: \
         9\r\n\r\n"
    );
    assert_eq!(
        write(&head, text, ResponseFraming::Chunked, Persistence::Silent),
        "HTTP/1.1 200 \r\nA: 1\r\nTrailer: T\r\nDate: now\r\nTransfer-Encoding: chunked\r\nZ: \
         9\r\n\r\n"
    );
    assert_eq!(
        write(&head, text, ResponseFraming::None, Persistence::KeepAlive),
        "HTTP/1.1 200 \r\nA: 1\r\nContent-Length: 5\r\nDate: now\r\nConnection: keep-alive\r\nZ: \
         9\r\n\r\n"
    );
    assert_eq!(
        write(
            &head,
            text,
            ResponseFraming::UntilClose,
            Persistence::Silent
        ),
        "HTTP/1.1 200 \r\nA: 1\r\nDate: now\r\nZ: 9\r\n\r\n"
    );
    for (text, expected) in [
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nDate: d\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nDate: d\r\nConnection: close\r\nZ: 9\r\n\r\n",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\nZ: 9\r\n\r\n",
        ),
    ] {
        let head = response(text.as_bytes(), Method::Get).unwrap();
        assert_eq!(
            write(
                &head,
                text.as_bytes(),
                ResponseFraming::None,
                Persistence::Close
            ),
            expected
        );
    }
}

#[test]
fn chunks_are_written() {
    for size in [0, 1, 9, 10, 15, 16, 255, 256, 4096, 65535, usize::MAX] {
        let mut out = Vec::new();
        write_chunk_size(&mut out, size);
        assert_eq!(out, format!("{size:x}\r\n").as_bytes());
    }
    let mut out = Vec::new();
    write_last_chunk(&mut out, b"");
    write_last_chunk(&mut out, b"A: 1\r\n");
    assert_eq!(out, b"0\r\n\r\n0\r\nA: 1\r\n\r\n");
}

/// Field lines of our own form are copied in runs. All others are written in that form too, and the
/// order stays.
#[test]
fn field_lines_get_one_form() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nTE: x\r\nB:2\r\nC:\t3\r\nD:  4\r\nE: 5 \
                \r\nF: 6\r\nG:\r\nH: \r\nI: 7\r\n\r\n";
    assert_eq!(
        rewritten(text, BodyFraming::None, &[], &[]),
        "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\nG: \r\nH: \
         \r\nI: 7\r\nConnection: keep-alive\r\n\r\n"
    );
}
