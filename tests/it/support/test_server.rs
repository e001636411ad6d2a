//! The real `test_server`, on free ports.

use std::process::{Child, ChildStdin, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::process::{self, Lines};
use super::{Client, PATIENCE, eventually, eventually_eq};

/// The program.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test_server");

/// A server that counts what it receives.
pub(crate) struct TestServer {
    name: String,
    address: String,
    observer: String,
    running: Option<Running>,
}

struct Running {
    child: Child,
    // The server ends when this pipe does, even if the test is killed.
    _alive: ChildStdin,
}

impl TestServer {
    /// Starts a server with the name `test`.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::named("test")
    }

    /// Starts a server with this name.
    #[track_caller]
    pub(crate) fn named(name: &str) -> Self {
        Self::listening(name, "127.0.0.1:0")
    }

    /// Starts a server at this address: `HOST:PORT` or `unix:/path`.
    #[track_caller]
    pub(crate) fn listening(name: &str, address: &str) -> Self {
        let (name, address) = (name.to_owned(), address.to_owned());
        let mut server = Self {
            name,
            address,
            observer: "127.0.0.1:0".into(),
            running: None,
        };
        server.restart();
        server
    }

    /// Three servers, named `one`, `two` and `three`.
    #[track_caller]
    pub(crate) fn three() -> [Self; 3] {
        ["one", "two", "three"].map(Self::named)
    }

    /// The server's address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Kills the server, as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
    }

    /// Sends the server a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(
            &self.running.as_ref().expect("the server runs").child,
            signal,
        );
    }

    /// Starts the server again after a kill, on the same addresses.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "the server still runs");
        // The port may belong to another program's client for a moment.
        eventually(PATIENCE, &format!("started on {}", self.address), || {
            self.try_start()
        });
    }

    fn try_start(&mut self) -> bool {
        let mut child = Command::new(PROGRAM)
            .args([
                "--until-eof",
                "--name",
                &self.name,
                "--listen",
                &self.address,
                "--observe",
                &self.observer,
            ])
            .args([
                "--root",
                concat!(env!("CARGO_MANIFEST_DIR"), "/test_servers/root_1"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|problem| panic!("{PROGRAM}: {problem}"));
        let lines = Lines::of(child.stdout.take().unwrap());
        let address = |what: &str| {
            lines.wait(0, PATIENCE, |line| {
                line.strip_prefix(what).map(str::to_owned)
            })
        };
        let (Some(address), Some(observer)) = (address("listening on "), address("observed on "))
        else {
            let _ = child.kill();
            let _ = child.wait();
            return false;
        };
        (self.address, self.observer) = (address, observer);
        let alive = child.stdin.take().unwrap();
        self.running = Some(Running {
            child,
            _alive: alive,
        });
        true
    }

    /// Returns whether the server still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.running
            .as_mut()
            .is_some_and(|running| running.child.try_wait().unwrap().is_none())
    }

    /// Sends a signal, waits for the end and returns the signal that ended the server.
    #[track_caller]
    pub(crate) fn stop_by(&mut self, signal: Signal) -> Option<i32> {
        let mut running = self.running.take().unwrap();
        process::signal(&running.child, signal);
        let status = process::wait(&mut running.child, PATIENCE)
            .unwrap_or_else(|| panic!("the server still runs"));
        std::os::unix::process::ExitStatusExt::signal(&status)
    }

    /// What the server has counted.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        self.observe("/__stats")
    }

    /// One of the numbers that the server has counted.
    #[track_caller]
    pub(crate) fn stat(&self, name: &str) -> u64 {
        self.stats()[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} is not counted"))
    }

    /// Waits until a number has this value.
    #[track_caller]
    pub(crate) fn wait_for_stat(&self, name: &str, value: u64) {
        eventually_eq(name, value, || self.stat(name));
    }

    /// Starts counting anew.
    #[track_caller]
    pub(crate) fn reset_stats(&self) {
        self.observe("/__stats/reset");
    }

    /// How often `/__count/KEY` was requested.
    #[track_caller]
    pub(crate) fn counted(&self, key: &str) -> u64 {
        self.stats()["counted"][key].as_u64().unwrap_or(0)
    }

    #[track_caller]
    fn observe(&self, path: &str) -> Value {
        let answer = Client::connect(&self.observer).get(path).expect(200);
        serde_json::from_slice(&answer.body).unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }
}
