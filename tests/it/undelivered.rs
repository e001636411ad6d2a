//! Clients that pipeline for ever and read nothing. What a connection may leave undelivered is
//! bounded: in bytes, in responses, and in places among the requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{
    Authority, Client, Config, Juggler, Origin, PATIENCE, Request, Start, eventually,
};

/// The address space that the program gets. A larger demand ends the process.
const ADDRESS_SPACE: u64 = 256 << 20;

/// How many bytes a client that never reads tries to send.
const FLOOD: usize = 24 << 20;

/// Responds with as many bytes as the path says (`/10`), and counts the responses that are sent
/// whole.
fn sized() -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&count);
    let origin = Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let size = request.target[1..].parse().unwrap_or(2);
            conn.answer(200, vec![b'x'; size]);
            sent.fetch_add(1, Ordering::SeqCst);
        }
    });
    (origin, count)
}

/// Sends the request repeatedly until the balancer takes no more for a moment, or everything is
/// sent. Returns how many bytes went out.
fn flood(client: &mut Client, request: &str) -> usize {
    client.set_patience(Duration::from_millis(700));
    let many = request.repeat((64 << 10) / request.len());
    let mut sent = 0;
    while sent < FLOOD && client.try_send(&many).is_ok() {
        sent += many.len();
    }
    sent
}

/// The program with a listener of each kind, in an address space that is soon used up.
fn small(origin: &Origin) -> Juggler {
    let config = Config::new([origin.address()])
        .top(
            "[process]\nmax_sessions = 100\nsummary = \"1s\"\n[buffers]\nregion = \
             \"8MiB\"\n[spool]\nfolder = \"{dir}\"\nlimit = \"64MiB\"",
        )
        .listener("health_path = \"/up\"")
        .cluster("capacity = 2")
        .rest(
            "[[listener]]\nname = \"redirect\"\nbind = [\"127.0.0.1:0\"]\nredirect_https = \
             true\n[[route]]\nhost = \"known.test\"\npath = \"/x\"\ncluster = \"main\"\n",
        )
        .text();
    Start::config(&config)
        .environment("MALLOC_ARENA_MAX", "1")
        .by(["prlimit", &format!("--as={ADDRESS_SPACE}")])
        .ready()
}

#[test]
fn a_client_that_never_reads_what_it_asks_for_costs_little_memory() {
    let (origin, _) = sized();
    let mut juggler = small(&origin);
    let kinds = [
        ("redirect", "GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
        ("main", "GET /up HTTP/1.1\r\nHost:a\r\n\r\n"),
        ("main", "GET /10 HTTP/1.1\r\nHost:a\r\n\r\n"),
        ("main", "OPTIONS * HTTP/1.1\r\nHost:a\r\n\r\n"),
    ];
    let mut clients = Vec::new();
    for (listener, request) in kinds {
        let mut client = Client::connect(juggler.address_of(listener));
        client.small_receive_buffer();
        let sent = flood(&mut client, request);
        assert!(sent < FLOOD, "{request:?}: everything was read");
        clients.push(client);
    }
    assert!(juggler.is_running());
    let rss = juggler.rss_kib();
    assert!(rss < 64 << 10, "{rss} KiB in use");
    let mut other = Client::connect(juggler.address_of("main"));
    other.get("/10").expect(200);
}

#[test]
fn a_second_large_response_is_not_fetched_before_the_first_is_taken() {
    let (origin, count) = sized();
    let juggler = Config::new([origin.address()])
        .top("[spool]\nfolder = \"{dir}\"")
        .cluster("capacity = 2")
        .start();
    let mut client = Client::connect(juggler.address());
    client.receive_buffer(128 << 10);
    let size = 16 << 20;
    client.send(format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(50));
    eventually(PATIENCE, "the server has sent the first", || {
        count.load(Ordering::SeqCst) > 0
    });
    for _ in 0..20 {
        Client::connect(juggler.address()).get("/5").expect(200);
    }
    let is_large = |request: &&Request| request.target == format!("/{size}");
    let large = origin.requests().iter().filter(is_large).count();
    assert_eq!(large, 1, "large responses that were requested");
    // All of them come when the client reads, in their order and whole.
    for _ in 0..3 {
        assert_eq!(client.read_response().expect(200).body.len(), size);
    }
}

#[test]
fn a_client_that_never_reads_takes_one_place_among_the_requests_at_once() {
    let (origin, _) = sized();
    let juggler = Config::new([origin.address()])
        .top("[process]\nmax_requests = 8\n[spool]\nfolder = \"{dir}\"")
        .cluster("capacity = 2")
        .rest("[[listener]]\nname = \"other\"\nbind = [\"127.0.0.1:0\"]\n")
        .start();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(juggler.address_of("main"));
        client.small_receive_buffer();
        assert!(flood(&mut client, "GET /10 HTTP/1.1\r\nHost: a\r\n\r\n") < FLOOD);
        clients.push(client);
    }
    for listener in ["main", "other"] {
        for _ in 0..10 {
            Client::connect(juggler.address_of(listener))
                .get("/10")
                .expect(200);
        }
    }
}

#[test]
fn over_tls_too_a_client_that_never_reads_costs_little() {
    let (origin, count) = sized();
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = authority.issue(&["localhost"]).write(folder.path(), "a");
    let juggler = Config::new([origin.address()])
        .top("[spool]\nfolder = \"{dir}\"")
        .listener(&format!(
            "tls = {{ certificates = [{{ chain = {chain:?}, key = {key:?} }}] }}"
        ))
        .cluster("capacity = 2")
        .start();
    let mut client = Client::tls(juggler.address(), &authority.client(), "localhost");
    client.small_receive_buffer();
    // The kernel's buffers hold some 3000 of these.
    assert!(flood(&mut client, "GET /1000 HTTP/1.1\r\nHost: a\r\n\r\n") < FLOOD);
    let asked = count.load(Ordering::SeqCst);
    assert!(
        asked < 6000,
        "{asked} requests were served whose responses are not read"
    );
    let mut other = Client::tls(juggler.address(), &authority.client(), "localhost");
    other.get("/10").expect(200);
}

#[test]
fn a_client_that_reads_late_gets_every_response() {
    let (origin, _) = sized();
    let juggler = Config::new([origin.address()])
        .top("[spool]\nfolder = \"{dir}\"")
        .cluster("capacity = 2")
        .start();
    let mut client = Client::connect(juggler.address());
    client.receive_buffer(128 << 10);
    // More than the sockets hold, so that responses lie undelivered beyond the bound.
    let sizes: Vec<usize> = (0..200).map(|number| 10_000 + number).collect();
    let requests: String = sizes
        .iter()
        .map(|size| format!("GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(requests);
    for size in sizes {
        assert_eq!(client.read_response().expect(200).body.len(), size);
    }
    client.get("/5").expect(200);
}
