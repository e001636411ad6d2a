//! A request's head: read whole, parsed, and noted for the access log.

use std::sync::Arc;
use std::time::Instant;

use crate::exchange::{Client, Exchange, Holds, Short};
use crate::fault::Fault;
use crate::filter::look_alikes;
use crate::http::{FieldId, RequestHead};
use crate::proto::h1::{HeadLimits, HeadScanner, parse_request};

use super::malformed::fault_of;
use super::misplaced;
use super::reader::{Reader, Stop};
use super::room::retry_for_room;

/// Reads until a head is whole at the beginning of the input, and returns its length.
pub(super) fn read_head(
    reader: &mut Reader<'_>,
    scanner: &mut HeadScanner,
    limits: &HeadLimits,
    deadline: Instant,
) -> Result<usize, Stop> {
    scanner.reset();
    loop {
        if misplaced::is_tls(reader.input.data()) && !reader.client.is_tls() {
            return Err(Stop::Fault(Fault::TlsToPlain));
        }
        match scanner.scan(reader.input.data(), limits) {
            Ok(Some(length)) => return Ok(length),
            Ok(None) => {}
            Err(malformed) => {
                reader.malformed = Some(malformed);
                return Err(Stop::Fault(fault_of(malformed)));
            }
        }
        if reader.has_ended {
            return Err(Stop::Ended);
        }
        if reader.input.space().is_empty() && !grow(reader) {
            return Err(Stop::Fault(Fault::NoBuffer));
        }
        let holds = if reader.input.is_reserved() {
            Holds::Head
        } else {
            Holds::Nothing
        };
        let limit = reader.listener.timeout.header;
        reader.client.note_read(Instant::now(), limit, holds);
        reader.fill_until(deadline, Fault::HeaderTimeout)?;
    }
}

/// Makes room for a head that does not fit into the small buffer.
fn grow(reader: &mut Reader<'_>) -> bool {
    let hub = Arc::clone(reader.client.hub());
    if reader.input.is_grown(&hub.buffers) {
        return false;
    }
    retry_for_room(&hub, Short::Heads, || {
        reader.input.grow_for_head(&hub.buffers)
    })
}

/// Parses these bytes into the exchange, notes them for the access log, and keeps back the fields
/// that the client may not send to servers. Returns the fault that the request is refused with.
pub(super) fn parse_head(
    client: &Client,
    bytes: &[u8],
    limits: &HeadLimits,
    exchange: &mut Exchange,
) -> Result<(), Fault> {
    let parsed = parse_request(bytes, limits, &mut exchange.request.head);
    if let Err(malformed) = parsed {
        capture(client, exchange, bytes);
        exchange.cause = Some(malformed.text());
        return Err(fault_of(malformed));
    }
    capture_request(client, exchange, bytes);
    let head = &mut exchange.request.head;
    look_alikes::keep_back(client.listener(), client.is_trusted(), bytes, head)
}

/// Keeps the first line of what is no request for the access log, as far as it has come.
pub(super) fn capture(client: &Client, exchange: &mut Exchange, bytes: &[u8]) {
    if client.hub().access.is_some() {
        let line = first_line(bytes);
        exchange.captured.keep(line, &[], &[], &[]);
    }
}

/// Keeps what the access log tells of a request.
fn capture_request(client: &Client, exchange: &mut Exchange, bytes: &[u8]) {
    if client.hub().access.is_none() {
        return;
    }
    let state = &mut **exchange;
    let head = &state.request.head;
    state.captured.keep(
        first_line(bytes),
        head.authority.of(bytes),
        first_value(head, FieldId::Referer, bytes),
        first_value(head, FieldId::UserAgent, bytes),
    );
}

/// The value of the first line of this field, even if the line is not sent on.
fn first_value<'a>(head: &RequestHead, id: FieldId, bytes: &'a [u8]) -> &'a [u8] {
    let field = head.fields.iter().find(|field| field.id == id);
    field.map_or(&[], |field| field.value.of(bytes))
}

fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    &bytes[..end.unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_told_however_little_of_it_came() {
        for (bytes, line) in [
            (&b""[..], &b""[..]),
            (b"GE", b"GE"),
            (b"GET / HTTP/1.1\r", b"GET / HTTP/1.1"),
            (b"GET /\nHost: a\r\n", b"GET /"),
            (b"\r\nGET /", b""),
        ] {
            assert_eq!(first_line(bytes), line);
        }
    }

    #[test]
    fn of_several_lines_of_a_field_the_first_is_told() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nuser-agent: c\r\n\r\n";
        let limits = HeadLimits {
            head: 1024,
            fields: 10,
            target: 100,
        };
        let mut head = RequestHead::default();
        parse_request(text, &limits, &mut head).unwrap();
        assert_eq!(first_value(&head, FieldId::UserAgent, text), b"b");
        assert_eq!(first_value(&head, FieldId::Referer, text), b"");
    }
}
