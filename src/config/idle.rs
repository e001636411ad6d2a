//! Settings that are written and have no effect as the rest of the file stands: each is warned of.

use super::keys::HEALTH;
use super::problem::Complaint;
use super::reader::Table;
use crate::balance::Schedule;
use crate::health::Mode;
use crate::plan::{
    BindAddress, Cluster, Connect, Listener, OnClientAbort, OnUnavailable, Process, ServerAddress,
};

/// Warns of each of these keys that is written. A key of a table within has a dot: `timeout.body`.
fn unused(table: &Table<'_>, keys: &[&str], reason: &str) {
    // Of a file that is wrong it is not known what it was meant to be.
    if table.problems().fatal() {
        return;
    }
    for key in keys {
        let (is_written, place) = match key.split_once('.') {
            Some((outer, inner)) => (
                table.has_within(outer, inner),
                table.place_within(outer, inner),
            ),
            None => (table.has(key), table.place_of(key)),
        };
        if is_written {
            let complaint = Complaint::new(format!("has no effect: {reason}"));
            table.problems().warning(&place, complaint);
        }
    }
}

/// Of a listener.
pub(super) fn of_listener(table: &Table<'_>, listener: &Listener) {
    let is_plain = listener.tls.is_none();
    if is_plain {
        unused(
            table,
            &["optional"],
            "without tls no certificate can be missing",
        );
    }
    if is_plain && listener.proxy_protocol.is_empty() {
        let reason = "there is neither TLS nor the PROXY protocol on this listener";
        unused(table, &["timeout.handshake"], reason);
    }
    if listener.redirect_https.is_some() {
        let of_servers = ["forwarded", "via", "request_id", "half_close"];
        unused(
            table,
            &of_servers,
            "no request of this listener is handed on (redirect_https)",
        );
        let of_bodies = [
            "timeout.body",
            "timeout.body_total",
            "limit.body",
            "limit.body_memory",
            "limit.min_upload_rate",
        ];
        unused(
            table,
            &of_bodies,
            "no body is read on this listener (redirect_https)",
        );
    }
    let has_addresses = listener
        .bind
        .iter()
        .any(|bind| matches!(bind, BindAddress::Tcp(_)));
    if !has_addresses && listener.proxy_protocol.is_empty() {
        let reason = "clients of a Unix socket have no address without the PROXY protocol";
        unused(table, &["sessions_per_address"], reason);
    }
    if listener.forwarded.trusted.is_empty() {
        unused(
            table,
            &["forwarded.mode"],
            "no client is trusted (forwarded.trusted)",
        );
    }
}

/// Of a cluster.
pub(super) fn of_cluster(table: &Table<'_>, cluster: &Cluster) {
    if cluster.buckets.is_empty() {
        unused(table, &["lending"], "there are no buckets");
    }
    match cluster.attempts {
        1 => unused(
            table,
            &["retry.budget", "retry.back_off"],
            "there are no second attempts (retry.attempts)",
        ),
        2 => unused(
            table,
            &["retry.back_off"],
            "the first retry does not wait, and there is no other (retry.attempts)",
        ),
        _ => {}
    }
    if cluster.connect == Connect::Warm {
        unused(table, &["keep"], "all connections are kept (connect)");
    }
    if cluster.lane == 0 {
        let reason = "nothing long goes on beside the workers (lane)";
        unused(table, &["timeout.stream"], reason);
    }
    if cluster.on_client_abort == OnClientAbort::Ignore {
        unused(
            table,
            &["timeout.abort"],
            "what a client has left is read to its end (on_client_abort)",
        );
    }
    if cluster.queue_limit == 0 {
        unused(table, &["queue.timeout"], "nothing may wait (queue.limit)");
        if cluster.on_unavailable == OnUnavailable::Queue {
            unused(table, &["on_unavailable"], "nothing may wait (queue.limit)");
        }
    }
    if cluster.health.settings.mode == Mode::Disabled {
        let mut others = HEALTH.keys.iter().filter(|key| key.name != "mode");
        if others.any(|key| table.has_within("health", key.name)) {
            unused(table, &["health"], "its mode is \"disabled\"");
        }
        return;
    }
    if cluster.health.settings.fall == 1 {
        unused(
            table,
            &["health.recheck"],
            "the first failure takes a server out of use (fall)",
        );
    }
    if cluster.health.port.is_some() {
        unused(
            table,
            &["health.probe_when_busy"],
            "each probe has a connection of its own (health.port)",
        );
    }
}

/// Of what the traffic shows of a cluster's servers. `counts` is whether any failure counts for the
/// ratio.
pub(super) fn of_passive(table: &Table<'_>, counts: bool) {
    if !counts {
        unused(
            table,
            &["ratio", "least", "window"],
            "no failures count for it (classes)",
        );
    }
}

/// Of the servers of a cluster, each with its table. `capacity` is said for all of them.
pub(super) fn of_servers(cluster: &Table<'_>, servers: &[Table<'_>], schedule: Schedule) {
    if schedule == Schedule::Chance {
        for table in servers {
            unused(
                table,
                &["weight"],
                "the scheduler \"chance\" goes by the list alone",
            );
        }
    }
    if !servers.is_empty() && servers.iter().all(|table| table.has("capacity")) {
        unused(cluster, &["capacity"], "each server has its own");
    }
}

/// Of what is there once. `clusters` is empty where flags have taken their place, and nothing is
/// known of them.
pub(super) fn of_process(root: &Table<'_>, process: &Process, clusters: &[&Cluster]) {
    if process.log.access.is_none() {
        unused(root, &["log.format"], "there is no access log (log.access)");
    }
    if process.summary.is_some() && process.log.level < log::LevelFilter::Info {
        unused(root, &["process.summary"], "log.level leaves the line out");
    }
    if process.spool.limit == 0 {
        unused(
            root,
            &["spool.folder"],
            "nothing may be in it (spool.limit)",
        );
        for table in &root.tables("listener") {
            unused(
                table,
                &["limit.response_spool"],
                "the spool holds nothing (spool.limit)",
            );
        }
    }
    let mut servers = clusters
        .iter()
        .flat_map(|cluster| &cluster.servers)
        .peekable();
    if servers.peek().is_some()
        && !servers.any(|server| matches!(server.address, ServerAddress::Name { .. }))
    {
        unused(root, &["process.resolve"], "no server has a name");
    }
    let is_kept = |cluster: &&Cluster| cluster.health.settings.sticky_offline;
    if process.state.is_some() && !clusters.is_empty() && !clusters.iter().any(is_kept) {
        unused(
            root,
            &["process.state"],
            "no server is kept out of use (cluster.health.sticky_offline)",
        );
    }
}
