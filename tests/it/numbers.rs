//! Numbers that others send, as large as a field can say them. Each is bounded where it is read,
//! and none does harm.

use std::thread;

use crate::support::{Client, Config, Origin, PATIENCE, eventually};

/// Idle times that no clock can add up, and one that is no number any more.
const ENDLESS: [&str; 6] = [
    "18446744073709551615",
    "9223372036854775808",
    "9223372036854775807",
    "9223372036",
    "4294967296",
    "99999999999999999999999",
];

/// A server whose responses promise to keep the connection for this time.
fn promising(seconds: &'static str) -> Origin {
    Origin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nKeep-Alive: timeout={seconds}, \
                 max=18446744073709551615\r\nContent-Length: 4\r\n\r\ngood"
            ));
        }
    })
}

#[test]
fn a_server_that_keeps_connections_for_ever_costs_no_worker() {
    for seconds in ENDLESS {
        let origin = promising(seconds);
        let juggler = Config::new([origin.address()])
            .cluster("capacity = 2")
            .start();
        let mut client = Client::connect(juggler.address());
        // More requests than workers, so that each worker has had one.
        for _ in 0..6 {
            assert_eq!(client.get("/").expect(200).text(), "good");
        }
        origin.wait_for_connections(2);
        assert_eq!(
            origin.connections_ever(),
            2,
            "{seconds}: no connection is made anew"
        );
    }
}

#[test]
fn nor_does_one_that_says_so_to_a_probe() {
    for seconds in ENDLESS {
        let origin = promising(seconds);
        let juggler = Config::new([origin.address()])
            .cluster("capacity = 1\nhealth = { path = \"/probe\", interval = \"20ms\" }")
            .start();
        let probes = || {
            origin
                .requests()
                .iter()
                .filter(|request| request.target == "/probe")
                .count()
        };
        eventually(PATIENCE, "probed often", || probes() >= 4);
        Client::connect(juggler.address()).get("/").expect(200);
        let before = probes();
        eventually(PATIENCE, "probed again", || probes() >= before + 2);
    }
}

#[test]
fn idle_times_at_once_on_all_workers_leave_the_capacity_whole() {
    const WORKERS: usize = 4;
    let origin = promising("18446744073709551615");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 4")
        .start();
    let address = juggler.address();
    let clients: Vec<_> = (0..WORKERS)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    assert_eq!(client.get("/").expect(200).text(), "good");
                }
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
    origin.wait_for_connections(WORKERS);
}
