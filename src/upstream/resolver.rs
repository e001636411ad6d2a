//! Names of servers: each is looked up by a thread of its own, again and again, so that one that
//! hangs or does not resolve holds up nothing else. The last good answer is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::net::resolve::resolve;
use crate::threads::{self, Kind};

use super::Cluster;
use super::server::Server;

/// The thread looks so often whether it is still needed.
const LOOK: Duration = Duration::from_millis(500);

impl Cluster {
    /// Looks this server's name up from now on, until it is removed.
    pub(super) fn resolve(self: &Arc<Self>, server: &Arc<Server>, host: String, port: u16) {
        let (cluster, own) = (Arc::clone(self), Arc::clone(server));
        let mut has_failed = false;
        let run = move || {
            while !own.is_removed() {
                Point::ResolverLook.pass();
                let found = resolve(&host, port);
                if let Err(error) = &found
                    && !std::mem::replace(&mut has_failed, true)
                {
                    log::warn!(
                        "{}: the name {host} cannot be resolved: {error}",
                        own.full_name
                    );
                }
                if found.is_ok() && std::mem::take(&mut has_failed) {
                    log::info!("{}: the name {host} is resolved again", own.full_name);
                }
                if let Some(addresses) = own.resolved(found.ok()) {
                    log::info!("{}: {host} is {addresses:?}", own.full_name);
                    cluster.wake_workers(&own);
                }
                let next = after(Instant::now(), cluster.hub.resolve_interval());
                while Instant::now() < next && !own.is_removed() {
                    std::thread::sleep(LOOK.min(next.saturating_duration_since(Instant::now())));
                }
            }
        };
        if let Err(error) = threads::tend(Kind::Resolver, format!("resolve-{}", server.name), run) {
            log::error!(
                "{}: its name cannot be looked up: {error}",
                server.full_name
            );
            server.resolved(None);
        }
    }

    /// The workers of a server that wait look after their connections now, or try again to connect.
    pub(super) fn wake_workers(&self, server: &Server) {
        for worker in self.workers_of(server) {
            if let Some(slot) = self.slot(worker) {
                slot.wake();
            }
        }
    }
}
