//! Error pages of the operator: one for every status that the balancer makes, the cluster's before
//! the listener's.

use std::fmt::Write as _;
use std::time::Duration;

use crate::support::{Client, Config, Gate, Juggler, Origin, Response, Start};

/// Every status of the balancer's own answers to failures.
const ALL: [u16; 14] = [
    400, 404, 405, 408, 413, 414, 417, 431, 500, 501, 502, 503, 504, 505,
];

fn pages(which: &str, statuses: &[u16]) -> String {
    let mut text = String::from("error_page = [");
    for status in statuses {
        write!(
            text,
            "{{ status = {status}, file = \"{which}\", content_type = \"x/{which}-{status}\" }}, "
        )
        .unwrap();
    }
    text + "]"
}

/// Starts with a page for every status at the listener, and one for these statuses at the cluster.
fn start(config: Config, of_cluster: &[u16]) -> Juggler {
    let mut config = config.listener(&pages("listener", &ALL));
    if !of_cluster.is_empty() {
        config = config.cluster(&pages("cluster", of_cluster));
    }
    Start::config(&config.text())
        .file("listener", "<p>of the listener")
        .file("cluster", "<p>of the cluster")
        .ready()
}

/// Expects the page of `which`.
#[track_caller]
fn is_page(response: &Response, which: &str, status: u16) {
    let response = response.clone().expect(status);
    assert_eq!(
        response.field("content-type"),
        Some(&*format!("x/{which}-{status}")),
        "{status}"
    );
    assert_eq!(response.text(), format!("<p>of the {which}"), "{status}");
}

#[track_caller]
fn answer(juggler: &Juggler, request: &str) -> Response {
    let mut client = Client::connect(juggler.address());
    client.send(request);
    client.read_response()
}

/// A server that does what the path says.
fn wicked(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.as_str() {
                "/hang" => return gate.wait(),
                "/garbage" => return conn.send("garbage\r\n\r\n"),
                _ => conn.answer(200, "fine"),
            }
        }
    })
}

#[test]
fn what_fails_before_a_route_is_chosen_has_the_listeners_page() {
    let origin = Origin::answering("fine");
    let config = Config::new([origin.address()])
        .listener("timeout = { header = \"150ms\" }")
        .cluster(&pages("cluster", &[400, 408, 413, 431, 503]));
    // The only route is for one host.
    let text = config.listener(&pages("listener", &ALL)).text();
    let text = text.replace("[[route]]\n", "[[route]]\nhost = \"here\"\n");
    let juggler = Start::config(&text)
        .file("listener", "<p>of the listener")
        .file("cluster", "<p>of the cluster")
        .ready();
    let long = "x".repeat(9000);
    let fields = "a: b\r\n".repeat(200);
    for (status, request) in [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (400, "nonsense\r\n\r\n".to_owned()),
        (400, "\x16\x03\x01\x02\x00".to_owned()),
        (404, "GET / HTTP/1.1\r\nHost: elsewhere\r\n\r\n".to_owned()),
        (408, "GET / HTTP/1.1\r\nHo".to_owned()),
        (414, format!("GET /{long} HTTP/1.1\r\nHost: here\r\n\r\n")),
        (
            417,
            "POST / HTTP/1.1\r\nHost: here\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\n"
                .to_owned(),
        ),
        (431, format!("GET / HTTP/1.1\r\nHost: here\r\n{fields}\r\n")),
        (
            501,
            "POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: zip, chunked\r\n\r\n".to_owned(),
        ),
        (505, "GET / HTTP/2.0\r\nHost: here\r\n\r\n".to_owned()),
    ] {
        is_page(&answer(&juggler, &request), "listener", status);
    }
    answer(&juggler, "GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect(200);
}

#[test]
fn what_fails_behind_a_route_has_the_clusters_page_or_else_the_listeners() {
    let gate = Gate::new();
    let origin = wicked(&gate);
    for (which, of_cluster) in [
        ("cluster", &[400, 408, 413, 431, 502, 503, 504][..]),
        ("listener", &[]),
    ] {
        let config = Config::new([origin.address()])
            .listener("timeout = { body = \"150ms\" }\nlimit = { body = \"100B\" }")
            .cluster("timeout = { first_byte = \"150ms\" }");
        let juggler = start(config, of_cluster);
        let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let trailers = "a: b\r\n".repeat(200);
        for (status, request) in [
            (400, format!("{chunked}nonsense\r\n")),
            (
                408,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf".to_owned(),
            ),
            (
                413,
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n".to_owned(),
            ),
            (413, format!("{chunked}65\r\n")),
            (431, format!("{chunked}0\r\n{trailers}\r\n")),
            (
                502,
                "POST /garbage HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ),
            (
                504,
                "POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            ),
        ] {
            is_page(&answer(&juggler, &request), which, status);
        }

        let nowhere = start(Config::new(["unix:{dir}/nobody"]), of_cluster);
        is_page(
            &answer(&nowhere, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            which,
            503,
        );
    }
    gate.open();
}

#[test]
fn a_full_house_has_the_clusters_page() {
    let gate = Gate::new();
    let origin = wicked(&gate);
    let config = Config::new([origin.address()]).top("[process]\nmax_requests = 1");
    let juggler = start(config, &[503]);
    let mut held = Client::connect(juggler.address());
    held.send("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    gate.wait_for(1);
    is_page(
        &answer(&juggler, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        "cluster",
        503,
    );
    gate.open();
}

#[test]
fn a_reload_brings_the_listeners_new_page() {
    let origin = Origin::answering("fine");
    let juggler = start(Config::new([origin.address()]), &[]);
    let bad = "GET / HTTP/1.1\r\n\r\n";
    is_page(&answer(&juggler, bad), "listener", 400);
    std::fs::write(juggler.folder().join("listener"), "<p>another").unwrap();
    juggler.signal(nix::sys::signal::Signal::SIGHUP);
    juggler.wait_for_log("reloaded");
    assert_eq!(answer(&juggler, bad).expect(400).text(), "<p>another");
}

#[test]
fn the_health_path_and_redirects_are_no_failures() {
    let origin = Origin::answering("fine");
    let config = Config::new([origin.address()])
        .listener("redirect_https = true\nhealth_path = \"/up\"\ntimeout = { idle = \"5s\" }");
    let juggler = start(config, &[]);
    assert!(
        answer(&juggler, "GET /up HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect(200)
            .text()
            .contains("ok")
    );
    answer(&juggler, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(308);
    is_page(&answer(&juggler, "GET / HTTP/1.0\r\n\r\n"), "listener", 400);
    let head = answer(&juggler, "BREW / HTTP/9.1\r\nHost: a\r\n\r\n");
    is_page(&head, "listener", 505);
    assert!(head.closes());
    // The page is whole, too, on a connection that was idle for a while.
    let mut client = Client::connect(juggler.address());
    client.get("/up").expect(200);
    client.expect_silence(Duration::from_millis(20));
    client.send("nonsense\r\n\r\n");
    is_page(&client.read_response(), "listener", 400);
}
