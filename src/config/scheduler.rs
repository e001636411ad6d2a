//! Which server is next, and whose a request is.

use toml::de::DeValue;

use super::problem::Complaint;
use super::reader::{Table, expected, text_of, word_of};
use crate::balance::Schedule;
use crate::base::text::nearest;
use crate::http::{FieldId, fold};
use crate::plan::ClientKey;
use crate::proto::h1::is_token;

/// Reads `cluster.scheduler`, a text or a table.
pub(super) fn schedule(cluster: &Table<'_>) -> Schedule {
    // A table is read by keys of its own, a text is its type and nothing else.
    let word = cluster.read("scheduler", |_, value| match value {
        DeValue::Table(_) => Ok(None),
        DeValue::String(_) => word_of(Schedule::WORDS, text_of(value)?).map(Some),
        _ => Err(expected("text or a table", value)),
    });
    if let Some(word) = word.and_then(|spot| spot.value) {
        let balance = balance(&cluster.defaults("scheduler"));
        return Schedule::of_word(word, balance).unwrap_or_default();
    }
    let table = cluster.table("scheduler");
    let word = table.word("type");
    let schedule = Schedule::of_word(word, balance(&table)).unwrap_or_default();
    // What a type that is wrong was meant to be is not known.
    if !word.is_empty() && !schedule.is_hashing() && table.has("balance") {
        let complaint = Complaint::new("means nothing with this type");
        table.problems().error(
            &table.place_of("balance"),
            complaint.hint("only \"rendezvous\" and \"jump\" go by it; leave it out"),
        );
    }
    schedule
}

fn balance(table: &Table<'_>) -> u32 {
    let percent = table.percent("balance") * 100.0;
    // A part of 1.1 is not 110 % to the last bit.
    if (percent - percent.round()).abs() > 1e-6 {
        let complaint = Complaint::new("must be whole percents");
        table.problems().error(
            &table.place_of("balance"),
            complaint.hint(format!("write \"{percent:.0}%\"")),
        );
    }
    percent.round() as u32
}

/// Reads `cluster.client_key`.
pub(super) fn client_key(cluster: &Table<'_>) -> ClientKey {
    cluster
        .read("client_key", |_, value| parse_key(text_of(value)?))
        .map_or(ClientKey::Address, |key| key.value)
}

fn parse_key(text: &str) -> Result<ClientKey, Complaint> {
    let name = |name: &str, what: &str| {
        if is_token(name.as_bytes()) {
            Ok(name.to_owned())
        } else {
            Err(Complaint::new(format!("\"{name}\" is no name of a {what}")))
        }
    };
    match text.split_once(':') {
        None if text == "address" => Ok(ClientKey::Address),
        None if text == "none" => Ok(ClientKey::None),
        Some(("field", rest)) => {
            let name = name(rest, "request field")?.to_ascii_lowercase();
            let mut room = [0; fold::FOLDED_MOST];
            match FieldId::from_name(fold::fold(name.as_bytes(), &mut room)) {
                // Its start is each client's own tale: the whole of it would be another key each
                // time.
                FieldId::XForwardedFor | FieldId::Forwarded => {
                    let complaint =
                        Complaint::new(format!("\"{rest}\" is a list, to which clients can add"));
                    Err(complaint.hint(
                        "client_key = \"address\" goes by the client that a trusted proxy names \
                         in it ([listener.forwarded] style, trusted)",
                    ))
                }
                _ => Ok(ClientKey::Field(name)),
            }
        }
        // Names of cookies differ by the case of letters (RFC 6265 §5.4).
        Some(("cookie", rest)) => Ok(ClientKey::Cookie(name(rest, "cookie")?)),
        _ => {
            let known = ["address", "none", "field", "cookie"];
            let hint = match nearest(text.split(':').next().unwrap_or(text), known.into_iter()) {
                Some(near @ ("field" | "cookie")) => format!("did you mean \"{near}:NAME\"?"),
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "write \"address\", \"none\", \"field:NAME\" or \"cookie:NAME\"".to_owned(),
            };
            Err(Complaint::new(format!("\"{text}\" is not one of its values")).hint(hint))
        }
    }
}

/// Reads `cluster.deadline_field`.
pub(super) fn deadline_field(cluster: &Table<'_>) -> Option<String> {
    let name = cluster.text("deadline_field")?;
    if !is_token(name.value.as_bytes()) {
        let complaint = Complaint::new(format!("\"{}\" is no name of a request field", name.value));
        cluster.problems().error(&name.place, complaint);
    }
    Some(name.value.to_ascii_lowercase())
}
