//! Tests of the tool box: a test that cannot fail proves nothing.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::support::{Authority, Client, Gate, Origin, Request};

#[test]
fn an_origin_keeps_what_it_received() {
    let origin = Origin::answering("hello");
    let mut client = Client::connect(origin.address());
    assert_eq!(client.get("/a").expect(200).text(), "hello");
    let raw = "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \
               chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n";
    client.send_slowly(raw);
    client.read_response().expect(200);
    let [first, second]: [Request; 2] = origin.requests().try_into().unwrap();
    assert_eq!(
        (first.target.as_str(), first.field("host"), first.connection),
        ("/a", Some("test"), 0)
    );
    assert_eq!(
        (second.raw.as_slice(), second.body.as_slice()),
        (raw.as_bytes(), &b"abc"[..])
    );
    assert_eq!(second.trailers, [("T".to_owned(), "u".to_owned())]);
    assert_eq!(
        (origin.connections_now(), origin.connections_ever()),
        (1, 1)
    );
    client.shutdown_write();
    client.expect_closed();
    origin.wait_for_connections(0);
    origin.assert_no_failures();
}

#[test]
fn an_origin_hangs_resets_and_comes_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let mut origin = Origin::start(move |conn, number| {
        conn.request();
        match number {
            0 => held.wait(),
            1 => conn.reset(),
            _ => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        }
        conn.answer(200, "late");
    });
    let address = origin.address();
    let mut slow = Client::connect(address);
    slow.send("GET / HTTP/1.1\r\n\r\n");
    gate.wait_for(1);
    slow.expect_silence(Duration::from_millis(20));
    gate.open();
    assert_eq!(slow.read_response().text(), "late");
    let mut reset = Client::connect(address);
    reset.send("GET / HTTP/1.1\r\n\r\n");
    assert!(reset.expect_cut().ends_with(b"late"));
    origin.refuse();
    assert!(Client::try_connect(address).is_err());
    origin.restart();
    let mut again = Client::connect(address);
    again.send("GET / HTTP/1.1\r\n\r\n");
    assert!(
        again
            .read_to_end()
            .starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    );
    origin.stop();
    assert_eq!(origin.connections_ever(), 3);
}

#[test]
fn an_origin_sees_how_a_client_leaves() {
    let origin = Origin::start(|conn, _| {
        let reset = conn.wait_for_close();
        assert_eq!((reset, conn.leftover()), (conn.number() == 1, &b"bye"[..]));
    });
    for number in 0..2 {
        let mut client = Client::connect(origin.address());
        client.send("bye");
        origin.wait_for_connections(1);
        // The bytes must be read before the reset throws them away.
        thread::sleep(Duration::from_millis(50));
        if number == 0 {
            drop(client);
        } else {
            client.reset();
        }
        origin.wait_for_connections(0);
    }
    origin.assert_no_failures();
}

#[test]
fn a_client_takes_nothing_that_is_wrong() {
    for wrong in [
        "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n folded\r\n\r\n",
        "HTTP/1.1 204 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let origin = Origin::start(move |conn, _| conn.send(wrong));
        let result = Client::connect(origin.address()).try_read_response(false);
        assert!(result.is_err(), "{wrong:?}: {result:?}");
    }
}

#[test]
fn a_tls_client_trusts_its_authority_alone() {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost", "127.0.0.1"]);
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = issued.write(folder.path(), "server");
    use rustls::pki_types::pem::PemObject as _;
    let chain = rustls::pki_types::CertificateDer::pem_file_iter(chain)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
    let config = Arc::new(
        rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // The distrustful client ends here. The others receive their own bytes back.
            let mut said = [0; 4];
            if std::io::Read::read_exact(&mut stream, &mut said).is_ok() {
                std::io::Write::write_all(&mut stream, &said).unwrap();
                stream.conn.send_close_notify();
                std::io::Write::flush(&mut stream).unwrap();
            }
        }
    });
    for drip in [false, true] {
        let mut client = Client::try_tls(address, &authority.client(), "localhost", drip).unwrap();
        client.send("ping");
        assert_eq!(client.read_to_end(), b"ping");
    }
    assert!(Client::try_tls(address, &Authority::new().client(), "localhost", false).is_err());
    assert!(Client::try_tls(address, &authority.client(), "elsewhere", false).is_err());
}

#[test]
#[should_panic(
    expected = "no-such-program is not installed, and this test needs it: run tests/install.sh"
)]
fn a_test_without_its_program_fails() {
    crate::support::tool("no-such-program");
}
