//! Counts over the life of the process.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::fault::Fault;

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

/// Everything that is counted for the whole process.
#[derive(Debug)]
pub struct Counters {
    /// Client connections accepted.
    pub sessions: Counter,
    /// Client connections refused or ended before a request (limits, bad handshakes).
    pub sessions_refused: Counter,
    /// Exchanges that ended, well or not.
    pub requests: Counter,
    /// Attempts beyond the first.
    pub retries: Counter,
    /// Bytes of responses given to clients' sockets or couriers.
    pub bytes_out: Counter,
    /// Failures of `accept()`.
    pub accept_errors: Counter,
    /// Access log lines dropped because the log could not keep up.
    pub log_dropped: Counter,
    faults: Box<[AtomicU64]>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            sessions: Counter::default(),
            sessions_refused: Counter::default(),
            requests: Counter::default(),
            retries: Counter::default(),
            bytes_out: Counter::default(),
            accept_errors: Counter::default(),
            log_dropped: Counter::default(),
            faults: Fault::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Counters {
    /// Counts a fault.
    pub fn fault(&self, fault: Fault) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how often this fault occurred.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.faults
            .get(fault as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}
