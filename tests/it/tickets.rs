//! TLS sessions that clients resume, over a reload.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};

use crate::support::{Authority, Client, Config, Juggler, Origin, Start, reload};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const TLS: &str = "tls = { certificates = [{ chain = \"{dir}/s.crt\", key = \"{dir}/s.key\" }] }";

fn config(origin: &Origin) -> Config {
    Config::new([origin.address()]).listener(TLS)
}

fn start(config: &Config, authority: &Authority) -> Juggler {
    let start = Start::config(&config.text());
    authority.issue(&["localhost"]).write(start.folder(), "s");
    start.ready()
}

fn again(juggler: &Juggler) {
    let before = juggler.log_length();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log_behind(before, "reloaded");
}

#[track_caller]
fn shakes(juggler: &Juggler, client: &Arc<ClientConfig>) -> HandshakeKind {
    let mut client = Client::tls(juggler.address(), client, "localhost");
    client.get("/").expect(200);
    client.tls_connection().handshake_kind().unwrap()
}

#[test]
fn a_reload_with_the_same_certificates_keeps_sessions() {
    let (origin, authority) = (Origin::answering("fine"), Authority::new());
    let juggler = start(&config(&origin), &authority);
    let clients = VERSIONS.map(|version| authority.client_with(&[version], &[]));
    for client in &clients {
        assert_eq!(shakes(&juggler, client), HandshakeKind::Full);
    }
    for _ in 0..3 {
        again(&juggler);
        for client in &clients {
            assert_eq!(shakes(&juggler, client), HandshakeKind::Resumed);
        }
    }
    // The files are written anew, with the same content.
    for name in ["s.crt", "s.key"] {
        let path = juggler.folder().join(name);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }
    again(&juggler);
    for client in &clients {
        assert_eq!(shakes(&juggler, client), HandshakeKind::Resumed);
    }
    assert!(
        juggler
            .log()
            .iter()
            .all(|line| !line.contains("certificates reloaded"))
    );
}

#[test]
fn other_settings_of_the_listener_keep_sessions_too() {
    let (origin, authority) = (Origin::answering("fine"), Authority::new());
    let config = config(&origin);
    let juggler = start(&config, &authority);
    let client = authority.client();
    assert_eq!(shakes(&juggler, &client), HandshakeKind::Full);
    let text = config
        .listener("bind = [\"ADDRESS\"]\ntimeout = { idle = \"5s\" }\nlimit = { fields = 7 }")
        .text();
    let text = text
        .replace("ADDRESS", &juggler.address())
        .replace("{dir}", &juggler.folder().display().to_string());
    reload(&juggler, &text, "reloaded");
    assert_eq!(shakes(&juggler, &client), HandshakeKind::Resumed);
}

#[test]
fn a_session_ends_with_the_certificate_that_vouched_for_it() {
    let (origin, authority) = (Origin::answering("fine"), Authority::new());
    let renew = |folder: &Path, names: &[&str]| authority.issue(names).write(folder, "s");
    let juggler = start(&config(&origin), &authority);
    for version in VERSIONS {
        let client = authority.client_with(&[version], &[]);
        shakes(&juggler, &client);
        assert_eq!(shakes(&juggler, &client), HandshakeKind::Resumed);
        renew(&juggler.folder(), &["localhost"]);
        assert_eq!(
            shakes(&juggler, &client),
            HandshakeKind::Resumed,
            "there was no reload yet"
        );
        again(&juggler);
        assert_eq!(shakes(&juggler, &client), HandshakeKind::Full);
        assert_eq!(shakes(&juggler, &client), HandshakeKind::Resumed);
    }
    // The certificate is now for another name. A client that resumed would never see that.
    let client = authority.client();
    shakes(&juggler, &client);
    renew(&juggler.folder(), &["other.test"]);
    again(&juggler);
    assert!(Client::try_tls(juggler.address(), &client, "localhost", false).is_err());
}
