//! The only place that spawns threads, and counts them.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Brings responses to slow clients.
    Courier,
    /// Writes the access log, or messages.
    Log,
    /// Makes one probe over a connection of its own.
    Probe,
    /// Decides when servers are probed.
    Prober,
    /// Looks after deadlines of queues and aborted exchanges.
    Reaper,
    /// Looks up the name of a server.
    Resolver,
    /// Accepts and reads one client.
    Session,
    /// Looks after what is due every second.
    Tick,
    /// Owns one connection to a server.
    Worker,
}

/// Untouched stack costs no memory; a TLS handshake without optimisation needs more than 64 KiB.
const STACK: usize = 256 * 1024;

static ALIVE: [AtomicUsize; 9] = [const { AtomicUsize::new(0) }; 9];

impl Kind {
    /// Name for logs, and for the thread where no better one is known.
    pub fn name(self) -> &'static str {
        match self {
            Self::Courier => "courier",
            Self::Log => "log",
            Self::Probe => "probe",
            Self::Prober => "prober",
            Self::Reaper => "reaper",
            Self::Resolver => "resolver",
            Self::Session => "session",
            Self::Tick => "tick",
            Self::Worker => "worker",
        }
    }

    /// Threads of this kind that are alive.
    pub fn alive(self) -> usize {
        self.counter().load(Ordering::Relaxed)
    }

    fn counter(self) -> &'static AtomicUsize {
        &ALIVE[self as usize]
    }
}

/// Starts a thread. Fails when the system lets no more be made; that is then like being at a limit, never fatal.
pub fn spawn(kind: Kind, name: String, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    kind.counter().fetch_add(1, Ordering::Relaxed);
    let started = Builder::new().name(name).stack_size(STACK).spawn(move || {
        let _alive = Alive(kind);
        body();
    });
    if started.is_err() {
        kind.counter().fetch_sub(1, Ordering::Relaxed);
    }
    started
}

/// Counts a thread out however it ends.
struct Alive(Kind);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.counter().fetch_sub(1, Ordering::Relaxed);
    }
}
