//! Servers that refuse, hang, break off, lie and send too much. The client gets an answer that says
//! so, or a cut that shows. Other clients notice nothing.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Authority, Client, Config, Gate, Juggler, Origin, OriginConn, PATIENCE, TestServer, check,
    eventually,
};

const HEAD: &str = "HTTP/1.1 200 OK\r\n";

/// The balancer before this server, with one connection, and an access log on standard output.
fn before(origin: &Origin, cluster: &str) -> Juggler {
    let juggler = Config::new([origin.address()])
        .top("[log]\naccess = \"stdout\"")
        .cluster("capacity = 1")
        .cluster(cluster)
        .start();
    eventually(PATIENCE, "connected", || origin.connections_ever() > 0);
    juggler
}

/// A server that does this with its first request and serves all others.
fn once(first: impl Fn(&mut OriginConn) + Send + Sync + 'static) -> Origin {
    let requests = AtomicUsize::new(0);
    Origin::start(move |conn, _| {
        while conn.request().is_some() {
            if requests.fetch_add(1, Ordering::SeqCst) == 0 {
                return first(conn);
            }
            conn.answer(200, "good");
        }
    })
}

fn post(address: &str) -> crate::support::Response {
    Client::connect(address).post("/", "body")
}

#[test]
fn a_server_that_refuses_connections_is_passed_over_and_all_of_them_are_a_503() {
    let mut dead = Origin::answering("never");
    dead.refuse();
    let good = Origin::answering("good");
    let juggler = Config::new([dead.address(), good.address()])
        .cluster("capacity = 2")
        .start();
    let mut client = Client::connect(juggler.address());
    for _ in 0..6 {
        assert_eq!(client.get("/").expect(200).text(), "good");
        assert_eq!(client.post("/", "x").expect(200).text(), "good");
    }
    drop(juggler);
    let juggler = Config::new([dead.address()]).start();
    let response = Client::connect(juggler.address()).get("/").expect(503);
    assert!(
        response.text().contains("no server can be reached"),
        "{}",
        response.text()
    );
    assert!(response.field("retry-after").is_some());
}

#[test]
fn a_server_that_hangs_is_a_504_and_loses_the_connection() {
    let origin = once(|conn| {
        conn.wait_for_close();
    });
    let juggler = before(&origin, "timeout = { first_byte = \"150ms\" }");
    let response = Client::connect(juggler.address()).get("/hangs").expect(504);
    assert!(
        response.text().contains("did not answer in time"),
        "{}",
        response.text()
    );
    assert!(juggler.wait_for_output("/hangs").contains("end=sH"));
    Client::connect(juggler.address()).get("/").expect(200);
    assert_eq!(origin.connections_ever(), 2);
    origin.assert_no_failures();
}

#[test]
fn a_head_that_drips_is_given_up_in_the_same_time() {
    let origin = once(|conn| {
        conn.send(HEAD);
        // There is no end, and never a pause between two reads as long as the limit.
        while conn.stream().write_all(b"X: y\r\n").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let juggler = before(
        &origin,
        "timeout = { first_byte = \"300ms\", read = \"200ms\" }\nlimit = { head = \"1MiB\" }",
    );
    let mut client = Client::connect(juggler.address());
    client.set_patience(Duration::from_secs(4));
    client.get("/").expect(504);
    client.get("/").expect(200);
}

#[test]
fn a_stall_or_a_break_in_the_body_shows() {
    let (length, chunked) = (
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    );
    let until_close = "\r\nhalf";
    for (framing, stall) in [
        (length, true),
        (length, false),
        (chunked, true),
        (chunked, false),
        (until_close, true),
    ] {
        for version in ["1.1", "1.0"] {
            let origin = once(move |conn| {
                conn.send(format!("{HEAD}{framing}"));
                if stall {
                    conn.wait_for_close();
                }
            });
            let juggler = before(&origin, "timeout = { read = \"100ms\" }");
            let mut client = Client::connect(juggler.address());
            client.send(format!("GET /cut HTTP/{version}\r\nHost: x\r\n\r\n"));
            if version == "1.0" && framing != length {
                // A proper end of the connection would be the end of the response, so the cut must
                // be a reset.
                let got = client.expect_cut();
                assert!(
                    got.ends_with(b"\r\n\r\nhalf"),
                    "{}",
                    String::from_utf8_lossy(&got)
                );
            } else {
                let problem = client.try_read_response(false).unwrap_err();
                assert_eq!(
                    problem.kind(),
                    std::io::ErrorKind::UnexpectedEof,
                    "{framing:?} {version}: {problem}"
                );
            }
            assert!(juggler.wait_for_output("/cut").contains("end=sD") == stall);
            Client::connect(juggler.address()).get("/").expect(200);
        }
    }
}

#[test]
fn a_break_in_the_body_shows_over_tls() {
    let origin = once(|conn| conn.send(format!("{HEAD}Content-Length: 100\r\n\r\nhalf")));
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = authority.issue(&["localhost"]).write(folder.path(), "a");
    let tls = format!("tls = {{ certificates = [{{ chain = {chain:?}, key = {key:?} }}] }}");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .listener(&tls)
        .start();
    let mut client = Client::tls(juggler.address(), &authority.client(), "localhost");
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        client.expect_cut().ends_with(b"half"),
        "no close_notify after half of it"
    );
}

#[test]
fn a_reset_before_a_response_is_a_502_with_the_reason() {
    let after_request: fn(&mut OriginConn) = |conn| conn.reset();
    let in_head: fn(&mut OriginConn) = |conn| {
        conn.send("HTTP/1.1 200 OK\r\nConte");
        conn.reset();
    };
    let closed: fn(&mut OriginConn) = |_| {};
    for how in [after_request, in_head, closed] {
        let origin = once(how);
        let juggler = before(&origin, "");
        let response = post(&juggler.address()).expect(502);
        assert!(
            response.text().contains("without a response"),
            "{}",
            response.text()
        );
        assert!(juggler.wait_for_output("POST /").contains("end=SH"));
        post(&juggler.address()).expect(200);
        // The server may have acted on what was sent once, so this is not sent again.
        assert_eq!(origin.requests().len(), 2);
    }
}

#[test]
fn a_server_that_accepts_and_resets_at_once_is_no_endless_loop() {
    let origin = Origin::start(|conn, _| conn.reset());
    let juggler = before(&origin, "");
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let mut client = Client::connect(juggler.address());
        client.set_patience(Duration::from_secs(10));
        let response = client.exchange(request);
        assert!([502, 503].contains(&response.status), "{}", response.text());
    }
}

#[test]
fn what_is_no_response_is_a_502() {
    let fields = "A: b\r\n".repeat(1001);
    let huge = format!(
        "{HEAD}X: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(70_000)
    );
    let endless = format!("{HEAD}X: {}", "x".repeat(70_000));
    for (wrong, reason) in [
        ("220 mail.example ready\r\n\r\n", "malformed"),
        ("\0\u{1}\u{2}\r\n\r\n", "malformed"),
        ("HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n", "malformed"),
        ("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", "malformed"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "malformed",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "malformed"),
        (
            "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
            "malformed",
        ),
        (&format!("{HEAD}{fields}\r\n"), "too large"),
        (&huge, "too large"),
        (&endless, "too large"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "switched protocols",
        ),
        (
            &"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20_000),
            "too large",
        ),
    ] {
        let said = wrong.to_owned();
        let origin = once(move |conn| {
            conn.send(&said);
            conn.wait_for_close();
        });
        let juggler = before(&origin, "");
        let response = Client::connect(juggler.address()).get("/").expect(502);
        assert!(
            response.text().contains(reason),
            "{wrong:.60?}: {}",
            response.text()
        );
        assert!(
            juggler.wait_for_output("GET /").contains("end=PH"),
            "{wrong:.60?}"
        );
        Client::connect(juggler.address()).get("/").expect(200);
        assert_eq!(origin.connections_ever(), 2, "{wrong:.60?}");
        origin.assert_no_failures();
    }
}

#[test]
fn a_wrong_chunk_is_an_error_before_the_head_went_out_and_then_a_cut() {
    let origin = once(|conn| {
        conn.send(format!(
            "{HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"
        ));
    });
    let juggler = before(&origin, "");
    Client::connect(juggler.address()).get("/").expect(502);
    Client::connect(juggler.address()).get("/").expect(200);

    let gate = Gate::new();
    let opened = gate.clone();
    let origin = once(move |conn| {
        conn.send(format!(
            "{HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
        ));
        opened.wait();
        conn.send("zz\r\n");
    });
    let juggler = before(&origin, "");
    let mut client = Client::connect(juggler.address());
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.read_exactly(HEAD.len());
    gate.open();
    assert!(!String::from_utf8_lossy(&client.read_to_end()).ends_with("0\r\n\r\n"));
    Client::connect(juggler.address()).get("/").expect(200);
}

#[test]
fn what_is_left_of_an_upload_is_not_followed_by_another_request() {
    let gate = Gate::new();
    let opened = gate.clone();
    let connections = AtomicUsize::new(0);
    let origin = Origin::start(move |conn, _| {
        if connections.fetch_add(1, Ordering::SeqCst) == 0 {
            // An error comes as soon as the head is there. The server does not read the rest.
            conn.request_head();
            conn.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
            return opened.wait();
        }
        while conn.request().is_some() {
            conn.answer(200, "good");
        }
    });
    let juggler = before(&origin, "on_5xx = \"bad_gateway\"");
    let mut client = Client::connect(juggler.address());
    client.post("/", "x".repeat(16 << 20)).expect(502);
    Client::connect(juggler.address()).get("/next").expect(200);
    assert_eq!(
        origin.connections_ever(),
        2,
        "the half-used connection is not used again"
    );
    gate.open();
}

#[test]
fn a_body_that_follows_the_response_to_a_head_request_reaches_no_client() {
    // The body comes late on purpose: together with the head the worker would notice it at once.
    // But it comes within the time that the worker waits for it.
    const LATE: Duration = Duration::from_micros(500);
    const TOO_LATE: Duration = Duration::from_micros(1500);
    let was_too_late = Arc::new(AtomicBool::new(false));
    let missed = Arc::clone(&was_too_late);
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.method == "HEAD" {
                let began = Instant::now();
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n");
                thread::sleep(LATE);
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Evil: 1\r\n\r\nevil");
                missed.fetch_or(began.elapsed() > TOO_LATE, Ordering::SeqCst);
                continue;
            }
            conn.answer(200, "good");
        }
    });
    let juggler = before(&origin, "");
    let mut victims: Vec<_> = (0..4).map(|_| Client::connect(juggler.address())).collect();
    for _ in 0..10 {
        let mut evil = Client::connect(juggler.address());
        evil.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
        for victim in &mut victims {
            victim.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        let good = victims
            .iter_mut()
            .all(|victim| victim.read_response().expect(200).text() == "good");
        if was_too_late.load(Ordering::SeqCst) {
            // The machine is too busy to send that little late. This run proves nothing.
            return;
        }
        assert!(good);
        evil.read_head_response().expect(200);
    }
}

#[test]
fn bytes_behind_a_response_reach_no_client() {
    let more = [
        "Content-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: \
         4\r\n\r\nevil",
        "Content-Length: 0\r\n\r\n\r\n",
    ];
    for more in more {
        let origin = once(move |conn| {
            conn.send(format!("{HEAD}{more}"));
            conn.wait_for_close();
        });
        let juggler = before(&origin, "");
        let mut first = Client::connect(juggler.address());
        let mut second = Client::connect(juggler.address());
        assert!(["body", ""].contains(&first.get("/1").expect(200).text().as_str()));
        assert_eq!(second.get("/2").expect(200).text(), "good");
        assert_eq!(first.get("/3").expect(200).text(), "good");
        assert_eq!(origin.connections_ever(), 2, "{more:?}");
        origin.assert_no_failures();
    }
    // A body after the head of a response to HEAD, or of a 304, is such bytes as well.
    let origin = once(|conn| {
        conn.send(format!("{HEAD}Content-Length: 4\r\n\r\nevil"));
        conn.wait_for_close();
    });
    let juggler = before(&origin, "");
    let mut client = Client::connect(juggler.address());
    client
        .exchange("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect(200);
    assert_eq!(client.get("/").expect(200).text(), "good");
    assert_eq!(origin.connections_ever(), 2);
}

#[test]
fn what_a_server_says_on_an_idle_connection_retires_it() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let timeout = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for says in [evil, timeout, "\r\n", ""] {
        let idle = Gate::new();
        let held = idle.clone();
        let origin = once(move |conn| {
            conn.answer(200, "first");
            held.wait();
            conn.send(says);
            if says.is_empty() {
                conn.shutdown_write();
            }
            conn.wait_for_close();
        });
        let juggler = before(&origin, "");
        let mut client = Client::connect(juggler.address());
        assert_eq!(client.get("/").expect(200).text(), "first");
        idle.open();
        // The worker notices it without any request.
        eventually(PATIENCE, "a new connection", || {
            origin.connections_ever() == 2
        });
        assert_eq!(client.post("/", "x").expect(200).text(), "good");
        assert_eq!(origin.connections_ever(), 2, "{says:?}");
        origin.assert_no_failures();
    }
}

#[test]
fn a_post_never_goes_out_on_a_connection_that_has_ended() {
    let server = TestServer::start();
    let juggler = Config::new([server.address()])
        .cluster("capacity = 1")
        .start();
    server.wait_for_stat("connections_now", 1);
    let mut client = Client::connect(juggler.address());
    for round in 0..20 {
        // The server closes without a warning. The worker waits for that too, and connects again.
        client.get("/test.txt?close=silent").expect(200);
        server.wait_for_stat("connections_ever", round + 2);
        assert_eq!(
            client.post("/__count/posts", "x").expect(200).text(),
            format!("{}\n", round + 1)
        );
    }
    assert_eq!(server.counted("posts"), 20);
}

#[test]
fn a_408_on_a_connection_in_use_is_stale_and_else_the_servers_own() {
    let timeout =
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate";
    let second = move || {
        Origin::start(move |conn, number| {
            if number > 0 {
                while conn.request().is_some() {
                    conn.answer(200, "good");
                }
            } else if conn.request().is_some() {
                conn.answer(200, "first");
                conn.request();
                conn.send(timeout);
            }
        })
    };
    let origin = second();
    let juggler = before(&origin, "");
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    assert_eq!(
        client.get("/").expect(200).text(),
        "good",
        "sent again on a fresh connection"
    );
    let origin = second();
    let juggler = before(&origin, "");
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    assert_eq!(
        client.post("/", "x").expect(408).text(),
        "late",
        "what is not sent again gets an answer"
    );
    let origin = once(move |conn| conn.send(timeout));
    let juggler = before(&origin, "");
    assert_eq!(
        Client::connect(juggler.address())
            .get("/")
            .expect(408)
            .text(),
        "late"
    );
}

#[test]
fn a_connection_is_retired_before_the_server_does_it() {
    let origin = once(|conn| {
        conn.send(format!(
            "{HEAD}Keep-Alive: timeout=1, max=100\r\nContent-Length: 0\r\n\r\n"
        ));
        let answered = Instant::now();
        conn.wait_for_close();
        assert!(
            answered.elapsed() < Duration::from_secs(3),
            "{:?}",
            answered.elapsed()
        );
    });
    let juggler = before(&origin, "");
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    eventually(PATIENCE, "a new connection", || {
        origin.connections_ever() == 2
    });
    client.post("/", "x").expect(200);
    assert_eq!(origin.connections_ever(), 2);
    origin.assert_no_failures();
}

#[test]
fn an_early_answer_to_an_upload_reaches_the_client() {
    let server = TestServer::start();
    let juggler = Config::new([server.address()])
        .top("[spool]\nfolder = \"{dir}\"")
        .cluster("capacity = 1")
        .start();
    server.wait_for_stat("connections_now", 1);
    let mut client = Client::connect(juggler.address());
    let body = vec![b'x'; 8 << 20];
    for (round, path) in ["/__early/413", "/__early/413?linger=0"]
        .into_iter()
        .enumerate()
    {
        let response = client.post(path, &body).expect(413);
        assert_eq!(response.text(), "answered early\n");
        assert!(
            !response.closes(),
            "the server's close does not reach the client's connection"
        );
        client.get("/test.txt").expect(200);
        assert_eq!(server.stat("connections_ever"), 2 + round as u64, "{path}");
        // The end of the old connection comes behind the whole body that is on its way. So the new
        // connection may be seen first.
        server.wait_for_stat("connections_now", 1);
    }
    assert_eq!(server.stat("malformed"), 0);
}

#[test]
fn an_interim_response_does_not_end_an_upload() {
    let origin = Origin::start(|conn, _| {
        while let Some(head) = conn.request_head() {
            // The 100 comes before the body is read. Some servers say so that they want the body.
            conn.send(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            );
            let Some(request) = conn.request_body(head) else {
                return;
            };
            conn.answer(200, check::Sum::of(&request.body).to_string());
        }
    });
    let juggler = before(&origin, "timeout = { first_byte = \"2s\" }");
    let body = check::bytes(0, 16 << 20);
    let mut client = Client::connect(juggler.address());
    let plain = client.post("/", &body).expect(200);
    assert_eq!(plain.text(), check::Sum::of(&body).to_string());
    assert_eq!(
        plain
            .interim
            .iter()
            .map(|interim| interim.status)
            .collect::<Vec<_>>(),
        [103]
    );
    // With trailers the body continues in chunks.
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n");
    for part in body.chunks(100_000) {
        client.send(format!("{:x}\r\n", part.len()));
        client.send(part);
        client.send("\r\n");
    }
    client.send("0\r\nT: u\r\n\r\n");
    assert_eq!(
        client.read_response().expect(200).text(),
        check::Sum::of(&body).to_string()
    );
    assert_eq!(
        origin.requests()[1].trailers,
        [("T".to_owned(), "u".to_owned())]
    );
    assert_eq!(origin.connections_ever(), 1);
    origin.assert_no_failures();
}

#[test]
fn servers_that_close_after_each_response_cost_no_request() {
    let servers = TestServer::three();
    let juggler = Arc::new(
        Config::new(servers.iter().map(TestServer::address))
            .cluster("capacity = 2")
            .start(),
    );
    for server in &servers {
        server.wait_for_stat("connections_now", 2);
    }
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let address = juggler.address();
            thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..50 {
                    client.get("/test.txt?close").expect(200);
                    client.post("/__sum?close", "x").expect(200);
                }
            })
        })
        .collect();
    clients
        .into_iter()
        .for_each(|client| client.join().unwrap());
}

#[test]
fn a_slow_server_delays_no_request_to_another_server() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            held.wait();
            conn.answer(200, "slow");
        }
    });
    let fast = Origin::answering("fast");
    let juggler = Config::new([slow.address(), fast.address()])
        .cluster("capacity = 1")
        .start();
    eventually(PATIENCE, "connected", || {
        slow.connections_now() + fast.connections_now() == 2
    });
    let mut waiting = Client::connect(juggler.address());
    waiting.send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    gate.wait_for(1);
    let mut others: Vec<_> = (0..5).map(|_| Client::connect(juggler.address())).collect();
    for _ in 0..4 {
        for client in &mut others {
            assert_eq!(client.get("/").expect(200).text(), "fast");
        }
    }
    assert_eq!(slow.requests().len(), 1);
    gate.open();
    assert_eq!(waiting.read_response().expect(200).text(), "slow");
}

#[test]
fn while_several_have_a_free_worker_requests_reach_one_after_the_other() {
    let servers: Vec<_> = ["0", "1", "2", "3"]
        .into_iter()
        .map(Origin::answering)
        .collect();
    let juggler = Config::new(servers.iter().map(Origin::address))
        .cluster("capacity = 2")
        .start();
    for server in &servers {
        server.wait_for_connections(2);
    }
    let mut client = Client::connect(juggler.address());
    let reached: Vec<_> = (0..12)
        .map(|_| client.get("/").expect(200).text())
        .collect();
    for (index, server) in reached.iter().enumerate() {
        assert_eq!(server.parse::<usize>().unwrap(), index % 4, "{reached:?}");
    }
}
