//! `[cluster.health]`.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::idle;
use super::keys::CLASSES;
use super::problem::{Complaint, Spot};
use super::reader::{Table, count_of, expected, text_of};
use super::value::check_host_field;
use crate::health::{Mode, Panic, Passive, Settings};
use crate::http::{FieldId, Method};
use crate::plan::{Health, HttpProbe, Probe};
use crate::proto::h1::is_token;

/// What a probe says it is.
const USER_AGENT: &str = "juggler-health-check";

/// Keys that say what a request is.
const OF_REQUESTS: [&str; 7] = ["method", "path", "host", "fields", "send", "expect", "body"];

/// Most bytes that a probe sends as a body: it has to fit into the buffers of an idle connection.
const SEND: usize = 4096;

/// Final statuses.
const STATUSES: RangeInclusive<u64> = 200..=599;

/// Reads how the servers of a cluster are looked after.
pub(super) fn read(cluster: &Table<'_>) -> Health {
    if !cluster.has("health") {
        return Health::disabled();
    }
    let table = cluster.table("health");
    Health {
        settings: Settings {
            mode: Mode::of_word(table.word("mode")).unwrap_or_default(),
            interval: table.duration("interval"),
            jitter: table.percent("jitter"),
            recheck: table.duration("recheck"),
            timeout: table.duration("timeout"),
            rise: count(&table, "rise"),
            fall: count(&table, "fall"),
            passive: passive(&table.table("passive")),
            slow_start: table.duration("slow_start"),
            sticky_offline: table.flag("sticky_offline"),
        },
        probe: probe(&table),
        port: table
            .count_if_any("port")
            .map(|spot| u16::try_from(spot.value).unwrap_or(u16::MAX)),
        when_busy: table.flag("probe_when_busy"),
        panic: Panic {
            threshold: table.percent("panic"),
        },
    }
}

fn count(table: &Table<'_>, name: &str) -> u32 {
    u32::try_from(table.count(name)).unwrap_or(u32::MAX)
}

fn passive(table: &Table<'_>) -> Passive {
    let mut passive = Passive {
        ratio: table.percent("ratio"),
        least: table.count("least"),
        window: table.duration("window"),
        ..Passive::default()
    };
    let classes = table.words("classes");
    for (i, class) in CLASSES.iter().enumerate() {
        let streak = count(table, class);
        if streak == 1 {
            let complaint = Complaint::new("one failure alone takes no server offline");
            table.problems().error(
                &table.place_of(class),
                complaint.hint("at least 2, or 0 for never"),
            );
        }
        passive.consecutive[i] = streak;
        passive.counts[i] = classes.iter().any(|given| given.value == *class);
    }
    idle::of_passive(table, !classes.is_empty());
    passive
}

fn probe(table: &Table<'_>) -> Probe {
    let http = match table.word("type") {
        "http" => true,
        "tcp" => false,
        // One that is wrong is complained of already.
        _ => table.has("path") || table.has("type"),
    };
    if !http {
        for name in OF_REQUESTS.into_iter().filter(|name| table.has(name)) {
            let complaint =
                Complaint::new("is said of requests, and a probe with type \"tcp\" makes none");
            table.problems().error(
                &table.place_of(name),
                complaint.hint("write type = \"http\", or leave it out"),
            );
        }
        return Probe::Tcp;
    }
    let method = table.word("method");
    let body = table.text("body");
    if let Some(body) = &body
        && method == "HEAD"
    {
        let complaint = Complaint::new("is never there: a response to HEAD has no body");
        table
            .problems()
            .error(&body.place, complaint.hint("write method = \"GET\""));
    }
    Probe::Http(HttpProbe {
        method: Method::from_bytes(method.as_bytes()),
        request: request(table, method),
        expect: table
            .list("expect", parse_statuses)
            .into_iter()
            .map(|spot| spot.value)
            .collect(),
        body: body.map(|spot| spot.value.into_bytes()),
    })
}

/// The request that a probe sends.
fn request(table: &Table<'_>, method: &str) -> Vec<u8> {
    let checked = |name, check: &dyn Fn(&str) -> Result<(), Complaint>| {
        let Some(Spot { value, place }) = table.text(name) else {
            return String::new();
        };
        if let Err(complaint) = check(&value) {
            table.problems().error(&place, complaint);
        }
        value
    };
    let send = send(table, method);
    let path = checked("path", &|text| check_path(text, method));
    let host = checked("host", &|text| check_host_field(text));
    let fields = table.texts("fields", parse_field);
    let named = |spot: &Spot<(String, String)>| {
        FieldId::from_name(spot.value.0.as_bytes()) == FieldId::UserAgent
    };
    let own = (!fields.iter().any(named)).then(|| ("User-Agent".to_owned(), USER_AGENT.to_owned()));
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in own
        .into_iter()
        .chain(fields.into_iter().map(|spot| spot.value))
    {
        head.push_str(&name);
        head.push_str(": ");
        head.push_str(&value);
        head.push_str("\r\n");
    }
    if let Some(send) = &send {
        head.push_str(&format!("Content-Length: {}\r\n", send.len()));
    }
    head.push_str("\r\n");
    head.push_str(send.as_deref().unwrap_or_default());
    head.into_bytes()
}

/// The request's body.
fn send(table: &Table<'_>, method: &str) -> Option<String> {
    let takes_body = matches!(method, "POST" | "PUT");
    let Some(Spot { value, place }) = table.text("send") else {
        // Servers want to be told that there is none.
        return takes_body.then(String::new);
    };
    if !takes_body {
        let complaint = Complaint::new(format!("is never sent: a {method} has no body"));
        table
            .problems()
            .error(&place, complaint.hint("write method = \"POST\""));
    } else if value.len() > SEND {
        let complaint = Complaint::new(format!("is longer than {SEND} bytes"));
        table
            .problems()
            .error(&place, complaint.hint("a probe should be cheap"));
    }
    Some(value)
}

fn check_path(path: &str, method: &str) -> Result<(), Complaint> {
    if path == "*" {
        return if method == "OPTIONS" {
            Ok(())
        } else {
            Err(Complaint::new("\"*\" is asked for by OPTIONS alone")
                .hint("write method = \"OPTIONS\""))
        };
    }
    if !path.starts_with('/') {
        return Err(Complaint::new("a path starts with a slash").hint(format!("write \"/{path}\"")));
    }
    if path.contains('#') {
        return Err(Complaint::new("a request has no fragment")
            .hint("leave out what follows \"#\", and that"));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            Complaint::new("has characters that a path cannot have").hint("write them as %XX")
        );
    }
    Ok(())
}

/// A field of the request, `Name: value`.
fn parse_field(text: &str) -> Result<(String, String), Complaint> {
    let example = "write \"X-Probe: yes\"";
    let Some((name, value)) = text.split_once(':') else {
        return Err(Complaint::new(format!("\"{text}\" is no field with a value")).hint(example));
    };
    if !is_token(name.as_bytes()) {
        return Err(Complaint::new(format!("\"{name}\" is no name of a field")).hint(example));
    }
    // What goes into a field must not be able to end it.
    if value.chars().any(char::is_control) {
        return Err(Complaint::new(format!(
            "the value of \"{name}\" has control characters"
        )));
    }
    match FieldId::from_name(name.as_bytes()) {
        FieldId::Host => {
            Err(Complaint::new("\"Host\" has a key of its own").hint("write host = \"...\""))
        }
        FieldId::ContentLength | FieldId::Expect | FieldId::Trailer => Err(not_a_probes(name)),
        id if id.is_hop_by_hop() => Err(not_a_probes(name)),
        _ => Ok((name.to_owned(), value.trim_matches(' ').to_owned())),
    }
}

fn not_a_probes(name: &str) -> Complaint {
    Complaint::new(format!(
        "\"{name}\" says how a message is sent, and a probe says that by itself"
    ))
    .hint("leave it out")
}

/// A status, or a range of them.
fn parse_statuses(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Complaint> {
    let (least, most) = (*STATUSES.start(), *STATUSES.end());
    if let DeValue::Integer(_) = value {
        let status = u16::try_from(count_of(value, least, most)?).unwrap_or(u16::MAX);
        return Ok(status..=status);
    }
    let hint = "write 200, \"200\" or \"200-399\"";
    let text =
        text_of(value).map_err(|_| expected("a status or a range of them", value).hint(hint))?;
    let status = |text: &str| match text.parse::<u16>() {
        Ok(status) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            if STATUSES.contains(&u64::from(status)) {
                Ok(status)
            } else {
                Err(Complaint::new("is out of range").hint(format!("from {least} to {most}")))
            }
        }
        _ => Err(Complaint::new(format!("\"{text}\" is no status")).hint(hint)),
    };
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (status(from)?, status(to)?);
    if from > to {
        return Err(Complaint::new("ends before it begins").hint(format!("write \"{to}-{from}\"")));
    }
    Ok(from..=to)
}
