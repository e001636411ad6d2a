//! Long responses: big ones that their clients take slowly, and streams. They hold no worker, and
//! nobody is cut because room is lacking.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, Config, Gate, Juggler, Origin, PATIENCE, eventually};

/// More than sockets and the spool of these tests hold.
const LARGE: usize = 48 << 20;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Content in which a piece that is missing or double shows.
fn content(length: usize) -> Vec<u8> {
    (0..length / 8)
        .flat_map(|at| format!("{at:07x}\n").into_bytes())
        .collect()
}

/// `/large` is large, everything else small.
fn origin() -> Origin {
    let large = content(LARGE);
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                "/large" => conn.answer(200, &large),
                _ => conn.answer(200, "small"),
            }
        }
    })
}

/// With a spool of 1 MiB for each response.
fn before(origin: &Origin, cluster: &str) -> Juggler {
    Config::new([origin.address()])
        .listener("limit = { response_spool = \"1MiB\" }")
        .cluster(cluster)
        .start()
}

/// A client that asks for the large response and reads nothing yet.
fn slow(juggler: &Juggler) -> Client {
    let mut client = Client::connect(juggler.address());
    client.receive_buffer(64 * 1024);
    client.send(get("/large"));
    client
}

fn expect_large(client: &mut Client) {
    let response = client.read_response().expect(200);
    assert!(response.body == content(LARGE), "{}", response.body.len());
}

fn in_lane(juggler: &Juggler, count: usize) -> bool {
    let told = format!(", {count} besides in the lane;");
    let line = juggler.line_of("server main/s0");
    line.contains(&told) || count == 0 && !line.contains("in the lane")
}

#[test]
fn a_big_response_that_is_taken_slowly_holds_no_worker_and_comes_whole() {
    let origin = origin();
    let juggler = before(&origin, "capacity = 1");
    let mut clients: Vec<_> = (0..3).map(|_| slow(&juggler)).collect();
    eventually(PATIENCE, "three in the lane", || in_lane(&juggler, 3));
    let mut other = Client::connect(juggler.address());
    for _ in 0..3 {
        other.get("/").expect(200);
    }
    // The only worker has a connection of its own again.
    origin.wait_for_connections(4);
    clients.iter_mut().for_each(expect_large);
    // Their connections are as good as ever.
    for client in &mut clients {
        client.get("/").expect(200);
    }
    eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
    origin.wait_for_connections(1);
}

#[test]
fn where_the_lane_is_full_a_worker_waits_for_its_client() {
    let origin = origin();
    for lane in [0, 1] {
        let juggler = before(&origin, &format!("capacity = 1\nlane = {lane}"));
        let mut clients: Vec<_> = (0..=lane).map(|_| slow(&juggler)).collect();
        eventually(PATIENCE, "the lane is full", || in_lane(&juggler, lane));
        let mut other = Client::connect(juggler.address());
        other.send(get("/"));
        other.expect_silence(Duration::from_millis(300));
        clients.iter_mut().for_each(expect_large);
        other.read_response().expect(200);
    }
}

#[test]
fn without_a_spool_everything_waits_and_nobody_is_cut() {
    let origin = origin();
    let juggler = Config::new([origin.address()])
        .top("[spool]\nlimit = \"0B\"")
        .cluster("capacity = 2")
        .start();
    let mut stalled: Vec<_> = (0..4).map(|_| slow(&juggler)).collect();
    eventually(PATIENCE, "in the lane", || in_lane(&juggler, 4));
    // A client that keeps up, beside them.
    let mut fast = Client::connect(juggler.address());
    fast.send(get("/large"));
    expect_large(&mut fast);
    stalled.iter_mut().for_each(expect_large);
}

#[test]
fn a_client_that_leaves_ends_its_connection_in_the_lane() {
    let origin = origin();
    let juggler = before(&origin, "capacity = 1");
    let (leaver, mut stays) = (slow(&juggler), slow(&juggler));
    eventually(PATIENCE, "two in the lane", || in_lane(&juggler, 2));
    leaver.reset();
    eventually(PATIENCE, "one in the lane", || in_lane(&juggler, 1));
    origin.wait_for_connections(2);
    expect_large(&mut stays);
}

#[test]
fn a_server_that_breaks_off_in_the_lane_is_seen_by_the_client_as_a_cut() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/" {
                conn.answer(200, "small");
                continue;
            }
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"
            ));
            conn.send(content(LARGE / 2));
            held.wait();
            return;
        }
    });
    let juggler = before(&origin, "capacity = 1");
    let mut client = slow(&juggler);
    eventually(PATIENCE, "in the lane", || in_lane(&juggler, 1));
    Client::connect(juggler.address()).get("/").expect(200);
    let reader = thread::spawn(move || client.try_read_response(false).is_err());
    gate.wait_for(1);
    gate.open();
    assert!(reader.join().unwrap(), "the end is no end of the response");
    juggler.wait_for_log("the server broke off its response");
}

// === Streams

/// Streams events as the test says; everything else is small.
fn events(gate: &Gate, kind: &'static str) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target != "/events" {
                conn.answer(200, "small");
                continue;
            }
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
            ));
            conn.send("6\r\nfirst\n\r\n");
            gate.wait();
            conn.send("7\r\nsecond\n\r\n");
            conn.wait_for_close();
            return;
        }
    })
}

/// Reads until this text has come.
fn read_until(client: &mut Client, text: &str) {
    let mut all = Vec::new();
    let end = Instant::now() + PATIENCE;
    while !String::from_utf8_lossy(&all).contains(text) {
        assert!(Instant::now() < end, "{}", String::from_utf8_lossy(&all));
        all.extend(client.read_some());
    }
}

#[test]
fn event_streams_hold_no_worker_and_end_with_their_clients() {
    let gate = Gate::new();
    let origin = events(&gate, "text/event-stream; charset=utf-8");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\ntimeout = { read = \"200ms\" }")
        .start();
    let mut clients: Vec<_> = (0..6)
        .map(|_| {
            let mut client = Client::connect(juggler.address());
            client.send(get("/events"));
            client
        })
        .collect();
    for client in &mut clients {
        read_until(client, "first\n");
    }
    assert!(in_lane(&juggler, 6));
    Client::connect(juggler.address()).get("/").expect(200);
    // A stream may be silent for longer than a response.
    clients[0].expect_silence(Duration::from_millis(400));
    gate.open();
    for client in &mut clients {
        read_until(client, "second\n");
    }
    // The client's end is the server's, whatever the server has to say.
    drop(clients);
    eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
    origin.wait_for_connections(1);
    origin.assert_no_failures();
}

#[test]
fn a_stream_for_which_the_lane_has_no_place_is_refused_before_it_is_sent() {
    let gate = Gate::new();
    let origin = events(&gate, "application/x-ndjson");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 2\nlane = 1")
        .rest("[[route]]\npath = \"/events\"\ncluster = \"main\"\nstream = true\n")
        .start();
    let ask = || {
        let mut client = Client::connect(juggler.address());
        client.send(get("/events"));
        client
    };
    let mut first = ask();
    read_until(&mut first, "first\n");
    let requests = origin.requests().len();
    let response = ask().read_response().expect(503);
    assert!(response.text().contains("too many streams at once"));
    assert_eq!(origin.requests().len(), requests, "nothing was sent");
    Client::connect(juggler.address()).get("/").expect(200);
    drop(first);
    eventually(PATIENCE, "a place is free", || in_lane(&juggler, 0));
    read_until(&mut ask(), "first\n");
    gate.open();
}

#[test]
fn a_stop_leaves_streams_their_time_and_then_cuts_them() {
    let gate = Gate::new();
    let origin = events(&gate, "text/event-stream");
    let mut juggler = Config::new([origin.address()])
        .top("[process]\ndrain = \"700ms\"")
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    client.send(get("/events"));
    read_until(&mut client, "first\n");
    juggler.signal(nix::sys::signal::Signal::SIGTERM);
    juggler.wait_for_log("stopping:");
    gate.open();
    read_until(&mut client, "second\n");
    assert_eq!(juggler.wait(PATIENCE), Some(0));
    // Without the last chunk, the end is none of the response.
    let rest = client.try_read_to_end().unwrap_or_default();
    assert!(rest.is_empty(), "{rest:?}");
}
