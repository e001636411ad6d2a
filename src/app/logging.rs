//! Messages on standard error: with time and colour for people, with priorities for the journal.

use std::env;
use std::io::Write;

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
    // systemd sets this for services whose standard error goes to the journal, which has its own clock (sd-daemon(3)).
    if env::var_os("JOURNAL_STREAM").is_some() {
        builder.format(|out, record| writeln!(out, "<{}>{}", priority(record.level()), record.args()));
    } else {
        builder.format_target(false).format_timestamp_millis();
    }
    // A second start in one process (a test) keeps the first.
    let _already_started = builder.try_init();
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
