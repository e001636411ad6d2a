//! The command line: commands that only look and print, and the places from which the configuration
//! comes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::{Client, Config, Juggler, PATIENCE, PROGRAM, Start, TestServer, tool};

const GOOD: &str = "\
[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:8080\"\n
[[route]]\nhost = \"*.shop.test\"\npath = \"/checkout\"\ncluster = \"b\"\n
[[route]]\ncluster = \"a\"\n
[[cluster]]\nname = \"a\"\nserver = [{ name = \"one\", address = \"127.0.0.1:6901\" }]\n
[[cluster]]\nname = \"b\"\ncapacity = 2\nserver = [{ address = \"[::1]:6902\" }, { address = \
                    \"unix:/run/app.sock\" }]\n";

/// A folder with a configuration in it.
fn with(text: &str) -> (TempDir, String) {
    let folder = TempDir::with_prefix("juggler-test-").unwrap();
    let file = folder.path().join("juggler.toml");
    fs::write(&file, text).unwrap();
    let name = file.to_str().unwrap().to_owned();
    (folder, name)
}

/// Exit code, standard output, standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    parts(&Juggler::run(arguments))
}

#[test]
fn check_says_that_all_is_well() {
    let (_folder, file) = with(GOOD);
    // `check` needs neither a free port nor a server.
    let _taken = std::net::TcpListener::bind("127.0.0.1:8080");
    for arguments in [
        &["check", "--config", &file][..],
        &["check", &file],
        &["-t", "-c", &file],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, err.as_str()), (0, ""));
        let expected = "configuration is good: 1 listener, 2 routes, 2 clusters, 3 servers, 9 \
                        connections to servers\n";
        assert_eq!(out, format!("{file}: {expected}"));
    }
    let (code, out, _) = run(&["-t", "--listen=127.0.0.1:0", "--server=127.0.0.1:1"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("the command line: configuration is good"));
}

#[test]
fn check_tells_all_problems_at_once() {
    let (folder, file) = with(
        "[proces]\n[process]\ndrain = \"soon\"\nmax_sessions = \"many\"\nuser = \
         \"nobody-at-all\"\n[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:80\", \
         \"127.0.0.1:80\"]\nbacklogg = 3\ntls = { certificates = [{ chain = \"no.crt\", key = \
         \"no.key\" }] }\n[[route]]\ncluster = \"nowhere\"\n[[cluster]]\nname = \"a\"\nserver = \
         [{ address = \"127.0.0.1\" }]\n",
    );
    let (code, out, err) = run(&["check", "--config", &file]);
    assert_eq!((code, out.as_str()), (1, ""));
    for (line, what) in [
        (1, "proces"),
        (3, "drain"),
        (4, "max_sessions"),
        (5, "nobody-at-all"),
        (8, "already bound"),
        (9, "backlogg"),
        (10, "no.crt"),
        (10, "no.key"),
        (12, "nowhere"),
        (15, "127.0.0.1"),
    ] {
        let place = format!("{file}:{line}:");
        let found = err
            .lines()
            .any(|said| said.starts_with(&place) && said.contains(what));
        assert!(found, "{what} in line {line}:\n{err}");
    }
    assert!(err.ends_with("10 problems\n"), "{err}");
    // Written with hints where a similar key is known.
    assert!(err.contains("backlog") && err.contains("hint:"), "{err}");
    // The same mistakes end a start, before anything is bound.
    let (code, out, same) = run(&["--config", &file]);
    assert_eq!((code, out, same), (1, String::new(), err));
    drop(folder);
}

#[test]
fn check_holds_certificates_against_their_keys() {
    let (folder, file) = with(&GOOD.replace(
        "bind = \"127.0.0.1:8080\"",
        "bind = \"127.0.0.1:8443\"\ntls = { certificates = [{ chain = \"a/server.crt\", key = \
         \"b/server.key\" }] }",
    ));
    let certificate = |name: &str| {
        let out = folder.path().join(name);
        let (code, _, err) = run(&["certificate", "--out", out.to_str().unwrap()]);
        assert_eq!(code, 0, "{err}");
    };
    certificate("a");
    certificate("b");
    let (code, _, err) = run(&["check", "--config", &file]);
    assert_eq!(code, 1);
    assert!(
        err.contains("is not the key of the certificate in"),
        "{err}"
    );
    fs::copy(
        folder.path().join("a/server.key"),
        folder.path().join("b/server.key"),
    )
    .unwrap();
    let (code, _, err) = run(&["check", "--config", &file]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn routes_prints_the_table() {
    let (_folder, file) = with(GOOD);
    let (code, out, err) = run(&["routes", "--config", &file]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "HOST         PATH       CLUSTER  SERVERS\n*.shop.test  /checkout  b        [::1]:6902 \
         x2, unix:/run/app.sock x2\n*            /          a        one x5\n"
    );
    let (code, out, err) = run(&["routes", "--config", "/nowhere.toml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("/nowhere.toml") && err.contains("cannot be read"),
        "{err}"
    );
}

#[test]
fn held_and_release_need_a_state_file() {
    let settings = ["--listen", "127.0.0.1:0", "--server", "127.0.0.1:1"];
    for command in [
        &["held"][..],
        &["release", "flags/one"],
        &["release", "flags/one", "--by=anna"],
    ] {
        let (code, out, err) = run(&[command, &settings].concat());
        assert_eq!((code, out.as_str()), (1, ""), "{command:?}");
        assert!(
            err.contains("process.state") && err.contains("hint:"),
            "{command:?}: {err}"
        );
    }
    let (code, _, err) = run(&["held", "--config", "/nowhere.toml"]);
    assert!(code == 1 && err.contains("/nowhere.toml"), "{err}");
}

#[test]
fn the_reference_has_every_key() {
    let (code, text, err) = run(&["config", "reference"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (_, markdown, _) = run(&["config", "reference", "--markdown"]);
    for key in [
        "[process]",
        "[[listener]]",
        "[[cluster]]",
        "[[route]]",
        "max_sessions",
        "half_close",
        "min_version",
        "on_client_abort",
        "first_byte",
        "sessions_per_address",
    ] {
        let name = key.trim_matches(['[', ']']);
        assert!(text.contains(key) && markdown.contains(name), "{key}");
    }
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    assert_eq!(
        fs::read_to_string(manual).unwrap(),
        markdown,
        "docs/configuration.md is old"
    );
}

#[test]
fn a_certificate_is_good_for_what_it_says() {
    let folder = TempDir::with_prefix("juggler-test-").unwrap();
    let out = folder.path().join("new/certs");
    let out_name = out.to_str().unwrap();
    let names = [
        "--name",
        "shop.test",
        "--name",
        "*.shop.test",
        "--name",
        "192.0.2.1",
    ];
    let (code, said, err) = run(&[&["certificate", "--out", out_name], &names[..]].concat());
    assert_eq!((code, err.as_str()), (0, ""));
    let (chain, key) = (out.join("server.crt"), out.join("server.key"));
    assert!(
        said.contains(chain.to_str().unwrap()) && said.contains("192.0.2.1"),
        "{said}"
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&chain), mode(&key)), (0o644, 0o600));

    // Nothing is overwritten without `--force`.
    let before = (fs::read(&chain).unwrap(), fs::read(&key).unwrap());
    let (code, _, err) = run(&["certificate", "--out", out_name]);
    assert_eq!(code, 1);
    assert!(
        err.contains("is there already") && err.contains("--force"),
        "{err}"
    );
    fs::remove_file(&chain).unwrap();
    assert_eq!(
        run(&["certificate", "--out", out_name]).0,
        1,
        "a key alone is not overwritten either"
    );
    assert_eq!(fs::read(&key).unwrap(), before.1);
    assert_eq!(run(&["certificate", "--out", out_name, "--force"]).0, 0);
    assert_ne!((fs::read(&chain).unwrap(), fs::read(&key).unwrap()), before);
    assert_eq!(mode(&key), 0o600);

    let (code, _, err) = run(&["certificate", "--out", "/proc/nowhere"]);
    assert_eq!(code, 1);
    assert!(err.contains("/proc/nowhere"), "{err}");
}

#[test]
fn openssl_reads_the_certificate() {
    let openssl = tool("openssl");
    let folder = TempDir::with_prefix("juggler-test-").unwrap();
    let out = folder.path().to_str().unwrap();
    assert_eq!(
        run(&["certificate", "--out", out, "--name", "shop.test"]).0,
        0
    );
    let ask = |arguments: &[&str]| {
        let output = Command::new(&openssl)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let names = ask(&[
        "x509",
        "-in",
        "server.crt",
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for name in [
        "DNS:localhost",
        "IP Address:127.0.0.1",
        "IP Address:0:0:0:0:0:0:0:1",
        "DNS:shop.test",
        &format!("DNS:{}", host.trim()),
    ] {
        assert!(names.contains(name), "{name} in {names}");
    }
    ask(&[
        "x509",
        "-in",
        "server.crt",
        "-noout",
        "-checkend",
        "2592000",
    ]);
    ask(&[
        "verify",
        "-CAfile",
        "server.crt",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "localhost",
        "server.crt",
    ]);
    let public = ask(&["pkey", "-in", "server.key", "-pubout"]);
    assert_eq!(
        public,
        ask(&["x509", "-in", "server.crt", "-noout", "-pubkey"])
    );
}

#[test]
fn flags_alone_run_it_with_https() {
    let server = TestServer::start();
    let folder = TempDir::with_prefix("juggler-test-").unwrap();
    let out = folder.path().to_str().unwrap();
    assert_eq!(run(&["certificate", "--out", out]).0, 0);
    let juggler = Start::bare()
        .argument("--listen=127.0.0.1:0")
        .argument("--https=127.0.0.1:0")
        .argument(format!("--certificate={out}/server.crt"))
        .argument(format!("--key={out}/server.key"))
        .argument(format!("--server={}", server.address()))
        .argument("--capacity=2")
        .argument("--access-log")
        .argument("--drain=5s")
        .ready();
    Client::connect(juggler.address_of("http"))
        .get("/test.txt?a")
        .expect(200);
    juggler.wait_for_output("GET /test.txt?a");
    let curl = tool("curl");
    let output = Command::new(curl)
        .args([
            "--disable",
            "--noproxy",
            "*",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
        ])
        .arg("--cacert")
        .arg(folder.path().join("server.crt"))
        .arg(format!(
            "https://{}/test.txt?b",
            juggler.address_of("https")
        ))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    juggler.wait_for_output("GET /test.txt?b");
}

#[test]
fn flags_go_before_the_file() {
    let (in_file, in_flags) = (TestServer::named("file"), TestServer::named("flags"));
    let config = Config::new([in_file.address()])
        .top("[process]\ndrain = \"1ms\"\n[log]\naccess = \"off\"")
        .listener("bind = \"127.0.0.1:1\"")
        .cluster("capacity = 1");
    // Only root could bind the file's listener.
    let juggler = Start::config(&config.text())
        .argument("--listen=127.0.0.1:0")
        .argument("--access-log=stdout")
        .argument("--capacity=3")
        .ready();
    in_file.wait_for_stat("connections_now", 3);
    let response = Client::connect(juggler.address())
        .get("/test.txt")
        .expect(200);
    assert_eq!(response.field("x-test-server"), Some("file"));
    juggler.wait_for_output("GET /test.txt");
    drop(juggler);

    let juggler = Start::config(&config.text().replace("127.0.0.1:1\"", "127.0.0.1:0\""))
        .argument(format!("--server={}", in_flags.address()))
        .ready();
    let response = Client::connect(juggler.address())
        .get("/test.txt")
        .expect(200);
    assert_eq!(response.field("x-test-server"), Some("flags"));
}

#[test]
fn what_is_wrong_on_the_command_line_is_said() {
    for (arguments, said) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--capacity", "many"], "many"),
        (&["--listen", "127.0.0.1:0"], "server"),
        (&["--listen", "here", "--server", "127.0.0.1:1"], "--listen"),
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--server",
                "127.0.0.1:1",
                "--drain",
                "soon",
            ],
            "--drain",
        ),
        (
            &["--https", "127.0.0.1:0", "--server", "127.0.0.1:1"],
            "--certificate",
        ),
        (&["check", "--config"], "--config"),
        (&["nonsense"], "nonsense"),
        (&["release"], "CLUSTER/SERVER"),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
    assert_eq!(run(&["--help"]).0, 0);
    assert!(run(&["--version"]).1.starts_with("juggler "));
}

/// The program in a tree of its own, as `make install` puts it there.
fn install(tree: &Path) -> PathBuf {
    let bin = tree.join("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("juggler");
    // A hard link is the same file at another place. Where links are impossible, a copy serves.
    if fs::hard_link(PROGRAM, &program).is_err() {
        fs::copy(PROGRAM, &program).unwrap();
    }
    program
}

#[test]
fn without_arguments_it_reads_what_lies_in_its_tree() {
    let tree = TempDir::with_prefix("juggler-test-").unwrap();
    let program = install(tree.path());
    let ask = |arguments: &[&str]| {
        let output = Command::new(&program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        parts(&output)
    };
    if !Path::new("/etc/juggler/juggler.toml").exists() {
        let (code, _, err) = ask(&[]);
        assert_eq!(code, 2, "no file is named, and none is found");
        for place in ["juggler_config/juggler.toml", "/etc/juggler/juggler.toml"] {
            assert!(err.contains(place), "{err}");
        }
    }
    fs::create_dir(tree.path().join("juggler_config")).unwrap();
    let file = tree.path().join("juggler_config/juggler.toml");
    fs::write(&file, GOOD).unwrap();
    let (code, out, err) = ask(&["check"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("2 clusters"), "{out}");
    // A link from a folder of programs leads there, too.
    let link = tree.path().join("link");
    std::os::unix::fs::symlink(&program, &link).unwrap();
    let output = Command::new(&link).arg("routes").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    fs::write(&file, "nonsense").unwrap();
    let (code, _, err) = ask(&[]);
    assert_eq!(code, 1);
    assert!(err.contains("juggler_config/juggler.toml:1:"), "{err}");
}

#[test]
fn the_configurations_in_the_tree_are_good() {
    for name in ["juggler.toml", "demo.toml"] {
        let file = format!("{}/juggler_config/{name}", env!("CARGO_MANIFEST_DIR"));
        let (code, out, err) = run(&["check", "--config", &file]);
        assert_eq!(code, 0, "{name}: {err}");
        assert!(out.contains("3 servers, 15 connections"), "{out}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let output = Command::new("sh")
        .args(["-c", "\"$0\" config reference | head -n 1 >/dev/null"])
        .arg(PROGRAM)
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn an_access_log_that_cannot_be_opened_ends_the_start() {
    let server = TestServer::start();
    let config = Config::new([server.address()]).top("[log]\naccess = \"{dir}/folder/access.log\"");
    let start = Start::config(&config.text());
    fs::create_dir_all(start.folder().join("folder/access.log")).unwrap();
    let mut juggler = start.spawn();
    assert_eq!(juggler.wait(PATIENCE), Some(1));
    juggler.wait_for_log("is a folder");
}
