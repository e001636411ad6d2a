//! The table of every key: declared here, once, and nowhere else.

mod cluster;
mod health;
mod listener;
mod process;
mod sharing;

use std::time::Duration;

use super::reference::Default::{Means, Required};
use super::reference::Kind::{Table, Tables};
use super::reference::{Default, Key, Kind, Section};

pub(super) use health::{CLASSES, HEALTH};
pub(super) use sharing::SCHEDULERS;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// No wait in here is meant to be longer than a day.
const TIME: Kind = Kind::Duration(Duration::from_millis(1), DAY);

const fn key(name: &'static str, kind: Kind, default: Default, meaning: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
    }
}

/// All tables of the file, in the order in which they are printed.
pub(super) static SECTIONS: &[&Section] = &[
    &FILE,
    &process::PROCESS,
    &process::BUFFERS,
    &process::SPOOL,
    &process::LOG,
    &listener::LISTENER,
    &listener::TLS,
    &listener::CERTIFICATES,
    &listener::TIMEOUT,
    &listener::LIMIT,
    &listener::FORWARDED,
    &listener::ERROR_PAGE,
    &sharing::ROUTE,
    &cluster::CLUSTER,
    &cluster::SERVER,
    &sharing::SCHEDULER,
    &sharing::BUCKET,
    &sharing::BUCKET_QUEUE,
    &HEALTH,
    &health::PASSIVE,
    &cluster::QUEUE,
    &cluster::RETRY,
    &cluster::TIMEOUT,
    &cluster::LIMIT,
    &cluster::ERROR_PAGE,
];

static FILE: Section = Section {
    path: "",
    header: "",
    about: "The file itself.",
    keys: &[
        key(
            "process",
            Table,
            Means("all defaults"),
            "What concerns the whole process.",
        ),
        key(
            "buffers",
            Table,
            Means("all defaults"),
            "Memory for bodies in transit.",
        ),
        key(
            "spool",
            Table,
            Means("all defaults"),
            "Temporary files for bodies in transit.",
        ),
        key(
            "log",
            Table,
            Means("all defaults"),
            "Messages and access log.",
        ),
        key("listener", Tables, Required, "Where clients come in."),
        key(
            "route",
            Tables,
            Means("one to the cluster, if there is just one"),
            "Which request goes where.",
        ),
        key("cluster", Tables, Required, "Where requests go."),
    ],
};
