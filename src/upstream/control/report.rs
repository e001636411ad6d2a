//! What workers report.

use std::sync::Arc;
use std::time::Instant;

use crate::balance::{ServerId, WorkerId};
use crate::health::{Failure, ProbeId, State};
use crate::upstream::overseer::{Overseer, ProbeResult};
use crate::upstream::server::Server;

use super::controller::Controller;

impl Overseer for Controller {
    fn tried(&self) {
        self.note_first_try();
    }

    fn exchanged(&self, server: &Arc<Server>, result: Result<(), Failure>) {
        let has_failed = result.is_err();
        if let Some(change) = server.exchanged(result, Instant::now()) {
            self.health_changed(server, &change);
        }
        if has_failed {
            // The next probe may be due earlier now.
            self.hurry_prober();
        }
    }

    fn probed(&self, server: &Arc<Server>, id: ProbeId, result: ProbeResult) {
        if let Err((_, what)) = &result {
            // While the server is offline a failed probe is no news.
            let level = match server.monitor().state() {
                State::Offline => log::Level::Debug,
                State::Online | State::Unknown => log::Level::Info,
            };
            log::log!(
                level,
                "health: {}: a probe failed: {what}",
                server.full_name
            );
        }
        if let Some(change) = server.probed(id, result.map_err(|(class, _)| class), Instant::now())
        {
            self.health_changed(server, &change);
        }
        self.hurry_prober();
    }

    fn contact_changed(&self, server: &Server) {
        self.wake_workers(server.id);
    }

    fn ended(&self, worker: WorkerId, server: ServerId) {
        self.worker_ended(worker, server);
    }
}
