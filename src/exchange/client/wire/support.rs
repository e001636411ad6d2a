//! What tests of a client's side need: a hub, a listener, and exchanges that note how they ended.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::buffers::BufferPool;
use crate::exchange::hub::{Hub, HubSettings};
use crate::exchange::listener::OpenListener;
use crate::exchange::spool::Spool;
use crate::fault::Fault;
use crate::filter::forwarded::tests::listener;
use crate::plan::{ForwardedStyle, Listener, ListenerLimit, ListenerTimeout};

use super::ending::Ending;
use super::shared::Origin;

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
