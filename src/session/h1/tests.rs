//! A session whose client has sent everything that it will ever send: so no test waits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::base::buffers::BufferPool;
use crate::exchange::{Destination, HubSettings, Promise, Spool};
use crate::filter::forwarded::tests::listener;
use crate::http::RequestHead;
use crate::plan::{ForwardedStyle, ListenerLimit};

use super::*;

/// What was submitted of a request.
#[derive(Debug, Default, PartialEq, Eq)]
struct Submitted {
    head: String,
    body: u64,
    trailers: String,
    added: String,
}

/// Sends everything to one cluster, but what asks for `/here`. No response ever comes.
struct Services {
    promise: ArcSwap<Promise>,
    submitted: Mutex<Vec<Submitted>>,
    cancelled: Mutex<Vec<usize>>,
}

impl Service for Services {
    fn admit(&self, _: &Client, buffer: &[u8], head: &RequestHead) -> Admission {
        if head.path.of(buffer) == b"/here" {
            return Admission::Answer(Answer::health(false));
        }
        let destination = Destination {
            cluster: 7,
            ..Destination::default()
        };
        Admission::Cluster(destination, self.promise.load())
    }

    fn submit(&self, exchange: Exchange) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let request = &exchange.request;
        self.submitted.lock().push(Submitted {
            head: text(request.bytes()),
            body: request.body.length(),
            trailers: text(&request.body.trailers),
            added: text(request.edits.lines()),
        });
        exchange.forget();
    }

    fn cancel(&self, cluster: usize, _: u64) {
        self.cancelled.lock().push(cluster);
    }

    fn error_page(&self, _: usize, _: u16) -> Option<ErrorPage> {
        None
    }
}

/// What became of what a client sent.
struct Outcome {
    received: String,
    submitted: Vec<Submitted>,
    /// Clusters where something was called off.
    cancelled: Vec<usize>,
}

/// Serves a client that sends this and ends its sending side.
fn serve_all(sent: &str) -> Outcome {
    serve_behind(b"", sent, ForwardedStyle::Off)
}

fn serve_behind(first: &[u8], sent: &str, style: ForwardedStyle) -> Outcome {
    let listener = Arc::new(Listener {
        limit: ListenerLimit {
            head: 2048,
            fields: 20,
            target: 1024,
            body: 10_000,
            body_memory: 10_000,
            response_memory: 10_000,
            response_spool: 0,
            min_rate: 0,
            min_upload_rate: 0,
        },
        ..listener(style)
    });
    let settings = HubSettings {
        max_requests: 10,
        max_couriers: 1,
        batch_scheduling: false,
        resolve: Duration::from_secs(1),
    };
    let buffers = BufferPool::new(64 * 1024, 4096);
    let spool = Spool::new(std::env::temp_dir(), 0);
    let hub = Hub::new(settings, Arc::clone(&buffers), spool, None);
    let services = Services {
        promise: ArcSwap::from_pointee(Box::new(()) as Promise),
        submitted: Mutex::default(),
        cancelled: Mutex::default(),
    };
    let (ours, mut clients) = UnixStream::pair().unwrap();
    clients.write_all(sent.as_bytes()).unwrap();
    clients.shutdown(Shutdown::Write).unwrap();
    let greeting = Greeting {
        peer: Some(SocketAddr::from(([192, 0, 2, 1], 1234))),
        is_of_unknown: false,
        first: first.to_vec(),
    };
    serve(
        &hub,
        &services,
        &OpenListener::new(&listener, Arc::default()),
        Stream::Unix(ours),
        greeting,
        None,
        Instant::now(),
    );
    assert_eq!(buffers.in_use(), 0, "everything is given back");
    assert_eq!(hub.in_progress(), 0);
    let mut received = String::new();
    clients.read_to_string(&mut received).unwrap();
    Outcome {
        received,
        submitted: services.submitted.into_inner(),
        cancelled: services.cancelled.into_inner(),
    }
}

fn statuses(received: &str) -> Vec<&str> {
    let lines = received.split("HTTP/1.1 ").skip(1);
    lines.map(|rest| &rest[..3]).collect()
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn a_request_is_submitted_with_what_servers_are_told_of_its_client() {
    let outcome = serve_behind(b"\r\nGET", &GET[3..], ForwardedStyle::XForwarded);
    let submitted = Submitted {
        head: GET.to_owned(),
        added: "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: \
                h\r\n"
            .to_owned(),
        ..Submitted::default()
    };
    assert_eq!(outcome.submitted, [submitted]);
    // Its client leaves before there is a response.
    assert_eq!(outcome.cancelled, [7]);
    assert_eq!(outcome.received, "");
}

#[test]
fn a_body_is_read_whole_before_its_request_is_submitted() {
    let head = "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = format!(
        "1000\r\n{}\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n",
        "y".repeat(4096)
    );
    let outcome = serve_all(&format!("{head}{body}"));
    let submitted = Submitted {
        head: head.to_owned(),
        body: 4097,
        trailers: "A: b\r\n".to_owned(),
        added: String::new(),
    };
    assert_eq!(outcome.submitted, [submitted]);

    let outcome = serve_all(&format!("{head}{}", &body[..body.len() - 1]));
    assert!(outcome.submitted.is_empty(), "the last byte has not come");
    assert_eq!((&*outcome.received, &*outcome.cancelled), ("", &[][..]));
}

#[test]
fn what_the_head_alone_decides_is_answered_here_and_the_next_request_read() {
    let here = "GET /here HTTP/1.1\r\nHost: h\r\n\r\n";
    let outcome = serve_all(&format!("{here}\r\n{here}{GET}"));
    assert_eq!(statuses(&outcome.received), ["200", "200"]);
    assert_eq!(outcome.submitted.len(), 1);
    // A body that nobody reads is no next request.
    let with_body = "PUT /here HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n";
    let outcome = serve_all(&format!("{with_body}{GET}"));
    assert_eq!(statuses(&outcome.received), ["200"]);
    assert!(outcome.received.contains("Connection: close"));
    assert!(outcome.submitted.is_empty());
}

#[test]
fn what_is_no_request_is_refused_and_ends_the_connection() {
    for (sent, status) in [
        ("GET /a HTTP/1.1\r\n\r\n", "400"),
        ("GET /a HTTP/2.0\r\nHost: h\r\n\r\n", "505"),
        ("\u{16}\u{3}\u{1}", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501"),
        ("GET /a HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n", "417"),
        (
            "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10001\r\n\r\n",
            "413",
        ),
        (
            "PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "400",
        ),
    ] {
        let outcome = serve_all(&format!("{sent}{GET}"));
        assert_eq!(statuses(&outcome.received), [status], "{sent}");
        assert!(outcome.received.contains("Connection: close"), "{sent}");
        assert!(outcome.submitted.is_empty(), "{sent}");
    }
    let long = format!(
        "GET /a HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
        "b".repeat(2048)
    );
    assert_eq!(statuses(&serve_all(&long).received), ["431"]);
}

#[test]
fn empty_lines_before_a_request_are_skipped_but_not_any_number() {
    let most = "\r\n".repeat(EMPTY_LINES);
    assert_eq!(serve_all(&format!("{most}{GET}")).submitted.len(), 1);
    let outcome = serve_all(&format!("{most}\r\n{GET}"));
    assert_eq!(statuses(&outcome.received), ["400"]);
}

#[test]
fn a_client_that_asks_for_nothing_gets_nothing() {
    for sent in ["", "\r\n", "\r", "GET /a HT", "GET /a HTTP/1.1\r\nHost"] {
        let outcome = serve_all(sent);
        assert_eq!(outcome.received, "", "{sent:?}");
        assert!(outcome.submitted.is_empty() && outcome.cancelled.is_empty());
    }
}

#[test]
fn a_client_that_expects_it_is_asked_for_a_body_that_has_not_come() {
    let head = "PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(statuses(&serve_all(head).received), ["100"]);
    let outcome = serve_all(&format!("{head}xy"));
    assert_eq!((&*outcome.received, outcome.submitted.len()), ("", 1));
}
