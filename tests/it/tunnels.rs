//! Tunnels: clients that switch to another protocol (`Upgrade`), above all WebSockets. They hold no
//! worker, and what both sides say passes as it is.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::{
    Authority, Client, Config, Gate, Juggler, Origin, OriginConn, PATIENCE, Request, Start,
    eventually,
};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
                         Upgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n\
                         Sec-WebSocket-Version: 13\r\n\r\n";

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\nSec-WebSocket-Accept: eQ==\r\n\r\n";

fn wants_upgrade(request: &Request) -> bool {
    request.field("upgrade").is_some()
}

/// Says back what it hears, until its client ends.
fn echo(conn: &mut OriginConn) {
    let leftover = conn.leftover().to_vec();
    let mut stream = conn.stream();
    if stream.write_all(&leftover).is_err() {
        return;
    }
    let mut room = [0; 64 * 1024];
    while let Ok(heard) = stream.read(&mut room) {
        if heard == 0 || stream.write_all(&room[..heard]).is_err() {
            break;
        }
    }
}

/// Switches where asked to, and echoes from then on. Everything else is small.
fn echoing() -> Origin {
    Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if wants_upgrade(&request) {
                conn.send(SWITCH);
                return echo(conn);
            }
            conn.answer(200, "small");
        }
    })
}

fn in_lane(juggler: &Juggler, count: usize) -> bool {
    let told = format!(", {count} besides in the lane;");
    let line = juggler.line_of("server main/s0");
    line.contains(&told) || count == 0 && !line.contains("in the lane")
}

/// Opens a tunnel and returns its client, once the server has switched.
fn open(juggler: &Juggler) -> Client {
    let mut client = Client::connect(juggler.address());
    shake_hands(&mut client);
    client
}

fn shake_hands(client: &mut Client) {
    client.send(HANDSHAKE);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.read_exactly(1));
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
    for line in [
        "Connection: upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Accept: eQ==",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 % 251) as u8).collect()
}

#[test]
fn what_both_sides_say_passes_as_it_is() {
    let origin = echoing();
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let client = open(&juggler);
    let request = origin.request();
    assert_eq!(request.field("upgrade"), Some("websocket"));
    assert_eq!(request.field("connection"), Some("upgrade"));
    assert_eq!(request.field("sec-websocket-key"), Some("a2V5"));
    // A megabyte at once, and a thousand bytes one by one.
    let (mut reader, mut writer) = client.split();
    let sent = content(1 << 20);
    let expected = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        for byte in content(1000) {
            writer.write_all(&[byte]).unwrap();
        }
        writer
    });
    let mut heard = vec![0; expected.len() + 1000];
    reader.read_exact(&mut heard).unwrap();
    assert!(heard[..expected.len()] == expected);
    assert!(heard[expected.len()..] == content(1000));
    // An end of one side is the end of that side alone.
    let writer = sender.join().unwrap();
    writer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(reader.read(&mut heard).unwrap(), 0);
    eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
}

#[test]
fn what_a_client_says_before_the_server_has_switched_is_the_tunnels() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        if conn.request().is_some() {
            held.wait();
            conn.send([SWITCH, "at once"].concat());
            echo(conn);
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    client.send([HANDSHAKE, "GET / no request"].concat());
    gate.wait_for(1);
    gate.open();
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n\r\nat onceGET / no request") {
        all.extend(client.read_some());
    }
}

#[test]
fn tunnels_hold_no_worker_and_end_in_every_way_without_a_trace() {
    let origin = echoing();
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 2")
        .start();
    let mut tunnels: Vec<_> = (0..60).map(|_| open(&juggler)).collect();
    assert!(in_lane(&juggler, 60));
    let mut other = Client::connect(juggler.address());
    other.get("/").expect(200);
    for (number, client) in tunnels.iter_mut().enumerate() {
        client.send(format!("{number:04}"));
    }
    for (number, client) in tunnels.iter_mut().enumerate() {
        assert_eq!(client.read_exactly(4), format!("{number:04}").into_bytes());
    }
    let files = juggler.open_files();
    for (number, mut client) in tunnels.into_iter().enumerate() {
        match number % 3 {
            0 => drop(client),
            1 => client.reset(),
            _ => {
                client.shutdown_write();
                client.expect_closed();
            }
        }
    }
    eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
    origin.wait_for_connections(2);
    // Two connections for each tunnel.
    eventually(PATIENCE, "no file is left open", || {
        juggler.open_files() + 120 <= files
    });
    eventually(PATIENCE, "no carrier is left", || {
        let names = juggler.threads_by_name();
        names.keys().all(|name| !name.starts_with("c-"))
    });
    other.get("/").expect(200);
}

#[test]
fn a_server_that_ends_a_tunnel_ends_it_for_the_client() {
    for is_reset in [false, true] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::start(move |conn, _| {
            if conn.request().is_some() {
                conn.send([SWITCH, "bye"].concat());
                held.wait();
                if is_reset {
                    conn.reset();
                }
            }
        });
        let juggler = Config::new([origin.address()])
            .cluster("capacity = 1")
            .start();
        let mut client = open(&juggler);
        assert_eq!(client.read_exactly(3), b"bye");
        gate.open();
        client.expect_gone();
        eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
    }
}

#[test]
fn a_server_that_does_not_switch_is_heard_and_the_connection_goes_on() {
    let origin = Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let status = if wants_upgrade(&request) { 404 } else { 200 };
            conn.answer(status, "here");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..3 {
        client.send(HANDSHAKE);
        client.read_response().expect(404);
        client.get("/").expect(200);
    }
    assert!(in_lane(&juggler, 0));
}

#[test]
fn protocols_that_a_route_does_not_name_are_dropped_and_that_is_told_once() {
    let origin = Origin::answering("good");
    let ask = |juggler: &Juggler, protocol: &str| {
        let mut client = Client::connect(juggler.address());
        client.send(HANDSHAKE.replace("websocket", protocol));
        client.read_response().expect(200);
        let request = origin.requests().pop().unwrap();
        request.field("upgrade").map(str::to_owned)
    };
    let juggler = Config::new([origin.address()]).start();
    for _ in 0..3 {
        assert_eq!(ask(&juggler, "h2c"), None);
    }
    juggler.wait_for_log("a client asked to switch to \"h2c\"");
    let log = juggler.log();
    let told = log.iter().filter(|line| line.contains("asked to switch"));
    assert_eq!(told.count(), 1);
    assert_eq!(ask(&juggler, "websocket"), Some("websocket".into()));
    for (setting, protocol, passes) in [
        ("false", "websocket", false),
        ("true", "tus", true),
        ("true", "h2c", false),
        ("[\"tus\"]", "TUS", true),
        ("[\"tus\"]", "websocket", false),
    ] {
        let text = Config::new([origin.address()])
            .text()
            .replace("[[route]]\n", &format!("[[route]]\nupgrade = {setting}\n"));
        let juggler = Juggler::start(&text);
        let came = ask(&juggler, protocol);
        assert_eq!(came.is_some(), passes, "{setting}, {protocol}: {came:?}");
    }
}

#[test]
fn where_the_lane_is_full_a_tunnel_is_refused_before_anything_is_sent() {
    let origin = echoing();
    for lane in [0, 1] {
        let juggler = Config::new([origin.address()])
            .cluster(&format!("capacity = 2\nlane = {lane}"))
            .start();
        let open: Vec<_> = (0..lane).map(|_| open(&juggler)).collect();
        let before = origin.requests().len();
        let mut client = Client::connect(juggler.address());
        client.send(HANDSHAKE);
        let response = client.read_response().expect(503);
        assert!(response.text().contains("too many streams at once"));
        assert_eq!(origin.requests().len(), before);
        client.get("/").expect(200);
        drop(open);
    }
}

#[test]
fn a_side_that_takes_nothing_holds_the_other_up_and_costs_little_room() {
    const SENT: usize = 64 << 20;
    let origin = Origin::start(|conn, _| {
        if conn.request().is_some() {
            conn.send(SWITCH);
            let mut stream: &TcpStream = conn.stream();
            stream
                .set_write_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            let mut sent = 0;
            let piece = content(64 * 1024);
            while sent < SENT && stream.write_all(&piece).is_ok() {
                sent += piece.len();
            }
            assert!(sent < SENT, "it was not held up");
            conn.reset();
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    client.receive_buffer(64 * 1024);
    let before = juggler.rss_kib();
    shake_hands(&mut client);
    origin.wait_for_connections(1);
    assert!(juggler.rss_kib() < before + 1024, "less than a megabyte");
    origin.assert_no_failures();
}

#[test]
fn a_tunnel_over_tls_is_a_tunnel() {
    let origin = echoing();
    let authority = Authority::new();
    let config = Config::new([origin.address()])
        .listener("tls = { certificates = [{ chain = \"{dir}/s.crt\", key = \"{dir}/s.key\" }] }")
        .cluster("capacity = 1");
    let start = Start::config(&config.text());
    authority.issue(&["localhost"]).write(start.folder(), "s");
    let juggler = start.ready();
    let mut client = Client::tls(juggler.address(), &authority.client(), "localhost");
    shake_hands(&mut client);
    let sent = content(300_000);
    for piece in sent.chunks(10_000) {
        client.send(piece);
        assert_eq!(client.read_exactly(piece.len()), piece);
    }
    drop(client);
    eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
}

#[test]
fn a_silent_tunnel_is_ended_after_its_time_and_one_where_one_side_talks_is_not() {
    let origin = Origin::start(|conn, _| {
        if conn.request().is_some() {
            conn.send(SWITCH);
            conn.wait_for_close();
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\ntimeout = { stream = \"400ms\" }")
        .start();
    let mut client = open(&juggler);
    for _ in 0..10 {
        client.send("something");
        client.expect_silence(Duration::from_millis(100));
    }
    client.expect_gone();
    eventually(PATIENCE, "nothing in the lane", || in_lane(&juggler, 0));
}
