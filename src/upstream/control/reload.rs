//! A cluster becomes what a new plan says, with all that is going on.

use std::sync::Arc;
use std::time::Instant;

use crate::balance::Change;
use crate::plan::{self, Binding, OnUnavailable};
use crate::upstream::server::Server;

use super::controller::Controller;
use super::health::tell;
use super::life::RETRY_FLOOR;

impl Controller {
    /// The reasons why the cluster cannot become what `plan` says.
    pub fn objections(&self, plan: &plan::Cluster) -> Vec<String> {
        let is_missing =
            |server: &Server| plan.servers.iter().all(|other| other.name != *server.name);
        self.protected(is_missing)
    }

    /// The reasons why the cluster cannot be removed.
    pub fn objections_to_removal(&self) -> Vec<String> {
        self.protected(|_| true)
    }

    /// An objection for each protected server that would go.
    fn protected(&self, goes: impl Fn(&Server) -> bool) -> Vec<String> {
        let roster = self.roster();
        let protected = roster
            .planned()
            .filter(|server| server.plan().protected && goes(server));
        let objection = |server: &Arc<Server>| {
            format!(
                "{} is protected and would be removed; set protected = false and reload before",
                server.full_name
            )
        };
        protected.map(objection).collect()
    }

    /// Becomes what `plan` says. Nothing is lost: a server or worker that is let go first ends what
    /// it has. [`Self::settle_reload`] is the second part.
    pub fn reload(&self, plan: &plan::Cluster, now: Instant) {
        let mut roster = self.roster();
        let old = Arc::clone(&self.plan());
        self.cluster.set_plan(plan);
        for change in changes(&old, plan) {
            self.apply(&mut roster, change, now);
        }
        self.adjust_buckets(&mut roster, &plan.buckets, now);
        self.adjust_servers(&mut roster, plan, now);
        // Last, so that a cluster that is switched on finds its servers.
        if old.admin != plan.admin {
            self.apply(&mut roster, Change::SetAdmin(plan.admin), now);
        }
        for server in roster.servers() {
            if old.connect != plan.connect {
                server.contact(|contact| contact.set(plan.connect));
            }
            if old.health.settings != plan.health.settings
                && let Some(change) = server.set_health(plan.health.settings, now)
            {
                tell(server, &change);
            }
            server.touch();
        }
        self.settle_health(&mut roster, now);
        drop(roster);
        // Time limits and intervals may have become shorter.
        self.cluster.alarm();
        self.hurry_prober();
    }

    /// The second part of a reload: servers that are not in the plan any more go, once those that
    /// came in their place work or have had until `until`.
    pub fn settle_reload(&self, until: Instant) {
        self.settle_servers(until);
    }
}

/// What changes for the dispatcher as a whole.
fn changes(old: &plan::Cluster, new: &plan::Cluster) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.schedule != new.schedule {
        changes.push(Change::SetSchedule(new.schedule));
    }
    if old.lending != new.lending {
        changes.push(Change::SetLending(new.lending));
    }
    if old.binding != new.binding {
        changes.push(Change::SetBinding {
            early: new.binding == Binding::Early,
        });
    }
    if old.queue_limit != new.queue_limit || old.on_unavailable != new.on_unavailable {
        changes.push(Change::SetQueue {
            limit: new.queue_limit,
            wait_for_server: new.on_unavailable == OnUnavailable::Queue,
        });
    }
    #[allow(clippy::float_cmp, reason = "every difference is a change")]
    if old.retry_budget != new.retry_budget {
        changes.push(Change::SetRetries {
            floor: RETRY_FLOOR,
            share: new.retry_budget,
        });
    }
    changes
}
