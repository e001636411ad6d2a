//! Fields whose names a server may take for others: CGI, WSGI and PHP do not tell `_` from `-`.

use crate::support::{Client, Config, Juggler, Origin};

/// A server, and the balancer before it with these lines in its listener.
fn start(listener: &str) -> (Origin, Juggler) {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .listener(listener)
        .cluster("capacity = 1")
        .start();
    (origin, juggler)
}

/// The names of the fields that the server receives of a request with these lines, without Host and
/// Connection.
#[track_caller]
fn received(listener: &str, lines: &[&str]) -> Vec<String> {
    let (origin, juggler) = start(listener);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n",
        lines.join("\r\n")
    );
    Client::connect(juggler.address())
        .exchange(request)
        .expect(200);
    let names = origin.request().fields.into_iter().map(|(name, value)| {
        if lines
            .iter()
            .any(|line| line.starts_with(&format!("{name}:")))
            && !value.contains("127.0.0.1")
        {
            format!("{name} of the client")
        } else {
            name
        }
    });
    names
        .filter(|name| name != "Host" && name != "Connection")
        .collect()
}

/// A chunked request with this trailer line.
fn with_trailer(line: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \
         chunked\r\n\r\n2\r\nhi\r\n0\r\n{line}\r\n\r\n"
    )
}

/// Names that some server takes for a field of framing or of this connection alone.
const FRAMING: &[&str] = &[
    "Content_Length",
    "content--length",
    "Content#-Length",
    "Content.Length",
    "CONTENT-_-LENGTH",
    "Transfer_Encoding",
    "transfer'encoding",
    "Transfer-_Encoding",
    "Keep_Alive",
    "Proxy_Connection",
    "Proxy~Authorization",
    "proxy__authenticate",
];

#[test]
fn a_field_that_looks_like_framing_is_refused() {
    let (origin, juggler) = start("");
    for name in FRAMING {
        for value in ["9", "chunked"] {
            let mut client = Client::connect(juggler.address());
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n{name}: {value}\r\n\r\nhi"
            ));
            assert_eq!(client.read_response().status, 400, "{name}");
            client.expect_closed();
        }
    }
    assert!(origin.requests().is_empty());
}

#[test]
fn a_trailer_that_looks_like_framing_is_refused() {
    let (origin, juggler) = start("");
    for name in FRAMING.iter().chain(&[
        "X_Forwarded_For",
        "X-Real-IP",
        "X_Real_IP",
        "Content_Type",
        "X-Forwarded-Port",
    ]) {
        let mut client = Client::connect(juggler.address());
        client.send(with_trailer(&format!("{name}: 9")));
        assert_eq!(client.read_response().status, 400, "{name}");
        client.expect_closed();
    }
    assert!(origin.requests().is_empty());
    // Names without a look-alike go through.
    Client::connect(juggler.address())
        .exchange(with_trailer("X_Sum: 9"))
        .expect(200);
    assert_eq!(
        origin.request().trailers,
        [("X_Sum".to_owned(), "9".to_owned())]
    );
}

#[test]
fn a_response_may_have_such_fields() {
    let origin = Origin::start(|conn, _| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nContent_Length: 9\r\nX_Forwarded_For: x\r\nContent-Length: \
                 4\r\n\r\nfine",
            );
        }
    });
    let juggler = Config::new([origin.address()])
        .listener("forwarded = \"x-forwarded\"\nunderscore_fields = \"refuse\"")
        .start();
    let response = Client::connect(juggler.address()).get("/").expect(200);
    assert_eq!(
        (response.field("content_length"), response.text()),
        (Some("9"), "fine".to_owned())
    );
}

/// Fields that an untrusted client may not send where the listener sets them.
const NAMING: &[&str] = &[
    "X_Forwarded_For: 6.6.6.6",
    "X-Forwarded-For: 6.6.6.6",
    "x_forwarded-proto: https",
    "X.Forwarded.Host: evil",
    "X-Forwarded__Host: evil",
    "X-Forwarded-Port: 6",
    "X-Forwarded-Server: evil",
    "x-forwarded-prefix: /evil",
    "X-Forwarded-Ssl: on",
    "X_FORWARDED_SSL: on",
    "X-Forwarded-Anything: evil",
    "X-Real-IP: 6.6.6.6",
    "X_Real_IP: 6.6.6.6",
    "x-real--ip: 6.6.6.6",
    "Forwarded: for=6.6.6.6",
];

#[test]
fn an_untrusted_client_names_no_other_client() {
    let lines = [NAMING, &["X-Stays: 1", "X-Forwarde: 1", "X-Real-IPv6: 1"]].concat();
    let stays = [
        "X-Stays of the client",
        "X-Forwarde of the client",
        "X-Real-IPv6 of the client",
    ];
    for (listener, ours) in [
        (
            "forwarded = \"x-forwarded\"",
            &["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"][..],
        ),
        (
            "forwarded = { style = \"x-forwarded\", trusted = [\"10.0.0.0/8\"] }",
            &["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"],
        ),
        (
            "forwarded = { style = \"rfc7239\", mode = \"replace\", trusted = [\"127.0.0.1\"] }",
            &["Forwarded"],
        ),
    ] {
        assert_eq!(
            received(listener, &lines),
            [&stays[..], ours].concat(),
            "{listener}"
        );
    }
    // Where the listener sets no field, the client's fields pass.
    let off = received("", &lines);
    assert_eq!(off.len(), lines.len(), "{off:?}");
}

#[test]
fn a_trusted_client_is_believed_but_not_its_look_alikes() {
    let listener = "forwarded = { style = \"x-forwarded\", trusted = [\"127.0.0.1\"] }";
    assert_eq!(
        received(listener, NAMING),
        [
            "X-Forwarded-Port of the client",
            "X-Forwarded-Server of the client",
            "x-forwarded-prefix of the client",
            "X-Forwarded-Ssl of the client",
            "X-Forwarded-Anything of the client",
            "X-Real-IP of the client",
            "Forwarded of the client",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
        ]
    );
}

#[test]
fn connection_cannot_take_away_what_a_trusted_proxy_said() {
    let listener = "forwarded = { style = \"x-forwarded\", trusted = [\"127.0.0.1\"] }";
    let (origin, juggler) = start(listener);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 192.0.2.1\r\nX-Forwarded-Port: \
                   443\r\nConnection: x-real-ip, x-forwarded-port\r\n\r\n";
    Client::connect(juggler.address())
        .exchange(request)
        .expect(200);
    let got = origin.request();
    assert_eq!(
        (got.field("x-real-ip"), got.field("x-forwarded-port")),
        (Some("192.0.2.1"), Some("443"))
    );
}

#[test]
fn a_request_number_of_ours_has_no_double() {
    let lines = ["X_Request_Id: evil", "X-Request--Id: evil", "X_Y: 1"];
    assert_eq!(
        received("request_id = true", &lines),
        ["X_Y of the client", "X-Request-Id"]
    );
    assert_eq!(received("", &lines).len(), 3);
}

#[test]
fn further_fields_can_be_kept_from_clients() {
    let lines = [
        "X-Client-Cert: evil",
        "X_Client_Cert: evil",
        "x-client-CERT: evil",
        "X-Client-Certs: 1",
    ];
    let strip = "strip = [\"X-Client-Cert\"]";
    for style in ["off", "x-forwarded"] {
        let found = received(
            &format!("forwarded = {{ style = \"{style}\", {strip} }}"),
            &lines,
        );
        assert_eq!(found[0], "X-Client-Certs of the client", "{found:?}");
        let trusted =
            format!("forwarded = {{ style = \"{style}\", {strip}, trusted = [\"127.0.0.1\"] }}");
        let found = received(&trusted, &lines);
        assert_eq!(
            found[..3],
            [
                "X-Client-Cert of the client",
                "x-client-CERT of the client",
                "X-Client-Certs of the client"
            ]
        );
    }
    let (origin, juggler) = start(&format!("forwarded = {{ style = \"off\", {strip} }}"));
    for name in ["X-Client-Cert", "X_CLIENT_CERT"] {
        Client::connect(juggler.address())
            .exchange(with_trailer(&format!("{name}: evil\r\nX-Sum: 1")))
            .expect(200);
        assert_eq!(
            origin.request().trailers,
            [("X-Sum".to_owned(), "1".to_owned())],
            "{name}"
        );
        origin.forget();
    }
}

#[test]
fn other_odd_names_are_the_operators_choice() {
    let lines = ["X_A: 1", "X.B: 1", "X--C: 1", "X-D-: 1"];
    assert_eq!(received("", &lines).len(), 4);
    assert_eq!(received("underscore_fields = \"pass\"", &lines).len(), 4);
    assert_eq!(
        received("underscore_fields = \"drop\"", &lines),
        ["X-D- of the client"]
    );
    let (origin, juggler) = start("underscore_fields = \"refuse\"");
    for line in &lines[..3] {
        for request in [
            format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"),
            with_trailer(line),
        ] {
            let mut client = Client::connect(juggler.address());
            assert_eq!(client.exchange(&request).status, 400, "{request}");
            client.expect_closed();
        }
    }
    assert!(origin.requests().is_empty());
    Client::connect(juggler.address())
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nX-D-: 1\r\n\r\n")
        .expect(200);
    let (origin, juggler) = start("underscore_fields = \"drop\"");
    Client::connect(juggler.address())
        .exchange(with_trailer("X_Sum: 9\r\nX-Sum: 1"))
        .expect(200);
    assert_eq!(
        origin.request().trailers,
        [("X-Sum".to_owned(), "1".to_owned())]
    );
}

/// That the listener replaces a trusted client's field is no reason to trust that client less.
#[test]
fn a_trusted_client_that_is_replaced_may_send_what_others_may_not() {
    let lines = ["X-Client-Cert: a", "X-Real-IP: b", "X-Other: c"];
    for (trusted, expected) in [
        (
            "127.0.0.1",
            &["X-Client-Cert of the client", "X-Other of the client"][..],
        ),
        ("192.0.2.1", &["X-Other of the client"][..]),
    ] {
        let listener = format!(
            "forwarded = {{ style = \"x-forwarded\", mode = \"replace\", trusted = \
             [\"{trusted}\"], strip = [\"X-Client-Cert\"] }}"
        );
        let mut names = received(&listener, &lines);
        names.retain(|name| !name.starts_with("X-Forwarded-"));
        assert_eq!(names, expected, "{trusted}");
        let (origin, juggler) = start(&listener);
        Client::connect(juggler.address())
            .exchange(with_trailer("X-Client-Cert: a"))
            .expect(200);
        let is_there = trusted == "127.0.0.1";
        assert_eq!(
            (origin.request().trailers.len() == 1),
            is_there,
            "{trusted}"
        );
    }
}
