//! Counts over the life of the process, of what is no exchange. Exchanges are booked in accounts.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(CachePadded<AtomicU64>);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything but exchanges that is counted for the whole process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Client connections accepted.
    pub sessions: Counter,
    /// Client connections refused or ended before a request (limits, bad handshakes).
    pub sessions_refused: Counter,
    /// Failures of `accept()`.
    pub accept_errors: Counter,
    /// Access log lines dropped because the log could not keep up.
    pub log_dropped: Counter,
}
