//! The nginx of Debian behind the balancer.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::support::{Client, Config, Framing, Juggler, PATIENCE, check, eventually, tool};

/// An nginx for the test, on a port of its own.
struct Nginx {
    child: Child,
    address: String,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx. Its `root` holds `small.txt`, `large.bin` and `page.html`.
    fn start() -> Self {
        let nginx = tool("nginx");
        let folder = TempDir::with_prefix("juggler-nginx-").unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("small.txt"), "small\n").unwrap();
        fs::write(root.join("large.bin"), check::bytes(0, 20_000_000)).unwrap();
        fs::write(
            root.join("page.html"),
            "<p>all work and no play</p>\n".repeat(1000),
        )
        .unwrap();
        // nginx takes over a bound socket, as it does when it is replaced while it runs. So the
        // test need not guess a port.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // nginx does not change the socket. If it blocked, of two workers that see one connection
        // the slower would hang in accept() and serve no client any more.
        listener.set_nonblocking(true).unwrap();
        fs::write(folder.path().join("nginx.conf"), configuration(&address)).unwrap();
        let child = Command::new("sh")
            .args([
                "-c",
                "export NGINX='3;'; exec \"$@\" 3<&0 0</dev/null",
                "sh",
            ])
            .arg(nginx)
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "error.log", "-c", "nginx.conf"])
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            folder,
        }
    }

    /// How many connections and how many requests nginx has counted in its log.
    fn counted(&self) -> (usize, usize) {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        let connections: std::collections::BTreeSet<_> = log
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        (connections.len(), log.lines().count())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Only a SIGTERM ends nginx's workers together with it.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default();
            eprintln!("--- nginx's log:\n{log}\n---");
        }
    }
}

fn configuration(address: &str) -> String {
    // As another user nginx's workers could not read the folder.
    let user = if nix::unistd::geteuid().is_root() {
        "user root root;"
    } else {
        ""
    };
    format!(
        "{user} worker_processes 2; daemon off; pid nginx.pid;
        events {{ worker_connections 100; }}
        http {{
            log_format counted '$connection $status $request';
            access_log access.log counted;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            types {{ text/html html; text/plain txt; application/octet-stream bin; }}
            server {{
                listen {address};
                root root;
                gzip on; gzip_http_version 1.0;
                keepalive_requests 1000000;
                location /moved {{ return 301 /small.txt; }}
                location /teapot {{ return 418; }}
                location /few {{ keepalive_requests 3; alias root/; }}
            }}
        }}"
    )
}

fn start(capacity: usize) -> (Nginx, Juggler) {
    let nginx = Nginx::start();
    let juggler = Config::new([&nginx.address])
        .cluster(&format!("capacity = {capacity}"))
        .start();
    let mut client = Client::connect(juggler.address());
    eventually(PATIENCE, "nginx", || client.get("/small.txt").status == 200);
    (nginx, juggler)
}

fn ask(client: &mut Client, request: &str, fields: &str) -> crate::support::Response {
    client.exchange(format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    ))
}

#[test]
fn nginx_serves_files_over_kept_connections() {
    let (nginx, juggler) = start(2);
    let mut client = Client::connect(juggler.address());
    for _ in 0..50 {
        let small = client.get("/small.txt").expect(200);
        assert_eq!(
            (small.text().as_str(), small.framing),
            ("small\n", Framing::Length)
        );
        assert!(small.field("server").unwrap().starts_with("nginx"));
        assert_eq!(small.field("content-type"), Some("text/plain"));
        assert_eq!(small.all("date").len(), 1);
    }
    assert!(client.get("/large.bin").expect(200).body == check::bytes(0, 20_000_000));
    let part = ask(
        &mut client,
        "GET /large.bin",
        "Range: bytes=1000000-1000999\r\n",
    )
    .expect(206);
    assert_eq!(part.body, check::bytes(1_000_000, 1_001_000));
    let head = ask(&mut client, "HEAD /large.bin", "").expect(200);
    assert_eq!(head.field("content-length"), Some("20000000"));
    // One more request was sent at the start.
    eventually(PATIENCE, "all logged", || nginx.counted().1 == 54);
    assert!(nginx.counted().0 <= 2, "{:?}", nginx.counted());
}

#[test]
fn nginx_compresses_in_chunks_and_we_leave_it_so() {
    let (_nginx, juggler) = start(1);
    let mut client = Client::connect(juggler.address());
    let plain = client.get("/page.html").expect(200);
    assert_eq!(plain.framing, Framing::Length);
    let packed = ask(&mut client, "GET /page.html", "Accept-Encoding: gzip\r\n").expect(200);
    assert_eq!(packed.field("content-encoding"), Some("gzip"));
    assert_eq!(packed.framing, Framing::Chunked);
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.body.len() < plain.body.len() / 10);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.gz");
    fs::write(&file, &packed.body).unwrap();
    let output = Command::new(tool("gzip"))
        .arg("-dc")
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.stdout == plain.body);
    // For HTTP/1.0 the end of the connection is the end of the body.
    let mut old = Client::connect(juggler.address());
    let request = "GET /page.html HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n";
    let again = old.exchange(request).expect(200);
    assert_eq!(
        (again.framing, again.body == packed.body),
        (Framing::Close, true)
    );
}

#[test]
fn nginx_says_no_and_that_is_passed_on() {
    let (nginx, juggler) = start(1);
    let mut client = Client::connect(juggler.address());
    let whole = client.get("/small.txt").expect(200);
    let tag = format!("If-None-Match: {}\r\n", whole.field("etag").unwrap());
    for _ in 0..3 {
        let unchanged = ask(&mut client, "GET /small.txt", &tag).expect(304);
        assert!(unchanged.body.is_empty() && unchanged.field("etag") == whole.field("etag"));
    }
    client.post("/small.txt", vec![b'x'; 200_000]).expect(405);
    client.get("/missing").expect(404);
    client.get("/teapot").expect(418);
    let moved = client.get("/moved").expect(301);
    assert!(
        moved.field("location").unwrap().ends_with("/small.txt"),
        "{moved:?}"
    );
    ask(&mut client, "OPTIONS *", "").expect(400);
    client.get("/small.txt").expect(200);
    assert!(
        !fs::read_to_string(nginx.folder.path().join("access.log"))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn nginx_ends_connections_now_and_then_and_no_client_notices() {
    let (nginx, juggler) = start(2);
    let mut client = Client::connect(juggler.address());
    for _ in 0..100 {
        let response = client.get("/few/small.txt").expect(200);
        assert!(
            !response.closes(),
            "nginx's close must not reach the client"
        );
    }
    assert!(nginx.counted().0 >= 30, "{:?}", nginx.counted());
}

#[test]
fn curl_and_nginx_understand_each_other_through_us() {
    let (nginx, juggler) = start(2);
    let curl = tool("curl");
    let output = |arguments: &[&str], path: &str| {
        let output = Command::new(&curl)
            .args([
                "--disable",
                "--noproxy",
                "*",
                "--silent",
                "--show-error",
                "--max-time",
                "20",
            ])
            .args(arguments)
            .arg(format!("http://{}{path}", juggler.address()))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let plain = fs::read(nginx.folder.path().join("root/page.html")).unwrap();
    assert!(output(&["--compressed"], "/page.html") == plain);
    assert_eq!(output(&["--location"], "/moved"), b"small\n");
    let large = nginx.folder.path().join("root/large.bin");
    let large: &Path = &large;
    let upload = [
        "--upload-file",
        large.to_str().unwrap(),
        "--write-out",
        "%{http_code}",
        "--output",
        "/dev/null",
    ];
    // nginx responds at once, and reads no more of the body.
    assert_eq!(output(&upload, "/small.txt"), b"413");
    assert!(output(&[], "/large.bin") == check::bytes(0, 20_000_000));
}
