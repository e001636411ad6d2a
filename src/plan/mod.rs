//! The plan: a whole configuration, checked and compiled, never changed afterwards.
//!
//! `config` makes it out of a file or of flags; everything else only reads it. Values are domain
//! types, so that nothing has to be checked twice. Durations are never zero (but where that is
//! said) and sizes never negative here.

pub mod check;
mod cluster;
#[cfg(test)]
pub(crate) mod samples;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use cluster::{
    Binding, Bucket, ClientKey, Cluster, ClusterTimeout, Connect, ErrorPage, Health, HttpProbe,
    OnClientAbort, OnUnavailable, Probe, Server, ServerAddress,
};

pub use crate::retry::On5xx;

use crate::base::words::words;
use crate::route::RouteTable;

/// Everything that one run of the program was told.
#[derive(Debug)]
pub struct Plan {
    /// What concerns the whole process.
    pub process: Process,
    /// Where clients come in. At least one.
    pub listeners: Vec<Arc<Listener>>,
    /// Which request goes to which cluster.
    pub routes: RouteTable,
    /// The clusters; a route names one by its place in this list.
    pub clusters: Vec<Arc<Cluster>>,
}

/// `[process]`, `[buffers]`, `[spool]`, `[log]`: what is there once.
#[derive(Clone, Debug)]
pub struct Process {
    /// User to become once everything is bound; `None` stays who it is.
    pub user: Option<String>,
    /// Group to become; `None` takes the user's own.
    pub group: Option<String>,
    /// Most client connections at once, before the limits of the system are looked at.
    pub max_sessions: usize,
    /// Most requests at once, from a head that is admitted to the last byte delivered of its
    /// response.
    pub max_requests: usize,
    /// Session threads that always wait in `accept()`, for each bound address.
    pub min_idle: usize,
    /// Run sessions and workers as `SCHED_BATCH`.
    pub batch_scheduling: bool,
    /// For so long a stop only tells that it is coming; may be zero.
    pub drain_delay: Duration,
    /// How long a stop waits for what is in progress.
    pub drain_timeout: Duration,
    /// How often a summary line is written; `None` never.
    pub summary: Option<Duration>,
    /// How often names of servers are resolved again.
    pub resolve: Duration,
    /// Where what has to outlive a restart is kept (servers that are kept offline); `None` nowhere.
    pub state: Option<PathBuf>,
    /// Bounded memory for bodies in transit.
    pub buffers: Buffers,
    /// Unlinked files for what does not fit in there.
    pub spool: Spool,
    /// Messages and access log.
    pub log: Log,
}

/// Memory of the data path: `region / size` buffers, made on first use and used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// All of them together, in bytes.
    pub region: usize,
    /// One of them, in bytes.
    pub size: usize,
}

/// Temporary files for request bodies and for responses that slow clients have not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Folder; files in it have no name.
    pub folder: PathBuf,
    /// All of them together, in bytes.
    pub limit: u64,
}

/// Where messages and access log lines go.
#[derive(Clone, Debug)]
pub struct Log {
    /// Least level of messages on standard error; the environment's `RUST_LOG` goes before it.
    pub level: log::LevelFilter,
    /// Most bytes of lines that wait to be written, of messages and of the access log each.
    pub queue: usize,
    /// Access log, off when `None`.
    pub access: Option<AccessLog>,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// File to append to; `None` is standard output.
    pub path: Option<PathBuf>,
    /// One line's form.
    pub format: AccessFormat,
}

/// Form of an access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// Combined log format, then Juggler's times, server, retries and end reason.
    Combined,
    /// One JSON object a line.
    Json,
}

words!(AccessFormat { Combined => "combined", Json => "json" });

/// `[[listener]]`: an address, and how to treat who comes in there.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in logs.
    pub name: String,
    /// Where it is bound.
    pub bind: Vec<BindAddress>,
    /// Connections that the kernel may hold before they are accepted.
    pub backlog: i32,
    /// HTTPS when set.
    pub tls: Option<Tls>,
    /// Left out, with a warning, when its certificates are not there.
    pub optional: bool,
    /// How its socket files are made.
    pub socket: SocketFile,
    /// Peers that must send a PROXY protocol header (v1 or v2) first; nobody is off. Connections of
    /// others are taken as they are, without a header.
    pub proxy_protocol: Peers,
    /// Answer everything with a redirect to `https://host[:port]`.
    pub redirect_https: Option<u16>,
    /// Most connections at once of one client address; 0 is no limit.
    pub sessions_per_address: usize,
    /// A client that shuts its sending side still gets its answer (`nc -N`), instead of being taken
    /// for gone.
    pub half_close_serve: bool,
    /// Path that answers for the balancer itself: 200, or 503 while it drains.
    pub health_path: Option<String>,
    /// Pages for failures of requests that have no cluster yet, or whose cluster has none for the
    /// status.
    pub error_pages: Vec<ErrorPage>,
    /// Limits in time.
    pub timeout: ListenerTimeout,
    /// Limits in size.
    pub limit: ListenerLimit,
    /// What servers are told of the client.
    pub forwarded: Forwarded,
    /// What becomes of fields with odd names ([`crate::http::fold::is_odd`]) that are not dealt
    /// with otherwise.
    pub underscore_fields: UnderscoreFields,
    /// Received-by name for `Via`; `None` adds none.
    pub via: Option<String>,
    /// Add an `X-Request-Id` where the client sent none.
    pub request_id: bool,
}

/// Peers of a listener: some addresses, and those over Unix sockets, which have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// Those with addresses in these networks.
    pub networks: Vec<IpNet>,
    /// Those over Unix sockets. Who may connect there is the file system's business.
    pub unix: bool,
}

impl Peers {
    /// Returns whether this peer is one of them; `None` is one over a Unix socket.
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match address.map(|address| address.to_canonical()) {
            Some(address) => self
                .networks
                .iter()
                .any(|network| network.contains(&address)),
            None => self.unix,
        }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }
}

/// What a socket's file is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketFile {
    /// Permissions, whatever the umask is.
    pub mode: u32,
    /// Name of its user; `None` is the one that binds.
    pub owner: Option<String>,
    /// Name of its group; `None` is that of the one that binds.
    pub group: Option<String>,
}

impl Default for SocketFile {
    fn default() -> Self {
        Self {
            mode: 0o666,
            owner: None,
            group: None,
        }
    }
}

/// What becomes of fields whose names a server may take for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoreFields {
    /// They go on.
    #[default]
    Pass,
    /// They are left out.
    Drop,
    /// The request is answered with 400.
    Refuse,
}

words!(UnderscoreFields { Pass => "pass", Drop => "drop", Refuse => "refuse" });

/// An address to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// TCP over IPv4 or IPv6 (the latter for IPv6 alone, so that both can have the same port).
    Tcp(SocketAddr),
    /// A Unix stream socket at this path.
    Unix {
        /// Where the socket file is made.
        path: PathBuf,
    },
}

/// HTTPS on a listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate chains with their keys. The first one serves unknown names.
    pub certificates: Vec<Certificate>,
    /// Refuse TLS 1.2.
    pub only_tls13: bool,
}

/// Files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// PEM, the server's own certificate first.
    pub chain: PathBuf,
    /// PEM, PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// How long a listener's clients may take.
#[derive(Clone, Copy, Debug)]
pub struct ListenerTimeout {
    /// PROXY header and TLS handshake.
    pub handshake: Duration,
    /// A whole request head, from its first byte.
    pub header: Duration,
    /// Between two reads of a request body; also what `min_upload_rate` is measured over.
    pub body: Duration,
    /// A whole request body, from its first byte; `None` is no limit.
    pub body_total: Option<Duration>,
    /// Between a response's end and the next request's first byte.
    pub idle: Duration,
    /// Taking none of a response, or less than `min_rate` of it.
    pub write: Duration,
}

/// How much a listener's clients may send.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimit {
    /// Request line and fields, in bytes. Also the limit for trailers.
    pub head: usize,
    /// Number of fields.
    pub fields: usize,
    /// Request target, in bytes.
    pub target: usize,
    /// Request body, in bytes.
    pub body: u64,
    /// Of one request body, how much is kept in memory before it goes to the spool, in bytes.
    pub body_memory: usize,
    /// Of one response, how much a slow client may leave in memory before it goes to the spool, in
    /// bytes.
    pub response_memory: usize,
    /// Of one response, how much may lie in the spool, in bytes; then its server waits for the
    /// client.
    pub response_spool: u64,
    /// Slower readers than this are cut, in bytes per second, measured over the `write` timeout.
    pub min_rate: u64,
    /// Slower senders of bodies than this are refused, in bytes per second, measured over the
    /// `body` timeout.
    pub min_upload_rate: u64,
}

/// What to tell servers of the client.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Which fields.
    pub style: ForwardedStyle,
    /// Replace what the client sent even if it is trusted; else append to what a trusted one sent.
    pub replace: bool,
    /// Peers whose own such fields are believed. What others send is replaced.
    pub trusted: Peers,
    /// Further fields that only such peers may send; folded ([`crate::http::fold`]).
    pub strip: Vec<String>,
}

/// Which fields tell servers of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedStyle {
    /// None are added, none are touched.
    Off,
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
}

words!(ForwardedStyle { Off => "off", XForwarded => "x-forwarded", Rfc7239 => "rfc7239" });
