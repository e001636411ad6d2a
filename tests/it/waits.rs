//! Waits on the side of the servers, each of which has an end.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::names::Hosts;
use crate::support::{Client, Config, Gate, Origin, PATIENCE, Start, eventually, reload};

/// A Unix socket whose backlog is full, with the connections in it.
struct Clogged {
    listener: Socket,
    waiting: Vec<Socket>,
}

impl Clogged {
    fn at(path: &Path) -> Self {
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut clogged = Self {
            listener,
            waiting: Vec::new(),
        };
        clogged.fill(path);
        clogged
    }

    fn fill(&mut self, path: &Path) {
        loop {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            match socket.connect(&SockAddr::unix(path).unwrap()) {
                Ok(()) => self.waiting.push(socket),
                Err(_) => return,
            }
            assert!(self.waiting.len() < 10, "the socket's backlog has no end");
        }
    }

    /// Accepts all connections from now on, and answers each request.
    fn serve(self) {
        thread::spawn(move || {
            drop(self.waiting);
            while let Ok((stream, _)) = self.listener.accept() {
                thread::spawn(move || answer_all(&stream.into()));
            }
        });
    }
}

fn answer_all(stream: &UnixStream) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        if line.is_empty() {
            let mut stream = stream;
            // The client may have gone.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        }
    }
}

/// A TCP address where connections are neither accepted nor refused.
struct Silent {
    _listener: Socket,
    _waiting: Vec<TcpStream>,
    port: u16,
}

impl Silent {
    fn at(host: &str, port: u16) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let address: SocketAddr = format!("{host}:{port}").parse().unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(stream);
            assert!(waiting.len() < 10, "the socket's backlog has no end");
        }
        Self {
            _listener: listener,
            _waiting: waiting,
            port: address.port(),
        }
    }
}

#[test]
fn a_unix_server_with_a_full_backlog_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let clogged = Clogged::at(&path);
    let mut juggler = Config::new([format!("unix:{}", path.display())])
        .cluster("capacity = 4\ntimeout = { connect = \"200ms\" }")
        .start();
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut client = Client::connect(juggler.address());
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            client
        })
        .collect();
    for mut client in clients {
        client.set_patience(Duration::from_secs(8));
        client.read_response().expect(503);
    }
    // Once there is room again the worker connects.
    clogged.serve();
    eventually(PATIENCE, "served", || {
        Client::connect(juggler.address()).get("/").status == 200
    });
    assert_eq!(juggler.stop(), Some(0));
}

#[test]
fn a_request_that_waits_for_a_unix_connection_waits_no_longer_than_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.sock");
    let _clogged = Clogged::at(&path);
    let good = Origin::answering("good");
    let config = |servers: &[String]| {
        Config::new(servers)
            .cluster("capacity = 2\ntimeout = { connect = \"300ms\" }\non_unavailable = \"queue\"")
    };
    let servers = [
        good.address().to_string(),
        format!("unix:{}", path.display()),
    ];
    let juggler = config(&servers).start();
    // A server that cannot be connected to delays neither other servers' requests nor a reload that
    // removes it.
    let mut client = Client::connect(juggler.address());
    for _ in 0..4 {
        assert_eq!(client.get("/").expect(200).text(), "good");
    }
    reload(&juggler, &config(&servers[..1]).text(), "reloaded");
    eventually(PATIENCE, "the removed server's workers are gone", || {
        juggler
            .threads_by_name()
            .keys()
            .all(|name| name != "w-s1-0" && name != "w-s1-1")
    });
}

#[test]
fn all_addresses_of_a_name_together_have_the_time_for_connecting() {
    let first = Silent::at("127.0.0.21", 0);
    let others =
        ["127.0.0.22", "127.0.0.23", "127.0.0.24"].map(|host| Silent::at(host, first.port));
    let lines = ["127.0.0.21", "127.0.0.22", "127.0.0.23", "127.0.0.24"]
        .map(|host| format!("{host} app.test"));
    let Some(hosts) = Hosts::new(&lines.each_ref().map(String::as_str)) else {
        return;
    };
    let config =
        Config::new([format!("app.test:{}", first.port)]).cluster("timeout = { connect = \"1s\" }");
    let began = Instant::now();
    let juggler = hosts.before(Start::config(&config.text())).ready();
    juggler.wait_for_log("cannot connect");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    // One address after the other with a full timeout each would take four times as long.
    assert!(took < Duration::from_millis(3000), "{took:?}");
    drop(others);
}

#[test]
fn the_last_of_several_addresses_is_tried_in_time() {
    let dead = Silent::at("127.0.0.31", 0);
    let good = Origin::answering("good");
    // The same port at another address, with only a relay behind it.
    let relay = std::net::TcpListener::bind(("127.0.0.32", dead.port)).unwrap();
    let target = good.address();
    thread::spawn(move || {
        while let Ok((client, _)) = relay.accept() {
            let server = TcpStream::connect(target).unwrap();
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    let Some(hosts) = Hosts::new(&["127.0.0.31 app.test", "127.0.0.32 app.test"]) else {
        return;
    };
    let config = Config::new([format!("app.test:{}", dead.port)])
        .cluster("capacity = 1\ntimeout = { connect = \"600ms\" }\non_unavailable = \"queue\"");
    let juggler = hosts.before(Start::config(&config.text())).ready();
    assert_eq!(
        Client::connect(juggler.address())
            .get("/")
            .expect(200)
            .text(),
        "good"
    );
}

/// A server that reads requests and sends nothing.
fn mute() -> (Origin, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (origin, asked)
}

/// The times from a request to its 504, each over a connection that was idle for a moment.
fn times_to_504(cluster: &str, tries: usize, request: &str) -> Vec<Duration> {
    let (origin, _asked) = mute();
    let juggler = Config::new([origin.address()]).cluster(cluster).start();
    (0..tries)
        .map(|number| {
            eventually(PATIENCE, "connected", || origin.connections_ever() > number);
            let mut client = Client::connect(juggler.address());
            let began = Instant::now();
            client.send(request);
            client.read_response().expect(504);
            began.elapsed()
        })
        .collect()
}

#[test]
fn the_time_for_the_first_byte_counts_from_the_moment_of_sending() {
    let first_byte = Duration::from_millis(200);
    let requests = [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{}",
            "x".repeat(60_000)
        ),
    ];
    for request in requests {
        let times = times_to_504(
            "capacity = 1\ntimeout = { first_byte = \"200ms\" }",
            6,
            &request,
        );
        assert!(times.iter().all(|time| *time >= first_byte), "{times:?}");
        // A timeout that counts from an earlier moment gives 0.3 to 0.7 s. One time may be late on
        // a busy machine.
        let mut sorted = times.clone();
        sorted.sort_unstable();
        assert!(sorted[3] < Duration::from_millis(280), "{times:?}");
    }
}

#[test]
fn a_queued_request_has_the_whole_time_for_its_first_byte() {
    // The request waits in the queue for longer than its server may take for the first byte.
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/held" {
                held.wait();
            } else {
                thread::sleep(Duration::from_millis(150));
            }
            conn.answer(200, "good");
        }
    });
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1\ntimeout = { first_byte = \"600ms\" }")
        .start();
    let mut first = Client::connect(juggler.address());
    first.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    let mut second = Client::connect(juggler.address());
    second.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    second.expect_silence(Duration::from_millis(500));
    gate.open();
    first.read_response().expect(200);
    assert_eq!(second.read_response().expect(200).text(), "good");
}
