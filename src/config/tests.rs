//! Whole configurations: what is made of good ones, and what is said of bad ones.

mod buckets;
mod defaults;
mod health;
mod idle;
mod pages;
mod scheduling;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::form::{Default, Kind};
use super::keys::{SECTIONS, section};
use super::*;
use crate::plan::*;

const LEAST: &str = r#"
[[listener]]
name = "http"
bind = "127.0.0.1:8080"
[[cluster]]
name = "app"
[[cluster.server]]
address = "127.0.0.1:6901"
"#;

fn compiled(text: &str) -> Outcome {
    compile(Some(Path::new("j.toml")), text, &Overrides::default())
}

fn plan(text: &str) -> Plan {
    match compiled(text) {
        Ok((plan, _)) => plan,
        Err(problems) => panic!("{}", shown(&problems)),
    }
}

fn shown(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// What is said of a text, good or bad.
fn said(text: &str) -> String {
    match compiled(text) {
        Ok((_, problems)) | Err(problems) => shown(&problems),
    }
}

/// Each of these, before the least configuration, is told exactly this.
#[test]
fn mistakes_and_what_is_said_of_them() {
    let table: &[(&str, &str)] = &[
        // Keys.
        (
            "[process]\nusr = \"x\"",
            "j.toml:2:1: process.usr: unknown key\n  hint: did you mean \"user\"?\n",
        ),
        (
            "max_sessions = 5",
            "j.toml:1:1: max_sessions: unknown key\n  hint: it belongs in [process]\n",
        ),
        (
            "[buffers]\ncolour = 1",
            "j.toml:2:1: buffers.colour: unknown key\n  hint: known here: region, size\n",
        ),
        (
            "[proces]\ndrain = \"1s\"",
            "j.toml:1:2: proces: unknown key\n  hint: did you mean \"process\"?\n",
        ),
        // Types.
        (
            "[process]\nmax_sessions = \"many\"",
            "j.toml:2:16: process.max_sessions: must be a number, not text\n",
        ),
        (
            "process = 1",
            "j.toml:1:11: process: must be a table, not a number\n  hint: open it by [process]\n",
        ),
        (
            "[route]\ncluster = \"app\"",
            "j.toml:1:1: route: must be a list of tables, not a table\n  hint: open each by \
             [[route]]\n",
        ),
        (
            "[spool]\nfolder = 1979-05-27",
            "j.toml:2:10: spool.folder: must be text, not a date\n",
        ),
        (
            "[log]\naccess = true",
            "j.toml:2:10: log.access: must be text, not true or false\n  hint: write \"off\", \
             \"stdout\" or the path of a file\n",
        ),
        // Units.
        (
            "[process]\ndrain = 30",
            "j.toml:2:9: process.drain: must be a duration, not a number\n  hint: with its unit: \
             \"10s\" or \"250ms\"\n",
        ),
        (
            "[process]\ndrain = \"30\"",
            "j.toml:2:9: process.drain: has no unit\n  hint: a duration is a number with h, m, s \
             or ms: \"250ms\", \"1m30s\"\n",
        ),
        (
            "[buffers]\nregion = \"1 GiB\"",
            "j.toml:2:10: buffers.region: has the unknown unit \" GiB\"\n  hint: a size is a \
             number with B, KiB, MiB, GiB, KB, MB or GB: \"32KiB\"\n",
        ),
        // Ranges.
        (
            "[process]\nmax_sessions = 0",
            "j.toml:2:16: process.max_sessions: is out of range\n  hint: from 1 to 1000000\n",
        ),
        (
            "[process]\nmax_sessions = -1",
            "j.toml:2:16: process.max_sessions: is out of range\n  hint: from 1 to 1000000\n",
        ),
        (
            "[process]\ndrain = \"0s\"",
            "j.toml:2:9: process.drain: is out of range\n  hint: from 1ms to 24h\n",
        ),
        (
            "[process]\nsummary = \"1ms\"",
            "j.toml:2:11: process.summary: is out of range\n  hint: from 100ms to 24h\n",
        ),
        (
            "[buffers]\nregion = \"1MiB\"\nsize = \"2MiB\"",
            "j.toml:3:8: buffers.size: one buffer is larger than the region of 1MiB\n",
        ),
        // Words.
        (
            "[log]\nlevel = \"inof\"",
            "j.toml:2:9: log.level: \"inof\" is not one of its values\n  hint: did you mean \
             \"info\"?\n",
        ),
        (
            "[log]\nformat = \"xml\"",
            "j.toml:2:10: log.format: \"xml\" is not one of its values\n  hint: write \
             \"combined\" or \"json\"\n",
        ),
        // What this system does not have.
        (
            "[process]\nuser = \"no such\"",
            "j.toml:2:8: process.user: this system has no user \"no such\"\n",
        ),
        (
            "[spool]\nfolder = \"/no/such\"",
            "j.toml:2:10: spool.folder: there is no folder /no/such\n",
        ),
        (
            "[log]\naccess = \"/no/such\"",
            "j.toml:2:10: log.access: there is no folder for /no/such\n",
        ),
        // Listeners.
        (
            "[[listener]]\nname = \"http\"\nbind = \"[::1]:8080\"",
            "j.toml:5:8: listener[1].name: \"http\" is already the name of listener[0].name in \
             line 2\n  hint: names must differ\n",
        ),
        (
            "[[listener]]\nname = \"a\"\nbind = \"*:8080\"",
            "j.toml:6:8: listener[1].bind: overlaps with listener[0].bind in line 3\n  hint: an \
             address can be bound only once\n",
        ),
        (
            "[[listener]]\nname = \"a\"\nbind = [\"[::1]:1\", \"[::1]:1\"]",
            "j.toml:3:20: listener[0].bind[1]: is already bound by listener[0].bind[0] in line \
             3\n  hint: an address can be bound only once\n",
        ),
        (
            "[[listener]]\nname = \"a b\"\nbind = []",
            "j.toml:2:8: listener[0].name: \"a b\" is no name\n  hint: a name is letters, digits \
             and signs, without spaces\nj.toml:3:8: listener[0].bind: is empty\n  hint: there \
             must be one at least\n",
        ),
        (
            "[[listener]]\nname = \"a\"\nbind = \"*:1\"\nproxy_protocol = [\"10.0.0.1/8\", \
             5]\nforwarded = \"on\"",
            "j.toml:4:19: listener[0].proxy_protocol[0]: \"10.0.0.1/8\" has bits set behind its \
             prefix\n  hint: write \"10.0.0.0/8\"\nj.toml:4:33: listener[0].proxy_protocol[1]: \
             must be text, not a number\nj.toml:5:13: listener[0].forwarded: \"on\" is not one of \
             its values\n  hint: did you mean \"off\"?\n",
        ),
        // Routes.
        (
            "[[route]]\ncluster = \"ap\"",
            "j.toml:2:11: route[0].cluster: there is no cluster \"ap\"\n  hint: did you mean \
             \"app\"?\n",
        ),
        (
            "[[route]]\nhost = [\"a.b\", \"A.b.\"]\ncluster = \"app\"\n[[route]]\nhost = \
             \"a.b\"\npath = \"/\"\ncluster = \"app\"",
            "j.toml:2:16: route[0].host[1]: is never reached: same host and path as \
             route[0].host[0] in line 2\nj.toml:5:8: route[1].host: is never reached: same host \
             and path as route[0].host[0] in line 2\n",
        ),
        (
            "[[route]]\ncluster = \"app\"\n[[route]]\nhost = []\npath = \"x\"\nbucket = 5",
            "j.toml:3:1: route[1]: key \"cluster\" is missing\n  hint: Name of the \
             cluster.\nj.toml:4:8: route[1].host: is empty\n  hint: leave it out, or write what \
             it is for\nj.toml:5:8: route[1].path: a path starts with a slash\n  hint: write \
             \"/x\"\nj.toml:6:10: route[1].bucket: must be text, not a number\n",
        ),
        (
            "route = []",
            "j.toml:1:9: route: is empty\n  hint: leave it out, or open each by [[route]]\n",
        ),
        // Clusters.
        (
            "[[cluster]]\nname = \"x\"\nscheduler = \"randem\"\nretry.budget = \
             20\n[[route]]\ncluster = \"x\"",
            "j.toml:1:1: cluster[0]: the cluster has no server\n  hint: [[cluster.server]] with \
             an address\nj.toml:3:13: cluster[0].scheduler: \"randem\" is not one of its values\n  \
             hint: did you mean \"random\"?\nj.toml:4:16: cluster[0].retry.budget: must be a \
             percentage, not a number\n  hint: with its unit: \"20%\"\n",
        ),
        (
            "[[cluster]]\nname = \"x\"\nserver = [{ address = \"[::1]:1\" }, { address = \
             \"[::1]:1\", weight = 0 }]\n[[route]]\ncluster = \"x\"",
            "j.toml:3:48: cluster[0].server[1].address: is already cluster[0].server[0].address \
             in line 3\n  hint: for more connections raise its capacity\nj.toml:3:68: \
             cluster[0].server[1].weight: is out of range\n  hint: from 1 to 1000\n",
        ),
        (
            "[[cluster]]\nname = \"x\"\nserver = [{ adress = \"[::1]:1\" }, { address = \
             \"www..example.org:80\" }]\n[[route]]\ncluster = \"x\"",
            "j.toml:3:13: cluster[0].server[0].adress: unknown key\n  hint: did you mean \
             \"address\"?\nj.toml:3:47: cluster[0].server[1].address: \"www..example.org:80\" is \
             no address of a server\n  hint: write \"127.0.0.1:6901\", \"[::1]:6901\", \
             \"app.example.org:6901\" or \"unix:/path\"\n",
        ),
        (
            "[[cluster]]\nname = \"x\"\nserver = [{ address = \"127.0.0.1:8080\" \
             }]\n[[route]]\ncluster = \"x\"",
            "j.toml:3:23: cluster[0].server[0].address: is our own listener \"http\": requests \
             would never arrive\n",
        ),
        (
            "[[cluster]]\nname = \"x\"\nserver = [{ address = \"127.0.0.1:1\" }]",
            "j.toml: there is no route, and more than one cluster\n  hint: say which request goes \
             where: [[route]]\n",
        ),
        // Only suspicious.
        (
            "[[cluster]]\nname = \"x\"\nserver = [{ address = \"127.0.0.1:1\" \
             }]\n[[route]]\ncluster = \"app\"",
            "j.toml:1:1: warning: cluster[0]: no route leads to cluster \"x\"\n",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(said(&format!("{text}{LEAST}")), *expected, "{text}");
    }
}

#[test]
fn nothing_at_all() {
    assert_eq!(
        said(""),
        "j.toml: there is no listener\n  hint: say where clients come in: [[listener]], or \
         --listen\nj.toml: there is no cluster\n  hint: say where requests go: [[cluster]], or \
         --server\n"
    );
}

#[test]
fn a_group_needs_a_user() {
    assert_eq!(
        said(&format!("[process]\ngroup = \"root\"{LEAST}")),
        "j.toml:2:9: process.group: means nothing without `user`\n  hint: say who to become: user \
         = \"...\"\n"
    );
}

#[test]
fn a_head_has_to_fit_a_buffer() {
    let said = |head: &str| {
        said(&format!(
            "[[listener]]\nname = \"h\"\nbind = \"*:1\"\nlimit.head = \"{head}\"\n[buffers]\nsize \
             = \"40KiB\"\n[[cluster]]\nname = \"c\"\nserver = [{{ address = \"127.0.0.1:6901\" }}]"
        ))
    };
    assert_eq!(said("40KiB"), "");
    assert_eq!(
        said("41KiB"),
        "j.toml:4:14: listener[0].limit.head: is more than one buffer (buffers.size), in which a \
         head has to fit\n  hint: raise buffers.size to that\n"
    );
}

#[test]
fn mistakes_in_the_text_itself_are_told_with_their_place() {
    let said = said("a = \n[x\n");
    assert!(
        said.contains("j.toml:1:5: ") && said.contains("j.toml:2:3: "),
        "{said}"
    );
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn a_duplicate_key_does_not_hide_the_rest() {
    let said = said(&format!(
        "[process]\ndrain = \"1s\"\ndrain = \"2s\"\nusr = \"x\"{LEAST}"
    ));
    assert!(said.contains("j.toml:3:1: duplicate key"), "{said}");
    assert!(
        said.contains("j.toml:4:1: process.usr: unknown key"),
        "{said}"
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let problems = load(Path::new("/no/such.toml"), &Overrides::default()).unwrap_err();
    assert_eq!(
        shown(&problems),
        "/no/such.toml: cannot be read: No such file or directory (os error 2)\n"
    );
}

#[test]
fn all_problems_of_a_very_bad_file_at_once() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden");
    let text = fs::read_to_string(folder.join("bad.toml")).unwrap();
    let expected = fs::read_to_string(folder.join("bad.txt")).unwrap();
    let Err(problems) = compile(Some(Path::new("bad.toml")), &text, &Overrides::default()) else {
        panic!()
    };
    assert_eq!(
        shown(&problems),
        expected,
        "\n--- what is said now ---\n{}",
        shown(&problems)
    );
}

#[test]
fn the_least_configuration_has_the_defaults() {
    let plan = plan(LEAST);
    assert_eq!(plan.process.max_sessions, 16_384);
    assert_eq!(plan.process.max_requests, 16_384);
    assert_eq!(plan.process.drain_timeout, Duration::from_secs(30));
    assert_eq!(plan.process.summary, None);
    assert_eq!(
        (plan.process.buffers.region, plan.process.buffers.size),
        (1 << 30, 64 << 10)
    );
    let listener = &plan.listeners[0];
    assert_eq!(
        listener.bind,
        [BindAddress::Tcp("127.0.0.1:8080".parse().unwrap())]
    );
    assert_eq!(listener.backlog, 4096);
    assert_eq!(listener.limit.body, 1 << 30);
    assert_eq!(listener.forwarded.style, ForwardedStyle::Off);
    assert_eq!((listener.redirect_https, &listener.via), (None, &None));
    let cluster = &plan.clusters[0];
    assert_eq!(
        (cluster.queue_limit, cluster.attempts, cluster.retry_budget),
        (16_384, 3, 0.2)
    );
    assert_eq!(cluster.binding, Binding::Late);
    assert_eq!(
        (
            cluster.servers[0].capacity,
            cluster.servers[0].name.as_str()
        ),
        (5, "127.0.0.1:6901")
    );
    let routes: Vec<_> = plan.routes.iter().collect();
    assert_eq!(
        (
            routes.len(),
            routes[0].host.as_deref(),
            routes[0].path.as_str()
        ),
        (1, None, "/")
    );
}

#[test]
fn everything_said() {
    let plan = plan(
        r#"
process = { max_sessions = 100, max_requests = 50, scheduling = "normal", summary = "5s", idle_threads = 3 }
log = { level = "debug", access = "stdout", format = "json" }
[[listener]]
name = "a"
bind = ["*:80", "unix:/run/a.sock"]
redirect_https = 8443
half_close = "serve"
via = "edge"
request_id = true
health_path = "/health"
proxy_protocol = ["10.0.0.0/8", "::1"]
forwarded = { style = "rfc7239", mode = "replace", trusted = "192.0.2.1" }
timeout = { header = "1m30s" }
limit = { body_memory = "1MiB", min_rate = "0B" }
[[route]]
host = ["Shop.example.org", "*.shop.example.org"]
path = "/checkout/"
cluster = "b"
[[route]]
cluster = "a"
[[cluster]]
name = "a"
scheduler = "round_robin"
pipeline = 8
binding = "early"
on_5xx = "bad_gateway"
on_unavailable = "queue"
on_client_abort = "ignore"
capacity = 2
server = [{ address = "localhost:1", role = "active", weight = 1 }, { name = "two", address = "unix:/s", capacity = 7 }]
[[cluster]]
name = "b"
queue = { limit = 10, timeout = "1s" }
retry = { attempts = 1, budget = "50%" }
timeout = { connect = "100ms" }
limit = { head = "1MiB", response_fields = 50 }
server = [{ address = "127.0.0.1:2" }]
"#,
    );
    assert_eq!(
        (plan.clusters[0].pipeline, plan.clusters[1].pipeline),
        (8, 1)
    );
    assert!(!plan.process.batch_scheduling);
    assert_eq!((plan.process.max_requests, plan.process.min_idle), (50, 3));
    assert_eq!(plan.process.summary, Some(Duration::from_secs(5)));
    assert_eq!(
        plan.process
            .log
            .access
            .as_ref()
            .map(|log| (log.path.clone(), log.format)),
        Some((None, AccessFormat::Json))
    );
    let listener = &plan.listeners[0];
    assert_eq!(listener.bind.len(), 3);
    assert_eq!(listener.redirect_https, Some(8443));
    assert!(listener.half_close_serve && listener.request_id && listener.forwarded.replace);
    assert_eq!(
        listener.forwarded.trusted.networks,
        ["192.0.2.1/32".parse().unwrap()]
    );
    assert_eq!(listener.proxy_protocol.networks.len(), 2);
    assert_eq!(listener.timeout.header, Duration::from_secs(90));
    assert_eq!(
        (listener.limit.body_memory, listener.limit.min_rate),
        (1 << 20, 0)
    );
    let routes: Vec<_> = plan
        .routes
        .iter()
        .map(|route| (route.host.as_deref(), &*route.path, route.cluster))
        .collect();
    assert_eq!(routes.len(), 3);
    assert!(
        routes.contains(&(Some("shop.example.org"), "/checkout", 1)),
        "{routes:?}"
    );
    assert!(routes.contains(&(None, "/", 0)), "{routes:?}");
    let (a, b) = (&plan.clusters[0], &plan.clusters[1]);
    assert_eq!(
        (a.queue_limit, a.servers[0].capacity, a.servers[1].capacity),
        (100, 2, 7)
    );
    assert_eq!(a.servers[1].address, ServerAddress::Unix("/s".into()));
    assert_eq!(
        (a.on_5xx, a.on_unavailable, a.on_client_abort),
        (
            On5xx::BadGateway,
            OnUnavailable::Queue,
            OnClientAbort::Ignore
        )
    );
    assert_eq!(
        (
            b.queue_limit,
            b.attempts,
            b.retry_budget,
            b.response_head,
            b.response_fields,
        ),
        (10, 1, 0.5, 1 << 20, 50)
    );
    assert_eq!(b.timeout.connect, Duration::from_millis(100));
}

/// Writes a configuration with TLS into a folder, with these files as chain and key.
fn with_tls(folder: &Path, chain: &str, key: &str, optional: bool) -> String {
    let file = folder.join("j.toml");
    let text = format!(
        "[[listener]]\nname = \"https\"\nbind = \"127.0.0.1:8443\"\noptional = \
         {optional}\ntls.certificates = [{{ chain = \"{chain}\", key = \"{key}\" }}]{LEAST}"
    );
    fs::write(&file, text).unwrap();
    let problems = match load(&file, &Overrides::default()) {
        Ok((plan, warnings)) => format!("{} listeners\n{}", plan.listeners.len(), shown(&warnings)),
        Err(problems) => shown(&problems),
    };
    problems.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn certificates_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, content: &[u8]| {
        fs::write(folder.join(name), content).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let one = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    write("a.crt", one.cert.pem().as_bytes());
    write("a.key", one.signing_key.serialize_pem().as_bytes());
    write("b.key", other.signing_key.serialize_pem().as_bytes());
    write("a.der", one.cert.der());
    write(
        "broken.crt",
        b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    );
    write(
        "rubbish.crt",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    write(
        "encrypted.key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );

    let said = |chain: &str, key: &str| with_tls(folder, chain, key, false);
    assert_eq!(said("a.crt", "a.key"), "2 listeners\n");
    for (chain, key, expected) in [
        (
            "a.crt",
            "b.key",
            "5:46: listener[0].tls.certificates[0].key: is not the key of the certificate in \
             a.crt\n",
        ),
        (
            "a.key",
            "a.crt",
            ".chain: holds no certificate\n  hint: it holds a private key: are chain and key the \
             wrong way",
        ),
        (
            "a.key",
            "a.crt",
            ".key: holds no private key\n  hint: it holds a certificate",
        ),
        ("a.der", "a.key", ".chain: is not PEM\n  hint: openssl x509"),
        ("broken.crt", "a.key", ".chain: is not valid PEM"),
        (
            "rubbish.crt",
            "a.key",
            ".chain: holds a certificate of no use",
        ),
        (
            "a.crt",
            "encrypted.key",
            ".key: holds an encrypted private key\n  hint: openssl pkey",
        ),
        ("no.crt", "no.key", ".chain: there is no file no.crt\n"),
        ("no.crt", "no.key", ".key: there is no file no.key\n"),
        ("..", "a.key", ".chain: .. cannot be read: Is a directory"),
    ] {
        let said = said(chain, key);
        assert!(said.contains(expected), "{chain} {key}: {said}");
        assert!(!said.contains("listeners"), "{chain} {key}: {said}");
    }

    fs::set_permissions(folder.join("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let warned = said("a.crt", "a.key");
    assert!(
        warned.contains("2 listeners")
            && warned.contains("warning: ")
            && warned.contains("every user"),
        "{warned}"
    );
}

#[test]
fn an_optional_listener_without_certificate_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let said = with_tls(folder.path(), "no.crt", "no.key", true);
    assert!(
        said.starts_with("1 listeners\nj.toml:5:31: warning: "),
        "{said}"
    );
    assert!(
        said.contains("there is no file no.crt; the listener is left out\n"),
        "{said}"
    );
    // What is there and wrong is a mistake, not a reason to leave anything out.
    fs::write(folder.path().join("no.crt"), "rubbish").unwrap();
    fs::write(folder.path().join("no.key"), "rubbish").unwrap();
    let said = with_tls(folder.path(), "no.crt", "no.key", true);
    assert!(
        said.contains(".chain: is not PEM") && said.contains(".key: is not PEM"),
        "{said}"
    );
}

#[test]
fn flags_go_before_the_file() {
    let text = "[process]\nuser = \"no such\"\nmax_sessions = 0\nsummary = \
                \"5s\"\n[[listener]]\nwrong = 1\n[[cluster]]\nname = \"app\"\nserver = [{ address \
                = \"127.0.0.1:1\" }, { address = \"127.0.0.1:2\", capacity = 9 }]\n";
    let overrides = Overrides {
        listen: vec!["*:8080".into()],
        user: Some("root".into()),
        max_sessions: Some(10),
        capacity: Some(3),
        summary: Some("off".into()),
        drain: Some("1s".into()),
        log_level: Some("warn".into()),
        ..Overrides::default()
    };
    let (plan, _) = compile(Some(Path::new("j.toml")), text, &overrides).unwrap();
    assert_eq!(
        (
            plan.process.user.as_deref(),
            plan.process.max_sessions,
            plan.process.summary
        ),
        (Some("root"), 10, None)
    );
    assert_eq!(
        (plan.process.drain_timeout, plan.process.log.level),
        (Duration::from_secs(1), log::LevelFilter::Warn)
    );
    assert_eq!((plan.listeners.len(), plan.listeners[0].bind.len()), (1, 2));
    assert_eq!(
        plan.clusters[0]
            .servers
            .iter()
            .map(|server| server.capacity)
            .collect::<Vec<_>>(),
        [3, 3]
    );

    let overrides = Overrides {
        servers: vec!["127.0.0.1:7".into()],
        ..Overrides::default()
    };
    let text = "[[listener]]\nname = \"a\"\nbind = \"*:1\"\n[[cluster]]\nwrong = \
                1\n[[route]]\nwrong = 1\n";
    let (plan, _) = compile(Some(Path::new("j.toml")), text, &overrides).unwrap();
    assert_eq!((plan.clusters.len(), plan.routes.iter().count()), (1, 1));
    assert_eq!(
        plan.clusters[0].servers[0].address,
        ServerAddress::Tcp("127.0.0.1:7".parse().unwrap())
    );
}

#[test]
fn problems_of_flags_are_told_by_their_names() {
    let overrides = Overrides {
        listen: vec!["x".into()],
        https: vec!["y".into()],
        certificate: Some("no.crt".into()),
        key: Some("no.key".into()),
        servers: vec!["127.0.0.1:1".into(), "127.0.0.1:1".into()],
        capacity: Some(0),
        max_sessions: Some(0),
        max_requests: Some(9_999_999),
        drain: Some("x".into()),
        summary: Some("x".into()),
        access_log: Some("/no/such".into()),
        log_level: Some("x".into()),
        user: Some("no such".into()),
        is_reload: false,
    };
    let said = shown(&from_flags(&overrides).unwrap_err());
    for (_, flag) in flags::FLAGS {
        assert!(
            said.contains(&format!("command line: {flag}: ")),
            "{flag}: {said}"
        );
    }
    assert!(
        said.contains("--server: is already another --server\n"),
        "{said}"
    );
    // The text that they were made into stands in no file.
    assert!(
        !said.contains("listener[") && !said.contains(" line 1"),
        "{said}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange(text in "[\\[\\]{}=\",.\n a-z0-9ä]{0,60}") {
        let _ = said(&text);
    }
}
