//! Plain HTTP at an HTTPS port, and TLS at a plain one: the client is told what is wrong.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::TLS12;
use rustls::{CipherSuite, ClientConfig, ClientConnection};

use crate::support::{Authority, Client, Config, Juggler, Origin, Start};

const LOG: &str = "[log]\naccess = \"stdout\"";

fn https(config: Config) -> (Authority, Juggler) {
    let authority = Authority::new();
    let config = config
        .listener("tls = { certificates = [{ chain = \"{dir}/s.crt\", key = \"{dir}/s.key\" }] }");
    let start = Start::config(&config.text()).file("page", "<p>use https");
    authority.issue(&["localhost"]).write(start.folder(), "s");
    (authority, start.ready())
}

#[test]
fn plain_http_at_an_https_port_is_told_so() {
    let origin = Origin::answering("fine");
    let (authority, juggler) = https(Config::new([origin.address()]).top(LOG));
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\n\r\n",
        "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
        "GET /what-is-not-whole",
        "G",
    ] {
        let mut client = Client::connect(juggler.address());
        client.send(request);
        let response = client.read_response().expect(400);
        assert!(
            response
                .text()
                .contains("plain HTTP was sent to an HTTPS port"),
            "{}",
            response.text()
        );
        assert!(response.closes());
        client.expect_closed();
    }
    let mut head = Client::connect(juggler.address());
    assert!(
        head.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect(400)
            .body
            .is_empty()
    );
    let line = juggler.wait_for_output("\"OPTIONS * HTTP/1.0\" 400 ");
    assert!(
        line.ends_with("end=PR \"plain HTTP was sent to an HTTPS port\""),
        "{line}"
    );
    assert!(origin.requests().is_empty());
    Client::tls(juggler.address(), &authority.client(), "localhost")
        .get("/")
        .expect(200);
}

#[test]
fn an_upload_in_plain_http_does_not_lose_the_answer() {
    let origin = Origin::answering("fine");
    let page = "error_page = [{ status = 400, file = \"{dir}/page\" }]";
    let (_authority, juggler) = https(Config::new([origin.address()]).listener(page));
    let mut client = Client::connect(juggler.address());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 1_000_000]);
    assert_eq!(client.read_response().expect(400).text(), "<p>use https");
}

#[test]
fn behind_a_proxy_header_it_is_told_too() {
    let origin = Origin::answering("fine");
    let config = Config::new([origin.address()])
        .top(LOG)
        .listener("proxy_protocol = \"127.0.0.1\"");
    let (_authority, juggler) = https(config);
    let mut client = Client::connect(juggler.address());
    client.send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_response().expect(400);
    let line = juggler.wait_for_output("GET / HTTP/1.1");
    assert!(line.starts_with("192.0.2.7 "), "{line}");
}

#[test]
fn tls_at_a_plain_port_is_told_so_at_once() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .top(LOG)
        .listener("timeout = { header = \"24h\" }")
        .start();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Authority::new().client(), name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    for hello in [&hello[..], &hello[..3]] {
        let mut client = Client::connect(juggler.address());
        client.send(hello);
        let response = client.read_response().expect(400);
        assert!(
            response
                .text()
                .contains("TLS was sent to a plain HTTP port"),
            "{}",
            response.text()
        );
    }
    let line = juggler.wait_for_output(" 400 ");
    assert!(
        line.ends_with("end=PR \"TLS was sent to a plain HTTP port\""),
        "{line}"
    );
}

#[test]
fn the_servers_order_of_ciphers_counts() {
    let origin = Origin::answering("fine");
    let (authority, juggler) = https(Config::new([origin.address()]));
    let client = |first: CipherSuite| -> Arc<ClientConfig> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != first);
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        Arc::new(config)
    };
    let chosen = [
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ]
    .map(|first| {
        let mut connection = Client::tls(juggler.address(), &client(first), "localhost");
        connection.get("/").expect(200);
        connection
            .tls_connection()
            .negotiated_cipher_suite()
            .unwrap()
            .suite()
    });
    assert!(
        chosen.iter().all(|suite| *suite == chosen[0]),
        "the client chose: {chosen:?}"
    );
}
