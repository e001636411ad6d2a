//! The program's life: what is started in which order, what signals do, how it ends.

mod commands;
mod limits;
mod logging;
mod losses;
mod privileges;
mod reload;
mod render;
mod retired;
mod signals;
mod summary;
mod systemd;
mod view;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::base::buffers::BufferPool;
use crate::base::panic_points::Point;
use crate::base::time::after;
use crate::base::units::format_duration;
use crate::exchange::{Hub, HubSettings, Service, Spool};
use crate::fault::Fault;
use crate::net::listen::{self, Acceptor};
use crate::net::tls::ServerTls;
use crate::observe::access::AccessLog;
use crate::pipeline::{Pipeline, Table};
use crate::plan::{BindAddress, Listener, Plan};
use crate::session::{Door, Front};
use crate::state::{Keeper, held};
use crate::threads::{self, Kind};
use crate::upstream::{Clusters, Controller, Prober, Reaper};
use arc_swap::ArcSwap;

pub use commands::{Command, Control, Effect, Objection, Outcome};
pub use reload::Source;
pub use view::{ProcessView, View};

use commands::{Desk, Mailbox};
use limits::Limits;
use losses::Losses;
use reload::Tables;
use retired::Retired;
use summary::Summary;

/// The first attempts to connect are waited for so long, so that the first clients find workers.
const FIRST_CONNECTS: Duration = Duration::from_secs(1);

/// When the balancer stops, an idle client has so long to send its next request, which is then its
/// last. Without that, a request that is on its way would meet a closed connection.
const LAST_CALL: Duration = Duration::from_millis(1000);

/// How often a stop looks whether it is through.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Runs until a signal ends it. Each SIGHUP takes a new plan from the source.
pub fn run(plan: Plan, source: Source) -> ExitCode {
    let _last_messages = logging::start(&plan.process.log);
    match start(plan, source) {
        Ok((running, mailbox)) => running.until_stopped(mailbox),
        Err(problem) => {
            log::error!("{problem}");
            if !log::log_enabled!(log::Level::Error) {
                // Whoever wants no messages still wants to know why there is no balancer.
                eprintln!("juggler: {problem}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs.
struct Running {
    plan: Arc<ArcSwap<Plan>>,
    source: Source,
    hub: Arc<Hub>,
    /// All that run, those that are leaving too.
    clusters: Arc<Clusters>,
    /// Those of the plan, in its order, with their numbers.
    current: Vec<(usize, Arc<Controller>)>,
    retired: Arc<Retired>,
    tables: Tables,
    pipeline: Arc<Pipeline>,
    state: Option<PathBuf>,
    limits: Limits,
    front: Arc<Front>,
    /// Sockets of the service manager that no listener asks for now. It holds them too, so they
    /// cannot be bound anew.
    unused: Vec<Acceptor>,
    parked: Vec<Arc<Door>>,
    reaper: Reaper,
    prober: Prober,
    desk: Desk,
    /// Set once a stop has begun. A second SIGTERM or SIGINT then ends
    /// the process at once.
    stopping: Arc<AtomicBool>,
}

fn start(plan: Plan, source: Source) -> Result<(Running, Mailbox), String> {
    let told = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let plan = Arc::new(plan);
    let inherited = listen::inherited();
    // Before any thread is there, so that no signal is missed. And what ends the process first: for
    // one signal actions run in this order, and the other one leads to the flag being set, perhaps
    // before this one looks at it.
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
    let (desk, mailbox) = Desk::new(&hub, &clusters);
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

/// That large bodies cannot be taken is better told now than to the first client with one.
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

/// Binds everything, or takes over what the service manager has bound.
/// Those that no listener asks for are kept: the next configuration may.
fn doors(
    plan: &Plan,
    mut inherited: Vec<Acceptor>,
) -> Result<(Vec<Arc<Door>>, Vec<Acceptor>), String> {
    let mut doors = Vec::new();
    for listener in &plan.listeners {
        let tls = match &listener.tls {
            Some(settings) => Some(
                ServerTls::read(settings, None)
                    .map_err(|error| format!("listener {}: {error}", listener.name))?,
            ),
            None => None,
        };
        for address in &listener.bind {
            // One socket that was handed over may be for both families.
            let is_served = |door: &Arc<Door>| {
                door.listener().name == listener.name && door.acceptor().serves(address)
            };
            if doors.iter().any(is_served) {
                continue;
            }
            let handed_over = inherited
                .iter()
                .position(|acceptor| acceptor.serves(address));
            let acceptor = match handed_over {
                Some(index) => inherited.swap_remove(index),
                None => match bind(listener, address) {
                    Ok(acceptor) => acceptor,
                    Err((error, _)) if is_dispensable(address, listener, &error) => {
                        log::info!("listener {}: no IPv6 here", listener.name);
                        continue;
                    }
                    Err((_, problem)) => return Err(problem),
                },
            };
            let (listener, tls) = (Arc::clone(listener), tls.clone());
            doors.push(Arc::new(Door::new(
                acceptor,
                address.clone(),
                listener,
                tls,
            )));
        }
    }
    for acceptor in &inherited {
        log::warn!(
            "the service manager handed over {}, which no listener asks for",
            acceptor.local_name()
        );
    }
    Ok((doors, inherited))
}

fn bind(listener: &Listener, address: &BindAddress) -> Result<Acceptor, (io::Error, String)> {
    Acceptor::bind(address, listener.backlog, &listener.socket).map_err(|error| {
        let problem = format!(
            "listener {}: {}",
            listener.name,
            explain_bind(address, &error)
        );
        (error, problem)
    })
}

/// Keeps servers out of use that were so before a restart.
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

/// Whether `*:80` can do without this address: the half for IPv6, where the system has none.
fn is_dispensable(address: &BindAddress, listener: &Listener, error: &io::Error) -> bool {
    let BindAddress::Tcp(address) = address else {
        return false;
    };
    let other = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    error.raw_os_error() == Some(libc::EAFNOSUPPORT)
        && address.ip() == Ipv6Addr::UNSPECIFIED
        && listener.bind.contains(&BindAddress::Tcp(other))
}

fn explain_bind(address: &BindAddress, error: &io::Error) -> String {
    let place = match address {
        BindAddress::Tcp(address) => address.to_string(),
        BindAddress::Unix { path } => format!("unix:{}", path.display()),
    };
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there (`ss -lp` tells which)",
        io::ErrorKind::PermissionDenied if matches!(address, BindAddress::Unix { .. }) => {
            "; its folder must be writable, and only root may give a file to somebody else"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or CAP_NET_BIND_SERVICE: try sudo, or a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    };
    format!("cannot listen on {place}: {error}{hint}")
}

/// What is due every second.
struct Ticking {
    plan: Arc<ArcSwap<Plan>>,
    front: Arc<Front>,
    hub: Arc<Hub>,
    clusters: Arc<Clusters>,
    retired: Arc<Retired>,
}

impl Ticking {
    fn run(&self, summary: &mut Summary, losses: &mut Losses) {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            Point::Tick.pass();
            let now = Instant::now();
            self.front.make_room();
            self.hub.clients.end_lingering(now, &self.hub);
            self.hub.couriers.look();
            self.retired.look(&self.clusters);
            losses.tell(now, self.hub.access.as_ref());
            #[cfg(feature = "deadlock_detection")]
            report_deadlocks();
            if let Some(every) = self.plan.load().process.summary {
                let view = || View::take(&self.hub, &self.clusters, now);
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

impl Running {
    fn until_stopped(mut self, mailbox: Mailbox) -> ExitCode {
        mailbox.serve(|command| self.carry_out(command));
        systemd::notify("STOPPING=1");
        self.announce();
        self.drain();
        ExitCode::SUCCESS
    }

    fn carry_out(&mut self, command: Command) -> Outcome {
        match command {
            Command::Reload => {
                systemd::notify("RELOADING=1");
                let outcome = self.reload();
                systemd::notify("READY=1");
                outcome
            }
            Command::Report => {
                summary::write_report(&self.desk.view());
                Ok(Effect::Reported)
            }
            Command::Release {
                cluster,
                server,
                by,
            } => self.release(&cluster, &server, &by),
            Command::Stop => {
                self.stopping.store(true, Ordering::SeqCst);
                Ok(Effect::Stopping)
            }
        }
    }

    /// Lets a balancer in front notice that a stop is coming, before it would meet a closed door.
    /// Responses do not close their connections yet: their clients would only come again.
    fn announce(&self) {
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

    /// Finishes what is there, takes nothing new.
    fn drain(self) {
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
            // Who became idle later has its own last call: its response may have gone out before it
            // could say that it was the last.
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
