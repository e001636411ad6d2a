//! Failures that one client provokes, or that belong to one path, take no server from all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::patient::{PROBE, changes, probes, wait_for_probes};
use crate::support::{Client, Config, Juggler, Origin, PATIENCE, eventually};

/// What servers do wrong with some requests.
const WRONGS: [&str; 5] = ["/malformed", "/large", "/upgrade", "/broken", "/error"];

/// A server that does this with requests for such paths, and serves all others unless it is `ill`.
fn server(ill: &Arc<AtomicBool>) -> Origin {
    let ill = Arc::clone(ill);
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let wrong = WRONGS
                .iter()
                .find(|wrong| request.target.starts_with(**wrong))
                .copied();
            match wrong.unwrap_or_default() {
                "/malformed" => {
                    return conn
                        .send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n");
                }
                "/large" => {
                    return conn.send(format!(
                        "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                        "x".repeat(70_000)
                    ));
                }
                "/upgrade" => {
                    return conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
                }
                "/broken" => return,
                "/error" => conn.answer(500, ""),
                _ if ill.load(Ordering::SeqCst) => conn.answer(503, ""),
                _ => conn.answer(200, "good"),
            }
        }
    })
}

/// The balancer, with failures of every kind as evidence.
fn before(origin: &Origin, mode: &str, more: &str) -> Juggler {
    let health = format!(
        "health = {{ mode = \"{mode}\", path = \"{PROBE}\", interval = \"1h\", recheck = \
         \"10ms\", panic = \"0%\", passive = {{ broken = 3, timeout = 3, protocol = 3, status = \
         3, least = 5, classes = [\"broken\", \"timeout\", \"protocol\", \"status\"] }} }}"
    );
    Config::new([origin.address()])
        .cluster("capacity = 2\nretry = { attempts = 1 }")
        .cluster(&health)
        .cluster(more)
        .start()
}

/// The changes of the server's state that traffic caused, and not probes.
fn falls(juggler: &Juggler) -> Vec<String> {
    let mut changes = changes(juggler, "main/s0");
    changes.retain(|change| change.contains("exchanges"));
    changes
}

#[test]
fn one_client_takes_no_server_offline_whatever_it_asks_for() {
    for mode in ["paranoid", "opportunistic", "lazy"] {
        let origin = server(&Arc::default());
        let juggler = before(&origin, mode, "");
        let mut client = Client::connect(juggler.address());
        eventually(PATIENCE, "in use", || client.get("/").status == 200);
        for wrong in WRONGS {
            for number in 0..12 {
                // The same path repeatedly, and others.
                let path = if number < 6 {
                    wrong.to_owned()
                } else {
                    format!("{wrong}/{number}?x")
                };
                let request =
                    format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
                assert!(client.exchange(request).status >= 500);
            }
        }
        assert_eq!(falls(&juggler), [""; 0], "{mode}");
        // The server was probed instead, and is well.
        wait_for_probes(&origin, 1);
        assert_eq!(
            Client::connect_as(2, juggler.address())
                .get("/")
                .expect(200)
                .text(),
            "good"
        );
        assert!(
            !changes(&juggler, "main/s0")
                .iter()
                .any(|change| change.starts_with("offline")),
            "{mode}"
        );
    }
}

#[test]
fn many_clients_of_one_broken_path_take_no_server_from_others() {
    for wrong in WRONGS {
        let origin = server(&Arc::default());
        let juggler = before(&origin, "lazy", "");
        Client::connect(juggler.address()).get("/").expect(200);
        for number in 2..20 {
            let path = format!("{wrong}/report?{number}");
            assert!(
                Client::connect_as(number, juggler.address())
                    .get(&path)
                    .status
                    >= 500
            );
        }
        assert_eq!(falls(&juggler), [""; 0], "{wrong}");
        Client::connect(juggler.address()).get("/").expect(200);
    }
}

#[test]
fn a_path_that_is_spelt_in_many_ways_is_one() {
    for wrong in WRONGS {
        let origin = server(&Arc::default());
        let juggler = before(&origin, "lazy", "");
        Client::connect(juggler.address()).get("/").expect(200);
        let spellings = (1..7).flat_map(|number| {
            let slashes = "/".repeat(number);
            [
                format!("{wrong}{slashes}report"),
                format!("{wrong};v={number}/%{:X}eport", b'r'),
                format!("{wrong}/{}/..{slashes}report", "x".repeat(number)),
            ]
        });
        for (number, path) in (2..).zip(spellings) {
            assert!(
                Client::connect_as(number, juggler.address())
                    .get(&path)
                    .status
                    >= 500
            );
        }
        assert_eq!(falls(&juggler), [""; 0], "{wrong}");
        Client::connect(juggler.address()).get("/").expect(200);
    }
}

#[test]
fn what_several_see_at_several_paths_takes_a_server_offline_at_once() {
    for wrong in WRONGS {
        let origin = server(&Arc::default());
        let juggler = before(&origin, "lazy", "");
        Client::connect(juggler.address()).get("/").expect(200);
        // A connection that breaks after it has served may have been closed while idle. That does
        // not count.
        for number in 2..10 {
            Client::connect_as(number, juggler.address()).get(&format!("{wrong}/{number}"));
        }
        juggler.wait_for_log("main/s0 is offline: 3 exchanges in a row failed");
        assert_eq!(probes(&origin), 0);
    }
}

#[test]
fn of_a_server_that_one_client_finds_ill_a_probe_decides_also_with_lazy() {
    let ill = Arc::new(AtomicBool::new(false));
    let origin = server(&ill);
    let juggler = before(&origin, "lazy", "");
    let mut client = Client::connect(juggler.address());
    client.get("/").expect(200);
    ill.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        client.get("/error");
    }
    juggler.wait_for_log(
        "main/s0 is offline: 2 probes failed, the last: the server answered with an error",
    );
    assert_eq!(falls(&juggler), [""; 0]);
}

/// A key that every client chooses for itself does not make two clients of one.
#[test]
fn a_cookie_makes_no_client_another() {
    let origin = server(&Arc::default());
    let juggler = before(&origin, "lazy", "client_key = \"cookie:id\"");
    let mut client = Client::connect(juggler.address());
    for number in 0..20 {
        let request =
            format!("GET /error/{number} HTTP/1.1\r\nHost: a\r\nCookie: id={number}\r\n\r\n");
        client.exchange(request).expect(500);
    }
    wait_for_probes(&origin, 1);
    assert_eq!(falls(&juggler), [""; 0]);
}
