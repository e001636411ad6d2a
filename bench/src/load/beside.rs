//! Clients beside the load: idle ones, and ones that never read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::Running;
use crate::problem::{Interrupt, Outcome, Problem, about};

const LIMIT: Duration = Duration::from_secs(60);

/// Idle clients, held by `test_server --hold`.
#[derive(Debug)]
pub(crate) struct Idle {
    _running: Running,
}

impl Idle {
    /// Opens the clients. Each has sent one request and has its response.
    pub(crate) fn open(
        test_server: &Path,
        address: SocketAddr,
        count: usize,
        tls: bool,
        interrupt: &Interrupt,
    ) -> Outcome<Self> {
        let mut command = Command::new(test_server);
        command
            .args([
                "--hold",
                &address.to_string(),
                "--count",
                &count.to_string(),
            ])
            .args(["--path", "/1k.png"])
            .args(tls.then_some("--tls"))
            // The program ends with its standard input, so it ends even if the benchmark is killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let lines = running.child().stdout.take().map(BufReader::new);
        let (said, heard) = mpsc::channel();
        // The thread ends when the program does.
        thread::spawn(move || {
            for line in lines
                .into_iter()
                .flat_map(BufReader::lines)
                .map_while(Result::ok)
            {
                if said.send(line).is_err() {
                    break;
                }
            }
        });
        let end = Instant::now() + LIMIT;
        loop {
            match heard.recv_timeout(Duration::from_millis(50)) {
                Ok(line) if line.starts_with("held ") => return Ok(Self { _running: running }),
                Err(mpsc::RecvTimeoutError::Timeout) if Instant::now() < end => {
                    interrupt.check()?;
                }
                Ok(_) => {}
                Err(_) => {
                    return Err(Problem::new(format!(
                        "{count} clients cannot be held: {}",
                        complaint(running)
                    )));
                }
            }
        }
    }
}

/// The reason for having fewer clients than wanted.
fn complaint(mut running: Running) -> String {
    let mut line = String::new();
    if running.ended().is_none() {
        return "opening took more than a minute".to_owned();
    }
    if let Some(err) = running.child().stderr.take() {
        let _ = BufReader::new(err).read_line(&mut line);
    }
    line.trim().trim_start_matches("test_server: ").to_owned()
}

/// Clients that request a long response and read nothing of it.
#[derive(Debug)]
pub(crate) struct Stalled {
    _streams: Vec<TcpStream>,
}

impl Stalled {
    pub(crate) fn open(address: SocketAddr, count: usize, interrupt: &Interrupt) -> Outcome<Self> {
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream =
                TcpStream::connect_timeout(&address, LIMIT).map_err(about("connect"))?;
            stream.write_all(b"GET /64m.bin HTTP/1.1\r\nHost: bench\r\n\r\n")?;
            streams.push(stream);
        }
        // Waits until every buffer on the way is full.
        interrupt.sleep(Duration::from_secs(1))?;
        Ok(Self { _streams: streams })
    }
}
