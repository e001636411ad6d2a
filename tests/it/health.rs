//! How servers are probed: when, over which connections, with which request, and which responses
//! pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::patient::{
    PROBE, Patient, changes, probes, reload, wait_for_changes, wait_for_probes,
};
use crate::support::{
    Client, Config, Gate, Load, Origin, OriginConn, PATIENCE, TestServer, eventually,
};

#[test]
fn a_server_that_is_there_is_used_from_the_start() {
    let servers = TestServer::three();
    let config = Config::new(servers.iter().map(TestServer::address))
        .cluster("health = { interval = \"1h\" }");
    for _ in 0..5 {
        let juggler = config.start();
        for (number, server) in servers.iter().enumerate() {
            let expected = "online: 1 probe succeeded".to_owned();
            let name = format!("main/s{number}");
            wait_for_changes(&juggler, &name, 1);
            assert_eq!(changes(&juggler, &name), [expected], "{}", server.name());
        }
        for server in &servers {
            server.reset_stats();
        }
        let mut client = Client::connect(juggler.address());
        for _ in 0..3 {
            client.get("/test.txt").expect(200);
        }
        for server in &servers {
            assert_eq!(server.stat("requests"), 1);
        }
    }
}

#[test]
fn a_server_that_a_reload_adds_is_used_after_a_probe_and_without_a_fault() {
    let servers = TestServer::three();
    let health = "health = { interval = \"1h\" }";
    let [one, two, three] = servers.each_ref().map(TestServer::address);
    let juggler = Config::new([one]).cluster(health).start();
    reload(
        &juggler,
        &Config::new([one, two, three]).cluster(health).text(),
    );
    for number in 1..3 {
        let name = format!("main/s{number}");
        wait_for_changes(&juggler, &name, 1);
        assert_eq!(changes(&juggler, &name), ["online: 1 probe succeeded"]);
    }
    let mut client = Client::connect(juggler.address());
    eventually(PATIENCE, "all are used", || {
        client.get("/test.txt").expect(200);
        servers[1..]
            .iter()
            .all(|server| server.stat("requests") > 0)
    });
}

#[test]
fn paranoid_uses_no_server_before_a_probe_has_shown_that_it_works() {
    let server = Patient::named("it");
    server.set(503);
    let juggler = Config::new([server.origin.address()])
        .cluster("health = { path = \"/up\", interval = \"20ms\" }")
        .start();
    juggler.wait_for_log("main/s0 is offline: 1 probe failed: the server answered with an error");
    wait_for_probes(&server.origin, 5);
    let mut client = Client::connect(juggler.address());
    // The server is not used for want of others either, because it was never seen to work.
    client.get("/early").expect(503);
    assert_eq!(server.served(), 0);
    server.set(200);
    juggler.wait_for_log("main/s0 is online: 2 probes succeeded");
    eventually(PATIENCE, "used", || client.get("/").status == 200);
    server.origin.assert_no_failures();
}

#[test]
fn probes_go_over_the_connections_that_are_there() {
    let server = TestServer::start();
    let juggler = Config::new([server.address()])
        .cluster("capacity = 2\nhealth = { path = \"/__count/probe\", interval = \"10ms\" }")
        .start();
    let load = Load::of_gets(&juggler.address(), 1);
    eventually(PATIENCE, "probed", || server.counted("probe") >= 20);
    load.end();
    assert_eq!(
        (
            server.stat("connections_ever"),
            server.stat("connections_most")
        ),
        (2, 2)
    );
    assert_eq!(changes(&juggler, "main/s0").len(), 1);
}

#[test]
fn probes_by_connecting_take_the_place_of_a_connection() {
    let server = TestServer::start();
    let juggler = Config::new([server.address()])
        .cluster("capacity = 2\nhealth = { interval = \"10ms\", probe_when_busy = false }")
        .start();
    // A probe may take a connection that has served as well as any other.
    let load = Load::start(&juggler.address(), 2, |_| {
        "GET /test.txt HTTP/1.1\r\nHost: load\r\n\r\n".to_owned()
    });
    eventually(PATIENCE, "connected", || {
        server.stat("connections_ever") >= 30
    });
    load.end_without_failure();
    let ever = server.stat("connections_ever");
    eventually(PATIENCE, "connected when idle too", || {
        server.stat("connections_ever") >= ever + 10
    });
    assert_eq!(server.stat("connections_most"), 2);
    server.wait_for_stat("connections_now", 2);
    assert_eq!(changes(&juggler, "main/s0").len(), 1);
}

#[test]
fn a_connection_by_which_a_probe_fails_is_not_there_besides_others() {
    // After a probe that fails, the worker connects anew.
    let server = TestServer::start();
    let juggler = Config::new([server.address()])
        .cluster(
            "capacity = 2\nhealth = { path = \"/__status/503\", interval = \"10ms\", panic = \
             \"0%\" }",
        )
        .start();
    eventually(PATIENCE, "connected", || {
        server.stat("connections_ever") >= 20
    });
    assert_eq!(server.stat("connections_most"), 2);
    assert_eq!(changes(&juggler, "main/s0").len(), 1);
}

/// Waits for a number of probes in a cluster of its own, which is looked at in the same interval as
/// others.
fn measure(interval: &str) -> (Origin, String) {
    let measure = Origin::answering("measure");
    let cluster = format!(
        "[[cluster]]\nname = \"measure\"\nhealth = {{ path = \"/up\", interval = \"{interval}\" \
         }}\nserver = [{{ address = \"{}\" }}]\n",
        measure.address()
    );
    (measure, cluster)
}

#[test]
fn lazy_looks_at_a_server_only_while_it_is_offline() {
    let (measure, rest) = measure("10ms");
    let mut server = Patient::named("it");
    let juggler = Config::new([server.origin.address()])
        .cluster("health = { mode = \"lazy\", path = \"/up\", interval = \"10ms\" }")
        .rest(&rest)
        .start();
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    wait_for_probes(&measure, 10);
    assert_eq!(server.probes(), 0);
    server.origin.stop();
    juggler.wait_for_log(
        "main/s0 is offline: 3 attempts in a row failed: no connection could be made",
    );
    server.origin.restart();
    juggler.wait_for_log("main/s0 is online: 2 probes succeeded");
    assert_eq!(server.probes(), 2);
    measure.forget();
    wait_for_probes(&measure, 10);
    assert_eq!(server.probes(), 2);
}

#[test]
fn disabled_looks_at_no_server_and_takes_none_out() {
    let (measure, rest) = measure("10ms");
    let server = Patient::named("it");
    let juggler = Config::new([server.origin.address()])
        .cluster(
            "health = { mode = \"disabled\", path = \"/up\", interval = \"10ms\", passive = { \
             status = 2 } }",
        )
        .rest(&rest)
        .start();
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    wait_for_probes(&measure, 10);
    server.set(503);
    for _ in 0..5 {
        // This is the path of probes. With `disabled` a 503 changes nothing.
        client.get(PROBE).expect(503);
    }
    client.get("/").expect(200);
    assert_eq!((server.probes(), server.served()), (5, 2));
    assert_eq!(changes(&juggler, "main/s0"), [""; 0]);
}

#[test]
fn opportunistic_looks_at_a_server_that_has_had_nothing_to_do() {
    const INTERVAL: Duration = Duration::from_millis(40);
    let answered = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    let seen = Arc::clone(&answered);
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            {
                let (last, gaps) = &mut *seen.lock().unwrap();
                match request.target == PROBE {
                    true => gaps.push(last.elapsed()),
                    false => *last = Instant::now(),
                }
            }
            conn.answer(200, "");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 2\nhealth = { mode = \"opportunistic\", path = \"/up\", interval = \
             \"40ms\" }",
        )
        .start();
    for _ in 0..3 {
        let began = Instant::now();
        let load = Load::of_gets(&juggler.address(), 1);
        while began.elapsed() < 6 * INTERVAL {
            load.wait_for_more(20);
        }
        load.end_without_failure();
        let so_far = probes(&origin);
        wait_for_probes(&origin, so_far + 3);
    }
    let gaps = answered.lock().unwrap().1.clone();
    // A probe may have been decided on just before the server had something to do again. Other
    // modes would have made eighteen.
    let early = gaps.iter().filter(|gap| **gap < INTERVAL).count();
    assert!(early <= 6, "{gaps:?}");
}

#[test]
fn a_probe_is_the_request_that_was_asked_for() {
    for (health, expected) in [
        (
            "path = \"/up\"",
            "GET /up HTTP/1.1\r\nHost: localhost\r\nUser-Agent: juggler-health-check\r\n\r\n",
        ),
        (
            "method = \"HEAD\", path = \"/up?deep=1\", host = \"app.test:81\", fields = [\"X-A: b \
             c\", \"user-agent: me\"]",
            "HEAD /up?deep=1 HTTP/1.1\r\nHost: app.test:81\r\nX-A: b c\r\nuser-agent: me\r\n\r\n",
        ),
        (
            "type = \"http\", method = \"OPTIONS\", path = \"*\"",
            "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUser-Agent: juggler-health-check\r\n\r\n",
        ),
    ] {
        let origin = Origin::start(|conn, _| {
            while let Some(request) = conn.request() {
                match request.method.as_str() {
                    "HEAD" => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
                    _ => conn.answer(200, "body"),
                }
            }
        });
        let juggler = Config::new([origin.address()])
            .cluster(&format!(
                "capacity = 1\nhealth = {{ {health}, interval = \"10ms\" }}"
            ))
            .start();
        origin.wait_for_requests(3);
        for request in origin.requests() {
            assert_eq!(String::from_utf8_lossy(&request.raw), expected);
        }
        assert_eq!(changes(&juggler, "main/s0"), ["online: 1 probe succeeded"]);
        assert_eq!(origin.connections_ever(), 1);
    }
}

/// A server that does this with every probe and serves everything else.
fn probed(answer: impl Fn(&mut OriginConn) + Send + Sync + 'static) -> Origin {
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target == PROBE {
                true => answer(conn),
                false => conn.answer(200, "it"),
            }
        }
    })
}

#[test]
fn a_probe_succeeds_by_what_was_expected_alone() {
    let gate = Gate::new();
    let held = gate.clone();
    let dripping = Arc::new(AtomicBool::new(true));
    let drips = Arc::clone(&dripping);
    let origins = [
        probed(|conn| conn.answer(204, "")),
        probed(|conn| conn.answer(200, "all is well")),
        probed(|conn| conn.send("HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nwell?")),
        probed(|conn| {
            conn.send(
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: \
                 chunked\r\n\r\n",
            );
            conn.send("5\r\nwe ar\r\n6\r\ne well\r\n0\r\n\r\n");
        }),
        probed(|conn| {
            conn.send("HTTP/1.1 200 OK\r\n\r\nwell, this ends with the connection");
            conn.shutdown_write();
        }),
        probed(|conn| conn.answer(503, "not well")),
        probed(|conn| conn.answer(200, "ill")),
        probed(|conn| conn.answer(404, "well")),
        probed(|conn| conn.send("220 this is not HTTP, well\r\n\r\n")),
        probed(|conn| conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nwell")),
        probed(move |_| held.wait()),
        probed(move |conn| {
            conn.send("HTTP/1.1 200 OK\r\n");
            while drips.load(Ordering::SeqCst) {
                conn.send("X: y\r\n");
                std::thread::sleep(Duration::from_millis(20));
            }
        }),
    ];
    let error = "1 probe failed: the server answered with an error";
    let late = "1 probe failed: no answer in time";
    let online = "online: 1 probe succeeded".to_owned();
    let expected = [
        "offline: 1 probe failed: the server answered with an error".to_owned(),
        online.clone(),
        online.clone(),
        online.clone(),
        online,
        format!("offline: {error}"),
        format!("offline: {error}"),
        format!("offline: {error}"),
        "offline: 1 probe failed: the answer was no HTTP".to_owned(),
        format!("offline: {late}"),
        format!("offline: {late}"),
        format!("offline: {late}"),
    ];
    let juggler = Config::new(origins.iter().map(Origin::address))
        .cluster(
            "capacity = 1\nhealth = { path = \"/up\", interval = \"1h\", timeout = \"1500ms\", \
             panic = \"0%\", expect = [200, \"300-399\"], body = \"well\" }",
        )
        .start();
    for (number, expected) in expected.iter().enumerate() {
        let name = format!("main/s{number}");
        wait_for_changes(&juggler, &name, 1);
        assert_eq!(
            changes(&juggler, &name),
            std::slice::from_ref(expected),
            "{name}"
        );
    }
    gate.open();
    dripping.store(false, Ordering::SeqCst);
    for (server, what) in [
        (0, "the status was 204"),
        (5, "the status was 503"),
        (6, "the body is not as expected"),
    ] {
        juggler.wait_for_log(&format!("main/s{server}: a probe failed: {what}"));
    }
    let mut client = Client::connect(juggler.address());
    for _ in 0..8 {
        client.get("/").expect(200);
    }
    for (number, origin) in origins.iter().enumerate() {
        let served = origin.requests().len() - probes(origin);
        assert_eq!(
            served,
            if (1..5).contains(&number) { 2 } else { 0 },
            "main/s{number}"
        );
    }
}

#[test]
fn a_probe_that_hangs_holds_up_no_request_and_its_worker_comes_back() {
    let (probe, busy) = (Gate::new(), Gate::new());
    let (held, served) = (probe.clone(), busy.clone());
    let is_first = AtomicBool::new(true);
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                PROBE if !is_first.swap(false, Ordering::SeqCst) => held.wait(),
                "/busy" => served.wait(),
                _ => {}
            }
            conn.answer(200, "");
        }
    });
    let other = Patient::named("other");
    let juggler = Config::new([origin.address(), other.origin.address()])
        .cluster(
            "capacity = 2\nhealth = { path = \"/up\", interval = \"20ms\", timeout = \"500ms\", \
             fall = 1 }",
        )
        .start();
    probe.wait_for(1);
    let before = other.probes();
    // The server's other worker serves meanwhile, and so does the other server.
    let load = Load::of_gets(&juggler.address(), 2);
    load.wait_for_more(20);
    eventually(PATIENCE, "others are probed meanwhile", || {
        other.probes() > before + 2
    });
    juggler.wait_for_log("main/s0 is offline: 1 probe failed: no answer in time");
    load.wait_for_more(20);
    load.end_without_failure();
    probe.open();
    juggler.wait_for_log("main/s0 is online: 2 probes succeeded");
    origin.wait_for_connections(2);
    // Both workers of the server work again. The other server serves its own requests.
    let mut clients = Vec::new();
    eventually(PATIENCE, "both at work", || {
        let mut client = Client::connect(juggler.address());
        client.send("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
        clients.push(client);
        busy.came() >= 2
    });
    busy.open();
    for mut client in clients {
        client.read_response().expect(200);
    }
}

#[test]
fn a_server_at_work_on_all_connections_is_not_probed() {
    let (measure, rest) = measure("10ms");
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/long" {
                held.wait();
            }
            conn.answer(200, "");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster(
            "capacity = 1\nhealth = { path = \"/up\", interval = \"10ms\", fall = 1, panic = \
             \"0%\", probe_when_busy = false }",
        )
        .rest(&rest)
        .start();
    let mut client = Client::connect(juggler.address());
    client.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    origin.forget();
    measure.forget();
    wait_for_probes(&measure, 20);
    assert_eq!(origin.requests().len(), 0);
    gate.open();
    client.read_response().expect(200);
    wait_for_probes(&origin, 3);
    assert_eq!(changes(&juggler, "main/s0"), ["online: 1 probe succeeded"]);
}
