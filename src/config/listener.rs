//! `[[listener]]`.

use std::time::Duration;

use toml::de::DeValue;

use super::problem::{Complaint, Location, Spot};
use super::process::{group_exists, saturate, user_exists};
use super::reader::{Table, count_of, expected, text_of, word_of};
use super::tls::{self, Part, Served};
use super::value::{
    Peer, parse_bind, parse_exact_path, parse_mode, parse_name, parse_peer, parse_stripped,
};
use super::{idle, pages};
use crate::plan::check::{Firsts, Subject};
use crate::plan::{
    BindAddress, Certificate, Forwarded, ForwardedStyle, Listener, ListenerLimit, ListenerTimeout,
    Peers, SocketFile, Tls, UnderscoreFields,
};

/// Reads all listeners; those that are optional and cannot be are left out. `buffer` is the size of
/// one buffer, in bytes.
pub(super) fn read_all(root: &Table<'_>, buffer: usize) -> Vec<Listener> {
    let tables = root.tables("listener");
    if !root.meant("listener") {
        let complaint = Complaint::new("there is no listener");
        root.problems().error(
            root.place(),
            complaint.hint("say where clients come in: [[listener]], or --listen"),
        );
    }
    let written = !tables.is_empty();
    let mut names = Names::default();
    let mut bound = Bound::default();
    let listeners: Vec<_> = tables
        .iter()
        .filter_map(|table| read(table, buffer, &mut names, &mut bound))
        .collect();
    if written && listeners.is_empty() && !root.problems().fatal() {
        let complaint =
            Complaint::new("no listener is left: each is optional and lacks its certificate");
        root.problems().error(
            root.place(),
            complaint.hint("make a certificate: juggler certificate"),
        );
    }
    listeners
}

fn read<'a>(
    table: &Table<'a>,
    buffer: usize,
    names: &mut Names,
    bound: &mut Bound,
) -> Option<Listener> {
    let name = unique_name(table, names, Subject::ListenerName);
    let bind = addresses(table, bound);
    let optional = table.flag("optional");
    let tls = if table.has("tls") {
        Some(tls(&table.table("tls"), optional))
    } else {
        None
    };
    let redirect_https = redirect_https(table);
    if tls.is_some() && redirect_https.is_some() {
        let complaint = Complaint::new("a listener with tls cannot redirect to https")
            .hint("leave out one of the two");
        table
            .problems()
            .error(&table.place_of("redirect_https"), complaint);
    }
    let listener = Listener {
        name,
        bind,
        backlog: i32::try_from(table.count("backlog")).unwrap_or(i32::MAX),
        tls: tls.as_ref().map(|(tls, _)| tls.clone()),
        optional,
        socket: socket_file(table),
        proxy_protocol: peers(table, "proxy_protocol"),
        redirect_https,
        sessions_per_address: table.count("sessions_per_address"),
        half_close_serve: table.word("half_close") == "serve",
        health_path: health_path(table),
        error_pages: pages::read(table, &pages::OF_LISTENERS),
        timeout: timeout(&table.table("timeout")),
        limit: limit(&table.table("limit"), buffer),
        forwarded: forwarded(table),
        underscore_fields: UnderscoreFields::of_word(table.word("underscore_fields"))
            .unwrap_or_default(),
        via: via(table),
        request_id: table.flag("request_id"),
    };
    idle::of_listener(table, &listener);
    check_unix(table, &listener);
    match tls {
        Some((_, complete)) if !complete && optional => None,
        _ => Some(listener),
    }
}

/// Warns of what is said of Unix sockets where there is none, and the other way round.
fn check_unix(table: &Table<'_>, listener: &Listener) {
    let warn = |place: Location, message: &str, hint: &str| {
        table
            .problems()
            .warning(&place, Complaint::new(message).hint(hint));
    };
    // Without addresses there is a complaint already.
    let has_unix = listener
        .bind
        .iter()
        .any(|bind| matches!(bind, BindAddress::Unix { .. }));
    if has_unix {
        if !listener.proxy_protocol.is_empty() && !listener.proxy_protocol.unix {
            let message =
                "does not list \"unix\": those who come over the Unix socket send no header";
            warn(
                table.place_of("proxy_protocol"),
                message,
                "add \"unix\" if they do",
            );
        }
        return;
    }
    for key in ["mode", "owner", "group"] {
        if table.has(key) {
            let message = "has no effect: the listener has no Unix socket";
            warn(
                table.place_of(key),
                message,
                "it is for the file of a \"unix:/path\" in `bind`",
            );
        }
    }
    let message = "lists \"unix\", and the listener has no Unix socket";
    if listener.proxy_protocol.unix {
        warn(table.place_of("proxy_protocol"), message, "leave it out");
    }
    if listener.forwarded.trusted.unix {
        warn(
            table.place_within("forwarded", "trusted"),
            message,
            "leave it out",
        );
    }
}

/// How the files of its Unix sockets are made.
fn socket_file(table: &Table<'_>) -> SocketFile {
    let name = |key: &str, exists: fn(&str) -> bool| {
        let name = table.has(key).then(|| table.text(key)).flatten()?;
        if !exists(&name.value) {
            let complaint = Complaint::new(format!(
                "there is no {} {}",
                if key == "owner" { "user" } else { key },
                name.value
            ));
            table.problems().error(&name.place, complaint);
        }
        Some(name.value)
    };
    let mode = table.read("mode", |_, value| parse_mode(text_of(value)?));
    SocketFile {
        mode: mode.map_or_else(|| SocketFile::default().mode, |spot| spot.value),
        owner: name("owner", user_exists),
        group: name("group", group_exists),
    }
}

/// The peers that a key lists.
fn peers(table: &Table<'_>, key: &str) -> Peers {
    let mut peers = Peers::default();
    for Spot { value, .. } in table.texts(key, parse_peer) {
        match value {
            Peer::Network(network) => peers.networks.push(network),
            Peer::Unix => peers.unix = true,
        }
    }
    peers
}

/// Names of tables of one kind, with the places of those that had them first.
#[derive(Default)]
pub(super) struct Names {
    firsts: Firsts<String>,
    places: Vec<Location>,
}

/// Reads `name`, which no other table may have. `subject` says what the `i`th table names.
pub(super) fn unique_name(
    table: &Table<'_>,
    names: &mut Names,
    subject: impl Fn(usize) -> Subject,
) -> String {
    let Some(name) = table.text("name") else {
        return String::new();
    };
    if let Err(complaint) = parse_name(&name.value) {
        table.problems().error(&name.place, complaint);
    }
    let own = subject(names.places.len());
    names.places.push(name.place);
    if let Some(objection) = names.firsts.add_name(&name.value, own) {
        let place_of = |wanted| {
            let place = (0..names.places.len()).find(|i| subject(*i) == wanted)?;
            names.places.get(place).cloned()
        };
        table.problems().object(objection, place_of);
    }
    name.value
}

/// Addresses that listeners bind, with the places of all.
#[derive(Default)]
struct Bound {
    firsts: Firsts<BindAddress>,
    places: Vec<Location>,
}

fn addresses(table: &Table<'_>, bound: &mut Bound) -> Vec<BindAddress> {
    let mut addresses = Vec::new();
    for Spot { value, place } in table.texts("bind", parse_bind) {
        for address in value {
            let own = Subject::Bind(bound.places.len());
            bound.places.push(place.clone());
            if let Some(objection) = bound.firsts.add_bind(&address, own) {
                let place_of = |subject| match subject {
                    Subject::Bind(i) => bound.places.get(i).cloned(),
                    _ => None,
                };
                table.problems().object(objection, place_of);
            }
            addresses.push(address);
        }
    }
    addresses
}

/// TLS, and whether all its files are there.
fn tls(table: &Table<'_>, optional: bool) -> (Tls, bool) {
    let mut complete = true;
    let mut certificates = Vec::new();
    let tables = table.tables("certificates");
    if !table.meant("certificates") {
        let complaint = Complaint::new("there is no certificate");
        let hint = "certificates = [{ chain = \"server.crt\", key = \"server.key\" }]";
        table
            .problems()
            .error(&table.place_of("certificates"), complaint.hint(hint));
    }
    let mut served = Served::default();
    for table in &tables {
        let (chain, key) = (table.text("chain"), table.text("key"));
        let (Some(chain), Some(key)) = (chain, key) else {
            continue;
        };
        let certificate = Certificate {
            chain: table.problems().resolve(&chain.value),
            key: table.problems().resolve(&key.value),
        };
        complete &= check_files(table, optional, &certificate, &mut served);
        certificates.push(certificate);
    }
    (
        Tls {
            certificates,
            only_tls13: table.word("min_version") == "1.3",
        },
        complete,
    )
}

/// Complains of a certificate's files; whether they are there.
fn check_files(
    table: &Table<'_>,
    optional: bool,
    certificate: &Certificate,
    served: &mut Served,
) -> bool {
    let findings = tls::check(&certificate.chain, &certificate.key);
    if let Some(leaf) = findings.leaf {
        served.add(table, leaf);
    }
    let problems = table.problems();
    let place = |part| table.place_of(if part == Part::Chain { "chain" } else { "key" });
    for (part, complaint) in findings.errors {
        problems.error(&place(part), complaint);
    }
    for (part, complaint) in findings.forbidden {
        if problems.is_reload() {
            problems.warning(&place(part), complaint);
        } else {
            problems.error(&place(part), complaint);
        }
    }
    for (part, complaint) in findings.warnings {
        problems.warning(&place(part), complaint);
    }
    for &part in &findings.missing {
        let path = if part == Part::Chain {
            &certificate.chain
        } else {
            &certificate.key
        };
        let complaint = Complaint::new(format!("there is no file {}", path.display()));
        if optional {
            let complaint = Complaint {
                message: format!("{}; the listener is left out", complaint.message),
                hint: None,
            };
            problems.warning(
                &place(part),
                complaint.hint("make one with: juggler certificate"),
            );
            // Once is enough.
            break;
        } else {
            problems.error(
                &place(part),
                complaint.hint("make one with: juggler certificate"),
            );
        }
    }
    findings.missing.is_empty()
}

fn redirect_https(table: &Table<'_>) -> Option<u16> {
    let port = table.read("redirect_https", |_, value| match value {
        DeValue::Boolean(true) => Ok(Some(443)),
        DeValue::Boolean(false) => Ok(None),
        DeValue::Integer(_) => Ok(u16::try_from(count_of(value, 1, 65535)?).ok()),
        _ => Err(expected("true, false or a port number", value)),
    });
    port.and_then(|spot| spot.value)
}

fn health_path(table: &Table<'_>) -> Option<String> {
    let path = table.text("health_path")?;
    match parse_exact_path(&path.value) {
        Ok(path) => Some(path),
        Err(complaint) => {
            table.problems().error(&path.place, complaint);
            None
        }
    }
}

fn via(table: &Table<'_>) -> Option<String> {
    let name = table.read("via", |_, value| match value {
        DeValue::Boolean(false) => Ok(None),
        DeValue::String(name) => parse_name(name).map(Some),
        _ => Err(expected("false or a name", value)),
    });
    name.and_then(|spot| spot.value)
}

fn forwarded(table: &Table<'_>) -> Forwarded {
    // A table is read by keys of its own, a text is its style and nothing else.
    let style = table.read("forwarded", |_, value| match value {
        DeValue::Table(_) => Ok(None),
        DeValue::String(_) => word_of(ForwardedStyle::WORDS, text_of(value)?).map(Some),
        _ => Err(expected("text or a table", value)),
    });
    match style.and_then(|spot| spot.value) {
        Some(style) => Forwarded {
            style: ForwardedStyle::of_word(style).unwrap_or(ForwardedStyle::Off),
            replace: false,
            trusted: Peers::default(),
            strip: Vec::new(),
        },
        None => {
            let table = table.table("forwarded");
            Forwarded {
                style: ForwardedStyle::of_word(table.word("style")).unwrap_or(ForwardedStyle::Off),
                replace: table.word("mode") == "replace",
                trusted: peers(&table, "trusted"),
                strip: values(table.texts("strip", parse_stripped)),
            }
        }
    }
}

fn timeout(table: &Table<'_>) -> ListenerTimeout {
    ListenerTimeout {
        handshake: table.duration("handshake"),
        header: table.duration("header"),
        body: table.duration("body"),
        body_total: table.duration_or_off("body_total", Duration::from_millis(1)),
        idle: table.duration("idle"),
        write: table.duration("write"),
    }
}

fn limit(table: &Table<'_>, buffer: usize) -> ListenerLimit {
    let (head, target) = (table.size("head"), table.size("target"));
    if saturate(head) > buffer {
        let complaint =
            Complaint::new("is more than one buffer (buffers.size), in which a head has to fit");
        table.problems().error(
            &table.place_of("head"),
            complaint.hint("raise buffers.size to that"),
        );
    }
    if target > head {
        let complaint = Complaint::new("is more than `head`, which it is a part of");
        table.problems().error(&table.place_of("target"), complaint);
    }
    ListenerLimit {
        head: saturate(head),
        fields: table.count("fields"),
        target: saturate(target),
        body: table.size("body"),
        body_memory: saturate(table.size("body_memory")),
        response_memory: saturate(table.size("response_memory")),
        response_spool: table.size("response_spool"),
        min_rate: table.size("min_rate"),
        min_upload_rate: table.size("min_upload_rate"),
    }
}

fn values<T>(spots: Vec<Spot<T>>) -> Vec<T> {
    spots.into_iter().map(|spot| spot.value).collect()
}
