//! When no descriptor is free, what serves clients goes before new clients.

use std::fs;
use std::process::Command;

use crate::support::{Client, Config, Juggler, Origin, PATIENCE, Start, eventually, tool};

/// Lets the program open only `more` descriptors beyond those that it has open now.
fn limit(juggler: &Juggler, more: usize) {
    let prlimit = tool("prlimit");
    let limit = juggler.open_files() + more;
    let limited = Command::new(prlimit)
        .args([
            format!("--pid={}", juggler.pid()),
            format!("--nofile={limit}:{limit}"),
        ])
        .status()
        .unwrap();
    assert!(limited.success());
}

/// More clients than descriptors. All stay: some are served, the others wait.
fn crowd(juggler: &Juggler, size: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..size)
        .map(|_| Client::connect(juggler.address()))
        .collect();
    for client in &mut clients {
        client.send("GET /crowd HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually(PATIENCE, "no descriptor is free", || {
        let status = fs::read_to_string(format!("/proc/{}/limits", juggler.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        let most: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap();
        juggler.open_files() >= most
    });
    clients
}

#[test]
fn a_server_that_restarts_gets_its_connections_though_clients_have_taken_all_descriptors() {
    const WORKERS: usize = 5;
    let mut origin = Origin::answering("good");
    // A request that meets this limit is served afterwards.
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 5\non_unavailable = \"queue\"\nretry = { attempts = 100, budget = \
             \"100%\" }",
        )
        .start();
    origin.wait_for_connections(WORKERS);
    limit(&juggler, 12);
    let mut clients = crowd(&juggler, 60);
    for _ in 0..3 {
        origin.stop();
        origin.restart();
        origin.wait_for_connections(WORKERS);
        // The first client is one of those that have a descriptor.
        assert_eq!(clients[0].read_response().expect(200).text(), "good");
        clients[0].send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    // Each client that closes makes room for the next, once the reserve is full again.
    for mut client in clients {
        client.read_response().expect(200);
    }
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn connections_that_one_after_the_other_go_are_made_anew() {
    let origin = Origin::start(|conn, _| {
        // Each response ends its connection.
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 2")
        .start();
    origin.wait_for_connections(2);
    limit(&juggler, 10);
    let mut clients = crowd(&juggler, 40);
    let first = &mut clients[0];
    for _ in 0..20 {
        assert_eq!(first.read_response().expect(200).text(), "good");
        first.send("GET /again HTTP/1.1\r\nHost: x\r\n\r\n");
    }
}

#[test]
fn a_log_is_opened_anew_and_a_large_body_spooled_though_no_descriptor_is_free() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"{dir}/access.log\"")
        .cluster("capacity = 2")
        .start();
    origin.wait_for_connections(2);
    limit(&juggler, 10);
    let mut clients = crowd(&juggler, 40);
    let path = juggler.folder().join("access.log");
    fs::rename(&path, juggler.folder().join("access.log.1")).unwrap();
    juggler.signal(nix::sys::signal::Signal::SIGHUP);
    juggler.wait_for_log("reload");
    clients[0].read_response().expect(200);
    // More than memory takes of one body.
    assert_eq!(
        clients[0]
            .post("/large", vec![b'x'; 8 << 20])
            .expect(200)
            .text(),
        "good"
    );
    eventually(PATIENCE, "the new log has lines", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("/large"))
    });
}

#[test]
fn where_there_are_hardly_any_descriptors_clients_are_served_all_the_same() {
    let origin = Origin::answering("good");
    let mut by = vec![tool("prlimit").display().to_string(), "--nofile=100".into()];
    if nix::unistd::geteuid().is_root() {
        // With this capability root may raise any limit.
        by.extend([
            tool("setpriv").display().to_string(),
            "--bounding-set=-sys_resource".into(),
        ]);
    }
    // Beside connections and bells a reserve of full size would not fit.
    let config = Config::new([origin.address()]).cluster("capacity = 30");
    let juggler = Start::config(&config.text()).by(by).ready();
    for _ in 0..3 {
        assert_eq!(
            Client::connect(juggler.address())
                .get("/")
                .expect(200)
                .text(),
            "good"
        );
    }
}
