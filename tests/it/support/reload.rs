//! Reloads by SIGHUP.

use std::fs;

use nix::sys::signal::Signal;

use super::Juggler;

/// Writes another configuration, makes the program read it, and waits for the result.
#[track_caller]
pub(crate) fn reload(juggler: &Juggler, text: &str, answer: &str) {
    let before = juggler.log_length();
    fs::write(juggler.folder().join("juggler.toml"), text).unwrap();
    juggler.signal(Signal::SIGHUP);
    juggler.wait_for_log_behind(before, answer);
}
