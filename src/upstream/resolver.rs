//! Names of servers: a thread for each name looks it up again and again, so that a name that hangs
//! or does not resolve holds up nothing else. The last good addresses are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::exchange::Hub;
use crate::net::resolve::resolve;
use crate::threads::{self, Kind};

use super::server::Server;

/// How often the thread looks whether its server is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Looks the name of a server up from now on, until the server is removed. `on_change` is called
/// whenever the name leads to other addresses.
pub(super) fn start(
    hub: &Arc<Hub>,
    server: &Arc<Server>,
    (host, port): (String, u16),
    on_change: impl Fn() + Send + 'static,
) {
    let (hub, own) = (Arc::clone(hub), Arc::clone(server));
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
                on_change();
            }
            let next = after(Instant::now(), hub.resolve_interval());
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
