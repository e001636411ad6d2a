//! Servers that are probed, and what the balancer's log says about their states.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::Signal;

use super::{Juggler, Origin, PATIENCE, eventually};

/// The path of probes in these tests.
pub(crate) const PROBE: &str = "/up";

/// A server that answers probes with the status that the test sets, and other requests with its
/// name.
pub(crate) struct Patient {
    pub(crate) origin: Origin,
    status: Arc<AtomicU16>,
}

impl Patient {
    /// A server that passes its probes.
    pub(crate) fn named(name: &'static str) -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let is = Arc::clone(&status);
        let origin = Origin::start(move |conn, _| {
            while let Some(request) = conn.request() {
                match request.target == PROBE {
                    true => conn.answer(is.load(Ordering::SeqCst), "how it is"),
                    false => conn.answer(200, name),
                }
            }
        });
        Self { origin, status }
    }

    /// Gives probes this status from now on.
    pub(crate) fn set(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// How many probes the server received so far.
    pub(crate) fn probes(&self) -> usize {
        probes(&self.origin)
    }

    /// How many other requests the server received so far.
    pub(crate) fn served(&self) -> usize {
        self.origin.requests().len() - self.probes()
    }
}

/// How many probes this origin received so far.
pub(crate) fn probes(origin: &Origin) -> usize {
    let requests = origin.requests();
    requests
        .iter()
        .filter(|request| request.target == PROBE)
        .count()
}

/// Waits until this origin has received `count` probes.
#[track_caller]
pub(crate) fn wait_for_probes(origin: &Origin, count: usize) {
    eventually(PATIENCE, &format!("{count} probes"), || {
        probes(origin) >= count
    });
}

/// Writes another configuration and makes the program read it.
pub(crate) fn reload(juggler: &Juggler, text: &str) {
    let before = juggler.log_length();
    fs::write(juggler.folder().join("juggler.toml"), text).unwrap();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log_behind(before, "reloaded");
}

/// The log lines about changes of this server's state, without their prefix.
pub(crate) fn changes(juggler: &Juggler, server: &str) -> Vec<String> {
    let start = format!("health: {server} is ");
    let log = juggler.log();
    let found = log
        .iter()
        .filter_map(|line| line.split_once(&start))
        .map(|(_, rest)| rest.to_owned());
    found.filter(|rest| !rest.starts_with("kept")).collect()
}

/// Waits until this server's state has changed `count` times.
#[track_caller]
pub(crate) fn wait_for_changes(juggler: &Juggler, server: &str, count: usize) {
    eventually(PATIENCE, &format!("{count} changes of {server}"), || {
        changes(juggler, server).len() >= count
    });
}
