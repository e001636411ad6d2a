//! The access log: each exchange once, with its outcome and its times.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Client, Config, Gate, Juggler, Origin, PATIENCE, TestServer, check, eventually, eventually_eq,
};

const ON: &str = "[log]\naccess = \"stdout\"";
const JSON: &str = "[log]\naccess = \"stdout\"\nformat = \"json\"";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Waits for this number of lines, and for no more. A line is written after the client has its
/// response, so the line of its next request may come first.
#[track_caller]
fn lines(juggler: &mut Juggler, count: usize) -> Vec<String> {
    eventually(PATIENCE, &format!("{count} lines"), || {
        juggler.output().len() >= count
    });
    // At the program's end everything is written.
    assert_eq!(juggler.stop(), Some(0));
    let lines = juggler.output();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// The only element that passes the test.
#[track_caller]
fn only<T: std::fmt::Debug>(all: &[T], is_so: impl Fn(&T) -> bool) -> &T {
    let found: Vec<_> = all.iter().filter(|one| is_so(one)).collect();
    assert_eq!(found.len(), 1, "{all:#?}");
    found[0]
}

/// The JSON objects of the log.
#[track_caller]
fn objects(juggler: &mut Juggler, count: usize) -> Vec<Value> {
    let lines = lines(juggler, count);
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_line_has_the_combined_form_and_more() {
    let server = TestServer::start();
    let mut juggler = Config::new([server.address()]).top(ON).start();
    let mut client = Client::connect(juggler.address());
    let response = client.exchange(
        "GET /__size/10?a=b HTTP/1.1\r\nHost: test\r\nReferer: http://from.test/\r\nUser-Agent: \
         me/1\r\n\r\n",
    );
    client
        .exchange("HEAD /missing HTTP/1.0\r\n\r\n")
        .expect(404);
    drop(client);
    let log = lines(&mut juggler, 2);
    let (first, second) = (
        only(&log, |line| line.contains("GET")),
        only(&log, |line| line.contains("HEAD")),
    );
    let rest = first.strip_prefix("127.0.0.1 - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    jiff::fmt::strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).unwrap();
    let length = response.raw.len();
    let expected = format!(
        "\"GET /__size/10?a=b HTTP/1.1\" 200 {length} \"http://from.test/\" \"me/1\" main main/s0 \
         queue="
    );
    assert!(rest.starts_with(&expected), "{first}");
    assert!(rest.ends_with(" retries=0 end=-- \"\""), "{first}");
    assert!(
        second.contains("\"HEAD /missing HTTP/1.0\" 404 "),
        "{second}"
    );
    assert!(second.contains(" \"-\" \"-\" main main/s0 "), "{second}");
}

#[test]
fn times_are_what_they_say() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                "/held" => held.wait(),
                "/slow_head" => thread::sleep(Duration::from_millis(120)),
                _ => {}
            }
            if request.target == "/slow_body" {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
                thread::sleep(Duration::from_millis(120));
                conn.send("dy");
            } else {
                conn.answer(200, "body");
            }
        }
    });
    let mut juggler = Config::new([origin.address()])
        .top(JSON)
        .cluster("capacity = 1")
        .start();
    origin.wait_for_connections(1);
    let mut first = Client::connect(juggler.address());
    first.send(get("/held"));
    gate.wait_for(1);
    let mut queued = Client::connect(juggler.address());
    queued.send(get("/queued"));
    // The request is in the queue for a while.
    queued.expect_silence(Duration::from_millis(120));
    gate.open();
    first.read_response().expect(200);
    queued.read_response().expect(200);
    first.exchange(get("/slow_head")).expect(200);
    first.exchange(get("/slow_body")).expect(200);
    drop((first, queued));
    let log = objects(&mut juggler, 4);
    let of = |target: &str, name: &str| {
        let request = format!("GET {target} HTTP/1.1");
        let line = log.iter().find(|line| line["request"] == *request).unwrap();
        line[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {line}"))
    };
    for target in ["/held", "/queued", "/slow_head", "/slow_body"] {
        let [queue, first_byte, total] =
            ["queue_ms", "first_byte_ms", "total_ms"].map(|name| of(target, name));
        assert!(queue >= 0.0 && first_byte > 0.0, "{target}");
        assert!(
            queue + first_byte <= total + 0.01,
            "{target}: {queue} + {first_byte} > {total}"
        );
        let long = |name: &str| of(target, name) >= 100.0;
        assert!(long("total_ms"), "{target}");
        assert_eq!(long("queue_ms"), target == "/queued", "{target}: queue");
        assert_eq!(
            long("first_byte_ms"),
            ["/held", "/slow_head"].contains(&target),
            "{target}: first byte"
        );
    }
    assert!(
        log.iter().all(|line| line["connect_ms"].is_null()),
        "no request waited for a connection"
    );
}

#[test]
fn json_has_it_all() {
    let server = TestServer::start();
    let mut juggler = Config::new([server.address()]).top(JSON).start();
    let mut client = Client::connect(juggler.address());
    let response =
        client.exchange("GET /__size/10 HTTP/1.1\r\nHost: a.test:80\r\nUser-Agent: \"me\"\r\n\r\n");
    Client::connect(juggler.address())
        .exchange("nonsense\r\n\r\n")
        .expect(400);
    drop(client);
    let log = objects(&mut juggler, 2);
    let (good, bad) = (
        only(&log, |line| line["status"] == 200),
        only(&log, |line| line["status"] == 400),
    );
    for (name, value) in [
        ("client", Value::from("127.0.0.1")),
        ("request", "GET /__size/10 HTTP/1.1".into()),
        ("host", "a.test:80".into()),
        ("referer", "".into()),
        ("user_agent", "\"me\"".into()),
        ("status", 200.into()),
        ("bytes", response.raw.len().into()),
        ("listener", "main".into()),
        ("cluster", "main".into()),
        ("server", "s0".into()),
        ("retries", 0.into()),
        ("end", "--".into()),
        ("reason", "".into()),
    ] {
        assert_eq!(good[name], value, "{name}");
    }
    good["time"]
        .as_str()
        .unwrap()
        .parse::<jiff::Timestamp>()
        .unwrap();
    assert_eq!((&bad["status"], &bad["end"]), (&400.into(), &"PR".into()));
    assert_eq!(
        (&bad["cluster"], &bad["server"]),
        (&"-".into(), &"-".into())
    );
    assert!(bad["queue_ms"].is_null() && bad["first_byte_ms"].is_null());
    assert_eq!(bad["reason"], "the request is malformed");
    assert_eq!(
        bad["cause"],
        "a first line that is not METHOD TARGET VERSION"
    );
    assert_eq!(bad["request"], "nonsense");
}

/// An origin that does what the path says.
fn wicked(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.split('?').next().unwrap() {
                "/missing" => return,
                "/garbage" => return conn.send("garbage\r\n\r\n"),
                "/cut" => return conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"),
                "/held" => {
                    gate.wait();
                    conn.answer(200, "held");
                }
                "/hang" => {
                    gate.wait();
                    return;
                }
                "/flood" => {
                    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).into_bytes();
                    // Sends until the other side closes.
                    for _ in 0..1000 {
                        conn.send(&chunk);
                    }
                    return;
                }
                _ => conn.answer(200, "fine"),
            }
        }
    })
}

/// Status, flags and reason of the only line.
#[track_caller]
fn end_of(juggler: &mut Juggler) -> (u64, String, String) {
    let line = objects(juggler, 1).remove(0);
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    (
        line["status"].as_u64().unwrap(),
        text("end"),
        text("reason"),
    )
}

#[test]
fn how_it_ended_is_told() {
    let gate = Gate::new();
    let origin = wicked(&gate);
    let post =
        |target: &str| format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    for (request, status, end, reason) in [
        (get("/"), 200, "--", ""),
        (post("/missing"), 502, "SH", "without a response"),
        (get("/garbage"), 502, "PH", "malformed"),
        (get("/cut"), 200, "SD", "broke off"),
        (post("/hang"), 504, "sH", "did not answer in time"),
        ("GET /half".to_owned(), 408, "cR", "head took too long"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf".to_owned(),
            408,
            "cR",
            "body took too long",
        ),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "PR", "malformed"),
        (get(&format!("/{}", "x".repeat(9000))), 414, "PR", "target"),
        (
            "GET / HTTP/2.0\r\nHost: x\r\n\r\n".to_owned(),
            505,
            "PR",
            "version",
        ),
    ] {
        let mut juggler = Config::new([origin.address()])
            .top(JSON)
            .listener("timeout = { header = \"150ms\", body = \"150ms\" }")
            .cluster("capacity = 1\ntimeout = { first_byte = \"150ms\" }")
            .start();
        let mut client = Client::connect(juggler.address());
        client.send(&request);
        let response = client.try_read_response(false);
        assert_eq!(
            response.map_or(200, |response| response.status),
            status,
            "{request}"
        );
        drop(client);
        let found = end_of(&mut juggler);
        assert_eq!(
            (found.0, found.1.as_str()),
            (u64::from(status), end),
            "{request}"
        );
        assert!(found.2.contains(reason), "{found:?}");
    }
    gate.open();
}

#[test]
fn full_queues_and_unreachable_servers_are_told() {
    let gate = Gate::new();
    let origin = wicked(&gate);
    let mut juggler = Config::new([origin.address()])
        .top(JSON)
        .cluster("capacity = 1\nqueue = { limit = 1, timeout = \"150ms\" }")
        .start();
    let mut held = Client::connect(juggler.address());
    held.send(get("/held"));
    gate.wait_for(1);
    let mut queued = Client::connect(juggler.address());
    queued.send(get("/queued"));
    // The request is in the queue once the queue has no room for another one.
    let mut asked = 0;
    eventually(PATIENCE, "full", || {
        asked += 1;
        Client::connect(juggler.address()).get("/refused").status == 503
    });
    queued.read_response().expect(504);
    gate.open();
    held.read_response().expect(200);
    drop((held, queued));
    let log = objects(&mut juggler, asked + 2);
    let ends: BTreeSet<_> = log
        .iter()
        .map(|line| {
            (
                line["request"].as_str().unwrap(),
                line["end"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(ends.contains(&("GET /queued HTTP/1.1", "sQ")), "{ends:?}");
    assert!(ends.contains(&("GET /refused HTTP/1.1", "PQ")), "{ends:?}");
    assert!(ends.contains(&("GET /held HTTP/1.1", "--")), "{ends:?}");

    let mut nowhere = Config::new(["unix:{dir}/nobody"]).top(JSON).start();
    Client::connect(nowhere.address()).get("/").expect(503);
    assert_eq!(end_of(&mut nowhere).1, "SC");
}

#[test]
fn clients_that_leave_are_told_from_others() {
    let gate = Gate::new();
    let origin = wicked(&gate);
    let config = Config::new([origin.address()])
        .top(JSON)
        .cluster("capacity = 1\ntimeout = { abort = \"100ms\" }");

    for half in [
        "GET /half",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    ] {
        let mut juggler = config.start();
        let mut client = Client::connect(juggler.address());
        client.send(half);
        client.shutdown_write();
        client.expect_gone();
        assert_eq!(
            end_of(&mut juggler),
            (
                499,
                "CR".into(),
                "the client left while it sent its request".into()
            )
        );
    }

    let mut juggler = config.start();
    origin.wait_for_connections(1);
    let mut served = Client::connect(juggler.address());
    served.send(get("/hang"));
    gate.wait_for(1);
    let mut queued = Client::connect(juggler.address());
    queued.send(get("/queued"));
    queued.expect_silence(Duration::from_millis(20));
    drop(queued);
    juggler.wait_for_output("GET /queued");
    drop(served);
    let log = objects(&mut juggler, 2);
    assert!(log.iter().all(|line| line["status"] == 499), "{log:#?}");
    assert_eq!(
        only(&log, |line| line["end"] == "CQ")["request"],
        "GET /queued HTTP/1.1"
    );
    assert_eq!(only(&log, |line| line["end"] == "CH")["server"], "s0");

    let mut juggler = config.start();
    let mut client = Client::connect(juggler.address());
    client.send(get("/flood"));
    client.read_exactly(100_000);
    client.reset();
    let line = objects(&mut juggler, 1).remove(0);
    assert_eq!((&line["status"], &line["end"]), (&200.into(), &"CD".into()));
    assert!(line["bytes"].as_u64().unwrap() >= 100_000);
}

#[test]
fn retries_and_the_last_server_are_told() {
    let bad = Origin::start(|conn, _| {
        conn.request();
    });
    let good = Origin::answering("fine");
    let mut juggler = Config::new([bad.address(), good.address()])
        .top(JSON)
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    bad.wait_for_connections(1);
    good.wait_for_connections(1);
    for _ in 0..2 {
        client.get("/").expect(200);
    }
    drop(client);
    let log = objects(&mut juggler, 2);
    assert!(
        log.iter()
            .all(|line| line["server"] == "s1" && line["end"] == "--"),
        "{log:#?}"
    );
    let retries: u64 = log
        .iter()
        .map(|line| line["retries"].as_u64().unwrap())
        .sum();
    assert_eq!(retries, bad.requests().len() as u64, "{log:#?}");
    assert!(retries >= 1);
}

#[test]
fn each_exchange_is_logged_once() {
    const CLIENTS: usize = 12;
    const EACH: usize = 25;
    let servers = TestServer::three();
    let mut juggler = Config::new(servers.iter().map(TestServer::address))
        .top(JSON)
        .cluster("capacity = 2\ntimeout = { abort = \"20ms\" }")
        .start();
    let threads: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let address = juggler.address();
            thread::spawn(move || {
                let mut client = Client::connect(&address);
                for count in 0..EACH {
                    let name = format!("n={number}-{count}");
                    match (number + count) % 8 {
                        0 => drop(
                            client
                                .post(&format!("/__sum?{name}"), check::bytes(0, 40_000))
                                .expect(200),
                        ),
                        1 => drop(client.get(&format!("/__status/404?{name}")).expect(404)),
                        2 => drop(client.get(&format!("/__abort/now?{name}")).expect(502)),
                        3 => {
                            client.send(get(&format!("/__abort/body?after=1000&size=5000&{name}")));
                            assert!(client.try_read_response(false).is_err());
                            client = Client::connect(&address);
                        }
                        4 => {
                            // Leaves: perhaps queued, perhaps served, perhaps with its response.
                            client.send(get(&format!("/__delay/5?{name}")));
                            if count % 2 == 0 {
                                client.reset();
                            }
                            client = Client::connect(&address);
                        }
                        5 => {
                            client.send(format!("GET /bad?{name} HTTP/1.1\r\n\r\n"));
                            client.read_response().expect(400);
                            client = Client::connect(&address);
                        }
                        6 => {
                            client.send(format!(
                                "POST /half?{name} HTTP/1.1\r\nHost: x\r\nContent-Length: \
                                 5\r\n\r\nhal"
                            ));
                            client = Client::connect(&address);
                        }
                        _ => drop(
                            client
                                .get(&format!("/__chunked/9?size=999&{name}"))
                                .expect(200),
                        ),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let log = objects(&mut juggler, CLIENTS * EACH);
    let names: BTreeSet<_> = log
        .iter()
        .map(|line| {
            let request = line["request"].as_str().unwrap();
            request
                .split_once("n=")
                .unwrap_or_else(|| panic!("{line}"))
                .1
                .to_owned()
        })
        .collect();
    assert_eq!(names.len(), CLIENTS * EACH, "each line has its own name");
    let count = |end: &str| log.iter().filter(|line| line["end"] == end).count();
    assert!(
        count("--") >= 100 && count("PR") > 30 && count("CR") > 30,
        "{log:#?}"
    );
    eventually_eq("executing", 0, || {
        servers
            .iter()
            .map(|server| server.stat("executing_now"))
            .sum::<u64>()
    });
}

#[test]
fn what_a_client_says_cannot_forge_a_line() {
    let server = TestServer::start();
    let mut combined = Config::new([server.address()]).top(ON).start();
    let mut json = Config::new([server.address()]).top(JSON).start();
    let hostile: &[&[u8]] = &[
        b"GET /a\"b\\c HTTP/1.1\r\nHost: x\r\n\
          User-Agent: \" 200 1 \"\xff\xc3\xa9\xe2\x80\xa8\tx\r\n\r\n",
        b"GET /\x1b[2Ja HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x00\x07 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n127.0.0.1 - - forged\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
    ];
    for juggler in [&combined, &json] {
        for request in hostile {
            let mut client = Client::connect(juggler.address());
            client.send(request);
            client.read_response();
        }
    }
    for line in lines(&mut combined, hostile.len()) {
        assert!(
            line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{line:?}"
        );
        // Four pairs of quotes: request, referer, agent, reason.
        assert_eq!(line.matches('"').count(), 8, "{line}");
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    }
    for object in objects(&mut json, hostile.len()) {
        assert_eq!(object["client"], "127.0.0.1");
    }
}

#[test]
fn a_second_attempt_is_told_with_what_was_wrong_with_the_first() {
    let origin = Origin::start(|conn, number| {
        while conn.request().is_some() {
            if number == 0 {
                return;
            }
            conn.answer(200, "again");
        }
    });
    let mut juggler = Config::new([origin.address()])
        .top(ON)
        .cluster("capacity = 1")
        .start();
    Client::connect(juggler.address()).get("/").expect(200);
    let log = lines(&mut juggler, 1);
    let told = " retries=1 attempt=2 why=\"the server closed the connection without a response\" \
                end=-- \"\"";
    assert!(log[0].ends_with(told), "{}", log[0]);
}
