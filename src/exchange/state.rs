//! What is known of an exchange, without its client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::balance::BucketId;
use crate::fault::Fault;
use crate::observe::access::Captured;
use crate::observe::account::AccountId;
use crate::retry::Attempts;

use super::places::Permit;
use super::request::Request;
use super::switch::Switching;

/// What is known of an exchange.
#[derive(Debug)]
pub struct State {
    /// Its number, of no other exchange of this process.
    pub id: u64,
    /// Where it goes, once it is routed.
    pub destination: Destination,
    /// The request.
    pub request: Request,
    /// The attempts so far.
    pub attempts: Attempts,
    /// How often its holder has let go of it without an end.
    pub losses: u32,
    /// Moments of its life.
    pub times: Times,
    /// Server of the last attempt, for the access log where there is one.
    pub server: Option<Arc<str>>,
    /// Name of its cluster, for the access log where there is one.
    pub cluster_name: Option<Arc<str>>,
    /// Account of the cluster that it was offered to.
    pub cluster_account: Option<AccountId>,
    /// Account of the server of the last attempt.
    pub server_account: Option<AccountId>,
    /// Why it did not end well.
    pub fault: Option<Fault>,
    /// What exactly is wrong with a malformed request.
    pub cause: Option<&'static str>,
    /// Status of the response head given to the client; 0 until there is one.
    pub status: u16,
    /// Bytes given to the client's side.
    pub bytes: u64,
    /// For the access log.
    pub captured: Captured,
    /// Its place among the requests at once.
    pub permit: Option<Permit>,
    /// For the session of a client that asks for another protocol.
    pub switching: Option<Switching>,
}

/// Where an exchange goes, and as what, by its head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Destination {
    /// Number of the cluster, of no other cluster of this process.
    pub cluster: usize,
    /// Its bucket there.
    pub bucket: BucketId,
    /// How long it may wait there.
    pub patience: Duration,
    /// Whose it is: for turns and parts of the queue.
    pub key: Option<u64>,
    /// What consistent hashing goes by.
    pub affinity: Option<u64>,
    /// How much time its client gives the whole exchange.
    pub time: Option<Duration>,
    /// Requests may be sent there several at once.
    pub pipelines: bool,
    /// Its response is a stream: each piece goes out at once, and it may never end.
    pub is_stream: bool,
    /// The client asks for another protocol, and may.
    pub is_tunnel: bool,
}

impl Destination {
    /// It needs a place in the lane.
    pub fn is_long(&self) -> bool {
        self.is_stream || self.is_tunnel
    }
}

/// Moments of an exchange's life.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The request's first byte was there.
    pub began: Instant,
    /// It was offered to the dispatcher.
    pub offered: Option<Instant>,
    /// It began to wait for a worker (the last time).
    pub waiting_since: Instant,
    /// A worker took it (the last time).
    pub taken: Option<Instant>,
    /// Waited in the queue, all attempts together.
    pub queued: Duration,
    /// Waited for a connection.
    pub connect: Option<Duration>,
    /// The response's first byte came.
    pub first_byte: Option<Instant>,
}

impl Times {
    /// Of an exchange that begins now.
    pub fn starting(now: Instant) -> Self {
        Self {
            began: now,
            offered: None,
            waiting_since: now,
            taken: None,
            queued: Duration::ZERO,
            connect: None,
            first_byte: None,
        }
    }
}

impl State {
    /// Of an exchange that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            id: 0,
            destination: Destination::default(),
            request: Request::default(),
            attempts: Attempts::default(),
            losses: 0,
            times: Times::starting(now),
            server: None,
            cluster_name: None,
            cluster_account: None,
            server_account: None,
            fault: None,
            cause: None,
            status: 0,
            bytes: 0,
            captured: Captured::default(),
            permit: None,
            switching: None,
        }
    }

    /// Forgets everything but the room that was made.
    pub(super) fn clear(&mut self) {
        self.request.clear();
        self.attempts = Attempts::default();
        self.losses = 0;
        self.server = None;
        self.cluster_name = None;
        self.cluster_account = None;
        self.server_account = None;
        self.fault = None;
        self.cause = None;
        self.status = 0;
        self.bytes = 0;
        self.captured.clear();
        self.permit = None;
        self.switching = None;
    }
}
