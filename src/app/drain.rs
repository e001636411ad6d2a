//! The stop: a balancer in front is told, then what is in progress is finished, within its time.

use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::base::units::format_duration;
use crate::fault::Fault;

use super::commands::Control;
use super::running::Running;
use super::summary;

/// When the balancer stops, an idle client has so long to send its next request, which is then its
/// last. Without that, a request that is on its way would meet a closed connection.
const LAST_CALL: Duration = Duration::from_millis(1000);

/// How often a stop looks whether it is through.
const DRAIN_TICK: Duration = Duration::from_millis(50);

impl Running {
    /// Lets a balancer in front notice that a stop is coming, before it would meet a closed door.
    /// Responses do not close their connections yet: their clients would only come again.
    pub(super) fn announce(&self) {
        self.hub.announce_stop();
        let delay = self.plan.load().process.drain_delay;
        if !delay.is_zero() {
            log::info!(
                "stopping: clients are still taken for {} (process.drain_delay)",
                format_duration(delay)
            );
            std::thread::sleep(delay);
        }
    }

    /// Finishes what is there, and takes nothing new.
    pub(super) fn drain(self) {
        let began = Instant::now();
        let until = after(began, self.plan.load().process.drain_timeout);
        self.hub.drain();
        log::info!(
            "stopping: {} clients are connected",
            self.hub.clients.count()
        );
        self.front.close();
        let last_call = LAST_CALL.min(self.plan.load().process.drain_timeout / 2);
        let mut finished = false;
        while !finished && Instant::now() < until {
            // A client that became idle later has its own last call: its response may have gone out
            // before it could say that it was the last.
            if let Some(idle_since) = Instant::now()
                .checked_sub(last_call)
                .filter(|since| *since >= began)
            {
                self.hub.clients.dismiss_idle(idle_since);
            }
            // Clients outlive their sessions while a worker or a courier still writes to them.
            finished = self
                .front
                .wait_gone(after(Instant::now(), DRAIN_TICK).min(until))
                && self.hub.clients.count() == 0;
            if self.hub.clients.count() > 0 && self.front.wait_gone(Instant::now()) {
                std::thread::sleep(DRAIN_TICK);
            }
        }
        if !finished {
            log::warn!(
                "stopping: {} clients are cut, their time is up",
                self.hub.clients.count()
            );
        }
        let clusters = self.clusters.all();
        // What happens from here on is no server's fault, and not to be remembered.
        self.prober.stop();
        clusters.iter().for_each(|cluster| cluster.close());
        if !finished {
            clusters.iter().for_each(|cluster| cluster.abort());
        }
        let patience = after(Instant::now(), Duration::from_millis(500));
        clusters
            .iter()
            .for_each(|cluster| cluster.wait_closed(patience));
        self.reaper.stop();
        self.hub.clients.abandon(Fault::Draining);
        // Workers that waited for their clients log what they had now.
        let patience = after(Instant::now(), Duration::from_millis(200));
        clusters
            .iter()
            .for_each(|cluster| cluster.wait_closed(patience));
        if let Some(access) = &self.hub.access {
            access.close(Duration::from_secs(1));
        }
        summary::write_totals(&self.desk.view());
        log::info!("stopped after {:.1} s", began.elapsed().as_secs_f64());
    }
}
