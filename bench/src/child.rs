//! Child programs, each in a process group of its own. None outlives the benchmark.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::problem::{Interrupt, Outcome, Problem, about};

/// How long a program may take to end after SIGTERM.
const FRIENDLY: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(10);

/// A running program. Dropping it ends the program and all its children.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts the program in a group of its own. Ctrl-C in a terminal then reaches the benchmark
    /// alone, and the program's children are found.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().map_err(about(name))?;
        Ok(Self { child, ended: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The program's exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits for the program's end, at most until `limit` has passed.
    pub(crate) fn wait(&mut self, limit: Duration, interrupt: &Interrupt) -> Outcome<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            interrupt.check()?;
            if Instant::now() > end {
                return Err(Problem::new("does not end"));
            }
            thread::sleep(POLL);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // An empty group is as good.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
            let end = Instant::now() + FRIENDLY;
            while self.ended().is_none() && Instant::now() < end {
                thread::sleep(POLL);
            }
        }
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        } else if group_is_alive(self.child.id()) {
            // Children that the program should have ended.
            self.signal(Signal::SIGKILL);
        }
    }
}

/// Returns whether the group has a member. As long as one lives, the group's number is not used
/// again.
fn group_is_alive(group: u32) -> bool {
    !crate::process::members(group).is_empty()
}

/// Finds a program in the path, or in the folders that only root has in the path.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The last lines of a log, without the path of the run's folder.
pub(crate) fn tail(log: &Path, folder: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    without_folder(&last, folder)
}

/// Removes the path of the run's folder: a report must not name it.
pub(crate) fn without_folder(text: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    text.replace(&format!("{folder}/"), "")
        .replace(&folder, ".")
}

/// The first line that a program prints when asked for its version.
pub(crate) fn version(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    Some(
        text.lines()
            .find(|line| !line.is_empty())?
            .trim()
            .to_owned(),
    )
}
