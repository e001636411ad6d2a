//! The dispatcher: which worker serves which request, and when. Pure: no thread, no socket, no
//! clock, generic over the job.

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

/// A server of the cluster, by its place in the list. One that is added takes the place of one that
/// is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A worker of the cluster, in the order in which they were started. One that is started takes the
/// place of one that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// A bucket of the cluster; the first is the root, whose jobs are those of no other bucket. An
/// unknown one stands for the root. The number of one that was removed is given to another one only
/// when many more have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketId(pub u32);

/// What the dispatcher sees of a job.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Its number, of no other job alive.
    pub id: u64,
    /// Where it queues.
    pub bucket: BucketId,
    /// Whose it is (a hash of the client's address, say): turns and fair shares inside the bucket.
    /// All that have none are one client, whom no other limits.
    pub key: Option<u64>,
    /// The key of consistent hashing. It chooses a server and nothing else, so a client may say
    /// what it likes; without one, any server is as good as another.
    pub affinity: Option<u64>,
    /// When it gives up waiting. Stays the same over all attempts.
    pub deadline: Instant,
    /// When its client wants the whole answer. Who cannot have it by then is refused, at once if
    /// that is known; nobody waits longer.
    pub answer_by: Option<Instant>,
    /// A server not to send it to while there is another (the last attempt failed there).
    pub avoid: Option<ServerId>,
    /// It may be one of several that a worker takes at once ([`Dispatcher::next_batch`]).
    pub batchable: bool,
}

impl Ticket {
    /// When it is refused if it still waits.
    pub fn gives_up(&self) -> Instant {
        match self.answer_by {
            Some(answer_by) => answer_by.min(self.deadline),
            None => self.deadline,
        }
    }
}

/// What became of an offered job.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer<J> {
    /// This worker is to serve it now.
    Assigned(WorkerId, J),
    /// It waits.
    Queued,
    /// It is handed back.
    Refused(Refusal, J),
}

/// Why a job was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is at its limit.
    QueueFull,
    /// It waited until its deadline.
    QueueTimeout,
    /// Its client already has its part of the queue.
    ClientQueueFull,
    /// By what waits before it and how long others take, it would not be answered in time. Said to
    /// who comes, and when it would be its turn.
    Hopeless,
    /// No server can be reached, and the cluster does not wait for one.
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
    /// It had none (it has just connected, or was looking after its connection).
    None,
    /// Served, well or not: the job is over.
    Done,
    /// It shall be tried again, at the head of its bucket, with no queue limit applied. Its token
    /// comes back at once.
    Retry {
        /// The job.
        job: J,
        /// Its ticket, with the server to avoid set.
        ticket: Ticket,
        /// Nothing of it was sent, so that it costs no budget.
        free: bool,
        /// How long it rests before: it is in progress then, and has its part of the budget, but
        /// holds up nobody. Whether there is a server for it is asked afterwards.
        back_off: Duration,
    },
}

/// State of a worker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ready for a job.
    Up,
    /// Being made (again); no failure so far.
    Connecting,
    /// The last attempt to connect failed.
    Unreachable,
}

/// What is to be done after a call, all decided under one lock.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(test), must_use = "jobs in here that nobody takes are lost")]
pub struct Handout<J> {
    /// Next job of the worker that asked.
    pub next: Option<J>,
    /// Jobs for other workers, which are to be woken.
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

/// Where a job to cancel was.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled<J> {
    /// In the queue, or resting: it is handed back.
    Queued(J),
    /// At this worker, who has to be told.
    Serving(WorkerId),
    /// Nowhere (any more).
    Unknown,
}

/// What a cluster's dispatcher goes by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// To the next server at once, and wait in its own queue. Buckets then have no guarantee, for
    /// what becomes free elsewhere does not help.
    pub early_binding: bool,
    /// Most jobs waiting.
    pub queue_limit: usize,
    /// Wait while no server can be reached, instead of being refused.
    pub wait_for_server: bool,
    /// Retries in progress that are always allowed.
    pub retry_floor: usize,
    /// Retries in progress as a part of all jobs in progress.
    pub retry_share: f64,
    /// How servers are chosen.
    pub schedule: Schedule,
    /// What becomes of idle shares.
    pub lending: Lending,
    /// Where the random numbers begin; in earnest, something that nobody outside knows.
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

/// Counts to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that rest before they are tried again.
    pub resting: usize,
    /// Jobs being served.
    pub serving: usize,
    /// Workers whose connection is up (idle or serving).
    pub up: usize,
    /// Workers in all, those that are leaving too.
    pub workers: usize,
    /// What the servers in use can serve at once: the root bucket.
    pub capacity: usize,
}

/// A server to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCounts {
    /// Jobs being served.
    pub serving: usize,
    /// Jobs that wait for it alone (early binding).
    pub bound: usize,
    /// Its workers, without those that are leaving.
    pub workers: usize,
    /// Those that are leaving.
    pub leaving: usize,
    /// It has passed all filters: jobs go to it.
    pub in_use: bool,
    /// Average response time by the scheduler's reckoning; only while that goes by it.
    pub latency: Option<Duration>,
}
