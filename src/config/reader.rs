//! Walks the tree of a parsed file: looks values up by key, and complains of what does not fit the
//! reference.
//!
//! A value that is wrong is complained of and its default taken, so that the reading goes on.

use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::form::{Default, Key, Kind, Section};
use super::keys::{SECTIONS, section};
use super::problem::{Complaint, Location, Problems, Spot};
use crate::base::text::nearest;
use crate::base::units::{
    UnitError, format_duration, format_size, parse_duration, parse_percent, parse_size,
};

/// One table of the file, or one that is not there and so has only defaults.
pub(super) struct Table<'a> {
    section: &'static Section,
    entries: Option<&'a DeTable<'a>>,
    place: Location,
    problems: &'a Problems<'a>,
}

/// An empty table for keys that the reference does not know; there are none, a test sees to it.
static NOTHING: Section = Section {
    path: "?",
    header: "",
    about: "",
    keys: &[],
};

impl<'a> Table<'a> {
    /// The whole file, or an empty one.
    pub(super) fn root(entries: Option<&'a DeTable<'a>>, problems: &'a Problems<'a>) -> Self {
        Self::open(
            section("").unwrap_or(&NOTHING),
            entries,
            Location::default(),
            problems,
        )
    }

    /// Opens a table and complains of every key in it that there is not.
    fn open(
        section: &'static Section,
        entries: Option<&'a DeTable<'a>>,
        place: Location,
        problems: &'a Problems<'a>,
    ) -> Self {
        let table = Self {
            section,
            entries,
            place,
            problems,
        };
        for (name, _) in entries.into_iter().flatten() {
            if section.key(name.get_ref()).is_none() {
                let complaint = Complaint::new("unknown key");
                let hint = table.where_instead(name.get_ref());
                problems.error(
                    &table.child_place(name.get_ref(), Some(name.span())),
                    Complaint { hint, ..complaint },
                );
            }
        }
        table
    }

    /// What an unknown key was probably meant to be.
    fn where_instead(&self, name: &str) -> Option<String> {
        if let Some(near) = self.near(name) {
            return Some(format!("did you mean \"{near}\"?"));
        }
        let elsewhere: Vec<_> = SECTIONS
            .iter()
            .filter(|section| section.key(name).is_some())
            .map(|section| {
                if section.path.is_empty() {
                    "the top of the file"
                } else {
                    section.header
                }
            })
            .collect();
        if elsewhere.is_empty() {
            let known: Vec<_> = self.section.keys.iter().map(|key| key.name).collect();
            return Some(format!("known here: {}", known.join(", ")));
        }
        Some(format!("it belongs in {}", elsewhere.join(" or ")))
    }

    /// Where to complain.
    pub(super) fn problems(&self) -> &'a Problems<'a> {
        self.problems
    }

    /// Where this table stands.
    pub(super) fn place(&self) -> &Location {
        &self.place
    }

    /// Returns whether a key is written in the file.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// Returns whether a key is written, or one that is no key and was probably meant to be this
    /// one. Who asks for what must be there complains only once of a key that is not spelt right.
    pub(super) fn meant(&self, name: &str) -> bool {
        self.has(name) || self.misspelt(name)
    }

    fn misspelt(&self, name: &str) -> bool {
        let mut unknown = self
            .entries
            .into_iter()
            .flatten()
            .filter(|(given, _)| self.section.key(given.get_ref()).is_none());
        unknown.any(|(given, _)| self.near(given.get_ref()) == Some(name))
    }

    fn near(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.section.keys.iter().map(|key| key.name))
    }

    /// The place of a key's value, for complaints that only its user can have.
    pub(super) fn place_of(&self, name: &str) -> Location {
        self.child_place(
            name,
            self.raw(name)
                .map_or_else(|| self.place.span.clone(), |value| Some(value.span())),
        )
    }

    /// The same of a key in the table that a key holds.
    pub(super) fn place_within(&self, name: &str, inner: &str) -> Location {
        let place = self.place_of(name);
        let entries = self.raw(name).and_then(|value| value.get_ref().as_table());
        let span = entries
            .and_then(|entries| entries.get(inner))
            .map(Spanned::span);
        Location {
            span: span.or(place.span),
            path: format!("{}.{inner}", place.path),
        }
    }

    /// Returns whether a key is written in the table that a key holds.
    pub(super) fn has_within(&self, name: &str, inner: &str) -> bool {
        let entries = self.raw(name).and_then(|value| value.get_ref().as_table());
        entries.is_some_and(|entries| entries.contains_key(inner))
    }

    fn child_place(&self, name: &str, span: Option<Range<usize>>) -> Location {
        let path = if self.place.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.place.path)
        };
        Location { span, path }
    }

    fn raw(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.and_then(|entries| entries.get(name))
    }

    /// The value of a key, by `parse`; else its default, by the same.
    pub(super) fn read<T>(
        &self,
        name: &str,
        parse: impl Fn(&Kind, &DeValue<'_>) -> Result<T, Complaint>,
    ) -> Option<Spot<T>> {
        let key = self.section.key(name);
        debug_assert!(
            key.is_some(),
            "no key {name} in section {}",
            self.section.path
        );
        let key = key?;
        if let Some(given) = self.raw(name) {
            let place = self.child_place(name, Some(given.span()));
            match parse(&key.kind, given.get_ref()) {
                Ok(value) => return Some(Spot { value, place }),
                Err(complaint) => self.problems.error(&place, complaint),
            }
        } else if matches!(key.default, Default::Required) {
            self.missing(key);
        }
        let Default::Is(text) = key.default else {
            return None;
        };
        let default = DeValue::parse(text)
            .ok()
            .and_then(|value| parse(&key.kind, value.get_ref()).ok());
        debug_assert!(
            default.is_some(),
            "default of {}.{name} is not valid",
            self.section.path
        );
        default.map(|value| Spot {
            value,
            place: self.place_of(name),
        })
    }

    /// The complaint about an empty list.
    fn empty(&self, name: &str, or: impl Display) -> Complaint {
        let required = self
            .section
            .key(name)
            .is_some_and(|key| matches!(key.default, Default::Required));
        let complaint = Complaint::new("is empty");
        if required {
            complaint.hint("there must be one at least")
        } else {
            complaint.hint(format!("leave it out, {or}"))
        }
    }

    fn missing(&self, key: &Key) {
        if self.misspelt(key.name) {
            return;
        }
        let complaint =
            Complaint::new(format!("key \"{}\" is missing", key.name)).hint(key.meaning);
        self.problems.error(&self.place, complaint);
    }

    /// Text, if there is any.
    pub(super) fn text(&self, name: &str) -> Option<Spot<String>> {
        self.read(name, |_, value| {
            let text = text_of(value)?;
            if text.trim().is_empty() {
                Err(Complaint::new("is empty"))
            } else {
                Ok(text.to_owned())
            }
        })
    }

    /// A text or a list of them, each with its own place and read by `parse`.
    pub(super) fn texts<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
    ) -> Vec<Spot<T>> {
        self.list(name, |value| text_of(value).and_then(&parse))
    }

    /// Some of the words that are declared.
    pub(super) fn words(&self, name: &str) -> Vec<Spot<&'static str>> {
        let Some(Kind::Words(words)) = self.section.key(name).map(|key| &key.kind) else {
            return Vec::new();
        };
        self.list(name, |value| word_of(words, text_of(value)?))
    }

    /// A value or a list of them, each with its own place and read by `parse`; else the default's.
    pub(super) fn list<T>(
        &self,
        name: &str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, Complaint>,
    ) -> Vec<Spot<T>> {
        let Some(key) = self.section.key(name) else {
            return Vec::new();
        };
        let Some(given) = self.raw(name) else {
            // For the complaint if it must be there.
            let default = self.read(name, |_, value| items(value).map(&parse).collect());
            return default.map_or_else(Vec::new, |Spot { value, place }| {
                let spot = |value| Spot {
                    value,
                    place: place.clone(),
                };
                let values: Vec<T> = value;
                values.into_iter().map(spot).collect()
            });
        };
        let place = self.child_place(name, Some(given.span()));
        let items: Vec<(Location, &DeValue<'_>)> = match given.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| {
                    (
                        Location {
                            span: Some(item.span()),
                            path: format!("{}[{i}]", place.path),
                        },
                        item.get_ref(),
                    )
                })
                .collect(),
            other => vec![(place.clone(), other)],
        };
        if items.is_empty()
            && !matches!(
                key,
                Key {
                    default: Default::Is("[]"),
                    ..
                } | Key {
                    kind: Kind::Words(_),
                    ..
                }
            )
        {
            self.problems
                .error(&place, self.empty(name, "or write what it is for"));
        }
        items
            .into_iter()
            .filter_map(|(place, item)| match parse(item) {
                Ok(value) => Some(Spot { value, place }),
                Err(complaint) => {
                    self.problems.error(&place, complaint);
                    None
                }
            })
            .collect()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.read(name, |_, value| {
            value
                .as_bool()
                .ok_or_else(|| expected("true or false", value))
        })
        .is_some_and(|spot| spot.value)
    }

    /// A number, if there is one.
    pub(super) fn count_if_any(&self, name: &str) -> Option<Spot<u64>> {
        self.read(name, |kind, value| match kind {
            Kind::Count(least, most) => count_of(value, *least, *most),
            _ => Err(Complaint::new("is not declared as a number")),
        })
    }

    /// A number.
    pub(super) fn count(&self, name: &str) -> usize {
        self.count_if_any(name)
            .map_or(0, |spot| usize::try_from(spot.value).unwrap_or(usize::MAX))
    }

    /// A duration, if there is one.
    pub(super) fn duration_if_any(&self, name: &str) -> Option<Duration> {
        self.read(name, duration_of).map(|spot| spot.value)
    }

    /// A duration from `least` to a day, or "off".
    pub(super) fn duration_or_off(&self, name: &str, least: Duration) -> Option<Duration> {
        let bounds = Kind::Duration(least, Duration::from_secs(24 * 60 * 60));
        let read = |_: &Kind, value: &DeValue<'_>| match value.as_str() {
            Some("off") => Ok(None),
            _ => duration_of(&bounds, value).map(Some),
        };
        self.read(name, read).and_then(|spot| spot.value)
    }

    /// A duration.
    pub(super) fn duration(&self, name: &str) -> Duration {
        self.duration_if_any(name).unwrap_or(Duration::from_secs(1))
    }

    /// A size in bytes.
    pub(super) fn size(&self, name: &str) -> u64 {
        self.read(name, |kind, value| {
            let bytes = parse_size(unit_text(value, "size", "\"32KiB\"")?).map_err(|error| {
                bad_unit(
                    &error,
                    "a size is a number with B, KiB, MiB, GiB, KB, MB or GB: \"32KiB\"",
                )
            })?;
            match kind {
                Kind::Size(least, most) => {
                    in_range(&bytes, least, most, format_size(*least), format_size(*most))
                }
                _ => Ok(bytes),
            }
        })
        .map_or(0, |spot| spot.value)
    }

    /// A part of a whole.
    pub(super) fn percent(&self, name: &str) -> f64 {
        self.read(name, percent_of).map_or(0.0, |spot| spot.value)
    }

    /// One of the words that are declared.
    pub(super) fn word(&self, name: &str) -> &'static str {
        self.read(name, |kind, value| match kind {
            Kind::Word(words) => word_of(words, text_of(value)?),
            _ => Err(Complaint::new("is not declared as a word")),
        })
        .map_or("", |spot| spot.value)
    }

    /// The table that a key may hold, with only defaults: for where a text stands in its place.
    pub(super) fn defaults(&self, name: &str) -> Self {
        let child = self.section.child(name).unwrap_or(&NOTHING);
        Self::open(child, None, self.place_of(name), self.problems)
    }

    /// The table that a key holds; one with only defaults if it is not there.
    pub(super) fn table(&self, name: &str) -> Self {
        let child = self.section.child(name);
        debug_assert!(
            child.is_some(),
            "no section for {}.{name}",
            self.section.path
        );
        let child = child.unwrap_or(&NOTHING);
        let Some(given) = self.raw(name) else {
            return Self::open(child, None, self.place_of(name), self.problems);
        };
        let place = self.child_place(name, Some(given.span()));
        if given.get_ref().as_table().is_none() {
            let complaint = expected("a table", given.get_ref());
            self.problems.error(
                &place,
                complaint.hint(format!("open it by {}", child.header)),
            );
        }
        Self::open(child, given.get_ref().as_table(), place, self.problems)
    }

    /// The tables in the list that a key holds.
    pub(super) fn tables(&self, name: &str) -> Vec<Self> {
        let child = self.section.child(name);
        debug_assert!(
            child.is_some(),
            "no section for {}.{name}",
            self.section.path
        );
        let child = child.unwrap_or(&NOTHING);
        let Some(given) = self.raw(name) else {
            return Vec::new();
        };
        let place = self.child_place(name, Some(given.span()));
        let Some(items) = given.get_ref().as_array() else {
            let complaint = expected("a list of tables", given.get_ref());
            self.problems.error(
                &place,
                complaint.hint(format!("open each by {}", child.header)),
            );
            return Vec::new();
        };
        if items.is_empty() {
            self.problems.error(
                &place,
                self.empty(name, format!("or open each by {}", child.header)),
            );
        }
        let mut tables = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let place = Location {
                span: Some(item.span()),
                path: format!("{}[{i}]", place.path),
            };
            match item.get_ref().as_table() {
                Some(entries) => {
                    tables.push(Self::open(child, Some(entries), place, self.problems));
                }
                None => self
                    .problems
                    .error(&place, expected("a table", item.get_ref())),
            }
        }
        tables
    }
}

/// The values of a list, or the one value.
fn items<'v>(value: &'v DeValue<'v>) -> impl Iterator<Item = &'v DeValue<'v>> {
    let (list, one) = match value {
        DeValue::Array(list) => (Some(list), None),
        one => (None, Some(one)),
    };
    list.into_iter().flatten().map(Spanned::get_ref).chain(one)
}

/// The text of a value that must be one.
pub(super) fn text_of<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Complaint> {
    value.as_str().ok_or_else(|| expected("text", value))
}

/// A duration within the limits of its key.
pub(super) fn duration_of(kind: &Kind, value: &DeValue<'_>) -> Result<Duration, Complaint> {
    let duration =
        parse_duration(unit_text(value, "duration", "\"10s\" or \"250ms\"")?).map_err(|error| {
            bad_unit(
                &error,
                "a duration is a number with h, m, s or ms: \"250ms\", \"1m30s\"",
            )
        })?;
    match kind {
        Kind::Duration(least, most) => in_range(
            &duration,
            least,
            most,
            format_duration(*least),
            format_duration(*most),
        ),
        _ => Ok(duration),
    }
}

/// A part of a whole within the limits of its key.
pub(super) fn percent_of(kind: &Kind, value: &DeValue<'_>) -> Result<f64, Complaint> {
    let part = parse_percent(unit_text(value, "percentage", "\"20%\"")?).map_err(|error| {
        bad_unit(
            &error,
            "a percentage is a number with %: \"20%\", \"12.5%\"",
        )
    })?;
    match kind {
        Kind::Percent(least, most) => {
            let (from, to) = (f64::from(*least) / 100.0, f64::from(*most) / 100.0);
            in_range(&part, &from, &to, format!("{least}%"), format!("{most}%"))
        }
        _ => Ok(part),
    }
}

/// A whole number within limits.
pub(super) fn count_of(value: &DeValue<'_>, least: u64, most: u64) -> Result<u64, Complaint> {
    let Some(number) = value.as_integer() else {
        return Err(expected("a number", value));
    };
    match u64::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => in_range(&number, &least, &most, least, most),
        Err(_) => Err(out_of_range(least, most)),
    }
}

/// The declared word that is meant.
pub(super) fn word_of(
    words: &'static [&'static str],
    text: &str,
) -> Result<&'static str, Complaint> {
    words
        .iter()
        .find(|word| **word == text)
        .copied()
        .ok_or_else(|| {
            let hint = match nearest(text, words.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write {}", Kind::Word(words).describe()),
            };
            Complaint::new(format!("\"{text}\" is not one of its values")).hint(hint)
        })
}

/// The complaint about a value of another type.
pub(super) fn expected(what: &str, found: &DeValue<'_>) -> Complaint {
    let found = match found {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Complaint::new(format!("must be {what}, not {found}"))
}

fn unit_text<'v>(value: &'v DeValue<'_>, what: &str, example: &str) -> Result<&'v str, Complaint> {
    value.as_str().ok_or_else(|| {
        expected(&format!("a {what}"), value).hint(format!("with its unit: {example}"))
    })
}

fn bad_unit(error: &UnitError, hint: &str) -> Complaint {
    Complaint::new(error.to_string()).hint(hint)
}

fn in_range<T: PartialOrd + Copy>(
    value: &T,
    least: &T,
    most: &T,
    least_text: impl Display,
    most_text: impl Display,
) -> Result<T, Complaint> {
    if value >= least && value <= most {
        Ok(*value)
    } else {
        Err(out_of_range(least_text, most_text))
    }
}

fn out_of_range(least: impl Display, most: impl Display) -> Complaint {
    Complaint::new("is out of range").hint(format!("from {least} to {most}"))
}
