//! A worker's slot: where jobs are put for it, and where others tell it that a client has left.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::exchange::Exchange;
use crate::net::Stream;

/// One worker's slot.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    job: Option<Exchange>,
    /// The exchange being served.
    serving: Option<u64>,
    /// An exchange whose client has left. It may not have been begun yet.
    cancelled: Option<u64>,
    /// When the connection is to be broken, if that exchange is still being served then.
    abort_at: Option<Instant>,
    connection: Option<Arc<Stream>>,
    stopped: bool,
}

impl State {
    fn abort(&self) {
        if self.serving.is_some()
            && let Some(connection) = &self.connection
        {
            connection.shutdown(Shutdown::Both);
        }
    }
}

/// What ended a wait.
#[derive(Debug)]
pub(super) enum Woken {
    Job(Exchange),
    Nothing,
    Stop,
}

impl Slot {
    /// Gives the worker a job. The dispatcher sees to it that there is never a second one.
    pub(super) fn put(&self, job: Exchange) {
        self.state.lock().job = Some(job);
        // Outside the lock, so that the woken thread does not run into it.
        self.wake.notify_one();
    }

    /// Waits for a job, at most this long.
    pub(super) fn wait(&self, patience: Duration) -> Woken {
        let mut state = self.state.lock();
        if state.job.is_none() && !state.stopped {
            self.wake.wait_for(&mut state, patience);
        }
        match state.job.take() {
            Some(job) => Woken::Job(job),
            None if state.stopped => Woken::Stop,
            None => Woken::Nothing,
        }
    }

    /// The worker serves this exchange now, over this connection. `false` if its client has left already.
    pub(super) fn begin(&self, id: u64, connection: &Arc<Stream>) -> bool {
        let mut state = self.state.lock();
        if state.cancelled == Some(id) {
            state.cancelled = None;
            state.abort_at = None;
            return false;
        }
        state.serving = Some(id);
        if !state
            .connection
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, connection))
        {
            state.connection = Some(Arc::clone(connection));
        }
        true
    }

    /// The worker is through with this exchange. Answers whether its client has left meanwhile.
    pub(super) fn end(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        state.serving = None;
        state.abort_at = None;
        state.cancelled.take() == Some(id)
    }

    /// The connection is not the worker's any more.
    pub(super) fn forget_connection(&self) {
        self.state.lock().connection = None;
    }

    /// The client of this exchange has left. If the worker is not through with it by then, its connection is broken.
    pub(super) fn cancel(&self, id: u64, abort_at: Option<Instant>) {
        let mut state = self.state.lock();
        state.cancelled = Some(id);
        state.abort_at = abort_at;
    }

    /// Breaks the connection if its time has come. Under the lock, so that it can never hit a later exchange.
    pub(super) fn abort_if_due(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.abort_at.is_some_and(|at| at <= now) {
            state.abort_at = None;
            if state.serving == state.cancelled {
                state.abort();
            }
        }
    }

    /// Breaks the connection if something is being served.
    pub(super) fn abort(&self) {
        self.state.lock().abort();
    }

    /// Ends the worker, once it has served what it has.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.wake.notify_one();
    }

    /// Whether the worker is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }
}
