//! The balancer with everything in order: requests go through, servers take turns, and what cannot
//! go through gets an answer.

use crate::support::{Client, Config, Juggler, PATIENCE, Start, TestServer, check, eventually_eq};

/// Three servers with two connections each, and the balancer before them, connected to all.
fn three() -> ([TestServer; 3], Juggler) {
    let servers = TestServer::three();
    let juggler = Config::new(servers.iter().map(TestServer::address))
        .cluster("capacity = 2")
        .start();
    for server in &servers {
        server.wait_for_stat("connections_now", 2);
    }
    (servers, juggler)
}

#[test]
fn requests_of_one_client_reach_each_server_in_turn() {
    let (servers, juggler) = three();
    let mut client = Client::connect(juggler.address());
    let mut reached = Vec::new();
    for _ in 0..9 {
        let response = client.get("/test.txt").expect(200);
        assert_eq!(
            response.text(),
            "This is test server 1, from test_servers/root_1.\n"
        );
        reached.push(response.field("x-test-server").unwrap().to_owned());
    }
    assert_eq!(
        reached[..3]
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        3,
        "{reached:?}"
    );
    assert_eq!(reached[..3], reached[3..6], "{reached:?}");
    assert_eq!(reached[..3], reached[6..], "{reached:?}");
    for server in &servers {
        let stats = server.stats();
        assert_eq!(
            (&stats["requests"], &stats["connections_ever"]),
            (&3.into(), &2.into()),
            "{}",
            server.name()
        );
    }
}

#[test]
fn requests_of_new_clients_take_turns_too() {
    let (servers, juggler) = three();
    for _ in 0..6 {
        Client::connect(juggler.address())
            .get("/test.txt")
            .expect(200);
    }
    for server in &servers {
        assert_eq!(server.stat("requests"), 2, "{}", server.name());
        assert_eq!(server.stat("connections_ever"), 2, "{}", server.name());
    }
}

#[test]
fn a_post_arrives_as_it_was_sent() {
    let (_servers, juggler) = three();
    let mut client = Client::connect(juggler.address());
    let body = check::bytes(0, 100_000);
    let echo = client.post("/__echo", &body).expect(200);
    let (head, sent_on) = echo.body.split_at(echo.body.len() - body.len());
    assert_eq!(sent_on, body);
    let head = String::from_utf8_lossy(head);
    assert!(head.starts_with("POST /__echo HTTP/1.1\r\n"), "{head}");
    for line in [
        "Host: test",
        "Content-Length: 100000",
        "Connection: keep-alive",
    ] {
        let same: Vec<_> = head
            .lines()
            .filter(|found| found.eq_ignore_ascii_case(line))
            .collect();
        assert_eq!(same.len(), 1, "{line} in {head}");
    }
    let sum = check::Sum::of(&body);
    assert_eq!(
        client.post("/__sum", &body).expect(200).text(),
        format!("100000 {sum}\n")
    );
}

#[test]
fn a_clients_connection_is_kept() {
    let (_servers, juggler) = three();
    let mut client = Client::connect(juggler.address());
    for _ in 0..20 {
        let response = client.get("/__size/1000").expect(200);
        assert!(!response.closes());
        assert_eq!(response.body, check::bytes(0, 1000));
        assert!(
            response.field("date").is_some(),
            "the server sends none, so one is added"
        );
    }
    let mut last =
        client.exchange("GET /test.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(last.closes());
    client.expect_closed();
    let mut old = Client::connect(juggler.address());
    last = old.exchange("GET /test.txt HTTP/1.0\r\n\r\n").expect(200);
    assert!(last.closes());
    old.expect_closed();
    let mut old = Client::connect(juggler.address());
    for _ in 0..2 {
        let kept = old
            .exchange("GET /test.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .expect(200);
        assert_eq!(
            kept.field("connection")
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("keep-alive")
        );
    }
}

#[test]
fn every_framing_of_a_server_gets_through() {
    let (_servers, juggler) = three();
    let mut client = Client::connect(juggler.address());
    let pattern = check::bytes(0, 50_000);
    for path in ["/__size/50000", "/__chunked/50?size=1000", "/__close/50000"] {
        let response = client.get(path).expect(200);
        assert_eq!(response.body, pattern, "{path}");
        assert!(!response.closes(), "{path}");
    }
    let trailing = client.get("/__chunked/50?size=1000&trailers").expect(200);
    assert_eq!(
        trailing.trailers[0],
        ("X-Chunks".to_owned(), "50".to_owned())
    );
    client.get("/__status/204").expect(204);
    let head = client
        .exchange("HEAD /__size/50000 HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect(200);
    assert_eq!(head.field("content-length"), Some("50000"));
    assert_eq!(
        client.get("/__interim/103").expect(200).interim[0].status,
        103
    );
    client.get("/__status/418").expect(418);
    client.get("/__status/503").expect(503);
}

#[test]
fn without_a_route_there_is_a_404() {
    let server = TestServer::start();
    let config = Config::new([server.address()])
        .text()
        .replace("[[route]]", "[[route]]\npath = \"/only\"");
    let juggler = Juggler::start(&config);
    server.wait_for_stat("connections_now", 5);
    let mut client = Client::connect(juggler.address());
    let response = client.get("/other").expect(404);
    assert!(response.text().contains("no route"), "{}", response.text());
    assert_eq!(response.field("x-test-server"), None);
    client.get("/__status/200").expect(404);
    assert_eq!(
        client.get("/only/this").expect(404).field("x-test-server"),
        Some("test")
    );
}

#[test]
fn without_a_server_there_is_a_503_and_it_heals() {
    let mut server = TestServer::start();
    let juggler = Config::new([server.address()])
        .cluster("capacity = 2")
        .start();
    server.wait_for_stat("connections_now", 2);
    let mut client = Client::connect(juggler.address());
    client.get("/test.txt").expect(200);
    server.kill();
    eventually_eq("refused", 503, || client.get("/test.txt").status);
    assert!(
        !client.get("/test.txt").expect(503).body.is_empty(),
        "the answer says why"
    );
    server.restart();
    eventually_eq("answered again", 200, || client.get("/test.txt").status);
}

#[test]
fn it_stops_when_it_is_told_to() {
    let (_servers, mut juggler) = three();
    let mut client = Client::connect(juggler.address());
    client.get("/test.txt").expect(200);
    assert_eq!(juggler.stop(), Some(0));
    client.expect_gone();
}

#[test]
fn a_socket_that_was_handed_over_is_used() {
    let server = TestServer::start();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A client that connects before the start waits, and is served after it.
    let mut early = Client::connect(address);
    early.send("GET /test.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    let config = Config::new([server.address()]).listener(&format!("bind = [\"{address}\"]"));
    let juggler = Start::config(&config.text()).socket(socket).ready();
    assert_eq!(juggler.address(), address.to_string());
    early.read_response().expect(200);
    Client::connect(address).get("/test.txt").expect(200);
}

#[test]
fn flags_alone_are_enough() {
    let server = TestServer::start();
    let juggler = Start::bare()
        .argument("--listen=127.0.0.1:0")
        .argument("--listen=unix:{dir}/socket")
        .argument(format!("--server={}", server.address()))
        .ready();
    let addresses: Vec<_> = juggler.addresses().into_values().flatten().collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    for address in addresses {
        assert_eq!(
            Client::connect(&address)
                .get("/test.txt")
                .expect(200)
                .field("x-test-server"),
            Some("test")
        );
    }
    assert!(juggler.threads() > 5 && juggler.open_files() > 5 && juggler.rss_kib() > 1000);
    assert_eq!(
        juggler.threads_by_name().values().sum::<usize>(),
        juggler.threads()
    );
}

#[test]
fn a_wrong_configuration_is_said_and_not_run() {
    let mut juggler = Start::config("[[listener]]\nname = 1\n").spawn();
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    // Another thread reads the log, and may still read when the process has ended.
    juggler.wait_for_log("name");
    let check = Juggler::run(["check", "--config", "/nowhere/juggler.toml"]);
    assert_eq!(check.status.code(), Some(1));
}
