//! Keys of what is there once.

use std::time::Duration;

use super::parts::{DAY, KIB, MIB, TIB, TIME, key};
use crate::config::form::Default::{Is, Means};
use crate::config::form::Kind::{self, Count, Forms, Size, Text, Word};
use crate::config::form::Section;
use crate::plan::AccessFormat;

pub(super) static PROCESS: Section = Section {
    path: "process",
    header: "[process]",
    about: "What concerns the whole process.",
    keys: &[
        key(
            "user",
            Text,
            Means("stays who it is"),
            "User to become once everything is bound, when started as root.",
        ),
        key(
            "group",
            Text,
            Means("the user's own"),
            "Group to become together with the user.",
        ),
        key(
            "max_sessions",
            Count(1, 1_000_000),
            Is("16384"),
            "Most client connections at once; more wait in the kernel's backlog. Lowered at start \
             to what the system's limits bear.",
        ),
        key(
            "max_requests",
            Count(0, 1_000_000),
            Is("0"),
            "Most requests at once, waiting ones included; 0 is as many as sessions.",
        ),
        key(
            "idle_threads",
            Count(1, 1_000),
            Is("2"),
            "Threads that always wait for the next client, for each bound address.",
        ),
        key(
            "scheduling",
            Word(&["normal", "batch"]),
            Is("\"batch\""),
            "Scheduling class of the threads that serve clients and servers. With \"batch\" a \
             thread that is woken does not preempt the one that woke it, which here saves \
             switches between the two.",
        ),
        key(
            "drain",
            TIME,
            Is("\"30s\""),
            "How long a stop waits for what is in progress.",
        ),
        key(
            "drain_delay",
            Kind::Duration(Duration::ZERO, DAY),
            Is("\"0s\""),
            "For so long a stop changes nothing yet but `listener.health_path`, which answers \
             503: clients are still accepted and served as always, until a balancer in front has \
             noticed. Then `drain` begins.",
        ),
        key(
            "summary",
            Forms("\"off\" or duration"),
            Is("\"off\""),
            "How often one line with the figures of the moment is written.",
        ),
        key(
            "resolve",
            Kind::Duration(Duration::from_millis(100), DAY),
            Is("\"30s\""),
            "How often the names of servers are looked up again, also after a failure.",
        ),
        key(
            "state",
            Forms("\"off\" or the path of a file"),
            Means("state.json in the folder that systemd gives (STATE_DIRECTORY), else \"off\""),
            "Where what must outlive a restart is kept: servers that are held offline \
             (`cluster.health.sticky_offline`).",
        ),
    ],
};

pub(super) static BUFFERS: Section = Section {
    path: "buffers",
    header: "[buffers]",
    about: "Memory for bodies in transit: `region / size` buffers, made on first use and used \
            again. When all are in use, the spool is next.",
    keys: &[
        key(
            "region",
            Size(MIB, 64 * TIB),
            Is("\"1GiB\""),
            "All buffers together.",
        ),
        key(
            "size",
            Size(4 * KIB, 16 * MIB),
            Is("\"64KiB\""),
            "One buffer.",
        ),
    ],
};

pub(super) static SPOOL: Section = Section {
    path: "spool",
    header: "[spool]",
    about: "Temporary files without a name, for request bodies too big for memory and for \
            responses that slow clients have not taken yet.",
    keys: &[
        key(
            "folder",
            Text,
            Means("the system's folder for temporary files"),
            "Where they are made.",
        ),
        key(
            "limit",
            Size(0, 1024 * TIB),
            Is("\"2GiB\""),
            "All of them together.",
        ),
    ],
};

pub(super) static LOG: Section = Section {
    path: "log",
    header: "[log]",
    about: "Messages on standard error, and the access log.",
    keys: &[
        key(
            "level",
            Word(&["off", "error", "warn", "info", "debug", "trace"]),
            Is("\"info\""),
            "Least level of messages; the environment variable RUST_LOG goes before it.",
        ),
        key(
            "access",
            Forms("\"off\", \"stdout\" or the path of a file"),
            Is("\"off\""),
            "Where one line for each request goes. A file is opened again on SIGHUP.",
        ),
        key(
            "format",
            Word(AccessFormat::WORDS),
            Is("\"combined\""),
            "Form of these lines.",
        ),
        key(
            "queue",
            Size(64 * KIB, 1 << 30),
            Is("\"16MiB\""),
            "Most memory for lines that wait to be written, of messages and of the access log \
             each. Further lines are dropped, counted and told: no request ever waits for a log.",
        ),
    ],
};
