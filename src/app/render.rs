//! Views as lines for the log.

use crate::balance::Counts;
use crate::health::State;
use crate::observe::account::Totals;
use crate::threads::Kind;
use crate::upstream::{ClusterView, HealthView, Manner, ServerView};

use super::view::{ProcessView, View};

/// Everything that a report tells: the totals, then the account of each listener, then each cluster
/// with its servers and buckets, and their accounts.
pub(super) fn report(view: &View) -> Vec<String> {
    let mut lines = vec![totals(&view.process)];
    let listeners = view.listeners.iter();
    lines.extend(listeners.map(|of| account(&format!("listener {}", of.name), &of.account)));
    for of in &view.clusters {
        lines.extend(cluster(of));
        lines.extend(accounts(of));
    }
    lines
}

/// The accounts of a cluster and of its servers.
fn accounts(view: &ClusterView) -> Vec<String> {
    let mut lines = vec![account(&format!("cluster {}", view.name), &view.account)];
    let servers = view.servers.iter();
    lines.extend(servers.map(|of| {
        let name = format!("server {}/{}", view.name, of.name);
        account(&name, &of.account)
    }));
    lines
}

/// What an entity has done so far.
fn account(name: &str, totals: &Totals) -> String {
    format!(
        "account of {name}: {} requests, {} retries, {} bytes out{}",
        totals.requests,
        totals.retries,
        totals.bytes_out,
        faults(totals),
    )
}

/// How often each fault came, as the rest of a line.
fn faults(totals: &Totals) -> String {
    let faults = totals.faults.iter();
    let faults = faults.map(|(fault, count)| {
        let (flags, text) = (fault.flags(), fault.text());
        format!("; {count} x {flags}: {text}")
    });
    faults.collect()
}

/// Everything about a cluster as it is now: a line for the cluster, for each server and for each
/// bucket.
fn cluster(view: &ClusterView) -> Vec<String> {
    let counts = &view.counts;
    let mut lines = vec![format!(
        "cluster {}: {}, {} slots; {} served, {} queued, {} resting",
        view.name,
        view.admin.word(),
        counts.capacity,
        counts.serving,
        counts.queued,
        counts.resting
    )];
    lines.extend(view.servers.iter().map(|of| server(&view.name, of)));
    lines.extend(buckets(view));
    lines
}

/// The shares of a cluster that has some, and whether its guarantees hold.
pub(super) fn buckets(view: &ClusterView) -> Vec<String> {
    if view.buckets.len() < 2 {
        return Vec::new();
    }
    let buckets = view.buckets.iter().map(|bucket| {
        let counts = &bucket.counts;
        format!(
            "cluster {}, bucket {}: {} served of {} assured, at most {}; {} queued; who is under \
             the share waits for at most {} slots (longest wait so far {}), {} violations",
            view.name,
            bucket.name,
            counts.held,
            counts.assured,
            counts.ceiling,
            counts.queued,
            counts.bound,
            counts.longest_wait,
            counts.violations,
        )
    });
    buckets.collect()
}

/// What happens each second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) requests: f64,
    pub(super) bytes_out: f64,
}

/// How it goes, in one line.
pub(super) fn summary(view: &View, rates: &Rates) -> String {
    let process = &view.process;
    let sum = |of: fn(&Counts) -> usize| -> usize {
        view.clusters
            .iter()
            .map(|cluster| of(&cluster.counts))
            .sum()
    };
    let mut line = format!(
        "{:.0} requests/s, {:.1} MB/s out, {} clients, {} served, {} queued, {}/{} workers up, {} \
         session threads, {} couriers, {} KiB in buffers, {} KiB in spool",
        rates.requests,
        rates.bytes_out / 1e6,
        process.clients,
        sum(|counts| counts.serving),
        sum(|counts| counts.queued),
        sum(|counts| counts.up),
        sum(|counts| counts.workers),
        process.session_threads,
        process.couriers,
        process.in_buffers / 1024,
        process.in_spool / 1024,
    );
    let lost = process.access_lost.all() + process.messages_lost.all();
    if lost > 0 {
        line += &format!(", {lost} lines lost in logs");
    }
    line
}

/// What there was in all, and each fault that came.
pub(super) fn totals(process: &ProcessView) -> String {
    format!(
        "in all: {} clients ({} refused), {} requests, {} retries, {} panics{}, {} failed accepts, \
         {} log lines dropped, {} not written, {} messages lost{}",
        process.sessions,
        process.refused,
        process.account.requests,
        process.account.retries,
        process.all_panics(),
        panics(process),
        process.accept_errors,
        process.log_dropped,
        process.access_lost.failed,
        process.messages_lost.all(),
        faults(&process.account),
    )
}

/// The kinds of threads that have panicked, in brackets.
fn panics(process: &ProcessView) -> String {
    if process.panics.is_empty() {
        return String::new();
    }
    let kinds = process.panics.iter().map(|(kind, count)| {
        let kind = kind.map_or("other", Kind::name);
        format!("{kind}: {count}")
    });
    format!(" ({})", kinds.collect::<Vec<_>>().join(", "))
}

fn server(cluster: &str, view: &ServerView) -> String {
    let health = view
        .health
        .as_ref()
        .map_or_else(|| "not checked".to_owned(), health);
    let use_ = match (view.counts.in_use, view.warmth) {
        (false, _) => "not in use".to_owned(),
        (true, 1000) => "in use".to_owned(),
        (true, warmth) => format!("in use, {} % warm", warmth / 10),
    };
    let manner = match view.manner {
        Manner::Warm => "",
        Manner::Unsettled => ", others as requests come",
        Manner::OnDemand => ", others on demand",
    };
    let in_lane = match view.in_lane {
        0 => String::new(),
        some => format!(", {some} besides in the lane"),
    };
    format!(
        "server {cluster}/{} ({}): {}, {}, {use_}; {} served, {} bound; {} of {} connected\
         {manner}{in_lane}; {health}",
        view.name,
        view.address,
        view.role.word(),
        view.admin.word(),
        view.counts.serving,
        view.counts.bound,
        view.connected,
        view.counts.workers,
    )
}

fn health(view: &HealthView) -> String {
    let state = match view.state {
        State::Unknown => "not probed yet",
        State::Online | State::Offline => view.state.word(),
    };
    let held = if view.is_held {
        ", held back (sticky_offline)"
    } else {
        ""
    };
    match &view.since {
        Some((since, cause)) => format!("{state} for {} s{held}: {cause}", since.as_secs()),
        None => format!("{state}{held}"),
    }
}

#[cfg(test)]
mod tests;
