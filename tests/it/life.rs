//! Stopping: promises are kept, nothing new is taken, and the end comes in time. Also signals, and
//! which logs report them.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Client, Config, Gate, Origin, PATIENCE, Start, TestServer, eventually, eventually_eq,
};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// An origin that responds once the gate is open.
fn held(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while conn.request().is_some() {
            gate.wait();
            conn.answer(200, "done");
        }
    })
}

/// An origin that begins a response and never ends it.
fn endless() -> (Origin, Gate) {
    let gate = Gate::new();
    let begun = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                "/length" => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun"),
                "/close" => conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbegun"),
                _ => {}
            }
            begun.wait();
        }
    });
    (origin, gate)
}

/// Reads until the bytes end with `end`.
fn read_until(client: &mut Client, end: &[u8]) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end) {
        let some = client.read_some();
        assert!(
            !some.is_empty(),
            "ended after {:?}",
            String::from_utf8_lossy(&got)
        );
        got.extend(some);
    }
    String::from_utf8(got).unwrap()
}

fn is_refused(address: &str) -> bool {
    TcpStream::connect(address)
        .is_err_and(|problem| problem.kind() == io::ErrorKind::ConnectionRefused)
}

#[test]
fn a_stop_keeps_what_was_promised_and_takes_nothing_new() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let gate = Gate::new();
        let origin = held(&gate);
        let mut juggler = Config::new([origin.address()])
            .top("[process]\nmax_sessions = 1\nmax_requests = 10")
            .listener("health_path = \"/health\"")
            .cluster("capacity = 1\nqueue = { limit = 10 }")
            .start();
        let address = juggler.address();
        let mut served = Client::connect(&address);
        served.send(REQUEST);
        gate.wait_for(1);
        // The only session is taken, so these clients wait in the backlog, with all that they have
        // sent.
        let mut waiting = Client::connect(&address);
        waiting.send(REQUEST);
        let mut asking = Client::connect(&address);
        asking.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        juggler.signal(signal);
        let health = asking.read_response().expect(503);
        assert!(
            health.closes() && health.text().contains("draining"),
            "{}",
            health.text()
        );
        asking.expect_closed();
        eventually(PATIENCE, "refused", || is_refused(&address));
        assert!(juggler.is_running());
        gate.open();
        for client in [&mut served, &mut waiting] {
            let response = client.read_response().expect(200);
            assert_eq!(response.text(), "done");
            assert!(response.closes(), "the response says that it was the last");
            client.expect_closed();
        }
        assert_eq!(juggler.wait(PATIENCE), Some(0));
        assert!(!juggler.log().iter().any(|line| line.contains("time is up")));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (origin, begun) = endless();
    let mut juggler = Config::new([origin.address()]).start();
    let mut client = Client::connect(juggler.address());
    client.send(REQUEST);
    begun.wait_for(1);
    juggler.signal(Signal::SIGTERM);
    juggler.wait_for_log("stopping: 1 clients are connected");
    assert!(juggler.is_running());
    juggler.signal(Signal::SIGINT);
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    client.expect_gone();
}

#[test]
fn what_does_not_end_in_time_is_cut_and_seen_to_be() {
    let (origin, begun) = endless();
    let mut juggler = Config::new([origin.address()])
        .top("[process]\ndrain = \"400ms\"\n[log]\naccess = \"stdout\"")
        .cluster("capacity = 4")
        .start();
    origin.wait_for_connections(4);
    let asking = |request: &str| {
        let mut client = Client::connect(juggler.address());
        client.send(request);
        client
    };
    let mut unanswered = asking(REQUEST);
    let mut posted = asking("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    let mut with_length = asking("GET /length HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut until_close = asking("GET /close HTTP/1.0\r\n\r\n");
    begun.wait_for(4);
    for client in [&mut with_length, &mut until_close] {
        read_until(client, b"begun");
    }
    let mut queued = asking("GET /queued HTTP/1.1\r\nHost: x\r\n\r\n");
    // A client that comes later is served later.
    let mut idle = asking("");
    juggler.signal(Signal::SIGTERM);
    for client in [&mut unanswered, &mut posted, &mut queued] {
        let response = client.read_response().expect(503);
        assert!(response.text().contains("shutting down") && response.closes());
    }
    with_length.expect_gone();
    assert!(
        until_close.expect_cut().is_empty(),
        "an end would look like the body's"
    );
    idle.expect_gone();
    assert_eq!(juggler.wait(PATIENCE), Some(0));
    juggler.wait_for_log("5 clients are cut, their time is up");
    let log = juggler.output();
    assert_eq!(log.len(), 5, "{log:#?}");
    for line in &log {
        assert!(
            line.contains("end=PR \"the balancer is shutting down\""),
            "{line}"
        );
    }
}

#[test]
fn a_response_that_a_slow_client_has_not_taken_in_time_is_cut_and_seen_to_be() {
    let server = TestServer::start();
    let mut juggler = Config::new([server.address()])
        .top("[process]\ndrain = \"300ms\"\n[log]\naccess = \"stdout\"")
        .start();
    let mut slow = Client::connect(juggler.address());
    slow.receive_buffer(256 * 1024);
    slow.send("GET /__close/12000000 HTTP/1.0\r\n\r\n");
    server.wait_for_stat("requests", 1);
    eventually(PATIENCE, "a courier", || {
        juggler.threads_by_name().contains_key("courier")
    });
    assert_eq!(juggler.stop(), Some(0));
    assert!(!slow.expect_cut().is_empty());
    let log = juggler.output();
    assert_eq!(log.len(), 1, "{log:#?}");
    assert!(
        log[0].contains(" 200 ") && log[0].contains("end=PR"),
        "{}",
        log[0]
    );
}

#[test]
fn a_body_that_ends_with_its_connection_is_reset_when_it_breaks_off() {
    let origin = Origin::start(|conn, _| {
        if conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
        }
    });
    let juggler = Config::new([origin.address()]).start();
    for _ in 0..20 {
        let mut client = Client::connect(juggler.address());
        client.send("GET / HTTP/1.0\r\n\r\n");
        client.expect_cut();
    }
}

#[test]
fn clients_that_keep_asking_notice_nothing_of_a_stop() {
    let servers = TestServer::three();
    let mut juggler = Config::new(servers.iter().map(TestServer::address))
        .cluster("capacity = 2")
        .start();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (address, answered) = (juggler.address(), Arc::clone(&answered));
            let mut client = Client::connect(address);
            thread::spawn(move || {
                loop {
                    // Every request that was sent has its response. Anything else panics here.
                    let response = client.get("/__size/3000").expect(200);
                    answered.fetch_add(1, Ordering::Relaxed);
                    if response.closes() {
                        return client.expect_closed();
                    }
                }
            })
        })
        .collect();
    eventually(PATIENCE, "all under way", || {
        answered.load(Ordering::Relaxed) > 100
    });
    assert_eq!(juggler.stop(), Some(0));
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn a_client_that_became_idle_while_it_stops_has_its_last_call() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/" {
                conn.answer(200, "done");
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            held.wait();
            conn.send("later");
        }
    });
    let mut juggler = Config::new([origin.address()]).start();
    let mut client = Client::connect(juggler.address());
    // The head has gone out and does not announce an end.
    client.send("GET /half HTTP/1.1\r\nHost: x\r\n\r\n");
    let head = read_until(&mut client, b"first");
    assert!(!head.to_ascii_lowercase().contains("connection:"), "{head}");
    let mut idle = Client::connect(juggler.address());
    juggler.signal(Signal::SIGTERM);
    // By now every client has had the first chance to send a last request.
    idle.expect_closed();
    gate.open();
    assert_eq!(client.read_exactly(5), b"later");
    // The client waits a while before it sends its next request.
    client.expect_silence(Duration::from_millis(200));
    let last = client.exchange(REQUEST).expect(200);
    assert!(last.closes());
    client.expect_closed();
    assert_eq!(juggler.wait(PATIENCE), Some(0));
}

#[test]
fn the_service_manager_is_told() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).text();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let hidden = format!("juggler-test-{}", std::process::id());
    for (name, socket) in [
        (
            path.display().to_string(),
            UnixDatagram::bind(&path).unwrap(),
        ),
        (
            format!("@{hidden}"),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&hidden).unwrap()).unwrap(),
        ),
    ] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let told = || {
            let mut text = [0; 100];
            let length = socket.recv(&mut text).unwrap();
            String::from_utf8_lossy(&text[..length]).into_owned()
        };
        let mut juggler = Start::config(&config)
            .environment("NOTIFY_SOCKET", &name)
            .ready();
        assert_eq!(told(), "READY=1");
        juggler.signal(Signal::SIGHUP);
        assert_eq!([told(), told()], ["RELOADING=1", "READY=1"]);
        assert_eq!(juggler.stop(), Some(0));
        assert_eq!(told(), "STOPPING=1");
    }
}

#[test]
fn only_the_journal_gets_priorities() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).text();
    let journal = "export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec \"$@\"";
    let juggler = Start::config(&config)
        .by(["sh", "-c", journal, "sh"])
        .ready();
    juggler.wait_for_log("<6>ready");
    // A shell in a terminal that a service has started has the variable, but not its journal.
    let juggler = Start::config(&config)
        .environment("JOURNAL_STREAM", "8:1")
        .ready();
    assert!(!juggler.wait_for_log("ready").contains("<6>"));
}

#[test]
fn the_access_log_is_opened_anew_on_sighup() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).top("[log]\naccess = \"{dir}/access.log\"");
    let mut juggler = config.start();
    let (log, old) = (
        juggler.folder().join("access.log"),
        juggler.folder().join("access.log.1"),
    );
    let lines = |path: &std::path::Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut client = Client::connect(juggler.address());
    client.get("/test.txt?1").expect(200);
    eventually_eq("first line", 1, || lines(&log).len());
    fs::rename(&log, &old).unwrap();
    client.get("/test.txt?2").expect(200);
    eventually_eq("second line", 2, || lines(&old).len());
    juggler.signal(Signal::SIGHUP);
    eventually(PATIENCE, "a new file", || log.exists());
    client.get("/test.txt?3").expect(200);
    client.get("/test.txt?4").expect(200);
    eventually_eq("the new file's lines", 2, || lines(&log).len());
    // Where the new file cannot be opened, the old one stays in use.
    fs::rename(&log, juggler.folder().join("access.log.2")).unwrap();
    fs::create_dir(&log).unwrap();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log("keeping the old one");
    client.get("/test.txt?5").expect(200);
    assert_eq!(juggler.stop(), Some(0));
    assert_eq!(lines(&old).len(), 2);
    assert_eq!(lines(&juggler.folder().join("access.log.2")).len(), 3);
}

#[test]
fn a_line_of_figures_comes_when_asked_for() {
    let gate = Gate::new();
    let origin = held(&gate);
    let juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"")
        .cluster("capacity = 2")
        .start();
    origin.wait_for_connections(2);
    let clients: Vec<_> = (0..5)
        .map(|_| {
            let mut client = Client::connect(juggler.address());
            client.send(REQUEST);
            client
        })
        .collect();
    juggler.wait_for_log("5 clients, 2 served, 3 queued, 2/2 workers up");
    gate.open();
    for mut client in clients {
        client.read_response().expect(200);
    }
    let idle = juggler.wait_for_log("0 clients, 0 served, 0 queued, 2/2 workers up");
    assert!(
        idle.contains("requests/s") && idle.contains("0 KiB in buffers, 0 KiB in spool"),
        "{idle}"
    );
    let requests: u32 = juggler
        .log()
        .iter()
        .filter_map(|line| {
            line.split_once(" requests/s")?
                .0
                .rsplit(' ')
                .next()?
                .parse::<u32>()
                .ok()
        })
        .sum();
    // All of them are in one line, or spread over two.
    assert!((4..=6).contains(&requests), "{requests}");
}

#[test]
fn what_cannot_be_bound_is_said() {
    let server = TestServer::start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::new([server.address()]).listener(&format!("bind = \"{address}\""));
    let mut juggler = Start::config(&config.text()).spawn();
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    let log = juggler.wait_for_log("listener main: cannot listen on");
    assert!(
        log.contains(&address.to_string()) && log.contains("another process listens there"),
        "{log}"
    );
    let mut juggler =
        Start::config(&config.text().replace(&address.to_string(), "192.0.2.1:80")).spawn();
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    juggler.wait_for_log("this machine has no such address");
}

#[test]
fn a_stop_without_clients_takes_no_time() {
    let server = TestServer::start();
    let mut juggler = Config::new([server.address()]).start();
    let began = Instant::now();
    assert_eq!(juggler.stop(), Some(0));
    // The drain's deadline is 30 s, and nothing is there to wait for.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    eventually_eq("connections", 0, || server.stat("connections_now"));
}

#[test]
fn sigusr1_tells_how_everything_is() {
    let server = TestServer::start();
    let juggler = Config::new([server.address(), "127.0.0.1:1"])
        .cluster("bucket = [{ name = \"vip\", assured = \"20%\" }, { name = \"main\" }]")
        .start();
    server.wait_for_stat("connections_now", 5);
    juggler.signal(Signal::SIGUSR1);
    juggler.wait_for_log("cluster main: enabled, 5 slots; 0 served, 0 queued, 0 resting");
    juggler
        .wait_for_log("active, enabled, in use; 0 served, 0 bound; 5 of 5 connected; not checked");
    juggler.wait_for_log(
        "server main/s1 (127.0.0.1:1): active, enabled, not in use; 0 served, 0 bound; 0 of 5 \
         connected",
    );
    juggler.wait_for_log("cluster main, bucket vip: 0 served of 1 assured, at most 5; 0 queued;");
}
