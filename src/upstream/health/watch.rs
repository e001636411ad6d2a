//! Probes that are due are begun: over the connection of an idle worker, or apart, or not at all
//! where the work that goes on shows enough.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::time::after;
use crate::health::{FaultClass, ProbeId, State};
use crate::upstream::control::{Controller, is_watched};
use crate::upstream::overseer::Overseer;
use crate::upstream::server::Server;

use super::apart::{self, AGAIN};

/// Starts the probes of a cluster that are due at `now`. Returns when to look again.
pub(super) fn look_after(controller: &Arc<Controller>, now: Instant) -> Option<Instant> {
    let mut next: Option<Instant> = None;
    let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
    let mut is_warming = false;
    for server in controller.servers(is_watched) {
        silent_for(controller, &server, now);
        let (due, change) = server.monitor().poll(now);
        if let Some(change) = change {
            controller.health_changed(&server, &change);
        }
        if let Some(id) = due {
            begin_probe(controller, &server, id, now);
        }
        let monitor = server.monitor();
        if let Some(at) = monitor.next_event() {
            sooner(at);
        }
        is_warming |= monitor.state() == State::Online && monitor.warmth(now) < 1000;
    }
    if let Some(at) = controller.warm_up(is_warming, now) {
        sooner(at);
    }
    next
}

/// For how long nothing has come from a server. The more often this is asked, the more exact it is.
fn silent_for(controller: &Controller, server: &Server, now: Instant) -> Duration {
    let cluster = controller.cluster();
    let workers = controller.workers_of(server.id);
    let slots = cluster.slots();
    let of_server = workers
        .iter()
        .filter_map(|worker| slots.get(worker.0 as usize)?.as_ref());
    let counts = cluster.dispatcher().server(server.id);
    // A server that has less to do than it could is silent by right.
    let mut listens = counts.is_none_or(|counts| counts.serving >= counts.workers);
    let mut heard = 0_u64;
    for slot in of_server {
        // In this order: a worker that is through with its client first notes that it hears again.
        listens &= !slot.is_giving();
        heard = heard.wrapping_add(slot.heard());
    }
    server.note_heard(heard, listens, now)
}

fn begin_probe(controller: &Arc<Controller>, server: &Arc<Server>, id: ProbeId, now: Instant) {
    let cluster = controller.cluster();
    let plan = Arc::clone(&cluster.plan());
    if let Some(port) = plan.health.port
        && server.plan().address.port() != Some(port)
    {
        return apart::probe(controller, server, id, now, Some(port));
    }
    let is_doubted = server.monitor().is_doubted();
    let borrowed = cluster.dispatcher().borrow(server.id);
    match borrowed.and_then(|worker| cluster.slot(worker)) {
        Some(slot) => slot.put_probe(id),
        None if server.is_unreachable() => {
            let wrong = (FaultClass::Connect, "no connection can be made".to_owned());
            controller.probed(server, id, Err(wrong));
        }
        // The server is new, or has closed all connections: they are being made.
        None if server.connected() == 0 => server.monitor().postponed(id, after(now, AGAIN)),
        // All workers are busy: what they do shows how the server is.
        None if !plan.health.when_busy => server.monitor().skipped(id, now),
        // A server that fails is probed however much it says: that may be the failures themselves.
        None if is_doubted => apart::probe(controller, server, id, now, None),
        // All workers are busy, and a server that has been silent for an interval is probed.
        None => {
            let interval = plan.health.settings.interval;
            match interval.checked_sub(silent_for(controller, server, now)) {
                None | Some(Duration::ZERO) => apart::probe(controller, server, id, now, None),
                Some(left) => server.monitor().postponed(id, after(now, left.max(AGAIN))),
            }
        }
    }
}
