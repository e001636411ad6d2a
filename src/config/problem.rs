//! What is wrong with a configuration, where, and what to do about it.
//!
//! Problems are collected and never stop the reading: whoever has made five mistakes learns of
//! five.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use crate::plan::check::Severity;
use crate::plan::check::{Objection, Subject};

/// One thing to be told about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the program from starting.
    pub severity: Severity,
    /// The file that it is in; `None` where there is none but the command line.
    pub file: Option<PathBuf>,
    /// Line and column, both from 1; `None` where it concerns the whole.
    pub position: Option<(usize, usize)>,
    /// The key, from the top: `cluster[0].server[1].address`. May be empty.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:", file.display())?,
            None => f.write_str("command line:")?,
        }
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// What is wrong with one value, before it is known where that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// What is wrong.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Complaint {
    /// Only what is wrong.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
        }
    }

    /// Returns the complaint with what to do about it.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint
            .as_ref()
            .map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for Complaint {}

/// Where something stands in a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Location {
    /// Bytes from and to; `None` for what was not written down (a default, say).
    pub(super) span: Option<Range<usize>>,
    /// The key, from the top.
    pub(super) path: String,
}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Spot<T> {
    /// What was read.
    pub(super) value: T,
    /// From where.
    pub(super) place: Location,
}

/// The problems found so far, and the text that they are in.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    file: Option<&'a Path>,
    text: &'a str,
    /// What was read before need not be readable any more.
    is_reload: bool,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl<'a> Problems<'a> {
    /// None so far, in this text of this file.
    pub(super) fn new(file: Option<&'a Path>, text: &'a str) -> Self {
        Self {
            file,
            text,
            is_reload: false,
            found: RefCell::new(Vec::new()),
        }
    }

    /// Returns them for a program that runs already.
    pub(super) fn of_reload(self, is_reload: bool) -> Self {
        Self { is_reload, ..self }
    }

    /// Returns whether what was read before need not be readable any more.
    pub(super) fn is_reload(&self) -> bool {
        self.is_reload
    }

    /// A path as it is meant in the file: relative ones start at the file's folder.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match self.file.and_then(Path::parent) {
            Some(folder) => folder.join(path),
            None => PathBuf::from(path),
        }
    }

    /// Adds what makes the configuration unusable.
    pub(super) fn error(&self, place: &Location, complaint: Complaint) {
        self.add(Severity::Error, place, complaint);
    }

    /// Adds what is only suspicious.
    pub(super) fn warning(&self, place: &Location, complaint: Complaint) {
        self.add(Severity::Warning, place, complaint);
    }

    /// Adds an objection, about the subject at this place. `place_of` finds the place of another
    /// subject that it names.
    pub(super) fn object(
        &self,
        objection: Objection,
        place_of: impl Fn(Subject) -> Option<Location>,
    ) {
        let place = place_of(objection.subject).unwrap_or_default();
        let message = match objection.other.and_then(&place_of) {
            Some(other) => format!("{} {}", objection.text, self.as_in(&other)),
            None => objection.text,
        };
        let hint = objection.hint;
        self.add(objection.severity, &place, Complaint { message, hint });
    }

    fn add(&self, severity: Severity, place: &Location, complaint: Complaint) {
        let start = place.span.as_ref().map(|span| span.start);
        let problem = Problem {
            severity,
            file: self.file.map(Path::to_owned),
            position: start.map(|start| self.position(start)),
            key: place.path.clone(),
            message: complaint.message,
            hint: complaint.hint,
        };
        // What concerns the whole comes last.
        self.found
            .borrow_mut()
            .push((start.unwrap_or(usize::MAX), problem));
    }

    /// Line and column of a byte of the text, both from 1; a column is a character.
    fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[line_start..].chars().count() + 1,
        )
    }

    /// Line of a place, for messages about another one ("as in line 7").
    pub(super) fn line(&self, place: &Location) -> Option<usize> {
        place.span.as_ref().map(|span| self.position(span.start).0)
    }

    /// Where something was said first, in words for a message.
    pub(super) fn as_in(&self, place: &Location) -> String {
        match self.line(place) {
            Some(line) => format!("{} in line {line}", place.path),
            None => place.path.clone(),
        }
    }

    /// Returns whether any of them keeps the program from starting.
    pub(super) fn fatal(&self) -> bool {
        self.found
            .borrow()
            .iter()
            .any(|(_, problem)| problem.severity == Severity::Error)
    }

    /// All of them, in the order of the file.
    pub(super) fn into_sorted(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(start, _)| *start);
        let mut problems: Vec<_> = found.into_iter().map(|(_, problem)| problem).collect();
        problems.dedup();
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let problems = Problems::new(None, "ä = 1\nöö = 2\n");
        assert_eq!(problems.position(0), (1, 1));
        assert_eq!(problems.position(2), (1, 2));
        assert_eq!(problems.position(7), (2, 1));
        assert_eq!(problems.position(11), (2, 3));
        assert_eq!(problems.position(999), (3, 1));
    }
}
