//! Parses response heads into ranges, more tolerantly than requests.
//!
//! A request is refused when two readers could understand it differently, because the next reader
//! is the server that an attacker may want to deceive. A response comes from a server that the
//! operator chose, and is rewritten for its client: nothing of its framing is sent on. So what
//! nginx and HAProxy both deliver is delivered, with a framing of our own. The connection to the
//! server is not used again where its end is in doubt:
//!
//! - a line feed alone ends a line (RFC 9112 §2.2); whitespace of any length may stand before the
//!   status (RFC 9112 §4);
//! - the status is any of 100 to 999; the version is any from 1.0;
//! - 1xx, 204, 304 and responses to HEAD end at the empty line, whatever their fields say (RFC 9112
//!   §6.3);
//! - `Content-Length: 5, 5` is 5 (RFC 9110 §8.6); beside Transfer-Encoding it is ignored (RFC 9112
//!   §6.3);
//! - HTTP/1.0 may be chunked (RFC 9112 §6.1 calls it faulty, and has the connection closed);
//! - control bytes in values become spaces (RFC 9110 §5.5), and so do folded lines (RFC 9112 §5.2).
//!
//! The following stays refused, because no two peers agree on it. An application that copies what
//! its client sent into a field could split or hide a response with it:
//!
//! - NUL, and CR without LF: some readers end a value or a line there, others do not;
//! - a name that is not a token, whitespace before the colon, a line without a colon: as above, and
//!   a line that is left out might have been the framing;
//! - a fold in a field that the parser interprets: its meaning would depend on the reader;
//! - lengths that differ or are not numbers, and codings other than a single `chunked`: where the
//!   body ends would be a guess;
//! - a status that does not have three digits, or is below 100: it cannot be written so that every
//!   client reads the same.

use crate::http::{Field, FieldId, Method, ResponseFraming, ResponseHead, Version};

use super::parse::{Seen, Split, check_size, mark_named_fields, span, split_field};
use super::syntax::{decimal, find_control, list, trim};
use super::{HeadLimits, Malformed};

/// The most fields that Connection may name.
const NAMES: usize = 256;

/// Parses exactly one whole response head to a request of this method.
///
/// After an error the content of `out` is meaningless.
pub fn parse_response(
    head: &[u8],
    method: Method,
    limits: &HeadLimits,
    out: &mut ResponseHead,
) -> Result<(), Malformed> {
    out.fields.clear();
    check_size(head, limits)?;
    let line = Line::at(head, 0)?;
    let is_http_1 = parse_status_line(head, line.end, out)?;
    let (seen, length) = parse_fields(head, line.next, limits, &mut out.fields)?;
    let is_chunked = seen.codings.any;
    let has_no_content = out.status < 200 || out.status == 204;
    let ends_here = has_no_content || out.status == 304 || method == Method::Head;
    out.framing = match length {
        _ if ends_here => ResponseFraming::None,
        _ if is_chunked => seen.codings.verdict().map(|()| ResponseFraming::Chunked)?,
        Length::None => ResponseFraming::UntilClose,
        Length::Of(length) => ResponseFraming::Length(length),
        Length::Unclear => return Err(Malformed::ContentLength),
    };
    out.content_length = match length {
        Length::Of(length) if !is_chunked => Some(length),
        Length::Of(_) | Length::None | Length::Unclear => None,
    };
    let says_length = length != Length::None;
    // A server that sends this may have meant something else, and more bytes may come.
    let is_doubtful = !is_http_1
        || is_chunked
            && (says_length
                || out.version == Version::Http10
                || has_no_content
                || out.status == 304)
        || length == Length::Unclear
        || has_no_content && says_length && length != Length::Of(0);
    out.keep_alive =
        out.framing != ResponseFraming::UntilClose && seen.keeps(out.version) && !is_doubtful;
    out.keep_alive_timeout = seen.keep_alive_timeout;
    out.has_date = seen.has_date;
    Ok(())
}

/// What Content-Length says, in one line or in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    None,
    Of(u64),
    /// Not a number, or several.
    Unclear,
}

impl Length {
    fn add(&mut self, value: &[u8]) {
        for element in list(value) {
            *self = match (decimal(element), *self) {
                (Some(length), Self::None) => Self::Of(length),
                (Some(length), Self::Of(before)) if length == before => Self::Of(length),
                _ => Self::Unclear,
            };
        }
    }
}

/// A line of a response head, found again: it has no NUL, and LF or CRLF follows.
struct Line {
    end: usize,
    next: usize,
    /// The line has control bytes other than HTAB.
    has_controls: bool,
}

impl Line {
    fn at(head: &[u8], start: usize) -> Result<Self, Malformed> {
        let mut from = start;
        let mut has_controls = false;
        loop {
            let rest = head.get(from..).unwrap_or_default();
            let place = find_control(rest).ok_or(Malformed::BareLineEnd)?;
            let end = from + place;
            let next = match (rest[place], rest.get(place + 1)) {
                (b'\r', Some(b'\n')) => Some(end + 2),
                (b'\n', _) => Some(end + 1),
                (b'\r', _) => return Err(Malformed::BareLineEnd),
                (0, _) => return Err(Malformed::ControlByte),
                (b'\t', _) => None,
                _ => {
                    has_controls = true;
                    None
                }
            };
            if let Some(next) = next {
                return Ok(Self {
                    end,
                    next,
                    has_controls,
                });
            }
            from = end + 1;
        }
    }
}

/// Parses `HTTP-version SP 3DIGIT SP [ reason-phrase ]` (RFC 9112 §4). Many servers leave out the
/// last space with the reason. Returns whether the version is HTTP/1.
fn parse_status_line(head: &[u8], end: usize, out: &mut ResponseHead) -> Result<bool, Malformed> {
    let [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, rest @ ..] = &head[..end] else {
        return Err(Malformed::StartLine);
    };
    out.version = match (major, minor) {
        (b'1', b'0') => Version::Http10,
        (b'1'..=b'9', b'0'..=b'9') => Version::Http11,
        (b'0', b'0'..=b'9') => return Err(Malformed::Version),
        _ => return Err(Malformed::StartLine),
    };
    let status = trim(rest);
    let spaces = rest.len() - rest.iter().skip_while(|&&byte| is_space(byte)).count();
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] = status else {
        return Err(Malformed::StartLine);
    };
    let after = &rest[spaces + 3..];
    if spaces == 0 || !after.first().is_none_or(|&byte| is_space(byte)) {
        return Err(Malformed::StartLine);
    }
    out.status = [a, b, c]
        .into_iter()
        .fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    out.reason = span(end - after.len().saturating_sub(1), end);
    Ok(*major == b'1')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn parse_fields(
    head: &[u8],
    start: usize,
    limits: &HeadLimits,
    out: &mut Vec<Field>,
) -> Result<(Seen, Length), Malformed> {
    let mut seen = Seen::default();
    let mut length = Length::None;
    let mut lines = 0;
    let mut at = start;
    loop {
        let line = Line::at(head, at)?;
        if line.end == at {
            // Two heads, or a head and a body, are not one head.
            if line.next != head.len() {
                return Err(Malformed::StartLine);
            }
            break;
        }
        let text = &head[at..line.end];
        if lines >= limits.fields {
            return Err(Malformed::TooManyFields);
        }
        lines += 1;
        if is_space(text[0]) {
            fold(out.last_mut(), at, text)?;
            at = line.next;
            continue;
        }
        let Split { name, odd, value } = split_field(text)?;
        let id = FieldId::from_name(&text[..name]);
        let place = span(at + value.start as usize, at + value.end as usize);
        match id {
            FieldId::Other => {}
            FieldId::ContentLength => length.add(value.of(text)),
            _ => seen.add(id, value.of(text), place)?,
        }
        out.push(Field {
            name: span(at, at + name),
            value: place,
            id,
            hop_by_hop: id.is_hop_by_hop(),
            has_controls: line.has_controls,
            odd,
        });
        at = line.next;
    }
    if seen.names_fields {
        mark_named_fields(head, limits.fields.min(NAMES), out)?;
    }
    Ok((seen, length))
}

/// Adds a line that continues the value of the field before it.
fn fold(field: Option<&mut Field>, at: usize, text: &[u8]) -> Result<(), Malformed> {
    let field = field
        .filter(|field| field.id == FieldId::Other)
        .ok_or(Malformed::ObsoleteFold)?;
    let value = trim(text);
    if !value.is_empty() {
        let start = at + text.iter().take_while(|&&byte| is_space(byte)).count();
        let end = start + value.len();
        field.value = if field.value.start == field.value.end {
            span(start, end)
        } else {
            span(field.value.start as usize, end)
        };
        // The line end between them is a control byte.
        field.has_controls = true;
    }
    Ok(())
}
