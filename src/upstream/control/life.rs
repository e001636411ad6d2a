//! The start and the end of a cluster.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::balance::{Admin, Change, Dispatcher, Settings};
use crate::exchange::Hub;
use crate::plan::{self, Binding, OnUnavailable};
use crate::upstream::cluster::Cluster;

use super::controller::Controller;
use super::roster::Roster;

/// The number of retries at once that are allowed whatever the load.
pub(super) const RETRY_FLOOR: usize = 10;

/// How often a start looks whether servers that are probed first are in use.
const LOOK_TRIED: Duration = Duration::from_millis(2);

/// How often an end looks whether workers are left.
const LOOK_CLOSED: Duration = Duration::from_millis(5);

impl Controller {
    /// Starts a cluster with all its workers, which begin to connect at once.
    pub fn start(plan: &plan::Cluster, hub: &Arc<Hub>, now: Instant) -> Arc<Self> {
        let dispatcher = Dispatcher::new(Settings {
            early_binding: plan.binding == Binding::Early,
            queue_limit: plan.queue_limit,
            wait_for_server: plan.on_unavailable == OnUnavailable::Queue,
            retry_floor: RETRY_FLOOR,
            retry_share: plan.retry_budget,
            schedule: plan.schedule,
            lending: plan.lending,
            seed: seed(),
        });
        let in_use = plan
            .servers
            .iter()
            .filter(|server| server.admin != Admin::Disabled);
        let workers = in_use.map(|server| server.capacity).sum();
        let cluster = Cluster::new(plan, hub, dispatcher);
        let controller = Self::new(cluster, Roster::new(seed()), workers);
        let mut roster = controller.roster();
        controller.apply(&mut roster, Change::SetAdmin(plan.admin), now);
        controller.adjust_buckets(&mut roster, &plan.buckets, now);
        for server in &plan.servers {
            controller.add_server(&mut roster, plan, server, now);
        }
        drop(roster);
        controller
    }

    /// Waits until every worker has tried to connect once and every server that is probed before it
    /// is used was probed, at most `until` then.
    pub fn wait_tried(&self, until: Instant) {
        if !self.wait_for_first_tries(until) {
            return;
        }
        while self.has_unknown_servers() && Instant::now() < until {
            std::thread::sleep(LOOK_TRIED);
        }
    }

    /// Does what is due at `now`. Called by the reaper.
    pub(in crate::upstream) fn tick(&self, now: Instant) {
        self.cluster.tick(now);
        self.start_again();
    }

    /// Refuses what waits, and ends the workers once they have served what they have.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        // Under the control lock: a thread that starts workers has seen the flag, or has started
        // them before this.
        let roster = self.roster();
        let closed = self
            .cluster
            .dispatcher()
            .apply(Change::Close, Instant::now());
        if let Ok(outcome) = closed {
            self.cluster.carry_out_all(outcome.handout);
        }
        for slot in self.cluster.slots().iter().flatten() {
            slot.stop();
        }
        for server in roster.servers() {
            server.remove();
        }
    }

    /// After [`Self::close`]: breaks off what is still being served.
    pub fn abort(&self) {
        let slots = self.cluster.slots();
        slots.iter().flatten().for_each(|slot| slot.break_off());
        self.cluster.lane().close();
    }

    /// After [`Self::close`]: waits until no worker is left, at most `until` then.
    pub fn wait_closed(&self, until: Instant) {
        while !self.is_gone() && Instant::now() < until {
            std::thread::sleep(LOOK_CLOSED);
        }
    }
}

/// A seed that is another one at each start.
fn seed() -> u64 {
    RandomState::new().hash_one(0)
}
