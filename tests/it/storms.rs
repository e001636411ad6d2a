//! Much at once: servers are killed, clients come and go, and more clients come than there is room
//! for. The servers count, and at the end the program has everything back.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::support::{
    Client, Config, Gate, Juggler, Origin, PATIENCE, TestServer, eventually, tool,
};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Numbers that look random, the same ones each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What the balancer must have back after a storm.
#[derive(Debug)]
struct Footprint {
    files: usize,
    threads: usize,
    memory: u64,
}

impl Footprint {
    fn of(juggler: &Juggler) -> Self {
        Self {
            files: juggler.open_files(),
            threads: juggler.threads(),
            memory: juggler.rss_kib(),
        }
    }

    /// Spare threads end within ten seconds. Everything else is back at once.
    #[track_caller]
    fn is_back(&self, juggler: &Juggler) {
        eventually(PATIENCE, "as many threads and files as before", || {
            juggler.threads() <= self.threads && juggler.open_files() <= self.files
        });
        let memory = juggler.rss_kib();
        // Buffers, exchanges and the allocator's own store are kept for the next storm.
        assert!(
            memory < self.memory + 64 * 1024,
            "{memory} KiB, and {self:?} before"
        );
    }
}

#[test]
fn no_get_fails_while_servers_are_killed_and_restarted() {
    let each = 12_500;
    let mut servers = TestServer::three();
    let juggler = Config::new(servers.iter().map(TestServer::address)).start();
    for server in &servers {
        server.wait_for_stat("connections_now", 5);
    }
    let footprint = Footprint::of(&juggler);
    let running = Arc::new(AtomicUsize::new(8));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (address, running) = (juggler.address(), Arc::clone(&running));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut bad = Vec::new();
                for _ in 0..each {
                    let response = client.get("/test.txt");
                    if response.status != 200 || response.body.len() != 49 {
                        bad.push((response.status, response.text()));
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
                bad
            })
        })
        .collect();
    let mut kills = 0;
    while running.load(Ordering::SeqCst) > 0 {
        let server = &mut servers[kills % 3];
        server.kill();
        server.restart();
        server.wait_for_stat("connections_now", 5);
        kills += 1;
    }
    for client in clients {
        let bad = client.join().unwrap();
        assert!(
            bad.is_empty(),
            "{} bad responses, {kills} kills: {:?}",
            bad.len(),
            bad.first()
        );
    }
    assert!(kills >= 3, "{kills} kills");
    footprint.is_back(&juggler);
}

#[test]
fn no_post_is_done_twice_while_connections_break() {
    // The server runs in this process, so the test knows what it has done even if it could not
    // respond.
    let done = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let answers = Arc::new(AtomicUsize::new(0));
    let servers: Vec<_> = (0..3)
        .map(|_| {
            let (done, answers) = (Arc::clone(&done), Arc::clone(&answers));
            Origin::start(move |conn, _| {
                while let Some(request) = conn.request() {
                    *done.lock().unwrap().entry(request.target).or_default() += 1;
                    match answers.fetch_add(1, Ordering::SeqCst) % 10 {
                        3 => return conn.reset(),
                        6 => return conn.send("HTTP/1.1 200 OK\r\n"),
                        // Closes without an announcement, for the next request to run into.
                        9 => return conn.answer(200, "done"),
                        _ => conn.answer(200, "done"),
                    }
                }
            })
        })
        .collect();
    let juggler = Config::new(servers.iter().map(Origin::address))
        .cluster("capacity = 3")
        .start();
    let each = 1_000;
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let address = juggler.address();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut answered = Vec::new();
                for index in 0..each {
                    let key = format!("/{number}/{index}");
                    match client.post(&key, "x").status {
                        200 => answered.push(key),
                        status => assert_eq!(status, 502, "{key}"),
                    }
                }
                answered
            })
        })
        .collect();
    let answered: Vec<_> = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect();
    let done = done.lock().unwrap();
    let twice: BTreeMap<_, _> = done.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(answered.iter().all(|key| done.contains_key(key)));
    assert!(
        answered.len() > each * 8 / 2,
        "only {} got a response",
        answered.len()
    );
}

#[test]
fn two_thousand_clients_are_fifteen_connections() {
    const CLIENTS: usize = 2000;
    let servers = TestServer::three();
    let juggler = Config::new(servers.iter().map(TestServer::address)).start();
    for server in &servers {
        server.wait_for_stat("connections_now", 5);
    }
    let footprint = Footprint::of(&juggler);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect(juggler.address()))
        .collect();
    for round in 0..2 {
        // Half a request from each client, then the other halves at once, so that all requests come
        // together.
        let request = get("/__delay/1");
        let (first, second) = request.split_at(10);
        clients.iter_mut().for_each(|client| client.send(first));
        clients.iter_mut().for_each(|client| client.send(second));
        for client in &mut clients {
            assert_eq!(
                client.read_response().expect(200).text(),
                "waited 1 ms\n",
                "round {round}"
            );
        }
    }
    assert!(juggler.threads() > CLIENTS, "one thread for each client");
    drop(clients);
    for server in &servers {
        let stats = server.stats();
        for name in ["connections_ever", "connections_most", "executing_most"] {
            assert_eq!(stats[name], 5, "{name} of {}: {stats}", server.name());
        }
        assert_eq!(
            (&stats["pipelined"], &stats["malformed"]),
            (&0.into(), &0.into())
        );
    }
    footprint.is_back(&juggler);
}

#[test]
fn thousands_that_leave_at_any_moment_never_raise_what_a_server_does_at_once() {
    let clients = 5_000;
    let servers = TestServer::three();
    // With `close` a server may still be busy with a cancelled request when the next connection
    // comes: that caps connections. `ignore` caps executions.
    let juggler = Config::new(servers.iter().map(TestServer::address))
        .top("[process]\nsummary = \"1s\"\n[spool]\nfolder = \"{dir}\"")
        .listener("limit = { body_memory = \"4KiB\" }")
        .cluster("capacity = 4\non_client_abort = \"ignore\"")
        .start();
    for server in &servers {
        server.wait_for_stat("connections_now", 4);
    }
    let footprint = Footprint::of(&juggler);
    let body = "x".repeat(20_000);
    let requests: Arc<[String]> = [
        get("/__delay/2"),
        get("/__size/100000"),
        format!("POST /__sum HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n{body}"),
        format!("{}{}", get("/__delay/1"), get("/test.txt")),
        get("/__chunked/20?size=5000&delay=1"),
    ]
    .into();
    let threads: Vec<_> = (0..16)
        .map(|number| {
            let (address, requests) = (juggler.address(), Arc::clone(&requests));
            thread::spawn(move || {
                let mut dice = Dice(number);
                let mut staying = Vec::new();
                for _ in 0..clients / 16 {
                    let mut client = Client::connect(&address);
                    let request = requests[dice.roll(requests.len() as u64) as usize].as_bytes();
                    let part = match dice.roll(4) {
                        0 => dice.roll(request.len() as u64) as usize,
                        _ => request.len(),
                    };
                    // The balancer may refuse it before everything is sent.
                    let _ = client.try_send(&request[..part]);
                    staying.push(client);
                    // Any of the clients that are still there, at any moment.
                    while staying.len() > dice.roll(20) as usize {
                        let mut client =
                            staying.swap_remove(dice.roll(staying.len() as u64) as usize);
                        if dice.roll(4) == 0 {
                            client.set_patience(Duration::from_millis(dice.roll(5)));
                            let _ = client.try_read_response(false);
                        }
                        if dice.roll(2) == 0 {
                            client.reset();
                        }
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    for server in &servers {
        server.wait_for_stat("executing_now", 0);
        let stats = server.stats();
        for name in ["executing_most", "connections_most"] {
            assert!(stats[name].as_u64().unwrap() <= 4, "{name}: {stats}");
        }
        assert_eq!(
            (&stats["connections_now"], &stats["malformed"]),
            (&4.into(), &0.into()),
            "{stats}"
        );
    }
    Client::connect(juggler.address())
        .get("/test.txt")
        .expect(200);
    footprint.is_back(&juggler);
    eventually(PATIENCE, "nothing is left", || {
        let log = juggler.log();
        let summary = log.iter().rev().find(|line| line.contains("requests/s"));
        summary.is_some_and(|line| {
            [
                "0 clients",
                "0 served",
                "0 queued",
                "12/12 workers",
                "0 KiB in buffers",
                "0 KiB in spool",
                "0 couriers",
            ]
            .iter()
            .all(|part| line.contains(&format!(" {part}")))
        })
    });
}

#[test]
fn a_stop_under_load_breaks_no_request() {
    let servers = TestServer::three();
    let mut juggler = Config::new(servers.iter().map(TestServer::address)).start();
    for server in &servers {
        server.wait_for_stat("connections_now", 5);
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (address, answered) = (juggler.address(), Arc::clone(&answered));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                loop {
                    let path = if number % 2 == 0 {
                        "/test.txt"
                    } else {
                        "/__delay/20"
                    };
                    let response = client.get(path).expect(200);
                    answered.fetch_add(1, Ordering::SeqCst);
                    if response.closes() {
                        client.expect_closed();
                        return;
                    }
                }
            })
        })
        .collect();
    // These clients have sent nothing yet when the signal comes. Some are accepted, and some are
    // still in the backlog.
    eventually(PATIENCE, "under load", || {
        answered.load(Ordering::SeqCst) > 200
    });
    let late: Vec<_> = (0..16)
        .map(|_| Client::connect(juggler.address()))
        .collect();
    let late: Vec<_> = late
        .into_iter()
        .map(|mut client| {
            client.send(get("/test.txt"));
            client
        })
        .collect();
    assert_eq!(juggler.stop(), Some(0));
    for client in clients {
        client.join().unwrap();
    }
    for mut client in late {
        client.read_response().expect(200);
        client.expect_closed();
    }
}

#[test]
fn at_the_cap_the_client_idle_longest_makes_room() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .top("[process]\nmax_sessions = 4")
        .cluster("capacity = 2")
        .start();
    origin.wait_for_connections(2);
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..12 {
        let mut client = Client::connect(juggler.address());
        assert_eq!(
            client.get("/").expect(200).text(),
            "good",
            "client {number}"
        );
        clients.push(client);
        // Idle times are told apart by the millisecond.
        thread::sleep(Duration::from_millis(3));
        if clients.len() == 4 {
            clients.remove(0).expect_closed();
        }
    }
    // A client in an exchange is not idle, however long the exchange takes.
    for client in &mut clients {
        assert_eq!(client.get("/").expect(200).text(), "good");
    }
}

#[test]
fn at_the_cap_no_client_is_closed_whose_first_request_is_on_its_way() {
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .top("[process]\nmax_sessions = 4")
        .cluster("capacity = 2")
        .start();
    let address = juggler.address();
    let clients = (0..40).map(|_| {
        let address = address.clone();
        thread::spawn(move || {
            let mut client = Client::connect(address);
            // Meanwhile others come, and there is no place for them.
            thread::sleep(Duration::from_millis(20));
            client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            client.read_response().status
        })
    });
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.join().unwrap(), 200);
    }
}

#[test]
fn without_descriptors_no_client_is_accepted_and_then_all_are() {
    let prlimit = tool("prlimit");
    let origin = Origin::answering("good");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 2")
        .start();
    origin.wait_for_connections(2);
    let limit = juggler.open_files() + 5;
    let limited = Command::new(prlimit)
        .args([
            format!("--pid={}", juggler.pid()),
            format!("--nofile={limit}:{limit}"),
        ])
        .status()
        .unwrap();
    assert!(limited.success());
    let mut clients: Vec<_> = (0..20)
        .map(|_| Client::connect(juggler.address()))
        .collect();
    clients.iter_mut().for_each(|client| client.send(get("/")));
    for mut client in clients {
        // Each client that closes makes room for the next.
        assert_eq!(client.read_response().expect(200).text(), "good");
    }
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn requests_and_queues_have_limits() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "answer");
        }
    });
    let juggler = Config::new([origin.address()])
        .top("[process]\nmax_requests = 3")
        .cluster("capacity = 1\nqueue = { limit = 1 }")
        .start();
    origin.wait_for_connections(1);
    let ask = || {
        let mut client = Client::connect(juggler.address());
        client.send(get("/"));
        client
    };
    let mut served = ask();
    gate.wait_for(1);
    let mut queued = ask();
    queued.expect_silence(Duration::from_millis(50));
    let response = ask().read_response().expect(503);
    assert!(
        response.text().contains("too many requests are waiting"),
        "{}",
        response.text()
    );
    assert_eq!(response.field("retry-after"), Some("1"));
    gate.open();
    served.read_response().expect(200);
    queued.read_response().expect(200);
    ask().read_response().expect(200);
}
