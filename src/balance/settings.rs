//! What a dispatcher goes by, and its counts.

use std::time::Duration;

use super::{Lending, Schedule};

/// The settings of a cluster's dispatcher.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bind each job to a server at once, and let it wait for that server. Buckets then have no
    /// guarantee, because a slot that becomes free elsewhere does not help.
    pub early_binding: bool,
    /// The most jobs waiting.
    pub queue_limit: usize,
    /// Jobs wait while no server can be reached, instead of being refused.
    pub wait_for_server: bool,
    /// Retries in progress that are always allowed.
    pub retry_floor: usize,
    /// Retries in progress as a part of all jobs in progress.
    pub retry_share: f64,
    /// How servers are chosen.
    pub schedule: Schedule,
    /// What happens to unused shares.
    pub lending: Lending,
    /// The seed of the random numbers. In production a value that nobody outside knows.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            early_binding: false,
            queue_limit: usize::MAX,
            wait_for_server: false,
            retry_floor: 10,
            retry_share: 0.2,
            schedule: Schedule::default(),
            lending: Lending::default(),
            seed: 0,
        }
    }
}

/// The counts of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that rest before a retry.
    pub resting: usize,
    /// Jobs being served.
    pub serving: usize,
    /// Workers whose connection is up (idle or serving).
    pub up: usize,
    /// All workers, including those that are leaving.
    pub workers: usize,
    /// How many jobs the servers in use can serve at once: the root bucket's size.
    pub capacity: usize,
}

/// The counts of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCounts {
    /// Jobs being served.
    pub serving: usize,
    /// Jobs that wait for this server alone (early binding).
    pub bound: usize,
    /// Its workers without those that are leaving.
    pub workers: usize,
    /// Its workers that are leaving.
    pub leaving: usize,
    /// It has passed all filters: jobs go to it.
    pub in_use: bool,
    /// The average response time as the scheduler computes it. `None` if the schedule does not use
    /// it.
    pub latency: Option<Duration>,
}
