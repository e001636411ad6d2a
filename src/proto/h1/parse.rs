//! Parses request heads into ranges, and has what request and response heads share.
//!
//! This is our own code instead of httparse, which accepts more than a proxy may (line feeds alone,
//! fragments) and would need a second pass over the fields anyway. httparse is the second opinion
//! in `proto::check`. The parser does not rely on the scan before it: what the scanner refuses, the
//! parser refuses too.

use std::time::Duration;

use crate::http::{BodyFraming, Field, FieldId, Method, RequestHead, Span, TargetForm, Version};

use super::scan::{BESIDES_TARGET, check_version};
use super::syntax::{
    decimal, find_control, is_authority, is_token, list, name_shape, token_length, trim,
};
use super::{HeadLimits, Malformed};

/// Parses exactly one whole request head, as [`super::HeadScanner`] found it (without empty lines
/// before it).
///
/// After an error the content of `out` is meaningless. CONNECT is always an error.
pub fn parse_request(
    head: &[u8],
    limits: &HeadLimits,
    out: &mut RequestHead,
) -> Result<(), Malformed> {
    out.fields.clear();
    check_size(head, limits)?;
    let line = Line::first(head)?;
    if line.has_tab {
        return Err(Malformed::ControlByte);
    }
    parse_request_line(head, line.end, limits, out)?;
    let seen = parse_fields(head, line.next, limits, &mut out.fields)?;
    out.has_odd_field = seen.odd;
    if seen.odd
        && out
            .fields
            .iter()
            .any(|field| looks_like_framing(head, field))
    {
        return Err(Malformed::LookAlike);
    }
    out.max_forwards = match out.method {
        Method::Options | Method::Trace if seen.max_forwards_lines > 0 => {
            // Several lines, or a value that is not a number, would not stop a loop.
            let one = seen.max_forwards.filter(|_| seen.max_forwards_lines == 1);
            Some(one.ok_or(Malformed::MaxForwards)?)
        }
        _ => None,
    };
    out.authority = find_authority(head, &seen, out)?;
    out.framing = match (seen.length, seen.codings.any) {
        (None, false) => BodyFraming::None,
        (Some(length), false) => BodyFraming::Length(length),
        (Some(_), true) => return Err(Malformed::LengthAndEncoding),
        // RFC 9112 §6.1: an HTTP/1.0 client cannot know it, so its framing is faulty.
        (None, true) if out.version == Version::Http10 => return Err(Malformed::TransferEncoding),
        (None, true) => seen.codings.verdict().map(|()| BodyFraming::Chunked)?,
    };
    out.keep_alive = seen.keeps(out.version);
    out.te_trailers = seen.te_trailers;
    // RFC 9110 §10.1.1: HTTP/1.0 ignores the field, whatever its value.
    out.expect_continue = seen.expect_continue && out.version == Version::Http11;
    if seen.expect_other && out.version == Version::Http11 {
        return Err(Malformed::Expect);
    }
    Ok(())
}

/// Splits a field line without its CRLF into the ranges of name and value in that line.
pub(super) fn split_field(line: &[u8]) -> Result<Split, Malformed> {
    let (name, odd) = name_shape(line);
    // RFC 9112 §5.1: whitespace before the colon is refused.
    if name == 0 || line.get(name) != Some(&b':') {
        return Err(Malformed::FieldName);
    }
    let mut start = name + 1;
    while matches!(line.get(start), Some(b' ' | b'\t')) {
        start += 1;
    }
    let mut end = line.len();
    while end > start && matches!(line[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    Ok(Split {
        name,
        odd,
        value: span(start, end),
    })
}

/// The parts of a field line.
pub(super) struct Split {
    /// Length of the name.
    pub(super) name: usize,
    /// Servers may take the name for another one.
    pub(super) odd: bool,
    /// The value's range in the line.
    pub(super) value: Span,
}

/// A line of a head, found again: it has no control byte but HTAB, and CRLF follows.
struct Line {
    end: usize,
    next: usize,
    has_tab: bool,
}

impl Line {
    fn first(head: &[u8]) -> Result<Self, Malformed> {
        Self::at(head, 0)
    }

    fn at(head: &[u8], start: usize) -> Result<Self, Malformed> {
        let mut from = start;
        let mut has_tab = false;
        loop {
            let rest = head.get(from..).unwrap_or_default();
            let place = find_control(rest).ok_or(Malformed::BareLineEnd)?;
            match (rest[place], rest.get(place + 1)) {
                (b'\t', _) => has_tab = true,
                (b'\r', Some(b'\n')) => {
                    return Ok(Self {
                        end: from + place,
                        next: from + place + 2,
                        has_tab,
                    });
                }
                (b'\r' | b'\n', _) => return Err(Malformed::BareLineEnd),
                _ => return Err(Malformed::ControlByte),
            }
            from += place + 1;
        }
    }
}

pub(super) fn check_size(head: &[u8], limits: &HeadLimits) -> Result<(), Malformed> {
    if head.len() > limits.head || u32::try_from(head.len()).is_err() {
        Err(Malformed::HeadTooLarge)
    } else {
        Ok(())
    }
}

/// Makes a span. `start` and `end` must be in a head that passed [`check_size`].
pub(super) fn span(start: usize, end: usize) -> Span {
    Span {
        start: start as u32,
        end: end as u32,
    }
}

/// Parses `method SP request-target SP HTTP-version` (RFC 9112 §3), with exactly these two spaces.
fn parse_request_line(
    head: &[u8],
    end: usize,
    limits: &HeadLimits,
    out: &mut RequestHead,
) -> Result<(), Malformed> {
    const VERSION: usize = " HTTP/1.1".len();
    let line = &head[..end];
    out.version = check_version(line)?;
    let method = token_length(line);
    let target_end = end - VERSION;
    if method == 0 || line[method] != b' ' || method >= target_end {
        return Err(Malformed::StartLine);
    }
    let target = &line[method + 1..target_end];
    if target.is_empty() || target.contains(&b' ') {
        return Err(Malformed::StartLine);
    }
    // The second limit is the scanner's, so that the parser refuses the same lines without a scan.
    if target.len() > limits.target
        || end + "\r\n".len() > limits.target.saturating_add(BESIDES_TARGET)
    {
        return Err(Malformed::TargetTooLong);
    }
    if !target
        .iter()
        .all(|&byte| matches!(byte, 0x21..=0x7e) && byte != b'#')
    {
        return Err(Malformed::Target);
    }
    out.method_text = span(0, method);
    out.method = Method::from_bytes(&line[..method]);
    out.target = span(method + 1, target_end);
    parse_target(target, method + 1, out)
}

/// Parses one of the four forms (RFC 9112 §3.2). The method must allow the form.
fn parse_target(target: &[u8], offset: usize, out: &mut RequestHead) -> Result<(), Malformed> {
    if out.method == Method::Connect {
        // CONNECT has the form of an authority with a port, and no other method has this form.
        let has_port =
            matches!(target, [.., last] if last.is_ascii_digit()) && target.contains(&b':');
        return Err(if has_port && is_authority(target) {
            Malformed::MethodNotImplemented
        } else {
            Malformed::Target
        });
    }
    let path_start = match target {
        [b'/', ..] => {
            out.form = TargetForm::Origin;
            0
        }
        [b'*'] if out.method == Method::Options => {
            out.form = TargetForm::Asterisk;
            0
        }
        _ => {
            let scheme = absolute_prefix(target).ok_or(Malformed::Target)?;
            let rest = &target[scheme..];
            let length = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            if !is_authority(&rest[..length]) {
                return Err(Malformed::Target);
            }
            out.form = TargetForm::Absolute;
            out.authority = span(offset + scheme, offset + scheme + length);
            scheme + length
        }
    };
    let rest = &target[path_start..];
    let path = memchr::memchr(b'?', rest).unwrap_or(rest.len());
    out.path_and_query = span(offset + path_start, offset + target.len());
    out.path = span(offset + path_start, offset + path_start + path);
    Ok(())
}

/// Returns the length of `http://` or `https://`. Schemes are case-insensitive (RFC 3986 §3.1).
fn absolute_prefix(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(<[u8]>::len)
}

/// What the fields say together.
#[derive(Default)]
pub(super) struct Seen {
    host: Option<Span>,
    hosts: usize,
    length: Option<u64>,
    pub(super) codings: Codings,
    close: bool,
    keep_alive: bool,
    pub(super) keep_alive_timeout: Option<Duration>,
    expect_continue: bool,
    expect_other: bool,
    te_trailers: bool,
    pub(super) has_date: bool,
    max_forwards: Option<u64>,
    max_forwards_lines: usize,
    /// Connection names fields.
    pub(super) names_fields: bool,
    /// Servers may take a field's name for another one.
    odd: bool,
}

impl Seen {
    /// Returns whether the connection stays open (RFC 9112 §9.3).
    pub(super) fn keeps(&self, version: Version) -> bool {
        match version {
            Version::Http10 => self.keep_alive && !self.close,
            Version::Http11 => !self.close,
        }
    }

    pub(super) fn add(&mut self, id: FieldId, value: &[u8], place: Span) -> Result<(), Malformed> {
        match id {
            FieldId::Connection => self.add_connection(value),
            FieldId::ContentLength => {
                let length = decimal(value).ok_or(Malformed::ContentLength)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(Malformed::ContentLength);
                }
                self.length = Some(length);
            }
            FieldId::Date => self.has_date = true,
            FieldId::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expect_continue = true;
            }
            FieldId::Expect => self.expect_other = true,
            FieldId::Host => {
                self.host = Some(place);
                self.hosts += 1;
            }
            FieldId::KeepAlive => {
                self.keep_alive_timeout = self.keep_alive_timeout.or_else(|| idle_timeout(value));
            }
            FieldId::MaxForwards => {
                self.max_forwards = hops(value);
                self.max_forwards_lines += 1;
            }
            FieldId::Te => {
                self.te_trailers |= list(value).any(|element| {
                    trim(
                        element
                            .split(|&byte| byte == b';')
                            .next()
                            .unwrap_or_default(),
                    )
                    .eq_ignore_ascii_case(b"trailers")
                });
            }
            FieldId::TransferEncoding => self.codings.add(value),
            _ => {}
        }
        Ok(())
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !option.is_empty() {
                self.names_fields = true;
            }
        }
    }
}

/// What all Transfer-Encoding lines say together (RFC 9112 §6.1).
#[derive(Default)]
pub(super) struct Codings {
    pub(super) any: bool,
    chunked: bool,
    unknown: bool,
    faulty: bool,
}

impl Codings {
    fn add(&mut self, value: &[u8]) {
        self.any = true;
        for coding in list(value) {
            let name = token_length(coding);
            let after = trim(&coding[name..]);
            if coding.eq_ignore_ascii_case(b"chunked") {
                self.faulty |= self.chunked;
                self.chunked = true;
            } else if name == 0
                || !(after.is_empty() || after.starts_with(b";"))
                // Chunked has no parameters (RFC 9112 §7.1). Identity is not a coding any more.
                || coding[..name].eq_ignore_ascii_case(b"chunked")
                || coding[..name].eq_ignore_ascii_case(b"identity")
            {
                self.faulty = true;
            } else {
                // A coding after chunked makes the length unknowable.
                self.faulty |= self.chunked;
                self.unknown = true;
            }
        }
    }

    pub(super) fn verdict(&self) -> Result<(), Malformed> {
        if self.faulty || !self.chunked {
            Err(Malformed::TransferEncoding)
        } else if self.unknown {
            Err(Malformed::UnknownCoding)
        } else {
            Ok(())
        }
    }
}

fn parse_fields(
    head: &[u8],
    start: usize,
    limits: &HeadLimits,
    out: &mut Vec<Field>,
) -> Result<Seen, Malformed> {
    let mut seen = Seen::default();
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
        if matches!(text, [b' ' | b'\t', ..]) {
            return Err(Malformed::ObsoleteFold);
        }
        if out.len() >= limits.fields {
            return Err(Malformed::TooManyFields);
        }
        let Split { name, odd, value } = split_field(text)?;
        let id = FieldId::from_name(&text[..name]);
        let place = span(at + value.start as usize, at + value.end as usize);
        if id != FieldId::Other {
            seen.add(id, value.of(text), place)?;
        }
        out.push(Field {
            name: span(at, at + name),
            value: place,
            id,
            hop_by_hop: id.is_hop_by_hop(),
            has_controls: false,
            odd,
        });
        seen.odd |= odd;
        at = line.next;
    }
    if seen.names_fields {
        mark_named_fields(head, limits.fields, out)?;
    }
    Ok(seen)
}

/// Marks the fields that Connection names (RFC 9110 §7.6.1). It may name `most` fields, so that the
/// work is not quadratic in the size of the head.
pub(super) fn mark_named_fields(
    head: &[u8],
    most: usize,
    fields: &mut [Field],
) -> Result<(), Malformed> {
    let mut names = 0;
    for index in 0..fields.len() {
        if fields[index].id != FieldId::Connection {
            continue;
        }
        for option in list(fields[index].value.of(head)).filter(|option| is_token(option)) {
            names += 1;
            if names > most {
                return Err(Malformed::TooManyFields);
            }
            for field in &mut *fields {
                let is_named = !field.id.is_kept_from_connection()
                    && field.name.of(head).eq_ignore_ascii_case(option);
                field.hop_by_hop |= is_named;
            }
        }
    }
    Ok(())
}

/// Returns the host that the request is for (RFC 9112 §3.2, §3.3). Host is checked even where the
/// target's authority takes precedence.
fn find_authority(head: &[u8], seen: &Seen, out: &RequestHead) -> Result<Span, Malformed> {
    let is_absolute = out.form == TargetForm::Absolute;
    match seen.host {
        Some(_) if seen.hosts > 1 => return Err(Malformed::Host),
        Some(host) => {
            let value = host.of(head);
            // RFC 9110 §7.2: the value is empty if the target has no authority. A target with the
            // http scheme has one, with a host in it (§4.2.1).
            if !(is_authority(value) || value.is_empty() && out.form == TargetForm::Asterisk) {
                return Err(Malformed::Host);
            }
        }
        None if out.version == Version::Http11 => return Err(Malformed::Host),
        None => {}
    }
    Ok(if is_absolute {
        out.authority
    } else {
        seen.host.unwrap_or_default()
    })
}

/// Returns whether a server may read this field as one that decides framing, though it is not (see
/// [`crate::http::fold`]).
fn looks_like_framing(head: &[u8], field: &Field) -> bool {
    field.odd && FieldId::from_odd_name(field.name.of(head)).is_framing()
}

/// Parses `1*DIGIT` of Max-Forwards. A larger number becomes the largest that fits (RFC 9110
/// §7.6.2).
fn hops(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| decimal(value).unwrap_or(u64::MAX))
}

/// The longest believable idle time of a server, in seconds: a day.
const LONGEST_IDLE: u64 = 24 * 60 * 60;

/// Parses `timeout=N` of a Keep-Alive field (RFC 2068 §19.7.1.1, and what servers send), at most
/// [`LONGEST_IDLE`].
fn idle_timeout(value: &[u8]) -> Option<Duration> {
    list(value).find_map(|parameter| {
        let (name, number) = parameter.split_at_checked("timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=")
            .then(|| decimal(number))
            .flatten()
            .map(|seconds| Duration::from_secs(seconds.min(LONGEST_IDLE)))
    })
}
