//! Clients that request much and read little. They hold no worker. They are cut when they take too
//! little or there is no room left. When they read on they get every byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Authority, Client, Config, Gate, Juggler, Origin, PATIENCE, check, eventually,
};

/// Responds to `/big` with this many bytes of the pattern, to everything else with few. Counts the
/// large responses that are sent.
fn serving(size: usize) -> (Origin, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (count, pattern) = (Arc::clone(&sent), pattern(size));
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.starts_with("/big") {
                conn.answer(200, &pattern[..]);
                count.fetch_add(1, Ordering::SeqCst);
            } else {
                conn.answer(200, "small");
            }
        }
    });
    (origin, sent)
}

fn pattern(size: usize) -> Arc<[u8]> {
    check::bytes(0, size as u64).into()
}

/// A client that has requested `path` and reads nothing.
fn ask(mut client: Client, path: &str) -> Client {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    client
}

fn wait_for_sent(sent: &AtomicUsize, count: usize) {
    eventually(
        3 * PATIENCE,
        &format!("{count} responses taken from the server"),
        || sent.load(Ordering::SeqCst) == count,
    );
}

/// The number before this text in the newest summary line.
fn summary(juggler: &Juggler, text: &str) -> Option<u64> {
    let log = juggler.log();
    let line = log.iter().rev().find(|line| line.contains("requests/s"))?;
    line.split(", ")
        .find_map(|part| part.strip_suffix(text)?.trim().parse().ok())
}

#[test]
fn fifty_that_read_nothing_delay_no_other_and_get_every_byte() {
    // The kernel's buffers hold 4 MB, so the bodies are larger. In full it is 50 of 64 MiB, over
    // HTTP and over HTTPS.
    let full = std::env::var("JUGGLER_STORM").is_ok_and(|storm| storm == "full");
    let (size, each): (usize, usize) = if full { (64 << 20, 50) } else { (8 << 20, 25) };
    let (origin, sent) = serving(size);
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = authority.issue(&["localhost"]).write(folder.path(), "a");
    let juggler = Config::new([origin.address()])
        .top("[spool]\nfolder = \"{dir}\"\nlimit = \"8GiB\"")
        .cluster("capacity = 2\nqueue = { timeout = \"120s\" }")
        .listener("timeout = { write = \"300s\" }")
        .rest(&format!(
            "[[listener]]\nname = \"tls\"\nbind = [\"127.0.0.1:0\"]\ntimeout = {{ write = \
             \"300s\" }}\ntls = {{ certificates = [{{ chain = {chain:?}, key = {key:?} }}] }}"
        ))
        .start();
    origin.wait_for_connections(2);
    let (plain, tls) = (juggler.address_of("main"), juggler.address_of("tls"));
    let config = authority.client();
    let mut stalled = Vec::new();
    for _ in 0..each {
        stalled.push(ask(Client::connect(&plain), "/big"));
        stalled.push(ask(Client::tls(&tls, &config, "localhost"), "/big"));
    }
    // There are two workers and more stalled clients, and yet every response has left the server.
    wait_for_sent(&sent, stalled.len());
    let mut others = [
        Client::connect(&plain),
        Client::tls(&tls, &config, "localhost"),
    ];
    let began = Instant::now();
    for other in &mut others {
        for _ in 0..10 {
            assert_eq!(other.get("/small").expect(200).text(), "small");
        }
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "20 requests took {took:?}");
    let expected = pattern(size);
    thread::scope(|scope| {
        for group in stalled.chunks_mut(each.div_ceil(2)) {
            let expected = &expected;
            scope.spawn(move || {
                for client in group {
                    client.set_patience(6 * PATIENCE);
                    let response = client.read_response().expect(200);
                    assert!(
                        response.body == expected[..],
                        "other bytes, or {} of them",
                        response.body.len()
                    );
                    assert_eq!(client.get("/small").expect(200).text(), "small");
                }
            });
        }
    });
    assert_eq!(origin.connections_ever(), 2);
}

#[test]
fn a_client_that_takes_nothing_or_too_little_is_cut() {
    let (origin, sent) = serving(16 << 20);
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"\n[spool]\nfolder = \"{dir}\"")
        .cluster("capacity = 1")
        .listener("timeout = { write = \"400ms\" }\nlimit = { min_rate = \"20MiB\" }")
        .start();
    origin.wait_for_connections(1);
    let nothing = ask(Client::connect(juggler.address()), "/big/nothing");
    wait_for_sent(&sent, 1);
    let line = juggler.wait_for_output("/big/nothing");
    assert!(line.contains("end=cD"), "{line}");
    // This client reads all the time, but less than 20 MiB in a second.
    let mut little = ask(Client::connect(juggler.address()), "/big/little");
    let cut = thread::spawn(move || {
        let mut read = 0;
        while let got = little.read_some().len()
            && got > 0
        {
            read += got;
            thread::sleep(Duration::from_millis(20));
        }
        read
    });
    let line = juggler.wait_for_output("/big/little");
    assert!(line.contains("end=cD"), "{line}");
    drop(cut);
    drop(nothing);
    assert_eq!(
        Client::connect(juggler.address())
            .get("/")
            .expect(200)
            .text(),
        "small"
    );
    assert_eq!(
        origin.connections_ever(),
        1,
        "the worker keeps its connection"
    );
}

#[test]
fn when_room_gets_short_nobody_is_cut_and_servers_wait() {
    const SIZE: usize = 16 << 20;
    let (origin, sent) = serving(SIZE);
    let juggler = Config::new([origin.address()])
        .top(
            "[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"\n[spool]\nfolder = \
             \"{dir}\"\nlimit = \"20MiB\"",
        )
        .cluster("capacity = 1")
        .listener("limit = { response_memory = \"64KiB\" }")
        .start();
    origin.wait_for_connections(1);
    let mut stalled = ask(Client::connect(juggler.address()), "/big/stalled");
    wait_for_sent(&sent, 1);
    eventually(PATIENCE, "in the spool", || {
        summary(&juggler, " KiB in spool").is_some_and(|spool| spool > 4 << 10)
    });
    let buffers = summary(&juggler, " KiB in buffers").unwrap();
    assert!(
        buffers <= 128,
        "of one response only 64 KiB stay in memory, and not {buffers}"
    );
    // As much again does not fit, and whoever reads first, all get all.
    let mut late = ask(Client::connect(juggler.address()), "/big/late");
    eventually(PATIENCE, "in the lane", || {
        juggler
            .line_of("server main/s0")
            .contains("1 besides in the lane;")
    });
    for client in [&mut late, &mut stalled] {
        assert!(client.read_response().expect(200).body == pattern(SIZE)[..]);
        assert_eq!(client.get("/").expect(200).text(), "small");
    }
    eventually(PATIENCE, "all given back", || {
        summary(&juggler, " KiB in spool") == Some(0)
            && summary(&juggler, " KiB in buffers") == Some(0)
    });
}

#[test]
fn what_a_server_has_sent_is_delivered_while_it_waits_for_more() {
    // However much the kernel takes: for one of these lengths a little is left over, too little for
    // a courier.
    const STEP: usize = 128 << 10;
    const CLIENTS: usize = 40;
    let (gate, all) = (Gate::new(), pattern(STEP * CLIENTS));
    let (held, bytes) = (gate.clone(), Arc::clone(&all));
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let length: usize = request.target[1..].parse().unwrap();
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                length + 1
            ));
            conn.send(&bytes[..length]);
            held.wait();
            conn.send("!");
        }
    });
    let juggler = Config::new([origin.address()])
        .top("[spool]\nfolder = \"{dir}\"")
        .cluster(&format!("capacity = {CLIENTS}"))
        .start();
    origin.wait_for_connections(CLIENTS);
    let lengths = (1..=CLIENTS).map(|step| step * STEP);
    let clients: Vec<_> = lengths
        .map(|length| {
            (
                length,
                ask(Client::connect(juggler.address()), &format!("/{length}")),
            )
        })
        .collect();
    gate.wait_for(CLIENTS);
    let mut begun = Vec::new();
    for (length, mut client) in clients {
        let mut got = client.read_some();
        while !got.windows(4).any(|end| end == b"\r\n\r\n") {
            got.extend(client.read_some());
        }
        let head = got.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let rest = client.read_exactly(length - (got.len() - head));
        got.extend(rest);
        assert!(got[head..] == all[..length], "{length}");
        begun.push(client);
    }
    gate.open();
    for mut client in begun {
        assert_eq!(client.read_exactly(1), b"!");
    }
}

#[test]
fn clients_that_reset_while_a_courier_delivers_leave_no_trace() {
    let (origin, _) = serving(6 << 20);
    let juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"\n[spool]\nfolder = \"{dir}\"")
        .cluster("capacity = 4")
        .start();
    origin.wait_for_connections(4);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..10 {
                    let mut client = ask(Client::connect(juggler.address()), "/big");
                    let mut read = 0;
                    // In the middle of a body that is delivered at full speed.
                    while read < (1 << 20) + round * (300 << 10) {
                        read += client.read_some().len();
                    }
                    client.reset();
                }
            });
        }
    });
    eventually(PATIENCE, "all given back", || {
        summary(&juggler, " KiB in spool") == Some(0)
            && summary(&juggler, " KiB in buffers") == Some(0)
            && summary(&juggler, " clients") == Some(0)
    });
    assert_eq!(
        Client::connect(juggler.address())
            .get("/")
            .expect(200)
            .text(),
        "small"
    );
}
