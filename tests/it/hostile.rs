//! Everything hostile at once that clients and servers do, beside ordinary clients, which notice
//! nothing. `make soak` runs the same for longer and draws what the process used.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::plot::{self, Sample};
use crate::support::{Authority, Client, Juggler, Origin, PATIENCE, Start, eventually};

/// The time that the ordinary clients' servers take for a request.
const SERVICE: Duration = Duration::from_millis(5);

/// How much longer an ordinary client may wait, beyond what the machine itself delayed.
const BEYOND: Duration = Duration::from_millis(200);

/// The number of ordinary clients.
const CLIENTS: usize = 32;

/// The most memory that the process may use, in KiB: 64 MiB of buffers, and the rest for some 150
/// connections, their threads and the allocator.
const MEMORY_KIB: u64 = 128 << 10;

/// Panics of threads that hold nothing of an ordinary client.
const PANICS: &str = "reaper.tick=40x20,prober.look=40x20,tick=7x5,log.write=5x5,courier.\
                      deliver=20x20,session.body=40x30";

/// The configuration: `good` and `odd` are the clusters, `tls` is the second listener.
fn config(authority: &Authority, folder: &Path, good: &Origin, odd: &Origin) -> String {
    let (chain, key) = authority.issue(&["localhost"]).write(folder, "hostile");
    format!(
        r#"
[process]
max_sessions = 400
summary = "1s"
drain = "5s"
[buffers]
region = "64MiB"
[spool]
folder = "{{dir}}"
limit = "256MiB"
[log]
access = "{{dir}}/stuck"
[[listener]]
name = "main"
bind = "127.0.0.1:0"
health_path = "/up"
timeout = {{ body = "4s", write = "4s", header = "4s", idle = "20s" }}
limit = {{ response_memory = "64KiB" }}
[[listener]]
name = "tls"
bind = "127.0.0.1:0"
timeout = {{ body = "4s", write = "4s", header = "4s" }}
tls = {{ certificates = [{{ chain = {chain:?}, key = {key:?} }}] }}
[[route]]
path = "/odd"
cluster = "odd"
[[route]]
cluster = "good"
[[cluster]]
name = "good"
connect = "warm"
capacity = 16
server = [{{ name = "g", address = "{}" }}]
[[cluster]]
name = "odd"
connect = "warm"
capacity = 4
queue = {{ limit = 50, timeout = "2s" }}
timeout = {{ first_byte = "1s", read = "1s" }}
health = {{ mode = "lazy", path = "/up" }}
server = [{{ name = "o", address = "{}" }}]
"#,
        good.address(),
        odd.address(),
    )
}

/// A server that responds correctly: large, or small after a while.
fn good() -> Origin {
    let big = vec![b'b'; 4 << 20];
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.starts_with("/big") {
                conn.answer(200, &big);
            } else {
                thread::sleep(SERVICE);
                conn.answer(200, "small");
            }
        }
    })
}

/// A server that responds in every way but a correct one.
fn odd() -> Origin {
    let turn = AtomicUsize::new(0);
    Origin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target == "/up" {
                conn.answer(200, "up");
                continue;
            }
            match turn.fetch_add(1, Ordering::Relaxed) % 12 {
                0 => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
                1 => conn.send(
                    "HTTP/1.1 200 OK\r\nKeep-Alive: \
                     timeout=18446744073709551615\r\nContent-Length: 2\r\n\r\nok",
                ),
                2 => conn.send("no HTTP at all\r\n\r\n"),
                3 => conn.send(format!(
                    "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                    "x".repeat(70_000)
                )),
                4 => conn.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
                ),
                5 => conn.send("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"),
                6 => conn.send("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(500)),
                7 => conn.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
                8 => conn.send(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: \
                     chunked\r\n\r\n1\r\nx\r\n1\r\ny\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
                ),
                9 => return conn.reset(),
                10 => return,
                _ => conn.answer(500, "error"),
            }
        }
    })
}

/// The common end of all threads of the test.
#[derive(Clone)]
struct Until {
    end: Instant,
    stopped: Arc<AtomicBool>,
}

impl Until {
    fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || Instant::now() >= self.end
    }

    /// Waits, but not beyond the end. Returns `false` at the end.
    fn pause(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.is_over() && Instant::now() < until {
            thread::sleep(time.min(Duration::from_millis(20)));
        }
        !self.is_over()
    }
}

/// Connects for an attack. The balancer may refuse, and the attacker gives up soon.
fn attacker(address: &str) -> Option<Client> {
    let mut client = Client::try_connect(address).ok()?;
    client.set_patience(Duration::from_millis(300));
    Some(client)
}

fn pipeline_without_reading(address: &str, request: &str, until: &Until) {
    let many = request.repeat(200);
    while !until.is_over() {
        let Some(mut client) = attacker(address) else {
            continue;
        };
        client.small_receive_buffer();
        while client.try_send(&many).is_ok() && !until.is_over() {}
        until.pause(Duration::from_millis(1500));
    }
}

fn send_a_body_slowly(address: &str, until: &Until, piece: usize, pause: Duration) {
    while !until.is_over() {
        let Some(mut client) = attacker(address) else {
            continue;
        };
        let _ =
            client.try_send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n");
        while client.try_send(vec![b'x'; piece]).is_ok() && until.pause(pause) {}
    }
}

fn fill_the_spool(address: &str, until: &Until) {
    let piece = vec![b'x'; 256 << 10];
    while !until.is_over() {
        let Some(mut client) = attacker(address) else {
            continue;
        };
        let _ = client
            .try_send("POST /spool HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
        let mut sent = 0;
        while sent < 100 << 20 && client.try_send(&piece).is_ok() && !until.is_over() {
            sent += piece.len();
        }
        until.pause(Duration::from_secs(3));
    }
}

fn read_slowly(address: &str, until: &Until) {
    while !until.is_over() {
        let Some(mut client) = attacker(address) else {
            continue;
        };
        client.receive_buffer(16 << 10);
        if client
            .try_send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
            .is_ok()
        {
            // Too few bytes, and then none.
            until.pause(Duration::from_secs(6));
        }
    }
}

fn ask_odd_servers(address: &str, until: &Until) {
    while !until.is_over() {
        let Some(mut client) = attacker(address) else {
            continue;
        };
        client.set_patience(PATIENCE);
        for _ in 0..20 {
            let sent = client.try_send("GET /odd HTTP/1.1\r\nHost: x\r\n\r\n");
            if sent.is_err() || client.try_read_response(false).is_err() || until.is_over() {
                break;
            }
        }
        until.pause(Duration::from_millis(20));
    }
}

fn send_rubbish(address: &str, until: &Until) {
    let rubbish: [&[u8]; 6] = [
        b"\x16\x03\x01\xff\xff",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
    ];
    for bytes in rubbish.iter().cycle() {
        let Some(mut client) = attacker(address) else {
            continue;
        };
        let _ = client.try_send(bytes);
        client.reset();
        if !until.pause(Duration::from_millis(10)) {
            return;
        }
    }
}

fn abuse_tls(address: &str, authority: &Authority, until: &Until) {
    let config = authority.client();
    while until.pause(Duration::from_millis(50)) {
        let Ok(mut client) = Client::try_tls(address, &config, "localhost", false) else {
            continue;
        };
        client.set_patience(Duration::from_millis(300));
        client.small_receive_buffer();
        // Each request gets a response, and none is read.
        for _ in 0..2000 {
            if client.tls_connection().refresh_traffic_keys().is_err()
                || client.try_send("").is_err()
            {
                break;
            }
        }
        client.reset();
    }
}

/// The results of one ordinary client.
#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    failed: AtomicUsize,
    /// The longest wait beyond the times of server and machine, in microseconds.
    beyond_us: AtomicU64,
}

/// A client that sends a request, waits a little, and sends the next.
fn be_ordinary(address: &str, until: &Until, seen: &Seen, stalls: &AtomicU64) {
    let mut client = Client::connect(address);
    while !until.is_over() {
        let stalled = stalls.load(Ordering::Relaxed);
        let began = Instant::now();
        client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
        let is_good = client
            .try_read_response(false)
            .is_ok_and(|response| response.status == 200 && response.body == b"small");
        let waited = began.elapsed().saturating_sub(SERVICE);
        let stalled = Duration::from_micros(stalls.load(Ordering::Relaxed) - stalled);
        seen.count.fetch_add(1, Ordering::Relaxed);
        if !is_good {
            seen.failed.fetch_add(1, Ordering::Relaxed);
            client = Client::connect(address);
        }
        let beyond = waited.saturating_sub(stalled).as_micros() as u64;
        seen.beyond_us.fetch_max(beyond, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(25));
    }
}

/// Measures the machine's own delays: adds up how much longer a sleep takes than it should.
fn watch_the_machine(until: &Until, stalls: &AtomicU64) {
    let nap = Duration::from_millis(2);
    while !until.is_over() {
        let began = Instant::now();
        thread::sleep(nap);
        let late = began
            .elapsed()
            .saturating_sub(nap + Duration::from_millis(1));
        stalls.fetch_add(late.as_micros() as u64, Ordering::Relaxed);
    }
}

fn reload_again_and_again(juggler: &Juggler, until: &Until) -> usize {
    let file = juggler.folder().join("juggler.toml");
    let text = fs::read_to_string(&file).unwrap();
    let other = text
        .replace(
            "capacity = 4\n",
            "capacity = 3\nscheduler = \"least_load\"\n",
        )
        .replace("limit = 50", "limit = 40");
    let mut count = 0;
    while until.pause(Duration::from_millis(700)) {
        count += 1;
        let text = if count % 2 == 0 { &text } else { &other };
        fs::write(&file, text).unwrap();
        juggler.signal(Signal::SIGHUP);
    }
    count
}

/// How many worker threads there are.
fn workers(juggler: &Juggler) -> usize {
    let threads = juggler.threads_by_name();
    let of_workers = threads.iter().filter(|(name, _)| name.starts_with("w-"));
    of_workers.map(|(_, count)| count).sum()
}

#[test]
fn ordinary_clients_notice_nothing_of_everything_at_once() {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let seconds: u64 = number("JUGGLER_HOSTILE_SECONDS").unwrap_or(60);
    let (good, odd, authority) = (good(), odd(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let start = Start::config(&config(&authority, folder.path(), &good, &odd));
    // An access log that takes nothing: a reader holds it open and never reads.
    let stuck = start.folder().join("stuck");
    nix::unistd::mkfifo(&stuck, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _never_read = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&stuck)
        .unwrap();
    let mut juggler = start
        .environment("JUGGLER_PANIC_AT", PANICS)
        // The names in a backtrace would take more memory than all the rest.
        .environment("RUST_BACKTRACE", "0")
        .ready();
    juggler.may_panic();
    good.wait_for_connections(16);
    let (main, tls) = (juggler.address_of("main"), juggler.address_of("tls"));
    let (files, before) = (juggler.open_files(), workers(&juggler));
    let until = Until {
        end: Instant::now() + Duration::from_secs(seconds),
        stopped: Arc::default(),
    };
    let (seen, stalls) = (Seen::default(), AtomicU64::new(0));
    let mut samples = Vec::new();
    let mut reloads = 0;
    thread::scope(|scope| {
        scope.spawn(|| watch_the_machine(&until, &stalls));
        for _ in 0..CLIENTS {
            scope.spawn(|| be_ordinary(&main, &until, &seen, &stalls));
        }
        for path in ["/small", "/up", "/odd", "/big"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost:a\r\n\r\n");
            let (main, until) = (&main, &until);
            scope.spawn(move || pipeline_without_reading(main, &request, until));
        }
        for _ in 0..10 {
            scope.spawn(|| send_a_body_slowly(&main, &until, 1, Duration::from_millis(100)));
            scope.spawn(|| send_a_body_slowly(&main, &until, 70_000, Duration::from_secs(30)));
            scope.spawn(|| read_slowly(&main, &until));
        }
        for _ in 0..3 {
            scope.spawn(|| fill_the_spool(&main, &until));
            scope.spawn(|| ask_odd_servers(&main, &until));
        }
        scope.spawn(|| send_rubbish(&main, &until));
        scope.spawn(|| send_rubbish(&tls, &until));
        scope.spawn(|| abuse_tls(&tls, &authority, &until));
        let reloading = scope.spawn(|| reload_again_and_again(&juggler, &until));
        let began = Instant::now();
        while until.pause(Duration::from_millis(500)) {
            samples.push(Sample {
                seconds: began.elapsed().as_secs_f64(),
                memory_kib: juggler.rss_kib(),
                threads: juggler.threads(),
                files: juggler.open_files(),
            });
        }
        reloads = reloading.join().unwrap();
    });
    if let Ok(path) = std::env::var("JUGGLER_HOSTILE_PLOT") {
        plot::write(Path::new(&path), &samples).unwrap();
    }
    let most = samples
        .iter()
        .map(|sample| sample.memory_kib)
        .max()
        .unwrap_or(0);
    let (count, failed) = (seen.count.into_inner(), seen.failed.into_inner());
    let beyond = Duration::from_micros(seen.beyond_us.into_inner());
    let told = format!(
        "{count} ordinary requests, {failed} failed, at most {beyond:?} beyond the server's time; \
         {most} KiB at most, {reloads} reloads"
    );
    println!("{told}");
    assert!(count > seconds as usize * CLIENTS, "{told}");
    assert_eq!(failed, 0, "{told}");
    assert!(beyond <= BEYOND, "{told}");
    assert!(most <= MEMORY_KIB, "{told}");
    // At the end everything is given back.
    eventually(2 * PATIENCE, "all given back", || {
        let log = juggler.log();
        let line = log.iter().rev().find(|line| line.contains("requests/s"));
        line.is_some_and(|line| {
            [
                " 0 clients",
                " 0 served",
                " 0 queued",
                " 0 KiB in buffers",
                " 0 KiB in spool",
            ]
            .iter()
            .all(|part| line.contains(part))
        })
    });
    eventually(2 * PATIENCE, "as many files as before", || {
        juggler.open_files() <= files + 2
    });
    // The last reload may have left the odd server one worker less.
    eventually(2 * PATIENCE, "as many workers as before", || {
        workers(&juggler) + 1 >= before
    });
    if cfg!(feature = "panic_points") {
        let panics = juggler
            .log()
            .iter()
            .filter(|line| line.contains("JUGGLER_PANIC_AT:"))
            .count();
        assert!(panics > 10, "{panics} panics");
    }
    let mut client = Client::connect(&main);
    client.get("/small").expect(200);
    eventually(PATIENCE, "the odd server is served too", || {
        // It may cut this response too, and the client with it.
        let mut client = Client::connect(&main);
        client.send("GET /odd HTTP/1.1\r\nHost: test\r\n\r\n");
        client.try_read_response(false).is_ok()
    });
    assert_eq!(juggler.stop(), Some(0));
}
