//! SIGHUP: the whole configuration is read anew, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::{
    Client, Config, Gate, Juggler, Origin, PATIENCE, Start, TestServer, eventually, reload,
};

#[test]
fn a_thousand_reloads_under_load_fail_no_request() {
    let servers = [
        TestServer::start(),
        TestServer::start(),
        TestServer::start(),
    ];
    let [one, two, three] = servers.each_ref().map(TestServer::address);
    let text = |servers: &str, lines: &str| {
        format!(
            "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n[[route]]\ncluster = \
             \"main\"\n[[cluster]]\nname = \"main\"\n{lines}\n{servers}"
        )
    };
    let server = |name: &str, address: &dyn std::fmt::Display, lines: &str| {
        format!("[[cluster.server]]\nname = \"{name}\"\naddress = \"{address}\"\n{lines}\n")
    };
    let (a, b, c) = (
        server("a", &one, ""),
        server("b", &two, ""),
        server("c", &three, "capacity = 1"),
    );
    let variants = [
        text(&format!("{a}{b}{c}"), ""),
        text(&format!("{a}{b}"), "scheduler = \"least_load\""),
        text(
            &format!("{b}{c}"),
            "bucket = [{ name = \"main\", assured = \"50%\" }, { name = \"vip\", assured = \
             \"20%\" }]",
        ),
        text(
            &server("a", &two, "weight = 3"),
            "bucket = [{ name = \"vip\", assured = \"80%\" }, { name = \"low\", parent = \"vip\" \
             }]",
        ),
        text(
            &format!(
                "{c}{}",
                server("a", &one, "capacity = 9\nrole = \"backup\"")
            ),
            "binding = \"early\"",
        ),
        text(
            &format!("{a}{}", server("b", &two, "admin = \"disabled\"")),
            "capacity = 2\nscheduler = \"rendezvous\"\nlending = \"reserve\"",
        ),
    ];
    let juggler = Juggler::start(&variants[0]);
    let (stop, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (stop, served, address) =
                (Arc::clone(&stop), Arc::clone(&served), juggler.address());
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    let response = match number % 2 {
                        0 => client.get("/test.txt"),
                        _ => client.post("/echo", "some body"),
                    };
                    assert!(response.status < 500, "{response:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..1000 {
        reload(
            &juggler,
            &variants[(round + 1) % variants.len()],
            "reloaded",
        );
    }
    stop.store(true, Ordering::Relaxed);
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    assert!(served.load(Ordering::Relaxed) > 1000);
    // Nothing stays behind: the threads are those of the last variant.
    reload(&juggler, &variants[0], "reloaded");
    eventually(PATIENCE, "as many workers as connections", || {
        let threads = juggler.threads_by_name();
        threads
            .iter()
            .filter(|(name, _)| name.starts_with("w-"))
            .map(|(_, count)| count)
            .sum::<usize>()
            == 11
    });
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_reported_whole() {
    let server = TestServer::start();
    let config = Config::new([server.address()]);
    let juggler = config.start();
    let mut client = Client::connect(juggler.address());
    client.get("/test.txt").expect(200);
    let wrong = config
        .clone()
        .cluster("capacity = 0\nsheduler = \"random\"")
        .listener("backlog = \"x\"")
        .text();
    reload(&juggler, &wrong, "nothing is changed: 3 problems found");
    let log = juggler.log().join("\n");
    for part in ["capacity", "did you mean \"scheduler\"?", "backlog"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    client.get("/test.txt").expect(200);
    // A port that another socket has.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "[[listener]]\nname = \"more\"\nbind = \"{}\"",
        taken.local_addr().unwrap()
    );
    reload(
        &juggler,
        &config.clone().rest(&more).text(),
        "nothing is changed: 1 problem found",
    );
    juggler.wait_for_log("cannot listen on");
    client.get("/test.txt").expect(200);
    reload(&juggler, &config.text(), "reloaded");
    client.get("/test.txt").expect(200);
}

#[test]
fn listeners_come_and_go_and_their_clients_stay() {
    let server = TestServer::start();
    let config = Config::new([server.address()]);
    let more =
        "[[listener]]\nname = \"more\"\nbind = \"unix:{dir}/more.sock\"\nhealth_path = \"/health\"";
    let juggler = Juggler::start(&config.text());
    let mut old = Client::connect(juggler.address());
    old.get("/test.txt").expect(200);
    let folder = juggler.folder().display().to_string();
    let with = config.clone().rest(&more.replace("{dir}", &folder)).text();
    reload(&juggler, &with, "reloaded");
    let socket = format!("unix:{folder}/more.sock");
    let mut new = Client::connect(&socket);
    new.get("/health").expect(200);
    old.get("/test.txt").expect(200);
    // A change applies to sessions that begin from now on.
    let other = with.replace("health_path = \"/health\"", "health_path = \"/alive\"");
    reload(&juggler, &other, "reloaded");
    Client::connect(&socket).get("/alive").expect(200);
    new.get("/health").expect(200);
    reload(&juggler, &config.text(), "reloaded");
    new.get("/health").expect(200);
    eventually(PATIENCE, "the socket file is gone", || {
        !std::path::Path::new(&socket["unix:".len()..]).exists()
    });
    old.get("/test.txt").expect(200);
}

#[test]
fn a_cluster_that_is_removed_serves_what_was_admitted_to_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "from the old one");
        }
    });
    let server = TestServer::start();
    let text = |address: &dyn std::fmt::Display, name: &str| {
        format!(
            "[[listener]]\nname = \"main\"\nbind = \"127.0.0.1:0\"\n[[cluster]]\nname = \
             \"{name}\"\ncapacity = 1\nserver = [{{ address = \"{address}\" }}]\n"
        )
    };
    let juggler = Juggler::start(&text(&origin.address(), "old"));
    let address = juggler.address();
    let mut served = Client::connect(&address);
    served.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    let mut queued = Client::connect(&address);
    queued.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut coming = Client::connect(&address);
    coming.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
    assert_eq!(coming.read_exactly(interim.len()), interim);
    reload(&juggler, &text(&server.address(), "new"), "reloaded");
    Client::connect(&address).get("/test.txt").expect(200);
    // Longer than a removed cluster is kept in any case.
    thread::sleep(std::time::Duration::from_millis(3500));
    coming.send("body");
    gate.open();
    for client in [&mut served, &mut queued, &mut coming] {
        assert_eq!(
            client.read_response().expect(200).text(),
            "from the old one"
        );
    }
    juggler.wait_for_log("cluster old is gone");
    origin.wait_for_connections(0);
}

#[test]
fn a_protected_server_is_not_removed() {
    let (one, two) = (TestServer::start(), TestServer::start());
    let both = Config::new([one.address(), two.address()]);
    let protected = both
        .text()
        .replace("name = \"s1\"", "name = \"s1\"\n  protected = true");
    let juggler = Juggler::start(&protected);
    let without = Config::new([one.address()]).text();
    reload(&juggler, &without, "nothing is changed: 1 problem found");
    juggler.wait_for_log("main/s1 is protected and would be removed");
    assert_eq!(two.stat("connections_now"), 5);
    reload(&juggler, &both.text(), "reloaded");
    reload(&juggler, &without, "reloaded");
    eventually(
        PATIENCE,
        "the removed server's connections are gone",
        || two.stat("connections_now") == 0,
    );
}

#[test]
fn workers_that_cannot_connect_heed_the_new_settings() {
    let wide = Origin::start(|conn, _| {
        while conn.request().is_some() {
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nX-Wide: {}\r\nContent-Length: 0\r\n\r\n",
                "x".repeat(4000)
            ));
        }
    });
    let config = Config::new([wide.address()])
        .cluster("health = { path = \"/\", interval = \"20ms\", rise = 1 }");
    // Every response exceeds this limit: no probe succeeds, and no request ever comes to the
    // workers.
    let juggler = config
        .clone()
        .cluster("limit = { head = \"1KiB\" }")
        .start();
    juggler.wait_for_log("main/s0 is offline");
    Client::connect(juggler.address()).get("/").expect(503);
    reload(&juggler, &config.text(), "reloaded");
    juggler.wait_for_log("main/s0 is online");
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn a_socket_that_was_handed_over_can_be_left_out_and_taken_up_again() {
    let server = TestServer::start();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = Config::new([server.address()]);
    let more = format!("[[listener]]\nname = \"more\"\nbind = \"{address}\"");
    // At first no listener of the configuration has this address.
    let juggler = Start::config(&config.text()).socket(socket).ready();
    juggler.wait_for_log("which no listener asks for");
    for _ in 0..3 {
        reload(&juggler, &config.clone().rest(&more).text(), "reloaded");
        Client::connect(address).get("/test.txt").expect(200);
        let wrong = config.clone().rest(&more).cluster("capacity = 0").text();
        reload(&juggler, &wrong, "nothing is changed");
        Client::connect(address).get("/test.txt").expect(200);
        reload(&juggler, &config.text(), "reloaded");
        Client::connect(juggler.address_of("main"))
            .get("/test.txt")
            .expect(200);
    }
}
