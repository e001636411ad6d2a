//! Views as lines for the log.

use crate::balance::Counts;
use crate::health::State;
use crate::threads::Kind;
use crate::upstream::{ClusterView, HealthView, ServerView};

use super::view::{ProcessView, View};

/// Everything about a cluster: a line for the cluster, for each server and for each bucket.
pub(super) fn cluster(view: &ClusterView) -> Vec<String> {
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
    let mut line = format!(
        "in all: {} clients ({} refused), {} requests, {} retries, {} panics{}, {} failed accepts, \
         {} log lines dropped, {} not written, {} messages lost",
        process.sessions,
        process.refused,
        process.requests,
        process.retries,
        process.all_panics(),
        panics(process),
        process.accept_errors,
        process.log_dropped,
        process.access_lost.failed,
        process.messages_lost.all(),
    );
    for (fault, count) in &process.faults {
        line += &format!("; {count} x {}: {}", fault.flags(), fault.text());
    }
    line
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
    format!(
        "server {cluster}/{} ({}): {}, {}, {use_}; {} served, {} bound; {} of {} connected; \
         {health}",
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
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::balance::{Admin, BucketCounts, Role, ServerCounts};
    use crate::fault::Fault;
    use crate::health::Cause;
    use crate::observe::sink::Lost;
    use crate::plan::ServerAddress;
    use crate::upstream::BucketView;

    use super::*;

    fn view() -> ClusterView {
        let counts = ServerCounts {
            serving: 4,
            bound: 1,
            workers: 5,
            leaving: 0,
            in_use: true,
            latency: None,
        };
        let server = ServerView {
            name: Arc::from("app-1"),
            address: ServerAddress::Tcp(([10, 0, 0, 1], 8000).into()),
            role: Role::Active,
            admin: Admin::Enabled,
            counts,
            connected: 3,
            warmth: 1000,
            health: None,
        };
        let bucket = |name: &str| BucketView {
            name: name.to_owned(),
            counts: BucketCounts {
                assured: 2,
                ceiling: 4,
                held: 1,
                serving: 1,
                queued: 7,
                claims: 0,
                bound: 1,
                longest_wait: 6,
                violations: 0,
            },
        };
        ClusterView {
            name: Arc::from("app"),
            admin: Admin::Draining,
            counts: Counts {
                queued: 7,
                resting: 2,
                serving: 4,
                up: 3,
                workers: 5,
                capacity: 5,
            },
            servers: vec![server],
            buckets: vec![bucket("root"), bucket("vip")],
        }
    }

    #[test]
    fn a_cluster_has_a_line_for_itself_each_server_and_each_bucket() {
        assert_eq!(
            cluster(&view()),
            [
                "cluster app: draining, 5 slots; 4 served, 7 queued, 2 resting",
                "server app/app-1 (10.0.0.1:8000): active, enabled, in use; 4 served, 1 bound; 3 \
                 of 5 connected; not checked",
                "cluster app, bucket root: 1 served of 2 assured, at most 4; 7 queued; who is \
                 under the share waits for at most 1 slots (longest wait so far 6), 0 violations",
                "cluster app, bucket vip: 1 served of 2 assured, at most 4; 7 queued; who is \
                 under the share waits for at most 1 slots (longest wait so far 6), 0 violations",
            ]
        );
    }

    #[test]
    fn the_root_alone_is_no_share() {
        let mut view = view();
        view.buckets.truncate(1);
        assert!(buckets(&view).is_empty());
        assert_eq!(cluster(&view).len(), 2);
    }

    #[test]
    fn a_server_tells_how_warm_and_how_well_it_is() {
        let mut view = view();
        let server = &mut view.servers[0];
        server.role = Role::Terminating;
        server.admin = Admin::Disabled;
        server.warmth = 345;
        server.health = Some(HealthView {
            state: State::Unknown,
            is_held: false,
            since: None,
        });
        let line = |server: &ServerView| super::server("app", server);
        assert_eq!(
            line(server),
            "server app/app-1 (10.0.0.1:8000): terminating, disabled, in use, 34 % warm; 4 \
             served, 1 bound; 3 of 5 connected; not probed yet"
        );
        server.counts.in_use = false;
        server.health = Some(HealthView {
            state: State::Offline,
            is_held: true,
            since: Some((
                Duration::from_millis(12_900),
                Cause::Remembered("why".to_owned()),
            )),
        });
        let cause = Cause::Remembered("why".to_owned());
        assert!(
            line(server).ends_with(&format!(
                "disabled, not in use; 4 served, 1 bound; 3 of 5 connected; offline for 12 s, \
                 held back (sticky_offline): {cause}"
            )),
            "{}",
            line(server)
        );
    }

    #[test]
    fn the_summary_adds_the_clusters_up_and_tells_of_losses_only_if_there_are_some() {
        let mut all = View {
            process: ProcessView {
                clients: 12,
                session_threads: 14,
                couriers: 1,
                in_buffers: 64 * 1024,
                in_spool: 5000,
                ..ProcessView::default()
            },
            clusters: vec![view(), view()],
        };
        let rates = Rates {
            requests: 123.4,
            bytes_out: 1_250_000.0,
        };
        let line = "123 requests/s, 1.2 MB/s out, 12 clients, 8 served, 14 queued, 6/10 workers \
                    up, 14 session threads, 1 couriers, 64 KiB in buffers, 4 KiB in spool";
        assert_eq!(summary(&all, &rates), line);
        all.process.access_lost = Lost {
            dropped: 2,
            failed: 1,
        };
        all.process.messages_lost.dropped = 1;
        assert_eq!(
            summary(&all, &rates),
            format!("{line}, 4 lines lost in logs")
        );
    }

    #[test]
    fn the_totals_name_the_faults_and_panics_that_came() {
        let mut process = ProcessView {
            sessions: 5,
            refused: 1,
            requests: 7,
            retries: 2,
            accept_errors: 3,
            ..ProcessView::default()
        };
        assert_eq!(
            totals(&process),
            "in all: 5 clients (1 refused), 7 requests, 2 retries, 0 panics, 3 failed accepts, 0 \
             log lines dropped, 0 not written, 0 messages lost"
        );
        process.panics = vec![(Some(Kind::Worker), 2), (None, 1)];
        process.faults = vec![(Fault::QueueFull, 4)];
        let fault = Fault::QueueFull;
        assert_eq!(
            totals(&process),
            format!(
                "in all: 5 clients (1 refused), 7 requests, 2 retries, 3 panics (worker: 2, \
                 other: 1), 3 failed accepts, 0 log lines dropped, 0 not written, 0 messages \
                 lost; 4 x {}: {}",
                fault.flags(),
                fault.text()
            )
        );
    }
}
