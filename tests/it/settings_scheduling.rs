//! Schedulers, buckets, health and names in a configuration: the output of the commands that only
//! look.

use std::fs;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::PROGRAM;

// No such name can exist (RFC 6761 §6.4).
const WHOLE: &str = r#"
[[listener]]
name = "web"
bind = "127.0.0.1:8080"

[[cluster]]
name = "api"
capacity = 20
scheduler = { type = "rendezvous", balance = "150%" }
client_key = "field:X-Customer"
lending = "reserve"
deadline_field = "grpc-timeout"
retry = { back_off = "100ms" }
bucket = [
  { name = "paying", assured = "70%" },
  { name = "gold", parent = "paying", assured = "50%" },
  { name = "main", ceiling = "62.5%", queue = { limit = 200, timeout = "2s" } },
]
server = [
  { address = "api-1.invalid:8000", weight = 2, protected = true },
  { address = "10.0.0.9:8000", role = "backup", admin = "draining" },
]

[cluster.health]
path = "/up"
expect = [200, "204-299"]
sticky_offline = true

[cluster.health.passive]
status = 5

[[route]]
path = "/gold"
cluster = "api"
bucket = "gold"

[[route]]
path = "/pay"
cluster = "api"
bucket = "paying"

[[route]]
cluster = "api"
"#;

/// Runs a command on this text, with this folder as a systemd service's state directory, if any.
fn run(command: &str, text: &str, state_directory: Option<&str>) -> (Option<i32>, String, String) {
    let folder = TempDir::with_prefix("juggler-test-").unwrap();
    let file = folder.path().join("juggler.toml");
    fs::write(&file, text).unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(PROGRAM)
        .args([command, "--config"])
        .arg(&file)
        .env_remove("STATE_DIRECTORY")
        .envs(state_directory.map(|folder| ("STATE_DIRECTORY", folder)))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(file.to_str().unwrap(), "FILE")
    };
    (status.code(), text(stdout), text(stderr))
}

const GOOD: &str = "FILE: configuration is good: 1 listener, 3 routes, 1 cluster, 2 servers, 40 \
                    connections to servers\n";

#[test]
fn check_says_where_the_state_is_missing() {
    let forgotten = "FILE:27:18: warning: cluster[0].health.sticky_offline: is forgotten at a \
                     restart: there is no file for it\n  hint: say where it is kept: \
                     process.state\n";
    let (code, out, err) = run("check", WHOLE, None);
    assert_eq!((code, &*out), (Some(0), GOOD));
    assert!(err.starts_with(forgotten), "{err}");
    // A service has a place by itself, unless the file says `off`.
    assert_eq!(
        run("check", WHOLE, Some("/var/lib/juggler")),
        (Some(0), GOOD.to_owned(), String::new())
    );
    let off = format!("process = {{ state = \"off\" }}{WHOLE}");
    let (_, _, err) = run("check", &off, Some("/var/lib/juggler"));
    assert!(err.contains("is forgotten at a restart"), "{err}");
}

#[test]
fn routes_names_buckets_and_roles() {
    let servers = "api-1.invalid:8000 x20, 10.0.0.9:8000 x20 backup draining";
    assert_eq!(
        run("routes", WHOLE, Some("/var/lib/juggler")),
        (
            Some(0),
            format!(
                "HOST  PATH   CLUSTER       SERVERS\n*     /gold  api (gold)    {servers}\n*     \
                 /pay   api (paying)  {servers}\n*     /      api (main)    {servers}\n"
            ),
            String::new()
        )
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut text = WHOLE.to_owned();
    for (right, wrong) in [
        ("\"rendezvous\"", "\"rendevous\""),
        ("field:X-Customer", "field:X Customer"),
        ("\"100ms\"", "\"1h\""),
        ("assured = \"70%\"", "assured = \"170%\""),
        ("parent = \"paying\"", "parent = \"gold\""),
        ("api-1.invalid:8000", "api-1..invalid:8000"),
        ("\"204-299\"", "\"299-204\""),
        ("status = 5", "status = 1"),
        ("bucket = \"paying\"", "bucket = \"payng\""),
    ] {
        assert!(text.contains(right), "{right}");
        text = text.replace(right, wrong);
    }
    let (code, out, err) = run("check", &text, Some("/"));
    assert_eq!((code, &*out), (Some(1), ""));
    for (place, what) in [
        (
            "9:22: cluster[0].scheduler.type:",
            "did you mean \"rendezvous\"?",
        ),
        ("10:14: cluster[0].client_key:", "\"X Customer\" is no name"),
        ("13:22: cluster[0].retry.back_off:", "from 0s to 1m"),
        ("15:32: cluster[0].bucket[0].assured:", "from 0% to 100%"),
        ("16:29: cluster[0].bucket[1].parent:", "is below itself"),
        (
            "20:15: cluster[0].server[0].address:",
            "is no address of a server",
        ),
        ("26:16: cluster[0].health.expect[1]:", "write \"204-299\""),
        (
            "30:10: cluster[0].health.passive.status:",
            "at least 2, or 0 for never",
        ),
        ("40:10: route[1].bucket:", "did you mean \"paying\"?"),
    ] {
        let (_, said) = err
            .split_once(&format!("FILE:{place}"))
            .unwrap_or_else(|| panic!("{place}:\n{err}"));
        let said = said.split("FILE:").next().unwrap();
        assert!(said.contains(what), "{place}{said}");
    }
    assert!(err.ends_with("9 problems\n"), "{err}");
}
