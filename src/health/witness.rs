//! Which client and path have seen a failure. What one client or one path provokes is no reason to
//! take a server from all others.

use std::collections::HashMap;

use super::FaultClass;

/// Client and path of a failed request. Different numbers stand for different clients or paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The client: its address (of IPv6 the first 64 bits), or the key that a trusted peer sends.
    pub client: u64,
    /// The path, without the query.
    pub path: u64,
}

/// A failed exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub class: FaultClass,
    /// The witness. `None` where no request can be the cause, as with a connect.
    pub witness: Option<Witness>,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streak {
    length: u32,
    clients: Lead,
    paths: Lead,
}

impl Streak {
    pub(super) fn add(&mut self, witness: Option<Witness>) {
        self.length = self.length.saturating_add(1);
        if let Some(witness) = witness {
            self.clients.add(witness.client);
            self.paths.add(witness.path);
        }
    }

    /// Returns the number of all failures.
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    /// Returns the number of failures that count: of one client no more than of all others
    /// together, and likewise of one path if others `work`.
    pub(super) fn telling(&self, work: bool) -> u32 {
        let paths = if work { self.paths.excess() } else { 0 };
        self.length.saturating_sub(self.clients.excess().max(paths))
    }
}

/// By how much one value leads all others together: the count of Boyer and Moore's majority vote,
/// which is never less.
#[derive(Clone, Copy, Debug, Default)]
struct Lead {
    value: u64,
    by: u32,
}

impl Lead {
    fn add(&mut self, value: u64) {
        if self.by == 0 {
            (self.value, self.by) = (value, 1);
        } else if self.value == value {
            self.by = self.by.saturating_add(1);
        } else {
            self.by -= 1;
        }
    }

    /// Returns the excess over all other values. A single odd one is no excess.
    fn excess(&self) -> u32 {
        if self.by > 1 { self.by } else { 0 }
    }
}

/// How often each value occurs among the failures of a window.
#[derive(Debug, Default)]
pub(super) struct Tally(HashMap<u64, usize>);

impl Tally {
    pub(super) fn add(&mut self, value: u64) {
        *self.0.entry(value).or_default() += 1;
    }

    pub(super) fn remove(&mut self, value: u64) {
        if let Some(count) = self.0.get_mut(&value) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&value);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns by how much the most frequent value exceeds all others among `all`. A single odd one
    /// is no excess.
    pub(super) fn excess(&self, all: usize) -> usize {
        let top = self.0.values().copied().max().unwrap_or(0);
        let lead = (2 * top).saturating_sub(all);
        if lead > 1 { lead } else { 0 }
    }
}
