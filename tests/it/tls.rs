//! HTTPS with a client that the test controls fully: handshakes, names, records, ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, SupportedProtocolVersion};

use crate::support::{
    Authority, Client, Config, Gate, Juggler, Origin, PATIENCE, Start, TestServer, check,
    eventually,
};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The balancer with one certificate, for `localhost`.
fn https(config: Config) -> (Authority, Juggler) {
    let authority = Authority::new();
    let juggler = with_certificates(&authority, &[("server", &["localhost"])], config, "");
    (authority, juggler)
}

/// The balancer with these certificates, and more lines in its `tls` table.
fn with_certificates(
    authority: &Authority,
    certificates: &[(&str, &[&str])],
    config: Config,
    more: &str,
) -> Juggler {
    let list: Vec<_> = certificates
        .iter()
        .map(|(file, _)| {
            format!("{{ chain = \"{{dir}}/{file}.crt\", key = \"{{dir}}/{file}.key\" }}")
        })
        .collect();
    let config = config.listener(&format!(
        "tls = {{ certificates = [{}]{more} }}",
        list.join(", ")
    ));
    let start = Start::config(&config.text());
    for (file, names) in certificates {
        authority.issue(names).write(start.folder(), file);
    }
    start.ready()
}

fn connect(juggler: &Juggler, config: &Arc<ClientConfig>) -> Client {
    Client::tls(juggler.address(), config, "localhost")
}

/// The first bytes that a client of this authority sends.
fn client_hello(authority: &Authority) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(authority.client(), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    for version in VERSIONS {
        let config = authority.client_with(&[version], &[]);
        let mut client = Client::try_tls(juggler.address(), &config, "localhost", true).unwrap();
        assert_eq!(
            client.tls_connection().protocol_version(),
            Some(version.version)
        );
        client.get("/test.txt").expect(200);
        // A request may come in as many records, too.
        client.send_slowly("GET /test.txt HTTP/1.1\r\nHost: x\r\n\r\n");
        client.read_response().expect(200);
    }
}

#[test]
fn requests_in_one_record_are_all_answered_in_order() {
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    for version in VERSIONS {
        let mut client = connect(&juggler, &authority.client_with(&[version], &[]));
        let many: String = (1..=50)
            .map(|size| format!("GET /__size/{size} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .collect();
        client.send(many);
        for size in 1..=50 {
            assert_eq!(
                client.read_response().expect(200).body,
                check::bytes(0, size)
            );
        }
    }
}

#[test]
fn big_bodies_go_both_ways() {
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    let body = check::bytes(0, 3_000_000);
    for version in VERSIONS {
        let mut client = connect(&juggler, &authority.client_with(&[version], &[]));
        let sum = client.post("/__sum", &body).expect(200);
        assert_eq!(sum.text(), format!("3000000 {}\n", check::Sum::of(&body)));
        for path in [
            "/__size/3000000",
            "/__chunked/30?size=100000",
            "/__close/3000000",
        ] {
            assert!(client.get(path).expect(200).body == body, "{path}");
        }
    }
}

#[test]
fn a_large_answer_of_our_own_arrives_whole() {
    let server = TestServer::start();
    let authority = Authority::new();
    let page: String = "sorry ".repeat(50_000);
    let config = Config::new([server.address()])
        .cluster("on_5xx = \"bad_gateway\"\nerror_page = [{ status = 502, file = \"{dir}/page\" }]")
        .listener(
            "tls = { certificates = [{ chain = \"{dir}/server.crt\", key = \"{dir}/server.key\" \
             }] }",
        );
    let start = Start::config(&config.text()).file("page", &page);
    authority
        .issue(&["localhost"])
        .write(start.folder(), "server");
    let juggler = start.ready();
    let mut client = connect(&juggler, &authority.client());
    assert!(client.get("/__status/500").expect(502).text() == page);
    client.get("/test.txt").expect(200);
}

#[test]
fn keys_may_be_updated_while_a_response_comes() {
    const SIZE: u64 = 12_000_000;
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    let mut client = connect(&juggler, &authority.client_with(&[&TLS13], &[]));
    client.receive_buffer(256 * 1024);
    let path = format!("GET /__size/{SIZE} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.send(&path);
    // By now a courier has the rest of the response. The reply to the key update has to wait behind
    // it.
    eventually(PATIENCE, "a courier", || {
        juggler.threads_by_name().contains_key("courier")
    });
    let mut got = Vec::new();
    for _ in 0..10 {
        client.tls_connection().refresh_traffic_keys().unwrap();
        client.send("");
        got.extend(client.read_exactly(200_000));
    }
    let head = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let rest = SIZE as usize - (got.len() - head);
    got.extend(client.read_exactly(rest));
    assert!(got[head..] == check::bytes(0, SIZE));
    client.tls_connection().refresh_traffic_keys().unwrap();
    client.get("/test.txt").expect(200);
}

#[test]
fn the_name_chooses_the_certificate() {
    let server = TestServer::start();
    let authority = Authority::new();
    let certificates: &[(&str, &[&str])] = &[
        ("first", &["first.test", "127.0.0.1"]),
        ("exact", &["exact.wild.test", "other.test"]),
        ("wild", &["*.wild.test"]),
    ];
    let juggler = with_certificates(
        &authority,
        certificates,
        Config::new([server.address()]),
        "",
    );
    let config = authority.client();
    for name in [
        "first.test",
        "other.test",
        "exact.wild.test",
        "a.wild.test",
        "A.Wild.TEST",
        "127.0.0.1",
    ] {
        Client::tls(juggler.address(), &config, name)
            .get("/test.txt")
            .expect(200);
    }
    for name in ["unknown.test", "wild.test", "a.b.wild.test"] {
        let refused = Client::try_tls(juggler.address(), &config, name, false)
            .err()
            .unwrap();
        // The client reports which names it saw instead.
        assert!(
            format!("{refused:?}").contains("first.test"),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn an_old_version_is_refused_with_an_alert() {
    let server = TestServer::start();
    let authority = Authority::new();
    let juggler = with_certificates(
        &authority,
        &[("server", &["localhost"])],
        Config::new([server.address()]),
        ", min_version = \"1.3\"",
    );
    let old = authority.client_with(&[&TLS12], &[]);
    let refused = Client::try_tls(juggler.address(), &old, "localhost", false)
        .err()
        .unwrap();
    assert!(
        format!("{refused:?}").contains("AlertReceived(ProtocolVersion)"),
        "{refused:?}"
    );
    connect(&juggler, &authority.client())
        .get("/test.txt")
        .expect(200);
}

#[test]
fn the_protocol_is_http_1_1_or_nothing() {
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    let with = |protocols| authority.client_with(&VERSIONS, protocols);
    for (offered, chosen) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["h2", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let mut client = connect(&juggler, &with(offered));
        assert_eq!(client.tls_connection().alpn_protocol(), chosen);
        client.get("/test.txt").expect(200);
    }
    let refused = Client::try_tls(juggler.address(), &with(&["h2"]), "localhost", false);
    let refused = format!("{:?}", refused.err().unwrap());
    assert!(
        refused.contains("AlertReceived(NoApplicationProtocol)"),
        "{refused}"
    );
}

#[test]
fn sessions_are_resumed() {
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    for version in VERSIONS {
        let config = authority.client_with(&[version], &[]);
        for expected in [
            HandshakeKind::Full,
            HandshakeKind::Resumed,
            HandshakeKind::Resumed,
        ] {
            let mut client = connect(&juggler, &config);
            client.get("/test.txt").expect(200);
            assert_eq!(
                client.tls_connection().handshake_kind(),
                Some(expected),
                "{version:?}"
            );
        }
    }
}

#[test]
fn a_handshake_has_its_deadline() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).listener("timeout = { handshake = \"300ms\" }");
    let (authority, juggler) = https(config);
    let hello = client_hello(&authority);
    let began = Instant::now();
    let mut silent = Client::connect(juggler.address());
    let mut half = Client::connect(juggler.address());
    half.send(&hello[..hello.len() / 2]);
    silent.expect_closed();
    half.expect_gone();
    // Each byte is progress, but the deadline is for all of them.
    let mut dripping = TcpStream::connect(juggler.address()).unwrap();
    dripping.set_nodelay(true).unwrap();
    dripping
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut ended = false;
    for byte in &hello {
        ended =
            dripping.write_all(&[*byte]).is_err() || matches!(dripping.read(&mut [0; 64]), Ok(0));
        if ended {
            break;
        }
    }
    assert!(ended, "a slow hello took {:?}", began.elapsed());
    assert!(began.elapsed() >= Duration::from_millis(600));
    connect(&juggler, &authority.client())
        .get("/test.txt")
        .expect(200);
}

#[test]
fn what_is_no_tls_gets_an_alert_and_an_end() {
    let server = TestServer::start();
    let (authority, juggler) = https(Config::new([server.address()]));
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        &[0; 100],
        &[0xff; 20_000],
        b"\x16\x03\x01\xff\xff\x01",
        b"\x15\x03\x03\x00\x02\x02\x28",
    ] {
        let mut client = Client::connect(juggler.address());
        client.send(garbage);
        client.shutdown_write();
        // An alert is a record of type 21. An alert gets no reply.
        let said = client.try_read_to_end().unwrap_or_else(|(_, said)| said);
        assert!(
            said.first() == Some(&21) || garbage[0] == 0x15,
            "{said:?} to {:?}",
            &garbage[..6]
        );
    }
    connect(&juggler, &authority.client())
        .get("/test.txt")
        .expect(200);
}

#[test]
fn a_clean_end_is_said() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).listener("timeout = { idle = \"200ms\" }");
    let (authority, juggler) = https(config);
    for version in VERSIONS {
        let config = authority.client_with(&[version], &[]);
        // For the harness an end without close_notify is an error.
        let mut client = connect(&juggler, &config);
        client
            .exchange("GET /test.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect(200);
        client.expect_closed();
        let mut old = connect(&juggler, &config);
        assert!(
            old.exchange("GET /__close/100 HTTP/1.0\r\n\r\n")
                .expect(200)
                .closes()
        );
        old.expect_closed();
        let mut wrong = connect(&juggler, &config);
        wrong.exchange("GET / HTTP/1.1\r\n\r\n").expect(400);
        wrong.expect_closed();
        let mut idle = connect(&juggler, &config);
        idle.get("/test.txt").expect(200);
        idle.expect_closed();
        let mut slow = connect(&juggler, &config);
        slow.receive_buffer(256 * 1024);
        slow.send("GET /__size/12000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        eventually(PATIENCE, "a courier", || {
            juggler.threads_by_name().contains_key("courier")
        });
        assert!(slow.read_response().expect(200).body == check::bytes(0, 12_000_000));
        slow.expect_closed();
    }
}

#[test]
fn a_stop_says_goodbye_and_waits_for_no_handshake() {
    let server = TestServer::start();
    let (authority, mut juggler) = https(Config::new([server.address()]));
    let mut idle = connect(&juggler, &authority.client());
    idle.get("/test.txt").expect(200);
    let mut fresh = connect(&juggler, &authority.client());
    let hello = client_hello(&authority);
    let mut half = Client::connect(juggler.address());
    half.send(&hello[..hello.len() / 2]);
    let mut silent = Client::connect(juggler.address());
    let began = Instant::now();
    assert_eq!(juggler.stop(), Some(0));
    // A handshake may take 10 s, and the stop 30 s.
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    idle.expect_closed();
    fresh.expect_closed();
    half.expect_gone();
    silent.expect_gone();
}

#[test]
fn a_truncation_is_never_said_to_be_an_end() {
    let origin = Origin::start(|conn, _| {
        let Some(request) = conn.request() else {
            return;
        };
        let framing = match request.target.as_str() {
            "/length" => "Content-Length: 1000",
            _ => "Transfer-Encoding: chunked",
        };
        conn.send(format!(
            "HTTP/1.1 200 OK\r\n{framing}\r\n\r\n1f4\r\n{}",
            "x".repeat(400)
        ));
    });
    let (authority, juggler) = https(Config::new([origin.address()]).cluster("capacity = 1"));
    for version in VERSIONS {
        let config = authority.client_with(&[version], &[]);
        for request in [
            "GET /length HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET /chunked HTTP/1.1\r\nHost: x\r\n\r\n",
            // Where the end of the connection is the end of the body, this is the only sign.
            "GET /chunked HTTP/1.0\r\nHost: x\r\n\r\n",
        ] {
            let mut client = connect(&juggler, &config);
            client.send(request);
            let got = client.expect_cut();
            assert!(got.starts_with(b"HTTP/1.1 200"), "{request}");
        }
    }
}

/// An origin that sends half of its response, and the rest once the gate is open.
fn halting(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/half" {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            }
            gate.wait();
            if request.target == "/half" {
                conn.send("later");
            } else {
                conn.answer(200, "whole");
            }
        }
    })
}

#[test]
fn a_client_that_says_goodbye_is_gone_or_served_as_configured() {
    let gate = Gate::new();
    let origin = halting(&gate);
    let common = "timeout = { abort = \"50ms\" }\ncapacity = 1";
    let (authority, aborting) = https(Config::new([origin.address()]).cluster(common));
    let mut client = connect(&aborting, &authority.client());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    client.shutdown_write();
    client.expect_gone_or_cut();
    drop(aborting);

    let config = Config::new([origin.address()]).cluster(common);
    let (authority, serving) = https(config.listener("half_close = \"serve\""));
    let mut client = connect(&serving, &authority.client());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(2);
    client.shutdown_write();
    gate.open();
    assert_eq!(client.read_response().expect(200).text(), "whole");
    client.expect_closed();
}

#[test]
fn a_response_that_has_begun_is_ended_properly_after_a_goodbye() {
    for half_close in ["abort", "serve"] {
        let gate = Gate::new();
        let origin = halting(&gate);
        let (authority, juggler) = https(
            Config::new([origin.address()]).listener(&format!("half_close = \"{half_close}\"")),
        );
        let mut client = connect(&juggler, &authority.client());
        client.send("GET /half HTTP/1.1\r\nHost: x\r\n\r\n");
        gate.wait_for(1);
        let mut got = Vec::new();
        while !got.ends_with(b"first") {
            got.extend(client.read_some());
        }
        client.shutdown_write();
        gate.open();
        assert_eq!(client.read_to_end(), b"later", "{half_close}");
    }
}

#[test]
fn certificates_are_read_again_on_sighup() {
    let server = TestServer::start();
    let authority = Authority::new();
    let juggler = with_certificates(
        &authority,
        &[("server", &["old.test"])],
        Config::new([server.address()]),
        "",
    );
    let config = authority.client();
    let reach = |name: &str| Client::try_tls(juggler.address(), &config, name, false).is_ok();
    let mut old = Client::tls(juggler.address(), &config, "old.test");
    authority
        .issue(&["new.test"])
        .write(&juggler.folder(), "server");
    assert!(reach("old.test"), "there was no reload yet");
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log("listener main: certificates reloaded");
    assert!(reach("new.test") && !reach("old.test"));
    old.get("/test.txt").expect(200);

    // A key that does not fit, and a file that is no certificate: each is reported, and the last
    // good certificate stays.
    authority
        .issue(&["newer.test"])
        .write(&juggler.folder(), "other");
    fs::copy(
        juggler.folder().join("other.crt"),
        juggler.folder().join("server.crt"),
    )
    .unwrap();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log("is not the key of the certificate");
    fs::write(juggler.folder().join("server.crt"), "nonsense").unwrap();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log("is not PEM");
    assert!(reach("new.test") && !reach("newer.test"));
    old.get("/test.txt").expect(200);
}

#[test]
fn an_optional_listener_without_certificate_is_left_out() {
    let server = TestServer::start();
    let more = "[[listener]]\nname = \"https\"\nbind = \"127.0.0.1:0\"\noptional = true\ntls = { \
                certificates = [{ chain = \"{dir}/server.crt\", key = \"{dir}/server.key\" }] }";
    let config = Config::new([server.address()]).rest(more).text();
    let without = Juggler::start(&config);
    assert_eq!(
        without.addresses().into_keys().collect::<Vec<_>>(),
        ["main"]
    );
    without.wait_for_log("the listener is left out");
    Client::connect(without.address_of("main"))
        .get("/test.txt")
        .expect(200);

    let authority = Authority::new();
    let start = Start::config(&config);
    authority
        .issue(&["localhost"])
        .write(start.folder(), "server");
    let with = start.ready();
    Client::tls(with.address_of("https"), &authority.client(), "localhost")
        .get("/test.txt")
        .expect(200);
}

#[test]
fn a_listener_can_send_all_clients_to_https() {
    let server = TestServer::start();
    let config = |port: &str| {
        Config::new([server.address()]).listener(&format!(
            "redirect_https = {port}\nhealth_path = \"/health\""
        ))
    };
    let usual = config("true").start();
    let mut client = Client::connect(usual.address());
    for (host, target, location) in [
        ("a.test", "/", "https://a.test/"),
        ("a.test:8080", "/a/b?c=d&e", "https://a.test/a/b?c=d&e"),
        ("[::1]", "/", "https://[::1]/"),
        ("[::1]:80", "/x", "https://[::1]/x"),
        ("ignored.test", "http://b.test:81/y", "https://b.test/y"),
    ] {
        let response = client
            .exchange(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .expect(308);
        assert_eq!(response.field("location"), Some(location));
        assert!(!response.closes());
    }
    client.get("/health").expect(200);
    client
        .exchange("GET / HTTP/1.1\r\nHost: \r\n\r\n")
        .expect(400);
    let mut posting = Client::connect(usual.address());
    assert!(posting.post("/", "body").expect(308).closes());
    posting.expect_closed();
    Client::connect(usual.address())
        .exchange("GET / HTTP/1.0\r\n\r\n")
        .expect(400);

    let other = config("8443").start();
    let response = Client::connect(other.address()).get("/a").expect(308);
    assert_eq!(response.field("location"), Some("https://test:8443/a"));
    assert_eq!(server.stat("requests"), 0);
}
