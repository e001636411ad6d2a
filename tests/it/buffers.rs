//! The limits of memory and spool: 503 or a cut, never a hang, and everything is given back.

use std::thread;

use crate::support::{Client, Config, Gate, Juggler, Origin, PATIENCE, check, eventually};

/// The least that may be configured: 32 buffers, and a spool with room for one mebibyte.
const TINY: &str = "[process]\nsummary = \"1s\"\n[log]\naccess = \"stdout\"\n[buffers]\nregion = \
                    \"1MiB\"\nsize = \"32KiB\"\n[spool]\nfolder = \"{dir}\"\nlimit = \"1MiB\"";

fn tiny(origin: &Origin) -> Juggler {
    let juggler = Config::new([origin.address()])
        .top(TINY)
        .cluster("capacity = 2")
        .start();
    origin.wait_for_connections(2);
    juggler
}

/// Expects that nothing is in use any more and that requests are served.
#[track_caller]
fn all_is_back(juggler: &Juggler) {
    eventually(PATIENCE, "everything given back", || {
        let log = juggler.log();
        let summary = log.iter().rev().find(|line| line.contains("requests/s"));
        summary.is_some_and(|line| {
            [
                "0 served",
                "0 queued",
                "2/2 workers",
                "0 KiB in buffers",
                "0 KiB in spool",
            ]
            .iter()
            .all(|part| line.contains(&format!(" {part}")))
        })
    });
    Client::connect(juggler.address()).get("/small").expect(200);
}

fn summing() -> Origin {
    Origin::start(|conn, _| {
        while let Some(request) = conn.request() {
            conn.answer(200, check::Sum::of(&request.body).to_string());
        }
    })
}

#[test]
fn an_upload_that_fits_nowhere_is_a_503() {
    let origin = summing();
    let juggler = tiny(&origin);
    let body = check::bytes(0, 3 << 20);
    for chunked in [false, true] {
        let mut client = Client::connect(juggler.address());
        if chunked {
            client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(format!("{:x}\r\n", body.len()));
            client.send(&body);
        } else {
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            client.send(&body);
        }
        let response = client.read_response().expect(503);
        assert!(
            response.text().contains("no buffer is free"),
            "{}",
            response.text()
        );
        assert!(response.closes());
    }
    assert_eq!(origin.requests().len(), 0);
    all_is_back(&juggler);
}

#[test]
fn of_many_uploads_each_is_served_whole_or_refused() {
    let origin = summing();
    let juggler = tiny(&origin);
    let body = check::bytes(0, 700_000);
    let (address, sum) = (juggler.address(), check::Sum::of(&body).to_string());
    let mut served = 0;
    for _ in 0..3 {
        let uploads: Vec<_> = (0..8)
            .map(|_| {
                let (address, body, sum) = (address.clone(), body.clone(), sum.clone());
                thread::spawn(move || {
                    let response = Client::connect(address).post("/", body);
                    if response.status == 200 {
                        assert_eq!(response.text(), sum);
                    } else {
                        assert_eq!(response.status, 503, "{}", response.text());
                    }
                    response.status
                })
            })
            .collect();
        served += uploads
            .into_iter()
            .filter_map(|upload| upload.join().ok())
            .filter(|status| *status == 200)
            .count();
    }
    assert!(served > 0, "there is room for one");
    assert_eq!(origin.requests().len(), served);
    all_is_back(&juggler);
}

#[test]
fn uploads_that_wait_hold_the_region_and_others_without_a_body_pass() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/held" {
                held.wait();
            }
            conn.answer(200, request.body.len().to_string());
        }
    });
    let juggler = Config::new([origin.address()])
        .top(&TINY.replace("limit = \"1MiB\"", "limit = \"2MiB\""))
        .listener("limit = { body_memory = \"256KiB\" }")
        .cluster("capacity = 8")
        .start();
    origin.wait_for_connections(8);
    let body = vec![b'x'; 900_000];
    let ask = |path: &str| {
        let mut client = Client::connect(juggler.address());
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(&body);
        client
    };
    let mut waiting = ask("/held");
    gate.wait_for(1);
    ask("/more").read_response().expect(503);
    assert_eq!(
        Client::connect(juggler.address())
            .get("/")
            .expect(200)
            .text(),
        "0"
    );
    gate.open();
    assert_eq!(waiting.read_response().expect(200).text(), "900000");
    // The buffers are free a moment after the client has its response.
    eventually(PATIENCE, "room for as much again", || {
        ask("/again").read_response().status == 200
    });
}

#[test]
fn responses_that_fit_nowhere_wait_for_their_clients() {
    let big = check::bytes(0, 24 << 20);
    let bytes = big.clone();
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.starts_with("/big") {
                conn.answer(200, &bytes);
            } else {
                conn.answer(200, "small");
            }
        }
    });
    let juggler = tiny(&origin);
    let waiting: Vec<_> = (0..4)
        .map(|number| {
            let mut client = Client::connect(juggler.address());
            client.send(format!("GET /big/{number} HTTP/1.1\r\nHost: x\r\n\r\n"));
            client
        })
        .collect();
    // They wait for their clients in the lane, or with their workers.
    let readers: Vec<_> = waiting
        .into_iter()
        .map(|mut client| thread::spawn(move || client.read_response().expect(200).body))
        .collect();
    for reader in readers {
        assert!(reader.join().unwrap() == big, "every byte");
    }
    all_is_back(&juggler);
    assert!(origin.connections_most() <= 2 + 4, "two workers and a lane");
}
