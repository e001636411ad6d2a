//! HTTPS by the record: what comes before, between and inside of records.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::support::{
    Authority, Config, Gate, Juggler, Origin, PATIENCE, Start, TestServer, eventually_eq,
};

const REQUEST: &[u8] = b"GET /test.txt HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client whose records the test makes itself.
struct Wire<S> {
    tls: ClientConnection,
    stream: S,
}

impl Wire<TcpStream> {
    /// Connects and shakes hands.
    fn connect(juggler: &Juggler, config: &Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(juggler.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(stream, config, b"")
    }
}

impl<S: Read + Write> Wire<S> {
    /// Shakes hands over this stream. `before` comes before the first record, in the same packet.
    fn over(stream: S, config: &Arc<ClientConfig>, before: &[u8]) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut wire = Self { tls, stream };
        let mut first = before.to_vec();
        wire.tls.write_tls(&mut first).unwrap();
        wire.stream.write_all(&first).unwrap();
        while wire.tls.is_handshaking() {
            wire.tls.complete_io(&mut wire.stream).unwrap();
        }
        wire
    }

    /// Returns the record for these bytes.
    fn record(&mut self, plain: &[u8]) -> Vec<u8> {
        self.tls.writer().write_all(plain).unwrap();
        let mut record = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut record).unwrap();
        }
        record
    }

    /// Reads until the end. Returns the text, and whether the end was a proper one.
    fn read_to_end(&mut self) -> (String, io::Result<()>) {
        let mut got = Vec::new();
        let mut both = rustls::Stream::new(&mut self.tls, &mut self.stream);
        let end = both.read_to_end(&mut got).map(drop);
        (String::from_utf8_lossy(&got).into_owned(), end)
    }

    /// Reads until this text has come.
    fn read_until(&mut self, text: &str) {
        self.read_until_times(text, 1);
    }

    /// Reads until this text has come `times` times. (One read may bring several.)
    fn read_until_times(&mut self, text: &str, times: usize) {
        let mut got = Vec::new();
        let mut both = rustls::Stream::new(&mut self.tls, &mut self.stream);
        while String::from_utf8_lossy(&got).matches(text).count() < times {
            let mut some = [0; 4096];
            let length = both.read(&mut some).unwrap();
            assert!(
                length > 0,
                "ended after {:?}",
                String::from_utf8_lossy(&got)
            );
            got.extend_from_slice(&some[..length]);
        }
    }
}

/// Sends bytes one by one and slowly, until all are sent or the other side closes. Returns how long
/// that took.
fn drip(mut stream: TcpStream, bytes: Vec<u8>) -> thread::JoinHandle<Duration> {
    thread::spawn(move || {
        let began = Instant::now();
        for byte in bytes {
            if stream.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        began.elapsed()
    })
}

fn https(config: Config) -> (Arc<ClientConfig>, Juggler) {
    let authority = Authority::new();
    let config = config.listener(
        "tls = { certificates = [{ chain = \"{dir}/server.crt\", key = \"{dir}/server.key\" }] }",
    );
    let start = Start::config(&config.text());
    authority
        .issue(&["localhost"])
        .write(start.folder(), "server");
    (authority.client(), start.ready())
}

#[test]
fn a_record_that_drips_extends_no_deadline() {
    let server = TestServer::start();
    let timeouts = "timeout = { header = \"300ms\", body = \"300ms\", idle = \"300ms\" }";
    let (config, juggler) = https(Config::new([server.address()]).listener(timeouts));
    let padding = "x".repeat(2000);
    let head = format!("GET /test.txt HTTP/1.1\r\nHost: x\r\nPadding: {padding}\r\n\r\n");
    let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n";
    // What comes whole, what drips, and the answer.
    for (whole, dripping, answer) in [
        (
            &head.as_bytes()[..30],
            &head.as_bytes()[30..],
            "HTTP/1.1 408 ",
        ),
        (post.as_bytes(), padding.as_bytes(), "HTTP/1.1 408 "),
        // There was no request yet, so there is no answer.
        (b"", head.as_bytes(), ""),
    ] {
        let mut wire = Wire::connect(&juggler, &config);
        let first = wire.record(whole);
        wire.stream.write_all(&first).unwrap();
        let rest = wire.record(dripping);
        let began = Instant::now();
        let dripped = drip(wire.stream.try_clone().unwrap(), rest);
        let (said, _) = wire.read_to_end();
        assert!(
            said.starts_with(answer) && said.is_empty() == answer.is_empty(),
            "{said}"
        );
        // All of it would take 20 s.
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        let _ = wire.stream.shutdown(Shutdown::Both);
        dripped.join().unwrap();
    }
    eventually_eq("requests", 0, || server.stat("requests"));
}

#[test]
fn a_header_for_the_proxy_protocol_may_share_a_packet_with_the_hello() {
    let server = TestServer::start();
    let (config, juggler) = https(
        Config::new([server.address()])
            .top("[log]\naccess = \"stdout\"")
            .listener("proxy_protocol = [\"127.0.0.1\"]"),
    );
    let stream = TcpStream::connect(juggler.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire::over(
        stream,
        &config,
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n",
    );
    let request = wire.record(REQUEST);
    wire.stream.write_all(&request).unwrap();
    wire.read_until("This is test server 1");
    juggler.wait_for_output("192.0.2.7 - - [");
}

#[test]
fn a_unix_socket_can_have_tls() {
    let server = TestServer::start();
    let (config, juggler) =
        https(Config::new([server.address()]).listener("bind = \"unix:{dir}/socket\""));
    let stream = std::os::unix::net::UnixStream::connect(juggler.folder().join("socket")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire::over(stream, &config, b"");
    let request = wire.record(REQUEST);
    wire.stream.write_all(&request).unwrap();
    wire.read_until("This is test server 1");
}

#[test]
fn the_first_request_may_come_with_the_end_of_the_handshake() {
    let server = TestServer::start();
    let (config, juggler) = https(Config::new([server.address()]));
    let mut stream = TcpStream::connect(juggler.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config, name).unwrap();
    // What the test writes before the handshake is kept, and goes out behind our Finished.
    tls.writer().write_all(&REQUEST.repeat(3)).unwrap();
    let mut wire = Wire {
        tls,
        stream: &mut stream,
    };
    wire.read_until_times("This is test server 1", 3);
}

#[test]
fn a_forged_record_ends_it_with_an_alert() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "late");
        }
    });
    let (config, juggler) = https(
        Config::new([origin.address()])
            .top("[log]\naccess = \"stdout\"")
            .cluster("timeout = { abort = \"50ms\" }"),
    );
    let forged = [&b"\x17\x03\x03\x00\x20"[..], &[7; 32]].concat();
    // While nothing is in progress, and while a request is open.
    for open in [false, true] {
        let mut wire = Wire::connect(&juggler, &config);
        if open {
            let request = wire.record(REQUEST);
            wire.stream.write_all(&request).unwrap();
            gate.wait_for(1);
        }
        wire.stream.write_all(&forged).unwrap();
        let (said, end) = wire.read_to_end();
        let end = format!("{end:?}");
        assert!(
            said.is_empty() && end.contains("AlertReceived(BadRecordMac)"),
            "{said} {end}"
        );
    }
    juggler.wait_for_output(" 499 ");
    gate.open();
}

#[test]
fn records_without_content_do_no_harm_and_too_many_end_it() {
    let server = TestServer::start();
    let (config, juggler) = https(Config::new([server.address()]));
    let mut wire = Wire::connect(&juggler, &config);
    for _ in 0..20 {
        wire.tls.refresh_traffic_keys().unwrap();
        let update = wire.record(b"");
        wire.stream.write_all(&update).unwrap();
    }
    let request = wire.record(REQUEST);
    wire.stream.write_all(&request).unwrap();
    wire.read_until("This is test server 1");
    for _ in 0..200 {
        wire.tls.refresh_traffic_keys().unwrap();
        let update = wire.record(b"");
        if wire.stream.write_all(&update).is_err() {
            break;
        }
    }
    let (_, end) = wire.read_to_end();
    assert!(end.is_err(), "the connection went on");
}
