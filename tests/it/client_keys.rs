//! The client key: what an untrusted client says about itself gains nothing, and what a trusted
//! proxy says counts.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::support::station::{Station, get};
use crate::support::{Client, Config, Juggler, Origin, PATIENCE, Start, eventually, eventually_eq};

/// Sends fifty requests over connections from one address, each with the lines that `field` makes
/// for its number, to a queue with room for twenty. Then sends one request of a victim that comes
/// from `from`. Returns how many of the fifty were served, and the victim's status.
#[track_caller]
fn crowd(
    listener: &str,
    key: &str,
    field: impl Fn(usize) -> String,
    from: u8,
    victim_fields: &str,
) -> (usize, u16) {
    let station = Station::start("s0", Duration::ZERO);
    let juggler = Config::new([station.address()])
        .top("[process]\nsummary = \"1s\"")
        .listener(listener)
        .cluster(&format!(
            "capacity = 1\nclient_key = \"{key}\"\nqueue = {{ limit = 20 }}"
        ))
        .start();
    station.wait_for_connections(1);
    let mut busy = Client::connect(juggler.address());
    busy.send(get("/held", ""));
    eventually_eq("at work", 1, || station.total().now);
    let send = |number: usize| {
        let mut client = Client::connect(juggler.address());
        client.send(get("/crowd", &field(number)));
        client.split().0
    };
    let crowd: Vec<_> = (0..50).map(send).collect();
    // Each of them waits or has its response.
    let refused = || {
        let has_answer = |stream: &&TcpStream| {
            stream.set_nonblocking(true).unwrap();
            stream.peek(&mut [0]).is_ok()
        };
        crowd.iter().filter(has_answer).count()
    };
    eventually(PATIENCE, "all wait or are refused", || {
        let queued = format!(", {} queued", 50 - refused());
        juggler.log().iter().any(|line| line.contains(&queued))
    });
    let queued = format!(", {} queued", 51 - refused());
    let mut victim = coming_from(from, &juggler.address());
    victim.send(get("/victim", victim_fields));
    let answer = thread::spawn(move || victim.read_response().status);
    eventually(PATIENCE, "the victim waits or is refused", || {
        answer.is_finished() || juggler.log().iter().any(|line| line.contains(&queued))
    });
    station.gate().open();
    busy.read_response().expect(200);
    let answered = crowd.into_iter().map(|stream| {
        stream.set_nonblocking(false).unwrap();
        Client::from_tcp(stream).read_response().status
    });
    let served = answered.filter(|status| *status == 200).count();
    (served, answer.join().unwrap())
}

/// A connection from 127.0.0.N.
fn coming_from(last: u8, address: &str) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&std::net::SocketAddr::from(([127, 0, 0, last], 0)).into())
        .unwrap();
    socket
        .connect(&address.parse::<std::net::SocketAddr>().unwrap().into())
        .unwrap();
    Client::from_tcp(socket.into())
}

#[test]
fn a_client_that_names_itself_anew_each_time_has_one_part_of_the_queue() {
    let anew = |number: usize| format!("X-Real-IP: 192.0.2.{number}\r\n");
    assert_eq!(crowd("", "field:X-Real-IP", anew, 9, ""), (11, 200));
    let elsewhere = "forwarded = { style = \"off\", trusted = [\"10.0.0.0/8\", \"unix\"] }";
    assert_eq!(
        crowd(
            elsewhere,
            "field:X-Real-IP",
            anew,
            9,
            "X-Real-IP: 192.0.2.1\r\n"
        ),
        (11, 200)
    );
}

#[test]
fn nor_does_a_fresh_cookie_each_time_gain_anything() {
    let anew = |number: usize| format!("Cookie: id={number}\r\n");
    assert_eq!(crowd("", "cookie:id", anew, 9, ""), (11, 200));
}

#[test]
fn an_untrusted_client_cannot_take_anothers_name_by_a_forwarded_field() {
    let anew = |number: usize| format!("X-Forwarded-For: 192.0.2.{number}\r\n");
    let listener = "forwarded = { style = \"x-forwarded\", trusted = [\"10.0.0.0/8\"] }";
    assert_eq!(crowd(listener, "address", anew, 9, ""), (11, 200));
}

#[test]
fn clients_behind_a_trusted_proxy_each_have_a_part() {
    let noisy = |_| "X-User: a\r\n".to_owned();
    let listener = "forwarded = { style = \"off\", trusted = [\"127.0.0.0/8\"] }";
    assert_eq!(
        crowd(listener, "field:X-User", noisy, 1, "X-User: b\r\n"),
        (11, 200)
    );
    // A proxy puts its line behind those of its client.
    let noisy = |number: usize| format!("X-User: {number}\r\nX-User: a\r\n");
    assert_eq!(
        crowd(listener, "field:X-User", noisy, 1, "X-User: b\r\n"),
        (11, 200)
    );
    let listener = "forwarded = { style = \"x-forwarded\", trusted = [\"127.0.0.0/8\"] }";
    // Only what the proxy itself has added counts. Everything left of that comes from the client.
    let noisy = |number: usize| format!("X-Forwarded-For: 6.6.6.{number}, 192.0.2.1\r\n");
    assert_eq!(
        crowd(
            listener,
            "address",
            noisy,
            1,
            "X-Forwarded-For: 192.0.2.2\r\n"
        ),
        (11, 200)
    );
    let listener = "forwarded = { style = \"rfc7239\", trusted = [\"127.0.0.0/8\"] }";
    let noisy = |number: usize| {
        format!(
            "Forwarded: for=6.6.6.{number}\r\nForwarded: proto=http;for=192.0.2.1, \
             for=127.0.0.3\r\n"
        )
    };
    assert_eq!(
        crowd(
            listener,
            "address",
            noisy,
            1,
            "Forwarded: for=192.0.2.2\r\n"
        ),
        (11, 200)
    );
    // A quote that the client leaves open hides nothing of what the proxy has added.
    let noisy = |_| "Forwarded: for=\", for=192.0.2.1\r\n".to_owned();
    let victim = "Forwarded: for=\", for=192.0.2.2\r\n";
    assert_eq!(crowd(listener, "address", noisy, 1, victim), (11, 200));
}

/// What `check` reports about this configuration.
fn check(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("juggler.toml");
    std::fs::write(&file, text).unwrap();
    let output = Juggler::run(["check".as_ref(), "--config".as_ref(), file.as_os_str()]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_key_that_no_peer_may_send_is_warned_of() {
    let text = |listener: &str, cluster: &str| {
        Config::new(["127.0.0.1:1"])
            .listener(&format!(
                "bind = [\"127.0.0.1:8080\", \"unix:/run/x.sock\"]\n{listener}"
            ))
            .cluster(cluster)
            .text()
    };
    let warning = "no listener trusts anybody";
    for key in ["field:X-Real-IP", "cookie:id"] {
        let cluster = format!("client_key = \"{key}\"");
        let said = check(&text("", &cluster));
        assert!(
            said.contains("cluster[0].client_key") && said.contains(warning),
            "{said}"
        );
        for trusted in ["10.0.0.0/8", "unix"] {
            let listener = format!("forwarded = {{ style = \"off\", trusted = [\"{trusted}\"] }}");
            assert!(
                !check(&text(&listener, &cluster)).contains(warning),
                "{trusted}"
            );
        }
        // The key chooses the server, whichever peer sends it.
        let said = check(&text("", &format!("{cluster}\nscheduler = \"rendezvous\"")));
        assert!(!said.contains(warning), "{said}");
    }
    assert!(!check(&text("", "")).contains(warning));
    for (list, warned) in [
        ("[\"10.0.0.0/8\"]", true),
        ("[\"10.0.0.0/8\", \"unix\"]", false),
        ("[]", false),
    ] {
        let said = check(&text(&format!("proxy_protocol = {list}"), ""));
        assert_eq!(
            said.contains("listener[0].proxy_protocol"),
            warned,
            "{said}"
        );
    }
    let tcp = Config::new(["127.0.0.1:1"])
        .listener("forwarded = { style = \"x-forwarded\", trusted = [\"unix\"] }")
        .text();
    assert!(
        check(&tcp).contains("listener[0].forwarded.trusted"),
        "{}",
        check(&tcp)
    );
}

// === Peers over a Unix socket

#[test]
fn a_proxy_over_a_unix_socket_is_believed_if_it_is_trusted() {
    let origin = Origin::answering("fine");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: \
                   https\r\n\r\n";
    for (trusted, told, protocol) in [
        ("\"unix\"", "192.0.2.1, unknown", "https"),
        ("\"127.0.0.1\"", "unknown", "http"),
    ] {
        let juggler = Config::new([origin.address()])
            .listener("bind = [\"unix:{dir}/juggler.sock\"]")
            .listener(&format!(
                "forwarded = {{ style = \"x-forwarded\", trusted = [{trusted}] }}"
            ))
            .start();
        Client::connect(juggler.address())
            .exchange(request)
            .expect(200);
        let got = origin.request();
        assert_eq!(
            (got.field("x-forwarded-for"), got.field("x-forwarded-proto")),
            (Some(told), Some(protocol))
        );
        origin.forget();
    }
}

#[test]
fn clients_over_a_unix_socket_have_a_key_each() {
    let station = Station::start("s0", Duration::ZERO);
    let juggler = Config::new([station.address()])
        .top("[process]\nsummary = \"1s\"")
        .listener("bind = [\"unix:{dir}/juggler.sock\"]")
        .listener("forwarded = { style = \"x-forwarded\", trusted = [\"unix\"] }")
        .cluster("capacity = 1\nqueue = { limit = 20 }")
        .start();
    station.wait_for_connections(1);
    let send = |path: &str, client: &str| {
        let mut through = Client::connect(juggler.address());
        through.send(get(path, &format!("X-Forwarded-For: {client}\r\n")));
        through
    };
    let mut busy = send("/held", "192.0.2.9");
    eventually_eq("at work", 1, || station.total().now);
    let mut waiting: Vec<_> = (0..10).map(|_| send("/noisy", "192.0.2.1")).collect();
    juggler.wait_for_log(", 10 queued");
    waiting.push(send("/single", "192.0.2.2"));
    juggler.wait_for_log(", 11 queued");
    station.gate().open();
    busy.read_response().expect(200);
    for mut client in waiting {
        client.read_response().expect(200);
    }
    let place = station
        .targets()
        .iter()
        .position(|target| target == "/single");
    assert!(place.is_some_and(|place| place <= 2), "{place:?}");
}

#[test]
fn a_unix_peer_sends_a_proxy_header_only_if_it_is_listed() {
    let origin = Origin::answering("fine");
    let header = "PROXY TCP4 203.0.113.7 198.51.100.1 1234 80\r\n";
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let start = |list: &str| {
        Config::new([origin.address()])
            .listener("bind = [\"unix:{dir}/juggler.sock\"]\nforwarded = \"x-forwarded\"")
            .listener(&format!("proxy_protocol = [{list}]"))
            .start()
    };
    let juggler = start("\"unix\"");
    Client::connect(juggler.address())
        .exchange(format!("{header}{request}"))
        .expect(200);
    assert_eq!(
        origin.request().field("x-forwarded-for"),
        Some("203.0.113.7")
    );
    origin.forget();
    let mut client = Client::connect(juggler.address());
    client.send(request);
    client.expect_gone();
    let juggler = start("\"127.0.0.1\"");
    Client::connect(juggler.address())
        .exchange(request)
        .expect(200);
    assert_eq!(origin.request().field("x-forwarded-for"), Some("unknown"));
    origin.forget();
    Client::connect(juggler.address())
        .exchange(format!("{header}{request}"))
        .expect(400);
    assert!(origin.requests().is_empty());
}

// === Places by address

/// A PROXY header for a client of this address.
fn hello(family: &str, address: &str) -> String {
    format!("PROXY {family} {address} {address} 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn connections_are_counted_by_what_one_client_can_choose() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .listener("proxy_protocol = [\"127.0.0.1\"]\nsessions_per_address = 2")
        .start();
    let open = |family: &str, address: &str| {
        let mut client = Client::connect(juggler.address());
        client.send(hello(family, address));
        client
    };
    for (family, first, second, third, other) in [
        (
            "TCP6",
            "2001:db8:1:2::1",
            "2001:db8:1:2:ffff::2",
            "2001:db8:1:2:0:1:2:3",
            "2001:db8:1:3::1",
        ),
        (
            "TCP6",
            "::ffff:192.0.2.1",
            "::ffff:192.0.2.1",
            "::ffff:192.0.2.1",
            "::ffff:192.0.2.2",
        ),
        (
            "TCP4",
            "198.51.100.1",
            "198.51.100.1",
            "198.51.100.1",
            "198.51.100.2",
        ),
    ] {
        let mut places = [open(family, first), open(family, second)];
        places
            .iter_mut()
            .for_each(|client| drop(client.read_response().expect(200)));
        open(family, third).expect_gone();
        let mut elsewhere = open(family, other);
        elsewhere.read_response().expect(200);
        // A place that becomes free goes to another client.
        let [first, _second] = places;
        drop(first);
        eventually(PATIENCE, "a place is free", || {
            open(family, third).try_read_response(false).is_ok()
        });
    }
    // Both spellings of one address count together.
    let mut mapped = open("TCP6", "::ffff:203.0.113.1");
    mapped.read_response().expect(200);
    let mut plain = open("TCP4", "203.0.113.1");
    plain.read_response().expect(200);
    open("TCP4", "203.0.113.1").expect_gone();
}

// === PROXY headers

/// Checks over a trusted balancer that speaks the PROXY protocol whether the client's own fields
/// count.
#[test]
fn a_client_that_a_proxy_header_does_not_name_is_not_trusted() {
    let v2 = |command: u8, family: u8, length: u16| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, family]);
        header.extend(length.to_be_bytes());
        header.extend(std::iter::repeat_n(b'/', usize::from(length)));
        header
    };
    let request =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Client-Cert: x\r\n\r\n";
    for (bind, peer, address) in [
        ("127.0.0.1:0", "127.0.0.1", "127.0.0.1"),
        ("unix:{dir}/juggler.sock", "unix", "unknown"),
    ] {
        let origin = Origin::answering("fine");
        let juggler = Config::new([origin.address()])
            .listener(&format!(
                "bind = [\"{bind}\"]\nproxy_protocol = [\"{peer}\"]"
            ))
            .listener(&format!(
                "forwarded = {{ style = \"x-forwarded\", trusted = [\"{peer}\"], strip = \
                 [\"X-Client-Cert\"] }}"
            ))
            .start();
        for (header, is_believed) in [
            (b"PROXY UNKNOWN\r\n".to_vec(), false),
            (b"PROXY UNKNOWN 127.0.0.1 127.0.0.1 1 2\r\n".to_vec(), false),
            (v2(1, 0x00, 0), false),
            (v2(1, 0x00, 12), false),
            (v2(1, 0x31, 216), false),
            // The balancer itself is the client.
            (v2(0, 0x00, 0), true),
            (v2(0, 0x11, 12), true),
        ] {
            let mut client = Client::connect(juggler.address());
            client.send([header.as_slice(), request.as_bytes()].concat());
            client.read_response().expect(200);
            let got = origin.request();
            let told = match is_believed {
                true => format!("192.0.2.1, {address}"),
                false => address.to_owned(),
            };
            let header = header.escape_ascii();
            assert_eq!(got.field("x-forwarded-for"), Some(&*told), "{header}");
            assert_eq!(
                got.field("x-client-cert").is_some(),
                is_believed,
                "{header}"
            );
            origin.forget();
        }
    }
}

/// A v2 header for 203.0.113.7 with this many bytes of TLVs.
fn long_header(tlvs: usize) -> Vec<u8> {
    let mut block = vec![203, 0, 113, 7, 198, 51, 100, 1, 0x04, 0xd2, 0, 80];
    let mut left = tlvs;
    while left > 0 {
        let value = left.min(1003) - 3;
        block.push(0xe0);
        block.extend(u16::try_from(value).unwrap().to_be_bytes());
        block.extend(std::iter::repeat_n(7, value));
        left -= value + 3;
    }
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    header.extend(block);
    header
}

#[test]
fn a_proxy_header_may_carry_much() {
    let origin = Origin::answering("fine");
    let juggler = Config::new([origin.address()])
        .listener("proxy_protocol = [\"127.0.0.1\"]\nforwarded = \"x-forwarded\"")
        .start();
    for tlvs in [3, 3000, 4096, 16 * 1024 - 12] {
        let mut client = Client::connect(juggler.address());
        let header = long_header(tlvs);
        client.send(&header[..1000.min(header.len())]);
        client.send(&header[1000.min(header.len())..]);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.read_response().expect(200);
        assert_eq!(
            origin.request().field("x-forwarded-for"),
            Some("203.0.113.7"),
            "{tlvs}"
        );
        origin.forget();
    }
}

#[test]
fn what_is_wrong_with_a_proxy_header_is_told() {
    let origin = Origin::answering("fine");
    let juggler = Start::config(
        &Config::new([origin.address()])
            .listener("bind = [\"127.0.0.1:0\", \"unix:{dir}/juggler.sock\"]")
            .listener(
                "proxy_protocol = [\"127.0.0.1\", \"unix\"]\ntimeout = { handshake = \"1s\" }",
            )
            .text(),
    )
    .ready();
    let mut cut_tlv = long_header(10);
    let at = cut_tlv.len() - 9;
    cut_tlv[at] = 1;
    for (bytes, told) in [
        (
            long_header(16 * 1024 - 11),
            "is too long: more than 16400 bytes",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            "sent no PROXY header",
        ),
        (
            b"PROXY TCP4 203.0.113.7 198.51.100.1 1234\r\n".to_vec(),
            "is malformed",
        ),
        (cut_tlv, "is malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x41".to_vec(), "is malformed"),
        (long_header(10)[..20].to_vec(), "not whole"),
    ] {
        for address in &juggler.addresses()["main"] {
            let before = juggler.log_length();
            let mut client = Client::connect(address);
            client.send(&bytes);
            if told == "not whole" {
                client.shutdown_write();
            }
            juggler.wait_for_log_behind(before, told);
            client.expect_gone();
            let line = juggler.log()[before..].join("\n");
            assert!(!line.contains("Some(") && !line.contains("None"), "{line}");
            let peer = if address.starts_with("unix") {
                "a client of the Unix socket".to_owned()
            } else {
                "127.0.0.1:".to_owned()
            };
            assert!(line.contains(&peer), "{line}");
        }
    }
    // The connection may also simply not come.
    let before = juggler.log_length();
    let mut silent = Client::connect(&juggler.addresses()["main"][0]);
    silent.send("PROX");
    juggler.wait_for_log_behind(before, "not whole");
    silent.expect_gone();
}
