//! Chunked bodies, strict and tolerant, cut at every position.

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    head: 1024,
    fields: 10,
    target: 1024,
};

/// Content, trailers and the number of bytes used, or the error. `None` where the body has not
/// ended.
type Decoded = Result<Option<(Vec<u8>, Vec<u8>, usize)>, Malformed>;

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    decode_with(ChunkedDecoder::new(LIMITS), pieces)
}

fn decode_with<'a>(
    mut decoder: ChunkedDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Decoded {
    let mut content = Vec::new();
    let mut total = 0;
    for piece in pieces {
        let mut rest = piece;
        loop {
            let (used, event) = decoder.next(rest)?;
            total += used;
            match event {
                ChunkEvent::Data(range) => content.extend_from_slice(&rest[range]),
                ChunkEvent::End => {
                    return Ok(Some((content, decoder.trailers().to_vec(), total)));
                }
                ChunkEvent::More => {
                    assert_eq!(used, rest.len());
                    break;
                }
            }
            rest = &rest[used..];
        }
    }
    Ok(None)
}

#[test]
fn a_plain_body() {
    let text = b"5\r\nhello\r\n006;a=b ; c = \"d\\\"\" \t;e\r\n world\r\n\
          0\r\nA: 1\r\nKeep-Alive: x\r\nB:2\r\n\r\nGET /";
    let expected = Ok(Some((
        b"hello world".to_vec(),
        b"A: 1\r\nB:2\r\n".to_vec(),
        text.len() - 5,
    )));
    assert_eq!(decode([&text[..]]), expected);
    assert_eq!(decode(text.chunks(1)), expected);
}

fn verdict(text: &str) -> Decoded {
    let whole = decode([text.as_bytes()]);
    assert_eq!(
        decode(text.as_bytes().chunks(1)),
        whole,
        "{text:?} byte by byte"
    );
    whole
}

/// RFC 9112 §7.1, §7.1.1.
#[test]
fn chunk_lines() {
    for line in [
        "1",
        "01",
        "0000000000000001",
        "1;a",
        "1;a=b",
        "1;a;b",
        "1 ;a",
        "1\t; a = b ;c",
        "1;a=\"\"",
        "1;a=\"b;\\\"\\\\\t ä\"",
        "1;a=\"b\" ;c",
        "1;!#$%&'*+-.^_`|~9=~",
    ] {
        let text = format!("{line}\r\nx\r\n0\r\n\r\n");
        assert_eq!(
            verdict(&text),
            Ok(Some((b"x".to_vec(), Vec::new(), text.len()))),
            "{line}"
        );
    }
    for line in [
        "",
        " 1",
        "\t1",
        "+1",
        "-1",
        "0x1",
        "x",
        "1x",
        "1_0",
        "1 ",
        "1\t",
        "1 1",
        "1.0",
        "00000000000000001",
        "10000000000000000",
        "1;",
        "1; ",
        "1;;a",
        "1;=b",
        "1;a=",
        "1;a b",
        "1;a ",
        "1;a=b ",
        "1;a=b c",
        "1;a=\"b",
        "1;a=\"b\"c",
        "1;a=\"b\" ",
        "1;a=\"\u{1}\"",
        "1;a=\"\\\u{7f}\"",
        "1;ä",
        "1,a",
        "1\n",
        "1\r\r",
        "1;a\0",
        "1;a\n",
        "1;a=b\n",
        "1;a=\"\n\"",
        "1;a=\"\r\n\"",
    ] {
        assert_eq!(
            verdict(&format!("{line}\r\nx\r\n0\r\n\r\n")),
            Err(Malformed::Chunk),
            "{line}"
        );
    }
}

/// RFC 9112 §7.1: exactly CRLF after the content.
#[test]
fn chunk_ends() {
    for text in [
        "1\r\nxy",
        "1\r\nx\n",
        "1\r\nx\r\r",
        "1\r\nx0\r\n\r\n",
        "2\r\nx\r\n0\r\n\r\n",
        "0\n",
        "0\r\r",
        "1\n",
    ] {
        assert_eq!(verdict(text), Err(Malformed::Chunk), "{text:?}");
    }
    for text in ["0\r\n\n", "0\r\n\r\r", "0\r\n0\r\n\r\n"] {
        assert_eq!(verdict(text), Err(Malformed::Trailer), "{text:?}");
    }
    for text in [
        "",
        "1",
        "1\r",
        "1\r\n",
        "1\r\nx",
        "1\r\nx\r",
        "0\r\n",
        "0\r\n\r",
        "0\r\nA: b\r\n",
        "ffffffffffffffff\r\nx",
    ] {
        assert_eq!(verdict(text), Ok(None), "{text:?}");
    }
}

/// RFC 9110 §6.5, RFC 9112 §7.1.2.
#[test]
fn trailer_sections() {
    let body = |trailers: &str| {
        verdict(&format!("0\r\n{trailers}\r\n")).map(|end| end.map(|(_, trailers, _)| trailers))
    };
    for kept in [
        "A: b\r\n",
        "Content-Digest: x\r\netag:\"y\"\r\nServer-Timing:\t\r\n",
        "Grpc-Status: 0\r\n",
        "Date: x\r\n",
    ] {
        assert_eq!(body(kept), Ok(Some(kept.as_bytes().to_vec())), "{kept}");
    }
    assert_eq!(
        body("A: 1\r\nKeep-Alive: x\r\nB: 2\r\nupgrade: y\r\n"),
        Ok(Some(b"A: 1\r\nB: 2\r\n".to_vec()))
    );
    for refused in [
        "Host: a",
        "CONTENT-LENGTH: 5",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Trailer: A",
        "TE: x",
        "Content-Type: a/b",
        "Content-Encoding: gzip",
        "Content-Range: x",
        "Authorization: x",
        "Proxy-Authorization: x",
        "Cookie: x",
        "Set-Cookie: x",
        "Expect: 100-continue",
        "Cache-Control: no-store",
        "Max-Forwards: 1",
        "X-Forwarded-For: 1.2.3.4",
        "Forwarded: x",
        "Via: x",
        "A",
        "A : b",
        ": b",
        " A: b",
        "\tb",
        "A b: c",
        "A: b\0",
        "A: b\nB: c",
        "A: b\rB: c",
        "A: b\x7f",
        "ä: b",
        "A: b\r\n c",
    ] {
        assert_eq!(
            body(&format!("{refused}\r\n")),
            Err(Malformed::Trailer),
            "{refused}"
        );
    }
    assert!(body(&"A: b\r\n".repeat(LIMITS.fields)).is_ok());
    assert_eq!(
        body(&"A: b\r\n".repeat(LIMITS.fields + 1)),
        Err(Malformed::TooManyFields)
    );
    let line = format!("A: {}\r\n", "b".repeat(LIMITS.head - "A: \r\n\r\n".len()));
    assert!(body(&line).is_ok());
    assert_eq!(body(&format!("A{line}")), Err(Malformed::HeadTooLarge));
}

/// Extensions are read and dropped, up to a limit.
#[test]
fn extensions_are_limited() {
    let line = |extension: usize, content: usize| {
        format!(
            "{content:x};{}\r\n{}\r\n",
            "a".repeat(extension - 1),
            "x".repeat(content)
        )
    };
    assert!(verdict(&(line(LINE_EXTENSIONS, 1) + "0\r\n\r\n")).is_ok());
    assert_eq!(
        verdict(&line(LINE_EXTENSIONS + 1, 1)),
        Err(Malformed::Chunk)
    );
    // As many bytes of extensions as of content are allowed, however long the body is.
    assert!(verdict(&(line(1000, 1000).repeat(100) + "0\r\n\r\n")).is_ok());
    // An excess adds up over the body.
    assert!(verdict(&(line(101, 1).repeat(163) + "0\r\n\r\n")).is_ok());
    assert_eq!(
        verdict(&(line(101, 1).repeat(165) + "0\r\n\r\n")),
        Err(Malformed::Chunk)
    );
}

fn tolerant_verdict(text: &str) -> Decoded {
    let decode = |size| {
        decode_with(
            ChunkedDecoder::tolerant(LIMITS),
            text.as_bytes().chunks(size),
        )
    };
    let whole = decode(text.len());
    assert_eq!(decode(1), whole, "{text:?} byte by byte");
    whole
}

/// What nginx and HAProxy deliver of a server's chunks.
#[test]
fn odd_chunks_of_servers() {
    let zeros = format!("{}1", "0".repeat(100));
    for line in [
        "1 \r\n",
        "1\t \r\n",
        "1       \n",
        "1\n",
        "1;\r\n",
        "1; \n",
        "1;;a\r\n",
        "1;a b=(\r\n",
        "1 ;\u{1}\u{7f}ä\"\r\n",
        &zeros,
        "00000000000000001\r\n",
    ] {
        let line = if line == zeros {
            format!("{line}\r\n")
        } else {
            line.to_owned()
        };
        for end in ["\r\n", "\n"] {
            let text = format!("{line}x{end}0{end}{end}");
            let expected = Ok(Some((b"x".to_vec(), Vec::new(), text.len())));
            assert_eq!(tolerant_verdict(&text), expected, "{text:?}");
        }
    }
    for line in [
        "",
        " 1",
        "\t1",
        "+1",
        "-1",
        "0x1",
        "x",
        "1x",
        "1_0",
        "1 1",
        "1 x",
        "1.0",
        "1,a",
        "1\r\r",
        "1\rx",
        "1;a\0",
        "1;a\rb",
        "10000000000000000",
        "ffffffffffffffff0",
        "\r",
        "\n",
        ";a",
    ] {
        let text = format!("{line}\r\nx\r\n0\r\n\r\n");
        assert_eq!(tolerant_verdict(&text), Err(Malformed::Chunk), "{text:?}");
    }
    for text in [
        "1\r\nxy",
        "1\r\nx0\r\n\r\n",
        "1\r\nx\r0",
        "3\r\nx\r\n0\r\n\r\n",
    ] {
        assert_eq!(tolerant_verdict(text), Err(Malformed::Chunk), "{text:?}");
    }
}

/// Padding is allowed in each line, however small the chunks, but not without a limit.
#[test]
fn padding_is_limited_in_each_line() {
    let padded = |padding: usize| format!("1{}\r\nx\r\n", " ".repeat(padding));
    let text = padded(9).repeat(10_000) + "0\r\n\r\n";
    assert!(matches!(tolerant_verdict(&text), Ok(Some((content, ..))) if content.len() == 10_000));
    assert!(tolerant_verdict(&(padded(LINE_EXTENSIONS) + "0\r\n\r\n")).is_ok());
    for padding in [" ", "0", ";"] {
        let line = format!("0{}1\r\nx\r\n", padding.repeat(LINE_EXTENSIONS + 20));
        assert_eq!(tolerant_verdict(&line), Err(Malformed::Chunk));
    }
    let extended = "1;a\r\nx\r\n".repeat(20_000);
    assert_eq!(
        tolerant_verdict(&extended),
        Err(Malformed::Chunk),
        "extensions add up"
    );
}

/// RFC 9112 §7.1.2: bad trailers of a server do not fail the response.
#[test]
fn odd_trailers_of_servers_are_left_out() {
    for (trailers, kept) in [
        (
            "A: 1\r\nCache-Control: no-store\r\nB: 2\r\n",
            "A: 1\r\nB: 2\r\n",
        ),
        ("Content-Length: 5\nA:1\n", "A:1\r\n"),
        (
            "Set-Cookie: a\r\nTransfer-Encoding: chunked\r\nHost: x\r\nConnection: close\r\n",
            "",
        ),
        ("Keep-Alive: x\r\nA: 1\r\nUpgrade: y\r\n", "A: 1\r\n"),
        ("no field\r\nA : b\r\n: c\r\nA b: c\r\nD: 1\r\n", "D: 1\r\n"),
        ("A: 1\u{1}\u{7f}\t2\r\n", "A: 1  \t2\r\n"),
        ("A: 1\r\n B: 2\r\n\tC: 3\r\nD: 4\r\n", "D: 4\r\n"),
        (" A: 1\r\nB: 2\r\nC\r\n D: 3\r\n", "B: 2\r\n"),
    ] {
        let text = format!("0\r\n{trailers}\r\n");
        let expected = Ok(Some((Vec::new(), kept.as_bytes().to_vec(), text.len())));
        assert_eq!(tolerant_verdict(&text), expected, "{trailers:?}");
    }
    let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(LIMITS.fields + 5));
    let kept = "A: b\r\n".repeat(LIMITS.fields).into_bytes();
    assert_eq!(
        tolerant_verdict(&many),
        Ok(Some((Vec::new(), kept, many.len())))
    );
    for refused in ["A: b\0\r\n", "A: b\rc\r\n", "A: b\r\r\n"] {
        let text = format!("0\r\n{refused}\r\n");
        assert_eq!(
            tolerant_verdict(&text),
            Err(Malformed::Trailer),
            "{refused:?}"
        );
    }
    let endless = format!("0\r\nA: {}", "b".repeat(LIMITS.head));
    assert_eq!(tolerant_verdict(&endless), Err(Malformed::HeadTooLarge));
}
