//! Clients that leave: in the queue, while they are served, while they wait for their turn. Each
//! exchange is logged once, and what it held is free again.

use std::time::{Duration, Instant};

use crate::support::{Authority, Client, Config, Gate, Juggler, Origin, PATIENCE, eventually};

/// A server that responds once the gate is open.
fn held_by(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while conn.request().is_some() {
            gate.wait();
            conn.answer(200, "answer");
        }
    })
}

fn before(origin: &Origin, cluster: &str) -> (Juggler, Authority) {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = authority.issue(&["localhost"]).write(folder.path(), "a");
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"")
        .cluster("capacity = 1")
        .cluster(cluster)
        .rest(&format!(
            "[[listener]]\nname = \"tls\"\nbind = [\"127.0.0.1:0\"]\ntls = {{ certificates = [{{ \
             chain = {chain:?}, key = {key:?} }}] }}"
        ))
        .start();
    origin.wait_for_connections(1);
    (juggler, authority)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[test]
fn a_client_that_leaves_in_mid_response_frees_a_worker_whose_server_stalls() {
    for how in ALL {
        let gate = Gate::new();
        let stalled = gate.clone();
        let origin = Origin::start(move |conn, number| {
            while conn.request().is_some() {
                if number > 0 {
                    conn.answer(200, "next");
                    continue;
                }
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
                stalled.wait();
            }
        });
        let (juggler, authority) = before(&origin, "timeout = { abort = \"100ms\" }");
        let mut client = connect(&juggler, &authority, how);
        client.send(get("/"));
        client.read_exactly(10);
        leave(client, how);
        // The only worker serves that exchange. The response comes because the grace ends, long
        // before the read timeout.
        Client::connect(juggler.address_of("main"))
            .get("/")
            .expect(200);
        assert!(
            juggler.wait_for_output("GET /").contains("end=CD"),
            "{how:?}"
        );
        gate.open();
    }
}

#[test]
fn a_client_that_ends_only_its_sending_side_gets_the_rest_as_long_as_it_comes() {
    let origin = Origin::start(|conn, _| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
            for _ in 0..8 {
                // Each pause is well within the grace, and their sum is well beyond it.
                std::thread::sleep(Duration::from_millis(50));
                conn.send("x");
            }
        }
    });
    let (juggler, _) = before(&origin, "timeout = { abort = \"200ms\" }");
    let mut client = Client::connect(juggler.address_of("main"));
    client.send(get("/"));
    client.read_exactly(10);
    client.shutdown_write();
    assert!(client.read_to_end().ends_with(b"xxxxxxxx"));
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Fin,
    Reset,
    Tls,
}

const ALL: [How; 3] = [How::Fin, How::Reset, How::Tls];

fn connect(juggler: &Juggler, authority: &Authority, how: How) -> Client {
    if how == How::Tls {
        Client::tls(juggler.address_of("tls"), &authority.client(), "localhost")
    } else {
        Client::connect(juggler.address_of("main"))
    }
}

fn leave(mut client: Client, how: How) {
    match how {
        How::Fin => drop(client),
        How::Reset => client.reset(),
        How::Tls => client.shutdown_write(),
    }
}

fn ended(juggler: &Juggler, path: &str, status: u16, flags: &str) {
    let line = juggler.wait_for_output(&format!("GET {path} "));
    assert!(
        line.contains(&format!("\" {status} ")) && line.contains(&format!("end={flags}")),
        "{line}"
    );
}

#[test]
fn a_client_that_leaves_while_queued_is_never_seen_by_a_server() {
    let gate = Gate::new();
    let origin = held_by(&gate);
    let (juggler, authority) = before(&origin, "");
    let mut first = Client::connect(juggler.address_of("main"));
    first.send(get("/first"));
    gate.wait_for(1);
    for how in ALL {
        let mut client = connect(&juggler, &authority, how);
        client.send(get(&format!("/{how:?}")));
        // The request is in the queue, or will be before the client's end is noticed.
        client.expect_silence(Duration::from_millis(20));
        leave(client, how);
        ended(&juggler, &format!("/{how:?}"), 499, "CQ");
    }
    gate.open();
    first.read_response().expect(200);
    first.exchange(get("/last")).expect(200);
    let targets: Vec<_> = origin
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(targets, ["/first", "/last"]);
}

#[test]
fn a_client_that_leaves_while_served_frees_the_worker_after_the_grace() {
    for how in ALL {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::start(move |conn, number| {
            while conn.request().is_some() {
                if number == 0 {
                    held.wait();
                    conn.wait_for_close();
                    return;
                }
                conn.answer(200, "answer");
            }
        });
        let (juggler, authority) = before(&origin, "timeout = { abort = \"100ms\" }");
        let mut client = connect(&juggler, &authority, how);
        client.send(get("/left"));
        gate.wait_for(1);
        gate.open();
        leave(client, how);
        ended(&juggler, "/left", 499, "CH");
        Client::connect(juggler.address_of("main"))
            .exchange(get("/"))
            .expect(200);
        assert_eq!(origin.connections_ever(), 2, "{how:?}");
        origin.assert_no_failures();
    }
}

#[test]
fn within_the_grace_or_if_told_to_ignore_it_the_connection_is_kept() {
    for setting in [
        "timeout = { abort = \"60s\" }",
        "on_client_abort = \"ignore\"\ntimeout = { abort = \"1ms\" }",
    ] {
        let gate = Gate::new();
        let origin = held_by(&gate);
        let (juggler, authority) = before(&origin, setting);
        for how in ALL {
            gate.close();
            let came = gate.came();
            let mut client = connect(&juggler, &authority, how);
            client.send(get(&format!("/{how:?}")));
            gate.wait_for(came + 1);
            leave(client, how);
            let mut next = Client::connect(juggler.address_of("main"));
            next.send(get("/next"));
            next.expect_silence(Duration::from_millis(50));
            assert_eq!(
                gate.came(),
                came + 1,
                "one at a time, also when the client has left"
            );
            gate.open();
            assert_eq!(next.read_response().expect(200).text(), "answer");
            ended(&juggler, &format!("/{how:?}"), 499, "CH");
        }
        assert_eq!(origin.connections_ever(), 1, "{setting}");
    }
}

#[test]
fn a_client_that_resets_in_mid_response_frees_the_worker_though_the_server_stalls() {
    let origin = Origin::start(|conn, number| {
        while conn.request().is_some() {
            if number == 0 {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
                conn.wait_for_close();
                return;
            }
            conn.answer(200, "answer");
        }
    });
    let (juggler, _) = before(&origin, "timeout = { abort = \"100ms\" }");
    let mut client = Client::connect(juggler.address_of("main"));
    client.send(get("/left"));
    let mut got = Vec::new();
    while !got.ends_with(b"half") {
        got.extend(client.read_some());
    }
    client.reset();
    Client::connect(juggler.address_of("main"))
        .exchange(get("/"))
        .expect(200);
    ended(&juggler, "/left", 200, "CD");
    origin.assert_no_failures();
}

#[test]
fn a_client_that_leaves_while_waiting_for_its_turn_is_noticed() {
    // The second request waits for the first one's end. What is behind it is not even read.
    let unread = format!(
        "POST /3 HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n{}",
        "x".repeat(20_000)
    );
    for behind in ["", &unread] {
        for how in ALL {
            let gate = Gate::new();
            let held = gate.clone();
            let origin = Origin::start(move |conn, number| {
                while conn.request().is_some() {
                    if number == 0 {
                        held.wait();
                        conn.wait_for_close();
                        return;
                    }
                    conn.answer(200, "answer");
                }
            });
            let (juggler, authority) = before(&origin, "timeout = { abort = \"100ms\" }");
            let mut client = connect(&juggler, &authority, how);
            client.send(format!("{}{}{behind}", get("/1"), get("/2")));
            gate.wait_for(1);
            gate.open();
            leave(client, how);
            ended(&juggler, "/1", 499, "CH");
            if behind.is_empty() {
                ended(&juggler, "/2", 499, "CQ");
            }
            Client::connect(juggler.address_of("main"))
                .exchange(get("/"))
                .expect(200);
            let targets: Vec<_> = origin
                .requests()
                .into_iter()
                .map(|request| request.target)
                .collect();
            assert_eq!(targets, ["/1", "/"], "{how:?}");
        }
    }
}

#[test]
fn pipelined_requests_of_one_client_are_answered_in_their_order() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/slow" {
                held.wait();
            }
            conn.answer(200, request.target);
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 4")
        .start();
    origin.wait_for_connections(4);
    let mut client = Client::connect(juggler.address());
    client.send(["/slow", "/2", "/3", "/4"].map(get).concat());
    gate.wait_for(1);
    client.expect_silence(Duration::from_millis(50));
    // Three workers are free, and still no request overtakes another.
    assert_eq!(origin.requests().len(), 1);
    gate.open();
    for path in ["/slow", "/2", "/3", "/4"] {
        assert_eq!(client.read_response().expect(200).text(), path);
    }
    // A session that waits for its turn is woken when the turn comes. It does not poll.
    let many: Vec<_> = (0..200).map(|number| format!("/{number}")).collect();
    let began = Instant::now();
    client.send(many.iter().map(|path| get(path)).collect::<String>());
    for path in &many {
        assert_eq!(client.read_response().expect(200).text(), *path);
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_request_leaves_nothing_behind() {
    let origin = Origin::answering("answer");
    let (juggler, authority) = before(&origin, "");
    let files = juggler.open_files();
    for how in ALL {
        for part in [
            "GET / HT",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ] {
            let mut client = connect(&juggler, &authority, how);
            client.send(part);
            leave(client, how);
        }
    }
    eventually(PATIENCE, "all nine logged", || {
        juggler
            .output()
            .iter()
            .filter(|line| line.contains("end=CR"))
            .count()
            == 9
    });
    eventually(PATIENCE, "files closed", || juggler.open_files() <= files);
    assert_eq!(origin.requests().len(), 0);
}

/// A server that reports the client's end while it works, and responds then if `answers` says so.
fn watching(seen: &Gate, other: &Gate, answers: bool) -> Origin {
    let (seen, other) = (seen.clone(), other.clone());
    Origin::start(move |conn, number| {
        while let Some(request) = conn.request() {
            if number == 0 && request.target == "/left" {
                assert!(conn.request().is_none(), "our end");
                seen.wait();
                if answers {
                    conn.answer(200, "no client reads this");
                    return;
                }
                // This connection stays silent for good. Later requests use other connections.
                other.wait();
                return;
            }
            conn.answer(200, "answer");
        }
    })
}

#[test]
fn a_server_that_is_notified_sees_the_end_at_once_and_the_connection_is_given_up() {
    for how in ALL {
        let seen = Gate::new();
        let origin = watching(&seen, &Gate::new(), true);
        let (juggler, authority) = before(
            &origin,
            "on_client_abort = \"notify\"\ntimeout = { abort = \"1m\" }",
        );
        let mut client = connect(&juggler, &authority, how);
        client.send(get("/left"));
        origin.wait_for_requests(1);
        leave(client, how);
        // The end comes long before the grace is over.
        seen.wait_for(1);
        let mut next = Client::connect(juggler.address_of("main"));
        next.send(get("/next"));
        next.expect_silence(Duration::from_millis(20));
        seen.open();
        assert_eq!(next.read_response().expect(200).text(), "answer");
        ended(&juggler, "/left", 499, "CH");
        assert_eq!(origin.connections_ever(), 2, "{how:?}");
        origin.assert_no_failures();
    }
}

#[test]
fn a_server_that_was_notified_and_goes_on_loses_the_connection_after_the_grace() {
    let (seen, end) = (Gate::new(), Gate::new());
    seen.open();
    let origin = watching(&seen, &end, false);
    let (juggler, authority) = before(
        &origin,
        "on_client_abort = \"notify\"\ntimeout = { abort = \"100ms\" }",
    );
    let mut client = connect(&juggler, &authority, How::Fin);
    client.send(get("/left"));
    origin.wait_for_requests(1);
    leave(client, How::Fin);
    Client::connect(juggler.address_of("main"))
        .get("/next")
        .expect(200);
    ended(&juggler, "/left", 499, "CH");
    assert_eq!(origin.connections_ever(), 2);
    end.open();
    origin.wait_for_connections(1);
    origin.assert_no_failures();
}

#[test]
fn what_is_queued_is_done_without_its_client_if_clients_that_leave_are_ignored_and_only_then() {
    for (setting, is_done) in [("close", false), ("notify", false), ("ignore", true)] {
        let gate = Gate::new();
        let origin = held_by(&gate);
        let (juggler, authority) = before(&origin, &format!("on_client_abort = \"{setting}\""));
        let mut first = Client::connect(juggler.address_of("main"));
        first.send(get("/first"));
        gate.wait_for(1);
        for how in ALL {
            let mut client = connect(&juggler, &authority, how);
            client.send(format!(
                "POST /{how:?} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
            ));
            // The request is in the queue, or will be before the client's end is noticed.
            client.expect_silence(Duration::from_millis(20));
            leave(client, how);
            if !is_done {
                juggler.wait_for_output(&format!("POST /{how:?} "));
            }
        }
        gate.open();
        first.read_response().expect(200);
        if is_done {
            origin.wait_for_requests(4);
        }
        for how in ALL {
            let line = juggler.wait_for_output(&format!("POST /{how:?} "));
            // A client whose end is noticed only after its response was sent counts as served.
            let is_so = match is_done {
                true => {
                    line.contains("\" 499 ") && line.contains("end=CH") || line.contains("\" 200 ")
                }
                false => line.contains("\" 499 ") && line.contains("end=CQ"),
            };
            assert!(is_so, "{line}");
        }
        first.exchange(get("/last")).expect(200);
        let mut seen: Vec<_> = origin
            .requests()
            .into_iter()
            .map(|it| (it.target, it.body))
            .collect();
        seen.retain(|(target, _)| target != "/first" && target != "/last");
        let expected = ALL.map(|how| (format!("/{how:?}"), b"body".to_vec()));
        assert_eq!(
            seen,
            if is_done {
                expected.to_vec()
            } else {
                Vec::new()
            },
            "{setting}"
        );
        assert_eq!(origin.connections_ever(), 1, "{setting}");
    }
}
