//! Threads that panic where others must not suffer: one of several clusters, the answer to a lost
//! exchange, and a worker whose server is down.
//!
//! Built with the feature `panic_points` only.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::patient::{PROBE, Patient, wait_for_probes};
use crate::support::{Client, Config, Gate, Juggler, Load, Origin, PATIENCE, Start, eventually};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Three clusters at `/`, `/1` and `/2`, in this order, with these settings.
fn three_clusters(servers: [String; 3], settings: &str, rules: &str) -> Juggler {
    let mut config = Config::new([&servers[0]]).cluster(settings);
    for (number, address) in servers.iter().enumerate().skip(1) {
        config = config.rest(&format!(
            "[[route]]\npath = \"/{number}\"\ncluster = \"c{number}\"\n[[cluster]]\nname = \
             \"c{number}\"\n{settings}\n[[cluster.server]]\nname = \"s\"\naddress = \
             \"{address}\"\n"
        ));
    }
    let mut juggler = Start::config(&config.text())
        .environment("JUGGLER_PANIC_AT", rules)
        .ready();
    juggler.may_panic();
    juggler
}

#[test]
fn a_cluster_whose_deadlines_always_fail_holds_up_no_other() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "");
        }
    });
    let address = || origin.address().to_string();
    // Every second passage panics: if one cluster's panic ended the round, the third would never be
    // reached.
    let juggler = three_clusters(
        [address(), address(), address()],
        "capacity = 1\nqueue = { timeout = \"50ms\" }",
        "cluster.tick=2",
    );
    let ask = || {
        let mut client = Client::connect(juggler.address());
        client.send(get("/2"));
        client
    };
    let mut served = ask();
    gate.wait_for(1);
    for _ in 0..3 {
        ask().read_response().expect(504);
    }
    gate.open();
    served.read_response().expect(200);
}

#[test]
fn a_cluster_whose_health_cannot_be_looked_at_holds_up_no_other() {
    let servers = ["a", "b", "c"].map(Patient::named);
    let addresses = [0, 1, 2].map(|place: usize| servers[place].origin.address().to_string());
    let settings = format!("capacity = 1\nhealth = {{ path = \"{PROBE}\", interval = \"20ms\" }}");
    let _juggler = three_clusters(addresses, &settings, "cluster.look=2");
    for server in &servers {
        wait_for_probes(&server.origin, 5);
    }
}

#[test]
fn an_answer_to_what_was_lost_that_panics_costs_its_own_client_alone() {
    let origin = Origin::answering("good");
    let config = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"")
        .cluster("capacity = 1");
    let mut juggler = Start::config(&config.text())
        .environment("JUGGLER_PANIC_AT", "worker.taken=2x2,answer.lost=1x1")
        .ready();
    juggler.may_panic();
    let outcomes = (0..6).map(|number| {
        let mut client = Client::connect(juggler.address());
        client.send(get(&format!("/{number}")));
        client
            .try_read_response(false)
            .map(|response| response.status)
            .ok()
    });
    let outcomes = outcomes.collect::<Vec<_>>();
    assert_eq!(
        outcomes,
        [Some(200), None, Some(200), Some(500), Some(200), Some(200)]
    );
    // Each exchange is logged once.
    eventually(PATIENCE, "all lines", || {
        juggler.output().len() >= outcomes.len()
    });
    assert_eq!(juggler.stop(), Some(0));
    let lines = juggler.output();
    assert_eq!(lines.len(), outcomes.len(), "{lines:#?}");
    let of_lost = lines
        .iter()
        .filter(|line| line.contains(" /1 HTTP/1.1\""))
        .count();
    assert_eq!(of_lost, 1, "{lines:#?}");
}

#[test]
fn workers_that_panic_while_their_server_is_down_lose_no_capacity() {
    const WORKERS: usize = 4;
    let gate = Gate::new();
    let held = gate.clone();
    let mut origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/held" {
                held.wait();
            }
            conn.answer(200, "");
        }
    });
    let config = Config::new([origin.address()]).cluster(&format!(
        "capacity = {WORKERS}\non_unavailable = \"queue\"\nqueue = {{ timeout = \"100ms\" }}"
    ));
    let mut juggler = Start::config(&config.text())
        .environment("JUGGLER_PANIC_AT", "worker.idle=7x300")
        .ready();
    juggler.may_panic();
    let load = Load::of_gets(&juggler.address(), 3);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        load.wait_for_more(30);
        // A worker that panics now loses its connection, and cannot connect again.
        origin.refuse();
        thread::sleep(Duration::from_millis(30));
        origin.restart();
    }
    for answered in load.end() {
        assert!(
            [200, 502, 503, 504].contains(&answered.status()),
            "{}",
            answered.status()
        );
    }
    // A worker that could not connect waits for longer than a request may.
    eventually(PATIENCE, "all workers are connected again", || {
        origin.connections_now() == WORKERS
    });
    let came = gate.came();
    let clients = (0..WORKERS).map(|_| {
        let mut client = Client::connect(juggler.address());
        client.send(get("/held"));
        client
    });
    let clients = clients.collect::<Vec<_>>();
    gate.wait_for(came + WORKERS);
    gate.open();
    for mut client in clients {
        client.read_response().expect(200);
    }
    assert_eq!(juggler.stop(), Some(0));
}

#[test]
fn a_worker_that_panics_with_bytes_in_its_hand_costs_the_client_of_those_alone() {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                "/large" => conn.answer(200, vec![b'x'; 32 << 20]),
                _ => conn.answer(200, "good"),
            }
        }
    });
    // Nothing that the client does not take has room.
    let config = Config::new([origin.address()])
        .listener("limit = { response_memory = \"4KiB\", response_spool = \"0B\" }")
        .cluster("capacity = 1");
    let mut juggler = Start::config(&config.text())
        .environment("JUGGLER_PANIC_AT", "wire.wait=2x1")
        .ready();
    juggler.may_panic();
    let mut client = Client::connect(juggler.address());
    client.send(get("/large"));
    juggler.wait_for_log("JUGGLER_PANIC_AT: wire.wait");
    let mut other = Client::connect(juggler.address());
    other.send(get("/"));
    other.read_response().expect(200);
    assert!(client.try_read_response(false).is_err(), "it is cut");
    assert_eq!(juggler.stop(), Some(0));
}
