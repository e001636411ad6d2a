//! Waiting for servers that are away for a while: nothing that can be saved is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::{Answered, Client, Config, Juggler, Load, Origin, PATIENCE, eventually};

/// Servers that share a count of the requests they received whole, by path.
struct Servers {
    all: Vec<Origin>,
    got: Arc<Mutex<BTreeMap<String, usize>>>,
}

const CAPACITY: usize = 3;

impl Servers {
    fn new(count: usize) -> Self {
        let got = Arc::new(Mutex::new(BTreeMap::new()));
        let start = |_| {
            let got = Arc::clone(&got);
            Origin::start(move |conn, _| {
                while let Some(request) = conn.request() {
                    *got.lock().unwrap().entry(request.target).or_default() += 1;
                    conn.answer(200, "done");
                }
            })
        };
        Self {
            all: (0..count).map(start).collect(),
            got,
        }
    }

    fn before(&self, cluster: &str) -> Juggler {
        let juggler = Config::new(self.all.iter().map(Origin::address))
            .cluster(&format!("capacity = {CAPACITY}"))
            .cluster(cluster)
            .start();
        for origin in &self.all {
            origin.wait_for_connections(CAPACITY);
        }
        juggler
    }

    /// Each server stops in the middle of its work and comes back, one after the other, `times`
    /// times.
    fn roll(&mut self, times: usize, load: &Load) -> usize {
        for _ in 0..times {
            for server in &mut self.all {
                load.wait_for_more(30);
                server.stop();
                server.wait_for_connections(0);
                server.restart();
                server.wait_for_connections(CAPACITY);
            }
        }
        load.wait_for_more(30);
        times * self.all.len()
    }

    /// Failed requests had been sent to a server that died: no more than one server has at once.
    /// And nothing was done twice.
    #[track_caller]
    fn check_posts(&self, all: &[Answered], deaths: usize) {
        let got = self.got.lock().unwrap();
        let failed: Vec<_> = all.iter().filter(|one| one.status() != 200).collect();
        assert!(
            failed.len() <= deaths * CAPACITY,
            "{} failed: {:?}",
            failed.len(),
            failed[0]
        );
        for one in &failed {
            let response = one
                .response
                .as_ref()
                .unwrap_or_else(|| panic!("{} was cut", one.path));
            // A server may have received it, so no server may do it again.
            assert!(
                response.status == 502 && response.text().contains("the server"),
                "{response:?}"
            );
        }
        for one in all {
            let times = got.get(&one.path).copied().unwrap_or(0);
            assert!(
                times <= 1 && (times == 1 || one.status() != 200),
                "{}: {times}",
                one.path
            );
        }
    }
}

#[test]
fn a_single_server_restarts_without_a_failed_get() {
    let mut servers = Servers::new(1);
    let juggler = servers.before("on_unavailable = \"queue\"");
    let load = Load::of_gets(&juggler.address(), 8);
    servers.roll(4, &load);
    load.end_without_failure();
}

#[test]
fn a_single_server_restarts_and_only_posts_that_it_had_fail() {
    let mut servers = Servers::new(1);
    let juggler = servers.before("on_unavailable = \"queue\"");
    let load = Load::of_posts(&juggler.address(), 8);
    let deaths = servers.roll(4, &load);
    servers.check_posts(&load.end(), deaths);
}

#[test]
fn servers_restart_one_after_the_other_without_a_failed_get() {
    for on_unavailable in ["refuse", "queue"] {
        let mut servers = Servers::new(3);
        let juggler = servers.before(&format!("on_unavailable = \"{on_unavailable}\""));
        let load = Load::of_gets(&juggler.address(), 8);
        servers.roll(1, &load);
        load.end_without_failure();
    }
}

#[test]
fn servers_restart_one_after_the_other_and_only_posts_that_they_had_fail() {
    for on_unavailable in ["refuse", "queue"] {
        let mut servers = Servers::new(3);
        let juggler = servers.before(&format!("on_unavailable = \"{on_unavailable}\""));
        let load = Load::of_posts(&juggler.address(), 8);
        let deaths = servers.roll(1, &load);
        servers.check_posts(&load.end(), deaths);
    }
}

#[test]
fn servers_that_are_probed_restart_without_a_failed_get() {
    let mut servers = Servers::new(3);
    let juggler = servers.before("health = { path = \"/up\", interval = \"10ms\" }");
    let load = Load::of_gets(&juggler.address(), 8);
    servers.roll(1, &load);
    load.end_without_failure();
}

#[test]
fn a_request_that_waits_for_a_server_uses_up_no_attempt() {
    let mut servers = Servers::new(1);
    let juggler = Config::new(servers.all.iter().map(Origin::address))
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"")
        .cluster("capacity = 1\non_unavailable = \"queue\"\nretry = { attempts = 1 }")
        .start();
    servers.all[0].wait_for_connections(1);
    servers.all[0].stop();
    juggler.wait_for_log("main/s0: cannot connect");
    let mut clients: Vec<_> = (0..4)
        .map(|number| {
            let mut client = Client::connect(juggler.address());
            let path = format!("/waits-{number}");
            client.send(format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
            ));
            client.expect_silence(std::time::Duration::from_millis(20));
            client
        })
        .collect();
    servers.all[0].restart();
    for client in &mut clients {
        client.read_response().expect(200);
    }
    for number in 0..4 {
        let line = juggler.wait_for_output(&format!("/waits-{number}"));
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["retries"], &line["attempt"], &line["why"]),
            (&0.into(), &1.into(), &serde_json::Value::Null),
            "{line}"
        );
    }
    assert!(
        servers
            .got
            .lock()
            .unwrap()
            .values()
            .all(|times| *times == 1)
    );
}

#[test]
fn a_request_that_waits_in_vain_is_answered_when_its_time_is_up() {
    let mut servers = Servers::new(1);
    let juggler = servers.before("on_unavailable = \"queue\"\nqueue = { timeout = \"100ms\" }");
    servers.all[0].stop();
    // A request that was given to one of the connections would be answered with that connection's
    // failure.
    juggler.wait_for_log("main/s0: cannot connect");
    let none = format!("0 of {CAPACITY} connected;");
    eventually(PATIENCE, "all workers know", || {
        juggler.line_of("server main/s0").contains(&none)
    });
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(504);
    servers.all[0].restart();
    eventually(PATIENCE, "used again", || client.get("/").status == 200);
}
