//! Keys of health checks.

use std::time::Duration;

use super::parts::{DAY, TIME, key};
use crate::config::form::Default::{Is, Means};
use crate::config::form::Kind::{
    self, Count, Flag, Forms, Percent, Table, Text, Texts, Word, Words,
};
use crate::config::form::Section;
use crate::health::Mode;

/// Between two probes: a server is to be looked after, not kept busy.
const PAUSE: Kind = Kind::Duration(Duration::from_millis(10), DAY);

/// What went wrong, in the order of `health::FaultClass`.
pub(in crate::config) const CLASSES: &[&str] =
    &["connect", "broken", "timeout", "protocol", "status"];

/// Failures in a row.
const STREAK: Kind = Count(0, 1000);

pub(in crate::config) static HEALTH: Section = Section {
    path: "cluster.health",
    header: "[cluster.health]",
    about: "How a cluster's servers are looked after. Without this table a server is used as long \
            as it can be connected to.",
    keys: &[
        key(
            "mode",
            Word(Mode::WORDS),
            Is("\"paranoid\""),
            "When a server is probed. Always, and not used before a probe has shown that it \
             works; while it is offline and when it has had nothing to do for an interval; only \
             while it is offline; never, as without this table.",
        ),
        key(
            "type",
            Word(&["tcp", "http"]),
            Means("\"http\" if `path` is given, else \"tcp\""),
            "What a probe is: a new connection, or a request over one. The keys of requests go \
             with \"http\" alone.",
        ),
        key(
            "method",
            Word(&["GET", "HEAD", "OPTIONS", "POST", "PUT"]),
            Is("\"GET\""),
            "The request's method; POST and PUT may have a body (`send`).",
        ),
        key(
            "path",
            Text,
            Is("\"/\""),
            "The request's path, with a query or without; \"*\" for OPTIONS.",
        ),
        key(
            "host",
            Text,
            Is("\"localhost\""),
            "The request's Host field: for servers that answer some names only.",
        ),
        key(
            "fields",
            Texts,
            Is("[]"),
            "More fields of the request: \"Name: value\". A User-Agent in there takes the place \
             of ours, juggler-health-check.",
        ),
        key(
            "send",
            Text,
            Means("none"),
            "The request's body, at most 4 KiB, with POST or PUT. Its length goes with it; what \
             it is can be said in `fields` (Content-Type).",
        ),
        key(
            "port",
            Count(1, 65_535),
            Means("the server's own"),
            "Probes go to this port of each server's address. Each then has a short connection of \
             its own; to the server's own port there is none but its capacity.",
        ),
        key(
            "probe_when_busy",
            Flag,
            Is("true"),
            "A server whose connections are all at work, and over which nothing has come for an \
             `interval` or which is suspected, is probed over one more, the only one beyond its \
             capacity. Switch it off for servers that cannot answer a probe while they work on as \
             many requests as they have capacity.",
        ),
        key(
            "expect",
            Forms("status, range of them, or list of these"),
            Is("[\"200-399\"]"),
            "Statuses of a server that works, 200 to 599: [200, \"300-399\"].",
        ),
        key(
            "body",
            Text,
            Means("any"),
            "Text that must be in the response's body.",
        ),
        key(
            "interval",
            PAUSE,
            Is("\"2s\""),
            "From the end of a probe to the start of the next.",
        ),
        key(
            "jitter",
            Percent(0, 50),
            Is("\"10%\""),
            "That is made longer or shorter by up to this part, so that servers are not all \
             probed at once.",
        ),
        key(
            "timeout",
            TIME,
            Is("\"2s\""),
            "A probe without a result after so long has failed.",
        ),
        key(
            "recheck",
            PAUSE,
            Is("\"500ms\""),
            "The next probe comes so soon after a failure that has not yet taken the server out \
             of use.",
        ),
        key(
            "rise",
            Count(1, 100),
            Is("2"),
            "So many good probes one after the other bring a server online.",
        ),
        key(
            "fall",
            Count(1, 100),
            Is("2"),
            "So many failed probes one after the other take it offline.",
        ),
        key(
            "panic",
            Percent(0, 100),
            Is("\"50%\""),
            "At least this part of the servers stays in use, offline or not, those first that \
             fell last: if most fail at once, the fault is likely elsewhere. \"0%\" is never.",
        ),
        key(
            "slow_start",
            Kind::Duration(Duration::ZERO, DAY),
            Is("\"0s\""),
            "A server that has come online is given its share step by step for so long.",
        ),
        key(
            "sticky_offline",
            Flag,
            Is("false"),
            "A server that was online, fell and is back stays out of use until somebody releases \
             it (`juggler release`), but for `panic`. Kept in `process.state`.",
        ),
        key(
            "passive",
            Table,
            Means("all defaults"),
            "What the traffic shows of a server.",
        ),
    ],
};

pub(super) static PASSIVE: Section = Section {
    path: "cluster.health.passive",
    header: "[cluster.health.passive]",
    about: "When failed requests take a server offline, without a probe: after so many failures \
            of one kind in a row (0 is never, and one failure is never enough), or if they are \
            too great a part of all.",
    keys: &[
        key("connect", STREAK, Is("3"), "No connection could be made."),
        key(
            "broken",
            STREAK,
            Is("5"),
            "The connection broke before the response was whole.",
        ),
        key("timeout", STREAK, Is("5"), "There was no answer in time."),
        key("protocol", STREAK, Is("5"), "What came was no HTTP."),
        key("status", STREAK, Is("0"), "The server answered with 5xx."),
        key(
            "ratio",
            Percent(1, 100),
            Is("\"50%\""),
            "So great a part of the requests within `window` failed.",
        ),
        key(
            "least",
            Count(2, 4096),
            Is("20"),
            "But only if there were so many.",
        ),
        key(
            "window",
            Kind::Duration(Duration::from_millis(100), Duration::from_secs(60 * 60)),
            Is("\"10s\""),
            "How far back that looks.",
        ),
        key(
            "classes",
            Words(CLASSES),
            Is("[\"connect\", \"broken\", \"timeout\", \"protocol\"]"),
            "Which failures count for `ratio`; an empty list switches it off.",
        ),
    ],
};
