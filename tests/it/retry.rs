//! Retries: what is tried again on another server, what never is, and how often.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{
    Client, Config, Gate, Juggler, Origin, OriginConn, PATIENCE, check, eventually,
};

/// The balancer before these servers, with one connection each, and an access log in JSON on
/// standard output.
fn before<'a>(origins: impl IntoIterator<Item = &'a Origin>, cluster: &str) -> Juggler {
    let origins: Vec<_> = origins.into_iter().collect();
    let juggler = Config::new(origins.iter().map(|origin| origin.address()))
        .top("[log]\naccess = \"stdout\"\nformat = \"json\"\n[spool]\nfolder = \"{dir}\"")
        .listener("limit = { body_memory = \"64KiB\" }")
        .cluster("capacity = 1")
        .cluster(cluster)
        .start();
    for origin in origins {
        origin.wait_for_connections(1);
    }
    juggler
}

/// Two servers. The one that gets the first request does this with it; all other requests are
/// served.
fn pair(first: impl Fn(&mut OriginConn) + Send + Sync + 'static) -> [Origin; 2] {
    let (requests, first) = (Arc::new(AtomicUsize::new(0)), Arc::new(first));
    [0, 1].map(|_| {
        let (requests, first) = (Arc::clone(&requests), Arc::clone(&first));
        Origin::start(move |conn, _| {
            while let Some(request) = conn.request() {
                if requests.fetch_add(1, Ordering::SeqCst) == 0 {
                    return first(conn);
                }
                conn.answer(200, format!("{}", check::Sum::of(&request.body)));
            }
        })
    })
}

fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn logged(juggler: &Juggler, path: &str) -> serde_json::Value {
    serde_json::from_str(&juggler.wait_for_output(path)).unwrap()
}

#[test]
fn what_was_not_sent_goes_to_another_server_whatever_it_is() {
    let mut dead = Origin::answering("dead");
    let good = Origin::answering("good");
    let juggler = before([&dead, &good], "");
    dead.stop();
    let mut client = Client::connect(juggler.address());
    for _ in 0..4 {
        assert_eq!(client.post("/", "x").expect(200).text(), "good");
    }
    assert_eq!((dead.requests().len(), good.requests().len()), (0, 4));
}

#[test]
fn what_broke_before_a_response_is_tried_again_if_it_may_be() {
    let small = check::bytes(0, 1000);
    let large = check::bytes(0, 3_000_000);
    let reset: fn(&mut OriginConn) = |conn| conn.reset();
    let in_head: fn(&mut OriginConn) = |conn| conn.send("HTTP/1.1 200 OK\r\n");
    for how in [reset, in_head] {
        for (method, body) in [
            ("GET", &small[..0]),
            ("PUT", &small),
            ("PUT", &large),
            ("DELETE", &small[..0]),
        ] {
            let servers = pair(how);
            let juggler = before(&servers, "");
            let mut client = Client::connect(juggler.address());
            let response = client.exchange(request(method, "/again", body)).expect(200);
            assert_eq!(
                response.text(),
                check::Sum::of(body).to_string(),
                "{method}"
            );
            for server in &servers {
                assert_eq!(
                    server.requests().len(),
                    1,
                    "{method}: another server is used"
                );
                assert_eq!(server.request().body, body);
            }
            let line = logged(&juggler, "/again");
            assert_eq!(
                (&line["retries"], &line["end"]),
                (&1.into(), &"--".into()),
                "{line}"
            );
        }
        let servers = pair(how);
        let juggler = before(&servers, "");
        let mut client = Client::connect(juggler.address());
        let response = client
            .exchange(request("POST", "/once", &small))
            .expect(502);
        assert!(
            response.text().contains("without a response"),
            "{}",
            response.text()
        );
        assert_eq!(
            servers
                .iter()
                .map(|server| server.requests().len())
                .sum::<usize>(),
            1
        );
        let line = logged(&juggler, "/once");
        assert_eq!(
            (&line["retries"], &line["end"]),
            (&0.into(), &"SH".into()),
            "{line}"
        );
        assert!(
            line["reason"]
                .as_str()
                .unwrap()
                .contains("without a response"),
            "{line}"
        );
    }
}

#[test]
fn after_a_final_head_nothing_is_tried_again() {
    for framing in [
        "Content-Length: 10\r\n\r\n",
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n",
    ] {
        let servers = pair(move |conn| conn.send(format!("HTTP/1.1 200 OK\r\n{framing}")));
        let juggler = before(&servers, "");
        let mut client = Client::connect(juggler.address());
        client.send(request("GET", "/", b""));
        assert!(client.try_read_response(false).is_err());
        assert_eq!(
            servers
                .iter()
                .map(|server| server.requests().len())
                .sum::<usize>(),
            1
        );
    }
}

#[test]
fn an_interim_response_is_no_final_head() {
    let servers = pair(|conn| {
        conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        conn.reset();
    });
    let juggler = before(&servers, "");
    Client::connect(juggler.address()).get("/").expect(200);
    assert_eq!(
        servers
            .iter()
            .map(|server| server.requests().len())
            .sum::<usize>(),
        2
    );
}

#[test]
fn attempts_are_limited() {
    for (setting, attempts) in [
        ("", 3),
        ("retry = { attempts = 2 }", 2),
        ("retry = { attempts = 1 }", 1),
    ] {
        let servers = [0, 1, 2, 3].map(|_| {
            Origin::start(|conn, _| {
                conn.request();
            })
        });
        let juggler = before(&servers, setting);
        Client::connect(juggler.address()).get("/tired").expect(502);
        let sent: Vec<_> = servers
            .iter()
            .map(|server| server.requests().len())
            .collect();
        assert_eq!(sent.iter().sum::<usize>(), attempts, "{sent:?}");
        assert!(
            attempts > 3 || sent.iter().filter(|sent| **sent > 1).count() <= 1,
            "not the same server: {sent:?}"
        );
        assert_eq!(logged(&juggler, "/tired")["retries"], attempts - 1);
    }
}

#[test]
fn retries_have_a_budget() {
    const ALL: usize = 30;
    let (first, second) = (Gate::new(), Gate::new());
    let seen = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    let servers = [0, 1].map(|_| {
        let (first, second, seen) = (first.clone(), second.clone(), Arc::clone(&seen));
        Origin::start(move |conn, _| {
            while let Some(request) = conn.request() {
                let time = {
                    let mut seen = seen.lock().unwrap();
                    let times = seen.entry(request.target).or_default();
                    *times += 1;
                    *times
                };
                if time == 1 {
                    first.wait();
                    return;
                }
                second.wait();
                conn.answer(200, "again");
            }
        })
    });
    let juggler = Config::new(servers.iter().map(Origin::address))
        .cluster(&format!("capacity = {ALL}\nretry = {{ budget = \"0%\" }}"))
        .start();
    servers
        .iter()
        .for_each(|server| server.wait_for_connections(ALL));
    let mut clients: Vec<_> = (0..ALL)
        .map(|index| {
            let mut client = Client::connect(juggler.address());
            client.send(request("GET", &format!("/{index}"), b""));
            client
        })
        .collect();
    first.wait_for(ALL);
    first.open();
    // Ten are always allowed, and no more while these are in progress.
    second.wait_for(10);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in &mut clients {
            let (all, second) = (&all, &second);
            scope.spawn(move || {
                let status = client.read_response().status;
                let mut all = all.lock().unwrap();
                all.push(status);
                if all.iter().filter(|status| **status == 502).count() == ALL - 10 {
                    second.open();
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    assert_eq!(
        all.iter().filter(|status| **status == 200).count(),
        10,
        "{all:?}"
    );
    assert_eq!(
        all.iter().filter(|status| **status == 502).count(),
        ALL - 10,
        "{all:?}"
    );
}

#[test]
fn a_servers_5xx_is_handed_on_tried_again_or_hidden() {
    let error: fn(&mut OriginConn) = |conn| {
        conn.answer(500, "broken");
        conn.wait_for_close();
    };
    let ask = |setting: &str, method: &str| {
        let servers = pair(error);
        let juggler = before(&servers, setting);
        let mut client = Client::connect(juggler.address());
        let response = client.exchange(request(method, "/", b""));
        let line = logged(&juggler, "/");
        let sent = servers
            .iter()
            .map(|server| server.requests().len())
            .sum::<usize>();
        (
            response.status,
            response.text(),
            sent,
            line["retries"].as_u64().unwrap(),
        )
    };
    assert_eq!(ask("", "GET"), (500, "broken".into(), 1, 0));
    assert_eq!(
        ask("on_5xx = \"retry\"", "GET"),
        (200, check::Sum::default().to_string(), 2, 1)
    );
    assert_eq!(
        ask("on_5xx = \"retry\"", "POST"),
        (500, "broken".into(), 1, 0)
    );
    let (status, text, sent, _) = ask("on_5xx = \"bad_gateway\"", "GET");
    assert_eq!((status, sent), (502, 1));
    assert!(text.contains("answered with an error"), "{text}");
    // The response of the last attempt goes to the client.
    let servers = [0, 1].map(|_| {
        Origin::start(|conn, _| {
            while conn.request().is_some() {
                conn.answer(503, "busy");
            }
        })
    });
    let juggler = before(&servers, "on_5xx = \"retry\"");
    assert_eq!(
        Client::connect(juggler.address())
            .get("/")
            .expect(503)
            .text(),
        "busy"
    );
    assert_eq!(
        servers
            .iter()
            .map(|server| server.requests().len())
            .sum::<usize>(),
        3
    );
    // A body that is small enough to be here already costs no connection.
    assert_eq!(
        servers.iter().map(Origin::connections_ever).sum::<usize>(),
        2
    );
}

#[test]
fn without_a_server_requests_are_refused_or_wait() {
    let mut server = Origin::answering("back");
    let refusing = before([&server], "");
    let queueing = before_again(&server, "on_unavailable = \"queue\"");
    server.stop();
    let mut client = Client::connect(refusing.address());
    eventually(PATIENCE, "refused", || client.get("/").status == 503);
    let mut waiting = Client::connect(queueing.address());
    waiting.send(request("POST", "/", b"x"));
    waiting.expect_silence(Duration::from_millis(100));
    server.restart();
    assert_eq!(waiting.read_response().expect(200).text(), "back");
    // The wait has an end, too.
    server.stop();
    let impatient = Config::new([server.address()])
        .cluster("on_unavailable = \"queue\"\nqueue = { timeout = \"100ms\" }")
        .start();
    let response = Client::connect(impatient.address()).get("/").expect(504);
    assert!(
        response.text().contains("waited too long"),
        "{}",
        response.text()
    );
}

/// Another balancer before the same server.
fn before_again(origin: &Origin, cluster: &str) -> Juggler {
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .cluster(cluster)
        .start();
    origin.wait_for_connections(2);
    juggler
}

#[test]
fn bound_early_a_request_waits_for_its_server_and_late_for_any() {
    for (binding, third) in [("late", "1"), ("early", "0")] {
        let gate = Gate::new();
        let held = gate.clone();
        let slow = Origin::start(move |conn, _| {
            while conn.request().is_some() {
                held.wait();
                conn.answer(200, "0");
            }
        });
        let fast = Origin::answering("1");
        let juggler = before([&slow, &fast], &format!("binding = \"{binding}\""));
        let mut first = Client::connect(juggler.address());
        first.send(request("GET", "/1", b""));
        gate.wait_for(1);
        assert_eq!(
            Client::connect(juggler.address())
                .get("/2")
                .expect(200)
                .text(),
            "1"
        );
        let mut next = Client::connect(juggler.address());
        next.send(request("GET", "/3", b""));
        if third == "0" {
            next.expect_silence(Duration::from_millis(50));
            assert_eq!(
                Client::connect(juggler.address())
                    .get("/4")
                    .expect(200)
                    .text(),
                "1"
            );
            gate.open();
        }
        assert_eq!(next.read_response().expect(200).text(), third, "{binding}");
        gate.open();
        assert_eq!(first.read_response().expect(200).text(), "0");
    }
}

/// A server that has closed its connection and neither accepts nor refuses a new one: its backlog
/// is full.
struct Mute {
    listener: Socket,
    address: SocketAddr,
    fill: Vec<Socket>,
}

impl Mute {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let fill = Vec::new();
        Self {
            listener,
            address,
            fill,
        }
    }

    fn accept(&self) -> TcpStream {
        self.listener.accept().unwrap().0.into()
    }

    fn become_mute(&mut self) {
        for _ in 0..4 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            // These connects stay in progress for ever.
            let _ = socket.connect(&self.address.into());
            self.fill.push(socket);
        }
        eventually(PATIENCE, "a full backlog", || {
            TcpStream::connect_timeout(&self.address, Duration::from_millis(20)).is_err()
        });
    }
}

#[test]
fn a_client_that_leaves_while_a_worker_connects_is_not_served_by_another_server() {
    // A worker has requests while it connects only if a batch of them broke.
    let (mut mute, gate) = (Mute::new(), Gate::new());
    let good = {
        let gate = gate.clone();
        Origin::start(move |conn, _| {
            while let Some(request) = conn.request() {
                if request.target == "/held" {
                    gate.wait();
                }
                conn.answer(200, "good");
            }
        })
    };
    let juggler = Config::new([mute.address, good.address()])
        .top("[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"")
        .cluster("capacity = 1\npipeline = 8\ntimeout = { connect = \"3s\" }")
        .start();
    good.wait_for_connections(1);
    let mut connection = mute.accept();
    let mut client = Client::connect(juggler.address());
    client.send(request("GET", "/first", b""));
    let mut bytes = [0; 4096];
    assert!(connection.read(&mut bytes).unwrap() > 0);
    let mut held = Client::connect(juggler.address());
    held.send(request("GET", "/held", b""));
    gate.wait_for(1);
    let queued = |count: &str| {
        eventually(PATIENCE, count, || {
            let log = juggler.log();
            let newest = log.iter().rev().find(|line| line.contains(" queued"));
            newest.is_some_and(|line| line.contains(&format!(" {count} queued")))
        });
    };
    let mut waiting: Vec<_> = (0..6)
        .map(|index| {
            let mut client = Client::connect(juggler.address());
            client.send(request("GET", &format!("/batch/{index}"), b""));
            client
        })
        .collect();
    queued("6");
    connection
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    client.read_response().expect(200);
    // Three of the six come at once. The first one's retry is queued again, the other two wait for
    // a connection.
    let mut batch = Vec::new();
    while batch.windows(4).filter(|end| end == b"\r\n\r\n").count() < 3 {
        let read = connection.read(&mut bytes).unwrap();
        batch.extend_from_slice(&bytes[..read]);
    }
    mute.become_mute();
    drop(connection);
    queued("4");
    let batch = String::from_utf8(batch).unwrap();
    let second = batch.split("GET /batch/").nth(2).unwrap();
    let index: usize = second[..1].parse().unwrap();
    waiting.remove(index).reset();
    // No server can be reached, so this request waits with the others.
    queued("6");
    gate.open();
    let left = format!("/batch/{index}");
    let line = juggler.wait_for_output(&left);
    assert!(line.contains(" 499 "), "{line}");
    for mut client in waiting {
        assert_eq!(client.read_response().expect(200).text(), "good");
    }
    let seen: Vec<_> = good
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert!(!seen.contains(&left), "its client has left: {seen:?}");
}

#[test]
fn every_further_retry_waits_twice_as_long() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let origin = Origin::start(move |conn, _| {
        if conn.request().is_some() {
            seen.lock().unwrap().push(Instant::now());
        }
    });
    let juggler = before([&origin], "retry = { attempts = 4, back_off = \"150ms\" }");
    Client::connect(juggler.address()).get("/tired").expect(502);
    let times = times.lock().unwrap();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 3);
    let least = Duration::from_millis(150);
    assert!(gaps[1] >= least && gaps[2] >= 2 * least, "{gaps:?}");
    let line = logged(&juggler, "/tired");
    assert_eq!(
        (&line["retries"], &line["attempt"]),
        (&3.into(), &4.into()),
        "{line}"
    );
    assert_eq!(
        line["why"],
        "the server closed the connection without a response"
    );
}

#[test]
fn a_request_that_rests_before_a_retry_counts_for_the_budget() {
    const FAILING: usize = 12;
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        if conn.request().is_some() {
            held.wait();
        }
    });
    let mut juggler = Config::new([origin.address()])
        .top("[process]\ndrain = \"100ms\"")
        .cluster(&format!(
            "capacity = {FAILING}\nretry = {{ budget = \"0%\", back_off = \"1m\" }}"
        ))
        .start();
    origin.wait_for_connections(FAILING);
    let mut clients: Vec<_> = (0..FAILING)
        .map(|_| {
            let mut client = Client::connect(juggler.address());
            client.send(request("GET", "/", b""));
            client
        })
        .collect();
    gate.wait_for(FAILING);
    gate.open();
    // Ten are tried again, fail again, and rest. Two are given up.
    origin.wait_for_requests(FAILING + 10);
    // A request that fails now is given up as well, with its server's failure.
    let given_up = Client::connect(juggler.address()).get("/late").expect(502);
    assert!(
        given_up.text().contains("without a response"),
        "{}",
        given_up.text()
    );
    assert_eq!(origin.requests().len(), FAILING + 10 + 1);
    // The time of the drain is over before their rest is.
    juggler.signal(nix::sys::signal::Signal::SIGTERM);
    let mut statuses: Vec<_> = clients
        .iter_mut()
        .map(|client| client.read_response().status)
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![502; 2], vec![503; 10]].concat());
    assert_eq!(juggler.wait(PATIENCE), Some(0));
}

#[test]
fn a_used_connection_that_ends_does_not_use_up_an_attempt() {
    // All five connections have served a request. Then the server closes one under a request, and
    // two new ones.
    let (gate, stopping) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (held, ends) = (gate.clone(), Arc::clone(&stopping));
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            if ends.load(Ordering::SeqCst) > 0 {
                ends.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            held.wait();
            conn.answer(200, "served");
        }
    });
    let juggler = Config::new([origin.address()]).start();
    let warm = |count: usize| {
        let mut clients: Vec<_> = (0..5).map(|_| Client::connect(juggler.address())).collect();
        clients
            .iter_mut()
            .for_each(|client| client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        gate.wait_for(count);
        gate.open();
        for client in &mut clients {
            client.read_response().expect(200);
        }
    };
    warm(5);
    let mut client = Client::connect(juggler.address());
    stopping.store(3, Ordering::SeqCst);
    assert_eq!(client.get("/").expect(200).text(), "served");
    assert_eq!(stopping.load(Ordering::SeqCst), 0);
    // If the server goes on like this, the retries end: three, and three more.
    stopping.store(100, Ordering::SeqCst);
    client.get("/").expect(502);
    assert!(100 - stopping.load(Ordering::SeqCst) <= 6);
}
