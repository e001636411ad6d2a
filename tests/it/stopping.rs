//! A stop before the door is shut: `process.drain_delay`.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::support::{Client, Config, Origin, PATIENCE, Start, TestServer, eventually};

const HEALTH: &str = "health_path = \"/up\"";

#[test]
fn a_stop_that_is_announced_serves_as_before_and_says_so_at_the_health_path() {
    let origin = Origin::answering("fine");
    let mut juggler = Config::new([origin.address()])
        .top("[process]\ndrain_delay = \"4s\"")
        .listener(HEALTH)
        .start();
    let address = juggler.address();
    let mut old = Client::connect(&address);
    assert_eq!(old.get("/up").expect(200).text(), "200 OK: ok\n");
    juggler.signal(Signal::SIGTERM);
    juggler.wait_for_log("stopping: clients are still taken for 4s");
    let mut new = Client::connect(&address);
    for client in [&mut old, &mut new] {
        client.get("/up").expect(503);
        assert!(!client.get("/").expect(200).closes());
    }
    let began = juggler.log_length();
    juggler.wait_for_log_behind(began - 1, "clients are connected");
    // Then comes the usual drain: one last request, and the end.
    assert_eq!(juggler.wait(PATIENCE), Some(0));
    assert!(Client::try_connect(&address).is_err());
}

#[test]
fn a_second_signal_ends_what_is_announced() {
    let origin = Origin::answering("fine");
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let mut juggler = Config::new([origin.address()])
            .top("[process]\ndrain_delay = \"24h\"")
            .listener(HEALTH)
            .start();
        juggler.signal(Signal::SIGTERM);
        juggler.wait_for_log("stopping: clients are still taken for 24h");
        Client::connect(juggler.address()).get("/").expect(200);
        assert!(juggler.is_running());
        juggler.signal(second);
        assert_eq!(juggler.wait(PATIENCE), Some(1));
    }
}

#[test]
fn the_service_manager_is_told_when_a_stop_is_announced() {
    let server = TestServer::start();
    let config = Config::new([server.address()])
        .top("[process]\ndrain_delay = \"24h\"")
        .text();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = [0; 100];
    let mut told = || {
        let length = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let juggler = Start::config(&config)
        .environment("NOTIFY_SOCKET", &path.display().to_string())
        .ready();
    assert_eq!(told(), "READY=1");
    juggler.signal(Signal::SIGTERM);
    assert_eq!(told(), "STOPPING=1");
    Client::connect(juggler.address())
        .get("/test.txt")
        .expect(200);
}

#[test]
fn without_a_delay_the_door_is_shut_at_once() {
    let origin = Origin::answering("fine");
    let mut juggler = Config::new([origin.address()]).start();
    let address = juggler.address();
    Client::connect(&address).get("/").expect(200);
    juggler.signal(Signal::SIGTERM);
    juggler.wait_for_log("clients are connected");
    eventually(PATIENCE, "the door is shut", || {
        Client::try_connect(&address).is_err()
    });
    assert_eq!(juggler.wait(PATIENCE), Some(0));
    assert!(
        juggler
            .log()
            .iter()
            .all(|line| !line.contains("still taken"))
    );
}

#[test]
fn a_reload_or_report_during_a_stop_has_no_effect() {
    let origin = Origin::answering("fine");
    let config = Config::new([origin.address()])
        .top("[process]\ndrain_delay = \"24h\"")
        .listener(HEALTH);
    let mut juggler = config.start();
    juggler.signal(Signal::SIGTERM);
    juggler.wait_for_log("stopping: clients are still taken for 24h");
    let before = juggler.log_length();
    juggler.signal(Signal::SIGHUP);
    juggler.signal(Signal::SIGUSR1);
    // These signals have reached the process before the next one, which ends it.
    Client::connect(juggler.address()).get("/").expect(200);
    juggler.signal(Signal::SIGTERM);
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    let log = juggler.log();
    assert!(
        log[before..]
            .iter()
            .all(|line| !line.contains("reload") && !line.contains("cluster main")),
        "{log:#?}"
    );
}
