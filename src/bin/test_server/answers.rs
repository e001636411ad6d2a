//! The paths for testing. Every other path is a file (`files.rs`).
//!
//! | path | what it does |
//! | --- | --- |
//! | `/__echo` | responds with the request, head and body, exactly as it was received |
//! | `/__status/418` | responds with this status |
//! | `/__size/1048576` | a body of this many bytes (`check.rs` says which), with Content-Length |
//! | `/__delay/250` | responds after this many milliseconds |
//! | `/__chunked/10?size=100&trailers` | chunks of `size` bytes, then X-Chunks, X-Sum as trailers |
//! | `/__close/1000` | a body of this many bytes that ends with the connection |
//! | `/__drip/20?ms=20` | a body of this many bytes, one at a time |
//! | `/__abort/now`, `head`, `body?after=1000&size=N`, `chunk` | breaks off (`rst`: reset) |
//! | `/__early/413` | responds before reading the body, and closes (`linger=0`: at once) |
//! | `/__interim/103?count=1` | interim heads, then a 200 |
//! | `/__garbage` | bytes that are not HTTP |
//! | `/__bighead/65536` | a response with a head of this many bytes |
//! | `/__sum` | length and checksum (FNV-1a, 64 bits) of the request's body |
//! | `/__count/KEY` | adds one to this counter and responds with its value |
//! | `/__counted/KEY` | responds with the counter's value; is itself not counted anywhere |
//! | `/__stats`, `/__stats/reset` | all counters; is itself not counted |
//!
//! Options on any path but the last three: `delay=ms` waits first, and `watch` ends that wait when
//! the client leaves. `close` ends the connection after the response and says so; `close=silent`
//! does not say so. `field=Name:%20value`, any number of times, adds fields to the response.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::check::{self, Sum};
use crate::files;
use crate::query::Target;
use crate::reply::{After, Reply};
use crate::request::{Body, Head};
use crate::server::Server;
use crate::stream::{Stream, Waited};

/// Returns the answer to a request for the counters.
pub(crate) fn observe(server: &Server, target: &Target) -> Option<String> {
    match target.path.as_str() {
        "/__stats" => Some(server.stats.json(&server.name)),
        "/__stats/reset" => {
            server.stats.reset();
            Some(server.stats.json(&server.name))
        }
        path => path
            .strip_prefix("/__counted/")
            .map(|key| format!("{}\n", server.stats.counted(key))),
    }
}

/// Writes the answer to a request. `body` is `None` where it was not read.
pub(crate) fn answer(
    server: &Server,
    stream: &Stream,
    head: &Head,
    body: Option<Body>,
    target: &Target,
    reply: &mut Reply<'_>,
) -> io::Result<After> {
    if !wait(target, stream, target.number("delay", 0)) {
        return reply.cut(false);
    }
    let silent = target.text("close") == Some("silent");
    if target.is_set("close") && !silent {
        reply.keep_alive = false;
    }
    reply.common.extend(target.all("field").map(str::to_owned));
    let after = match target.path.strip_prefix("/__") {
        Some(rest) => special(server, stream, head, body, target, rest, reply)?,
        None => files::serve(server.root.as_deref(), head, target, reply)?,
    };
    Ok(if silent { After::Close } else { after })
}

/// Waits. Returns `false` if the request asks to watch the client and the client has left.
fn wait(target: &Target, stream: &Stream, milliseconds: u64) -> bool {
    let until = Instant::now() + Duration::from_millis(milliseconds);
    if target.is_set("watch") && milliseconds > 0 {
        match stream.wait(until - Instant::now()) {
            Waited::Nothing => return true,
            Waited::Gone => return false,
            Waited::Bytes => {}
        }
    }
    thread::sleep(until.saturating_duration_since(Instant::now()));
    true
}

fn special(
    server: &Server,
    stream: &Stream,
    head: &Head,
    body: Option<Body>,
    target: &Target,
    rest: &str,
    reply: &mut Reply<'_>,
) -> io::Result<After> {
    let (what, argument) = rest.split_once('/').unwrap_or((rest, ""));
    let body = body.unwrap_or_default();
    let number: Option<u64> = argument.parse().ok();
    let status = number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|status| (100..1000).contains(status));
    match (what, number) {
        ("echo", _) => {
            let all = [head.raw.as_slice(), &body.raw].concat();
            reply.whole(200, "text/plain", &all)
        }
        ("sum", _) => reply.text(200, &format!("{} {}\n", body.length, body.sum)),
        ("count", _) => reply.text(200, &format!("{}\n", server.stats.count(argument))),
        ("status", _) if status.is_some() => with_status(status.unwrap_or(200), reply),
        ("early", _) if status.is_some() => {
            reply.keep_alive = false;
            if target.number("linger", 1) == 0 {
                return reply.text(status.unwrap_or(413), "answered early\n");
            }
            let text = "answered early\n";
            reply.head(
                status.unwrap_or(413),
                &[&format!("Content-Length: {}", text.len())],
            );
            reply.body(text.as_bytes())?;
            reply.linger()
        }
        ("interim", _) if status.is_some() => {
            for _ in 0..target.number("count", 1) {
                reply.interim(status.unwrap_or(103), &["Link: </style.css>; rel=preload"])?;
            }
            reply.text(200, "after the interim response\n")
        }
        ("delay", Some(milliseconds)) => {
            if !wait(target, stream, milliseconds) {
                return reply.cut(false);
            }
            reply.text(200, &format!("waited {milliseconds} ms\n"))
        }
        ("size", Some(size)) => {
            reply.head(
                200,
                &[
                    "Content-Type: application/octet-stream",
                    &format!("Content-Length: {size}"),
                ],
            );
            pattern(size, reply)?;
            reply.end()
        }
        ("close", Some(size)) => {
            reply.keep_alive = false;
            reply.head(200, &["Content-Type: application/octet-stream"]);
            pattern(size, reply)?;
            reply.end()
        }
        ("drip", Some(size)) => {
            let pause = Duration::from_millis(target.number("ms", 20));
            reply.head(
                200,
                &[
                    "Content-Type: application/octet-stream",
                    &format!("Content-Length: {size}"),
                ],
            );
            for position in 0..size {
                reply.flush()?;
                thread::sleep(pause);
                reply.body(&[check::byte_at(position)])?;
            }
            reply.end()
        }
        ("chunked", Some(count)) => chunked(count, target, reply),
        ("bighead", Some(size)) => big_head(size, reply),
        ("garbage", _) => {
            reply.raw(b"220 this.is.another.protocol ready\r\n\r\n\0\xff\xfe\r\n");
            reply.cut(target.is_set("rst"))
        }
        ("abort", _) => abort(argument, target, reply),
        _ => reply.text(404, "no such path for testing\n"),
    }
}

fn with_status(status: u16, reply: &mut Reply<'_>) -> io::Result<After> {
    if status < 200 {
        // Sent as a final response this makes no sense, which is the purpose.
        reply.interim(status, &[])?;
        return reply.cut(false);
    }
    if matches!(status, 204 | 304) {
        reply.head(status, &[]);
        return reply.end();
    }
    reply.text(status, &format!("status {status}\n"))
}

fn pattern(size: u64, reply: &mut Reply<'_>) -> io::Result<()> {
    let mut from = 0;
    while from < size {
        let to = size.min(from + 64 * 1024);
        reply.body(&check::bytes(from, to))?;
        from = to;
    }
    Ok(())
}

fn chunked(count: u64, target: &Target, reply: &mut Reply<'_>) -> io::Result<After> {
    let size: u64 = target.number("size", 100);
    if reply.old {
        reply.keep_alive = false;
        reply.head(200, &["Content-Type: application/octet-stream"]);
        pattern(count * size, reply)?;
        return reply.end();
    }
    let trailers = target.is_set("trailers");
    let announced = if trailers {
        &["Transfer-Encoding: chunked", "Trailer: X-Chunks, X-Sum"][..]
    } else {
        &["Transfer-Encoding: chunked"]
    };
    reply.head(
        200,
        &[&["Content-Type: application/octet-stream"], announced].concat(),
    );
    let mut sum = Sum::default();
    for chunk in 0..count {
        let bytes = check::bytes(chunk * size, (chunk + 1) * size);
        sum.add(&bytes);
        reply.body(format!("{size:x}\r\n").as_bytes())?;
        reply.body(&bytes)?;
        reply.body(b"\r\n")?;
    }
    reply.body(b"0\r\n")?;
    if trailers {
        reply.body(format!("X-Chunks: {count}\r\nX-Sum: {sum}\r\n").as_bytes())?;
    }
    reply.body(b"\r\n")?;
    reply.end()
}

/// Writes a head of `size` bytes, including the empty line, or of as few bytes as possible.
fn big_head(size: u64, reply: &mut Reply<'_>) -> io::Result<After> {
    const LINE: usize = 1000;
    let body = "a big head\n";
    let length = format!("Content-Length: {}", body.len());
    reply.head(200, &[&length]);
    let missing = usize::try_from(size)
        .unwrap_or(usize::MAX)
        .saturating_sub(reply.written());
    let mut filled = 0;
    let mut fields = Vec::new();
    while filled < missing {
        // "X-Fill: " and CRLF are ten bytes. What is left after a line must be enough for another
        // one.
        let left = missing - filled;
        let line = if left < LINE + 10 { left } else { LINE };
        fields.push(format!("X-Fill: {}", "x".repeat(line.saturating_sub(10))));
        filled += line;
    }
    let mut fields: Vec<_> = fields.iter().map(String::as_str).collect();
    fields.push(&length);
    reply.forget();
    reply.head(200, &fields);
    reply.body(body.as_bytes())?;
    reply.end()
}

fn abort(place: &str, target: &Target, reply: &mut Reply<'_>) -> io::Result<After> {
    let after: u64 = target.number("after", 1000);
    match place {
        "now" => {}
        "head" => reply.raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/pl"),
        "body" => {
            let size: u64 = target.number("size", after * 2 + 1);
            reply.head(200, &[&format!("Content-Length: {size}")]);
            pattern(after, reply)?;
        }
        "chunk" => {
            reply.head(200, &["Transfer-Encoding: chunked"]);
            reply.body(format!("{:x}\r\n", after * 2 + 1).as_bytes())?;
            pattern(after, reply)?;
        }
        _ => return reply.text(404, "abort where? now, head, body or chunk\n"),
    }
    reply.cut(target.is_set("rst"))
}
