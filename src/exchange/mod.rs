//! One request and its response, the client's side that the response goes out on, and what both
//! share.

mod answer;
mod body;
mod client;
mod courier;
mod hub;
mod listener;
mod lost;
mod outbox;
mod registry;
mod reply;
mod request;
mod spool;

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::Guard;

pub use answer::Answer;
pub use body::{Body, Piece};
pub use client::{Client, Fed, H1Reply, Holds, Left, Opened, Scratch, Sent, TlsError};
pub use courier::Couriers;
pub use hub::{Hub, HubSettings, Permit};
pub use listener::OpenListener;
pub use registry::{Registry, Short};
pub use reply::Reply;
pub use request::Request;
pub use spool::Spool;

use crate::balance::BucketId;
use crate::fault::Fault;
use crate::http::RequestHead;
use crate::observe::access::{Captured, Record};
use crate::observe::account::{AccountId, Entry, Passed};
use crate::plan::{ErrorPage, Listener};
use crate::retry::Attempts;

/// One request on its way. It has one holder at a time, and who holds it at its end logs it: so
/// each is logged once.
///
/// An exchange that is dropped in any other way, by a panic above all, is lost property:
/// [`Hub::answer_lost`] answers and logs it.
#[derive(Debug)]
#[must_use = "an exchange that is dropped is answered with 500"]
pub struct Exchange {
    /// What its response is said to.
    reply: Reply,
    /// Apart from the client, so that it can be kept for another request without keeping the
    /// client's descriptor. `None` once it is over.
    state: Option<Box<State>>,
}

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
    /// So often its holder has let go of it without an end.
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
    /// Status of the response head given to the client; 0 until there is one.
    pub status: u16,
    /// Bytes given to the client's side.
    pub bytes: u64,
    /// For the access log.
    pub captured: Captured,
    /// Its place among the requests at once.
    pub permit: Option<Permit>,
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
}

/// What admissions go by, until others take its place.
pub type Promise = Box<dyn Any + Send + Sync>;

/// Keeps what an admission has promised until the request is submitted. As long as one is out, the
/// promise's [`Arc`] has not gone. It costs no count that threads share.
pub type Pass = Guard<Arc<Promise>>;

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

impl Exchange {
    /// An exchange that begins now.
    pub fn begin(client: &Arc<Client>, now: Instant) -> Self {
        let hub = client.hub();
        let mut state = hub.spare().unwrap_or_else(|| Box::new(State::new(now)));
        state.id = hub.next_id();
        state.times = Times::starting(now);
        Self {
            reply: Reply::H1(H1Reply::new(client)),
            state: Some(state),
        }
    }

    /// Ends it: counts and logs it, and keeps what can be used again.
    pub fn complete(mut self) {
        let fault = self.fault;
        if fault == Some(Fault::ClientGoneHead) {
            // It was gone when the head was given out: nobody has seen that.
            self.status = 0;
            self.bytes = 0;
        }
        let client = Arc::clone(self.client());
        let hub = client.hub();
        let passed = Passed {
            listener: client.listener().account(),
            cluster: self.cluster_account,
            server: self.server_account,
        };
        let entry = Entry {
            retries: self.attempts.retries(),
            bytes_out: self.bytes,
            fault,
        };
        hub.accounts.book(passed, &entry);
        if let Some(access) = &hub.access {
            access.write(&self.record(client.listener(), fault), &hub.counters);
        }
        self.forget();
    }

    /// Ends it uncounted and unlogged: it was none.
    pub fn forget(mut self) {
        if let Some(mut state) = self.state.take() {
            state.clear();
            self.client().hub().keep(state);
        }
    }

    fn record<'a>(&'a self, listener: &'a Listener, fault: Option<Fault>) -> Record<'a> {
        let status = match (self.status, fault) {
            (0, Some(fault)) => fault.status(),
            (status, _) => status,
        };
        let since = |earlier: Option<Instant>, later: Option<Instant>| {
            Some(later?.saturating_duration_since(earlier?))
        };
        Record {
            client: self.peer().map(|peer| peer.ip()),
            request: &self.captured,
            status,
            bytes: self.bytes,
            listener: &listener.name,
            cluster: self.cluster_name.as_deref().unwrap_or("-"),
            server: self.server.as_deref().unwrap_or("-"),
            queue: self.times.offered.map(|_| self.times.queued),
            connect: self.times.connect,
            first_byte: since(self.times.taken, self.times.first_byte),
            total: self.times.began.elapsed(),
            retries: self.attempts.retries(),
            attempt: self.attempts.begun(),
            why: self.attempts.why().map_or("", Fault::text),
            flags: fault.map_or("--", Fault::flags),
            reason: fault.map_or("", Fault::text),
        }
    }
}

impl Deref for Exchange {
    type Target = State;

    fn deref(&self) -> &State {
        match &self.state {
            Some(state) => state,
            None => &OVER,
        }
    }
}

/// Stands for the state of an exchange that is over, which nobody has any more.
static OVER: LazyLock<State> = LazyLock::new(|| State::new(Instant::now()));

impl DerefMut for Exchange {
    fn deref_mut(&mut self) -> &mut State {
        self.state
            .get_or_insert_with(|| Box::new(State::new(Instant::now())))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            let reply = self.reply.clone();
            self.client().hub().lost.add(Self {
                reply,
                state: Some(state),
            });
        }
    }
}

impl State {
    fn new(now: Instant) -> Self {
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
            status: 0,
            bytes: 0,
            captured: Captured::default(),
            permit: None,
        }
    }

    /// Forgets everything but the room that was made.
    fn clear(&mut self) {
        self.request.clear();
        self.attempts = Attempts::default();
        self.losses = 0;
        self.server = None;
        self.cluster_name = None;
        self.cluster_account = None;
        self.server_account = None;
        self.fault = None;
        self.status = 0;
        self.bytes = 0;
        self.captured.clear();
        self.permit = None;
    }
}

/// What the reading side needs of the rest: where a request goes, and getting it there.
pub trait Service: Send + Sync + 'static {
    /// Decides by the head alone, before a body is read or `100 Continue` sent.
    fn admit(&self, client: &Client, buffer: &[u8], head: &RequestHead) -> Admission;

    /// A whole request. From here on its client's writing side is the service's.
    fn submit(&self, exchange: Exchange);

    /// The client of this exchange has left before a response began.
    fn cancel(&self, cluster: usize, id: u64);

    /// The page that this cluster has for failures of this status, if it has one.
    fn error_page(&self, cluster: usize, status: u16) -> Option<ErrorPage>;
}

/// What becomes of a request, by its head.
#[derive(Debug)]
pub enum Admission {
    /// It is answered here.
    Answer(Answer),
    /// It goes there.
    Cluster(Destination, Pass),
}
