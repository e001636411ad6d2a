//! Health checks.

use super::*;
use crate::health::{Mode, Panic, Passive, Settings};
use crate::http::Method;

/// A cluster with this table for health, in line 4.
fn with(health: &str) -> String {
    format!(
        "listener = [{{ name = \"l\", bind = \"*:8080\" }}]\n[[cluster]]\nname = \"app\"\nhealth \
         = {health}\nserver = [{{ address = \"127.0.0.1:6901\" }}]\n"
    )
}

fn health(table: &str) -> Health {
    plan(&with(table)).clusters[0].health.clone()
}

fn http(table: &str) -> HttpProbe {
    match health(table).probe {
        Probe::Http(probe) => probe,
        Probe::Tcp => panic!("{table}"),
    }
}

#[test]
fn the_defaults_are_those_of_health() {
    let expected = Health {
        settings: Settings::default(),
        probe: Probe::Tcp,
        port: None,
        when_busy: true,
        panic: Panic::default(),
    };
    assert_eq!(health("{}"), expected);
    assert_eq!(health("{ passive = {} }"), expected);
    assert_eq!(health("{ type = \"tcp\" }"), expected);
    assert_eq!(
        health("{ mode = \"disabled\" }"),
        Health::disabled(),
        "as without the table"
    );
}

#[test]
fn the_defaults_that_are_printed_are_those_that_hold() {
    let mut text = with("{ type = \"http\" }").replace("health = { type = \"http\" }\n", "");
    text.push_str("[cluster.health]\ntype = \"http\"\n");
    let least = format!("{:?}", plan(&text));
    defaults::write_defaults(&mut text, "cluster.health");
    text.push_str("[cluster.health.passive]\n");
    defaults::write_defaults(&mut text, "cluster.health.passive");
    assert_eq!(format!("{:?}", plan(&text)), least, "{text}");
}

#[test]
fn everything_said_of_health() {
    let health = health(
        "{ mode = \"lazy\", interval = \"5s\", jitter = \"0%\", recheck = \"1s\", timeout = \
         \"3s\", rise = 3, fall = 4, panic = \"12.5%\", slow_start = \"1m\", sticky_offline = \
         true, passive = { connect = 0, broken = 2, timeout = 3, protocol = 4, status = 6, ratio \
         = \"10%\", least = 50, window = \"30s\", classes = [\"status\", \"connect\"] } }",
    );
    assert_eq!(
        health.settings,
        Settings {
            mode: Mode::Lazy,
            interval: Duration::from_secs(5),
            jitter: 0.0,
            recheck: Duration::from_secs(1),
            timeout: Duration::from_secs(3),
            rise: 3,
            fall: 4,
            passive: Passive {
                consecutive: [0, 2, 3, 4, 6],
                ratio: 0.1,
                least: 50,
                window: Duration::from_secs(30),
                counts: [true, false, false, false, true],
            },
            slow_start: Duration::from_secs(60),
            sticky_offline: true,
        }
    );
    assert_eq!(health.panic, Panic { threshold: 0.125 });
    assert_eq!(
        self::health("{ mode = \"opportunistic\" }").settings.mode,
        Mode::Opportunistic
    );
    assert_eq!(
        self::health("{ passive.classes = [] }")
            .settings
            .passive
            .counts,
        [false; 5]
    );
    assert_eq!(
        self::health("{ passive.classes = \"timeout\" }")
            .settings
            .passive
            .counts,
        [false, false, true, false, false]
    );
}

#[test]
fn the_request_of_a_probe() {
    let plain = HttpProbe {
        method: Method::Get,
        request: b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: juggler-health-check\r\n\r\n"
            .to_vec(),
        expect: vec![200..=399],
        body: None,
    };
    assert_eq!(http("{ type = \"http\" }"), plain);
    assert_eq!(http("{ path = \"/\" }"), plain);
    let full = http(
        "{ method = \"OPTIONS\", path = \"/up?deep=1\", host = \"app.example.org:8080\", fields = \
         [\"X-Probe:yes\", \"Accept: a, b \", \"X-Empty:\"], expect = [200, \"204\", \
         \"300-302\"], body = \"alive\" }",
    );
    assert_eq!(
        full,
        HttpProbe {
            method: Method::Options,
            request:
                b"OPTIONS /up?deep=1 HTTP/1.1\r\nHost: app.example.org:8080\r\nUser-Agent: juggler-health-check\r\n\
                X-Probe: yes\r\nAccept: a, b\r\nX-Empty: \r\n\r\n"
                    .to_vec(),
            expect: vec![200..=200, 204..=204, 300..=302],
            body: Some(b"alive".to_vec()),
        }
    );
    let own =
        http("{ path = \"*\", method = \"OPTIONS\", fields = \"user-agent: me\", expect = 204 }");
    assert_eq!(
        (std::str::from_utf8(&own.request).unwrap(), own.expect),
        (
            "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nuser-agent: me\r\n\r\n",
            vec![204..=204]
        )
    );
    assert_eq!(
        http("{ path = \"/\", method = \"HEAD\" }").method,
        Method::Head
    );
    let sent = http(
        "{ path = \"/\", method = \"PUT\", send = \"a=\u{e4}\", fields = \"Content-Type: a/b\" }",
    )
    .request;
    assert_eq!(
        str::from_utf8(&sent).unwrap(),
        "PUT / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: juggler-health-check\r\nContent-Type: \
         a/b\r\nContent-Length: 4\r\n\r\na=\u{e4}"
    );
    assert!(
        http("{ path = \"/\", method = \"POST\" }")
            .request
            .ends_with(b"Content-Length: 0\r\n\r\n")
    );
    let apart = plan(&with("{ port = 8080, probe_when_busy = false }")).clusters[0]
        .health
        .clone();
    assert_eq!((apart.port, apart.when_busy), (Some(8080), false));
}

/// Each of these, in line 4, is told exactly this.
#[test]
fn mistakes_of_health() {
    let of_requests = "is said of requests, and a probe with type \"tcp\" makes none\n  hint: \
                       write type = \"http\", or leave it out\n";
    let table: &[(&str, &str)] = &[
        (
            "{ mode = \"paranoyd\" }",
            "19: cluster[0].health.mode: \"paranoyd\" is not one of its values\n  hint: did you \
             mean \"paranoid\"?\n",
        ),
        (
            "1",
            "10: cluster[0].health: must be a table, not a number\n  hint: open it by \
             [cluster.health]\n",
        ),
        // What goes with requests only.
        (
            "{ expect = 200 }",
            &format!("21: cluster[0].health.expect: {of_requests}"),
        ),
        (
            "{ type = \"tcp\", path = \"/\", body = \"x\" }",
            &format!(
                "33: cluster[0].health.path: {of_requests}j.toml:4:45: cluster[0].health.body: \
                 {of_requests}"
            ),
        ),
        (
            "{ type = \"https\", host = \"a\" }",
            "19: cluster[0].health.type: \"https\" is not one of its values\n  hint: did you mean \
             \"http\"?\n",
        ),
        // The request.
        (
            "{ method = \"DELETE\", path = \"/\" }",
            "21: cluster[0].health.method: \"DELETE\" is not one of its values\n  hint: write \
             \"GET\" or \"HEAD\" or \"OPTIONS\" or \"POST\" or \"PUT\"\n",
        ),
        (
            "{ path = \"/\", send = \"x\" }",
            "31: cluster[0].health.send: is never sent: a GET has no body\n  hint: write method = \
             \"POST\"\n",
        ),
        (
            "{ port = 0, type = \"tcp\", send = \"x\" }",
            &format!(
                "19: cluster[0].health.port: is out of range\n  hint: from 1 to \
                 65535\nj.toml:4:43: cluster[0].health.send: {of_requests}"
            ),
        ),
        (
            "{ method = \"HEAD\", path = \"/\", body = \"x\" }",
            "48: cluster[0].health.body: is never there: a response to HEAD has no body\n  hint: \
             write method = \"GET\"\n",
        ),
        (
            "{ path = \"up\" }",
            "19: cluster[0].health.path: a path starts with a slash\n  hint: write \"/up\"\n",
        ),
        (
            "{ path = \"*\" }",
            "19: cluster[0].health.path: \"*\" is asked for by OPTIONS alone\n  hint: write \
             method = \"OPTIONS\"\n",
        ),
        (
            "{ path = \"/up#x\" }",
            "19: cluster[0].health.path: a request has no fragment\n  hint: leave out what \
             follows \"#\", and that\n",
        ),
        (
            "{ path = \"/up HTTP/1.1\\r\\nX: y\" }",
            "19: cluster[0].health.path: has characters that a path cannot have\n  hint: write \
             them as %XX\n",
        ),
        (
            "{ path = \"/\", host = \"a b\" }",
            "31: cluster[0].health.host: \"a b\" is no host\n  hint: write \"app.example.org\", \
             with \":port\" or without\n",
        ),
        // Its fields.
        (
            "{ path = \"/\", fields = [\"X-Probe\", 5] }",
            "34: cluster[0].health.fields[0]: \"X-Probe\" is no field with a value\n  hint: write \
             \"X-Probe: yes\"\nj.toml:4:45: cluster[0].health.fields[1]: must be text, not a \
             number\n",
        ),
        (
            "{ path = \"/\", fields = \"X Probe: yes\" }",
            "33: cluster[0].health.fields: \"X Probe\" is no name of a field\n  hint: write \
             \"X-Probe: yes\"\n",
        ),
        (
            "{ path = \"/\", fields = \"X: y\\r\\nZ: 1\" }",
            "33: cluster[0].health.fields: the value of \"X\" has control characters\n",
        ),
        (
            "{ path = \"/\", fields = \"host: a\" }",
            "33: cluster[0].health.fields: \"Host\" has a key of its own\n  hint: write host = \
             \"...\"\n",
        ),
        (
            "{ path = \"/\", fields = \"Content-length: 5\" }",
            "33: cluster[0].health.fields: \"Content-length\" says how a message is sent, and a \
             probe says that by itself\n  hint: leave it out\n",
        ),
        // What it is answered.
        (
            "{ path = \"/\", expect = [100, \"600\", 999999] }",
            "34: cluster[0].health.expect[0]: is out of range\n  hint: from 200 to \
             599\nj.toml:4:39: cluster[0].health.expect[1]: is out of range\n  hint: from 200 to \
             599\nj.toml:4:46: cluster[0].health.expect[2]: is out of range\n  hint: from 200 to \
             599\n",
        ),
        (
            "{ path = \"/\", expect = [\"2xx\", \"399-200\", \"200-\", \"+200\"] }",
            "34: cluster[0].health.expect[0]: \"2xx\" is no status\n  hint: write 200, \"200\" or \
             \"200-399\"\nj.toml:4:41: cluster[0].health.expect[1]: ends before it begins\n  \
             hint: write \"200-399\"\nj.toml:4:52: cluster[0].health.expect[2]: \"\" is no \
             status\n  hint: write 200, \"200\" or \"200-399\"\nj.toml:4:60: \
             cluster[0].health.expect[3]: \"+200\" is no status\n  hint: write 200, \"200\" or \
             \"200-399\"\n",
        ),
        (
            "{ path = \"/\", expect = true }",
            "33: cluster[0].health.expect: must be a status or a range of them, not true or \
             false\n  hint: write 200, \"200\" or \"200-399\"\n",
        ),
        (
            "{ path = \"/\", expect = [] }",
            "33: cluster[0].health.expect: is empty\n  hint: leave it out, or write what it is \
             for\n",
        ),
        // Numbers.
        (
            "{ interval = \"1ms\", jitter = \"51%\" }",
            "23: cluster[0].health.interval: is out of range\n  hint: from 10ms to \
             24h\nj.toml:4:39: cluster[0].health.jitter: is out of range\n  hint: from 0% to 50%\n",
        ),
        (
            "{ rise = 0, fall = 101 }",
            "19: cluster[0].health.rise: is out of range\n  hint: from 1 to 100\nj.toml:4:29: \
             cluster[0].health.fall: is out of range\n  hint: from 1 to 100\n",
        ),
        (
            "{ panic = 50 }",
            "20: cluster[0].health.panic: must be a percentage, not a number\n  hint: with its \
             unit: \"20%\"\n",
        ),
        (
            "{ panic = \"50.\" }",
            "20: cluster[0].health.panic: has the unknown unit \".\"\n  hint: a percentage is a \
             number with %: \"20%\", \"12.5%\"\n",
        ),
        // Traffic.
        (
            "{ passive = { status = 1 } }",
            "33: cluster[0].health.passive.status: one failure alone takes no server offline\n  \
             hint: at least 2, or 0 for never\n",
        ),
        (
            "{ passive = { classes = [\"connect\", \"statuses\"], least = 1, ratio = \"0%\" } }",
            "46: cluster[0].health.passive.classes[1]: \"statuses\" is not one of its values\n  \
             hint: did you mean \"status\"?\nj.toml:4:67: cluster[0].health.passive.least: is out \
             of range\n  hint: from 2 to 4096\nj.toml:4:78: cluster[0].health.passive.ratio: is \
             out of range\n  hint: from 1% to 100%\n",
        ),
    ];
    for (health, expected) in table {
        assert_eq!(
            said(&with(health)),
            format!("j.toml:4:{expected}"),
            "{health}"
        );
    }
}

#[test]
fn a_field_cannot_say_how_the_request_is_sent() {
    let said_of = |field: &str| {
        let field = toml::Value::from(field).to_string();
        said(&with(&format!("{{ path = \"/\", fields = [{field}] }}")))
    };
    for name in [
        "Connection",
        "connection",
        "Content-Length",
        "Expect",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "transfer-encoding",
        "Upgrade",
    ] {
        let said = said_of(&format!("{name}: x"));
        assert!(
            said.contains(&format!("\"{name}\" says how a message is sent")),
            "{name}: {said}"
        );
    }
    for control in ["\r", "\n", "\0", "\t", "\u{7f}", "\u{85}"] {
        let said = said_of(&format!("X: a{control}b"));
        assert!(
            said.contains("has control characters"),
            "{control:?}: {said}"
        );
    }
    assert_eq!(said_of("X: \u{e4} (b); c=\"d\""), "");
}

proptest::proptest! {
    /// Whatever is accepted is one request and nothing else.
    #[test]
    fn a_probe_is_one_request(path in "/?[a-z?#* \\\\%\r\n]{0,6}", host in "[a-z:.\\[\\] \r\n0-9]{0,8}", field in "[A-Za-z:\\- \r\n\t\u{e9}]{0,20}") {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let text = with(&format!(
            "{{ type = \"http\", path = {}, host = {}, fields = [{}] }}",
            quoted(&path), quoted(&host), quoted(&field)
        ).replace('\n', "\\n"));
        if let Ok((plan, _)) = compiled(&text)
            && let Probe::Http(probe) = &plan.clusters[0].health.probe
        {
            let mut headers = [httparse::EMPTY_HEADER; 4];
            let mut request = httparse::Request::new(&mut headers);
            let length = request.parse(&probe.request).unwrap();
            proptest::prop_assert_eq!(length, httparse::Status::Complete(probe.request.len()));
            proptest::prop_assert_eq!(request.path, Some(&*path));
            let fields = 2 + usize::from(!field.to_ascii_lowercase().starts_with("user-agent:"));
            proptest::prop_assert_eq!(request.headers.len(), fields);
        }
    }
}
