//! The access log: lines are formatted where an exchange ends and written by one thread, so that a slow disk
//! delays no client. When that thread cannot keep up lines are dropped and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::plan::{AccessFormat, AccessLog as Settings};
use crate::threads::{self, Kind};

use super::counters::Counters;

/// Lines waiting to be written.
const QUEUE: usize = 16 * 1024;

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    lines: Sender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
    done: Receiver<()>,
}

/// What a line tells of one exchange. All times are measured from the request's first byte to the moment named, and are
/// `None` if that moment never came.
#[derive(Debug)]
pub struct Record<'a> {
    /// The client; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// Parts of the request kept for the log.
    pub request: &'a Captured,
    /// Status sent, or the one that stands for what happened.
    pub status: u16,
    /// Bytes sent to the client, head included.
    pub bytes: u64,
    /// Listener, cluster and server; `-` where it did not get that far.
    pub listener: &'a str,
    /// See `listener`.
    pub cluster: &'a str,
    /// See `listener`.
    pub server: &'a str,
    /// Waiting in the queue, all attempts together.
    pub queue: Option<Duration>,
    /// Connecting while the request waited for it.
    pub connect: Option<Duration>,
    /// From the request given to the worker to the response's first byte.
    pub first_byte: Option<Duration>,
    /// From the request's first byte to the response's last byte delivered.
    pub total: Duration,
    /// Attempts beyond the first that a server may have seen.
    pub retries: u32,
    /// All attempts, those too of which nothing was sent.
    pub attempt: u32,
    /// Why the one before the last failed; empty if there was none.
    pub why: &'a str,
    /// Two letters in the manner of HAProxy; `--` is a good end.
    pub flags: &'a str,
    /// The reason in words, empty after a good end.
    pub reason: &'a str,
}

/// Parts of a request that the log needs after its buffer has gone on.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    text: Vec<u8>,
    line: Range<usize>,
    host: Range<usize>,
    referer: Range<usize>,
    agent: Range<usize>,
}

impl Captured {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.text.clear();
        self.line = 0..0;
        self.host = 0..0;
        self.referer = 0..0;
        self.agent = 0..0;
    }

    /// Keeps the request line and three fields' values.
    pub fn keep(&mut self, line: &[u8], host: &[u8], referer: &[u8], agent: &[u8]) {
        self.clear();
        self.line = Self::put(&mut self.text, line);
        self.host = Self::put(&mut self.text, host);
        self.referer = Self::put(&mut self.text, referer);
        self.agent = Self::put(&mut self.text, agent);
    }

    fn put(text: &mut Vec<u8>, part: &[u8]) -> Range<usize> {
        let start = text.len();
        text.extend_from_slice(part);
        start..text.len()
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

impl AccessLog {
    /// Opens the file and starts the thread.
    pub fn open(settings: &Settings) -> io::Result<Self> {
        let mut writer = Writer {
            path: settings.path.clone(),
            file: None,
        };
        writer.reopen()?;
        let (lines, receiver) = bounded::<Vec<u8>>(QUEUE);
        let (finished, done) = bounded(1);
        let reopen = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&reopen);
        threads::spawn(Kind::Log, "access-log".to_owned(), move || {
            writer.run(&receiver, &asked);
            drop(finished);
        })?;
        Ok(Self {
            format: settings.format,
            lines,
            reopen,
            done,
        })
    }

    /// Writes one line.
    pub fn write(&self, record: &Record<'_>, counters: &Counters) {
        let mut line = Vec::with_capacity(256);
        let formatted = match self.format {
            AccessFormat::Combined => combined(&mut line, record),
            AccessFormat::Json => json(&mut line, record),
        };
        if formatted.is_err() || self.lines.try_send(line).is_err() {
            counters.log_dropped.add(1);
        }
    }

    /// Opens the file anew before the next line (after it was rotated).
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Writes what is waiting and ends; waits for that at most this long.
    pub fn close(&self, patience: Duration) {
        // An empty line is never a record: it asks the thread to end.
        let _cannot_end = self.lines.send_timeout(Vec::new(), patience);
        let _either_way = self.done.recv_timeout(patience);
    }
}

struct Writer {
    path: Option<PathBuf>,
    file: Option<File>,
}

impl Writer {
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        }
        Ok(())
    }

    fn run(&mut self, lines: &Receiver<Vec<u8>>, reopen: &AtomicBool) {
        let mut batch = Vec::new();
        loop {
            let first = match lines.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut ended = false;
            for line in first.into_iter().chain(lines.try_iter().take(1024)) {
                ended |= line.is_empty();
                batch.extend_from_slice(&line);
            }
            if reopen.swap(false, Ordering::Relaxed)
                && let Err(error) = self.reopen()
            {
                log::error!("access log: cannot be opened anew, goes on in the old file: {error}");
            }
            if !batch.is_empty() {
                let written = match &mut self.file {
                    Some(file) => file.write_all(&batch),
                    None => io::stdout().lock().write_all(&batch),
                };
                if let Err(error) = written {
                    log::error!("access log: {error}");
                }
                batch.clear();
            }
            if ended {
                return;
            }
        }
    }
}

/// Combined log format, then the quoted rest as `name=value`.
fn combined(out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
    match record.client {
        Some(address) => write!(out, "{address}")?,
        None => out.extend_from_slice(b"unix:"),
    }
    let now = jiff::Zoned::now().strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
    write!(out, " - - [{now}] \"")?;
    escape(out, record.request.part(&record.request.line));
    write!(out, "\" {} {} \"", record.status, record.bytes)?;
    escape(out, or_dash(record.request.part(&record.request.referer)));
    out.extend_from_slice(b"\" \"");
    escape(out, or_dash(record.request.part(&record.request.agent)));
    write!(out, "\" {} {}/{}", record.listener, record.cluster, record.server)?;
    for (name, time) in times(record) {
        write!(out, " {name}=")?;
        match time {
            Some(time) => write!(out, "{:.3}ms", time.as_secs_f64() * 1e3)?,
            None => out.push(b'-'),
        }
    }
    write!(out, " retries={}", record.retries)?;
    if !record.why.is_empty() {
        write!(out, " attempt={} why=\"{}\"", record.attempt, record.why)?;
    }
    writeln!(out, " end={} \"{}\"", record.flags, record.reason)
}

fn json(out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
    let text = |part: &Range<usize>| String::from_utf8_lossy(record.request.part(part)).into_owned();
    let mut line = serde_json::json!({
        "time": jiff::Timestamp::try_from(SystemTime::now()).map(|now| now.to_string()).unwrap_or_default(),
        "client": record.client.map(|address| address.to_string()),
        "request": text(&record.request.line),
        "host": text(&record.request.host),
        "referer": text(&record.request.referer),
        "user_agent": text(&record.request.agent),
        "status": record.status,
        "bytes": record.bytes,
        "listener": record.listener,
        "cluster": record.cluster,
        "server": record.server,
        "retries": record.retries,
        "attempt": record.attempt,
        "why": (!record.why.is_empty()).then_some(record.why),
        "end": record.flags,
        "reason": record.reason,
    });
    for (name, time) in times(record) {
        line[format!("{name}_ms")] = time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3).into();
    }
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

fn times(record: &Record<'_>) -> [(&'static str, Option<Duration>); 4] {
    [
        ("queue", record.queue),
        ("connect", record.connect),
        ("first_byte", record.first_byte),
        ("total", Some(record.total)),
    ]
}

fn or_dash(part: &[u8]) -> &[u8] {
    if part.is_empty() { b"-" } else { part }
}

/// What could end the quotes, the line or the terminal's patience is written as `\xNN`, as nginx does.
fn escape(out: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        if !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\' {
            let _a_vec_takes_all = write!(out, "\\x{byte:02X}");
        } else {
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(captured: &Captured) -> Record<'_> {
        Record {
            client: Some(IpAddr::from([192, 0, 2, 1])),
            request: captured,
            status: 502,
            bytes: 120,
            listener: "web",
            cluster: "app",
            server: "app-1",
            queue: Some(Duration::from_micros(1500)),
            connect: None,
            first_byte: None,
            total: Duration::from_millis(12),
            retries: 2,
            attempt: 3,
            why: "what was before",
            flags: "SH",
            reason: "why",
        }
    }

    #[test]
    fn what_a_client_sends_cannot_forge_a_line() {
        let mut captured = Captured::default();
        captured.keep(b"GET /\"\n\x1b[2J HTTP/1.1", b"h", b"", b"a\\b");
        let mut line = Vec::new();
        combined(&mut line, &record(&captured)).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with("192.0.2.1 - - ["), "{line}");
        assert!(
            line.ends_with(
                "\"GET /\\x22\\x0A\\x1B[2J HTTP/1.1\" 502 120 \"-\" \"a\\x5Cb\" web app/app-1 \
                 queue=1.500ms connect=- first_byte=- total=12.000ms retries=2 attempt=3 why=\"what was before\" end=SH \"why\"\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn json_lines_are_json() {
        let mut captured = Captured::default();
        captured.keep(b"GET /\xff HTTP/1.1", b"h", b"", b"\"");
        let mut line = Vec::new();
        json(&mut line, &record(&captured)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["queue_ms"], 1.5);
        assert_eq!(value["connect_ms"], serde_json::Value::Null);
        assert_eq!(value["user_agent"], "\"");
    }
}
