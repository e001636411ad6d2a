//! Common programs before the balancer: `curl`, `openssl s_client`, and `wrk` where it is
//! installed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};

use crate::support::{Authority, Config, Juggler, Lines, PATIENCE, Start, TestServer, check, tool};

/// A balancer with a plain and a TLS listener, and the server behind it.
struct Stage {
    server: TestServer,
    juggler: Juggler,
}

impl Stage {
    fn new(tls: &str) -> Self {
        let server = TestServer::start();
        let config = Config::new([server.address()]).rest(&format!(
            "[[listener]]\nname = \"https\"\nbind = \"127.0.0.1:0\"\ntls = {{ certificates = [{{ \
             chain = \"{{dir}}/server.crt\", key = \"{{dir}}/server.key\" }}]{tls} }}"
        ));
        let authority = Authority::new();
        let start = Start::config(&config.text()).file("ca.pem", authority.pem());
        authority
            .issue(&["localhost", "127.0.0.1"])
            .write(start.folder(), "server");
        let juggler = start.ready();
        server.wait_for_stat("connections_now", 5);
        Self { server, juggler }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.juggler.folder().join(name)
    }

    fn url(&self, listener: &str, path: &str) -> String {
        let scheme = if listener == "https" { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.juggler.address_of(listener))
    }

    fn curl(&self, program: &Path, arguments: &[&str]) -> Output {
        Command::new(program)
            // No settings of this machine.
            .args([
                "--disable",
                "--noproxy",
                "*",
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "20",
            ])
            .arg("--cacert")
            .arg(self.file("ca.pem"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same for a run that must succeed. Returns its output.
    #[track_caller]
    fn curl_well(&self, program: &Path, arguments: &[&str]) -> String {
        let output = self.curl(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// All ways in which the test runs curl.
const WAYS: &[(&str, &[&str])] = &[
    ("main", &[]),
    ("main", &["--http1.0"]),
    ("https", &["--tls-max", "1.2"]),
    ("https", &["--tlsv1.3"]),
];

#[test]
fn curl_keeps_its_connection() {
    let curl = tool("curl");
    let stage = Stage::new("");
    for (listener, options) in WAYS {
        let url = stage.url(listener, "/__status/200");
        let mut arguments = options.to_vec();
        arguments.extend(["--write-out", "%{num_connects} ", "--output", "/dev/null"]);
        arguments.extend([url.as_str(), url.as_str(), url.as_str()]);
        // The first URL takes the file and the others standard output, so the test names one for
        // each.
        arguments.extend(["--output", "/dev/null", "--output", "/dev/null"]);
        let connects = stage.curl_well(&curl, &arguments);
        let kept = if options.contains(&"--http1.0") {
            "1 1 1 "
        } else {
            "1 0 0 "
        };
        assert_eq!(connects, kept, "{options:?}");
    }
    assert_eq!(stage.server.stat("connections_ever"), 5);
}

#[test]
fn curl_loads_much_up_and_down() {
    let curl = tool("curl");
    let stage = Stage::new("");
    let bytes = check::bytes(0, 5_000_000);
    let sum = format!("5000000 {}\n", check::Sum::of(&bytes));
    let (up, down) = (stage.file("up"), stage.file("down"));
    fs::write(&up, &bytes).unwrap();
    let (up, down) = (up.to_str().unwrap(), down.to_str().unwrap());
    let posted = format!("@{up}");
    for (listener, options) in WAYS {
        let with = |more: &[&str]| stage.curl_well(&curl, &[options, more].concat());
        let url = stage.url(listener, "/__sum");
        // curl waits for 100 Continue before a body of this size.
        assert_eq!(with(&["--upload-file", up, &url]), sum, "{options:?}");
        assert_eq!(
            with(&["--data-binary", &posted, "--header", "Expect:", &url]),
            sum,
            "{options:?}"
        );
        if !options.contains(&"--http1.0") {
            let chunked = [
                "--upload-file",
                up,
                "--header",
                "Transfer-Encoding: chunked",
                &url,
            ];
            assert_eq!(with(&chunked), sum, "{options:?}");
        }
        for path in [
            "/__size/5000000",
            "/__chunked/50?size=100000",
            "/__close/5000000",
        ] {
            with(&["--output", down, &stage.url(listener, path)]);
            assert!(fs::read(down).unwrap() == bytes, "{path} {options:?}");
        }
    }
}

#[test]
fn curl_is_told_of_a_truncation() {
    let curl = tool("curl");
    let stage = Stage::new("");
    for (listener, options) in WAYS {
        for path in [
            "/__abort/body?after=1000&size=5000",
            "/__abort/chunk?after=1000",
        ] {
            let url = stage.url(listener, path);
            let output = stage.curl(&curl, &[*options, &[url.as_str()]].concat());
            assert!(!output.status.success(), "{path} {options:?}");
        }
    }
}

#[test]
fn curl_is_refused_what_it_may_not() {
    let curl = tool("curl");
    let stage = Stage::new(", min_version = \"1.3\"");
    let url = stage.url("https", "/test.txt");
    stage.curl_well(&curl, &[&url]);
    let old = stage.curl(&curl, &["--tls-max", "1.2", &url]);
    let said = String::from_utf8_lossy(&old.stderr);
    assert!(said.contains("alert protocol version"), "{said}");
    // Plain HTTP to the port of HTTPS and the reverse: an error at once, no hang.
    for url in [
        url.replace("https:", "http:"),
        stage.url("main", "/").replace("http:", "https:"),
    ] {
        let output = stage.curl(&curl, &[&url]);
        let timed_out = output.status.code() == Some(28);
        assert!(!output.status.success() && !timed_out, "{url}");
    }
}

/// `openssl s_client`, which takes lines: a request, or a letter that is an order.
struct SClient {
    child: Child,
    input: ChildStdin,
    output: Lines,
    errors: Lines,
    seen: usize,
}

impl SClient {
    fn start(openssl: &Path, stage: &Stage, arguments: &[&str]) -> Self {
        let mut child = Command::new(openssl)
            .args([
                "s_client",
                "-crlf",
                "-connect",
                &stage.juggler.address_of("https"),
            ])
            .arg("-CAfile")
            .arg(stage.file("ca.pem"))
            .args([
                "-servername",
                "localhost",
                "-verify_return_error",
                "-verify_hostname",
                "localhost",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = Lines::of(child.stdout.take().unwrap());
        let errors = Lines::of(child.stderr.take().unwrap());
        let input = child.stdin.take().unwrap();
        Self {
            child,
            input,
            output,
            errors,
            seen: 0,
        }
    }

    /// Gives an order and waits until the program reports it as done.
    #[track_caller]
    fn order(&mut self, letter: &str, echo: &str) {
        let before = self.errors.all().len();
        writeln!(self.input, "{letter}").unwrap();
        let done = self
            .errors
            .wait(before, PATIENCE, |line| line.contains(echo).then_some(()));
        assert!(done.is_some(), "{:#?}", self.errors.all());
    }

    /// Requests a file and waits for its one line.
    #[track_caller]
    fn get(&mut self, more: &str) {
        write!(
            self.input,
            "GET /test.txt HTTP/1.1\nHost: localhost\n{more}\n"
        )
        .unwrap();
        self.expect("This is test server 1");
    }

    /// Waits for a line behind those seen so far.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let found = self.output.wait(self.seen, PATIENCE, |line| {
            line.contains(text).then_some(())
        });
        assert!(
            found.is_some(),
            "no {text:?}: {:#?} {:#?}",
            self.output.all(),
            self.errors.all()
        );
        let all = self.output.all();
        let skipped = all[self.seen..].iter().position(|line| line.contains(text));
        self.seen += skipped.unwrap() + 1;
    }

    /// Waits for the program's end and returns its output.
    fn end(mut self) -> (bool, String) {
        drop(self.input);
        let status = self.child.wait().unwrap();
        // Both streams have ended with the program.
        for lines in [&self.output, &self.errors] {
            lines.wait(0, PATIENCE, |_| None::<()>);
        }
        let all = [self.output.all(), self.errors.all()].concat();
        (status.success(), all.join("\n"))
    }
}

#[test]
fn openssl_updates_keys_both_ways() {
    let openssl = tool("openssl");
    let stage = Stage::new("");
    let mut client = SClient::start(&openssl, &stage, &["-tls1_3"]);
    client.get("");
    for _ in 0..5 {
        // First our own new keys alone, then new ones for the other side as well.
        client.order("k", "KEYUPDATE");
        client.get("");
        client.order("K", "KEYUPDATE");
        client.get("");
    }
    client.get("Connection: close\n");
    let (well, said) = client.end();
    assert!(well, "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    assert_eq!(stage.server.stat("requests"), 12);
}

#[test]
fn openssl_resumes_sessions() {
    let openssl = tool("openssl");
    let stage = Stage::new("");
    for version in ["-tls1_2", "-tls1_3"] {
        let session = stage.file("session");
        let session = session.to_str().unwrap();
        let mut first = SClient::start(&openssl, &stage, &[version, "-sess_out", session]);
        first.get("Connection: close\n");
        let (well, said) = first.end();
        assert!(well && said.contains("New, TLSv1."), "{said}");
        let mut again = SClient::start(&openssl, &stage, &[version, "-sess_in", session]);
        again.get("Connection: close\n");
        let (well, said) = again.end();
        assert!(well && said.contains("Reused, TLSv1."), "{said}");
    }
}

#[test]
fn openssl_agrees_on_the_protocol_or_is_told() {
    let openssl = tool("openssl");
    let stage = Stage::new("");
    let mut client = SClient::start(&openssl, &stage, &["-alpn", "h2,http/1.1"]);
    client.get("Connection: close\n");
    let (well, said) = client.end();
    assert!(well && said.contains("ALPN protocol: http/1.1"), "{said}");
    for (arguments, alert) in [
        (&["-alpn", "h2"][..], "no application protocol"),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert"),
    ] {
        let (well, said) = SClient::start(&openssl, &stage, arguments).end();
        assert!(!well && said.contains(alert), "{said}");
    }
}

#[test]
fn a_client_cannot_fill_the_log() {
    let openssl = tool("openssl");
    let stage = Stage::new("");
    let before = stage.juggler.log().len();
    // An address is no server name, and rustls would warn about that for each connection.
    let mut client = SClient::start(&openssl, &stage, &["-servername", "127.0.0.1"]);
    client.get("Connection: close\n");
    assert!(client.end().0);
    assert_eq!(
        stage.juggler.log().len(),
        before,
        "{:?}",
        stage.juggler.log()
    );
}

#[test]
fn openssl_may_not_renegotiate() {
    let openssl = tool("openssl");
    let stage = Stage::new("");
    let mut client = SClient::start(&openssl, &stage, &["-tls1_2"]);
    client.get("");
    client.order("R", "RENEGOTIATING");
    let (_, said) = client.end();
    assert!(
        said.contains("no renegotiation") || said.contains("alert"),
        "{said}"
    );
}

#[test]
fn wrk_finds_no_errors() {
    let wrk = tool("wrk");
    let stage = Stage::new("");
    for listener in ["main", "https"] {
        let output = Command::new(&wrk)
            .args(["--threads", "1", "--connections", "20", "--duration", "1s"])
            .arg(stage.url(listener, "/__size/2000"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("requests in"),
            "{said}"
        );
        assert!(
            !said.contains("Socket errors") && !said.contains("Non-2xx"),
            "{said}"
        );
    }
    // wrk does not wait for its last responses, and such connections to the server are made anew.
    assert_eq!(stage.server.stat("connections_most"), 5);
}
