//! One client's connection: requests in, responses out.

use std::io;

use crate::answers;
use crate::query::Target;
use crate::reply::{After, Reply};
use crate::request::{Problem, Reader};
use crate::server::Server;
use crate::stream::Stream;

/// Serves a connection to its end. `open` is its number if it is counted.
pub(crate) fn serve(server: &Server, stream: &Stream, open: Option<u64>) {
    let mut reader = Reader::new(stream);
    loop {
        match one(server, stream, &mut reader, open.is_some()) {
            Ok(After::Next) => {}
            Ok(After::Close) => break,
            Err(Problem::Malformed(what)) => {
                server.stats.malformed();
                let body = format!("{what}\n");
                let answer = format!(
                    "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nConnection: \
                     close\r\n\r\n{body}",
                    body.len()
                );
                // The client may already have left.
                let mut stream = stream;
                let _ = io::Write::write_all(&mut stream, answer.as_bytes());
                break;
            }
            Err(Problem::Unfinished) => {
                server.stats.unfinished();
                break;
            }
            // The client left. The balancer's tests see that for themselves.
            Err(Problem::Failed) => break,
        }
    }
    if let Some(id) = open {
        server.stats.closed(id);
    }
}

fn one(
    server: &Server,
    stream: &Stream,
    reader: &mut Reader<&Stream>,
    counted: bool,
) -> Result<After, Problem> {
    let Some(head) = reader.head()? else {
        return Ok(After::Close);
    };
    let target = Target::new(&head.target);
    // A request for the counters must not count itself.
    if let Some(answer) = answers::observe(server, &target) {
        reader.body(head.framing, false)?;
        let mut reply = Reply::new(stream, &head, None);
        return Ok(reply.whole(200, "application/json", answer.as_bytes())?);
    }
    let executing = server.stats.request(&head.method);
    let mut reply = Reply::new(stream, &head, Some(executing));
    reply.common.push(format!("X-Test-Server: {}", server.name));
    let early = target.path.starts_with("/__early/");
    if !early
        && head
            .field("expect")
            .is_some_and(|what| what.eq_ignore_ascii_case("100-continue"))
    {
        reply.interim(100, &[])?;
    }
    let body = if early {
        None
    } else {
        Some(reader.body(head.framing, target.path == "/__echo")?)
    };
    // Bytes that are here already came before our response.
    if counted && !early && !reader.waiting().is_empty() {
        server.stats.pipelined();
    }
    Ok(answers::answer(
        server, stream, &head, body, &target, &mut reply,
    )?)
}
