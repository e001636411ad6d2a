//! Settings of a listener, a cluster and the process, seen from outside.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{
    Authority, Client, Config, Gate, Juggler, Origin, PATIENCE, Response, Start, TestServer, check,
    eventually, eventually_eq,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server that responds once the gate is open.
fn gated(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while conn.request().is_some() {
            gate.wait();
            conn.answer(200, "at last");
        }
    })
}

/// An address that refuses connections as long as the socket is kept.
fn refusing() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0))))
        .unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

#[test]
fn the_health_path_answers_for_the_balancer_itself() {
    let (address, _kept) = refusing();
    let juggler = Config::new([address])
        .listener("health_path = \"/up\"")
        .start();
    let mut client = Client::connect(juggler.address());
    for path in ["/up", "/up?x=y", "http://elsewhere/up"] {
        let response = client
            .exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .expect(200);
        assert!(response.text().contains("ok"), "{}", response.text());
    }
    assert!(
        client
            .exchange("HEAD /up HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect(200)
            .body
            .is_empty()
    );
    client.get("/up/").expect(503);
    client.get("/upper").expect(503);
}

#[test]
fn the_health_path_says_when_it_drains() {
    let gate = Gate::new();
    let origin = gated(&gate);
    let mut juggler = Config::new([origin.address()])
        .listener("health_path = \"/up\"")
        .start();
    let mut busy = Client::connect(juggler.address());
    busy.send(GET);
    gate.wait_for(1);
    let mut watcher = Client::connect(juggler.address());
    watcher.get("/up").expect(200);
    juggler.signal(Signal::SIGTERM);
    juggler.wait_for_log("stopping");
    // A client that is connected may send one more request.
    let mut response = watcher.get("/up");
    while response.status == 200 {
        // The log line is written a moment before the drain begins.
        response = watcher.get("/up");
    }
    let response = response.expect(503);
    assert!(
        response.text().contains("draining") && response.closes(),
        "{}",
        response.text()
    );
    gate.open();
    assert!(busy.read_response().expect(200).closes());
    assert_eq!(juggler.wait(PATIENCE), Some(0));
}

#[test]
fn plain_requests_are_sent_to_https() {
    let origin = Origin::answering("plain");
    for (setting, port) in [("true", ""), ("8443", ":8443")] {
        let juggler = Config::new([origin.address()])
            .listener(&format!(
                "redirect_https = {setting}\nhealth_path = \"/up\""
            ))
            .start();
        let mut client = Client::connect(juggler.address());
        for (request, location) in [
            (
                "GET /a?b=c HTTP/1.1\r\nHost: x",
                format!("https://x{port}/a?b=c"),
            ),
            (
                "GET /a HTTP/1.1\r\nHost: x:8080",
                format!("https://x{port}/a"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: [::1]:80",
                format!("https://[::1]{port}/"),
            ),
            (
                "GET / HTTP/1.1\r\nHost: [::1]",
                format!("https://[::1]{port}/"),
            ),
            (
                "GET http://y/b HTTP/1.1\r\nHost: x",
                format!("https://y{port}/b"),
            ),
            ("HEAD / HTTP/1.1\r\nHost: x", format!("https://x{port}/")),
        ] {
            let response = client.exchange(format!("{request}\r\n\r\n")).expect(308);
            assert_eq!(
                response.field("location"),
                Some(location.as_str()),
                "{request}"
            );
        }
        client.get("/up").expect(200);
        // The balancer does not ask for this body.
        let post =
            "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        let response = client.exchange(post).expect(308);
        assert!(response.interim.is_empty() && response.closes());
        Client::connect(juggler.address())
            .exchange("GET / HTTP/1.0\r\n\r\n")
            .expect(400);
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn error_pages_are_the_operators_own() {
    let (address, _kept) = refusing();
    let config = Config::new([address])
        .cluster(
            "error_page = [{ status = 503, file = \"busy.html\" }, { status = 502, file = \
             \"busy.html\", content_type = \"x/y\" }]",
        )
        .text();
    let juggler = Start::config(&config)
        .file("busy.html", "<p>b\u{fc}sy</p>")
        .ready();
    let mut client = Client::connect(juggler.address());
    let response = client.get("/").expect(503);
    assert_eq!(
        (response.text().as_str(), response.field("content-type")),
        ("<p>b\u{fc}sy</p>", Some("text/html"))
    );
    assert_eq!(response.field("retry-after"), Some("1"));
    let head = client
        .exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect(503);
    assert_eq!(
        (head.field("content-length"), head.body.len()),
        (Some("12"), 0)
    );
}

#[test]
fn one_address_has_so_many_sessions() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .listener("sessions_per_address = 2")
        .start();
    let mut first = Client::connect(juggler.address());
    let mut second = Client::connect(juggler.address());
    first.get("/").expect(200);
    second.get("/").expect(200);
    for _ in 0..3 {
        // The reset may come before the connect has returned.
        if let Ok(mut third) = Client::try_connect(juggler.address()) {
            third.expect_gone();
        }
    }
    first.get("/").expect(200);
    drop(first);
    eventually(PATIENCE, "the place is free again", || {
        Client::try_connect(juggler.address()).is_ok_and(|mut third| {
            third.try_send(GET).is_ok()
                && third
                    .try_read_response(false)
                    .is_ok_and(|response| response.status == 200)
        })
    });
}

#[test]
fn a_client_that_sends_no_more_is_served_if_asked_for() {
    let gate = Gate::new();
    let origin = gated(&gate);
    let juggler = Config::new([origin.address()])
        .listener("half_close = \"serve\"")
        .start();
    for (requests, answers) in [
        (GET.to_owned(), 1),
        (GET.repeat(3), 3),
        // A request that is not whole takes nothing from those before it.
        (format!("{GET}GET /half HT"), 1),
        (
            format!("{GET}POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"),
            1,
        ),
        (format!("{GET}{GET}\r\n"), 2),
    ] {
        gate.close();
        let before = gate.came();
        let mut client = Client::connect(juggler.address());
        client.send(&requests);
        client.shutdown_write();
        gate.wait_for(before + 1);
        client.expect_silence(Duration::from_millis(20));
        gate.open();
        for _ in 0..answers {
            assert_eq!(
                client.read_response().expect(200).text(),
                "at last",
                "{requests}"
            );
        }
        client.expect_closed();
    }
    assert!(
        origin
            .requests()
            .iter()
            .all(|request| request.target == "/")
    );
}

#[test]
fn a_client_that_sends_no_more_is_taken_for_gone() {
    let gate = Gate::new();
    let origin = gated(&gate);
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .start();
    let mut client = Client::connect(juggler.address());
    client.send(GET);
    gate.wait_for(1);
    client.shutdown_write();
    client.expect_gone();
    gate.open();
    let line: serde_json::Value =
        serde_json::from_str(&juggler.wait_for_output("\"status\":499")).unwrap();
    assert_eq!(
        (&line["end"], &line["server"]),
        (&"CH".into(), &"s0".into())
    );
}

#[test]
fn unix_sockets_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let server = TestServer::listening("unix", &format!("unix:{}", path.display()));
    let mut juggler = Config::new([server.address()])
        .listener("bind = [\"unix:{dir}/juggler.sock\"]\nforwarded = \"rfc7239\"")
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .start();
    let address = juggler.address();
    let mut client = Client::connect(&address);
    let echo = client.get("/__echo").expect(200).text();
    assert!(
        echo.contains("\r\nForwarded: for=unknown;host=test;proto=http\r\n"),
        "{echo}"
    );
    let body = check::bytes(0, 1_000_000);
    let sum = client.post("/__sum", &body).expect(200).text();
    assert_eq!(sum, format!("1000000 {}\n", check::Sum::of(&body)));
    assert!(client.get("/__size/3000000").expect(200).body == check::bytes(0, 3_000_000));
    client
        .exchange("GET / HTTP/1.1\nHost: a\r\n\r\n")
        .expect(400);
    client.expect_closed();
    assert!(
        juggler
            .wait_for_output("\"status\":400")
            .contains("\"client\":null")
    );
    let socket = juggler.folder().join("juggler.sock");
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o666
    );
    assert_eq!(juggler.stop(), Some(0));
    assert!(!socket.exists(), "the socket file is removed at the end");
}

/// A port of both families that no other program gets: bound, but not listened on.
fn reserved_port() -> (u16, [Socket; 2]) {
    for _ in 0..100 {
        let bound = |domain, address: SocketAddr| {
            let socket = Socket::new(domain, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            if domain == Domain::IPV6 {
                socket.set_only_v6(true).unwrap();
            }
            socket.bind(&SockAddr::from(address)).map(|()| socket)
        };
        let four = bound(Domain::IPV4, ([0, 0, 0, 0], 0).into()).unwrap();
        let port = four.local_addr().unwrap().as_socket().unwrap().port();
        if let Ok(six) = bound(Domain::IPV6, ([0_u16; 8], port).into()) {
            return (port, [four, six]);
        }
    }
    panic!("no port is free in both families");
}

#[test]
fn both_families_on_one_port() {
    let origin = Origin::answering("fine");
    let (port, _reserved) = reserved_port();
    for bind in [
        format!("\"*:{port}\""),
        format!("\"0.0.0.0:{port}\", \"[::]:{port}\""),
    ] {
        let juggler = Config::new([origin.address()])
            .listener(&format!("bind = [{bind}]\nforwarded = \"x-forwarded\""))
            .start();
        assert_eq!(juggler.addresses()["main"].len(), 2);
        for (address, seen) in [
            (format!("127.0.0.1:{port}"), "127.0.0.1"),
            (format!("[::1]:{port}"), "::1"),
        ] {
            Client::connect(address).exchange(GET).expect(200);
            assert_eq!(origin.request().field("x-forwarded-for"), Some(seen));
            origin.forget();
        }
    }
}

/// A header of version 2 for a TCP client: `203.0.113.7:1234`, or `2001:db8::7`.
fn proxy_v2(six: bool, command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.push(0x20 | command);
    let addresses: Vec<u8> = if six {
        let address = |last| [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        [address(7), address(1)].concat()
    } else {
        vec![203, 0, 113, 7, 198, 51, 100, 1]
    };
    // A TLV of no meaning behind the ports.
    let rest = [0x04, 0xd2, 0, 80, 0xe0, 0, 1, 9];
    header.push(if six { 0x21 } else { 0x11 });
    header.extend(
        u16::try_from(addresses.len() + rest.len())
            .unwrap()
            .to_be_bytes(),
    );
    header.extend(addresses);
    header.extend(rest);
    header
}

#[test]
fn a_proxy_header_names_the_client() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .listener("proxy_protocol = [\"127.0.0.0/8\"]\nforwarded = \"x-forwarded\"")
        .start();
    let v1 = |rest: &str| format!("PROXY {rest}\r\n").into_bytes();
    for (header, client) in [
        (v1("TCP4 203.0.113.7 198.51.100.1 1234 80"), "203.0.113.7"),
        (v1("TCP6 2001:db8::7 2001:db8::1 1234 80"), "2001:db8::7"),
        (v1("UNKNOWN"), "127.0.0.1"),
        (v1("UNKNOWN x y z"), "127.0.0.1"),
        (proxy_v2(false, 1), "203.0.113.7"),
        (proxy_v2(true, 1), "2001:db8::7"),
        (proxy_v2(false, 0), "127.0.0.1"),
    ] {
        for slowly in [false, true] {
            let mut through = Client::connect(juggler.address());
            let bytes = [header.as_slice(), GET.as_bytes()].concat();
            if slowly {
                through.send_slowly(&bytes);
            } else {
                through.send(&bytes);
            }
            through.read_response().expect(200);
            through.get("/second").expect(200);
            for request in origin.requests() {
                assert_eq!(request.field("x-forwarded-for"), Some(client));
            }
            origin.forget();
        }
    }
    for wrong in [
        GET.as_bytes().to_vec(),
        v1("TCP4 203.0.113.7 198.51.100.1 1234"),
        v1("TCP4 2001:db8::7 198.51.100.1 1234 80"),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1234 80\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\nX".to_vec(),
        [b"PROXY ".as_slice(), &[b'x'; 200]].concat(),
    ] {
        let mut through = Client::connect(juggler.address());
        // The connection may be gone before all of this is sent.
        let _ = through.try_send([wrong.as_slice(), GET.as_bytes()].concat());
        through.expect_gone();
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_proxy_header_of_another_peer_is_no_request() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .listener("proxy_protocol = [\"10.0.0.0/8\"]")
        .start();
    for header in [
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1234 80\r\n".to_vec(),
        proxy_v2(false, 1),
    ] {
        let mut client = Client::connect(juggler.address());
        client.send([header.as_slice(), GET.as_bytes()].concat());
        client.read_response().expect(400);
        client.expect_closed();
    }
    assert!(origin.requests().is_empty());
    Client::connect(juggler.address()).exchange(GET).expect(200);
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let origin = Origin::answering("fine");
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let config = Config::new([origin.address()])
        .listener("proxy_protocol = [\"127.0.0.1\"]\nforwarded = \"x-forwarded\"")
        .listener("tls = { certificates = [{ chain = \"s.crt\", key = \"s.key\" }] }")
        .text();
    let juggler = Start::config(&config)
        .file("s.crt", &issued.chain)
        .file("s.key", &issued.key)
        .ready();
    for header in [
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1234 443\r\n".to_vec(),
        proxy_v2(false, 1),
    ] {
        let mut stream = TcpStream::connect(juggler.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::clone(&authority.client()), name).unwrap();
        // Header and ClientHello in one segment.
        let mut first = header;
        while tls.wants_write() {
            tls.write_tls(&mut first).unwrap();
        }
        stream.write_all(&first).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, stream);
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("fine"),
            "{answer}"
        );
        let got = origin.request();
        assert_eq!(
            (got.field("x-forwarded-for"), got.field("x-forwarded-proto")),
            (Some("203.0.113.7"), Some("https"))
        );
        origin.forget();
    }
}

/// A chunked request with this body, in chunks that match no buffer's size.
fn in_chunks(body: &[u8]) -> Vec<u8> {
    let mut request = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(70_001) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[test]
fn large_bodies_go_through_memory_and_spool() {
    let body = check::bytes(0, 5 << 20);
    for memory in ["0B", "1000B", "100KiB", "64MiB"] {
        let gate = Gate::new();
        let origin = gated(&gate);
        let juggler = Config::new([origin.address()])
            .top("[spool]\nfolder = \"{dir}\"")
            .listener(&format!("limit = {{ body_memory = \"{memory}\" }}"))
            .cluster("capacity = 1")
            .start();
        let mut client = Client::connect(juggler.address());
        gate.open();
        client.get("/").expect(200);
        origin.forget();
        let files = juggler.open_files();
        gate.close();
        for chunked in [false, true] {
            let request = if chunked {
                in_chunks(&body)
            } else {
                let head = format!(
                    "POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                [head.as_bytes(), &body].concat()
            };
            client.send(request);
            origin.wait_for_requests(1);
            let got = origin.request();
            assert_eq!(got.field("content-length"), Some("5242880"));
            assert!(got.body == body, "{memory}, chunked: {chunked}");
            // An unlinked file holds what is not in memory.
            assert_eq!(
                juggler.open_files(),
                files + usize::from(memory != "64MiB"),
                "{memory}"
            );
            let left: Vec<_> = fs::read_dir(juggler.folder())
                .unwrap()
                .map(|file| file.unwrap().file_name())
                .collect();
            assert_eq!(left, ["juggler.toml"]);
            gate.open();
            client.read_response().expect(200);
            gate.close();
            eventually_eq("files are closed", files, || juggler.open_files());
            origin.forget();
        }
    }
}

#[test]
fn the_spool_is_free_once_the_response_begins() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegin");
            held.wait();
            conn.send("nings");
        }
    });
    let juggler = Config::new([origin.address()])
        .listener("limit = { body_memory = \"0B\" }")
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    gate.open();
    client.get("/").expect(200);
    let files = juggler.open_files();
    gate.close();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    let mut begun = Vec::new();
    while !begun.ends_with(b"begin") {
        begun.extend(client.read_some());
    }
    assert_eq!(juggler.open_files(), files);
    gate.open();
    assert_eq!(client.read_exactly(5), b"nings");
}

#[test]
fn a_full_spool_refuses_and_recovers() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .top(
            "[log]\naccess = \"stdout\"\nformat = \"json\"\n[spool]\nfolder = \"{dir}\"\nlimit = \
             \"2MiB\"",
        )
        .listener("limit = { body_memory = \"10KiB\" }")
        .cluster("capacity = 1")
        .start();
    let large = check::bytes(0, 4 << 20);
    let small = check::bytes(0, 900 << 10);
    for _ in 0..3 {
        let mut client = Client::connect(juggler.address());
        let response = client.post("/", &large).expect(503);
        assert!(
            response.text().contains("buffer") && response.closes(),
            "{}",
            response.text()
        );
        assert_eq!(response.field("retry-after"), Some("1"));
        client.expect_closed();
        let mut client = Client::connect(juggler.address());
        client.exchange(in_chunks(&small)).expect(200);
        assert!(origin.request().body == small);
        origin.forget();
    }
    assert!(
        juggler
            .wait_for_output("\"status\":503")
            .contains("\"end\":\"RR\"")
    );
}

#[test]
fn so_many_requests_at_once() {
    let gate = Gate::new();
    let origin = gated(&gate);
    let juggler = Config::new([origin.address()])
        .top("[process]\nmax_requests = 1")
        .start();
    let mut first = Client::connect(juggler.address());
    first.send(GET);
    gate.wait_for(1);
    let mut second = Client::connect(juggler.address());
    for _ in 0..3 {
        let response = second.exchange(GET).expect(503);
        assert!(
            response.text().contains("too many requests"),
            "{}",
            response.text()
        );
        assert_eq!(
            (response.field("retry-after"), response.closes()),
            (Some("1"), false)
        );
    }
    let response = second.exchange(
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    );
    let response = response.expect(503);
    assert!(response.interim.is_empty() && response.closes());
    gate.open();
    first.read_response().expect(200);
    // The place is free again once the response is delivered.
    first.exchange(GET).expect(200);
    Client::connect(juggler.address()).exchange(GET).expect(200);
}

/// Sends `count` requests on connections of their own. Returns the responses as they come.
fn all_at_once(juggler: &Juggler, count: usize) -> mpsc::Receiver<Response> {
    let (sender, receiver) = mpsc::channel();
    for _ in 0..count {
        let (sender, address) = (sender.clone(), juggler.address());
        // A test that has failed does not receive the response any more.
        thread::spawn(move || sender.send(Client::connect(address).exchange(GET)).is_ok());
    }
    receiver
}

#[test]
fn the_queue_has_an_end() {
    for limit in [0, 1, 3] {
        let gate = Gate::new();
        let origin = gated(&gate);
        let juggler = Config::new([origin.address()])
            .cluster(&format!(
                "capacity = 2\nclient_key = \"none\"\nqueue = {{ limit = {limit} }}"
            ))
            .start();
        let served = all_at_once(&juggler, 2);
        gate.wait_for(2);
        let responses = all_at_once(&juggler, limit + 4);
        // Requests without a place are refused while the others wait.
        for _ in 0..4 {
            let response = responses.recv_timeout(PATIENCE).unwrap().expect(503);
            assert!(
                response.text().contains("too many requests are waiting"),
                "{}",
                response.text()
            );
            assert_eq!(
                (response.field("retry-after"), response.closes()),
                (Some("1"), false)
            );
        }
        assert!(responses.try_recv().is_err());
        gate.open();
        for _ in 0..limit {
            responses.recv_timeout(PATIENCE).unwrap().expect(200);
        }
        for _ in 0..2 {
            served.recv_timeout(PATIENCE).unwrap().expect(200);
        }
        assert_eq!(origin.requests().len(), 2 + limit);
    }
}

#[test]
fn no_request_waits_longer_than_configured() {
    let gate = Gate::new();
    let origin = gated(&gate);
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .cluster("capacity = 1\nqueue = { timeout = \"200ms\" }")
        .start();
    let mut first = Client::connect(juggler.address());
    first.send(GET);
    gate.wait_for(1);
    let mut second = Client::connect(juggler.address());
    let began = std::time::Instant::now();
    let response = second.exchange(GET).expect(504);
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_millis(190) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
    assert!(
        response.text().contains("waited too long") && !response.closes(),
        "{}",
        response.text()
    );
    gate.open();
    first.read_response().expect(200);
    second.exchange(GET).expect(200);
    let line: serde_json::Value =
        serde_json::from_str(&juggler.wait_for_output("\"status\":504")).unwrap();
    assert_eq!(line["end"], "sQ");
    assert!(line["total_ms"].as_f64().unwrap() >= 190.0, "{line}");
}

#[test]
fn a_request_head_fits_into_one_buffer() {
    let origin = Origin::answering("fine");
    for (size, most) in [("4KiB", 4 << 10), ("64KiB", 64 << 10), ("1MiB", 100 << 10)] {
        let (head, target) = (most, most / 2);
        let juggler = Config::new([origin.address()])
            .top(&format!("[buffers]\nsize = \"{size}\""))
            .listener(&format!(
                "limit = {{ head = \"{head}B\", target = \"{target}B\" }}"
            ))
            .start();
        let rest = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        let head = |length: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(length - rest)
            )
        };
        let mut client = Client::connect(juggler.address());
        for length in [1000, most / 2, most - 1, most] {
            client.exchange(head(length)).expect(200);
        }
        client.exchange(head(most + 1)).expect(431);
        client.expect_closed();
    }
}
