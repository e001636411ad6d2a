//! Everything that runs, as the main thread has it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config;
use crate::exchange::{Hub, Promise};
use crate::net::listen::Acceptor;
use crate::pipeline::Pipeline;
use crate::plan::Plan;
use crate::session::{Door, Front};
use crate::upstream::{Clusters, Controller, Prober, Reaper};

use super::commands::Desk;
use super::limits::Limits;
use super::retired::Retired;

/// The first attempts to connect are waited for so long, so that the first clients find workers.
pub(super) const FIRST_CONNECTS: Duration = Duration::from_secs(1);

/// Where the configuration comes from, each time anew.
pub type Source = Box<dyn Fn() -> config::Outcome + Send>;

/// Tables that may still be used by requests that are being read.
pub(super) type Tables = Vec<Weak<Promise>>;

/// Everything that runs.
pub(super) struct Running {
    pub(super) plan: Arc<ArcSwap<Plan>>,
    pub(super) source: Source,
    pub(super) hub: Arc<Hub>,
    /// All clusters that run, those too that are leaving.
    pub(super) clusters: Arc<Clusters>,
    /// The clusters of the plan, in its order, with their numbers.
    pub(super) current: Vec<(usize, Arc<Controller>)>,
    pub(super) retired: Arc<Retired>,
    pub(super) tables: Tables,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) state: Option<PathBuf>,
    pub(super) limits: Limits,
    pub(super) front: Arc<Front>,
    /// Sockets of the service manager that no listener asks for now. The service manager holds them
    /// too, so they cannot be bound anew.
    pub(super) unused: Vec<Acceptor>,
    pub(super) parked: Vec<Arc<Door>>,
    pub(super) reaper: Reaper,
    pub(super) prober: Prober,
    pub(super) desk: Desk,
    /// Set once a stop has begun. A second SIGTERM or SIGINT then ends the process at once.
    pub(super) stopping: Arc<AtomicBool>,
}
