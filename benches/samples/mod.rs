//! Heads and bodies as they come in practice, and as large as the limits allow.

use juggler::http::{Edits, NAMING};
use juggler::proto::h1::{HeadLimits, write_chunk_size, write_last_chunk};

/// The balancer's default limits.
pub(crate) const LIMITS: HeadLimits = HeadLimits {
    head: 32 * 1024,
    fields: 100,
    target: 8 * 1024,
};

/// What the balancer adds to a request with its default settings.
pub(crate) fn forwarded() -> Edits {
    let mut edits = Edits::default();
    edits.omit(&NAMING);
    edits.add("X-Forwarded-For", &[b"203.0.113.77"]);
    edits.add("X-Forwarded-Proto", &[b"https"]);
    edits.add("X-Forwarded-Host", &[b"www.example.org"]);
    edits
}

/// The value of a Date field.
pub(crate) const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

const CURL: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n\
      User-Agent: curl/8.14.1\r\nAccept: */*\r\n\r\n";

const BROWSER: &[u8] = b"GET /articles/2026/11/a-title?utm_source=feed HTTP/1.1\r\n\
    Host: www.example.org\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.org/articles/\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=4f9d1c0be7a85326; theme=dark; consent=1\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\r\n";

const NGINX: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.26.3\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/html\r\n\
    Content-Length: 1024\r\n\
    Last-Modified: Fri, 04 Nov 1994 12:00:00 GMT\r\n\
    Connection: keep-alive\r\n\
    ETag: \"2eba15c0-400\"\r\n\
    Accept-Ranges: bytes\r\n\r\n";

/// Request heads by name: a short one, a browser's, one with a long cookie, one with the most
/// fields that are allowed.
pub(crate) fn requests() -> [(&'static str, Vec<u8>); 4] {
    let cookie = format!(
        "GET / HTTP/1.1\r\nHost: www.example.org\r\nCookie: {}\r\n\r\n",
        "x".repeat(4096)
    );
    let mut full = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n".to_vec();
    add_fields(&mut full, LIMITS.fields - 1);
    [
        ("curl", CURL.to_vec()),
        ("browser", BROWSER.to_vec()),
        ("4K_cookie", cookie.into_bytes()),
        ("100_fields", full),
    ]
}

/// Response heads by name: that of a static file, and one with many fields.
pub(crate) fn responses() -> [(&'static str, Vec<u8>); 2] {
    let mut full = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n".to_vec();
    add_fields(&mut full, 39);
    [("nginx", NGINX.to_vec()), ("40_fields", full)]
}

/// A chunked body with `content` bytes of content, in chunks of `chunk` bytes.
pub(crate) fn chunked(content: usize, chunk: usize) -> Vec<u8> {
    let mut body = Vec::new();
    let mut left = content;
    while left > 0 {
        let size = left.min(chunk);
        write_chunk_size(&mut body, size);
        body.resize(body.len() + size, b'x');
        body.extend_from_slice(b"\r\n");
        left -= size;
    }
    write_last_chunk(&mut body, &[]);
    body
}

fn add_fields(head: &mut Vec<u8>, count: usize) {
    for number in 0..count {
        head.extend_from_slice(
            format!("X-Field-Number-{number}: value of field {number}\r\n").as_bytes(),
        );
    }
    head.extend_from_slice(b"\r\n");
}
