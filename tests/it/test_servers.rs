//! The test server itself, and the folders that it serves in the demonstration.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Client, Framing, TestServer, check, eventually_eq};

#[test]
fn echo_is_what_was_received() {
    let server = TestServer::start();
    let mut client = Client::connect(server.address());
    let request =
        b"POST /__echo?a=b HTTP/1.1\r\nhOsT:  x \r\nX:\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;e=f\r\nabc\r\n0\r\nT: u\r\n\r\n";
    assert_eq!(client.exchange(request).expect(200).body, request);
    client.send_slowly(request);
    assert_eq!(
        client.read_response().expect(200).body,
        request,
        "byte by byte"
    );
    let two = [
        &request[..],
        b"GET /__status/204 HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    .concat();
    client.send(two);
    assert_eq!(client.read_response().body, request, "first of two");
    assert_eq!(client.read_response().expect(204).framing, Framing::None);
    assert_eq!(server.stat("pipelined"), 1);
    assert_eq!(
        server.stats()["methods"],
        serde_json::json!({"POST": 3, "GET": 1})
    );
}

#[test]
fn every_framing() {
    let server = TestServer::start();
    let mut client = Client::connect(server.address());
    let pattern = check::bytes(0, 200_000);
    let whole = client.get("/__size/200000");
    assert_eq!((whole.framing, &whole.body), (Framing::Length, &pattern));
    let chunked = client.get("/__chunked/20?size=10000&trailers");
    assert_eq!(
        (chunked.framing, &chunked.body),
        (Framing::Chunked, &pattern)
    );
    let sum = check::Sum::of(&pattern).to_string();
    assert_eq!(
        chunked.trailers,
        [
            ("X-Chunks".into(), "20".into()),
            ("X-Sum".into(), sum.clone())
        ]
    );
    assert_eq!(
        client.post("/__sum", &pattern).text(),
        format!("200000 {sum}\n")
    );
    let dripped = client.get("/__drip/5?ms=1");
    assert_eq!(dripped.body, pattern[..5]);
    let head = client.exchange("HEAD /__size/200000 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(
        (head.field("content-length"), head.body.len()),
        (Some("200000"), 0)
    );
    let closed = client.get("/__close/200000");
    assert_eq!(
        (closed.framing, closed.closes(), &closed.body),
        (Framing::Close, true, &pattern)
    );
    client.expect_closed();
    let mut old = Client::connect(server.address());
    let response =
        old.exchange("GET /__chunked/20?size=10000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((response.framing, response.body), (Framing::Close, pattern));
    assert_eq!(server.stat("connections_ever"), 2);
}

#[test]
fn it_breaks_off_where_it_is_told_to() {
    let server = TestServer::start();
    let at = |path: &str| {
        let mut client = Client::connect(server.address());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client
    };
    at("/__abort/now").expect_closed();
    assert_eq!(at("/__abort/now?rst").expect_cut(), b"");
    let head = at("/__abort/head").read_to_end();
    assert!(
        head.starts_with(b"HTTP/1.1 200 OK\r\n") && !head.ends_with(b"\r\n"),
        "{head:?}"
    );
    let body = at("/__abort/body?after=1000").read_to_end();
    assert!(body.ends_with(&check::bytes(0, 1000)), "{}", body.len());
    let chunk = at("/__abort/chunk?after=1000").read_to_end();
    assert!(chunk.ends_with(&check::bytes(0, 1000)), "{}", chunk.len());
    assert!(at("/__garbage").read_to_end().starts_with(b"220 "));
    assert_eq!(
        at("/__status/200?close=silent")
            .read_response()
            .field("connection"),
        None
    );
    for size in [300, 1000, 1001, 1100, 65_536] {
        let response = at(&format!("/__bighead/{size}"))
            .read_response()
            .expect(200);
        assert_eq!(response.raw.len() - response.body.len(), size);
    }
    let hints = at("/__interim/103?count=2").read_response().expect(200);
    assert_eq!(
        hints
            .interim
            .iter()
            .map(|one| one.status)
            .collect::<Vec<_>>(),
        [103, 103]
    );
}

#[test]
fn an_early_answer_does_not_wait_for_the_body() {
    let server = TestServer::start();
    let mut client = Client::connect(server.address());
    client.send(
        "PUT /__early/413 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbut few come",
    );
    assert!(client.read_response().expect(413).closes());
    client.expect_closed();
}

#[test]
fn an_expectation_is_answered_before_the_body() {
    let server = TestServer::start();
    let mut client = Client::connect(server.address());
    client.send(
        "PUT /__sum HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n",
    );
    assert!(client.read_some().starts_with(b"HTTP/1.1 100 "));
    client.send("foobar");
    assert_eq!(client.read_response().text(), "6 85944171f73967e8\n");
}

#[test]
fn counters_count_requests_and_not_the_look_at_them() {
    let server = TestServer::start();
    let (mut first, mut second) = (
        Client::connect(server.address()),
        Client::connect(server.address()),
    );
    first.send("GET /__delay/10000?watch HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_for_stat("executing_now", 1);
    assert_eq!(second.post("/__count/k", "x").text(), "1\n");
    assert_eq!(second.post("/__count/k", "x").text(), "2\n");
    assert_eq!((server.counted("k"), server.counted("other")), (2, 0));
    let stats = server.stats();
    for (name, value) in [
        ("connections_now", 2),
        ("connections_ever", 2),
        ("connections_most", 2),
        ("requests", 3),
        ("executing_now", 1),
        ("executing_most", 2),
        ("malformed", 0),
    ] {
        assert_eq!(stats[name], value, "{name}");
    }
    drop(first);
    server.wait_for_stat("executing_now", 0);
    server.wait_for_stat("connections_now", 1);
    server.reset_stats();
    assert_eq!(
        (
            server.stat("connections_ever"),
            server.stat("requests"),
            server.counted("k")
        ),
        (1, 0, 0)
    );
}

#[test]
fn it_refuses_what_is_no_request_and_says_why() {
    let server = TestServer::start();
    let mut client = Client::connect(server.address());
    let response = client
        .exchange("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n")
        .expect(400);
    assert_eq!(response.text(), "more than one Content-Length\n");
    assert_eq!(server.stat("malformed"), 1);
    drop(Client::connect(server.address()));
    let mut half = Client::connect(server.address());
    half.send("GET / HT");
    drop(half);
    eventually_eq("unfinished", 1, || server.stat("unfinished"));
}

#[test]
fn it_waits_and_it_ends_at_once() {
    let mut server = TestServer::start();
    let mut client = Client::connect(server.address());
    let started = Instant::now();
    client.get("/__delay/30").expect(200);
    client.get("/test.txt?delay=30").expect(200);
    assert!(started.elapsed() >= Duration::from_millis(60));
    client.send("GET /__delay/100000 HTTP/1.1\r\nHost: x\r\n\r\n");
    server.wait_for_stat("executing_now", 1);
    assert_eq!(
        server.stop_by(Signal::SIGTERM),
        Some(Signal::SIGTERM as i32)
    );
    server.restart();
    assert_eq!(server.stop_by(Signal::SIGINT), Some(Signal::SIGINT as i32));
}

#[test]
fn it_listens_on_a_unix_socket_even_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/socket", folder.path().display());
    let mut server = TestServer::listening("unix", &address);
    Client::connect(&address).get("/test.txt").expect(200);
    server.kill();
    server.restart();
    assert_eq!(
        Client::connect(&address)
            .get("/test.txt")
            .field("x-test-server"),
        Some("unix")
    );
}

#[test]
fn the_three_roots_differ_where_they_should() {
    let root = |n: u32| format!("{}/test_servers/root_{n}", env!("CARGO_MANIFEST_DIR"));
    let image = std::fs::read(root(1) + "/image.png").unwrap();
    assert_eq!(image.len(), 1024, "the benchmark's payload is 1 KB");
    for n in 1..=3 {
        let text = std::fs::read_to_string(root(n) + "/test.txt").unwrap();
        assert!(text.contains(&format!("server {n}")), "{text}");
        assert!(
            std::fs::read_to_string(root(n) + "/index.html")
                .unwrap()
                .contains(&format!("server {n}"))
        );
        assert_eq!(std::fs::read(root(n) + "/image.png").unwrap(), image);
    }
    let server = TestServer::start();
    let mut client = Client::connect(server.address());
    let response = client.get("/image.png").expect(200);
    assert_eq!(
        (response.field("content-type"), &response.body),
        (Some("image/png"), &image)
    );
    assert_eq!(
        client.get("/").expect(200).field("content-type"),
        Some("text/html; charset=utf-8")
    );
    for path in [
        "/nothing",
        "/../root_2/test.txt",
        "/%2e%2e/root_2/test.txt",
        "//etc/passwd",
    ] {
        client.get(path).expect(404);
    }
    client.post("/test.txt", "x").expect(405);
}
