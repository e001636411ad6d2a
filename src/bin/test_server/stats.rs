//! The counters, and how they stay reliable.
//!
//! A test says "never more than five at once", so a count must never be too high. A request stops
//! executing *before* the last bytes of its response are sent, because the next request may arrive
//! faster than the counter is reduced. A connection that its client has closed, but whose thread
//! has not noticed yet, does not count for the maximum.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stream::{Stream, count_gone};

/// Above this number of connections the maximum is taken as counted, because checking each one
/// would take too long.
const LOOKED_AT: usize = 1024;

/// All counters.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    open: BTreeMap<u64, Arc<Stream>>,
    next: u64,
    connections_ever: u64,
    connections_most: usize,
    requests: u64,
    executing: usize,
    executing_most: usize,
    pipelined: u64,
    malformed: u64,
    unfinished: u64,
    methods: BTreeMap<String, u64>,
    counted: BTreeMap<String, u64>,
}

impl Stats {
    /// Counts a new connection.
    pub(crate) fn connection(&self, stream: &Arc<Stream>) -> u64 {
        let mut numbers = self.0.lock();
        let id = numbers.next;
        numbers.next += 1;
        numbers.connections_ever += 1;
        numbers.open.insert(id, Arc::clone(stream));
        let mut now = numbers.open.len();
        if now > numbers.connections_most {
            if now <= LOOKED_AT {
                now -= count_gone(numbers.open.values().map(|stream| &**stream));
            }
            numbers.connections_most = numbers.connections_most.max(now);
        }
        id
    }

    /// Counts a connection out that is about to be closed.
    pub(crate) fn closed(&self, id: u64) {
        self.0.lock().open.remove(&id);
    }

    /// Counts a request whose head is read as executing, until the returned value is dropped.
    pub(crate) fn request(&self, method: &str) -> Executing<'_> {
        let mut numbers = self.0.lock();
        numbers.requests += 1;
        numbers.executing += 1;
        numbers.executing_most = numbers.executing_most.max(numbers.executing);
        // Not `entry`, which would allocate: the name is nearly always present.
        match numbers.methods.get_mut(method) {
            Some(count) => *count += 1,
            None => {
                numbers.methods.insert(method.to_owned(), 1);
            }
        }
        Executing(self)
    }

    /// Counts a request that came before the response to its predecessor.
    pub(crate) fn pipelined(&self) {
        self.0.lock().pipelined += 1;
    }

    /// Counts bytes that are not a request.
    pub(crate) fn malformed(&self) {
        self.0.lock().malformed += 1;
    }

    /// Counts a request that broke off.
    pub(crate) fn unfinished(&self) {
        self.0.lock().unfinished += 1;
    }

    /// Adds one to a counter and returns its value.
    pub(crate) fn count(&self, key: &str) -> u64 {
        let mut numbers = self.0.lock();
        let value = numbers.counted.entry(key.to_owned()).or_default();
        *value += 1;
        *value
    }

    /// Returns a counter's value.
    pub(crate) fn counted(&self, key: &str) -> u64 {
        self.0.lock().counted.get(key).copied().unwrap_or(0)
    }

    /// Resets all counters. Open connections and executing requests stay counted.
    pub(crate) fn reset(&self) {
        let mut numbers = self.0.lock();
        let old = std::mem::take(&mut *numbers);
        numbers.connections_ever = old.open.len() as u64;
        numbers.connections_most = old.open.len();
        numbers.open = old.open;
        numbers.next = old.next;
        numbers.executing = old.executing;
        numbers.executing_most = old.executing;
    }

    /// Returns all counters as JSON.
    pub(crate) fn json(&self, name: &str) -> String {
        let numbers = self.0.lock();
        let json = serde_json::json!({
            "name": name,
            "connections_now": numbers.open.len(),
            "connections_ever": numbers.connections_ever,
            "connections_most": numbers.connections_most,
            "requests": numbers.requests,
            "executing_now": numbers.executing,
            "executing_most": numbers.executing_most,
            "pipelined": numbers.pipelined,
            "malformed": numbers.malformed,
            "unfinished": numbers.unfinished,
            "methods": numbers.methods,
            "counted": numbers.counted,
        });
        format!("{json:#}\n")
    }
}

/// A request that is being executed.
#[derive(Debug)]
pub(crate) struct Executing<'a>(&'a Stats);

impl Drop for Executing<'_> {
    fn drop(&mut self) {
        self.0.0.lock().executing -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_left_behind_does_not_raise_the_maximum() {
        let stats = Stats::default();
        let (_client, server) = UnixStream::pair().unwrap();
        stats.connection(&Arc::new(Stream::Unix(server)));
        for _ in 0..3 {
            let (client, server) = UnixStream::pair().unwrap();
            stats.connection(&Arc::new(Stream::Unix(server)));
            drop(client);
        }
        let json: serde_json::Value = serde_json::from_str(&stats.json("x")).unwrap();
        assert_eq!(
            (&json["connections_now"], &json["connections_most"]),
            (&4.into(), &2.into())
        );
    }

    #[test]
    fn a_request_counts_until_it_is_dropped() {
        let stats = Stats::default();
        let first = stats.request("GET");
        drop(stats.request("GET"));
        drop(first);
        let json: serde_json::Value = serde_json::from_str(&stats.json("x")).unwrap();
        assert_eq!(
            (&json["executing_now"], &json["executing_most"]),
            (&0.into(), &2.into())
        );
        assert_eq!(json["methods"]["GET"], 2);
        assert_eq!(
            (
                stats.count("a"),
                stats.count("a"),
                stats.counted("a"),
                stats.counted("b")
            ),
            (1, 2, 2, 0)
        );
    }
}
