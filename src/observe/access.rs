//! The access log. A line is formatted where an exchange ends, and a [`Sink`] writes it, so that
//! neither a slow disk nor a pipe without a reader delays a client.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use crate::base::text::{push_plain_json, start_of};
use crate::plan::{AccessFormat, AccessLog as Settings};

use super::counters::Counters;
use super::sink::{Lost, Sink, Target};

/// The most bytes kept of a request line, of `Host`, of `Referer` and of `User-Agent`.
const MOST: [usize; 4] = [8 * 1024, 512, 2 * 1024, 1024];

/// Replaces the rest of a longer part.
const CUT: &[u8] = b"...";

/// The room, in bytes, that is kept for the next line, or for the next request's parts.
const KEPT: usize = 4 * 1024;

thread_local! {
    /// The line that this thread formats.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The access log.
#[derive(Debug)]
pub struct AccessLog {
    format: AccessFormat,
    sink: Sink,
}

/// What a line tells of one exchange. All times are measured from the request's first byte to the
/// named moment. They are `None` if that moment never came.
#[derive(Debug)]
pub struct Record<'a> {
    /// The client; `None` on a Unix socket.
    pub client: Option<IpAddr>,
    /// The parts of the request kept for the log.
    pub request: &'a Captured,
    /// The status sent, or the one that stands for what happened.
    pub status: u16,
    /// Bytes sent to the client, including the head.
    pub bytes: u64,
    /// Listener, cluster and server; `-` where the exchange did not get that far.
    pub listener: &'a str,
    /// See `listener`.
    pub cluster: &'a str,
    /// See `listener`.
    pub server: &'a str,
    /// Time in the queue, summed over all attempts.
    pub queue: Option<Duration>,
    /// Time for connecting while the request waited for that.
    pub connect: Option<Duration>,
    /// From the request's hand-over to the worker to the response's first byte.
    pub first_byte: Option<Duration>,
    /// From the request's first byte to the delivery of the response's last byte.
    pub total: Duration,
    /// Attempts beyond the first that a server may have seen.
    pub retries: u32,
    /// All attempts, including those that sent nothing.
    pub attempt: u32,
    /// Why the attempt before the last failed; empty if there was none.
    pub why: &'a str,
    /// Two letters as in HAProxy; `--` is a good end.
    pub flags: &'a str,
    /// The reason in words, empty after a good end.
    pub reason: &'a str,
    /// What exactly is wrong with a malformed request; empty if that is not known.
    pub cause: &'a str,
}

/// Parts of a request that the log needs after the request's buffer is reused.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    text: Vec<u8>,
    line: Range<usize>,
    host: Range<usize>,
    referer: Range<usize>,
    agent: Range<usize>,
}

impl Captured {
    /// Empties all parts.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT);
        self.line = 0..0;
        self.host = 0..0;
        self.referer = 0..0;
        self.agent = 0..0;
    }

    /// Keeps the request line and three fields' values, or the first bytes of long ones.
    pub fn keep(&mut self, line: &[u8], host: &[u8], referer: &[u8], agent: &[u8]) {
        self.clear();
        let parts = [line, host, referer, agent];
        let [line, host, referer, agent] =
            std::array::from_fn(|part| Self::put(&mut self.text, parts[part], MOST[part]));
        self.line = line;
        self.host = host;
        self.referer = referer;
        self.agent = agent;
    }

    fn put(text: &mut Vec<u8>, part: &[u8], most: usize) -> Range<usize> {
        let start = text.len();
        let kept = start_of(part, most);
        text.extend_from_slice(kept);
        if kept.len() < part.len() {
            text.extend_from_slice(CUT);
        }
        start..text.len()
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.text.get(range.clone()).unwrap_or_default()
    }
}

impl AccessLog {
    /// Opens the file and starts the thread. At most `queue` bytes of lines wait for the thread.
    pub fn open(settings: &Settings, queue: usize) -> io::Result<Self> {
        let target = match &settings.path {
            Some(path) => Target::file(path)?,
            None => Target::stream(&io::stdout())?,
        };
        Ok(Self {
            format: settings.format,
            sink: Sink::start("access-log", queue, target)?,
        })
    }

    /// Gives one line to the thread that writes it.
    pub fn write(&self, record: &Record<'_>, counters: &Counters) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            let formatted = match self.format {
                AccessFormat::Combined => combined(line, record),
                AccessFormat::Json => json(line, record),
            };
            if formatted.is_err() || !self.sink.push(line) {
                counters.log_dropped.add(1);
            }
            line.shrink_to(KEPT);
        });
    }

    /// Returns how many lines are missing in the log, and the last reason why lines could not be
    /// written.
    pub fn lost(&self) -> (Lost, Option<String>) {
        (self.sink.lost(), self.sink.error())
    }

    /// Reopens the file before the next line (after a rotation).
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Writes the waiting lines and ends. Waits for that no longer than `patience`.
    pub fn close(&self, patience: Duration) {
        self.sink.close(patience);
    }
}

/// Writes the combined log format, then the rest as `name=value` with quotes.
fn combined(out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
    match record.client {
        Some(address) => write!(out, "{address}")?,
        None => out.extend_from_slice(b"unix:"),
    }
    let now = jiff::Zoned::now()
        .strftime("%d/%b/%Y:%H:%M:%S %z")
        .to_string();
    write!(out, " - - [{now}] \"")?;
    escape(out, record.request.part(&record.request.line));
    write!(out, "\" {} {} \"", record.status, record.bytes)?;
    escape(out, or_dash(record.request.part(&record.request.referer)));
    out.extend_from_slice(b"\" \"");
    escape(out, or_dash(record.request.part(&record.request.agent)));
    write!(
        out,
        "\" {} {}/{}",
        record.listener, record.cluster, record.server
    )?;
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
    let colon = if record.cause.is_empty() { "" } else { ": " };
    writeln!(
        out,
        " end={} \"{}{colon}{}\"",
        record.flags, record.reason, record.cause
    )
}

fn json(out: &mut Vec<u8>, record: &Record<'_>) -> io::Result<()> {
    let text =
        |part: &Range<usize>| String::from_utf8_lossy(record.request.part(part)).into_owned();
    let now = jiff::Timestamp::try_from(SystemTime::now()).map(|now| now.to_string());
    let mut line = serde_json::json!({
        "time": now.unwrap_or_default(),
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
        "cause": Some(record.cause).filter(|cause| !cause.is_empty()),
    });
    for (name, time) in times(record) {
        line[format!("{name}_ms")] = time
            .map(|time| (time.as_secs_f64() * 1e6).round() / 1e3)
            .into();
    }
    push_plain_json(out, &line.to_string());
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

/// Writes bytes that could end the quotes or the line, or control a terminal, as `\xNN`, as nginx
/// does.
fn escape(out: &mut Vec<u8>, part: &[u8]) {
    for &byte in part {
        if !(0x20..0x7f).contains(&byte) || byte == b'"' || byte == b'\\' {
            let _ = write!(out, "\\x{byte:02X}"); // writing to a Vec cannot fail
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
            cause: "",
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
                 queue=1.500ms connect=- first_byte=- total=12.000ms retries=2 attempt=3 \
                 why=\"what was before\" end=SH \"why\"\n"
            ),
            "{line}"
        );
    }

    #[test]
    fn what_is_kept_of_a_request_is_bounded() {
        let mut captured = Captured::default();
        let long = vec![0xff; 100_000];
        for format in [combined, json] {
            captured.keep(&long, &long, &long, &long);
            assert!(captured.text.len() < 12 * 1024, "{}", captured.text.len());
            let mut line = Vec::new();
            format(&mut line, &record(&captured)).unwrap();
            assert!(line.len() < 64 * 1024, "{}", line.len());
        }
        captured.clear();
        assert!(captured.text.capacity() <= KEPT);
        captured.keep(b"GET / HTTP/1.1", b"h", b"", "é".repeat(600).as_bytes());
        let agent = String::from_utf8(captured.part(&captured.agent).to_vec()).unwrap();
        assert_eq!(agent, format!("{}...", "é".repeat(512)));
    }

    #[test]
    fn json_lines_are_json() {
        let mut captured = Captured::default();
        captured.keep(
            b"GET /\xff HTTP/1.1",
            "\u{202e}\u{9b}\u{7f}".as_bytes(),
            b"",
            b"\"",
        );
        let mut line = Vec::new();
        json(&mut line, &record(&captured)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["queue_ms"], 1.5);
        assert_eq!(value["connect_ms"], serde_json::Value::Null);
        assert_eq!(value["user_agent"], "\"");
        assert_eq!(value["host"], "\u{202e}\u{9b}\u{7f}");
        assert!(
            String::from_utf8(line)
                .unwrap()
                .contains(r#""\u202e\u009b\u007f""#)
        );
    }
}
