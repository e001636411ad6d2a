//! What can be seen of everything that runs: numbers and states without words.

use std::time::Instant;

use crate::exchange::Hub;
use crate::observe::access::AccessLog;
use crate::observe::account::Totals;
use crate::observe::sink::Lost;
use crate::session::Front;
use crate::threads::{self, Kind};
use crate::upstream::{ClusterView, Clusters};

use super::logging;

/// Everything that runs, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The process as a whole.
    pub process: ProcessView,
    /// The listeners of the configuration.
    pub listeners: Vec<ListenerView>,
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
    /// The exchanges that have ended.
    pub account: Totals,
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

/// A listener. All its addresses together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerView {
    /// The listener's name.
    pub name: String,
    /// The exchanges of its clients that have ended.
    pub account: Totals,
}

impl View {
    /// Returns how everything is at `now`.
    pub(super) fn take(hub: &Hub, front: &Front, clusters: &Clusters, now: Instant) -> Self {
        let clusters = clusters.all();
        Self {
            process: ProcessView::take(hub),
            listeners: listeners(front),
            clusters: clusters.iter().map(|cluster| cluster.view(now)).collect(),
        }
    }
}

/// Returns the listeners in the order of their doors.
fn listeners(front: &Front) -> Vec<ListenerView> {
    let mut views: Vec<ListenerView> = Vec::new();
    for listener in front.doors().iter().map(|door| door.listener()) {
        // Addresses of one listener share its account.
        if views.iter().all(|view| view.name != listener.name) {
            views.push(ListenerView {
                name: listener.name.clone(),
                account: listener.account().totals(),
            });
        }
    }
    views
}

impl ProcessView {
    fn take(hub: &Hub) -> Self {
        let counters = &hub.counters;
        Self {
            clients: hub.clients.count(),
            session_threads: Kind::Session.alive(),
            couriers: hub.couriers.count(),
            in_buffers: hub.buffers.in_use() * hub.buffers.size(),
            in_spool: hub.spool.used(),
            sessions: counters.sessions.get(),
            refused: counters.sessions_refused.get(),
            accept_errors: counters.accept_errors.get(),
            account: hub.accounts.process(),
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

    /// Returns the number of panics of all threads.
    pub fn all_panics(&self) -> usize {
        self.panics.iter().map(|(_, count)| count).sum()
    }
}
