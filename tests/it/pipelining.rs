//! Several requests at once on one connection to a server (`pipeline`): whatever the server does to
//! them, each client gets its own answer or none.

mod ends;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{
    Client, Config, Gate, Juggler, Origin, OriginConn, PATIENCE, Request, eventually,
};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// The balancer before this one, with one connection, an access log, and a line each second that
/// tells how many wait.
fn before(origin: &Origin, cluster: &str) -> Juggler {
    let juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"\nformat = \"json\"")
        .cluster("capacity = 1\npipeline = 8")
        .cluster(cluster)
        .start();
    origin.wait_for_connections(1);
    juggler
}

/// All requests that are here at once.
fn batch(conn: &mut OriginConn) -> Vec<Request> {
    let mut requests = Vec::new();
    while let Some(request) = conn.request() {
        requests.push(request);
        if conn.leftover().is_empty() {
            break;
        }
    }
    requests
}

/// A server that holds its first request until the gate opens, does this with the batch that comes
/// next, and serves the rest of its life one by one.
fn held(gate: &Gate, then: impl Fn(&mut OriginConn, &[Request]) + Send + Sync + 'static) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, number| {
        if number == 0 {
            let Some(first) = conn.request() else { return };
            // The head at once, so that only the body takes long.
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                first.target.len()
            ));
            gate.wait();
            conn.send(first.target);
            let requests = batch(conn);
            return then(conn, &requests);
        }
        one_by_one(conn);
    })
}

fn one_by_one(conn: &mut OriginConn) {
    while let Some(request) = conn.request() {
        assert!(
            conn.leftover().is_empty(),
            "what is sent again is sent alone"
        );
        answer(conn, &request);
    }
}

fn answer(conn: &mut OriginConn, request: &Request) {
    if request.method == "HEAD" {
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.target.len()
        ));
    } else {
        conn.answer(200, &request.target);
    }
}

/// Clients whose requests wait together, each with its path.
struct Waiting(Vec<(String, Client)>);

/// Holds the only worker, lets these requests queue behind that one, and then lets the server go
/// on.
fn release(juggler: &Juggler, gate: &Gate, requests: &[String]) -> Waiting {
    let waiting = queue(juggler, gate, requests);
    gate.open();
    waiting
}

fn queue(juggler: &Juggler, gate: &Gate, requests: &[String]) -> Waiting {
    let mut first = Client::connect(juggler.address());
    first.send(get("/held"));
    gate.wait_for(1);
    let mut waiting = vec![("/held".to_owned(), first)];
    for request in requests {
        let mut client = Client::connect(juggler.address());
        client.send(request);
        let path = request.split(' ').nth(1).unwrap().to_owned();
        waiting.push((path, client));
    }
    let queued = format!(" {} queued", requests.len());
    eventually(PATIENCE, &queued, || {
        let newest = juggler
            .log()
            .into_iter()
            .rev()
            .find(|line| line.contains(" queued"));
        newest.is_some_and(|line| line.contains(&queued))
    });
    Waiting(waiting)
}

fn paths(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| get(&format!("/{number}")))
        .collect()
}

impl Waiting {
    /// Everybody gets what was asked for, and may ask again.
    #[track_caller]
    fn all_answered(self) {
        self.answered_but(&[]);
    }

    /// The same for all but these, which are given back.
    #[track_caller]
    fn answered_but(self, but: &[&str]) -> Vec<Client> {
        let mut others = Vec::new();
        for (path, mut client) in self.0 {
            if but.contains(&&*path) {
                others.push(client);
                continue;
            }
            assert_eq!(client.read_response().expect(200).text(), path);
            assert!(client.leftover().is_empty(), "{path}");
        }
        others
    }

    fn client(&mut self, path: &str) -> &mut Client {
        &mut self.0.iter_mut().find(|(own, _)| own == path).unwrap().1
    }

    fn take(&mut self, path: &str) -> Client {
        let place = self.0.iter().position(|(own, _)| own == path).unwrap();
        self.0.swap_remove(place).1
    }
}

/// Leaves, and waits until that was noticed.
fn leave(mut client: Client) {
    client.shutdown_write();
    client.expect_closed();
}

fn logged(juggler: &Juggler, path: &str) -> serde_json::Value {
    serde_json::from_str(&juggler.wait_for_output(&format!(" {path} HTTP"))).unwrap()
}

/// Where the requests went that the server has got so far, in their order.
fn targets(origin: &Origin) -> Vec<String> {
    origin
        .requests()
        .into_iter()
        .map(|request| request.target)
        .collect()
}

#[test]
fn requests_that_wait_are_sent_at_once_up_to_the_number_set() {
    let gate = Gate::new();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let (held, seen) = (gate.clone(), Arc::clone(&sizes));
    let origin = Origin::start(move |conn, _| {
        loop {
            let requests = batch(conn);
            if requests.is_empty() {
                return;
            }
            seen.lock().unwrap().push(requests.len());
            held.wait();
            for request in &requests {
                answer(conn, request);
            }
        }
    });
    let juggler = before(&origin, "");
    release(&juggler, &gate, &paths(12)).all_answered();
    // One, of twelve eight, and of the four that are left: all, for there is no other worker.
    assert_eq!(*sizes.lock().unwrap(), [1, 8, 4]);
    assert_eq!(origin.connections_ever(), 1);
    for number in 0..12 {
        assert_eq!(logged(&juggler, &format!("/{number}"))["retries"], 0);
    }
    origin.assert_no_failures();
}

#[test]
fn it_is_off_unless_it_is_asked_for() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            assert!(conn.leftover().is_empty(), "one at a time");
            held.wait();
            answer(conn, &request);
        }
    });
    let juggler = Config::new([origin.address()])
        .top("[process]\nsummary = \"1s\"")
        .cluster("capacity = 1")
        .start();
    origin.wait_for_connections(1);
    release(&juggler, &gate, &paths(5)).all_answered();
    origin.assert_no_failures();
}

#[test]
fn a_server_that_closes_after_the_first_answer_loses_none() {
    // Not even where nothing may be tried again at a cost.
    for cluster in ["", "retry = { attempts = 1, budget = \"0%\" }"] {
        for says_so in [false, true] {
            let gate = Gate::new();
            let origin = held(&gate, move |conn, requests| {
                let close = if says_so { "Connection: close\r\n" } else { "" };
                let body = &requests[0].target;
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
                if says_so {
                    // What it says after that is not to be believed.
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
                }
            });
            let juggler = before(&origin, cluster);
            release(&juggler, &gate, &paths(5)).all_answered();
            assert_eq!(origin.connections_ever(), 2);
            let sent = targets(&origin);
            // In the same order as before.
            assert_eq!((sent.len(), &sent[2..6]), (10, &sent[6..10]));
            assert_eq!(logged(&juggler, &sent[1])["retries"], 0);
            for path in &sent[2..6] {
                assert_eq!(logged(&juggler, path)["retries"], 1, "it was sent twice");
            }
            origin.assert_no_failures();
        }
    }
}

#[test]
fn one_answer_too_many_reaches_nobody() {
    for late in [false, true] {
        let (gate, more) = (Gate::new(), Gate::new());
        let surplus = more.clone();
        let origin = held(&gate, move |conn, requests| {
            let mut bytes = String::new();
            for request in requests {
                let body = &request.target;
                bytes += &format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
            let wrong = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong";
            if late {
                conn.send(bytes);
                surplus.wait();
                conn.send(wrong);
            } else {
                conn.send(bytes + wrong);
            }
            conn.wait_for_close();
        });
        let juggler = before(&origin, "");
        release(&juggler, &gate, &paths(4)).all_answered();
        more.open();
        if late {
            eventually(PATIENCE, "the connection is given up", || {
                origin.connections_ever() == 2
            });
        }
        let mut next = Client::connect(juggler.address());
        assert_eq!(next.get("/next").expect(200).text(), "/next");
        assert_eq!(origin.connections_ever(), 2);
        origin.assert_no_failures();
    }
}

#[test]
fn a_server_that_stalls_in_the_middle_keeps_only_one_waiting_in_vain() {
    let gate = Gate::new();
    let origin = held(&gate, |conn, requests| {
        answer(conn, &requests[0]);
        conn.wait_for_close();
    });
    let juggler = before(&origin, "timeout = { first_byte = \"300ms\" }");
    let waiting = queue(&juggler, &gate, &paths(5));
    gate.open();
    origin.wait_for_requests(6);
    let stalled = targets(&origin)[2].clone();
    for mut client in waiting.answered_but(&[&stalled]) {
        client.read_response().expect(504);
    }
    assert_eq!(logged(&juggler, &stalled)["retries"], 0);
    origin.assert_no_failures();
}

#[test]
fn a_server_that_breaks_in_the_second_body_cuts_only_that() {
    let gate = Gate::new();
    let origin = held(&gate, |conn, requests| {
        answer(conn, &requests[0]);
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    let juggler = before(&origin, "");
    let waiting = release(&juggler, &gate, &paths(5));
    origin.wait_for_requests(6);
    let cut = targets(&origin)[2].clone();
    for mut client in waiting.answered_but(&[&cut]) {
        let got = client.read_to_end();
        assert!(
            got.ends_with(b"\r\n\r\nhalf"),
            "{:?}",
            String::from_utf8_lossy(&got)
        );
    }
    assert_eq!(
        targets(&origin).iter().filter(|path| **path == cut).count(),
        1
    );
    origin.assert_no_failures();
}

#[test]
fn what_is_no_response_in_the_middle_is_nobodys() {
    for garbage in [
        "this is the body of what was a HEAD\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "\r\n",
    ] {
        let gate = Gate::new();
        let origin = held(&gate, move |conn, requests| {
            answer(conn, &requests[0]);
            conn.send(garbage);
            for request in &requests[1..] {
                answer(conn, request);
            }
            conn.wait_for_close();
        });
        let juggler = before(&origin, "");
        release(&juggler, &gate, &paths(4)).all_answered();
        assert_eq!(origin.connections_ever(), 2, "{garbage:?}");
        origin.assert_no_failures();
    }
}

#[test]
fn a_response_of_another_kind_ends_the_batch_and_only_its_own_exchange() {
    for (response, status) in [
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
            502,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1", 200),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200),
    ] {
        let gate = Gate::new();
        let origin = held(&gate, move |conn, requests| {
            answer(conn, &requests[0]);
            conn.send(response);
            conn.shutdown_write();
            conn.wait_for_close();
        });
        let juggler = before(&origin, "");
        let waiting = release(&juggler, &gate, &paths(4));
        origin.wait_for_requests(5);
        let other = targets(&origin)[2].clone();
        for mut client in waiting.answered_but(&[&other]) {
            client.read_response().expect(status);
        }
        assert_eq!(logged(&juggler, &other)["retries"], 0);
        origin.assert_no_failures();
    }
}

#[test]
fn responses_without_a_body_and_interim_ones_are_told_apart() {
    let gate = Gate::new();
    let origin = held(&gate, |conn, requests| {
        for (place, request) in requests.iter().enumerate() {
            conn.send(format!(
                "HTTP/1.1 103 Early Hints\r\nLink: <{}>\r\n\r\n",
                request.target
            ));
            match (place % 3, &*request.method) {
                (0, "GET") => conn.send("HTTP/1.1 204 No Content\r\n\r\n"),
                (1, "GET") => conn.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
                _ => answer(conn, request),
            }
        }
        conn.wait_for_close();
    });
    let juggler = before(&origin, "");
    let requests: Vec<_> = (0..8)
        .map(|number| {
            let method = if number % 2 == 0 { "HEAD" } else { "GET" };
            format!("{method} /{number} HTTP/1.1\r\nHost: x\r\n\r\n")
        })
        .collect();
    let waiting = release(&juggler, &gate, &requests);
    origin.wait_for_requests(9);
    let sent = origin.requests();
    for (path, mut client) in waiting.0.into_iter().skip(1) {
        let place = sent
            .iter()
            .position(|request| request.target == path)
            .unwrap();
        let to_head = sent[place].method == "HEAD";
        let response = client.try_read_response(to_head).unwrap();
        let expected = match ((place - 1) % 3, to_head) {
            (0, false) => 204,
            (1, false) => 304,
            _ => 200,
        };
        assert_eq!(response.status, expected);
        let hints = response
            .interim
            .iter()
            .map(|hint| hint.field("link").unwrap());
        assert_eq!(hints.collect::<Vec<_>>(), [format!("<{path}>")]);
        if expected == 200 && !to_head {
            assert_eq!(response.text(), path);
        }
        assert!(client.leftover().is_empty());
    }
    assert_eq!((origin.connections_ever(), sent.len()), (1, 9));
    origin.assert_no_failures();
}

#[test]
fn what_has_a_body_or_may_not_be_repeated_goes_alone() {
    let gate = Gate::new();
    let (held, alone) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&alone);
    let origin = Origin::start(move |conn, _| {
        loop {
            let requests = batch(conn);
            let Some(first) = requests.first() else {
                return;
            };
            if first.target == "/held" {
                held.wait();
            }
            let is_alone = |request: &Request| {
                request.method != "GET" || !request.body.is_empty() || request.minor == 0
            };
            if requests.iter().any(is_alone) {
                assert_eq!(requests.len(), 1);
                seen.fetch_add(1, Ordering::SeqCst);
            }
            for request in &requests {
                answer(conn, request);
            }
        }
    });
    let juggler = before(&origin, "");
    let mut requests = paths(6);
    requests.push("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_owned());
    requests.push("GET /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody".to_owned());
    requests.push("PUT /c HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody".to_owned());
    requests.push("DELETE /d HTTP/1.1\r\nHost: x\r\n\r\n".to_owned());
    // Without a host it stays one of HTTP/1.0.
    requests.push("GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned());
    requests.push("GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned());
    requests.extend((6..9).map(|number| get(&format!("/{number}"))));
    release(&juggler, &gate, &requests).all_answered();
    assert_eq!(alone.load(Ordering::SeqCst), 6);
    assert_eq!(origin.connections_ever(), 1);
    origin.assert_no_failures();
}

#[test]
fn who_leaves_before_his_turn_is_read_for_and_dropped() {
    let (gate, middle) = (Gate::new(), Gate::new());
    let hold = middle.clone();
    let origin = held(&gate, move |conn, requests| {
        hold.wait();
        for request in requests {
            answer(conn, request);
        }
        conn.wait_for_close();
    });
    let juggler = before(&origin, "timeout = { abort = \"60s\" }");
    let mut waiting = release(&juggler, &gate, &paths(6));
    middle.wait_for(1);
    let sent = targets(&origin);
    // The one whose turn it is, one in the middle, and the last.
    for path in [&sent[1], &sent[3], &sent[6]] {
        leave(waiting.take(path));
    }
    middle.open();
    waiting.all_answered();
    for path in [&sent[1], &sent[3], &sent[6]] {
        assert_eq!(logged(&juggler, path)["status"], 499);
    }
    assert_eq!((origin.connections_ever(), targets(&origin).len()), (1, 7));
    origin.assert_no_failures();
}

#[test]
fn a_connection_is_broken_only_for_who_left_in_his_turn() {
    let (gate, middle) = (Gate::new(), Gate::new());
    let hold = middle.clone();
    let origin = held(&gate, move |conn, requests| {
        answer(conn, &requests[0]);
        answer(conn, &requests[1]);
        hold.wait();
        conn.wait_for_close();
    });
    let juggler = before(&origin, "timeout = { abort = \"200ms\" }");
    let mut waiting = release(&juggler, &gate, &paths(6));
    middle.wait_for(1);
    middle.open();
    let sent = targets(&origin);
    // Not in its turn: nothing happens, however long.
    leave(waiting.take(&sent[5]));
    waiting
        .client(&sent[4])
        .expect_silence(Duration::from_millis(600));
    assert_eq!(origin.connections_ever(), 1);
    // In its turn.
    leave(waiting.take(&sent[3]));
    waiting.all_answered();
    assert_eq!(logged(&juggler, &sent[3])["end"], "CH");
    assert_eq!(logged(&juggler, &sent[5])["status"], 499);
    assert_eq!(logged(&juggler, &sent[4])["retries"], 1);
    // Those two are not sent again, and the rest is.
    let again = targets(&origin);
    assert_eq!(again[7..], [sent[4].clone(), sent[6].clone()]);
    origin.assert_no_failures();
}

#[test]
fn a_large_response_and_a_slow_client_in_the_middle_hold_nobody_up() {
    const LARGE: usize = 8 << 20;
    let gate = Gate::new();
    let origin = held(&gate, |conn, requests| {
        for request in requests {
            if request.target == "/2" {
                conn.answer(200, vec![b'x'; LARGE]);
            } else {
                answer(conn, request);
            }
        }
        conn.wait_for_close();
    });
    let juggler = before(&origin, "");
    let waiting = queue(&juggler, &gate, &paths(5));
    gate.open();
    let mut slow = waiting.answered_but(&["/2"]).remove(0);
    assert_eq!(slow.read_response().expect(200).body.len(), LARGE);
    assert_eq!(origin.connections_ever(), 1);
    origin.assert_no_failures();
}

#[test]
fn what_cannot_be_sent_again_here_waits_for_whoever_can() {
    let (gate, middle) = (Gate::new(), Gate::new());
    let hold = middle.clone();
    let mut origin = held(&gate, move |conn, requests| {
        hold.wait();
        answer(conn, &requests[0]);
    });
    let juggler = before(&origin, "on_unavailable = \"queue\"");
    let waiting = release(&juggler, &gate, &paths(5));
    middle.wait_for(1);
    origin.refuse();
    middle.open();
    juggler.wait_for_log("cannot connect");
    origin.restart();
    waiting.all_answered();
    let sent = targets(&origin);
    assert_eq!(sent[2..6], sent[6..], "in their order");
    for path in &sent[2..6] {
        assert_eq!(logged(&juggler, path)["retries"], 1);
    }
    origin.assert_no_failures();
}

#[test]
fn a_server_error_in_the_middle_is_tried_elsewhere() {
    let gate = Gate::new();
    let other = Origin::answering("other");
    let origin = held(&gate, |conn, requests| {
        answer(conn, &requests[0]);
        conn.answer(503, "overloaded");
        for request in &requests[2..] {
            answer(conn, request);
        }
        conn.wait_for_close();
    });
    // The other server comes into play only when there is something to be tried again.
    let juggler = Config::new([origin.address(), other.address()])
        .top("[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"\nformat = \"json\"")
        .cluster("capacity = 1\npipeline = 8\nbinding = \"early\"\non_5xx = \"retry\"")
        .start();
    origin.wait_for_connections(1);
    other.wait_for_connections(1);
    let mut clients = Vec::new();
    let mut first = Client::connect(juggler.address());
    first.send(get("/held"));
    gate.wait_for(1);
    for number in 0..8 {
        let mut client = Client::connect(juggler.address());
        client.send(get(&format!("/{number}")));
        clients.push((format!("/{number}"), client));
    }
    // Each second one goes to the other server.
    eventually(PATIENCE, "four wait", || {
        let newest = juggler
            .log()
            .into_iter()
            .rev()
            .find(|line| line.contains(" queued"));
        newest.is_some_and(|line| line.contains(" 4 queued"))
    });
    gate.open();
    assert_eq!(first.read_response().expect(200).text(), "/held");
    origin.wait_for_requests(7);
    let failed = targets(&origin)[2].clone();
    for (path, mut client) in clients {
        let text = client.read_response().expect(200).text();
        let elsewhere = !targets(&origin).contains(&path) || path == failed;
        assert_eq!(text, if elsewhere { "other" } else { &path });
    }
    assert_eq!(logged(&juggler, &failed)["retries"], 1);
    origin.assert_no_failures();
}
