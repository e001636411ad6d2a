//! What of a cluster only its controller knows: servers, buckets, and workers without a thread.

use std::sync::Arc;

use crate::balance::{Admin, BucketId, ServerId, WorkerId};
use crate::plan;
use crate::upstream::server::Server;

/// The servers and buckets of a cluster, and what is known of each beside the dispatcher.
#[derive(Debug)]
pub(super) struct Roster {
    pub(super) members: Vec<Member>,
    /// Below the root, parents before children.
    pub(super) buckets: Vec<RunningBucket>,
    /// Workers for which no thread could be started.
    pub(super) unstarted: Vec<(ServerId, WorkerId)>,
    /// The log says that workers could not be started.
    pub(super) is_short_of_workers: bool,
    /// Too few servers are well: some that are not stay in use (`health.panic`).
    pub(super) panics: bool,
    seed: u64,
}

/// A server, and what the dispatcher was told of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    /// The dispatcher was told that the server is well.
    pub(super) used: bool,
    /// The warmth that the dispatcher was told, in thousandths.
    pub(super) warmth: u16,
    /// The server is not in the plan any more, and the dispatcher has not been told yet.
    pub(super) is_to_go: bool,
    /// The workers, by the numbers in the names of their threads.
    pub(super) numbers: Vec<Option<WorkerId>>,
}

/// A bucket below the root.
#[derive(Debug)]
pub(super) struct RunningBucket {
    pub(super) id: BucketId,
    pub(super) plan: plan::Bucket,
    /// The parent's name; `None` is the root.
    pub(super) parent: Option<String>,
}

impl Roster {
    /// An empty roster. `seed` makes the seeds of health monitors differ from one start to the
    /// next.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            members: Vec::new(),
            buckets: Vec::new(),
            unstarted: Vec::new(),
            is_short_of_workers: false,
            panics: false,
            seed,
        }
    }

    /// A seed for one more health monitor.
    pub(super) fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed
    }

    /// All servers that are there, those too that are leaving.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.members.iter().map(|member| &member.server)
    }

    /// The servers of the plan.
    pub(super) fn planned(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.servers().filter(|server| !server.is_removed())
    }

    /// The server of this number, with what is known of it.
    pub(super) fn member(&mut self, server: ServerId) -> Option<&mut Member> {
        self.members
            .iter_mut()
            .find(|member| member.server.id == server)
    }

    /// The server of this name that is in the plan.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Server>> {
        self.planned().find(|server| &*server.name == name)
    }

    /// The numbers of a server's workers.
    pub(super) fn workers_of(&self, server: ServerId) -> Vec<WorkerId> {
        let member = self
            .members
            .iter()
            .find(|member| member.server.id == server);
        member.map_or_else(Vec::new, |member| {
            member.numbers.iter().copied().flatten().collect()
        })
    }
}

impl Member {
    /// A number for the name of one more worker: the lowest that is free.
    pub(super) fn free_number(&mut self) -> usize {
        let free = self.numbers.iter().position(Option::is_none);
        free.unwrap_or_else(|| {
            self.numbers.push(None);
            self.numbers.len() - 1
        })
    }

    /// Gives up the number of a worker that ends.
    pub(super) fn forget_worker(&mut self, worker: WorkerId) {
        for number in &mut self.numbers {
            if *number == Some(worker) {
                *number = None;
            }
        }
    }
}

/// Returns whether health checks look after this server.
pub(in crate::upstream) fn is_watched(server: &Server) -> bool {
    server.is_monitored() && !server.is_removed() && server.plan().admin != Admin::Disabled
}
