//! A line for each run, with the remaining time.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::results::Run;

/// The progress of a benchmark.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    /// Estimated seconds of everything, and of what is done.
    planned: f64,
    done: f64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            planned: 0.0,
            done: 0.0,
        }
    }

    pub(crate) fn plan(&mut self, seconds: f64) {
        self.planned = seconds;
        self.started = Instant::now();
        self.say(&format!("this takes about {}", in_words(seconds)));
    }

    pub(crate) fn say(&self, text: &str) {
        print(&format!("bench: {text}"));
    }

    pub(crate) fn run(&self, run: &Run, rounds: u32) {
        let mut figures = Vec::new();
        if run.seconds > 0.0 {
            figures.push(format!("{:>8.0}/s", run.rate));
        }
        if let Some(p99) = run.percentile(99.0) {
            figures.push(format!("p99 {:>7.2} ms", p99 / 1000.0));
        }
        if let Some(cpu) = run.cpu_us.filter(|_| run.requests > 0) {
            figures.push(format!("CPU {cpu:>6.1} us"));
        }
        if let Some(kib) = run.held_kib {
            figures.push(format!(
                "{kib:.1} KiB for each of {}",
                run.held.unwrap_or(0)
            ));
        }
        if run.errors.sum() > 0 {
            figures.push(format!("{} errors", run.errors.sum()));
        }
        print(&format!(
            "[{}/{rounds}] {:<18} {:<17} {}   ({} left)",
            run.round,
            run.case,
            run.contender.id(),
            figures.join("  "),
            in_words(left(self.planned, self.done, self.started.elapsed())),
        ));
    }

    pub(crate) fn done(&mut self, seconds: f64) {
        self.done += seconds;
    }
}

/// Prints a line. A closed output is no reason to stop.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The remaining seconds, from the estimate and its accuracy so far.
fn left(planned: f64, done: f64, elapsed: Duration) -> f64 {
    // Early on the estimate is more accurate than the few measured runs.
    let known = (done / planned).clamp(0.0, 1.0);
    let pace = if done > 0.0 {
        elapsed.as_secs_f64() / done
    } else {
        1.0
    };
    let pace = pace * known + (1.0 - known);
    ((planned - done) * pace).max(0.0)
}

fn in_words(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_the_pace() {
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 1.0;
        assert!(near(left(100.0, 0.0, Duration::ZERO), 100.0));
        assert!(near(left(100.0, 50.0, Duration::from_secs(50)), 50.0));
        assert!(near(left(100.0, 90.0, Duration::from_secs(180)), 19.0));
        assert!(near(left(100.0, 120.0, Duration::from_secs(180)), 0.0));
        assert_eq!(
            (in_words(80.0), in_words(600.0)),
            ("80 s".to_owned(), "10 min".to_owned())
        );
    }
}
