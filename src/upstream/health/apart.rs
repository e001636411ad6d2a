//! Probes over a short connection of their own: to another port, or while all workers wait for a
//! server that is silent or doubted.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::fault::Fault;
use crate::health::{FaultClass, ProbeId};
use crate::net::connect::connect;
use crate::plan::{self, Probe, ServerAddress};
use crate::threads::{self, Kind};
use crate::upstream::connection::Connection;
use crate::upstream::control::Controller;
use crate::upstream::link::Link;
use crate::upstream::overseer::{Overseer, ProbeResult};
use crate::upstream::question::{Question, deadline, wrong};
use crate::upstream::server::Server;
use crate::upstream::worker::{is_our_own, limits};

/// A probe that cannot be made yet is tried again so soon.
pub(super) const AGAIN: Duration = Duration::from_millis(10);

/// Makes a probe in a thread of its own, to `port` or to the server's own port. There is one such
/// thread at most for each server, and it ends with the probe's time.
pub(super) fn probe(
    controller: &Arc<Controller>,
    server: &Arc<Server>,
    id: ProbeId,
    now: Instant,
    port: Option<u16>,
) {
    if !server.begin_probe_apart() {
        server.monitor().postponed(id, after(now, AGAIN));
        return;
    }
    let (controller, probed) = (Arc::clone(controller), Arc::clone(server));
    let run = move || {
        let plan = Arc::clone(&controller.plan());
        let made = catch_unwind(AssertUnwindSafe(|| {
            Point::ProbeApart.pass();
            ask(&plan, &probed, port)
        }));
        probed.end_probe_apart();
        match made {
            Ok(Some(result)) => controller.probed(&probed, id, result),
            Ok(None) => probed.monitor().skipped(id, Instant::now()),
            Err(_) => {
                controller.cluster().hub.answer_lost();
                probed.monitor().skipped(id, Instant::now());
            }
        }
    };
    if let Err(error) = threads::spawn(Kind::Probe, format!("probe-{}", server.name), run) {
        log::warn!("health: {} cannot be probed: {error}", server.full_name);
        server.end_probe_apart();
        server.monitor().skipped(id, now);
    }
}

/// Connects and asks. Returns `None` if this process lacks something that the probe needs.
fn ask(plan: &plan::Cluster, server: &Server, port: Option<u16>) -> Option<ProbeResult> {
    let until = deadline(plan);
    let mut connection = match connect_apart(server, port, plan, until) {
        Ok(connection) => connection,
        Err(error) if is_our_own(&error) => return None,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Some(Err(wrong(Fault::ResponseTimeout)));
        }
        Err(error) => return Some(Err((FaultClass::Connect, error.to_string()))),
    };
    let result = match &plan.health.probe {
        Probe::Tcp => Ok(()),
        Probe::Http(probe) => Question::new(until).ask(&mut connection, probe).map(|_| ()),
    };
    connection.link().break_off();
    Some(result)
}

/// Connects to the first address that can be reached, all within the probe's time.
fn connect_apart(
    server: &Server,
    port: Option<u16>,
    plan: &plan::Cluster,
    until: Instant,
) -> io::Result<Connection> {
    let left = || {
        until
            .saturating_duration_since(Instant::now())
            .min(plan.timeout.connect)
    };
    let mut outcome = Err(io::Error::new(
        io::ErrorKind::NotFound,
        "its name does not lead to an address",
    ));
    for mut address in server.addresses(left()) {
        if let (ServerAddress::Tcp(address), Some(port)) = (&mut address, port) {
            address.set_port(port);
        }
        let patience = left();
        if patience.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        outcome = connect(&address, patience).map(|stream| (stream, address));
        if outcome.is_ok() {
            break;
        }
    }
    let (stream, address) = outcome?;
    Connection::new(Link::from(stream), address, &plan.timeout, limits(plan))
}
