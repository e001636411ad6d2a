//! Requests that are served: what comes back, in which order, and what the server has received.

use std::time::Duration;

use crate::support::{Client, Config, Framing, Gate, Juggler, Origin, Request, eventually_eq};

/// Responds with the target as the body. The response to HEAD has no body.
fn answer_with_target(conn: &mut crate::support::OriginConn, request: &Request) {
    if request.method == "HEAD" {
        let length = request.target.len();
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ));
    } else {
        conn.answer(200, &request.target);
    }
}

/// A server that responds with the target, and the balancer with one connection to it.
fn targets() -> (Origin, Juggler) {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            answer_with_target(conn, &request);
        }
    });
    let juggler = before(&origin);
    (origin, juggler)
}

/// The balancer before a server, with one connection.
fn before(origin: &Origin) -> Juggler {
    Config::new([origin.address()])
        .cluster("capacity = 1")
        .start()
}

/// A server that sends this to every request.
fn saying(answer: impl Into<Vec<u8>>) -> (Origin, Juggler) {
    let answer = answer.into();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send(&answer);
        }
    });
    let juggler = before(&origin);
    (origin, juggler)
}

#[test]
fn connections_are_kept_as_long_as_the_client_wants() {
    let (origin, juggler) = targets();
    let mut client = Client::connect(juggler.address());
    for number in 0..5 {
        let response = client.get(&format!("/{number}")).expect(200);
        assert_eq!(
            (response.text(), response.field("connection")),
            (format!("/{number}"), None)
        );
    }
    let old = "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut old_client = Client::connect(juggler.address());
    for _ in 0..3 {
        let response = old_client.exchange(old).expect(200);
        assert_eq!(response.all("connection"), ["keep-alive"]);
    }
    for ending in [
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: foo, CLOSE\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
        "GET /x HTTP/1.0\r\n\r\n",
        "GET /x HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    ] {
        let mut client = Client::connect(juggler.address());
        // Anything behind it is not a request any more.
        client.send(format!("{ending}GET /never HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.read_response().expect(200);
        assert_eq!(
            (response.text(), response.all("connection")),
            ("/x".to_owned(), vec!["close"]),
            "{ending}"
        );
        client.expect_closed();
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), 5 + 3 + 5);
    for request in requests {
        // HTTP/1.1 with a host, HTTP/1.0 without one.
        let minor = u8::from(request.field("host").is_some());
        assert_eq!(
            (request.connection, request.minor),
            (0, minor),
            "one connection"
        );
        assert_eq!(request.all("connection"), ["keep-alive"]);
    }
}

const PIPELINE: &str = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: \
                        a\r\nContent-Length: 4\r\n\r\nGET POST /3 HTTP/1.1\r\nHost: \
                        a\r\nTransfer-Encoding: \
                        chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHEAD /4 HTTP/1.1\r\nHost: \
                        a\r\n\r\n\r\nGET /5 HTTP/1.1\r\nHost: a\r\n\r\n";

#[track_caller]
fn are_answered_in_order(client: &mut Client) {
    for number in 1..=5 {
        let response = if number == 4 {
            client.read_head_response()
        } else {
            client.read_response()
        };
        let body = if number == 4 {
            String::new()
        } else {
            format!("/{number}")
        };
        assert_eq!(
            (response.status, response.text()),
            (200, body),
            "number {number}"
        );
        assert_eq!(response.field("content-length"), Some("2"));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (origin, juggler) = targets();
    let mut client = Client::connect(juggler.address());
    client.send(PIPELINE);
    are_answered_in_order(&mut client);
    client.send_slowly(PIPELINE);
    are_answered_in_order(&mut client);
    let requests = origin.requests();
    let targets: Vec<_> = requests
        .iter()
        .map(|request| request.target.as_str())
        .collect();
    assert_eq!(
        targets,
        ["/1", "/2", "/3", "/4", "/5", "/1", "/2", "/3", "/4", "/5"]
    );
    let bodies: Vec<_> = requests
        .iter()
        .map(|request| request.body.as_slice())
        .collect();
    assert_eq!(bodies[..5], [b"".as_slice(), b"GET ", b"abcde", b"", b""]);
    assert_eq!(bodies[..5], bodies[5..]);
}

#[test]
fn a_slow_first_one_holds_the_others_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/1" {
                held.wait();
            }
            answer_with_target(conn, &request);
        }
    });
    // There are more connections than requests, so only the order holds the requests back.
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 6")
        .start();
    let mut client = Client::connect(juggler.address());
    client.send(PIPELINE);
    gate.wait_for(1);
    client.expect_silence(Duration::from_millis(50));
    assert_eq!(
        origin.requests().len(),
        1,
        "the next one waits for its turn"
    );
    // Other clients do not wait for it.
    Client::connect(juggler.address()).get("/other").expect(200);
    gate.open();
    are_answered_in_order(&mut client);
}

#[test]
fn a_thousand_may_come_at_once() {
    let (origin, juggler) = targets();
    let mut client = Client::connect(juggler.address());
    let all: String = (0..1000)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(all);
    for number in 0..1000 {
        assert_eq!(
            client.read_response().expect(200).text(),
            format!("/{number}")
        );
    }
    assert_eq!(origin.requests().len(), 1000);
}

#[test]
fn a_client_that_leaves_takes_all_its_waiting_requests_with_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            held.wait();
            answer_with_target(conn, &request);
        }
    });
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"")
        .cluster("capacity = 1")
        .start();
    for (round, reset) in [false, true].into_iter().enumerate() {
        let came = gate.came();
        let mut client = Client::connect(juggler.address());
        client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
        gate.wait_for(came + 1);
        if reset {
            client.reset();
        } else {
            client.shutdown_write();
            client.expect_gone();
        }
        // A reset is on its way when `reset` returns. The second request is dropped as soon as its
        // session sees the reset.
        let is_dropped = |line: &String| line.contains("GET /2 ") && line.contains(" end=CQ ");
        eventually_eq("dropped", round + 1, || {
            juggler
                .output()
                .iter()
                .filter(|&line| is_dropped(line))
                .count()
        });
        gate.open();
        Client::connect(juggler.address()).get("/after").expect(200);
        gate.close();
        let targets: Vec<_> = origin
            .requests()
            .iter()
            .map(|request| request.target.clone())
            .collect();
        assert_eq!(targets, ["/1", "/after"], "reset: {reset}");
        origin.forget();
    }
}

#[test]
fn what_comes_behind_the_last_request_is_none() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"")
        .cluster("capacity = 1")
        .start();
    for rest in [
        "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        "garbage\n",
        "GET /half",
    ] {
        let mut client = Client::connect(juggler.address());
        client.send(format!(
            "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{rest}"
        ));
        assert!(client.read_response().expect(200).closes());
        client.expect_closed();
    }
    Client::connect(juggler.address()).get("/last").expect(200);
    juggler.wait_for_output("/last");
    assert!(
        origin
            .requests()
            .iter()
            .all(|request| request.target != "/2")
    );
    assert_eq!(juggler.output().len(), 4, "{:#?}", juggler.output());
}

#[test]
fn a_malformed_one_behind_good_ones_is_refused_in_its_turn() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            held.wait();
            answer_with_target(conn, &request);
        }
    });
    let juggler = before(&origin);
    let mut client = Client::connect(juggler.address());
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 \
         HTTP/1.1\nHost: a\r\n\r\n",
    );
    gate.wait_for(1);
    client.expect_silence(Duration::from_millis(30));
    gate.open();
    assert_eq!(client.read_response().expect(200).text(), "/1");
    assert_eq!(client.read_response().expect(200).text(), "/2");
    let refused = client.read_response().expect(400);
    assert!(refused.closes());
    client.expect_closed();
    assert_eq!(origin.requests().len(), 2);
}

/// A request with `Expect: 100-continue` and these fields.
fn expecting(fields: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{fields}\r\n\r\n")
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn continue_is_said_once_and_before_the_body() {
    // The server sends a 100 too, though it never sees the expectation.
    let (origin, juggler) =
        saying("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine");
    let mut client = Client::connect(juggler.address());
    for (fields, body) in [
        ("Content-Length: 5", "hello"),
        ("content-length: 5\r\nEXPECT: 100-Continue", "hello"),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
    ] {
        client.send(expecting(fields));
        assert_eq!(client.read_exactly(CONTINUE.len()), CONTINUE, "{fields}");
        assert!(origin.requests().is_empty(), "before the body");
        client.send_slowly(body);
        let response = client.read_response().expect(200);
        assert!(
            response.interim.is_empty(),
            "not twice: {:?}",
            response.interim
        );
        let got = origin.request();
        assert_eq!(
            (got.field("expect"), got.body.as_slice()),
            (None, b"hello".as_slice())
        );
        assert_eq!(got.field("content-length"), Some("5"));
        origin.forget();
    }
}

#[test]
fn continue_is_not_said_where_it_is_of_no_use() {
    let (origin, juggler) = targets();
    let mut client = Client::connect(juggler.address());
    for request in [
        expecting("Content-Length: 5") + "hello",
        expecting("Content-Length: 5") + "h",
        expecting("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n",
        expecting("Content-Length: 0"),
        expecting("X: no body at all"),
        // HTTP/1.0 has no 100 (RFC 9110 §10.1.1).
        "POST /x HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: \
         5\r\n\r\n"
            .to_owned(),
        "POST /x HTTP/1.0\r\nConnection: keep-alive\r\nExpect: something\r\nContent-Length: \
         5\r\n\r\n"
            .to_owned(),
    ] {
        client.send(&request);
        if request.contains("HTTP/1.0") {
            client.expect_silence(Duration::from_millis(20));
            client.send("hello");
        } else if request.ends_with("\r\nh") {
            client.expect_silence(Duration::from_millis(20));
            client.send("ello");
        }
        let response = client.read_response().expect(200);
        assert!(response.interim.is_empty(), "{request}");
    }
    for request in origin.requests() {
        assert_eq!(request.field("expect"), None);
        assert!([0, 5].contains(&request.body.len()));
    }
    assert_eq!(origin.requests().len(), 7);
}

#[test]
fn a_final_status_comes_in_place_of_continue() {
    let origin = Origin::answering("fine");
    let config = Config::new([origin.address()])
        .listener("limit = { body = \"10B\" }")
        .text()
        .replace("[[route]]", "[[route]]\npath = \"/x\"");
    let juggler = Juggler::start(&config);
    for (request, status) in [
        (
            expecting("Content-Length: 5").replace("/x", "/elsewhere"),
            404,
        ),
        (expecting("Content-Length: 11"), 413),
        (expecting("Content-Length: 5\r\nExpect: more"), 417),
        (expecting("Content-Length: 5\r\nContent-Length: 6"), 400),
    ] {
        let mut client = Client::connect(juggler.address());
        client.send(request);
        let response = client.read_response().expect(status);
        assert!(response.interim.is_empty() && response.closes());
        client.expect_closed();
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn continue_waits_for_its_turn() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            held.wait();
            answer_with_target(conn, &request);
        }
    });
    let juggler = before(&origin);
    let mut client = Client::connect(juggler.address());
    client.send(format!(
        "GET /first HTTP/1.1\r\nHost: a\r\n\r\n{}",
        expecting("Content-Length: 5")
    ));
    gate.wait_for(1);
    client.expect_silence(Duration::from_millis(50));
    gate.open();
    let first = client.read_response().expect(200);
    assert_eq!(
        (first.text(), first.interim.len()),
        ("/first".to_owned(), 0)
    );
    assert_eq!(client.read_exactly(CONTINUE.len()), CONTINUE);
    client.send("hello");
    assert_eq!(client.read_response().expect(200).text(), "/x");
}

#[test]
fn responses_without_a_body_have_none() {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let head = match request.target.as_str() {
                "/length" => "200 OK\r\nContent-Length: 1234",
                "/chunked" => "200 OK\r\nTransfer-Encoding: chunked",
                "/unknown" => "200 OK\r\nX: y",
                "/204" => "204 No Content\r\nX: y",
                "/204-0" => "204 No Content\r\nContent-Length: 0",
                "/304" => "304 Not Modified\r\nETag: \"e\"",
                "/304-length" => "304 Not Modified\r\nContent-Length: 1234",
                "/304-chunked" => "304 Not Modified\r\nTransfer-Encoding: chunked",
                other => panic!("{other}"),
            };
            conn.send(format!("HTTP/1.1 {head}\r\n\r\n"));
        }
    });
    let juggler = before(&origin);
    let mut client = Client::connect(juggler.address());
    let cases = [
        ("HEAD", "/length", 200, Some("1234")),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/unknown", 200, None),
        ("HEAD", "/204-0", 204, None),
        ("HEAD", "/304-length", 304, Some("1234")),
        ("GET", "/204", 204, None),
        ("GET", "/204-0", 204, None),
        ("GET", "/304", 304, None),
        ("GET", "/304-length", 304, Some("1234")),
        ("GET", "/304-chunked", 304, None),
        ("POST", "/204", 204, None),
    ];
    for (method, path, status, length) in cases {
        let response = client
            .exchange(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .expect(status);
        assert_eq!(response.field("content-length"), length, "{method} {path}");
        assert_eq!(response.field("transfer-encoding"), None, "{method} {path}");
        assert!(
            !response.closes() && client.leftover().is_empty(),
            "{method} {path}"
        );
    }
    // After a 304 that claims chunks the end is in doubt, so the connection to the server is not
    // used again.
    assert_eq!(
        (origin.requests().len(), origin.connections_ever()),
        (cases.len(), 2)
    );
    origin.assert_no_failures();
}

#[test]
fn interim_responses_pass_to_clients_that_know_them() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n";
    let (origin, juggler) = saying(format!(
        "{early}HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nConnection: \
         x-drop\r\nX-Drop: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
    ));
    let mut client = Client::connect(juggler.address());
    for method in ["GET", "POST"] {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.read_response().expect(200);
        let interim: Vec<_> = response
            .interim
            .iter()
            .map(|interim| interim.raw.as_slice())
            .collect();
        assert_eq!(
            interim,
            [early.as_bytes(), b"HTTP/1.1 102 Processing\r\n\r\n"]
        );
        assert_eq!(response.text(), "fine");
    }
    let mut old = Client::connect(juggler.address());
    old.send("GET / HTTP/1.0\r\n\r\n");
    let response = old.read_response().expect(200);
    assert!(response.interim.is_empty());
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn request_trailers_survive_and_nothing_else_stays_chunked() {
    let (origin, juggler) = targets();
    let mut client = Client::connect(juggler.address());
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum, x-end\r\nTransfer-Encoding: \
                chunked\r\nX: y\r\n\r\n";
    let trailers = "X-Sum: 42\r\nx-END: e n d\r\n";
    client
        .exchange(format!(
            "{head}3\r\nabc\r\n2;ext=\"a;b\"\r\nde\r\n0\r\n{trailers}\r\n"
        ))
        .expect(200);
    let got = origin.request();
    assert_eq!(
        String::from_utf8(got.raw).unwrap(),
        format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum, x-end\r\nX: y\r\nTransfer-Encoding: \
             chunked\r\nConnection: keep-alive\r\n\r\n5\r\nabcde\r\n0\r\n{trailers}\r\n"
        )
    );
    origin.forget();
    // A body without content, in every possible piece.
    client.send_slowly(format!("{head}0\r\n{trailers}\r\n"));
    client.read_response().expect(200);
    let got = origin.request();
    assert_eq!((got.framing, got.body.len()), (Framing::Chunked, 0));
    assert_eq!(
        got.trailers,
        [
            ("X-Sum".to_owned(), "42".to_owned()),
            ("x-END".to_owned(), "e n d".to_owned())
        ]
    );
    origin.forget();
    // Without trailers the server gets a length.
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "0005 ;a;b=c\r\nhello\r\n00;d\r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
    ] {
        client.exchange(format!("{head}{body}")).expect(200);
        let got = origin.request();
        assert_eq!(
            String::from_utf8(got.raw).unwrap(),
            "POST /x HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 5\r\nConnection: \
             keep-alive\r\n\r\nhello"
        );
        origin.forget();
    }
    // Hop-by-hop trailers end here.
    client
        .exchange(format!(
            "{head}1\r\na\r\n0\r\nKeep-Alive: 5\r\nX-Sum: 1\r\n\r\n"
        ))
        .expect(200);
    assert_eq!(
        origin.request().trailers,
        [("X-Sum".to_owned(), "1".to_owned())]
    );
}

#[test]
fn response_trailers_survive() {
    let chunks = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 42\r\nx-END: e n d\r\n\r\n";
    let (_origin, juggler) = saying(format!(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nDate: now\r\nTransfer-Encoding: \
         chunked\r\n\r\n{chunks}"
    ));
    let mut client = Client::connect(juggler.address());
    let response = client.get("/").expect(200);
    assert_eq!(
        (response.text().as_str(), response.field("trailer")),
        ("abcde", Some("X-Sum"))
    );
    assert_eq!(
        response.trailers,
        [
            ("X-Sum".to_owned(), "42".to_owned()),
            ("x-END".to_owned(), "e n d".to_owned())
        ]
    );
    // HTTP/1.0 has no trailers.
    let mut old = Client::connect(juggler.address());
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(
        String::from_utf8(old.read_to_end()).unwrap(),
        "HTTP/1.1 200 OK\r\nDate: now\r\nConnection: close\r\n\r\nabcde"
    );
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let (origin, juggler) = targets();
    let request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
    for count in [1, 2, 8] {
        let mut client = Client::connect(juggler.address());
        for _ in 0..2 {
            client.send("\r\n".repeat(count) + request);
            client.read_response().expect(200);
            client.send_slowly("\r\n".repeat(count) + request);
            client.read_response().expect(200);
        }
    }
    assert_eq!(origin.requests().len(), 12);
    for got in origin.requests() {
        assert_eq!(
            got.head(),
            "GET /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
        );
    }
}

#[test]
fn what_is_unusual_and_right_is_taken() {
    let (origin, juggler) = targets();
    let mut client = Client::connect(juggler.address());
    let cases = [
        ("PROPFIND /x HTTP/1.1\r\nHost: a\r\n\r\n", "PROPFIND /x", ""),
        ("get /x HTTP/1.1\r\nHost: a\r\n\r\n", "get /x", ""),
        ("M-SEARCH /x HTTP/1.1\r\nHost: a\r\n\r\n", "M-SEARCH /x", ""),
        ("GET /x HTTP/1.1\r\nhOST:a\r\n\r\n", "GET /x", ""),
        ("GET /x HTTP/1.1\r\nHost:\t a \t\r\n\r\n", "GET /x", ""),
        ("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", "OPTIONS *", ""),
        ("GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET /x", ""),
        ("GET /?a=\"<>[]{}|\\^` HTTP/1.1\r\nHost: a\r\n\r\n", "", ""),
        ("GET //x HTTP/1.1\r\nHost: a\r\n\r\n", "GET //x", ""),
        (
            "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            "GET /x",
            "hi",
        ),
        (
            "DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "DELETE /x",
            "hi",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi",
            "POST /x",
            "hi",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "POST /x",
            "hi",
        ),
        (
            "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked \
             \r\n\r\n0000000000000002\r\nhi\r\n0\r\n\r\n",
            "",
            "hi",
        ),
        ("POST /x HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x", ""),
    ];
    for (request, line, body) in cases {
        client.exchange(request).expect(200);
        let got = origin.request();
        assert!(got.head().starts_with(line), "{request}: {}", got.head());
        assert_eq!(got.body, body.as_bytes(), "{request}");
        assert_eq!(
            (got.framing == Framing::Length, got.all("host").len()),
            (!body.is_empty(), 1),
            "{request}"
        );
        origin.forget();
    }
    assert_eq!(origin.connections_ever(), 1);
}
