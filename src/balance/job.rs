//! Jobs as the dispatcher sees them, and what becomes of them.

use std::time::{Duration, Instant};

use super::{BucketId, ServerId, WorkerId};

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
    /// The job may be one of several that a worker takes at once
    /// ([`super::Dispatcher::next_batch`]).
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
pub enum LinkState {
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
