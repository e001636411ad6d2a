//! Hosts: a malformed one is refused, and equal ones are equal in every spelling. Also the number
//! of hops that a request may take.

use crate::support::{Client, Config, Juggler, Origin};

fn secret() -> (Origin, Origin, Juggler) {
    let (rest, secret) = (Origin::answering("rest"), Origin::answering("secret"));
    let juggler = Juggler::start(&format!(
        "[[listener]]\nname = \"main\"\nbind = [\"127.0.0.1:0\"]\n[[route]]\ncluster = \
         \"rest\"\n[[route]]\nhost = [\"secret.example\", \"*.secret.example\", \
         \"[2001:db8::1]\"]\ncluster = \"secret\"\n[[cluster]]\nname = \"rest\"\ncapacity = \
         1\nserver = [{{ address = \"{}\" }}]\n[[cluster]]\nname = \"secret\"\ncapacity = \
         1\nserver = [{{ address = \"{}\" }}]\n",
        rest.address(),
        secret.address()
    ));
    (rest, secret, juggler)
}

#[test]
fn what_is_no_host_passes_no_route() {
    let (rest, secret, juggler) = secret();
    // A name that is too long for one rule must not match the rule behind it.
    let [long, longer] =
        [254, 300].map(|length| format!("{}secret.example", "a.".repeat((length - 14) / 2)));
    for host in [
        &*long,
        &*longer,
        &format!("{longer}."),
        &format!("{longer}:80"),
        "secret%2eexample",
        "%73ecret.example",
        "secret.example..",
        ".secret.example",
        "secret..example",
        ".",
        "..",
        "secret.example:65536",
        "secret.example:80:80",
        "secret.example:x",
        "user@secret.example",
        "user:pass@secret.example",
        "secret.example;x",
        "secret.example,rest.example",
        "secret.example*",
        "(secret.example)",
        "[2001:db8::1%25lo]",
        "[2001:db8::1].",
        "2001:db8::1",
        "secret.example/",
        "secret.example?",
        "\"secret.example\"",
    ] {
        for request in [
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nHost: rest.example\r\n\r\n"),
        ] {
            // In a target, the part behind a slash or question mark does not belong to the host.
            if request.starts_with("GET http") && host.ends_with(['/', '?']) {
                continue;
            }
            let mut client = Client::connect(juggler.address());
            assert_eq!(client.exchange(&request).status, 400, "{request}");
            client.expect_closed();
        }
    }
    assert!(rest.requests().is_empty() && secret.requests().is_empty());
}

#[test]
fn a_host_is_the_same_in_every_spelling() {
    let (_rest, _secret, juggler) = secret();
    let mut client = Client::connect(juggler.address());
    for (host, server) in [
        ("secret.example", "secret"),
        ("SECRET.example.", "secret"),
        ("secret.example.:80", "secret"),
        ("secret.example:", "secret"),
        ("[2001:db8::1]", "secret"),
        ("[2001:DB8:0:0::1]:80", "secret"),
        ("[2001:0db8:0000:0000:0000:0000:0000:0001]", "secret"),
        ("[2001:db8::0.0.0.1]", "secret"),
        (&*format!("{}secret.example", "a.".repeat(119)), "secret"),
        ("[2001:db8::2]", "rest"),
        ("my_host.example", "rest"),
        ("10.0.0.1:65535", "rest"),
    ] {
        let response = client.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.expect(200).text(), server, "{host}");
    }
}

#[test]
fn an_empty_host_is_none() {
    let (rest, secret, juggler) = secret();
    for request in [
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \t\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.0\r\nHost:\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n",
    ] {
        let mut client = Client::connect(juggler.address());
        assert_eq!(client.exchange(request).status, 400, "{request}");
        client.expect_closed();
    }
    assert!(rest.requests().is_empty() && secret.requests().is_empty());
}

#[test]
fn an_old_client_that_names_no_host_gets_none_made_up() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .listener("forwarded = \"x-forwarded\"")
        .start();
    for _ in 0..2 {
        let response = Client::connect(juggler.address())
            .exchange("GET /x HTTP/1.0\r\nX: y\r\n\r\n")
            .expect(200);
        assert_eq!(response.text(), "fine");
        let got = origin.request();
        // In HTTP/1.1 a server would have to refuse this.
        assert_eq!(
            got.head(),
            "GET /x HTTP/1.0\r\nX: y\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: \
             http\r\nConnection: keep-alive\r\n\r\n"
        );
        // The connection stays.
        assert_eq!(got.connection, 0);
        origin.forget();
    }
    let post = "POST /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi";
    Client::connect(juggler.address())
        .exchange(post)
        .expect(200);
    let got = origin.request();
    assert_eq!(
        (got.minor, got.body.as_slice(), got.all("host")),
        (0, &b"hi"[..], vec![])
    );
    origin.forget();
    Client::connect(juggler.address()).get("/").expect(200);
    assert_eq!(
        (origin.request().minor, origin.request().connection),
        (1, 0)
    );
}

#[test]
fn hops_are_counted() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    for (method, target) in [("OPTIONS", "/x"), ("OPTIONS", "*"), ("TRACE", "/x")] {
        for (sent, left) in [
            ("1", "0"),
            ("7", "6"),
            ("007", "6"),
            ("99999999999999999999", "18446744073709551614"),
        ] {
            client
                .exchange(format!(
                    "{method} {target} HTTP/1.1\r\nHost: a\r\nmax-Forwards: {sent}\r\nX: y\r\n\r\n"
                ))
                .expect(200);
            let expected = format!(
                "{method} {target} HTTP/1.1\r\nHost: a\r\nmax-Forwards: {left}\r\nX: \
                 y\r\nConnection: keep-alive\r\n\r\n"
            );
            assert_eq!(origin.request().head(), expected);
            origin.forget();
        }
    }
    // Other methods have no use for the field.
    for line in ["Max-Forwards: 0", "Max-Forwards: x"] {
        client
            .exchange(format!("GET /x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .expect(200);
        assert!(origin.request().head().contains(line));
        origin.forget();
    }
}

#[test]
fn the_last_hop_is_here() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .cluster("capacity = 1")
        .start();
    let mut client = Client::connect(juggler.address());
    for target in ["/x", "*", "http://a"] {
        let options = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n");
        let response = client.exchange(options).expect(200);
        assert!(response.field("allow").unwrap().contains("OPTIONS"));
        assert!(!response.closes());
    }
    let trace = "TRACE /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 00\r\nCookie: secret\r\n\r\n";
    let response = client.exchange(trace).expect(405);
    assert!(!response.field("allow").unwrap().contains("TRACE"));
    assert!(!String::from_utf8(response.raw).unwrap().contains("secret"));
    for wrong in [
        "Max-Forwards: x",
        "Max-Forwards:",
        "Max-Forwards: -1",
        "Max-Forwards: 1, 1",
        "Max-Forwards: 1\r\nMax-Forwards: 1",
    ] {
        let mut client = Client::connect(juggler.address());
        let request = format!("OPTIONS /x HTTP/1.1\r\nHost: a\r\n{wrong}\r\n\r\n");
        assert_eq!(client.exchange(&request).status, 400, "{wrong}");
    }
    assert!(origin.requests().is_empty());
}
