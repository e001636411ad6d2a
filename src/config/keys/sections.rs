//! All tables of the file.

use crate::config::form::Default::{Means, Required};
use crate::config::form::Kind::{Table, Tables};
use crate::config::form::Section;

use super::parts::key;
use super::{cluster, health, listener, process, sharing};

/// All tables of the file, in the order in which they are printed.
pub(in crate::config) static SECTIONS: &[&Section] = &[
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
    &health::HEALTH,
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

/// The section of this path.
pub(in crate::config) fn section(path: &str) -> Option<&'static Section> {
    SECTIONS
        .iter()
        .copied()
        .find(|section| section.path == path)
}

impl Section {
    /// The section of the table that a key of this one holds.
    pub(in crate::config) fn child(&self, name: &str) -> Option<&'static Self> {
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        section(&path)
    }
}
