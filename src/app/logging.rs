//! Messages on standard error: with time and colour for people, with priorities for the journal. A
//! thread of their own writes them, so that no thread waits for the reader of a pipe or for the
//! journal.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::time::Duration;

use anstream::AutoStream;
use env_logger::{Logger, Target};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::base::text::{is_plain, push_plain};
use crate::observe::sink::{self, Lost, Sink};
use crate::plan;
use crate::threads;

/// How long the process waits at its end for messages to be written.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Room for one more message, in bytes.
const MESSAGE: usize = 1024;

/// Where messages go; `None` if its thread could not be started, and they are written at once.
static SINK: OnceLock<Option<Sink>> = OnceLock::new();

/// Writes the last messages when it is dropped.
#[must_use = "dropped, it writes at once"]
pub(super) struct Flush(());

impl Drop for Flush {
    fn drop(&mut self) {
        if let Some(sink) = sink() {
            sink.close(LAST_WRITE);
        }
    }
}

/// Starts logging. The environment's `RUST_LOG` goes before the level.
pub(super) fn start(settings: &plan::Log) -> Flush {
    let messages = sink::Target::stream(&io::stderr());
    SINK.get_or_init(|| {
        messages
            .and_then(|target| Sink::start("messages", settings.queue, target))
            .ok()
    });
    let mut builder = env_logger::Builder::new();
    builder.filter_level(settings.level);
    // The library warns of what single clients do: any client could fill the log with that.
    builder.filter_module("rustls", settings.level.min(LevelFilter::Error));
    if let Ok(filters) = env::var("RUST_LOG") {
        builder.parse_filters(&filters);
    }
    if writes_to_journal() {
        builder
            .format(|out, record| writeln!(out, "<{}>{}", priority(record.level()), record.args()));
    } else {
        builder.format_target(false).format_timestamp_millis();
    }
    builder.target(Target::Pipe(Box::new(Messages)));
    // Of a pipe the library does not know that standard error is behind it.
    builder.write_style(AutoStream::choice(&io::stderr()).into());
    let logger = builder.build();
    let level = logger.filter();
    // A second start in one process (a test) keeps the first.
    if log::set_boxed_logger(Box::new(Plain(logger))).is_ok() {
        log::set_max_level(level);
        panic::set_hook(Box::new(tell_panic));
    }
    Flush(())
}

/// Messages that were not written, and why that was so the last time.
pub(super) fn lost() -> (Lost, Option<String>) {
    sink().map_or_else(Default::default, |sink| (sink.lost(), sink.error()))
}

/// Returns whether one more message would be taken.
pub(super) fn has_room() -> bool {
    sink().is_none_or(|sink| sink.has_room(MESSAGE))
}

fn sink() -> Option<&'static Sink> {
    SINK.get().and_then(Option::as_ref)
}

/// Takes messages that are formatted, one with each call.
struct Messages;

impl Write for Messages {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        match sink() {
            Some(sink) => {
                // One that is dropped is counted there.
                sink.push(message);
            }
            None => io::stderr().write_all(message)?,
        }
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Messages tell what clients and servers have sent: nothing of that may reach a terminal, or begin
/// a line of its own.
struct Plain(Logger);

impl Log for Plain {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.0.matches(record) {
            return;
        }
        let text = record.args().to_string();
        if text.chars().all(is_plain) {
            return self.0.log(record);
        }
        let mut plain = String::with_capacity(text.len() + 64);
        push_plain(&mut plain, &text);
        self.0.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{plain}"))
                .build(),
        );
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// The standard hook writes to standard error itself, and waits for that.
fn tell_panic(info: &PanicHookInfo<'_>) {
    threads::count_panic();
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("?");
    let mut text = format!("thread '{name}' panicked");
    if let Some(location) = info.location() {
        text += &format!(" at {location}");
    }
    let payload = info.payload();
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text += &format!(": {}", said.unwrap_or("?"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text += &format!("\n{trace}");
    }
    if log::log_enabled!(Level::Error) {
        log::error!("{text}");
    } else {
        // Without any messages a panic is still one.
        let mut plain = String::new();
        push_plain(&mut plain, &text);
        let _ = writeln!(Messages, "{plain}"); // There is nowhere else to tell it.
    }
}

/// Returns whether standard error is what systemd has connected to the journal, which has its own
/// clock (systemd.exec(5)). The variable alone says nothing: a terminal that a service has started
/// passes it on.
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
