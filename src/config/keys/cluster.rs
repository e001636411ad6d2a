//! Keys of clusters and their servers.

use std::time::Duration;

use super::parts::{DAY, KIB, MIB, TIME, key};
use crate::balance::{Admin, Lending, Role};
use crate::config::form::Default::{Is, Means, Required};
use crate::config::form::Kind::{
    self, Count, Flag, Forms, Percent, Size, Table, Tables, Text, Word,
};
use crate::config::form::Section;
use crate::plan::{Binding, Connect, On5xx, OnClientAbort, OnUnavailable};

/// What somebody decides.
const ADMIN: &[&str] = Admin::WORDS;

pub(super) static CLUSTER: Section = Section {
    path: "cluster",
    header: "[[cluster]]",
    about: "Servers that can stand in for each other. There must be one at least.",
    keys: &[
        key(
            "name",
            Text,
            Required,
            "Its name in routes and logs, its own among clusters.",
        ),
        key(
            "admin",
            Word(ADMIN),
            Is("\"enabled\""),
            "Whether it is in use. \"draining\": what waits is still served, what comes is \
             answered by 503. \"disabled\": only what is being served is ended.",
        ),
        key(
            "scheduler",
            Forms("a type from `[cluster.scheduler]`, or table"),
            Is("\"round_robin\""),
            "How the next server is chosen. A text is short for a table with only that type.",
        ),
        key(
            "client_key",
            Forms("\"address\", \"none\", \"field:NAME\" or \"cookie:NAME\""),
            Is("\"address\""),
            "Whose a request is: clients take turns in a queue, have a part of it each, and keep \
             their server with \"rendezvous\" and \"jump\". The client's address (of IPv6 the \
             first 64 bits; behind a trusted proxy, the address that the proxy names), or the \
             value of a request field or cookie, without which it is the address; \"none\" is \
             nobody's. For turns and parts a field or cookie counts only if a peer sends it that \
             the listener trusts (`forwarded.trusted`).",
        ),
        key(
            "capacity",
            Count(1, 10_000),
            Is("5"),
            "Of each of its servers: worker threads = connections = most requests at once.",
        ),
        key(
            "binding",
            Word(Binding::WORDS),
            Is("\"late\""),
            "\"late\": to the next server that has a free connection. \"early\": to the next \
             server at once, and wait for that one. Guarantees of buckets, and turns, then hold \
             for nobody.",
        ),
        key(
            "connect",
            Word(Connect::WORDS),
            Is("\"auto\""),
            "When a worker connects to its server. \"warm\": before it is needed. \"on_demand\": for \
             a request, for servers that work on one connection at a time. \"auto\": as the \
             server's first responses show. A server that leaves its connections open, used or \
             not, is kept warm. One that ends them is served on demand. docs/servers.md tells \
             which server is which.",
        ),
        key(
            "keep",
            Kind::Duration(Duration::ZERO, DAY),
            Is("\"0s\""),
            "How long a worker that connects on demand keeps a connection that the server leaves \
             open, when it has nothing to do.",
        ),
        key(
            "lane",
            Count(0, 10_000),
            Is("100"),
            "Connections of each server beside those of its workers, for what is long: streams, \
             tunnels (`route.upgrade`), and big responses that their clients take slowly go on \
             there, and their workers serve others. A server sees `capacity` + `lane` connections \
             at most. With 0 a stream holds its worker, and tunnels are refused.",
        ),
        key(
            "pipeline",
            Count(1, 64),
            Is("1"),
            "How many waiting requests (GET or HEAD without a body) may be sent on one connection \
             at once, before the first is answered. Faster under load, but only for servers that \
             are known to pipeline rightly: one that answers a request twice, or one not at all, \
             can make an answer reach the wrong client. 1 is off.",
        ),
        key(
            "queue",
            Table,
            Means("all defaults"),
            "Requests that wait for a server.",
        ),
        key("retry", Table, Means("all defaults"), "Second attempts."),
        key(
            "on_5xx",
            Word(On5xx::WORDS),
            Is("\"pass\""),
            "A server's 5xx is handed on; or tried on another server where that is safe, else \
             handed on; or answered by 502 in its place.",
        ),
        key(
            "on_unavailable",
            Word(OnUnavailable::WORDS),
            Is("\"refuse\""),
            "While no server can be reached: 503 at once, or wait in the queue.",
        ),
        key(
            "on_client_abort",
            Word(OnClientAbort::WORDS),
            Is("\"close\""),
            "When a client leaves while a server works for it. \"close\": close the connection \
             after `timeout.abort` (caps connections; the server may go on unseen). \"notify\": \
             the same, but shut our sending side at once, for servers that stop working then. \
             \"ignore\": read the answer to its end (caps requests at work in the server).",
        ),
        key("timeout", Table, Means("all defaults"), "Limits in time."),
        key(
            "deadline_field",
            Text,
            Means("none"),
            "Name of the request field, such as \"grpc-timeout\", that says how much time a \
             client gives the whole exchange. Who cannot be answered in that time is refused at \
             once.",
        ),
        key("limit", Table, Means("all defaults"), "Limits in size."),
        key(
            "error_page",
            Tables,
            Means("none"),
            "Pages to send in place of the short text, before those of the listener.",
        ),
        key(
            "health",
            Table,
            Means("a server is used while it can be connected to"),
            "How its servers are looked after.",
        ),
        key(
            "bucket",
            Tables,
            Means("none"),
            "Shares of the cluster that are assured to some requests.",
        ),
        key(
            "lending",
            Word(Lending::WORDS),
            Is("\"work_conserving\""),
            "What is assured to a bucket and not used is lent to others up to their ceilings, and \
             comes back with the next slot that becomes free; or it stays free, so that the \
             bucket need not wait.",
        ),
        key(
            "server",
            Tables,
            Required,
            "Its servers, in the order of the round.",
        ),
    ],
};

pub(super) static QUEUE: Section = Section {
    path: "cluster.queue",
    header: "[cluster.queue]",
    about: "Requests that wait for a server with a free connection.",
    keys: &[
        key(
            "limit",
            Count(0, 1_000_000),
            Means("as `process.max_sessions`"),
            "Most of them; one more is answered by 503.",
        ),
        key(
            "timeout",
            TIME,
            Is("\"30s\""),
            "How long one waits before it is answered by 504.",
        ),
    ],
};

pub(super) static RETRY: Section = Section {
    path: "cluster.retry",
    header: "[cluster.retry]",
    about: "Second attempts, on another server if there is one, and only where that is safe: \
            nothing was sent yet, or the method is idempotent and no answer has come.",
    keys: &[
        key(
            "attempts",
            Count(1, 100),
            Is("3"),
            "How often a request is sent in all; 1 is never again.",
        ),
        key(
            "budget",
            Percent(0, 100),
            Is("\"20%\""),
            "Retries in progress may be this part of all requests in progress, but always 10.",
        ),
        key(
            "back_off",
            Kind::Duration(Duration::ZERO, Duration::from_secs(60)),
            Is("\"20ms\""),
            "A request's second retry waits so long and every further one twice as long as the \
             one before, up to 1s if that is more; it counts in the budget meanwhile. The first \
             one does not wait.",
        ),
    ],
};

pub(super) static TIMEOUT: Section = Section {
    path: "cluster.timeout",
    header: "[cluster.timeout]",
    about: "How long a cluster's servers may take.",
    keys: &[
        key("connect", TIME, Is("\"3s\""), "To accept a connection."),
        key("send", TIME, Is("\"30s\""), "To take none of a request."),
        key(
            "first_byte",
            TIME,
            Is("\"60s\""),
            "From the end of a request to the head of the response.",
        ),
        key(
            "read",
            TIME,
            Is("\"60s\""),
            "Between two pieces of a response.",
        ),
        key(
            "stream",
            TIME,
            Is("\"1h\""),
            "Between two pieces of a stream (`route.stream`, text/event-stream), or of what \
             either side says in a tunnel (`route.upgrade`).",
        ),
        key(
            "abort",
            TIME,
            Is("\"2s\""),
            "To finish a request whose client has left, before the connection is closed.",
        ),
    ],
};

pub(super) static LIMIT: Section = Section {
    path: "cluster.limit",
    header: "[cluster.limit]",
    about: "How much a cluster's servers may send.",
    keys: &[
        key(
            "head",
            Size(KIB, 16 * MIB),
            Is("\"64KiB\""),
            "Status line and fields of a response. Interim responses to one request may have \
             eight times that together.",
        ),
        key(
            "response_fields",
            Count(1, 10_000),
            Is("1000"),
            "Field lines of a response, and of its trailers.",
        ),
    ],
};

pub(super) static ERROR_PAGE: Section = Section {
    path: "cluster.error_page",
    header: "[[cluster.error_page]]",
    about: "A page of your own for a failure that the balancer itself answers, of a request whose \
            route leads to this cluster: 400, 408, 413 and 431 (of the body and its trailers), \
            502, 503 and 504. Others are the listener's. A server's own errors are not touched.",
    keys: &[
        key("status", Count(400, 599), Required, "For this status."),
        key(
            "file",
            Text,
            Required,
            "The page; at most 1 MiB, read at the start and at each reload.",
        ),
        key(
            "content_type",
            Text,
            Is("\"text/html\""),
            "Its Content-Type.",
        ),
    ],
};

pub(super) static SERVER: Section = Section {
    path: "cluster.server",
    header: "[[cluster.server]]",
    about: "One server. There must be one at least in each cluster.",
    keys: &[
        key(
            "name",
            Text,
            Means("the address"),
            "Its name in logs, its own in the cluster.",
        ),
        key(
            "address",
            Text,
            Required,
            "\"127.0.0.1:6901\", \"[::1]:6901\", \"unix:/path\", or a name: \
             \"app.example.org:6901\". Names are looked up at start and again every \
             `process.resolve`; \"localhost\" is 127.0.0.1.",
        ),
        key(
            "capacity",
            Count(1, 10_000),
            Means("the cluster's"),
            "Worker threads = connections = most requests at once.",
        ),
        key(
            "role",
            Word(&[
                Role::Active.word(),
                Role::Standby.word(),
                Role::Backup.word(),
            ]),
            Is("\"active\""),
            "For the usual work; for when no active server has a free connection; for when there \
             is no active and no standby server.",
        ),
        key(
            "weight",
            Count(1, 1000),
            Is("1"),
            "Its share of the requests beside others of its role.",
        ),
        key(
            "admin",
            Word(ADMIN),
            Is("\"enabled\""),
            "Whether it is in use. \"draining\": it gets nothing new and keeps its connections. \
             \"disabled\": they are closed too.",
        ),
        key(
            "protected",
            Flag,
            Is("false"),
            "It cannot be removed while the balancer runs, only disabled.",
        ),
    ],
};
