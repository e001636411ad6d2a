//! Spawns and counts all threads, and defines what a panic of each kind leads to.
//!
//! [`POLICIES`] is the one table of that. Each panic is counted and logged once, where it happens
//! ([`count_panic`]).

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes on with one long response where a worker stopped.
    Carrier,
    /// Brings responses to slow clients.
    Courier,
    /// Writes the access log or messages.
    Log,
    /// Starts everything, then carries out commands. The system starts it.
    Main,
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
    /// Turns signals into commands.
    Signals,
    /// Does what is due every second.
    Tick,
    /// Owns one connection to a server.
    Worker,
}

/// What a panic of a thread leads to. Only what was in the thread's hand is lost, whatever the
/// kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPanic {
    /// The thread calls its body again after this pause: a thread that panics at each step must not
    /// take a processor. Such threads are started by [`tend`].
    BeginsAgain(Duration),
    /// The thread catches panics itself, at each command that it carries out, and goes on with the
    /// next.
    GoesOn,
    /// The thread ends: it had one thing to do.
    Ends,
}

/// A kind of threads, and what is so for all of them.
struct Policy {
    kind: Kind,
    name: &'static str,
    after_panic: AfterPanic,
}

const AGAIN: AfterPanic = AfterPanic::BeginsAgain(Duration::from_millis(10));

const fn policy(kind: Kind, name: &'static str, after_panic: AfterPanic) -> Policy {
    Policy {
        kind,
        name,
        after_panic,
    }
}

/// By the kinds' numbers.
const POLICIES: [Policy; 12] = [
    // The client is cut. The place in the lane is given back.
    policy(Kind::Carrier, "carrier", AfterPanic::Ends),
    // The client that it delivers to is cut. The others are on a list of all couriers.
    policy(Kind::Courier, "courier", AGAIN),
    // The lines in hand are lost.
    policy(Kind::Log, "log", AGAIN),
    // The command in hand is refused.
    policy(Kind::Main, "main", AfterPanic::GoesOn),
    // The probe counts as skipped.
    policy(Kind::Probe, "probe", AfterPanic::Ends),
    // A panic of one cluster's look is caught there. That cluster is looked after again soon, and
    // the others at once.
    policy(Kind::Prober, "prober", AGAIN),
    policy(Kind::Reaper, "reaper", AGAIN),
    policy(Kind::Resolver, "resolver", AGAIN),
    // The client is cut. The thread then accepts the next one.
    policy(Kind::Session, "session", AGAIN),
    // The signal in hand is lost. A command that is being carried out goes on.
    policy(Kind::Signals, "signals", AGAIN),
    policy(Kind::Tick, "tick", AGAIN),
    // The exchange in hand is answered with 500 or cut; token, place among the connected and probe
    // are given back; the worker reconnects.
    policy(Kind::Worker, "worker", AGAIN),
];

/// Untouched stack costs no memory. A TLS handshake without optimisation needs more than 64 KiB.
const STACK: usize = 256 * 1024;

/// By the kinds' numbers.
static ALIVE: [AtomicUsize; POLICIES.len()] = [const { AtomicUsize::new(0) }; POLICIES.len()];

/// By the kinds' numbers. The last one counts all threads that were not started here.
static PANICS: [AtomicUsize; POLICIES.len() + 1] =
    [const { AtomicUsize::new(0) }; POLICIES.len() + 1];

thread_local! {
    static KIND: Cell<Option<Kind>> = const { Cell::new(None) };
}

impl Kind {
    /// Returns the name for logs, and for threads that have no better one.
    pub fn name(self) -> &'static str {
        self.policy().name
    }

    /// Returns the number of living threads of this kind.
    pub fn alive(self) -> usize {
        self.counter().load(Ordering::Relaxed)
    }

    /// Returns what a panic of a thread of this kind leads to.
    pub fn after_panic(self) -> AfterPanic {
        self.policy().after_panic
    }

    fn policy(self) -> &'static Policy {
        const { &POLICIES }
            .get(self as usize)
            .unwrap_or(&POLICIES[0])
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

/// Makes the calling thread one of this kind, which was not started here.
pub fn adopt(kind: Kind) {
    kind.counter().fetch_add(1, Ordering::Relaxed);
    KIND.set(Some(kind));
}

/// Subtracts a thread from the count, however it ends.
struct Alive(Kind);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.counter().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a thread that has to live as long as its work goes on. When `body` panics it is called
/// again after the pause of its kind, so what it needs to remember has to lie outside of it. The
/// thread ends when `body` returns.
pub fn tend(
    kind: Kind,
    name: String,
    mut body: impl FnMut() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    spawn(kind, name, move || {
        while catch_unwind(AssertUnwindSafe(&mut body)).is_err() {
            match kind.after_panic() {
                AfterPanic::BeginsAgain(pause) => std::thread::sleep(pause),
                AfterPanic::GoesOn | AfterPanic::Ends => return,
            }
        }
    })
}

/// Counts a panic of this thread. The program's panic hook calls this and logs the panic, so that
/// each panic is counted and logged once, no matter where it is caught.
pub fn count_panic() {
    let place = KIND.get().map_or(PANICS.len() - 1, |kind| kind as usize);
    PANICS[place].fetch_add(1, Ordering::Relaxed);
}

/// Returns the number of panics of each kind of thread that had any. `None` stands for threads that
/// were not started here.
pub fn panics_by_kind() -> Vec<(Option<Kind>, usize)> {
    let kinds = POLICIES.iter().map(|policy| Some(policy.kind));
    let counts = PANICS.iter().map(|count| count.load(Ordering::Relaxed));
    kinds
        .chain([None])
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_tended_thread_begins_again_until_it_returns() {
        let lives = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lives);
        let thread = tend(Kind::Reaper, "test".to_owned(), move || {
            assert!(counted.fetch_add(1, Ordering::Relaxed) >= 2, "not yet");
        });
        thread.unwrap().join().unwrap();
        assert_eq!(lives.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_table_has_a_row_for_each_kind_in_its_place() {
        for (place, policy) in POLICIES.iter().enumerate() {
            assert_eq!(policy.kind as usize, place, "{}", policy.name);
            assert_eq!(policy.kind.name(), policy.name);
        }
    }

    #[test]
    fn a_thread_that_has_one_thing_to_do_ends_with_a_panic() {
        let lives = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lives);
        let thread = tend(Kind::Probe, "test".to_owned(), move || {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("once");
        });
        thread.unwrap().join().unwrap();
        assert_eq!(lives.load(Ordering::Relaxed), 1);
    }
}
