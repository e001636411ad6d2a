//! What the program tells of itself without being asked: a line every few seconds
//! (`process.summary`), and the totals at the end.

use std::time::{Duration, Instant};

use super::render;
use super::view::View;

/// A summary may come this much too early: the tick that writes it comes every second.
const EARLY: Duration = Duration::from_millis(500);

/// The counts that the last summary told.
#[derive(Debug)]
pub(super) struct Summary {
    at: Instant,
    requests: u64,
    bytes_out: u64,
}

impl Summary {
    /// The first summary is due in one period from `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            at: now,
            requests: 0,
            bytes_out: 0,
        }
    }

    /// Writes the summary if its time has come.
    pub(super) fn write_if_due(
        &mut self,
        now: Instant,
        every: Duration,
        view: impl FnOnce() -> View,
    ) {
        let passed = now.saturating_duration_since(self.at);
        if passed.saturating_add(EARLY) < every {
            return;
        }
        let view = view();
        let process = &view.process;
        let per_second = |now: u64, before: u64| (now - before) as f64 / passed.as_secs_f64();
        let rates = render::Rates {
            requests: per_second(process.account.requests, self.requests),
            bytes_out: per_second(process.account.bytes_out, self.bytes_out),
        };
        write_buckets(&view);
        log::info!("{}", render::summary(&view, &rates));
        *self = Self {
            at: now,
            requests: process.account.requests,
            bytes_out: process.account.bytes_out,
        };
    }
}

/// Writes how everything is, and what it has done so far.
pub(super) fn write_report(view: &View) {
    write(&render::report(view));
}

/// Writes what there was in all, and how often each fault came.
pub(super) fn write_totals(view: &View) {
    write_buckets(view);
    log::info!("{}", render::totals(&view.process));
}

fn write_buckets(view: &View) {
    view.clusters
        .iter()
        .for_each(|cluster| write(&render::buckets(cluster)));
}

fn write(lines: &[String]) {
    lines.iter().for_each(|line| log::info!("{line}"));
}
