//! The start: everything is bound and opened, then privileges are dropped, then threads are
//! started.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arc_swap::ArcSwap;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::base::buffers::BufferPool;
use crate::base::time::after;
use crate::exchange::{Hub, HubSettings, Service, Spool};
use crate::net::listen;
use crate::observe::access::AccessLog;
use crate::pipeline::{Pipeline, Table};
use crate::plan::Plan;
use crate::session::Front;
use crate::state::{Keeper, held};
use crate::threads::{self, Kind};
use crate::upstream::{Clusters, Controller, Prober, Reaper};

use super::commands::{Desk, Mailbox};
use super::doors::doors;
use super::limits::Limits;
use super::losses::Losses;
use super::retired::Retired;
use super::running::{FIRST_CONNECTS, Running, Source, Tables};
use super::summary::Summary;
use super::tick::Ticking;
use super::{privileges, signals, systemd};

/// Starts everything, in the order in which it depends on each other.
pub(super) fn start(plan: Plan, source: Source) -> Result<(Running, Mailbox), String> {
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let plan = Arc::new(plan);
    let inherited = listen::inherited();
    // Registered before any thread is there, so that no signal is missed. What ends the process
    // comes first: the actions of a signal run in this order, and the second one leads to the flag
    // being set, perhaps before the first one has looked at it.
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stopping))
            .map_err(told("signals"))?;
    }
    // A file that has grown to the process's limit (RLIMIT_FSIZE) is then an error of the write and
    // no end of the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(told("signals"))?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map_err(told("signals"))?;

    let limits = Limits::find(&plan, None);
    let (doors, unused) = doors(&plan, inherited)?;
    let access = match &plan.process.log.access {
        Some(settings) => Some(
            AccessLog::open(settings, plan.process.log.queue)
                .map_err(told("the access log cannot be opened"))?,
        ),
        None => None,
    };
    privileges::drop_to(&plan)?;
    check_spool(&plan);

    let buffers = BufferPool::new(plan.process.buffers.region, plan.process.buffers.size);
    let spool = Spool::new(plan.process.spool.folder.clone(), plan.process.spool.limit);
    let settings = HubSettings {
        max_requests: plan.process.max_requests,
        max_couriers: limits.couriers,
        batch_scheduling: plan.process.batch_scheduling,
        resolve: plan.process.resolve,
    };
    let hub = Hub::new(settings, buffers, spool, access);
    let now = Instant::now();
    let clusters = Arc::new(Clusters::default());
    let mut current = Vec::new();
    for cluster in &plan.clusters {
        let cluster = Controller::start(cluster, &hub, now);
        current.push((clusters.add(Arc::clone(&cluster)), cluster));
    }
    let state = plan.process.state.clone();
    hold_back(state.as_ref(), &current);
    let reaper =
        Reaper::start(Arc::clone(&clusters), &hub).map_err(told("the reaper cannot be started"))?;
    let prober = Prober::start(Arc::clone(&clusters), &hub, state.clone().map(Keeper::new))
        .map_err(told("the prober cannot be started"))?;
    current
        .iter()
        .for_each(|(_, cluster)| cluster.wait_tried(after(now, FIRST_CONNECTS)));
    let table = Table::new(Arc::clone(&plan), &current);
    let pipeline = Arc::new(Pipeline::new(Arc::clone(&clusters), table));
    let service: Arc<dyn Service> = Arc::clone(&pipeline) as Arc<dyn Service>;
    let front = Front::new(&hub, service, doors, limits.sessions, plan.process.min_idle);
    front.open().map_err(told("a session cannot be started"))?;
    for door in front.doors().iter() {
        log::info!(
            "listening on {} (listener {})",
            door.acceptor().local_name(),
            door.listener().name
        );
    }
    let plan = Arc::new(ArcSwap::new(plan));
    let retired = Arc::new(Retired::default());
    let ticking = Ticking {
        plan: Arc::clone(&plan),
        front: Arc::clone(&front),
        hub: Arc::clone(&hub),
        clusters: Arc::clone(&clusters),
        retired: Arc::clone(&retired),
    };
    let (mut summary, mut losses) = (Summary::new(now), Losses::default());
    threads::tend(Kind::Tick, "tick".to_owned(), move || {
        ticking.run(&mut summary, &mut losses);
    })
    .map_err(told("the tick cannot be started"))?;
    let (desk, mailbox) = Desk::new(&hub, &front, &clusters);
    let of_signals = desk.clone();
    threads::tend(Kind::Signals, "signals".to_owned(), move || {
        signals::serve(&mut signals, &of_signals);
    })
    .map_err(told("signals"))?;
    log::info!("ready");
    systemd::notify("READY=1");
    let running = Running {
        plan,
        source,
        hub,
        clusters,
        current,
        retired,
        tables: Tables::new(),
        pipeline,
        state,
        limits,
        front,
        unused,
        parked: Vec::new(),
        reaper,
        prober,
        desk,
        stopping,
    };
    Ok((running, mailbox))
}

/// Warns if large bodies cannot be taken: better now than to the first client with one.
fn check_spool(plan: &Plan) {
    let spool = &plan.process.spool;
    if spool.limit > 0
        && let Err(error) = tempfile::tempfile_in(&spool.folder)
    {
        log::warn!(
            "no files can be made in {}: {error}; bodies too large for memory will be refused \
             (spool.folder)",
            spool.folder.display()
        );
    }
}

/// Keeps servers out of use that were kept so before a restart.
fn hold_back(state: Option<&PathBuf>, clusters: &[(usize, Arc<Controller>)]) {
    let Some(path) = state else { return };
    match held::load(path) {
        Ok(file) => {
            for server in &file.held {
                if let Some((_, cluster)) = clusters
                    .iter()
                    .find(|(_, cluster)| cluster.name() == server.cluster)
                {
                    cluster.keep_out(server);
                }
            }
        }
        Err(error) => log::error!("{error}"),
    }
}
