//! One request and its response, from the first byte read to the last byte delivered.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use crate::fault::Fault;
use crate::observe::access::Record;
use crate::observe::account::{Ended, Passed};
use crate::plan::Listener;

use super::body::Body;
use super::client::{self, Ending, H1Reply};
use super::reply::Reply;
use super::state::{State, Times};

/// A client whose requests become exchanges.
pub type Client = client::Client<Exchange>;

/// One request on its way. It has one holder at a time, and the one that holds it at its end logs
/// it: so each is logged once.
///
/// An exchange that is dropped in any other way, by a panic above all, is lost property:
/// [`Hub::answer_lost`](super::Hub::answer_lost) answers and logs it.
#[derive(Debug)]
#[must_use = "an exchange that is dropped is answered with 500"]
pub struct Exchange {
    /// What its response is said to.
    pub(super) reply: Reply<Self>,
    /// Apart from the client, so that it can be kept for another request without keeping the
    /// client's descriptor. `None` once it is over.
    state: Option<Box<State>>,
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
            // The client was gone when the head was given out, and has seen none of it.
            self.status = 0;
            self.bytes = 0;
        }
        let client = self.client();
        let hub = client.hub();
        let passed = Passed {
            listener: client.listener().account(),
            cluster: self.cluster_account,
            server: self.server_account,
        };
        let ended = Ended {
            retries: self.attempts.retries(),
            bytes_out: self.bytes,
            fault,
        };
        hub.accounts.book(passed, &ended);
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

    /// The client that asked.
    pub(super) fn client(&self) -> &Arc<Client> {
        self.reply.client()
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
            client: self.client().peer().map(|peer| peer.ip()),
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
            cause: self.cause.unwrap_or_default(),
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

/// Stands for the state of an exchange that is over.
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
            self.client().hub().lost.add(Box::new(Self {
                reply,
                state: Some(state),
            }));
        }
    }
}

impl Ending for Exchange {
    fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn count(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn release_request(&mut self) {
        self.request.body = Body::default();
    }

    fn release_place(&mut self) {
        self.permit = None;
    }

    fn complete(self) {
        self.complete();
    }
}
