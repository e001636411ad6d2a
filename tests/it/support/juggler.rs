//! The real program, with a configuration that the test makes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::{self, Lines};
use super::{PATIENCE, eventually};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_juggler");

/// A simple configuration: one listener `main` on a free port, one route, one cluster `main`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    top: String,
    listener: String,
    cluster: String,
    servers: Vec<String>,
    rest: String,
}

impl Config {
    /// A configuration with these servers, named `s0`, `s1`, ...
    pub(crate) fn new<A: Display>(servers: impl IntoIterator<Item = A>) -> Self {
        Self {
            servers: servers
                .into_iter()
                .map(|address| address.to_string())
                .collect(),
            ..Self::default()
        }
    }

    /// Adds lines before everything else, such as a `[process]` table.
    pub(crate) fn top(mut self, lines: &str) -> Self {
        self.top += &format!("{lines}\n");
        self
    }

    /// Adds lines to `[[listener]]`.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener += &format!("{lines}\n");
        self
    }

    /// Adds lines to `[[cluster]]`.
    pub(crate) fn cluster(mut self, lines: &str) -> Self {
        self.cluster += &format!("{lines}\n");
        self
    }

    /// Adds lines after everything else, such as another `[[listener]]`.
    pub(crate) fn rest(mut self, lines: &str) -> Self {
        self.rest += &format!("{lines}\n");
        self
    }

    /// The file. A `bind` among the listener's lines replaces the free port.
    pub(crate) fn text(&self) -> String {
        let bind = if self.listener.contains("bind =") {
            ""
        } else {
            "bind = [\"127.0.0.1:0\"]\n"
        };
        // As most tests want it: the connections are there before the first request.
        let is_said = |line: &str| line.starts_with("connect =");
        let connect = if self.cluster.lines().any(is_said) {
            ""
        } else {
            "connect = \"warm\"\n"
        };
        let mut text = format!(
            "{}\n[[listener]]\nname = \"main\"\n{bind}{}\n[[route]]\ncluster = \
             \"main\"\n\n[[cluster]]\nname = \"main\"\n{connect}{}\n",
            self.top, self.listener, self.cluster
        );
        for (index, address) in self.servers.iter().enumerate() {
            text += &format!(
                "  [[cluster.server]]\n  name = \"s{index}\"\n  address = \"{address}\"\n"
            );
        }
        text + &self.rest
    }

    /// Runs the balancer with this configuration.
    #[track_caller]
    pub(crate) fn start(&self) -> Juggler {
        Juggler::start(&self.text())
    }
}

/// How the program is started.
pub(crate) struct Start {
    config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    socket: Option<TcpListener>,
    prefix: Vec<String>,
    folder: TempDir,
}

impl Start {
    /// Starts with this configuration. `{dir}` in the text stands for a folder of the test.
    pub(crate) fn config(text: &str) -> Self {
        Self {
            config: Some(text.to_owned()),
            ..Self::bare()
        }
    }

    /// Starts without a configuration.
    pub(crate) fn bare() -> Self {
        let folder = TempDir::with_prefix("juggler-test-").unwrap();
        Self {
            config: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            socket: None,
            prefix: Vec::new(),
            folder,
        }
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Hands over a socket that listens already, as systemd does.
    pub(crate) fn socket(mut self, listener: TcpListener) -> Self {
        self.socket = Some(listener);
        self
    }

    /// Starts through this program with these arguments, which must exec the balancer (as `prlimit`
    /// and `setpriv` do).
    pub(crate) fn by(mut self, prefix: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.prefix = prefix.into_iter().map(Into::into).collect();
        self
    }

    /// The folder that `{dir}` stands for.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the test's folder.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.folder().join(name), content).unwrap();
        self
    }

    /// Runs the program until it is ready.
    #[track_caller]
    pub(crate) fn ready(self) -> Juggler {
        let juggler = self.spawn();
        assert!(juggler.is_ready(), "the program did not get ready");
        juggler
    }

    /// Runs the program and waits for nothing.
    #[track_caller]
    pub(crate) fn spawn(self) -> Juggler {
        let mut command;
        if let Some(listener) = self.socket {
            // Only a shell can set a child's descriptor 3 without `unsafe`.
            command = Command::new("sh");
            command.args([
                "-c",
                "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 0</dev/null",
                "sh",
                PROGRAM,
            ]);
            command.stdin(Stdio::from(OwnedFd::from(listener)));
        } else if let Some((program, arguments)) = self.prefix.split_first() {
            command = Command::new(program);
            command.args(arguments).arg(PROGRAM).stdin(Stdio::null());
        } else {
            command = Command::new(PROGRAM);
            command.stdin(Stdio::null());
        }
        if let Some(text) = self.config {
            let file = self.folder.path().join("juggler.toml");
            fs::write(&file, fill_in(&text, self.folder.path())).unwrap();
            command.arg("--config").arg(file);
        }
        let mut child = command
            .args(
                self.arguments
                    .iter()
                    .map(|argument| fill_in(argument, self.folder.path())),
            )
            // The log then has the addresses, whatever the configuration sets as its level.
            .env("RUST_LOG", "info")
            .envs(self.environment)
            .current_dir(self.folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|problem| panic!("{PROGRAM}: {problem}"));
        let lines = Lines::of(child.stderr.take().unwrap());
        let output = Lines::of(child.stdout.take().unwrap());
        Juggler {
            child,
            lines,
            output,
            folder: self.folder,
            gone: None,
            may_panic: false,
        }
    }
}

fn fill_in(text: &str, folder: &Path) -> String {
    text.replace("{dir}", &folder.display().to_string())
}

/// The balancer, running.
pub(crate) struct Juggler {
    child: Child,
    lines: Lines,
    output: Lines,
    folder: TempDir,
    gone: Option<ExitStatus>,
    may_panic: bool,
}

impl Juggler {
    /// Starts the program with this configuration and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(config: &str) -> Self {
        Start::config(config).ready()
    }

    /// Runs the program with these arguments to its end.
    #[track_caller]
    pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
        Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The address of the only listener: `HOST:PORT` or `unix:/path`.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        let all: Vec<_> = self.addresses().into_values().flatten().collect();
        let [address] = &all[..] else {
            panic!("expected one address, got {all:?}")
        };
        address.clone()
    }

    /// The address of a listener, the first in the order of its `bind`.
    #[track_caller]
    pub(crate) fn address_of(&self, listener: &str) -> String {
        let all = self.addresses();
        let of = all
            .get(listener)
            .unwrap_or_else(|| panic!("no listener {listener} in {all:?}"));
        of[0].clone()
    }

    /// All addresses of each listener, as logged.
    pub(crate) fn addresses(&self) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::<String, Vec<String>>::new();
        for line in self.lines.all() {
            let Some((_, rest)) = line.split_once("listening on ") else {
                continue;
            };
            let Some((address, rest)) = rest.split_once(" (listener ") else {
                continue;
            };
            let name = rest.split(')').next().unwrap_or("");
            found
                .entry(name.to_owned())
                .or_default()
                .push(address.to_owned());
        }
        found
    }

    /// The folder that `{dir}` in the configuration stands for.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The lines logged so far. After the program's end was waited for, these are all lines.
    pub(crate) fn log(&self) -> Vec<String> {
        self.all(&self.lines)
    }

    /// The lines on standard output so far (the access log, by default). After the program's end
    /// was waited for, these are all lines.
    pub(crate) fn output(&self) -> Vec<String> {
        self.all(&self.output)
    }

    fn all(&self, lines: &Lines) -> Vec<String> {
        if self.gone.is_some() {
            // The last lines may still be in the pipe.
            lines.wait(0, PATIENCE, |_| None::<()>);
        }
        lines.all()
    }

    /// Waits for a log line with this text and returns the line.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.lines
            .wait(0, PATIENCE, |line| {
                line.contains(text).then(|| line.to_owned())
            })
            .unwrap_or_else(|| panic!("the program never logged {text:?}"))
    }

    /// Waits for a log line with this text behind the first `lines` lines.
    #[track_caller]
    pub(crate) fn wait_for_log_behind(&self, lines: usize, text: &str) {
        let found = self
            .lines
            .wait(lines, PATIENCE, |line| line.contains(text).then_some(()));
        assert!(
            found.is_some(),
            "the program never logged {text:?} behind line {lines}"
        );
    }

    /// How many lines are logged so far.
    pub(crate) fn log_length(&self) -> usize {
        self.lines.count()
    }

    /// Waits for a line on standard output with this text and returns the line.
    #[track_caller]
    pub(crate) fn wait_for_output(&self, text: &str) -> String {
        self.output
            .wait(0, PATIENCE, |line| {
                line.contains(text).then(|| line.to_owned())
            })
            .unwrap_or_else(|| panic!("the program never wrote {text:?}: {:#?}", self.output.all()))
    }

    /// Has the program report how it is (SIGUSR1), and returns the line with this text.
    #[track_caller]
    pub(crate) fn line_of(&self, text: &str) -> String {
        let lines = self.log_length();
        self.signal(Signal::SIGUSR1);
        self.wait_for_log_behind(lines, text);
        let log = self.log();
        let found = log[lines..].iter().find(|line| line.contains(text));
        found.unwrap().clone()
    }

    /// Sends the program a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(&self.child, signal);
    }

    /// Sends SIGTERM, waits for the end and returns the exit code; `None` when a signal killed the
    /// program.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait(PATIENCE)
    }

    /// Waits for the end and returns the exit code; `None` when a signal killed the program.
    #[track_caller]
    pub(crate) fn wait(&mut self, within: Duration) -> Option<i32> {
        let status = process::wait(&mut self.child, within)
            .unwrap_or_else(|| panic!("the program still runs"));
        self.gone = Some(status);
        status.code()
    }

    /// Waits until the program is ready; `false` when it ends instead.
    pub(crate) fn is_ready(&self) -> bool {
        let is_ready = self
            .lines
            .wait(0, PATIENCE, |line| line.ends_with("ready").then_some(()));
        is_ready.is_some()
    }

    /// Returns whether the program still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.gone.is_none() && self.child.try_wait().unwrap().is_none()
    }

    /// Allows panics in the program's log, because this test provokes them.
    pub(crate) fn may_panic(&mut self) {
        self.may_panic = true;
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many threads the program has.
    pub(crate) fn threads(&self) -> usize {
        self.count("task")
    }

    /// How many threads of each name the program has.
    pub(crate) fn threads_by_name(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap() {
            // A thread may end between the listing and this read.
            if let Ok(name) = fs::read_to_string(task.unwrap().path().join("comm")) {
                *names.entry(name.trim_end().to_owned()).or_default() += 1;
            }
        }
        names
    }

    /// How many files the program has open.
    pub(crate) fn open_files(&self) -> usize {
        self.count("fd")
    }

    /// How much memory the program uses, in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Waits until the program has at most `most` threads.
    #[track_caller]
    pub(crate) fn wait_for_threads(&self, most: usize) {
        eventually(PATIENCE, &format!("at most {most} threads"), || {
            self.threads() <= most
        });
    }

    fn count(&self, what: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{what}", self.pid()))
            .unwrap()
            .count()
    }
}

impl Drop for Juggler {
    fn drop(&mut self) {
        if self.gone.is_none() {
            // The program may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // All lines are read once the pipe has ended.
        self.lines.wait(0, Duration::from_secs(2), |_| None::<()>);
        let log = self.lines.all();
        if thread::panicking() {
            eprintln!("--- the program's log:\n{}\n---", log.join("\n"));
        } else if !self.may_panic {
            let panics: Vec<_> = log
                .iter()
                .filter(|line| line.contains("panicked"))
                .collect();
            assert!(panics.is_empty(), "{panics:#?}");
        }
    }
}
