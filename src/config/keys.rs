//! The table of every key: declared here, once, and nowhere else.

use std::time::Duration;

use super::reference::Default::{Is, Means, Required};
use super::reference::Kind::{Count, Flag, Forms, Later, Percent, Size, Table, Tables, Text, Texts, Word};
use super::reference::{Default, Key, Kind, Section};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// No wait in here is meant to be longer than a day.
const TIME: Kind = Kind::Duration(Duration::from_millis(1), Duration::from_secs(24 * 60 * 60));

const fn key(name: &'static str, kind: Kind, default: Default, meaning: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        meaning,
    }
}

/// All tables of the file, in the order in which they are printed.
pub(super) static SECTIONS: &[Section] = &[
    Section {
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
            key("buffers", Table, Means("all defaults"), "Memory for bodies in transit."),
            key(
                "spool",
                Table,
                Means("all defaults"),
                "Temporary files for bodies in transit.",
            ),
            key("log", Table, Means("all defaults"), "Messages and access log."),
            key("listener", Tables, Required, "Where clients come in."),
            key(
                "route",
                Tables,
                Means("one to the cluster, if there is just one"),
                "Which request goes where.",
            ),
            key("cluster", Tables, Required, "Where requests go."),
        ],
    },
    Section {
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
                "Most client connections at once; more wait in the kernel's backlog. Lowered at start to what the \
                 system's limits bear.",
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
                "Scheduling class of the threads that serve clients and servers. With \"batch\" a thread that is woken does not \
                 preempt the one that woke it, which here saves switches between the two.",
            ),
            key(
                "drain",
                TIME,
                Is("\"30s\""),
                "How long a stop waits for what is in progress.",
            ),
            key(
                "summary",
                Forms("\"off\" or duration"),
                Is("\"off\""),
                "How often one line with the figures of the moment is written.",
            ),
        ],
    },
    Section {
        path: "buffers",
        header: "[buffers]",
        about: "Memory for bodies in transit: `region / size` buffers, made on first use and used again. When all are \
                in use, the spool is next.",
        keys: &[
            key("region", Size(MIB, 64 * TIB), Is("\"1GiB\""), "All buffers together."),
            key("size", Size(4 * KIB, 16 * MIB), Is("\"64KiB\""), "One buffer."),
        ],
    },
    Section {
        path: "spool",
        header: "[spool]",
        about: "Temporary files without a name, for request bodies too big for memory and for responses that slow \
                clients have not taken yet.",
        keys: &[
            key(
                "folder",
                Text,
                Means("the system's folder for temporary files"),
                "Where they are made.",
            ),
            key("limit", Size(0, 1024 * TIB), Is("\"2GiB\""), "All of them together."),
        ],
    },
    Section {
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
                Word(&["combined", "json"]),
                Is("\"combined\""),
                "Form of these lines.",
            ),
        ],
    },
    Section {
        path: "listener",
        header: "[[listener]]",
        about: "Where clients come in. There must be one at least.",
        keys: &[
            key("name", Text, Required, "Its name in logs, its own among listeners."),
            key(
                "bind",
                Texts,
                Required,
                "Addresses: \"0.0.0.0:80\" is all of IPv4, \"[::]:80\" all of IPv6, \"*:80\" both, \
                 \"localhost:8080\" is 127.0.0.1, \"unix:/run/juggler.sock\" a socket file.",
            ),
            key(
                "backlog",
                Count(1, 1 << 20),
                Is("4096"),
                "Connections that the kernel holds until they are accepted.",
            ),
            key("tls", Table, Means("plain HTTP"), "Makes it HTTPS."),
            key(
                "optional",
                Flag,
                Is("false"),
                "Leave it out, with a warning, while files of its certificates are not there.",
            ),
            key(
                "proxy_protocol",
                Texts,
                Is("[]"),
                "Addresses and networks whose connections must start with a PROXY protocol header (v1 or v2), such as \
                 \"10.0.0.0/8\". Others' connections are taken as they are.",
            ),
            key(
                "redirect_https",
                Forms("true, false or a port number"),
                Is("false"),
                "Answer every request with a redirect to https; true is port 443.",
            ),
            key(
                "sessions_per_address",
                Count(0, 1_000_000),
                Is("0"),
                "Most connections at once from one client address; 0 is no limit.",
            ),
            key(
                "half_close",
                Word(&["abort", "serve"]),
                Is("\"abort\""),
                "A client that shuts only its sending side is taken for gone, or still served.",
            ),
            key(
                "health_path",
                Text,
                Means("none"),
                "Path that answers for the balancer itself: 200, or 503 while it drains.",
            ),
            key("timeout", Table, Means("all defaults"), "Limits in time."),
            key("limit", Table, Means("all defaults"), "Limits in size."),
            key(
                "forwarded",
                Forms("\"off\", \"x-forwarded\", \"rfc7239\" or table"),
                Is("\"off\""),
                "Fields that tell servers of the client. A text is short for a table with only that style.",
            ),
            key(
                "via",
                Forms("false or text"),
                Is("false"),
                "Name to add to the Via field, both ways.",
            ),
            key(
                "request_id",
                Flag,
                Is("false"),
                "Add an X-Request-Id field where the client sent none.",
            ),
        ],
    },
    Section {
        path: "listener.tls",
        header: "[listener.tls]",
        about: "Makes a listener HTTPS.",
        keys: &[
            key(
                "certificates",
                Tables,
                Required,
                "Certificates with their keys. The name that a client asks for chooses; the first one serves unknown \
                 names.",
            ),
            key(
                "min_version",
                Word(&["1.2", "1.3"]),
                Is("\"1.2\""),
                "Oldest version of TLS to accept.",
            ),
        ],
    },
    Section {
        path: "listener.tls.certificates",
        header: "[[listener.tls.certificates]]",
        about: "One certificate. Relative paths start at the folder of the configuration file.",
        keys: &[
            key(
                "chain",
                Text,
                Required,
                "PEM file: the certificate, then those that vouch for it.",
            ),
            key(
                "key",
                Text,
                Required,
                "PEM file: its private key (PKCS#8, PKCS#1 or SEC1), not encrypted.",
            ),
        ],
    },
    Section {
        path: "listener.timeout",
        header: "[listener.timeout]",
        about: "How long a listener's clients may take.",
        keys: &[
            key(
                "handshake",
                TIME,
                Is("\"10s\""),
                "PROXY protocol header and TLS handshake.",
            ),
            key(
                "header",
                TIME,
                Is("\"10s\""),
                "A whole request head, from its first byte.",
            ),
            key(
                "body",
                TIME,
                Is("\"60s\""),
                "A whole request body, from its first byte.",
            ),
            key(
                "idle",
                TIME,
                Is("\"60s\""),
                "Between the end of a response and the next request.",
            ),
            key(
                "write",
                TIME,
                Is("\"30s\""),
                "To take none of a response, or less of it than `limit.min_rate` asks for.",
            ),
        ],
    },
    Section {
        path: "listener.limit",
        header: "[listener.limit]",
        about: "How much a listener's clients may send, and leave lying.",
        keys: &[
            key(
                "head",
                Size(KIB, MIB),
                Is("\"32KiB\""),
                "Request line and fields; the same for trailers.",
            ),
            key("fields", Count(1, 10_000), Is("100"), "Number of fields."),
            key("target", Size(64, MIB), Is("\"8KiB\""), "Request target."),
            key("body", Size(0, 1024 * TIB), Is("\"1GiB\""), "Request body."),
            key(
                "body_memory",
                Size(0, TIB),
                Is("\"2MiB\""),
                "Of one request body, how much is kept in memory before it goes to the spool.",
            ),
            key(
                "response_memory",
                Size(0, TIB),
                Is("\"256KiB\""),
                "Of one response, how much a slow client may leave in memory before it goes to the spool.",
            ),
            key(
                "min_rate",
                Size(0, 1 << 30),
                Is("\"100B\""),
                "Clients that read slower than this per second, measured over `timeout.write`, are cut; \"0B\" is never.",
            ),
        ],
    },
    Section {
        path: "listener.forwarded",
        header: "[listener.forwarded]",
        about: "What servers are told of the client.",
        keys: &[
            key(
                "style",
                Word(&["off", "x-forwarded", "rfc7239"]),
                Required,
                "No fields; X-Forwarded-For, -Proto and -Host; or Forwarded.",
            ),
            key(
                "mode",
                Word(&["append", "replace"]),
                Is("\"append\""),
                "What happens to such fields of a trusted client. Those of others are always replaced.",
            ),
            key(
                "trusted",
                Texts,
                Is("[]"),
                "Addresses and networks of clients whose own such fields are believed.",
            ),
        ],
    },
    Section {
        path: "route",
        header: "[[route]]",
        about: "Which request goes to which cluster. The most specific one wins, whatever the order: exact host, then \
                `*.` host, then any host; among these the longest path. May be left out when there is just one cluster.",
        keys: &[
            key(
                "host",
                Texts,
                Means("any"),
                "Host names: \"shop.example.org\", or \"*.example.org\" for all below it. Without port.",
            ),
            key(
                "path",
                Text,
                Is("\"/\""),
                "Start of the path, by segments: \"/shop\" is /shop and /shop/..., not /shops.",
            ),
            key("cluster", Text, Required, "Name of the cluster."),
            key(
                "bucket",
                Later(None),
                Means(""),
                "Share of the cluster that the request counts for.",
            ),
        ],
    },
    Section {
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
                "scheduler",
                Later(Some("\"round_robin\"")),
                Means(""),
                "How the next server is chosen.",
            ),
            key(
                "capacity",
                Count(1, 10_000),
                Is("5"),
                "Of each of its servers: worker threads = connections = most requests at once.",
            ),
            key(
                "binding",
                Word(&["late", "early"]),
                Is("\"late\""),
                "\"late\": to the next server that has a free connection. \"early\": to the next server at once, and \
                 wait for that one.",
            ),
            key(
                "pipeline",
                Count(1, 64),
                Is("1"),
                "How many waiting requests (GET or HEAD without a body) may be sent on one connection at once, before the \
                 first is answered. Faster under load, but only for servers that are known to pipeline rightly: one that \
                 answers a request twice, or one not at all, can make an answer reach the wrong client. 1 is off.",
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
                Word(&["pass", "retry", "bad_gateway"]),
                Is("\"pass\""),
                "A server's 5xx is handed on; or tried on another server where that is safe, else handed on; or \
                 answered by 502 in its place.",
            ),
            key(
                "on_unavailable",
                Word(&["refuse", "queue"]),
                Is("\"refuse\""),
                "While no server can be reached: 503 at once, or wait in the queue.",
            ),
            key(
                "on_client_abort",
                Word(&["close", "ignore"]),
                Is("\"close\""),
                "When a client leaves while a server works for it. \"close\": close the connection after \
                 `timeout.abort` (caps connections; the server may go on unseen). \"ignore\": read the answer to its \
                 end (caps requests at work in the server).",
            ),
            key("timeout", Table, Means("all defaults"), "Limits in time."),
            key("limit", Table, Means("all defaults"), "Limits in size."),
            key(
                "error_page",
                Tables,
                Means("none"),
                "Pages to send in place of the short text.",
            ),
            key("health", Later(None), Means(""), "Health checks."),
            key(
                "bucket",
                Later(None),
                Means(""),
                "Shares of the cluster that are assured to some requests.",
            ),
            key("server", Tables, Required, "Its servers, in the order of the round."),
        ],
    },
    Section {
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
    },
    Section {
        path: "cluster.retry",
        header: "[cluster.retry]",
        about: "Second attempts, on another server if there is one, and only where that is safe: nothing was sent yet, \
                or the method is idempotent and no answer has come.",
        keys: &[
            key(
                "attempts",
                Count(1, 100),
                Is("3"),
                "How often a request is sent in all; 1 is never again.",
            ),
            key(
                "budget",
                Percent(100),
                Is("\"20%\""),
                "Retries in progress may be this part of all requests in progress, but always 10.",
            ),
        ],
    },
    Section {
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
            key("read", TIME, Is("\"60s\""), "Between two pieces of a response."),
            key(
                "abort",
                TIME,
                Is("\"2s\""),
                "To finish a request whose client has left, before the connection is closed.",
            ),
        ],
    },
    Section {
        path: "cluster.limit",
        header: "[cluster.limit]",
        about: "How much a cluster's servers may send.",
        keys: &[key(
            "head",
            Size(KIB, 16 * MIB),
            Is("\"64KiB\""),
            "Status line and fields of a response.",
        )],
    },
    Section {
        path: "cluster.error_page",
        header: "[[cluster.error_page]]",
        about: "A page of your own for what the balancer itself answers; a server's own errors are not touched.",
        keys: &[
            key("status", Count(400, 599), Required, "For this status."),
            key("file", Text, Required, "The page; at most 1 MiB, read once, at start."),
            key("content_type", Text, Is("\"text/html\""), "Its Content-Type."),
        ],
    },
    Section {
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
                "\"127.0.0.1:6901\", \"[::1]:6901\", \"localhost:6901\" (127.0.0.1) or \"unix:/path\". Other names \
                 are not resolved in this version.",
            ),
            key(
                "capacity",
                Count(1, 10_000),
                Means("the cluster's"),
                "Worker threads = connections = most requests at once.",
            ),
            key("role", Later(Some("\"active\"")), Means(""), "Active or standby."),
            key("weight", Later(Some("1")), Means(""), "Share of the requests."),
        ],
    },
];
