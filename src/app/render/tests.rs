//! Views that are fixed here, and every line that is made of them.

use std::sync::Arc;
use std::time::Duration;

use crate::balance::{Admin, BucketCounts, Role, ServerCounts};
use crate::fault::Fault;
use crate::health::{Cause, FaultClass};
use crate::observe::account::Totals;
use crate::observe::sink::Lost;
use crate::plan::ServerAddress;
use crate::upstream::BucketView;

use super::super::view::ListenerView;
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
        account: Totals::default(),
        connected: 3,
        in_lane: 0,
        manner: Manner::Warm,
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
        account: Totals::default(),
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
    for (manner, told) in [
        (
            Manner::Unsettled,
            "3 of 5 connected, others as requests come;",
        ),
        (Manner::OnDemand, "3 of 5 connected, others on demand;"),
    ] {
        server.manner = manner;
        assert!(line(server).contains(told), "{}", line(server));
    }
    server.manner = Manner::Warm;
    server.in_lane = 7;
    assert!(line(server).contains("3 of 5 connected, 7 besides in the lane;"));
    server.in_lane = 0;
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
        listeners: Vec::new(),
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
        account: Totals {
            requests: 7,
            retries: 2,
            ..Totals::default()
        },
        accept_errors: 3,
        ..ProcessView::default()
    };
    assert_eq!(
        totals(&process),
        "in all: 5 clients (1 refused), 7 requests, 2 retries, 0 panics, 3 failed accepts, 0 \
         log lines dropped, 0 not written, 0 messages lost"
    );
    process.panics = vec![(Some(Kind::Worker), 2), (None, 1)];
    process.account.faults = vec![(Fault::QueueFull, 4)];
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

/// The view whose report the documentation shows.
fn documented() -> View {
    let account = |requests, retries, bytes_out, faults: &[(Fault, u64)]| Totals {
        requests,
        retries,
        bytes_out,
        faults: faults.to_vec(),
    };
    let server = |name: &str, last: u8, serving, in_use, account, health| ServerView {
        name: Arc::from(name),
        address: ServerAddress::Tcp(([10, 0, 0, last], 8000).into()),
        role: Role::Active,
        admin: Admin::Enabled,
        counts: ServerCounts {
            serving,
            bound: 0,
            workers: 5,
            leaving: 0,
            in_use,
            latency: None,
        },
        account,
        connected: 5,
        in_lane: 0,
        manner: Manner::Warm,
        warmth: 1000,
        health: Some(health),
    };
    let well = HealthView {
        state: State::Online,
        is_held: false,
        since: Some((Duration::from_secs(3120), Cause::ProbesSucceeded(1))),
    };
    let ill = HealthView {
        state: State::Offline,
        is_held: false,
        since: Some((
            Duration::from_secs(12),
            Cause::ProbesFailed(2, FaultClass::Timeout),
        )),
    };
    let bucket = |name: &str, assured, ceiling, held, bound, longest_wait| BucketView {
        name: name.to_owned(),
        counts: BucketCounts {
            assured,
            ceiling,
            held,
            serving: held,
            queued: 0,
            claims: 0,
            bound,
            longest_wait,
            violations: 0,
        },
    };
    let no_answer = (Fault::ResponseTimeout, 3);
    View {
        process: ProcessView {
            sessions: 812,
            refused: 2,
            account: account(9310, 4, 181_467_000, &[(Fault::NoRoute, 10), no_answer]),
            panics: vec![(Some(Kind::Worker), 1)],
            ..ProcessView::default()
        },
        listeners: vec![ListenerView {
            name: "http".to_owned(),
            account: account(9310, 4, 181_467_000, &[(Fault::NoRoute, 10), no_answer]),
        }],
        clusters: vec![ClusterView {
            name: Arc::from("app"),
            admin: Admin::Enabled,
            counts: Counts {
                queued: 0,
                resting: 0,
                serving: 4,
                up: 10,
                workers: 10,
                capacity: 10,
            },
            account: account(9300, 4, 181_465_000, &[no_answer]),
            servers: vec![
                server(
                    "app-1",
                    1,
                    4,
                    true,
                    account(5200, 4, 101_400_000, &[]),
                    well,
                ),
                server(
                    "app-2",
                    2,
                    0,
                    false,
                    account(4100, 0, 80_065_000, &[no_answer]),
                    ill,
                ),
            ],
            buckets: vec![
                bucket("root", 10, 10, 4, 0, 0),
                bucket("vip", 2, 4, 1, 1, 2),
            ],
        }],
    }
}

#[test]
fn a_report_is_as_documented() {
    let text = include_str!("../../../docs/operations.md");
    let (_, rest) = text.split_once("<!-- report:begin").unwrap();
    let (block, _) = rest.split_once("<!-- report:end").unwrap();
    let (_, block) = block.split_once("```\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    assert_eq!(report(&documented()), block.lines().collect::<Vec<_>>());
}
