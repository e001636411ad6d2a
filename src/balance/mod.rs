//! The dispatcher: which worker serves which request, and when. Pure: no thread, no socket, no clock, generic over the job.

mod bits;
mod budget;
mod dispatcher;
mod heap;
mod queue;
mod scheduler;
mod servers;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use dispatcher::Dispatcher;

use std::time::Instant;

/// A server of the cluster, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// A worker of the cluster: first server's workers first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// A bucket of the cluster. There is one so far, the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketId(pub u32);

/// What the dispatcher sees of a job.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// Its number, of no other job alive.
    pub id: u64,
    /// Where it queues.
    pub bucket: BucketId,
    /// When it gives up waiting. Stays the same over all attempts.
    pub deadline: Instant,
    /// A server not to send it to while there is another (the last attempt failed there).
    pub avoid: Option<ServerId>,
    /// It may be one of several that a worker takes at once ([`Dispatcher::next_batch`]).
    pub batchable: bool,
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
    /// No server can be reached, and the cluster does not wait for one.
    NoServer,
    /// Too many retries are in progress.
    RetryBudget,
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
    /// It shall be tried again, at the head of its bucket, with no queue limit applied.
    Retry {
        /// The job.
        job: J,
        /// Its ticket, with the server to avoid set.
        ticket: Ticket,
        /// Nothing of it was sent, so that it costs no budget.
        free: bool,
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
    /// In the queue: it is handed back.
    Queued(J),
    /// At this worker, who has to be told.
    Serving(WorkerId),
    /// Nowhere (any more).
    Unknown,
}

/// A change to a running cluster. More kinds come with live reconfiguration.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// Adds a server at the end of the round with so many workers, all [`Link::Connecting`].
    AddServer {
        /// Its workers.
        capacity: usize,
    },
    /// Takes no more offers and refuses what waits ([`Refusal::Closed`]); what is being served ends as usual.
    Close,
}

/// What a cluster's dispatcher goes by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// To the next server at once, and wait in its own queue.
    pub early_binding: bool,
    /// Most jobs waiting.
    pub queue_limit: usize,
    /// Wait while no server can be reached, instead of being refused.
    pub wait_for_server: bool,
    /// Retries in progress that are always allowed.
    pub retry_floor: usize,
    /// Retries in progress as a part of all jobs in progress.
    pub retry_share: f64,
}

/// Counts to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs being served.
    pub serving: usize,
    /// Workers whose connection is up (idle or serving).
    pub up: usize,
    /// Workers in all.
    pub workers: usize,
}
