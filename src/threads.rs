//! Spawns and counts all threads, and defines what a panic of each kind leads to.
//!
//! Threads are tended ([`tend`]): after a panic they begin again. A session that panics ends its
//! client, and a worker ends its exchange. Reaper, prober, resolver, tick and logs go on with the
//! next round. A courier serves many clients, so it catches the panic where it delivers and ends
//! only that client. Each panic is counted and logged once, where it happens ([`count_panic`]).

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Brings responses to slow clients.
    Courier,
    /// Writes the access log or messages.
    Log,
    /// Makes one probe over a connection of its own.
    Probe,
    /// Decides when servers are probed.
    Prober,
    /// Checks deadlines of queues and aborted exchanges.
    Reaper,
    /// Looks up the name of a server.
    Resolver,
    /// Accepts and reads one client.
    Session,
    /// Does what is due every second.
    Tick,
    /// Owns one connection to a server.
    Worker,
}

/// Untouched stack costs no memory. A TLS handshake without optimisation needs more than 64 KiB.
const STACK: usize = 256 * 1024;

/// The pause before a tended thread begins again after a panic. Without a pause, a thread that
/// panics at each step would take a processor.
const AFTER_PANIC: Duration = Duration::from_millis(10);

static ALIVE: [AtomicUsize; 9] = [const { AtomicUsize::new(0) }; 9];

/// By kind. The last one counts all threads that were not started here.
static PANICS: [AtomicUsize; 10] = [const { AtomicUsize::new(0) }; 10];

thread_local! {
    static KIND: Cell<Option<Kind>> = const { Cell::new(None) };
}

impl Kind {
    /// Returns the name for logs, and for threads that have no better one.
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

    /// Returns the number of living threads of this kind.
    pub fn alive(self) -> usize {
        self.counter().load(Ordering::Relaxed)
    }

    /// Returns the number of panics in threads of this kind.
    pub fn panics(self) -> usize {
        PANICS[self as usize].load(Ordering::Relaxed)
    }

    fn counter(self) -> &'static AtomicUsize {
        &ALIVE[self as usize]
    }
}

/// Starts a thread. Fails when the system allows no more threads; callers treat that like a limit,
/// never as fatal.
pub fn spawn(
    kind: Kind,
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    kind.counter().fetch_add(1, Ordering::Relaxed);
    let started = Builder::new().name(name).stack_size(STACK).spawn(move || {
        let _alive = Alive(kind);
        KIND.set(Some(kind));
        body();
    });
    if started.is_err() {
        kind.counter().fetch_sub(1, Ordering::Relaxed);
    }
    started
}

/// Subtracts a thread from the count, however it ends.
struct Alive(Kind);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.counter().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a thread that has to live as long as its work goes on. When `body` panics it is called
/// again after a short pause, so what it needs to remember has to lie outside of it. The thread
/// ends when `body` returns.
pub fn tend(
    kind: Kind,
    name: String,
    mut body: impl FnMut() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    spawn(kind, name, move || {
        while catch_unwind(AssertUnwindSafe(&mut body)).is_err() {
            std::thread::sleep(AFTER_PANIC);
        }
    })
}

/// Counts a panic of this thread. The program's panic hook calls this and logs the panic, so that
/// each panic is counted and logged once, no matter where it is caught.
pub fn count_panic() {
    let place = KIND.get().map_or(PANICS.len() - 1, |kind| kind as usize);
    PANICS[place].fetch_add(1, Ordering::Relaxed);
}

/// Returns the number of panics of all threads.
pub fn panics() -> usize {
    PANICS
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_tended_thread_begins_anew_until_it_returns() {
        let lives = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lives);
        let thread = tend(Kind::Reaper, "test".to_owned(), move || {
            assert!(counted.fetch_add(1, Ordering::Relaxed) >= 2, "not yet");
        });
        thread.unwrap().join().unwrap();
        assert_eq!(lives.load(Ordering::Relaxed), 3);
    }
}
