//! The dispatcher: which worker serves which request, and when. Pure: no threads, no sockets, no
//! clock, and generic over the job.

mod bits;
mod bucket;
mod budget;
mod change;
mod dispatcher;
mod drain;
mod fenwick;
mod heap;
mod queue;
mod random;
mod reconfigure;
mod resting;
mod scheduler;
mod servers;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use bucket::BucketCounts;
pub use change::{
    Admin, Bucket, Change, Health, Lending, NewServer, Outcome, Rejection, Role, Schedule,
    ServerChange, Share,
};
pub use dispatcher::Dispatcher;

use std::time::{Duration, Instant};

/// A server of the cluster, by its index in the list. A new server takes the number of a removed
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A worker of the cluster, numbered in the order of starts. A new worker takes the number of one
/// that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// A bucket of the cluster. The first is the root, which has the jobs of no other bucket. An
/// unknown bucket stands for the root. The number of a removed bucket is reused only after many
/// more removals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketId(pub u32);

/// What the dispatcher sees of a job.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// The job's number, unique among living jobs.
    pub id: u64,
    /// The bucket that it queues in.
    pub bucket: BucketId,
    /// The client (a hash of its address, say): clients have turns and fair shares within the
    /// bucket. All jobs without a key count as one client, which has no limit of its own.
    pub key: Option<u64>,
    /// The key of consistent hashing. It chooses a server and nothing else, so a client may choose
    /// its value. Without a key any server will do.
    pub affinity: Option<u64>,
    /// When the job gives up waiting. The same over all attempts.
    pub deadline: Instant,
    /// When its client wants the whole response. A job that cannot have it by then is refused, at
    /// once if that is known, and does not wait longer.
    pub answer_by: Option<Instant>,
    /// A server not to use while there is another (the last attempt failed there).
    pub avoid: Option<ServerId>,
    /// The job may be one of several that a worker takes at once ([`Dispatcher::next_batch`]).
    pub batchable: bool,
}

impl Ticket {
    /// Returns when the job is refused if it still waits.
    pub fn gives_up(&self) -> Instant {
        match self.answer_by {
            Some(answer_by) => answer_by.min(self.deadline),
            None => self.deadline,
        }
    }
}

/// The result of an offer.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer<J> {
    /// This worker serves the job now.
    Assigned(WorkerId, J),
    /// The job waits.
    Queued,
    /// The job is handed back.
    Refused(Refusal, J),
}

/// Why a job was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is at its limit.
    QueueFull,
    /// The job waited until its deadline.
    QueueTimeout,
    /// The client already has its part of the queue.
    ClientQueueFull,
    /// The job would not be answered in time, given the jobs before it and the time that jobs take.
    /// Found on arrival, and when the job's turn comes.
    Hopeless,
    /// No server can be reached, and jobs do not wait for one.
    NoServer,
    /// Too many retries are in progress.
    RetryBudget,
    /// The cluster is drained or disabled.
    Disabled,
    /// The balancer stops.
    Closed,
}

/// How a worker's last job ended.
#[derive(Debug)]
pub enum Verdict<J> {
    /// The worker had none (it has just connected, or was checking its connection).
    None,
    /// The job is over, served well or not.
    Done,
    /// The job is tried again, at the head of its bucket, without a queue limit. Its token comes
    /// back at once.
    Retry {
        /// The job.
        job: J,
        /// The job's ticket, with the server to avoid set.
        ticket: Ticket,
        /// Nothing of the job was sent, so the retry costs no budget.
        free: bool,
        /// How long the job rests before. A resting job is in progress and has its part of the
        /// budget, but delays no other job. Whether there is a server for it is decided afterwards.
        back_off: Duration,
    },
}

/// The state of a worker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ready for a job.
    Up,
    /// Being made (again), without a failure so far.
    Connecting,
    /// The last attempt to connect failed.
    Unreachable,
}

/// What to do after a call, all decided under one lock.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(test), must_use = "jobs in here are lost unless they are taken")]
pub struct Handout<J> {
    /// The next job of the worker that asked.
    pub next: Option<J>,
    /// Jobs for other workers, which have to be woken.
    pub assigned: Vec<(WorkerId, J)>,
    /// Jobs that are over.
    pub refused: Vec<(Refusal, J)>,
}

impl<J> Default for Handout<J> {
    fn default() -> Self {
        Self {
            next: None,
            assigned: Vec::new(),
            refused: Vec::new(),
        }
    }
}

/// Where a cancelled job was.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled<J> {
    /// In the queue, or resting. The job is handed back.
    Queued(J),
    /// At this worker, which has to be told.
    Serving(WorkerId),
    /// Nowhere (any more).
    Unknown,
}

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
