//! The thread that does what is due every second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::base::panic_points::Point;
use crate::exchange::Hub;
use crate::plan::Plan;
use crate::session::Front;
use crate::upstream::Clusters;

use super::losses::Losses;
use super::retired::Retired;
use super::summary::Summary;
use super::view::View;

/// What is due every second.
pub(super) struct Ticking {
    pub(super) plan: Arc<ArcSwap<Plan>>,
    pub(super) front: Arc<Front>,
    pub(super) hub: Arc<Hub>,
    pub(super) clusters: Arc<Clusters>,
    pub(super) retired: Arc<Retired>,
}

impl Ticking {
    /// Does what is due every second, for good.
    pub(super) fn run(&self, summary: &mut Summary, losses: &mut Losses) {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            Point::Tick.pass();
            let now = Instant::now();
            self.front.make_room();
            self.hub.clients.end_lingering(self.hub.uptime_ms(now));
            self.hub.couriers.look();
            self.retired.look(&self.clusters);
            losses.tell(now, self.hub.access.as_ref());
            #[cfg(feature = "deadlock_detection")]
            report_deadlocks();
            if let Some(every) = self.plan.load().process.summary {
                let view = || View::take(&self.hub, &self.front, &self.clusters, now);
                summary.write_if_due(now, every, view);
            }
        }
    }
}

/// In tests: threads that wait for each other's locks are told, and end the process.
#[cfg(feature = "deadlock_detection")]
#[allow(clippy::panic, reason = "only in tests, where going on would hide it")]
fn report_deadlocks() {
    let deadlocks = parking_lot::deadlock::check_deadlock();
    for thread in deadlocks.iter().flatten() {
        log::error!(
            "deadlocked, panicked: thread {:?}\n{:?}",
            thread.thread_id(),
            thread.backtrace()
        );
    }
    assert!(deadlocks.is_empty(), "threads wait for each other's locks");
}
