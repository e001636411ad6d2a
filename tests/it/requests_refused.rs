//! Requests that are refused: with the right status, at once, and without a byte of them reaching a
//! server.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Juggler, Origin, PATIENCE, eventually};

/// Shorter than the timeouts of [`guarded`]: an answer that waits for more bytes comes too late.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A server that keeps what it receives, behind one connection, and the balancer before it with an
/// access log. The timeouts are so long that they never end a request.
fn guarded(listener: &str) -> (Origin, Juggler) {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .listener("timeout = { header = \"60s\", body = \"60s\", idle = \"60s\" }")
        .listener(listener)
        .cluster("capacity = 1")
        .start();
    (origin, juggler)
}

/// Requests, each with the status that refuses it.
type Cases = Vec<(u16, Vec<u8>)>;

fn cases<B: AsRef<[u8]>>(status: u16, requests: impl IntoIterator<Item = B>) -> Cases {
    requests
        .into_iter()
        .map(|request| (status, request.as_ref().to_vec()))
        .collect()
}

/// Sends each request on a connection of its own: whole, and byte by byte. Then checks what the
/// server and the log have seen.
#[track_caller]
fn are_refused(all: &Cases, listener: &str) {
    let (origin, juggler) = guarded(listener);
    let mut expected = BTreeMap::new();
    for (status, request) in all {
        let name = name_of(request);
        // Megabytes byte by byte would prove nothing more.
        let pieces = if request.len() < 2000 { 2 } else { 1 };
        for drip in 0..pieces {
            is_refused(&juggler, *status, drip > 0, request, &name);
        }
        *expected.entry(*status).or_insert(0) += pieces;
    }
    nothing_arrived(&origin, &juggler);
    expected.insert(200, 1);
    is_logged(&juggler, &expected);
}

fn name_of(request: &[u8]) -> String {
    String::from_utf8_lossy(&request[..request.len().min(200)])
        .escape_debug()
        .to_string()
}

#[track_caller]
fn is_refused(juggler: &Juggler, status: u16, drip: bool, request: &[u8], name: &str) {
    let mut client = Client::connect(juggler.address());
    client.set_patience(AT_ONCE);
    if drip {
        client.send_slowly(request);
    } else {
        client.send(request);
    }
    let response = client
        .try_read_response(false)
        .unwrap_or_else(|problem| panic!("no answer to \"{name}\": {problem}"));
    let text = response.text();
    assert_eq!(response.status, status, "\"{name}\": {text}");
    assert_eq!(response.all("connection"), ["close"], "\"{name}\"");
    assert!(
        text.starts_with(&format!("{status} ")) && text.contains(": "),
        "\"{name}\" has an answer with the reason: {text}"
    );
    client.expect_closed();
}

/// Expects that the server's only connection has seen nothing before one good request.
#[track_caller]
fn nothing_arrived(origin: &Origin, juggler: &Juggler) {
    Client::connect(juggler.address())
        .exchange("GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .expect(200);
    let got = origin.request();
    assert_eq!(
        got.head(),
        "GET /good HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(origin.connections_ever(), 1);
    origin.assert_no_failures();
}

/// Expects the right number of lines for each status in the access log. Lines of refused requests
/// have flags and a reason.
#[track_caller]
fn is_logged(juggler: &Juggler, expected: &BTreeMap<u16, usize>) {
    let total = expected.values().sum();
    eventually(PATIENCE, "all are logged", || {
        juggler.output().len() >= total
    });
    let mut found = BTreeMap::new();
    for line in juggler.output() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let status = u16::try_from(line["status"].as_u64().unwrap()).unwrap();
        *found.entry(status).or_insert(0) += 1;
        if status != 200 {
            assert_eq!(
                (&line["end"], &line["server"]),
                (&"PR".into(), &"-".into()),
                "{line}"
            );
            assert_ne!(line["reason"], "", "{line}");
        }
    }
    assert_eq!(&found, expected);
}

/// An HTTP/1.1 request with these field lines.
fn with_fields(fields: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

/// A chunked request with this body.
fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    [head.as_bytes(), body.as_ref()].concat()
}

#[test]
fn line_ends_that_two_parsers_could_see_differently() {
    are_refused(
        &cases(
            400,
            [
                "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\nHost: a\n\n",
                "GET / HTTP/1.1\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\n\n",
                "GET / HTTP/1.1\r\nHost: a\r\nX: b\nc\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET /\n HTTP/1.1\r\nHost: a\r\n\r\n",
                "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\rHost: a\r\n\r\n",
                "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\n\rX",
                // More empty lines than a client sends by mistake.
                "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            ],
        ),
        "",
    );
}

#[test]
fn fields_that_are_none() {
    let control: Vec<_> = [0_u8, 1, 8, 0x0b, 0x0c, 0x0e, 0x1b, 0x1f, 0x7f]
        .into_iter()
        .flat_map(|byte| {
            let byte = char::from(byte);
            [
                format!("GET / HTTP/1.1\r\nHost: a\r\nX: b{byte}c\r\n\r\n"),
                format!("GET / HTTP/1.1\r\nHost: a\r\nX: {byte}\r\n\r\n"),
                format!("GET / HTTP/1.1\r\nHost: a\r\nX{byte}: c\r\n\r\n"),
                format!("GET /{byte} HTTP/1.1\r\nHost: a\r\n\r\n"),
                format!("G{byte}T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ]
        })
        .collect();
    let mut all = cases(400, control);
    all.extend(cases(
        400,
        [
            // Folded lines.
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            // Whitespace before the colon.
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\na",
            // Names that are no tokens, and lines that are no fields.
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX(Y): b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\"X\": b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nÄ: b\r\n\r\n",
        ],
    ));
    are_refused(&all, "");
}

#[test]
fn request_lines_and_targets_that_are_none() {
    let mut all = cases(
        400,
        [
            "GET /\r\n\r\n",
            "GET\r\n\r\n",
            "GET HTTP/1.1\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.10\r\nHost: a\r\n\r\n",
            "GET / HTTP/1,1\r\nHost: a\r\n\r\n",
            "GET / XTTP/1.1\r\nHost: a\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "{\"json\": true}\r\n\r\n",
            // Targets.
            "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /ä HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:/x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    );
    // The beginning of a TLS ClientHello.
    all.extend(cases(
        400,
        [b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03".as_slice()],
    ));
    all.extend(cases(
        505,
        [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            "GET / HTTP/0.9\r\n\r\n",
            "GET / HTTP/3.0\r\n\r\n",
        ],
    ));
    all.extend(cases(
        501,
        [
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            "CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        ],
    ));
    are_refused(&all, "");
}

#[test]
fn hosts_that_are_missing_double_or_none() {
    are_refused(
        &cases(
            400,
            [
                "GET / HTTP/1.1\r\n\r\n",
                "GET http://a/ HTTP/1.1\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
                "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: http://a\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n",
                "GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
                // An authority in the target does not mend a wrong Host.
                "GET http://a/ HTTP/1.1\r\nHost: a b\r\n\r\n",
                "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
            ],
        ),
        "",
    );
}

#[test]
fn lengths_that_are_unclear() {
    let mut all = Cases::new();
    for length in [
        "+5",
        "-1",
        "5, 5",
        "5,6",
        "0x5",
        "",
        " ",
        "5 5",
        "5;",
        "5.0",
        "a",
        "five",
        "18446744073709551616",
        "99999999999999999999999",
        "５",
    ] {
        all.extend(cases(
            400,
            [with_fields(&format!("Content-Length: {length}")) + "hello"],
        ));
    }
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nX: y\r\ncontent-length: 4",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chun ked",
    ] {
        all.extend(cases(400, [with_fields(fields) + "0\r\n\r\n"]));
    }
    for old in [
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: \
         keep-alive\r\n\r\n0\r\n\r\n",
    ] {
        all.extend(cases(400, [old]));
    }
    for fields in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ] {
        all.extend(cases(501, [with_fields(fields) + "0\r\n\r\n"]));
    }
    are_refused(&all, "");
}

#[test]
fn chunks_that_are_none() {
    let bodies = [
        // Sizes.
        "\r\n",
        "g\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1\t\r\na\r\n0\r\n\r\n",
        "1 1\r\na\r\n0\r\n\r\n",
        "11111111111111111\r\n",
        "00000000000000001\r\na\r\n0\r\n\r\n",
        "1,1\r\na\r\n0\r\n\r\n",
        // Line ends.
        "1\na\r\n0\r\n\r\n",
        "1\ra\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "2\r\na\r\n0\r\n\r\n",
        "1\r\na\r\n0\n\r\n",
        "1\r\na\r\n0\r\n\n",
        "0\r\n\rX",
        // Extensions.
        "1;\r\na\r\n0\r\n\r\n",
        "1;a=\r\na\r\n0\r\n\r\n",
        "1;=b\r\na\r\n0\r\n\r\n",
        "1;a\nb\r\na\r\n0\r\n\r\n",
        "1;a=\"b\r\na\r\n0\r\n\r\n",
        "1;a=\"b\"c\r\na\r\n0\r\n\r\n",
        "1;a\u{0}\r\na\r\n0\r\n\r\n",
        "1;a=\"\n\"\r\na\r\n0\r\n\r\n",
        "1;a b\r\na\r\n0\r\n\r\n",
        "0;\n\r\n\r\n",
        // Trailer lines.
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: \u{0}\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX: y\rz\r\n\r\n",
    ];
    let mut all = cases(400, bodies.map(chunked));
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    all.extend(cases(400, [chunked(long)]));
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Connection",
        "Trailer",
        "TE",
        "Expect",
        "Authorization",
        "Cookie",
        "Content-Type",
        "Content-Encoding",
        "Range",
        "Cache-Control",
        "X-Forwarded-For",
        "Forwarded",
        "X-Request-Id",
        "Via",
        "proxy-authorization",
    ] {
        all.extend(cases(
            400,
            [chunked(format!("1\r\na\r\n0\r\nX: y\r\n{name}: 1\r\n\r\n"))],
        ));
    }
    let many: String = (0..101)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect();
    let large = format!("X: {}\r\n", "y".repeat(33 << 10));
    all.extend(cases(
        431,
        [many, large].map(|trailers| chunked(format!("0\r\n{trailers}\r\n"))),
    ));
    are_refused(&all, "");
}

#[test]
fn what_is_too_large() {
    let long = |length: usize| "x".repeat(length);
    let many: String = (0..100)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect();
    let mut all = cases(
        431,
        [
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", long(33 << 10)),
            // A head without an end is too large as well.
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", long(33 << 10)),
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}",
                format!("X: {}\r\n", long(1000)).repeat(33)
            ),
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
            format!("GET / HTTP/1.1\r\nHost: a\r\n{many}"),
        ],
    );
    all.extend(cases(
        414,
        [
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(8 << 10)),
            format!("GET /{}", long(9 << 10)),
            format!("GET http://a/{} HTTP/1.1\r\nHost: a\r\n\r\n", long(8 << 10)),
        ],
    ));
    all.extend(cases(
        413,
        [
            with_fields("Content-Length: 1001"),
            with_fields("Content-Length: 1001\r\nExpect: 100-continue"),
            with_fields("Content-Length: 18446744073709551615"),
            with_fields("Content-Length: 1001") + &long(1001),
            format!(
                "{}3e9\r\n{}\r\n0\r\n\r\n",
                with_fields("Transfer-Encoding: chunked"),
                long(1001)
            ),
            format!(
                "{}{}",
                with_fields("Transfer-Encoding: chunked"),
                "1\r\nx\r\n".repeat(1001)
            ),
            // The announced size decides, so the client need not send so much.
            format!("{}3e9\r\nx", with_fields("Transfer-Encoding: chunked")),
            format!(
                "{}ffffffffffffffff\r\nx",
                with_fields("Transfer-Encoding: chunked")
            ),
        ],
    ));
    are_refused(&all, "limit = { body = \"1000B\" }");
}

#[test]
fn a_method_that_is_longer_than_any_is_refused_before_it_ends() {
    are_refused(&cases(400, ["X".repeat(9 << 10)]), "");
}

#[test]
fn what_is_just_small_enough_passes() {
    let (origin, juggler) = guarded("limit = { body = \"1000B\" }");
    let mut client = Client::connect(juggler.address());
    let target = format!("/{}", "x".repeat((8 << 10) - 1));
    let many: String = (0..99).map(|number| format!("X-{number}: y\r\n")).collect();
    let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
    let body = "x".repeat(1000);
    for request in [
        format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "y".repeat((32 << 10) - rest)
        ),
        with_fields("Content-Length: 1000") + &body,
        format!(
            "{}3e8\r\n{body}\r\n0\r\n\r\n",
            with_fields("Transfer-Encoding: chunked")
        ),
    ] {
        client.exchange(&request).expect(200);
    }
    let got = origin.requests();
    assert!(got[0].target == target);
    assert_eq!(got[1].fields.len(), 101, "Connection is added here");
    assert_eq!(got[2].field("x").map(str::len), Some((32 << 10) - rest));
    assert_eq!((got[3].body.len(), got[4].body.len()), (1000, 1000));
}

#[test]
fn expectations_that_cannot_be_met() {
    are_refused(
        &cases(
            417,
            [
                with_fields("Expect: 200-ok\r\nContent-Length: 5"),
                with_fields("Expect: 100-continue, x\r\nContent-Length: 5"),
                with_fields("Expect: 100-continue\r\nExpect: x\r\nContent-Length: 5"),
                with_fields("Expect:\r\nContent-Length: 0"),
            ],
        ),
        "",
    );
}

#[test]
fn a_refused_head_request_gets_no_body() {
    let (origin, juggler) = guarded("");
    let mut client = Client::connect(juggler.address());
    client.send("HEAD / HTTP/1.1\r\n\r\n");
    let raw = String::from_utf8(client.read_to_end()).unwrap();
    assert!(
        raw.starts_with("HTTP/1.1 400 Bad Request\r\n") && raw.ends_with("\r\n\r\n"),
        "{raw}"
    );
    assert!(raw.contains("\r\nContent-Length: "), "{raw}");
    // This HEAD has no effect on other connections.
    is_refused(&juggler, 400, false, b"\x00", "NUL");
    assert!(origin.requests().is_empty());
}

#[test]
fn the_log_tells_what_was_refused() {
    let (_origin, juggler) = guarded("");
    for (request, line) in [
        ("GET /lf HTTP/1.1\nHost: a\r\n\r\n", "GET /lf HTTP/1.1"),
        ("GET /no-host HTTP/1.1\r\n\r\n", "GET /no-host HTTP/1.1"),
        (
            "GET /fold HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET /fold HTTP/1.1",
        ),
        ("BAD\u{1} line", "BAD\u{1} line"),
    ] {
        let mut client = Client::connect(juggler.address());
        client.exchange(request).expect(400);
        let logged = juggler.wait_for_output(&serde_json::json!(line).to_string());
        let logged: serde_json::Value = serde_json::from_str(&logged).unwrap();
        assert_eq!(logged["request"], line);
        assert_eq!(
            (&logged["status"], &logged["end"]),
            (&400.into(), &"PR".into())
        );
        assert_eq!(logged["client"], "127.0.0.1");
        assert_eq!(
            logged["host"], "",
            "a request that is refused leaves nothing to guess"
        );
    }
}

#[test]
fn a_refusal_arrives_though_the_client_sends_on() {
    let (origin, juggler) = guarded("limit = { body = \"1000B\" }");
    let (head, mut sender) = Client::connect(juggler.address()).split();
    let writer = thread::spawn(move || {
        use std::io::Write as _;
        let head = with_fields("Content-Length: 3000000");
        // Less than the balancer reads and discards after an answer that ends the connection.
        sender
            .write_all(head.as_bytes())
            .and_then(|()| sender.write_all(&vec![b'x'; 3_000_000]))
    });
    let mut client = Client::from_tcp(head);
    client.read_response().expect(413);
    client.expect_closed();
    writer.join().unwrap().unwrap();
    assert!(origin.requests().is_empty());
}

/// Sends the bytes one by one with a pause between them, until all are sent or the connection is
/// gone. Returns what came back, and the time.
fn drip(juggler: &Juggler, bytes: Vec<u8>, pause: Duration) -> (Vec<u8>, Duration) {
    let (receiver, mut sender) = Client::connect(juggler.address()).split();
    let began = Instant::now();
    let writer = thread::spawn(move || {
        use std::io::Write as _;
        for byte in bytes {
            if sender.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(pause);
        }
    });
    let answer = Client::from_tcp(receiver).read_to_end();
    let took = began.elapsed();
    writer.join().unwrap();
    (answer, took)
}

#[test]
fn a_drip_does_not_reset_the_time_for_a_head_or_a_body() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .listener("timeout = { header = \"300ms\", body = \"300ms\", idle = \"60s\" }")
        .cluster("capacity = 1")
        .start();
    let endless = "X".repeat(60);
    let head = format!("GET / HTTP/1.1\r\nX: {endless}");
    let body = with_fields("Content-Length: 1000") + &endless;
    let chunks = with_fields("Transfer-Encoding: chunked") + "fff\r\n" + &endless;
    thread::scope(|scope| {
        let drips = [(head, 0), (body, 0), (chunks, 0)].map(|(request, _)| {
            let juggler = &juggler;
            scope.spawn(move || {
                // The head of a request with a body comes at once, for it has a time limit of its
                // own.
                drip(juggler, request.into_bytes(), Duration::from_millis(10))
            })
        });
        for drip in drips {
            let (answer, took) = drip.join().unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(
                answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
                "{answer}"
            );
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            assert!(took >= Duration::from_millis(290), "{took:?}");
            assert!(took < Duration::from_secs(5), "{took:?}");
        }
    });
    eventually(PATIENCE, "logged", || juggler.output().len() == 3);
    for line in juggler.output() {
        assert!(
            line.contains("\"end\":\"cR\"") && line.contains("\"status\":408"),
            "{line}"
        );
    }
    // A client that stops in the middle of a request gets an answer too.
    let mut client = Client::connect(juggler.address());
    client.send("GET / HT");
    client.read_response().expect(408);
    client.expect_closed();
    assert!(origin.requests().is_empty());
}

#[test]
fn a_client_that_sends_nothing_is_let_go_in_silence() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .listener("timeout = { header = \"60s\", idle = \"150ms\" }")
        .cluster("capacity = 1")
        .start();
    let mut silent = Client::connect(juggler.address());
    let mut almost = Client::connect(juggler.address());
    almost.send("\r\n\r\n\r");
    let mut served = Client::connect(juggler.address());
    served.get("/").expect(200);
    let began = Instant::now();
    for client in [&mut silent, &mut almost, &mut served] {
        client.expect_closed();
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(
        juggler.output().len(),
        1,
        "only the request is in the log: {:#?}",
        juggler.output()
    );
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_request_that_is_refused_is_told_the_cause() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()]).start();
    for (request, cause) in [
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "no Host field, more than one, or one that names no host",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\nc\r\n\r\n",
            "a line feed without a carriage return before it, or the reverse",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: \
             chunked\r\n\r\n",
            "Content-Length and Transfer-Encoding together",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
            "a chunk whose size line or end is none",
        ),
    ] {
        let mut client = Client::connect(juggler.address());
        client.send(request);
        let response = client.read_response().expect(400);
        let expected = format!("400 Bad Request: the request is malformed: {cause}\n");
        assert_eq!(response.text(), expected);
    }
}
