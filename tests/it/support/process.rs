//! A program that runs beside the test, and the lines that it writes.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The lines that a program has written so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads lines in a thread of its own.
    pub(crate) fn of(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                sink.0
                    .0
                    .lock()
                    .unwrap()
                    .lines
                    .push(String::from_utf8_lossy(&line).trim_end().to_owned());
                sink.0.1.notify_all();
                line.clear();
            }
            sink.0.0.lock().unwrap().ended = true;
            sink.0.1.notify_all();
        });
        lines
    }

    /// How many lines there are so far.
    pub(crate) fn count(&self) -> usize {
        self.0.0.lock().unwrap().lines.len()
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    /// The first result of `look` for a line from this index on; `None` when none comes in time, or
    /// when no more lines can come.
    pub(crate) fn wait<T>(
        &self,
        from: usize,
        within: Duration,
        look: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        let mut next = from;
        loop {
            while next < state.lines.len() {
                if let Some(found) = look(&state.lines[next]) {
                    return Some(found);
                }
                next += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

/// Sends a signal to a child that was not waited for yet.
#[track_caller]
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(pid(child), signal).unwrap_or_else(|problem| panic!("{signal}: {problem}"));
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Waits for a child to end.
pub(crate) fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}
