//! Servers with names: what happens to connections when a name leads to another address, or to
//! none.

use std::fmt::Display;
use std::net::TcpListener;

use crate::support::names::Hosts;
use crate::support::{
    Client, Config, Gate, Juggler, Load, Origin, PATIENCE, Start, TestServer, eventually,
};

fn port(address: impl Display) -> String {
    address.to_string().rsplit_once(':').unwrap().1.to_owned()
}

/// A server whose port is free at this other address as well: a client of another test may have it
/// there for long.
fn with_room_at<S>(host: &str, start: impl Fn() -> S, address: impl Fn(&S) -> String) -> S {
    loop {
        let server = start();
        if TcpListener::bind(format!("{host}:{}", port(address(&server)))).is_ok() {
            return server;
        }
    }
}

/// A server at another address with the same port.
fn beside(address: impl Display, host: &str) -> TestServer {
    TestServer::listening(host, &format!("{host}:{}", port(address)))
}

/// The balancer before these servers, which are looked up often.
fn before(hosts: &Hosts, config: &Config) -> Juggler {
    let config = config.clone().top("[process]\nresolve = \"100ms\"");
    hosts.before(Start::config(&config.text())).ready()
}

fn count(juggler: &Juggler, text: &str) -> usize {
    juggler
        .log()
        .iter()
        .filter(|line| line.contains(text))
        .count()
}

#[test]
fn connections_move_with_the_name_when_they_have_served_what_they_have() {
    let Some(hosts) = Hosts::new(&["127.0.0.1 app.test"]) else {
        return;
    };
    let gate = Gate::new();
    let start = || {
        let held = gate.clone();
        Origin::start(move |conn, _| {
            while conn.request().is_some() {
                held.wait();
                conn.answer(200, "from the old one");
            }
        })
    };
    let old = with_room_at("127.0.0.2", start, |old| old.address().to_string());
    let new = beside(old.address(), "127.0.0.2");
    let name = format!("app.test:{}", port(old.address()));
    let juggler = before(&hosts, &Config::new([name]).cluster("capacity = 3"));
    old.wait_for_connections(3);
    let mut served = Client::connect(juggler.address());
    served.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    hosts.set(&["127.0.0.2 app.test"]);
    // Two of the connections have nothing to do.
    new.wait_for_stat("connections_now", 2);
    let mut client = Client::connect(juggler.address());
    for _ in 0..4 {
        client.get("/test.txt").expect(200);
    }
    assert_eq!((old.requests().len(), new.stat("requests")), (1, 4));
    old.wait_for_connections(1);
    gate.open();
    assert_eq!(
        served.read_response().expect(200).text(),
        "from the old one"
    );
    new.wait_for_stat("connections_now", 3);
    old.wait_for_connections(0);
    assert_eq!(
        (old.connections_ever(), new.stat("connections_ever")),
        (3, 3)
    );
    old.assert_no_failures();
}

#[test]
fn a_name_that_changes_under_load_fails_no_request() {
    let Some(hosts) = Hosts::new(&["127.0.0.1 app.test"]) else {
        return;
    };
    let one = with_room_at(
        "127.0.0.2",
        || TestServer::start(),
        |server| server.address().to_owned(),
    );
    let two = beside(one.address(), "127.0.0.2");
    let juggler = before(
        &hosts,
        &Config::new([format!("app.test:{}", port(one.address()))]),
    );
    let load = Load::start(&juggler.address(), 4, |path| {
        format!("POST /__sum?{path} HTTP/1.1\r\nHost: load\r\nContent-Length: 4\r\n\r\nbody")
    });
    for round in 0..6 {
        let (from, to, address) = match round % 2 {
            0 => (&one, &two, "127.0.0.2"),
            _ => (&two, &one, "127.0.0.1"),
        };
        hosts.set(&[&format!("{address} app.test")]);
        // All connections move, also those that are always at work.
        from.wait_for_stat("connections_now", 0);
        to.wait_for_stat("connections_now", 5);
    }
    let count = load.end_without_failure() as u64;
    assert_eq!(
        one.stat("requests") + two.stat("requests"),
        count,
        "each request was sent once"
    );
}

#[test]
fn a_name_that_is_no_more_leads_where_it_led_last() {
    let Some(hosts) = Hosts::new(&["127.0.0.1 app.test", "127.0.0.1 clock.test"]) else {
        return;
    };
    let (server, clock) = (TestServer::start(), TestServer::start());
    let clock_port = port(clock.address());
    let config = Config::new([format!("app.test:{}", port(server.address()))]).rest(&format!(
        "[[cluster]]\nname = \"clock\"\nserver = [{{ address = \"clock.test:{clock_port}\" }}]"
    ));
    let juggler = before(&hosts, &config);
    hosts.set(&["127.0.0.1 clock.test"]);
    juggler.wait_for_log("main/s0: the name app.test cannot be resolved: ");
    let mut client = Client::connect(juggler.address());
    // Names are looked up meanwhile: each round takes one more look.
    for round in 0..4 {
        let address = format!("127.0.0.{}", 2 + round % 2);
        let lines = juggler.log_length();
        hosts.set(&[&format!("{address} clock.test")]);
        juggler.wait_for_log_behind(lines, &format!("clock.test is [{address}:{clock_port}]"));
        client.get("/test.txt").expect(200);
    }
    assert_eq!(
        count(&juggler, "app.test cannot be resolved"),
        1,
        "told once"
    );
    assert_eq!(server.stat("connections_ever"), 5);
    hosts.set(&["127.0.0.1 app.test"]);
    juggler.wait_for_log("main/s0: the name app.test is resolved again");
    hosts.set(&[]);
    eventually(PATIENCE, "told again", || {
        count(&juggler, "app.test cannot be resolved") == 2
    });
    client.get("/test.txt").expect(200);
    assert_eq!(server.stat("connections_ever"), 5);
}

#[test]
fn a_name_that_leads_nowhere_stops_no_request() {
    let Some(hosts) = Hosts::new(&["127.0.0.1 other.test"]) else {
        return;
    };
    let (good, late) = (TestServer::start(), TestServer::start());
    let name = format!("late.test:{}", port(late.address()));
    for on_unavailable in ["refuse", "queue"] {
        hosts.set(&[]);
        let config = Config::new([good.address(), &name]);
        let juggler = before(
            &hosts,
            &config.cluster(&format!("on_unavailable = \"{on_unavailable}\"")),
        );
        juggler.wait_for_log("main/s1: the name late.test cannot be resolved: ");
        juggler.wait_for_log("main/s1: cannot connect: its name does not lead to an address");
        let mut client = Client::connect(juggler.address());
        for _ in 0..10 {
            client.get("/test.txt").expect(200);
        }
        late.reset_stats();
        hosts.set(&["127.0.0.1 late.test"]);
        juggler.wait_for_log("main/s1: the name late.test is resolved again");
        eventually(PATIENCE, "used", || {
            client.get("/test.txt").expect(200);
            late.stat("requests") > 0
        });
    }
}

#[test]
fn of_several_addresses_the_next_is_tried_if_one_refuses() {
    let Some(hosts) = Hosts::new(&["127.0.0.1 app.test", "127.0.0.2 app.test"]) else {
        return;
    };
    let first = with_room_at(
        "127.0.0.2",
        || TestServer::start(),
        |server| server.address().to_owned(),
    );
    let second = beside(first.address(), "127.0.0.2");
    let mut servers = [first, second];
    let name = format!("app.test:{}", port(servers[0].address()));
    let juggler = before(
        &hosts,
        &Config::new([name]).cluster("on_unavailable = \"queue\""),
    );
    let mut client = Client::connect(juggler.address());
    for _ in 0..3 {
        let mut used = 0;
        eventually(PATIENCE, "all are at one of them", || {
            used = 1 - used;
            servers[used].stat("connections_now") == 5
        });
        servers[used].kill();
        for _ in 0..10 {
            client.get("/test.txt").expect(200);
        }
        servers[1 - used].wait_for_stat("connections_now", 5);
        servers[used].restart();
    }
    assert_eq!(count(&juggler, "app.test is ["), 1);
}
