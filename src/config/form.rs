//! The form of the table of keys: tables of the file, their keys, and what these take.

use std::time::Duration;

use crate::base::units::{format_duration, format_size};

/// One table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// From the top, with a dot between: `cluster.server`. Empty is the file itself.
    pub(super) path: &'static str,
    /// How it is opened in the file.
    pub(super) header: &'static str,
    /// What it is for.
    pub(super) about: &'static str,
    /// What may stand in it.
    pub(super) keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name in its table.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) kind: Kind,
    /// What holds where it is not written.
    pub(super) default: Default,
    /// What it means, in one or two sentences.
    pub(super) meaning: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    /// Any text.
    Text,
    /// A text or a list of texts.
    Texts,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Count(u64, u64),
    /// Time with a unit.
    Duration(Duration, Duration),
    /// Bytes with a unit.
    Size(u64, u64),
    /// A part of a whole, between so many percent.
    Percent(u32, u32),
    /// One of these.
    Word(&'static [&'static str]),
    /// A list of these, which may be empty.
    Words(&'static [&'static str]),
    /// A table that has its own section.
    Table,
    /// A list of tables that have their own section.
    Tables,
    /// Several forms, in these words; a function of its own reads it.
    Forms(&'static str),
}

/// What holds where a key is not written.
#[derive(Debug)]
pub(super) enum Default {
    /// This value, as TOML.
    Is(&'static str),
    /// What these words say; the reader gets nothing.
    Means(&'static str),
    /// It must be written.
    Required,
}

impl Section {
    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// What to write, in words.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Texts => "text, or list of texts".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Count(least, most) => format!("number, {least} to {most}"),
            Self::Duration(least, most) => {
                format!(
                    "duration, {} to {}",
                    format_duration(*least),
                    format_duration(*most)
                )
            }
            Self::Size(least, most) => {
                format!("size, {} to {}", format_size(*least), format_size(*most))
            }
            Self::Percent(0, most) => format!("percent, up to {most}%"),
            Self::Percent(least, most) => format!("percent, {least}% to {most}%"),
            Self::Word(words) => either(words),
            Self::Words(words) => format!("list of {}", either(words)),
            Self::Table => "table".to_owned(),
            Self::Tables => "list of tables".to_owned(),
            Self::Forms(forms) => (*forms).to_owned(),
        }
    }
}

/// Words to choose from.
fn either(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    words.join(" or ")
}

impl Default {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Is(text) | Self::Means(text) => text,
            Self::Required => "must be given",
        }
    }
}
