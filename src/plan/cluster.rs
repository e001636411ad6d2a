//! What a plan says of a cluster.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::{self, Admin, Lending, Role, Schedule};
use crate::base::words::words;
use crate::health::{self, Panic};
use crate::http::Method;
use crate::retry::{On5xx, RetrySettings};

/// `[[cluster]]`: interchangeable servers with one dispatcher.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its servers, in the order of the round.
    pub servers: Vec<Server>,
    /// Whether it is in use.
    pub admin: Admin,
    /// How servers are chosen.
    pub schedule: Schedule,
    /// Its buckets below the root, each behind its parent.
    pub buckets: Vec<Bucket>,
    /// What becomes of shares that nobody uses.
    pub lending: Lending,
    /// Whose a request is: for turns and shares of the queue, and for consistent hashing.
    pub client_key: ClientKey,
    /// When a request is tied to a server.
    pub binding: Binding,
    /// When workers connect.
    pub connect: Connect,
    /// How long a worker that connects on demand keeps its connection when it has nothing to do.
    pub keep: Duration,
    /// Connections of each server that long responses may have beside those of its workers.
    pub lane: usize,
    /// How many requests may go out on one connection before the first answer is read; 1 is no
    /// pipelining.
    pub pipeline: usize,
    /// Requests that may wait.
    pub queue_limit: usize,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// Request field that says how much time its client gives the whole exchange; lower case.
    pub deadline_field: Option<String>,
    /// How often a request may be sent in all, the first time included.
    pub attempts: u32,
    /// Retries in progress may be this part of all requests in progress (0.2 is 20 %), but always
    /// 10.
    pub retry_budget: f64,
    /// The second and later retries wait for so long, twice as long each time; may be zero.
    pub retry_back_off: Duration,
    /// What to do with a 5xx of a server.
    pub on_5xx: On5xx,
    /// What to do while no server can be reached.
    pub on_unavailable: OnUnavailable,
    /// What to do when a client leaves while its request is being served.
    pub on_client_abort: OnClientAbort,
    /// How its servers are looked after.
    pub health: Health,
    /// Limits in time.
    pub timeout: ClusterTimeout,
    /// Largest response head, in bytes.
    pub response_head: usize,
    /// Most fields of a response head, and of its trailers.
    pub response_fields: usize,
    /// Page to send instead of the short text, for a status.
    pub error_pages: Vec<ErrorPage>,
}

impl Cluster {
    /// What attempts go by.
    pub fn retry_settings(&self) -> RetrySettings {
        RetrySettings {
            attempts: self.attempts,
            back_off: self.retry_back_off,
            on_5xx: self.on_5xx,
            serves_absent: self.on_client_abort == OnClientAbort::Ignore,
        }
    }
}

/// `[[cluster.server]]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name in logs.
    pub name: String,
    /// Where it listens.
    pub address: ServerAddress,
    /// Workers = connections = most requests at once.
    pub capacity: usize,
    /// Its share beside others.
    pub weight: u32,
    /// What it is for.
    pub role: Role,
    /// Whether it is in use.
    pub admin: Admin,
    /// It cannot be removed while this is so.
    pub protected: bool,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix stream socket.
    Unix(PathBuf),
    /// TCP, at a host whose address has to be looked up.
    Name {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
}

impl ServerAddress {
    /// Its port; `None` of a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Name { port, .. } => Some(*port),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Name { host, port } => write!(out, "{host}:{port}"),
        }
    }
}

/// `[[cluster.bucket]]`: a share of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Its name, its own in the cluster.
    pub name: String,
    /// Place of its parent in the cluster's list; `None` is the root.
    pub parent: Option<usize>,
    /// What it is given.
    pub share: balance::Bucket,
    /// How long a request may wait in it.
    pub queue_timeout: Duration,
}

/// Whose a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientKey {
    /// No client's.
    None,
    /// That of the client's address; of IPv6 the first 64 bits.
    Address,
    /// That of the value of this request field (lower case); without it the address.
    Field(String),
    /// That of the value of this cookie; without it the address.
    Cookie(String),
}

/// `[cluster.health]`: how servers are looked after.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// When they are probed, and what follows.
    pub settings: health::Settings,
    /// What a probe is.
    pub probe: Probe,
    /// Probes go to this port, over connections of their own.
    pub port: Option<u16>,
    /// A server whose connections are all at work and silent is probed over one more.
    pub when_busy: bool,
    /// Ejection never takes more than it allows.
    pub panic: Panic,
}

impl Health {
    /// A server is used as long as it can be connected to.
    pub fn disabled() -> Self {
        Self {
            settings: health::Settings {
                mode: health::Mode::Disabled,
                ..health::Settings::default()
            },
            probe: Probe::Tcp,
            port: None,
            when_busy: true,
            panic: Panic::default(),
        }
    }
}

/// What a probe is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A new connection.
    Tcp,
    /// A request.
    Http(HttpProbe),
}

/// A request that a server must answer as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Method.
    pub method: Method,
    /// All that is sent: request line, Host, the cluster's own fields, the empty line, the body.
    pub request: Vec<u8>,
    /// Good statuses.
    pub expect: Vec<RangeInclusive<u16>>,
    /// The body must contain this.
    pub body: Option<Vec<u8>>,
}

/// When a request is tied to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// At once to the next server, and wait in its own queue (as the original Juggler did).
    Early,
    /// To the next server with a free worker, else to the first that gets one.
    Late,
}

words!(Binding { Late => "late", Early => "early" });

/// When workers connect to their servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connect {
    /// As the server's first responses show to be best.
    #[default]
    Auto,
    /// Before they are needed (as the original Juggler did).
    Warm,
    /// For a request.
    OnDemand,
}

words!(Connect { Auto => "auto", Warm => "warm", OnDemand => "on_demand" });

/// What to do while no server can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnavailable {
    /// Wait in the queue, up to its limits.
    Queue,
    /// 503 at once.
    Refuse,
}

words!(OnUnavailable { Refuse => "refuse", Queue => "queue" });

/// What to do when a client leaves while its request is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnClientAbort {
    /// Give the server `abort` time to finish, then close the connection.
    Close,
    /// Tell the server by ending our sending side, give it `abort` time to end too, then close the
    /// connection.
    Notify,
    /// Read the response to its end and throw it away.
    Ignore,
}

words!(OnClientAbort { Close => "close", Notify => "notify", Ignore => "ignore" });

/// How long a cluster's servers may take.
#[derive(Clone, Copy, Debug)]
pub struct ClusterTimeout {
    /// A connection's handshake.
    pub connect: Duration,
    /// A server that takes none of a request.
    pub send: Duration,
    /// From the request's last byte to the final response head.
    pub first_byte: Duration,
    /// Between two reads of a response.
    pub read: Duration,
    /// Between two reads of a stream.
    pub stream: Duration,
    /// How long a server may go on with a request whose client left.
    pub abort: Duration,
}

/// A page of the operator's own.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// For this status.
    pub status: u16,
    /// As `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: Arc<[u8]>,
}

impl ErrorPage {
    /// The one of these pages that is for this status.
    pub fn find(pages: &[Self], status: u16) -> Option<&Self> {
        pages.iter().find(|page| page.status == status)
    }
}
