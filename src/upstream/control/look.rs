//! A view of the cluster.

use std::sync::Arc;
use std::time::Instant;

use crate::balance::{BucketId, Role, ServerCounts};
use crate::upstream::lane::Lane;
use crate::upstream::server::Server;
use crate::upstream::view::{BucketView, ClusterView, HealthView, ServerView};

use super::controller::Controller;
use super::roster::Member;

impl Controller {
    /// Returns how the cluster is at `now`. All counts of the dispatcher are of one moment.
    pub fn view(&self, now: Instant) -> ClusterView {
        let roster = self.roster();
        let mut of_servers = Vec::with_capacity(roster.members.len());
        let mut of_buckets = Vec::with_capacity(roster.buckets.len());
        // The data path waits for this lock: nothing else is done under it.
        let dispatcher = self.cluster.dispatcher();
        let counts = dispatcher.counts();
        let of_root = dispatcher.bucket(BucketId::default());
        of_buckets.extend(roster.buckets.iter().map(|it| dispatcher.bucket(it.id)));
        of_servers.extend(roster.servers().map(|it| dispatcher.server(it.id)));
        drop(dispatcher);
        let root = BucketView {
            name: "root".to_owned(),
            counts: of_root,
        };
        let below = roster.buckets.iter().zip(of_buckets);
        let below = below.map(|(bucket, counts)| BucketView {
            name: bucket.plan.name.clone(),
            counts,
        });
        let buckets = std::iter::once(root).chain(below).collect();
        let servers = roster.members.iter().zip(of_servers);
        let servers = servers
            .filter_map(|(member, counts)| Some(view(member, self.cluster.lane(), counts?, now)));
        ClusterView {
            name: Arc::clone(self.cluster.name_shared()),
            admin: self.plan().admin,
            counts,
            account: self.cluster.totals(),
            servers: servers.collect(),
            buckets,
        }
    }
}

fn view(member: &Member, lane: &Lane, counts: ServerCounts, now: Instant) -> ServerView {
    let server = &member.server;
    let plan = server.plan();
    ServerView {
        name: Arc::clone(&server.name),
        address: plan.address.clone(),
        role: if server.is_removed() {
            Role::Terminating
        } else {
            plan.role
        },
        admin: plan.admin,
        counts,
        account: server.account.totals(),
        connected: server.connected(),
        in_lane: lane.count(server.id),
        manner: server.manner(),
        warmth: member.warmth,
        health: server.is_monitored().then(|| health(server, now)),
    }
}

fn health(server: &Server, now: Instant) -> HealthView {
    let monitor = server.monitor();
    let since = monitor.last_change().map(|change| {
        let since = now.saturating_duration_since(change.at);
        (since, change.cause.clone())
    });
    HealthView {
        state: monitor.state(),
        is_held: monitor.held().is_some(),
        since,
    }
}
