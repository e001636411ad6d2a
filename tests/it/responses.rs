//! Responses of every framing, to clients of both versions, whole and in pieces.

use std::thread;
use std::time::Duration;

use crate::support::{Client, Config, Framing, Gate, Juggler, Origin, OriginConn, Response, check};

/// Large enough to fill every buffer on the way.
const LARGE: u64 = 20 << 20;

/// How a server ends a body.
#[derive(Clone, Copy, Debug)]
enum From {
    Length,
    Chunked,
    Close,
    CloseOld,
}

/// Sends a response with this body. Returns `true` if the connection continues.
fn send_as(conn: &mut OriginConn, from: From, body: &[u8]) -> bool {
    match from {
        From::Length => {
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            conn.send(body);
            true
        }
        From::Chunked => {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // Sizes that match no buffer's size.
            for (index, chunk) in body.chunks(65_537).enumerate() {
                conn.send(format!("{:x};n={index}\r\n", chunk.len()));
                conn.send(chunk);
                conn.send("\r\n");
            }
            conn.send("0\r\n\r\n");
            true
        }
        From::Close => {
            conn.send("HTTP/1.1 200 OK\r\n\r\n");
            conn.send(body);
            false
        }
        From::CloseOld => {
            conn.send("HTTP/1.0 200 OK\r\n\r\n");
            conn.send(body);
            false
        }
    }
}

const ALL: [From; 4] = [From::Length, From::Chunked, From::Close, From::CloseOld];

/// A server that responds to `/SIZE` in this framing, and the balancer with one connection to it.
fn sizes(from: From) -> (Origin, Juggler) {
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let size = request.target[1..].parse().unwrap();
            if !send_as(conn, from, &check::bytes(0, size)) {
                return;
            }
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    (origin, juggler)
}

/// The clients' versions: HTTP/1.1, HTTP/1.0 that keeps the connection, HTTP/1.0 that does not.
const CLIENTS: [(&str, &str); 3] = [
    ("HTTP/1.1\r\nHost: a", "1.1"),
    ("HTTP/1.0\r\nConnection: keep-alive", "1.0 kept"),
    ("HTTP/1.0", "1.0"),
];

#[track_caller]
fn is_framed(response: &Response, from: From, to: &str) {
    let (framing, closes) = match (from, to) {
        (From::Length, "1.0") => (Framing::Length, true),
        (From::Length, _) => (Framing::Length, false),
        (_, "1.1") => (Framing::Chunked, false),
        // The end of the connection, whatever such a client asks for: nothing else can mark the end
        // of the body.
        _ => (Framing::Close, true),
    };
    assert_eq!(
        (response.framing, response.closes()),
        (framing, closes),
        "{from:?} to {to}"
    );
    let says_close = response.all("connection") == ["close"];
    assert_eq!(says_close, closes, "{from:?} to {to}");
    assert_eq!(
        response.all("connection") == ["keep-alive"],
        !closes && to != "1.1",
        "{from:?} to {to}"
    );
    // The version is the balancer's, not the client's (RFC 9110 §2.5).
    assert_eq!(response.minor, 1);
}

#[test]
fn every_framing_reaches_every_client() {
    for from in ALL {
        let (origin, juggler) = sizes(from);
        for (version, to) in CLIENTS {
            for size in [0_u64, 1, 2000, 300_000] {
                let mut client = Client::connect(juggler.address());
                let response = client
                    .exchange(format!("GET /{size} {version}\r\n\r\n"))
                    .expect(200);
                assert_eq!(response.body.len() as u64, size, "{from:?} to {to}");
                assert!(response.body == check::bytes(0, size), "{from:?} to {to}");
                is_framed(&response, from, to);
                if response.closes() {
                    client.expect_closed();
                } else {
                    client
                        .exchange(format!("GET /1 {version}\r\n\r\n"))
                        .expect(200);
                }
            }
        }
        if matches!(from, From::Length | From::Chunked) {
            assert_eq!(origin.connections_ever(), 1, "{from:?}");
        }
        origin.assert_no_failures();
    }
}

#[test]
fn a_large_body_of_every_framing_is_byte_exact() {
    let expected = check::bytes(0, LARGE);
    for from in ALL {
        let (_origin, juggler) = sizes(from);
        for (version, to) in [CLIENTS[0], CLIENTS[2]] {
            let mut client = Client::connect(juggler.address());
            let response = client
                .exchange(format!("GET /{LARGE} {version}\r\n\r\n"))
                .expect(200);
            is_framed(&response, from, to);
            assert!(
                response.body == expected,
                "{from:?} to {to}: {} bytes",
                response.body.len()
            );
        }
    }
}

#[test]
fn a_large_body_arrives_though_it_is_read_late() {
    let expected = check::bytes(0, LARGE);
    for from in [From::Length, From::Chunked, From::Close] {
        let (origin, juggler) = sizes(from);
        let mut slow = Client::connect(juggler.address());
        slow.send(format!("GET /{LARGE} HTTP/1.1\r\nHost: a\r\n\r\n"));
        origin.wait_for_requests(1);
        // The only connection is free again before the client has read a byte.
        let mut other = Client::connect(juggler.address());
        assert_eq!(other.get("/3").expect(200).body.len(), 3, "{from:?}");
        let response = slow.read_response().expect(200);
        assert!(
            response.body == expected,
            "{from:?}: {} bytes",
            response.body.len()
        );
        assert_eq!(slow.get("/3").expect(200).body.len(), 3, "{from:?}");
    }
}

#[test]
fn a_body_is_passed_on_as_it_comes() {
    for from in [From::Chunked, From::Close] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::start(move |conn, _| {
            conn.request();
            match from {
                From::Chunked => {
                    conn.send(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
                    );
                }
                _ => conn.send("HTTP/1.1 200 OK\r\n\r\nfirst"),
            }
            held.wait();
            match from {
                From::Chunked => conn.send("6\r\nsecond\r\n0\r\n\r\n"),
                _ => conn.send("second"),
            }
        });
        let juggler = Config::new([origin.address()])
            .cluster("capacity = 1")
            .start();
        let mut client = Client::connect(juggler.address());
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n5\r\nfirst\r\n") {
            got.extend(client.read_some());
        }
        gate.open();
        assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(
            client.read_exactly(16),
            b"6\r\nsecond\r\n0\r\n\r\n"[..16],
            "{from:?}"
        );
    }
}

/// Responses whose pieces may be split anywhere, and what a client gets of each.
const TO_SPLIT: [(&str, &str); 5] = [
    (
        "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "HTTP/1.1 103 Early\r\nL: l\r\n\r\nHTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: \
         2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\nhi",
    ),
    (
        "HTTP/1.1 204 No\r\nDate: d\r\n\r\n",
        "HTTP/1.1 204 No\r\nDate: d\r\n\r\n",
    ),
    (
        "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: \
         chunked\r\n\r\n3;a=\"b\"\r\nhel\r\n02\r\nlo\r\n0\r\nX: y\r\n\r\n",
        "",
    ),
    ("HTTP/1.1 200 OK\r\nDate: d\r\n\r\nhello", ""),
];

#[test]
fn responses_may_come_apart_anywhere() {
    thread::scope(|scope| {
        for (answer, expected) in TO_SPLIT {
            scope.spawn(move || split_everywhere(answer, expected));
        }
    });
}

fn split_everywhere(answer: &'static str, expected: &str) {
    let closes = !answer.contains("Content-Length")
        && !answer.contains("chunked")
        && !answer.contains("204");
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let at: usize = request.target[1..].parse().unwrap();
            if at == 0 {
                for byte in answer.bytes() {
                    conn.send([byte]);
                }
            } else {
                let (first, second) = answer.split_at(at);
                conn.send(first);
                // The pause lets nothing happen. It makes the balancer read the two pieces apart
                // most of the time.
                thread::sleep(Duration::from_millis(1));
                conn.send(second);
            }
            if closes {
                return;
            }
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    for at in 0..=answer.len() {
        let response = client.get(&format!("/{at}"));
        if !expected.is_empty() {
            assert_eq!(
                String::from_utf8(response.raw).unwrap(),
                expected,
                "split at {at}"
            );
            continue;
        }
        assert_eq!(
            (response.status, response.framing),
            (200, Framing::Chunked),
            "split at {at}"
        );
        assert_eq!(response.text(), "hello", "split at {at}");
        assert_eq!(
            response.trailers.len(),
            usize::from(!closes),
            "split at {at}"
        );
    }
    origin.assert_no_failures();
}

#[test]
fn an_interim_and_a_final_response_in_one_segment_are_two() {
    let origin = Origin::start(|conn, _| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: \
                 <a>\r\n\r\nHTTP/1.1 404 Nope\r\nDate: d\r\nContent-Length: 2\r\n\r\nno",
            );
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let early = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n";
        let last = "HTTP/1.1 404 Nope\r\nDate: d\r\nContent-Length: 2\r\n\r\nno";
        let got = client.read_exactly(early.len() + last.len());
        assert_eq!(String::from_utf8(got).unwrap(), format!("{early}{last}"));
    }
    assert!(client.leftover().is_empty());
    assert_eq!(origin.connections_ever(), 1);
}

#[test]
fn every_status_of_a_server_passes() {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let status = request.target[1..].parse().unwrap();
            conn.answer(status, "as it was");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    for status in [
        200, 201, 206, 226, 299, 300, 301, 302, 307, 308, 399, 400, 401, 404, 408, 418, 429, 451,
        499, 500, 501, 502, 503, 504, 599, 600, 999,
    ] {
        let response = client.get(&format!("/{status}")).expect(status);
        assert_eq!(
            (response.text().as_str(), response.reason.as_str()),
            ("as it was", "Status")
        );
    }
    origin.assert_no_failures();
}

#[test]
fn what_cannot_be_a_response_is_a_502() {
    for wrong in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc: d\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \u{0}\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        let origin = Origin::start(move |conn, _| {
            conn.request();
            conn.send(wrong);
            // Not the end of the connection makes the response wrong.
            conn.wait_for_close();
        });
        let juggler = Config::new([origin.address()])
            .cluster("capacity = 1")
            .start();
        let mut client = Client::connect(juggler.address());
        let response = client.get("/");
        assert_eq!(response.status, 502, "{wrong:?}: {:?}", response.text());
        assert!(
            response.text().starts_with("502 Bad Gateway: the server"),
            "{}",
            response.text()
        );
        assert!(!response.closes(), "that is no fault of the client's");
        assert_eq!(
            origin.requests().len(),
            1,
            "{wrong:?} is no reason to try again"
        );
    }
}

#[test]
fn a_large_response_head_passes_up_to_its_limit() {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let value = "x".repeat(request.target[1..].parse().unwrap());
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nX: {value}\r\nContent-Length: 2\r\n\r\nhi"
            ));
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\nlimit = { head = \"300KiB\" }")
        .start();
    let mut client = Client::connect(juggler.address());
    for size in [1000, 60_000, 140_000, 290_000] {
        let response = client.get(&format!("/{size}")).expect(200);
        assert_eq!(response.field("x").map(str::len), Some(size));
        assert_eq!(response.text(), "hi");
    }
    let response = client.get("/310000").expect(502);
    assert!(response.text().contains("too large"), "{}", response.text());
}
