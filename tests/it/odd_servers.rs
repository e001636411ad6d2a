//! Servers whose HTTP is odd and harmless. What nginx and HAProxy deliver is delivered, written
//! anew, and harms no other exchange.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use socket2::SockRef;

use crate::support::patient::{changes, wait_for_changes};
use crate::support::{
    Client, Config, Framing, Gate, Juggler, Origin, PATIENCE, Response, eventually,
};

/// A server that sends this to all requests for `/odd`, and closes nothing by itself.
fn saying(odd: impl Into<Vec<u8>>) -> Origin {
    let odd = odd.into();
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/odd" {
                conn.send(&odd);
            } else {
                conn.answer(200, "good");
            }
        }
    })
}

fn before(origin: &Origin) -> Juggler {
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    origin.wait_for_connections(1);
    juggler
}

/// What the client gets of it, and whether the server's connection was used again.
fn delivered(method: &str, odd: impl Into<Vec<u8>>) -> (Response, bool) {
    let origin = saying(odd);
    let juggler = before(&origin);
    let mut client = Client::connect(juggler.address());
    // The client is strict: it accepts no unclear framing.
    let response = client.exchange(format!("{method} /odd HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(
        !response.closes(),
        "the client's connection is not affected"
    );
    assert_eq!(client.get("/").expect(200).text(), "good");
    origin.assert_no_failures();
    (response, origin.connections_ever() == 1)
}

#[test]
fn what_has_no_content_ends_at_the_empty_line_whatever_its_fields_say() {
    for (status, fields, is_kept) in [
        ("204 No Content", "", true),
        ("204 No Content", "Content-Length: 0\r\n", true),
        ("204 No Content", "Content-Length: 5\r\n", false),
        ("204 No Content", "Content-Length: 5, 6\r\n", false),
        ("204 No Content", "Content-Length: many\r\n", false),
        ("204 No Content", "Transfer-Encoding: chunked\r\n", false),
        (
            "204 No Content",
            "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n",
            false,
        ),
        ("304 Not Modified", "Transfer-Encoding: chunked\r\n", false),
        ("304 Not Modified", "Content-Length: many\r\n", false),
    ] {
        // With bytes that should not be there, and without: they never become another client's
        // response.
        for body in [
            "",
            "hello",
            "0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        ] {
            let odd = format!("HTTP/1.1 {status}\r\n{fields}X: y\r\n\r\n{body}");
            let (response, was_kept) = delivered("GET", odd);
            assert_eq!(
                response.status,
                status[..3].parse::<u16>().unwrap(),
                "{fields} {body}"
            );
            assert_eq!(
                (response.framing, response.field("x")),
                (Framing::None, Some("y"))
            );
            assert_eq!(response.field("content-length"), None, "{fields}");
            assert_eq!(response.field("transfer-encoding"), None, "{fields}");
            assert_eq!(
                was_kept,
                is_kept && body.is_empty(),
                "{status} {fields} {body}"
            );
        }
    }
    let (response, was_kept) = delivered(
        "GET",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    );
    assert_eq!(
        (response.field("content-length"), was_kept),
        (Some("5"), true)
    );
    let (response, _) = delivered(
        "HEAD",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    assert_eq!(
        response.field("content-length"),
        None,
        "which of both is right is unknown"
    );
}

#[test]
fn after_an_interim_response_that_claims_a_body_the_connection_is_not_used_again() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (fields, is_kept) in [
        ("", true),
        ("Content-Length: 0\r\n", true),
        ("Content-Length: 7\r\n", false),
        ("Transfer-Encoding: chunked\r\n", false),
        ("Content-Length: many\r\n", false),
    ] {
        for status in ["100 Continue", "103 Early Hints"] {
            // The same holds if another interim response follows that claims no body.
            for next in ["", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
                let odd = format!("HTTP/1.1 {status}\r\n{fields}\r\n{next}{answer}");
                let (response, was_kept) = delivered("GET", odd);
                assert_eq!(
                    (response.text().as_str(), was_kept),
                    ("ok", is_kept),
                    "{status} {fields}"
                );
            }
        }
    }
}

#[test]
fn interim_responses_go_on_without_framing_and_as_many_as_there_are() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: \
                 7\r\nTransfer-Encoding: chunked\r\n\r\n";
    let odd = hints.repeat(500) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (response, was_kept) = delivered("GET", odd);
    assert_eq!(
        (response.text().as_str(), response.interim.len(), was_kept),
        ("ok", 500, false)
    );
    for interim in response.interim {
        assert_eq!(
            (interim.status, interim.fields.len(), interim.field("link")),
            (103, 1, Some("</a>"))
        );
    }
}

#[test]
fn odd_heads_are_delivered_and_written_anew() {
    let hello = "Content-Length: 5\r\n\r\nhello";
    for (odd, is_kept) in [
        (format!("HTTP/1.1 999 Odd\r\n{hello}"), true),
        (format!("HTTP/1.1 600\r\n{hello}"), true),
        (format!("HTTP/1.1  \t 200\tOK\r\n{hello}"), true),
        (format!("HTTP/1.1 200\r\n{hello}"), true),
        (format!("HTTP/1.7 200 O\x01K\r\n{hello}"), true),
        (format!("HTTP/2.0 200 OK\r\n{hello}"), false),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello".into(), true),
        (format!("HTTP/1.1 200 OK\r\nX: a\n{hello}"), true),
        (
            format!("HTTP/1.1 200 OK\r\nX: a\r\n\t b\r\nY: c\x1b\x7f\r\n{hello}"),
            true,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{hello}"),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello".into(),
            true,
        ),
        (format!("HTTP/1.1 205 Reset Content\r\n{hello}"), true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: \
             chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .into(),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: \
             chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
                .into(),
            false,
        ),
    ] {
        let (response, was_kept) = delivered("GET", odd.as_bytes());
        assert_eq!(response.text(), "hello", "{odd:?}");
        assert_eq!(was_kept, is_kept, "{odd:?}");
        let head = &response.raw[..response
            .raw
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap()];
        let is_clean = |byte: &u8| matches!(byte, b'\r' | b'\n' | b'\t' | 0x20..=0x7e);
        assert!(
            head.iter().all(is_clean) && head.starts_with(b"HTTP/1.1 "),
            "{}",
            head.escape_ascii()
        );
        assert!(
            !head
                .windows(3)
                .any(|part| part == b"\n\t " || part == b"\r\n "),
            "nothing is folded"
        );
    }
}

/// `5 \r\n`, and other padding that servers write around a size, however much came before it.
#[test]
fn chunks_with_padding_are_delivered() {
    for (size, end) in [
        ("5 ", "\r\n"),
        ("5\t", "\r\n"),
        ("5     ", "\r\n"),
        ("5", "\n"),
        ("5 ", "\n"),
        ("0000000000000000000005", "\r\n"),
        ("5;", "\r\n"),
        ("5;a b=(", "\r\n"),
        ("5 ; x", "\r\n"),
    ] {
        for before in [0, 300_000] {
            let mut odd = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            if before > 0 {
                odd.extend(format!("{before:x}{end}{}{end}", "x".repeat(before)).bytes());
            }
            odd.extend(format!("{size}{end}hello{end}0{end}{end}").bytes());
            let (response, was_kept) = delivered("GET", odd);
            assert_eq!(response.body.len(), before + 5, "{size:?}");
            assert!(response.body.ends_with(b"hello") && was_kept, "{size:?}");
        }
    }
}

#[test]
fn trailers_that_may_not_be_there_cost_a_response_nothing() {
    for (trailers, kept) in [
        ("Cache-Control: no-store\r\n", ""),
        ("Content-Length: 9\r\nX: a\r\nSet-Cookie: b\r\n", "X: a"),
        ("no field at all\r\nX : b\r\n", ""),
        ("X: a\r\n folded\r\nY: b\r\n", "Y: b"),
        ("X: a\n", "X: a"),
    ] {
        for before in [5, 300_000] {
            let content = "x".repeat(before);
            let odd = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: \
                 chunked\r\n\r\n{before:x}\r\n{content}\r\n0\r\n{trailers}\r\n"
            );
            let (response, was_kept) = delivered("GET", odd);
            assert_eq!(
                (response.body.len(), was_kept),
                (before, true),
                "{trailers}"
            );
            let got: Vec<_> = response
                .trailers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            assert_eq!(got.join(", "), kept);
        }
    }
}

/// The good part of a body is delivered, however it came, before the cut that shows that the rest
/// is bad.
#[test]
fn what_comes_before_a_wrong_chunk_is_delivered() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::start(move |conn, _| {
        conn.request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        opened.wait();
        conn.send("4\r\ngood\r\nzz\r\nevil\r\n");
        conn.wait_for_close();
    });
    let juggler = before(&origin);
    let mut client = Client::connect(juggler.address());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut got = client.read_exactly(40);
    gate.open();
    got.extend(client.read_to_end());
    let got = String::from_utf8_lossy(&got);
    assert!(
        got.contains("good") && !got.contains("evil") && !got.ends_with("0\r\n\r\n"),
        "{got}"
    );
}

#[test]
fn many_fields_pass_up_to_their_limit() {
    let odd = |count: usize| {
        format!(
            "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
            "A: b\r\n".repeat(count - 1)
        )
    };
    let (response, _) = delivered("GET", odd(1000));
    assert_eq!((response.status, response.all("a").len()), (200, 999));
    for (limit, count, status) in [(3, 3, 200), (3, 4, 502), (5000, 5000, 200)] {
        let origin = saying(odd(count));
        let juggler = Config::new([origin.address()])
            .cluster(&format!(
                "capacity = 1\nlimit = {{ response_fields = {limit} }}"
            ))
            .start();
        let response = Client::connect(juggler.address()).get("/odd");
        assert_eq!(
            response.status,
            status,
            "{count} of {limit}: {}",
            response.text()
        );
    }
}

// === 408

/// A server that answers `/first`, then sends this, and serves every request over a later
/// connection.
fn timing_out(said: &'static str, ends: bool) -> Origin {
    Origin::start(move |conn, number| {
        if number > 0 {
            while conn.request().is_some() {
                conn.answer(200, "again");
            }
        } else if conn.request().is_some() {
            conn.answer(200, "first");
            conn.request();
            // The end goes into the same segment.
            SockRef::from(conn.stream()).set_tcp_cork(ends).unwrap();
            conn.send(said);
            if ends {
                conn.shutdown_write();
            }
            conn.wait_for_close();
        }
    })
}

#[test]
fn a_408_is_handed_on_unless_it_ends_a_used_connection() {
    const KEPT: &str = "HTTP/1.1 408 Too Late\r\nContent-Length: 4\r\n\r\nlate";
    const CLOSE: &str =
        "HTTP/1.1 408 Too Late\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate";
    const OLD: &str = "HTTP/1.0 408 Too Late\r\n\r\nlate";
    const HINTED: &str = "HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 408 Too Late\r\nContent-Length: \
                          4\r\nConnection: close\r\n\r\nlate";
    for (method, said, ends, is_repeated) in [
        // On a connection that is kept, the 408 is the application's own: a DELETE must not run
        // twice for it.
        ("GET", KEPT, false, false),
        ("DELETE", KEPT, false, false),
        ("POST", KEPT, false, false),
        ("GET", CLOSE, false, true),
        ("DELETE", CLOSE, true, true),
        ("GET", OLD, true, true),
        // Nothing is lost of what cannot be sent again.
        ("POST", CLOSE, true, false),
        ("PATCH", OLD, true, false),
        // The server has begun to serve it.
        ("GET", HINTED, true, false),
    ] {
        let origin = timing_out(said, ends);
        let juggler = before(&origin);
        let mut client = Client::connect(juggler.address());
        client.get("/first").expect(200);
        let response = client.exchange(format!(
            "{method} /app HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        let expected = if is_repeated {
            (200, "again")
        } else {
            (408, "late")
        };
        assert_eq!(
            (response.status, response.text().as_str()),
            expected,
            "{method} {said:?}"
        );
        let apps = origin
            .requests()
            .iter()
            .filter(|request| request.target == "/app")
            .count();
        assert_eq!(apps, if is_repeated { 2 } else { 1 }, "{method} {said:?}");
    }
}

/// "Followed by the end": on a connection whose response does not announce the close.
#[test]
fn a_408_with_the_end_right_behind_it_is_a_stale_connection() {
    let said = "HTTP/1.1 408 Too Late\r\nContent-Length: 4\r\n\r\nlate";
    for (method, expected) in [
        ("GET", (200, "again")),
        ("DELETE", (200, "again")),
        ("POST", (408, "late")),
    ] {
        let origin = timing_out(said, true);
        let juggler = before(&origin);
        let mut client = Client::connect(juggler.address());
        client.get("/first").expect(200);
        let response = client.exchange(format!(
            "{method} /app HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(
            (response.status, response.text().as_str()),
            expected,
            "{method}"
        );
    }
}

#[test]
fn retry_attempts_of_one_hand_every_408_on() {
    let origin = timing_out(
        "HTTP/1.1 408 Too Late\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate",
        true,
    );
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\nretry = { attempts = 1 }")
        .start();
    let mut client = Client::connect(juggler.address());
    client.get("/first").expect(200);
    assert_eq!(client.get("/app").expect(408).text(), "late");
}

// === What it shows of a server

/// Odd is not ill: nothing of the above is evidence.
#[test]
fn odd_responses_take_no_server_offline() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target != "/prefs" {
                conn.answer(200, "");
                continue;
            }
            conn.send(match asked.fetch_add(1, Ordering::SeqCst) % 4 {
                0 => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                1 => "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                2 => "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
                _ => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \
                     \r\nhello\r\n0\r\nCache-Control: no-store\r\n\r\n"
                }
            });
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 1\nhealth = { path = \"/up\", interval = \"1h\", panic = \"0%\", passive \
             = { protocol = 2, status = 2 } }",
        )
        .start();
    wait_for_changes(&juggler, "main/s0", 1);
    let mut client = Client::connect(juggler.address());
    for _ in 0..20 {
        let response =
            client.exchange("PUT /prefs HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        assert!(
            [200, 204, 999].contains(&response.status),
            "{}",
            response.text()
        );
    }
    eventually(PATIENCE, "every server was asked", || {
        count.load(Ordering::SeqCst) == 20
    });
    assert_eq!(changes(&juggler, "main/s0").len(), 1);
}
