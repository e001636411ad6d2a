//! What can be seen of everything that runs: numbers and states without words.

use std::time::Instant;

use crate::exchange::Hub;
use crate::fault::Fault;
use crate::observe::access::AccessLog;
use crate::observe::sink::Lost;
use crate::threads::{self, Kind};
use crate::upstream::{ClusterView, Clusters};

use super::logging;

/// Everything that runs, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The process as a whole.
    pub process: ProcessView,
    /// All clusters, those too that are leaving. Each is of one moment.
    pub clusters: Vec<ClusterView>,
}

/// The process as a whole. What is counted is counted since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessView {
    /// Client connections that are open.
    pub clients: usize,
    /// Threads that accept and read clients.
    pub session_threads: usize,
    /// Threads that bring responses to slow clients.
    pub couriers: usize,
    /// Bytes of buffers in use.
    pub in_buffers: usize,
    /// Bytes in the spool.
    pub in_spool: u64,
    /// Client connections accepted.
    pub sessions: u64,
    /// Client connections refused or given up before a request.
    pub refused: u64,
    /// Calls of `accept()` that failed.
    pub accept_errors: u64,
    /// Exchanges that ended.
    pub requests: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Bytes of responses.
    pub bytes_out: u64,
    /// How often each fault ended an exchange, without those that never did.
    pub faults: Vec<(Fault, u64)>,
    /// Lines of the access log that are lost because they could not be formatted or taken.
    pub log_dropped: u64,
    /// Lines of the access log that are lost.
    pub access_lost: Lost,
    /// Messages that are lost.
    pub messages_lost: Lost,
    /// Panics of each kind of thread that had any; `None` stands for threads that were not started
    /// by this program.
    pub panics: Vec<(Option<Kind>, usize)>,
}

impl View {
    /// How everything is at `now`.
    pub(super) fn take(hub: &Hub, clusters: &Clusters, now: Instant) -> Self {
        let clusters = clusters.all();
        Self {
            process: ProcessView::take(hub),
            clusters: clusters.iter().map(|cluster| cluster.view(now)).collect(),
        }
    }
}

impl ProcessView {
    fn take(hub: &Hub) -> Self {
        let counters = &hub.counters;
        let faults = Fault::ALL
            .iter()
            .map(|&fault| (fault, counters.faults(fault)));
        Self {
            clients: hub.clients.count(),
            session_threads: Kind::Session.alive(),
            couriers: hub.couriers.count(),
            in_buffers: hub.buffers.in_use() * hub.buffers.size(),
            in_spool: hub.spool.used(),
            sessions: counters.sessions.get(),
            refused: counters.sessions_refused.get(),
            accept_errors: counters.accept_errors.get(),
            requests: counters.requests.get(),
            retries: counters.retries.get(),
            bytes_out: counters.bytes_out.get(),
            faults: faults.filter(|(_, count)| *count > 0).collect(),
            log_dropped: counters.log_dropped.get(),
            access_lost: hub
                .access
                .as_ref()
                .map(AccessLog::lost)
                .unwrap_or_default()
                .0,
            messages_lost: logging::lost().0,
            panics: threads::panics_by_kind(),
        }
    }

    /// Panics of all threads.
    pub fn all_panics(&self) -> usize {
        self.panics.iter().map(|(_, count)| count).sum()
    }
}
