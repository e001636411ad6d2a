//! What is passed on and how it is changed: bytes in, bytes out.

use crate::support::{Client, Config, Juggler, Origin};

/// A server that sends `answer` to every request, and the balancer with one connection to it and
/// these lines in its listener.
fn saying(answer: impl Into<Vec<u8>>, listener: &str) -> (Origin, Juggler) {
    let answer = answer.into();
    let origin = Origin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send(&answer);
        }
    });
    let juggler = Config::new([origin.address()])
        .listener(listener)
        .cluster("capacity = 1")
        .start();
    (origin, juggler)
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// What the server receives of this request.
#[track_caller]
fn passed_on(origin: &Origin, juggler: &Juggler, request: &str) -> String {
    Client::connect(juggler.address())
        .exchange(request)
        .expect(200);
    let got = String::from_utf8(origin.request().raw).unwrap();
    origin.forget();
    got
}

#[test]
fn a_request_keeps_its_fields_in_their_order_and_spelling() {
    let (origin, juggler) = saying(FINE, "");
    let request = "PUT /a//b/../c;p=1?q=%2f&&r=+#"
        .trim_end_matches('#')
        .to_owned()
        + " HTTP/1.1\r\nx-First: 1\r\nHOST: Example.ORG:8080\r\nAccept: text/html, \
           */*;q=0.1\r\naCCEPT: more\r\nCookie: a=b\r\nX-Between: \"quoted, comma\"; a  \
           b\tc\r\nCookie: c=d\r\nContent-length: 5\r\nX-Empty: \r\nX-Other: \
           gr\u{fc}\u{df}e\r\nVia: 1.0 before\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: \
           for=192.0.2.1\r\nDate: yesterday\r\nAuthorization: Basic eDp5\r\n!#$%&'*+-.^_`|~0: \
           odd\r\n";
    let expected = format!("{request}Connection: keep-alive\r\n\r\nhello");
    assert_eq!(
        passed_on(&origin, &juggler, &format!("{request}\r\nhello")),
        expected
    );
    // The client's own `Connection` does not disturb that.
    let own = format!("{request}Connection: keep-alive\r\n\r\nhello");
    assert_eq!(passed_on(&origin, &juggler, &own), expected);
}

#[test]
fn a_response_keeps_its_fields_in_their_order_and_spelling() {
    let answer = "HTTP/1.1 299 Very  fine (gr\u{fc}n)\r\nserver: x/1\r\nSet-Cookie: a=b; \
                  Path=/\r\nX-Empty: \r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nSET-cookie: \
                  c=d\r\ncontent-LENGTH: 5\r\nVary: *\r\nETag: W/\"x\"\r\nVia: 1.1 \
                  behind\r\nSet-Cookie: e=f\r\n\r\nhello";
    let (_origin, juggler) = saying(answer, "");
    let response = Client::connect(juggler.address()).get("/").expect(299);
    assert_eq!(String::from_utf8(response.raw).unwrap(), answer);
    // The version is the balancer's own. A reason may be missing. Whitespace around a value is not
    // part of it.
    let (_origin, juggler) = saying(
        "HTTP/1.0 200\r\nDate:x\r\nX:  a b\t\r\nContent-Length: 0\r\n\r\n",
        "",
    );
    let response = Client::connect(juggler.address()).get("/").expect(200);
    assert_eq!(
        String::from_utf8(response.raw).unwrap(),
        "HTTP/1.1 200 \r\nDate: x\r\nX: a b\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn what_is_for_one_hop_ends_there() {
    let (origin, juggler) = saying(
        "HTTP/1.1 200 OK\r\nConnection: X-Gone, keep-alive, Set-Cookie\r\nDate: d\r\nX-Gone: \
         1\r\nX-Stays: 1\r\nKeep-Alive: timeout=100\r\nSet-Cookie: a\r\nProxy-Authenticate: \
         Basic\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTrailer: X\r\nconnection: \
         x-gone-2\r\nX-Gone-2: 1\r\nContent-Length: 4\r\n\r\nfine",
        "",
    );
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Gone, TE\r\nX-Gone: 1\r\nTE: \
                   trailers\r\nX-Stays: 1\r\nKeep-Alive: 5\r\nProxy-Connection: \
                   keep-alive\r\nUpgrade: websocket\r\nProxy-Authorization: Basic \
                   eDp5\r\nTrailer: X\r\nConnection: x-gone-2,,\r\nX-gone-2: 1\r\nx-GONE: \
                   2\r\n\r\n";
    let mut client = Client::connect(juggler.address());
    let response = client.exchange(request).expect(200);
    assert_eq!(
        origin.request().head(),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Stays: 1\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(
        String::from_utf8(response.raw).unwrap(),
        "HTTP/1.1 200 OK\r\nDate: d\r\nX-Stays: 1\r\nContent-Length: 4\r\nConnection: \
         close\r\n\r\nfine"
    );
}

#[test]
fn what_decides_framing_and_routing_cannot_be_named_away() {
    let (origin, juggler) = saying(FINE, "");
    let got = passed_on(
        &origin,
        &juggler,
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, \
         x-forwarded-for\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(
        got,
        "POST / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: \
         2\r\nConnection: keep-alive\r\n\r\nhi"
    );
}

#[test]
fn a_missing_date_is_added_and_no_other() {
    let (_origin, juggler) = saying(FINE, "");
    let response = Client::connect(juggler.address()).get("/").expect(200);
    let date = response.field("date").unwrap();
    let told = httpdate::parse_http_date(date).unwrap();
    let age = std::time::SystemTime::now().duration_since(told).unwrap();
    assert!(age.as_secs() < 60, "{date}");
    let raw = String::from_utf8(response.raw.clone()).unwrap();
    assert_eq!(
        raw,
        format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nDate: {date}\r\n\r\nfine")
    );
}

#[test]
fn targets_reach_the_server_in_origin_form() {
    let (origin, juggler) = saying(FINE, "");
    for (line, line_sent, host) in [
        (
            "GET http://b/x?y=/z HTTP/1.1\r\nHost: a",
            "GET /x?y=/z HTTP/1.1",
            "b",
        ),
        (
            "GET HTTPS://B:8080/ HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1",
            "B:8080",
        ),
        ("GET http://b HTTP/1.1\r\nHost: a", "GET / HTTP/1.1", "b"),
        ("GET http://b? HTTP/1.1\r\nHost: a", "GET /? HTTP/1.1", "b"),
        (
            "GET http://b?q HTTP/1.1\r\nHost: b",
            "GET /?q HTTP/1.1",
            "b",
        ),
        (
            "GET http://[::1]:80/ HTTP/1.1\r\nHost: a",
            "GET / HTTP/1.1",
            "[::1]:80",
        ),
        (
            "OPTIONS http://b HTTP/1.1\r\nHost: a",
            "OPTIONS * HTTP/1.1",
            "b",
        ),
        (
            "OPTIONS http://b/ HTTP/1.1\r\nHost: a",
            "OPTIONS / HTTP/1.1",
            "b",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a", "OPTIONS * HTTP/1.1", "a"),
        ("OPTIONS /x HTTP/1.1\r\nHost: a", "OPTIONS /x HTTP/1.1", "a"),
        ("GET http://b/x HTTP/1.0\r\nHost: a", "GET /x HTTP/1.1", "b"),
    ] {
        let got = passed_on(&origin, &juggler, &format!("{line}\r\nX: y\r\n\r\n"));
        assert_eq!(
            got,
            format!("{line_sent}\r\nHost: {host}\r\nX: y\r\nConnection: keep-alive\r\n\r\n"),
            "{line}"
        );
    }
    // HTTP/1.0 may leave the host out. In HTTP/1.1 a server would refuse that.
    let got = passed_on(&origin, &juggler, "GET /x HTTP/1.0\r\nX: y\r\n\r\n");
    assert_eq!(
        got,
        "GET /x HTTP/1.0\r\nX: y\r\nConnection: keep-alive\r\n\r\n"
    );
    let got = passed_on(&origin, &juggler, "GET http://b/x HTTP/1.0\r\nX: y\r\n\r\n");
    assert_eq!(
        got,
        "GET /x HTTP/1.1\r\nHost: b\r\nX: y\r\nConnection: keep-alive\r\n\r\n"
    );
    // The host stays in its place.
    let got = passed_on(
        &origin,
        &juggler,
        "GET http://b/x HTTP/1.1\r\nX: y\r\nhost: a\r\nZ: z\r\n\r\n",
    );
    assert_eq!(
        got,
        "GET /x HTTP/1.1\r\nX: y\r\nhost: b\r\nZ: z\r\nConnection: keep-alive\r\n\r\n"
    );
}

/// A request that claims to come from other clients.
const LIAR: &str = "GET / HTTP/1.1\r\nHost: a:80\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: \
                    for=192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: \
                    evil\r\nx-forwarded-for: 192.0.2.2\r\nX: y\r\n\r\n";

/// The fields that the server receives of [`LIAR`], in order, without those that always come.
#[track_caller]
fn told_by_liar(listener: &str) -> Vec<String> {
    let (origin, juggler) = saying(FINE, listener);
    passed_on(&origin, &juggler, LIAR)
        .lines()
        .filter(|line| {
            line.to_ascii_lowercase().starts_with("x-forwarded-") || line.starts_with("Forwarded")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn servers_are_told_of_clients_as_configured() {
    let ours = [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: a:80",
    ];
    assert_eq!(told_by_liar("forwarded = \"x-forwarded\""), ours);
    assert_eq!(
        told_by_liar("forwarded = { style = \"x-forwarded\", trusted = [\"10.0.0.0/8\"] }"),
        ours,
        "not from a trusted address"
    );
    assert_eq!(
        told_by_liar(
            "forwarded = { style = \"x-forwarded\", mode = \"replace\", trusted = \
             [\"127.0.0.0/8\"] }"
        ),
        ours
    );
    assert_eq!(
        told_by_liar("forwarded = { style = \"x-forwarded\", trusted = [\"127.0.0.1\"] }"),
        [
            "Forwarded: for=192.0.2.1",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: evil",
            "X-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1",
        ]
    );
    let ours = ["Forwarded: for=127.0.0.1;host=\"a:80\";proto=http"];
    assert_eq!(told_by_liar("forwarded = \"rfc7239\""), ours);
    assert_eq!(
        told_by_liar(
            "forwarded = { style = \"rfc7239\", mode = \"replace\", trusted = [\"127.0.0.1\"] }"
        ),
        ours
    );
    assert_eq!(
        told_by_liar("forwarded = { style = \"rfc7239\", trusted = [\"127.0.0.1\"] }")
            .last()
            .unwrap(),
        "Forwarded: for=192.0.2.1, for=127.0.0.1;host=\"a:80\";proto=http"
    );
    assert_eq!(told_by_liar("forwarded = \"off\"").len(), 5, "off is off");
}

#[test]
fn via_names_us_both_ways() {
    let (origin, juggler) = saying(
        "HTTP/1.1 200 OK\r\nVia: 1.1 inner\r\nDate: d\r\nContent-Length: 4\r\n\r\nfine",
        "via = \"gate\"",
    );
    let mut client = Client::connect(juggler.address());
    let response = client
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 outer\r\n\r\n")
        .expect(200);
    assert_eq!(response.all("via"), ["1.1 inner", "1.1 gate"]);
    assert_eq!(origin.request().all("via"), ["1.0 outer", "1.1 gate"]);
    origin.forget();
    Client::connect(juggler.address())
        .exchange("GET / HTTP/1.0\r\n\r\n")
        .expect(200);
    assert_eq!(origin.request().all("via"), ["1.0 gate"]);
}

#[test]
fn requests_get_a_number_unless_they_have_one() {
    let (origin, juggler) = saying(FINE, "request_id = true");
    let mut client = Client::connect(juggler.address());
    client.get("/1").expect(200);
    client.get("/2").expect(200);
    client
        .exchange("GET /3 HTTP/1.1\r\nHost: a\r\nx-request-ID: mine\r\n\r\n")
        .expect(200);
    let ids: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.all("x-request-id").join(" and "))
        .collect();
    assert_eq!(ids[2], "mine");
    for id in &ids[..2] {
        assert!(
            id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn hosts_and_paths_lead_to_their_clusters() {
    let names = ["any", "deep", "exact", "wild", "host-path"];
    let origins = names.map(Origin::answering);
    let mut config = String::from("[[listener]]\nname = \"main\"\nbind = [\"127.0.0.1:0\"]\n");
    for (name, origin) in names.iter().zip(&origins) {
        config += &format!(
            "[[cluster]]\nname = \"{name}\"\ncapacity = 1\n  [[cluster.server]]\n  address = \
             \"{}\"\n",
            origin.address()
        );
    }
    for (host, path, cluster) in [
        ("", "/only", "any"),
        ("", "/only/deep/er", "deep"),
        ("exact.example.org", "/", "exact"),
        ("*.example.org", "/", "wild"),
        ("exact.example.org", "/p", "host-path"),
    ] {
        let host = if host.is_empty() {
            String::new()
        } else {
            format!("host = [\"{host}\"]\n")
        };
        config += &format!("[[route]]\n{host}path = \"{path}\"\ncluster = \"{cluster}\"\n");
    }
    let juggler = Juggler::start(&config);
    let mut client = Client::connect(juggler.address());
    for (host, target, answer) in [
        ("x", "/only", "any"),
        ("x", "/only/", "any"),
        ("x", "/only?a", "any"),
        ("x", "/only/deep", "any"),
        ("x", "/only/deep/er", "deep"),
        ("x", "/only/deep/er/est", "deep"),
        ("x", "/only/deep/erst", "any"),
        ("x", "/onlyx", ""),
        ("x", "/", ""),
        ("example.org", "/", ""),
        ("exact.example.org", "/", "exact"),
        ("EXACT.Example.org.:80", "/only", "exact"),
        ("exact.example.org", "/p/q", "host-path"),
        ("exact.example.org", "/pq", "exact"),
        ("a.b.example.org:443", "/p", "wild"),
        ("x", "http://exact.example.org/p", "host-path"),
        ("x", "http://a.example.org", "wild"),
        ("exact.example.org", "http://x/only", "any"),
    ] {
        let response = client.exchange(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        if answer.is_empty() {
            let text = response.expect(404).text();
            assert!(text.contains("no route"), "{host} {target}: {text}");
        } else {
            assert_eq!(response.expect(200).text(), answer, "{host} {target}");
        }
    }
    // A question about the server as a whole goes to the root.
    client
        .exchange("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect(404);
    let whole = client.exchange("OPTIONS * HTTP/1.1\r\nHost: exact.example.org\r\n\r\n");
    assert_eq!(whole.expect(200).text(), "exact");
    let whole = client.exchange("OPTIONS http://exact.example.org HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(whole.expect(200).text(), "exact");
}
