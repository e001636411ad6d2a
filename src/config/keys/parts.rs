//! What declarations of keys are made of.

use std::time::Duration;

use crate::config::form::{Default, Key, Kind};

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const TIB: u64 = 1 << 40;

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// No wait in here is meant to be longer than a day.
pub(super) const TIME: Kind = Kind::Duration(Duration::from_millis(1), DAY);

pub(super) const fn key(
    name: &'static str,
    kind: Kind,
    default: Default,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
    }
}
