//! Probes over connections of their own: to a server that is silent while all its connections are
//! at work, and to another port. Also what a probe sends.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::patient::{PROBE, Patient, changes, probes, wait_for_changes, wait_for_probes};
use crate::support::{Client, Config, Gate, Load, Origin, PATIENCE, TestServer, eventually};

/// A server that holds `/long` at a gate and serves everything else.
fn held() -> (Origin, Gate) {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/long" {
                opened.wait();
            }
            conn.answer(200, "good");
        }
    });
    (origin, gate)
}

// === While all are at work

#[test]
fn a_server_that_is_stopped_under_load_is_noticed_though_all_its_connections_are_at_work() {
    const INTERVAL: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_secs(1);
    let servers = TestServer::three();
    let juggler = Config::new(servers.iter().map(TestServer::address))
        .cluster(
            "capacity = 2\nhealth = { path = \"/test.txt\", interval = \"1s\", timeout = \"1s\", \
             fall = 1 }",
        )
        .start();
    for number in 0..3 {
        wait_for_changes(&juggler, &format!("main/s{number}"), 1);
    }
    let load = Load::start(&juggler.address(), 12, |_| {
        "GET /test.txt HTTP/1.1\r\nHost: load\r\n\r\n".to_owned()
    });
    load.wait_for_more(100);
    let stopped = Instant::now();
    servers[1].signal(Signal::SIGSTOP);
    juggler.wait_for_log("main/s1 is offline: 1 probe failed: no answer in time");
    let noticed = stopped.elapsed();
    assert!(noticed <= 2 * INTERVAL + TIMEOUT, "{noticed:?}");
    // Other servers serve meanwhile. This server is back soon after it continues.
    load.wait_for_more(100);
    servers[1].signal(Signal::SIGCONT);
    juggler.wait_for_log("main/s1 is online: 2 probes succeeded");
    load.end_without_failure();
    for server in &servers {
        assert!(server.stat("connections_most") <= 3, "capacity plus one");
        server.wait_for_stat("connections_now", 2);
    }
    eventually(PATIENCE, "no extra thread is left", || {
        !juggler
            .threads_by_name()
            .keys()
            .any(|name| name.starts_with("probe-"))
    });
}

#[test]
fn a_server_that_works_long_stays_and_one_probe_at_a_time_is_made_beside() {
    let (origin, gate) = held();
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 2\nhealth = { path = \"/up\", interval = \"20ms\", fall = 1, panic = \
             \"0%\" }",
        )
        .start();
    let mut clients = [
        Client::connect(juggler.address()),
        Client::connect(juggler.address()),
    ];
    for client in &mut clients {
        client.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    gate.wait_for(2);
    let before = probes(&origin);
    wait_for_probes(&origin, before + 10);
    gate.open();
    for client in &mut clients {
        client.read_response().expect(200);
    }
    assert_eq!(origin.connections_most(), 3, "capacity plus one");
    assert_eq!(changes(&juggler, "main/s0"), ["online: 1 probe succeeded"]);
    origin.wait_for_connections(2);
}

/// Neither the place in a queue nor the client matters, as long as bytes come over one of the
/// connections.
#[test]
fn a_server_of_which_something_comes_is_not_probed_beside() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target != "/drip" {
                conn.answer(200, "good");
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // Far more often than the interval.
            for _ in 0..300 {
                conn.send("1\r\nx\r\n");
                std::thread::sleep(Duration::from_millis(5));
            }
            conn.send("0\r\n\r\n");
            opened.wait();
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\nhealth = { path = \"/up\", interval = \"500ms\", fall = 1 }")
        .start();
    wait_for_changes(&juggler, "main/s0", 1);
    let mut client = Client::connect(juggler.address());
    client.send("GET /drip HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.read_response().expect(200).body.len(), 300);
    assert_eq!(origin.connections_most(), 1);
    gate.open();
}

#[test]
fn a_server_that_refuses_one_more_connection_is_found_out_too() {
    let (mut origin, gate) = held();
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\nhealth = { path = \"/up\", interval = \"20ms\", panic = \"0%\" }")
        .start();
    let mut client = Client::connect(juggler.address());
    client.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    origin.refuse();
    juggler
        .wait_for_log("main/s0 is offline: 2 probes failed, the last: no connection could be made");
    gate.open();
    client.read_response().expect(200);
    origin.restart();
    juggler.wait_for_log("main/s0 is online: 2 probes succeeded");
}

#[test]
fn a_server_that_answers_with_failures_is_probed_beside_however_much_it_says() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::start(move |conn, _| {
        // The server is well to begin with.
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                "/up" if gate.came() < 2 => conn.answer(200, "well"),
                "/up" => conn.answer(500, "not well"),
                "/drip" => {
                    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    std::thread::scope(|scope| {
                        let done = scope.spawn(|| gate.wait());
                        while !done.is_finished() {
                            conn.send("1\r\nx\r\n");
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    });
                    conn.send("0\r\n\r\n");
                }
                "/good" => conn.answer(200, "good"),
                _ => conn.send("garbage\r\n\r\n"),
            }
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 2\nretry = { attempts = 1 }\nhealth = { path = \"/up\", interval = \
             \"3s\", recheck = \"3s\", fall = 1, panic = \"0%\" }",
        )
        .start();
    wait_for_changes(&juggler, "main/s0", 1);
    let mut drips = Client::connect(juggler.address());
    drips.send("GET /drip HTTP/1.1\r\nHost: x\r\n\r\n");
    opened.wait_for(1);
    Client::connect(juggler.address()).get("/good").expect(200);
    // Too many failures to trust the server, though of one client alone. From then on both workers
    // receive bytes without an end.
    for _ in 0..12 {
        Client::connect(juggler.address()).get("/").expect(502);
    }
    let mut other = Client::connect(juggler.address());
    other.send("GET /drip HTTP/1.1\r\nHost: x\r\n\r\n");
    juggler.wait_for_log("main/s0 is offline: 1 probe failed");
    opened.open();
    for client in [&mut drips, &mut other] {
        client.read_response().expect(200);
    }
}

#[test]
fn clients_that_read_slowly_do_not_make_a_server_silent() {
    const LARGE: usize = 32 << 20;
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            // The server serves two connections.
            if conn.number() >= 2 {
                held.wait();
                return;
            }
            match request.target == PROBE {
                true => conn.answer(200, "well"),
                false => conn.answer(200, vec![b'x'; LARGE]),
            }
        }
    });
    let juggler = Config::new([origin.address()])
        .top("[spool]\nlimit = \"0B\"")
        .listener("limit = { response_memory = \"64KiB\" }")
        .cluster(&format!(
            "capacity = 2\nlane = 0\nhealth = {{ path = \"{PROBE}\", interval = \"500ms\", timeout = \
             \"1s\", fall = 1, panic = \"0%\" }}"
        ))
        .start();
    wait_for_changes(&juggler, "main/s0", 1);
    let ask = || {
        let mut client = Client::connect(juggler.address());
        client.small_receive_buffer();
        client.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        client
    };
    let mut clients = [ask(), ask()];
    origin.wait_for_requests(2);
    // The clients read over many intervals, but so little that the workers wait for them most of
    // the time.
    let end = Instant::now() + Duration::from_millis(3000);
    while Instant::now() < end {
        for client in &mut clients {
            client.read_exactly(4096);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(
        origin.connections_ever(),
        2,
        "there was no extra probe connection"
    );
    assert_eq!(changes(&juggler, "main/s0"), ["online: 1 probe succeeded"]);
    gate.open();
}

// === To another port

#[test]
fn another_port_is_asked_over_connections_of_its_own() {
    let server = Origin::answering("good");
    let mut health = Patient::named("health");
    let port = health.origin.address().port();
    let juggler = Config::new([server.address()])
        .cluster(&format!(
            "capacity = 2\nhealth = {{ path = \"{PROBE}\", port = {port}, interval = \"20ms\", \
             panic = \"0%\" }}"
        ))
        .start();
    let mut client = Client::connect(juggler.address());
    eventually(PATIENCE, "in use", || client.get("/").status == 200);
    wait_for_probes(&health.origin, 5);
    assert_eq!((health.origin.connections_most(), health.served()), (1, 0));
    assert_eq!(
        (probes(&server), server.connections_ever()),
        (0, 2),
        "the server's own port sees its capacity"
    );
    health.set(503);
    juggler.wait_for_log(
        "main/s0 is offline: 2 probes failed, the last: the server answered with an error",
    );
    client.get("/").expect(503);
    health.set(200);
    juggler.wait_for_log("main/s0 is online: 2 probes succeeded");
    health.origin.stop();
    juggler
        .wait_for_log("main/s0 is offline: 2 probes failed, the last: no connection could be made");
    health.origin.restart();
    eventually(PATIENCE, "in use again", || client.get("/").status == 200);
    eventually(PATIENCE, "no extra connection is left", || {
        health.origin.connections_now() <= 1
    });
}

#[test]
fn another_port_that_hangs_is_given_up_in_the_probes_time_and_holds_up_no_other() {
    let server = Origin::answering("good");
    let health = Origin::start(|conn, _| {
        conn.request();
        conn.wait_for_close();
    });
    let other = Patient::named("other");
    let juggler = Config::new([server.address()])
        .cluster(&format!(
            "capacity = 1\nhealth = {{ path = \"/up\", port = {}, interval = \"20ms\", timeout = \
             \"200ms\" }}",
            health.address().port()
        ))
        .rest(&format!(
            "[[cluster]]\nname = \"other\"\nhealth = {{ path = \"/up\", interval = \"10ms\" \
             }}\nserver = [{{ address = \"{}\" }}]\n",
            other.origin.address()
        ))
        .start();
    juggler.wait_for_log("main/s0 is offline: 1 probe failed: no answer in time");
    let so_far = other.probes();
    health.wait_for_requests(4);
    assert!(other.probes() > so_far, "others are probed meanwhile");
    assert!(
        health.connections_most() <= 2,
        "the last connection's end may be on its way"
    );
}

#[test]
fn a_connect_to_another_port_is_a_probe_as_well() {
    let server = Origin::answering("good");
    let health = Origin::start(|conn, _| {
        conn.wait_for_close();
    });
    let juggler = Config::new([server.address()])
        .cluster(&format!(
            "capacity = 1\nhealth = {{ port = {}, interval = \"10ms\" }}",
            health.address().port()
        ))
        .start();
    wait_for_changes(&juggler, "main/s0", 1);
    assert_eq!(changes(&juggler, "main/s0"), ["online: 1 probe succeeded"]);
    eventually(PATIENCE, "probed", || health.connections_ever() >= 5);
    assert_eq!(server.connections_ever(), 1);
    // `port` with the server's own number changes nothing.
    let juggler = Config::new([server.address()])
        .cluster(&format!(
            "capacity = 1\nhealth = {{ path = \"/up\", port = {}, interval = \"10ms\" }}",
            server.address().port()
        ))
        .start();
    wait_for_probes(&server, 5);
    drop(juggler);
    assert_eq!(server.connections_ever(), 2);
}

// === What is sent

#[test]
fn a_probe_sends_what_it_was_told() {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let is_asked = request.method == "POST" && request.body == b"{\"ping\": 1}";
            conn.answer(if is_asked { 200 } else { 400 }, "");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 1\nhealth = { method = \"POST\", path = \"/rpc\", send = \"{\\\"ping\\\": \
             1}\", fields = \"Content-Type: application/json\", expect = 200, interval = \"10ms\" \
             }",
        )
        .start();
    origin.wait_for_requests(3);
    assert_eq!(changes(&juggler, "main/s0"), ["online: 1 probe succeeded"]);
    let request = &origin.requests()[0];
    assert_eq!(request.field("content-type"), Some("application/json"));
    assert_eq!(request.all("content-length"), ["11"]);
    assert_eq!(origin.connections_ever(), 1);
}

#[test]
fn a_probe_whose_interim_response_claims_a_body_costs_the_connection() {
    let origin = Origin::start(|conn, _| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n");
            conn.answer(200, "good");
        }
    });
    let _juggler = Config::new([origin.address()])
        .cluster("capacity = 1\nhealth = { path = \"/up\", interval = \"20ms\" }")
        .start();
    wait_for_probes(&origin, 5);
    assert!(
        origin.connections_ever() >= 4,
        "{}",
        origin.connections_ever()
    );
}
