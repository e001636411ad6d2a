//! One line every few seconds, for whoever watches the terminal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exchange::Hub;
use crate::fault::Fault;
use crate::threads::{self, Kind};
use crate::upstream::Controller;

use super::{logging, render};

/// What the last line told.
#[derive(Debug)]
pub(super) struct Summary {
    at: Instant,
    requests: u64,
    bytes: u64,
}

impl Summary {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            at: now,
            requests: 0,
            bytes: 0,
        }
    }

    /// Writes the line if its time has come.
    pub(super) fn write_if_due(
        &mut self,
        now: Instant,
        every: Duration,
        hub: &Hub,
        clusters: &[Arc<Controller>],
    ) {
        let passed = now.saturating_duration_since(self.at);
        // The clock behind this ticks every second, so half of one early is in time.
        if passed.saturating_add(Duration::from_millis(500)) < every {
            return;
        }
        let views = clusters
            .iter()
            .map(|cluster| cluster.view(now))
            .collect::<Vec<_>>();
        for view in &views {
            write(&render::buckets(view));
        }
        let (requests, bytes) = (hub.counters.requests.get(), hub.counters.bytes_out.get());
        let per_second = |count: u64| count as f64 / passed.as_secs_f64();
        let (mut queued, mut serving, mut up, mut workers) = (0, 0, 0, 0);
        for counts in views.iter().map(|view| &view.counts) {
            queued += counts.queued;
            serving += counts.serving;
            up += counts.up;
            workers += counts.workers;
        }
        let lost = lost(hub);
        let lost = if lost > 0 {
            format!(", {lost} lines lost in logs")
        } else {
            String::new()
        };
        log::info!(
            "{:.0} requests/s, {:.1} MB/s out, {} clients, {serving} served, {queued} queued, \
             {up}/{workers} workers up, {} session threads, {} couriers, {} KiB in buffers, {} \
             KiB in spool{lost}",
            per_second(requests - self.requests),
            per_second(bytes - self.bytes) / 1e6,
            hub.clients.count(),
            Kind::Session.alive(),
            hub.couriers.count(),
            hub.buffers.in_use() * hub.buffers.size() / 1024,
            hub.spool.used() / 1024,
        );
        *self = Self {
            at: now,
            requests,
            bytes,
        };
    }
}

/// Lines that are in no log.
fn lost(hub: &Hub) -> u64 {
    let access = hub
        .access
        .as_ref()
        .map_or(0, |access| access.lost().0.all());
    access + logging::lost().0.all()
}

/// Writes everything about each cluster, its servers and its buckets: SIGUSR1 asks for that.
pub(super) fn write_state(clusters: &[Arc<Controller>]) {
    let now = Instant::now();
    for view in clusters.iter().map(|cluster| cluster.view(now)) {
        write(&render::cluster(&view));
    }
}

fn write(lines: &[String]) {
    lines.iter().for_each(|line| log::info!("{line}"));
}

/// What there was in all, and each fault that came, at the end.
pub(super) fn write_totals(hub: &Hub, clusters: &[Arc<Controller>]) {
    let now = Instant::now();
    for view in clusters.iter().map(|cluster| cluster.view(now)) {
        write(&render::buckets(&view));
    }
    let counters = &hub.counters;
    let mut line = format!(
        "in all: {} clients ({} refused), {} requests, {} retries, {} panics, {} failed accepts, \
         {} log lines dropped, {} not written, {} messages lost",
        counters.sessions.get(),
        counters.sessions_refused.get(),
        counters.requests.get(),
        counters.retries.get(),
        threads::panics(),
        counters.accept_errors.get(),
        counters.log_dropped.get(),
        hub.access
            .as_ref()
            .map_or(0, |access| access.lost().0.failed),
        logging::lost().0.all(),
    );
    for (fault, count) in Fault::ALL
        .iter()
        .map(|&fault| (fault, counters.faults(fault)))
        .filter(|(_, count)| *count > 0)
    {
        line.push_str(&format!("; {count} x {}: {}", fault.flags(), fault.text()));
    }
    log::info!("{line}");
}
