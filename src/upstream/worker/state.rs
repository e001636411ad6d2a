//! What a worker has: its server, its settings, its buffers, and what it is in the middle of.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::balance::WorkerId;
use crate::exchange::{Exchange, Scratch};
use crate::health::{self, ProbeId};
use crate::plan::{self, ClusterTimeout, OnClientAbort};
use crate::proto::h1::HeadLimits;
use crate::retry::RetrySettings;
use crate::upstream::cluster::Cluster;
use crate::upstream::connection::Connection;
use crate::upstream::overseer::Overseer;
use crate::upstream::server::Server;
use crate::upstream::slot::Slot;

use super::batching::Batching;

/// Room for what of a request's body lies in the spool.
const ROOM: usize = 64 * 1024;

/// A worker.
pub(in crate::upstream) struct Worker {
    cluster: Arc<Cluster>,
    overseer: Arc<dyn Overseer>,
    pub(super) id: WorkerId,
    pub(super) server: Arc<Server>,
    pub(super) slot: Arc<Slot>,
    /// Settings, and what the server's version was when they were looked at.
    pub(super) plan: Arc<plan::Cluster>,
    pub(super) version: u64,
    /// What the server's version was when the connection was found to lead there.
    pub(super) at_home: u64,
    pub(super) limits: HeadLimits,
    pub(super) timeout: ClusterTimeout,
    pub(super) on_client_abort: OnClientAbort,
    pub(super) retry: RetrySettings,
    /// Heads of requests that are sent together.
    pub(super) out: Vec<u8>,
    /// What the client is told next.
    pub(super) scratch: Scratch,
    /// What of the request's body lies in the spool is read into this.
    pub(super) room: Box<[u8]>,
    /// Exchanges that it has besides the one that it serves: sent together with it, or to be sent
    /// one by one.
    pub(super) behind: VecDeque<Exchange>,
    pub(super) batching: Batching,
    /// What the last attempt shows of the server, if anything.
    pub(super) evidence: Option<Result<(), health::Failure>>,
    pub(super) hands: Hands,
    /// When the request in hand was sent, or its turn came: from then on the server has
    /// `timeout.first_byte`.
    pub(super) sent_at: Instant,
}

/// What a worker is in the middle of. Kept apart from the stack, so that it survives a panic.
#[derive(Debug)]
pub(super) struct Hands {
    /// The exchange that the dispatcher has given to it and that it has taken.
    pub(super) job: Option<u64>,
    /// The probe that it makes.
    pub(super) probe: Option<ProbeId>,
    /// It is counted among those connected.
    pub(super) is_connected: bool,
    /// It has run before.
    pub(super) has_begun: bool,
    /// It has not tried to connect yet.
    pub(super) is_first_try: bool,
    /// It alone finds out whether the server can be reached.
    pub(super) is_trying: bool,
    /// Its connection is to show whether the server holds one that is not used.
    pub(super) is_trial: bool,
    /// The exchange to go on with after a panic: the next of its batch.
    pub(super) left_over: Option<Exchange>,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            job: None,
            probe: None,
            is_connected: false,
            has_begun: false,
            is_first_try: true,
            is_trying: false,
            is_trial: false,
            left_over: None,
        }
    }
}

/// Returns the limits of response heads that these settings set.
pub(in crate::upstream) fn limits(plan: &plan::Cluster) -> HeadLimits {
    HeadLimits {
        head: plan.response_head,
        fields: plan.response_fields,
        target: usize::MAX,
    }
}

impl Worker {
    /// A worker of this server that has not begun yet.
    pub(in crate::upstream) fn new(
        cluster: &Arc<Cluster>,
        overseer: Arc<dyn Overseer>,
        id: WorkerId,
        server: &Arc<Server>,
        slot: Arc<Slot>,
    ) -> Self {
        let version = server.version();
        let plan = Arc::clone(&cluster.plan());
        Self {
            cluster: Arc::clone(cluster),
            overseer,
            id,
            server: Arc::clone(server),
            slot,
            version,
            at_home: version,
            limits: limits(&plan),
            timeout: plan.timeout,
            on_client_abort: plan.on_client_abort,
            retry: plan.retry_settings(),
            out: Vec::new(),
            scratch: Scratch::default(),
            room: vec![0; ROOM].into_boxed_slice(),
            behind: VecDeque::new(),
            batching: Batching::new(plan.pipeline),
            evidence: None,
            hands: Hands::default(),
            sent_at: Instant::now(),
            plan,
        }
    }

    /// Forgets what it was in the middle of reading or writing.
    pub(super) fn reset(&mut self) {
        self.out.clear();
        self.scratch.reset();
        self.evidence = None;
    }

    /// `cluster/server`, for messages.
    pub(super) fn name(&self) -> &str {
        &self.server.full_name
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(super) fn overseer(&self) -> &dyn Overseer {
        &*self.overseer
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// What has changed since the last look is heeded from now on.
    pub(super) fn look_at_settings(&mut self, connection: Option<&mut Connection>) {
        let version = self.server.version();
        if version == self.version {
            return;
        }
        self.version = version;
        let plan = Arc::clone(&self.cluster().plan());
        self.limits = limits(&plan);
        self.timeout = plan.timeout;
        self.on_client_abort = plan.on_client_abort;
        self.retry = plan.retry_settings();
        self.batching.set_most(plan.pipeline);
        if let Some(connection) = connection {
            connection.adapt(&plan.timeout, self.limits);
        }
        self.plan = plan;
    }

    /// Returns whether the connection leads to where the server is now.
    pub(super) fn is_at_home(&mut self, connection: &Connection) -> bool {
        // Not by the settings' version: a request that came just then has looked at these, and not
        // at the address.
        let version = self.server.version();
        if self.at_home != version && self.server.is_at(&connection.address) {
            self.at_home = version;
        }
        self.at_home == version
    }
}
