//! System calls, counted by strace. It slows everything down, so only the count is of use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::child::{self, Running};
use crate::problem::{Interrupt, Outcome, Problem, about};

/// Attaching to all threads takes a moment.
const SETTLE: Duration = Duration::from_millis(700);

/// strace, attached to processes.
#[derive(Debug)]
pub(crate) struct Strace {
    running: Running,
    output: PathBuf,
}

impl Strace {
    /// Returns `None` where strace is not installed.
    pub(crate) fn attach(
        pids: &[u32],
        folder: &Path,
        interrupt: &Interrupt,
    ) -> Outcome<Option<Self>> {
        let Some(program) = child::find("strace") else {
            return Ok(None);
        };
        let output = folder.join("strace.out");
        let mut command = Command::new(program);
        command
            .args(["-f", "-c", "-o"])
            .arg(&output)
            .args(
                pids.iter()
                    .flat_map(|pid| ["-p".to_owned(), pid.to_string()]),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        interrupt.sleep(SETTLE)?;
        if running.ended().is_some() {
            return Err(Problem::new(
                "strace cannot attach (ptrace is forbidden here)",
            ));
        }
        Ok(Some(Self { running, output }))
    }

    /// Detaches, and returns the number of calls.
    pub(crate) fn detach(mut self, interrupt: &Interrupt) -> Outcome<u64> {
        self.running.signal(Signal::SIGINT);
        self.running.wait(Duration::from_secs(10), interrupt)?;
        let text = std::fs::read_to_string(&self.output).map_err(about("strace"))?;
        total(&text).ok_or_else(|| Problem::new("strace does not say what it counted"))
    }
}

/// The number of calls in the last line of the table.
fn total(table: &str) -> Option<u64> {
    let line = table
        .lines()
        .rev()
        .find(|line| line.trim_end().ends_with(" total"))?;
    line.split_ascii_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_with_and_without_errors() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            60.00    0.000300           3       100         2 recvfrom\n \
            40.00    0.000200           2       100           sendto\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.000500           2       200         2 total\n";
        assert_eq!(total(table), Some(200));
        assert_eq!(
            total(&table.replace("200         2 total", "200           total")),
            Some(200)
        );
        assert_eq!(total(""), None);
    }
}
