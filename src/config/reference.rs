//! Prints the table of keys: the reference for a terminal, and `docs/configuration.md`.

use std::fmt::Write as _;

use super::form::Default;
use super::keys::SECTIONS;

/// The reference for a terminal: every key with type, default and meaning.
pub fn text() -> String {
    let mut out = String::from(
        "Juggler's configuration: every key with what it takes, its default and its meaning.\n",
    );
    for section in SECTIONS.iter().filter(|section| !section.path.is_empty()) {
        let _ = write!(out, "\n{}\n", section.header);
        wrap(&mut out, "  ", section.about);
        for key in section.keys {
            let _ = write!(out, "\n  {}\n", key.name);
            wrap(&mut out, "      ", key.meaning);
            labelled(&mut out, "      takes:   ", &key.kind.describe());
            labelled(&mut out, "      default: ", key.default.describe());
        }
    }
    out
}

/// The reference as `docs/configuration.md`, with its head.
pub fn markdown() -> String {
    let mut out = String::from(include_str!("reference_head.md"));
    for section in SECTIONS.iter().filter(|section| !section.path.is_empty()) {
        let _ = write!(out, "\n### `{}`\n\n{}\n\n", section.header, section.about);
        out.push_str("| key | takes | default | meaning |\n| --- | --- | --- | --- |\n");
        for key in section.keys {
            let default = match key.default {
                Default::Is(text) => format!("`{text}`"),
                Default::Means(text) => text.to_owned(),
                Default::Required => "must be given".to_owned(),
            };
            let kind = key.kind.describe().replace('|', "\\|");
            let _ = writeln!(
                out,
                "| `{}` | {kind} | {default} | {} |",
                key.name, key.meaning
            );
        }
    }
    out
}

/// Appends `text` behind a label, further lines below its start.
fn labelled(out: &mut String, label: &str, text: &str) {
    let start = out.len();
    wrap(out, &" ".repeat(label.len()), text);
    out.replace_range(start..start + label.len(), label);
}

/// Appends `text` in lines of at most 100 characters, each after `indent`.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut width = usize::MAX;
    for word in text.split_whitespace() {
        if width.saturating_add(1 + word.len()) > 100 {
            if width != usize::MAX {
                out.push('\n');
            }
            out.push_str(indent);
            width = indent.len();
        } else {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.len();
    }
    out.push('\n');
}
