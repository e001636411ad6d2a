//! What tests of a client's side need: a hub, a listener, and exchanges that note how they ended.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::base::buffers::BufferPool;
use crate::exchange::courier::{Carried, Delivery, deliver};
use crate::exchange::hub::{Hub, HubSettings};
use crate::exchange::listener::OpenListener;
use crate::exchange::outbox::READ_BACK;
use crate::exchange::spool::Spool;
use crate::fault::Fault;
use crate::filter::forwarded::tests::listener;
use crate::plan::{ForwardedStyle, Listener, ListenerLimit, ListenerTimeout};

use super::ending::Ending;
use super::played::Played;
use super::shared::{Guarded, Origin, Wire};
use super::tls::Fed;
use super::transport::Transport;

/// Limits of one client's response.
#[derive(Clone, Copy, Debug)]
pub(in crate::exchange) struct Limits {
    /// Bytes of it in memory.
    pub(in crate::exchange) memory: usize,
    /// Bytes of it in the spool.
    pub(in crate::exchange) spool: u64,
    /// The time that the client has to take something.
    pub(in crate::exchange) write: Duration,
}

/// A hub whose couriers never work: the test is the courier.
pub(in crate::exchange) fn hub() -> Arc<Hub> {
    let settings = HubSettings {
        max_requests: 10,
        max_couriers: 0,
        batch_scheduling: false,
        resolve: Duration::from_secs(1),
    };
    let spool = Spool::new(std::env::temp_dir(), 1 << 20);
    Hub::new(settings, BufferPool::new(1 << 20, 16), spool, None)
}

/// Where a client comes from that has these limits.
pub(in crate::exchange) fn origin(limits: Limits) -> Origin {
    let plain = listener(ForwardedStyle::Off);
    let plan = Arc::new(Listener {
        limit: ListenerLimit {
            response_memory: limits.memory,
            response_spool: limits.spool,
            min_rate: 0,
            ..plain.limit
        },
        timeout: ListenerTimeout {
            write: limits.write,
            ..plain.timeout
        },
        via: None,
        ..plain
    });
    Origin {
        listener: OpenListener::new(&plan, Arc::default()),
        peer: None,
        is_trusted: false,
    }
}

/// How an exchange ended: its number, and why not well.
type Noted = (u64, Option<Fault>);

/// How exchanges ended.
#[derive(Clone, Debug, Default)]
pub(in crate::exchange) struct Notes(Arc<Mutex<Vec<Noted>>>);

/// An exchange that notes how it ends.
#[derive(Debug)]
pub(in crate::exchange) struct Note {
    id: u64,
    fault: Option<Fault>,
    notes: Notes,
}

impl Notes {
    /// An exchange that is noted here.
    pub(in crate::exchange) fn note(&self, id: u64) -> Note {
        Note {
            id,
            fault: None,
            notes: self.clone(),
        }
    }

    /// Those that have ended since the last time.
    pub(in crate::exchange) fn take(&self) -> Vec<Noted> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Ending for Note {
    fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn blame(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    fn count(&mut self, _: u64) {}

    fn release_request(&mut self) {}

    fn release_place(&mut self) {}

    fn complete(self) {
        self.notes.0.lock().push((self.id, self.fault));
    }
}

/// Is the courier for one visit: delivers what the socket takes now, as couriers do.
pub(in crate::exchange) fn visit<T: Guarded, E: Ending>(wire: &Arc<Wire<T, E>>) {
    let mut room = vec![0; READ_BACK];
    if deliver(&**wire, &mut room) == Delivery::Over {
        wire.hub().couriers.forget();
        Arc::clone(wire).release_courier();
    }
}

/// A client and a server that trust each other, before the handshake.
fn tls_pair() -> (ClientConnection, ServerConnection) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    (
        ClientConnection::new(Arc::new(client), name).unwrap(),
        ServerConnection::new(Arc::new(server)).unwrap(),
    )
}

/// A client over TLS whose handshake is over.
pub(in crate::exchange) struct Secured<T: Guarded> {
    pub(in crate::exchange) wire: Arc<Wire<T, Note>>,
    pub(in crate::exchange) played: Arc<Played>,
    tls: ClientConnection,
    seen: usize,
}

impl<T: Guarded> Secured<T> {
    pub(in crate::exchange) fn new(limits: Limits, turn: T) -> Self {
        let (tls, server) = tls_pair();
        let played = Played::meeting([]);
        let transport = Transport::Played(Arc::clone(&played));
        let server = Some(Box::new(server));
        let wire = Wire::over(
            transport,
            &hub(),
            origin(limits),
            server,
            turn,
            Instant::now(),
        );
        let mut secured = Self {
            wire,
            played,
            tls,
            seen: 0,
        };
        while secured.tls.is_handshaking() || !secured.wire.is_greeted() {
            assert_eq!(secured.say(), Fed::More);
            secured.hear();
        }
        secured
    }

    /// What the client says next.
    pub(in crate::exchange) fn tls(&mut self) -> &mut ClientConnection {
        &mut self.tls
    }

    /// The client sends what it has to say.
    pub(in crate::exchange) fn say(&mut self) -> Fed {
        let mut cipher = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut cipher).unwrap();
        }
        self.wire.feed(&mut &cipher[..], &mut [0; 100]).unwrap()
    }

    /// The client reads what has come. Returns the plaintext, and whether a clean end is behind it.
    pub(in crate::exchange) fn hear(&mut self) -> (String, bool) {
        let received = self.played.received();
        let mut fresh = &received[self.seen..];
        self.seen = received.len();
        while !fresh.is_empty() {
            self.tls.read_tls(&mut fresh).unwrap();
        }
        let state = self.tls.process_new_packets().unwrap();
        let mut text = vec![0; state.plaintext_bytes_to_read()];
        self.tls.reader().read_exact(&mut text).unwrap();
        (String::from_utf8(text).unwrap(), state.peer_has_closed())
    }
}
