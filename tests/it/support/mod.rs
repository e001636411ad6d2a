//! The tool box of the integration tests: the balancer, servers and clients, all with deadlines.
//!
//! [`Juggler`] runs the real program. Behind it stand [`TestServer`]s (the real `test_server`,
//! which counts what it receives) or [`Origin`]s (scripted in the test, for what no correct server
//! does). [`Client`] is a raw client over TCP, Unix sockets or TLS. Nothing sleeps to let something
//! happen: [`eventually`] polls, and a [`Gate`] holds.

// A tool box may have a tool that no test uses today.
#![allow(dead_code, unused_imports)]

mod client;
mod gate;
mod juggler;
mod load;
mod message;
pub(crate) mod names;
mod origin;
pub(crate) mod patient;
pub(crate) mod plot;
mod process;
mod reload;
pub(crate) mod station;
mod test_server;
mod tls;

#[path = "../../../src/bin/test_server/check.rs"]
pub(crate) mod check;

pub(crate) use client::Client;
pub(crate) use gate::Gate;
pub(crate) use juggler::{Config, Juggler, PROGRAM, Start};
pub(crate) use load::{Answered, Load};
pub(crate) use message::{Framing, Request, Response};
pub(crate) use origin::{Origin, OriginConn};
pub(crate) use process::Lines;
pub(crate) use reload::reload;
pub(crate) use test_server::TestServer;
pub(crate) use tls::Authority;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The limit for anything that should happen soon. It is long for the sake of busy machines; a test
/// that passes does not use it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until the condition holds, and panics when it does not hold within this time.
#[track_caller]
pub(crate) fn eventually(within: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + within;
    let mut pause = Duration::from_millis(1);
    while !is_so() {
        assert!(
            Instant::now() < end,
            "did not happen within {within:?}: {what}"
        );
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Polls until both values are equal, and panics with both when they are not in time.
#[track_caller]
pub(crate) fn eventually_eq<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: T,
    mut value: impl FnMut() -> T,
) {
    let end = Instant::now() + PATIENCE;
    loop {
        let is = value();
        if is == expected {
            return;
        }
        assert!(
            Instant::now() < end,
            "{what}: still {is:?} and not {expected:?} after {PATIENCE:?}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Requires a program that not every machine has. `tests/install.sh` installs those that the tests
/// need.
#[track_caller]
pub(crate) fn tool(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{name} is not installed, and this test needs it: run tests/install.sh, or \
                 install {name}"
            )
        })
}

/// Called when the machine lacks what the test needs. Fails, unless `JUGGLER_TEST_WITHOUT` lists
/// this word (words with commas between).
#[track_caller]
pub(crate) fn without(what: &str, reason: &str) {
    let known = std::env::var("JUGGLER_TEST_WITHOUT").unwrap_or_default();
    assert!(
        known.split(',').any(|word| word == what),
        "{reason}: this test cannot tell anything here. JUGGLER_TEST_WITHOUT={what} leaves such \
         tests out"
    );
}
