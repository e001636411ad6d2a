//! What can be seen of a cluster: numbers and states without words.

use std::sync::Arc;
use std::time::Duration;

use crate::balance::{Admin, BucketCounts, Counts, Role, ServerCounts};
use crate::health::{Cause, State};
use crate::observe::account::Totals;
use crate::plan::ServerAddress;

use super::contact::Manner;

/// A cluster at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    /// The cluster's name.
    pub name: Arc<str>,
    /// Whether the cluster is in use.
    pub admin: Admin,
    /// Counts of the dispatcher.
    pub counts: Counts,
    /// The exchanges that were offered to the cluster and have ended.
    pub account: Totals,
    /// The servers, those too that are leaving.
    pub servers: Vec<ServerView>,
    /// The buckets, the root first.
    pub buckets: Vec<BucketView>,
}

/// A server at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerView {
    /// The server's name in its cluster.
    pub name: Arc<str>,
    /// The address in the plan: a name, as it is.
    pub address: ServerAddress,
    /// What the server is for; [`Role::Terminating`] if it is not in the plan any more.
    pub role: Role,
    /// Whether the server is in use.
    pub admin: Admin,
    /// Counts of the dispatcher.
    pub counts: ServerCounts,
    /// The exchanges whose last attempt this server had and that have ended.
    pub account: Totals,
    /// Workers whose connection is up.
    pub connected: usize,
    /// Connections that long responses have beside those of the workers.
    pub in_lane: usize,
    /// When the others connect.
    pub manner: Manner,
    /// How much of its weight and capacity is used, in thousandths.
    pub warmth: u16,
    /// What health checks know; `None` if the server is not checked.
    pub health: Option<HealthView>,
}

/// What health checks know of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthView {
    /// The state.
    pub state: State,
    /// The server is kept out of use until an operator releases it.
    pub is_held: bool,
    /// For how long the state has been this one, and why it became so; `None` before the first
    /// change.
    pub since: Option<(Duration, Cause)>,
}

/// A bucket at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketView {
    /// The bucket's name; `root` is the root's.
    pub name: String,
    /// Counts of the dispatcher.
    pub counts: BucketCounts,
}
