//! Messages on standard error: with time and colour for people, with priorities for the journal.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use log::{Level, LevelFilter};

/// Starts logging. The environment's `RUST_LOG` goes before `level`.
pub(super) fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    // The library warns of what single clients do: whoever likes could fill the log with that.
    builder.filter_module("rustls", level.min(LevelFilter::Error));
    if let Ok(filters) = env::var("RUST_LOG") {
        builder.parse_filters(&filters);
    }
    if writes_to_journal() {
        builder.format(|out, record| writeln!(out, "<{}>{}", priority(record.level()), record.args()));
    } else {
        builder.format_target(false).format_timestamp_millis();
    }
    // A second start in one process (a test) keeps the first.
    let _already_started = builder.try_init();
}

/// Whether standard error is what systemd has connected to the journal, which has its own clock (systemd.exec(5)). The variable alone
/// says nothing: a terminal that a service has started passes it on.
fn writes_to_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let own = fs::metadata("/proc/self/fd/2").map(|file| format!("{}:{}", file.dev(), file.ino()));
    own.is_ok_and(|own| own == stream)
}

/// As syslog numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
