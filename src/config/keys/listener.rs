//! Keys of listeners.

use super::parts::{KIB, MIB, TIB, TIME, key};
use crate::config::form::Default::{Is, Means, Required};
use crate::config::form::Kind::{Count, Flag, Forms, Size, Table, Tables, Text, Texts, Word};
use crate::config::form::Section;
use crate::plan::{ForwardedStyle, UnderscoreFields};

pub(super) static LISTENER: Section = Section {
    path: "listener",
    header: "[[listener]]",
    about: "Where clients come in. There must be one at least.",
    keys: &[
        key(
            "name",
            Text,
            Required,
            "Its name in logs, its own among listeners.",
        ),
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
        key(
            "mode",
            Text,
            Is("\"0666\""),
            "Permissions of the file of a Unix socket, in octal digits, whatever the umask is. \
             The file has them before anybody can connect.",
        ),
        key(
            "owner",
            Text,
            Means("the user that starts the program"),
            "User whose the file of a Unix socket is. To be set by root, before it becomes \
             `process.user`.",
        ),
        key(
            "group",
            Text,
            Means("the group of that user"),
            "Group of the file of a Unix socket.",
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
            "Addresses and networks whose connections must start with a PROXY protocol header (v1 \
             or v2), such as \"10.0.0.0/8\"; \"unix\" is everybody who comes over a Unix socket. \
             Others' connections are taken as they are.",
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
            "Most connections at once from one client address (of IPv6, one network of 64 bits); \
             0 is no limit.",
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
            "Path that answers for the balancer itself: 200, or 503 while it drains. It is known \
             in every spelling, as the paths of routes are.",
        ),
        key(
            "error_page",
            Tables,
            Means("none"),
            "Pages to send in place of the short text, where the cluster has none.",
        ),
        key("timeout", Table, Means("all defaults"), "Limits in time."),
        key("limit", Table, Means("all defaults"), "Limits in size."),
        key(
            "forwarded",
            Forms("\"off\", \"x-forwarded\", \"rfc7239\" or table"),
            Is("\"off\""),
            "Fields that tell servers of the client. A text is short for a table with only that \
             style.",
        ),
        key(
            "underscore_fields",
            Word(UnderscoreFields::WORDS),
            Is("\"pass\""),
            "What becomes of request fields and trailers whose names have other signs than \
             letters, digits and single hyphens: many servers take `X_Name` for `X-Name`. Those \
             that look like a field of framing are always refused with 400, and those that look \
             like one that this listener sets, or keeps from clients, are always left out.",
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
};

pub(super) static TLS: Section = Section {
    path: "listener.tls",
    header: "[listener.tls]",
    about: "Makes a listener HTTPS.",
    keys: &[
        key(
            "certificates",
            Tables,
            Required,
            "Certificates with their keys. The name that a client asks for chooses; the first one \
             serves unknown names.",
        ),
        key(
            "min_version",
            Word(&["1.2", "1.3"]),
            Is("\"1.2\""),
            "Oldest version of TLS to accept.",
        ),
    ],
};

pub(super) static CERTIFICATES: Section = Section {
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
};

pub(super) static TIMEOUT: Section = Section {
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
            "Between two reads of a request body. `limit.min_upload_rate` is measured over it.",
        ),
        key(
            "body_total",
            Forms("\"off\" or duration"),
            Is("\"off\""),
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
};

pub(super) static LIMIT: Section = Section {
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
            "Of one response, how much a slow client may leave in memory before it goes to the \
             spool.",
        ),
        key(
            "response_spool",
            Size(0, 1024 * TIB),
            Is("\"64MiB\""),
            "Of one response, how much a slow client may leave in the spool. Then its server \
             waits for it.",
        ),
        key(
            "min_rate",
            Size(0, 1 << 30),
            Is("\"100B\""),
            "Clients that read slower than this per second, measured over `timeout.write`, are \
             cut; \"0B\" is never.",
        ),
        key(
            "min_upload_rate",
            Size(0, 1 << 30),
            Is("\"500B\""),
            "Clients that send a body slower than this per second, measured over `timeout.body`, \
             get a 408; \"0B\" is never.",
        ),
    ],
};

pub(super) static ERROR_PAGE: Section = Section {
    path: "listener.error_page",
    header: "[[listener.error_page]]",
    about: "A page of your own for a failure that the balancer itself answers: of a request for \
            which no route is chosen yet (400, 404, 405, 408, 414, 417, 431, 501, 505), of one \
            that a fault of the program has cost (500), or of a later one for whose status the \
            cluster has no page. A server's own errors are not touched.",
    keys: super::cluster::ERROR_PAGE.keys,
};

pub(super) static FORWARDED: Section = Section {
    path: "listener.forwarded",
    header: "[listener.forwarded]",
    about: "What servers are told of the client.",
    keys: &[
        key(
            "style",
            Word(ForwardedStyle::WORDS),
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
            "Addresses and networks of clients whose own such fields are believed, such as a \
             proxy in front; \"unix\" is everybody who comes over a Unix socket. After a PROXY \
             header the client is the one that it names; one that it does not know is never \
             trusted. With a style other than \"off\" the client that they name is whose a \
             request is (`client_key`; not with mode \"replace\"), and all X-Forwarded-* fields, \
             Forwarded and X-Real-IP of others are left out.",
        ),
        key(
            "strip",
            Texts,
            Is("[]"),
            "Further fields that only trusted clients may send, such as \"X-Client-Cert\": of \
             others they are left out, whatever the style is.",
        ),
    ],
};
