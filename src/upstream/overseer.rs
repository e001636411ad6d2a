//! What a worker reports to its overseer, which it knows by this trait alone.

use std::sync::Arc;

use crate::balance::{ServerId, WorkerId};
use crate::health::{Failure, FaultClass, ProbeId};

use super::server::Server;

/// How a probe went; what was wrong comes with its description for the log.
pub(super) type ProbeResult = Result<(), (FaultClass, String)>;

/// Hears from workers what concerns more than one of them. All calls may take the control lock, so
/// a worker makes them with no lock held.
pub(super) trait Overseer: Send + Sync {
    /// The first attempt of a worker to connect is over, however it ended.
    fn tried(&self);

    /// An exchange with `server`, or an attempt to connect to it, shows this of the server.
    fn exchanged(&self, server: &Arc<Server>, result: Result<(), Failure>);

    /// The probe `id` of `server` is over.
    fn probed(&self, server: &Arc<Server>, id: ProbeId, result: ProbeResult);

    /// Whether `server` can be reached, or what its connections are worth, is not what it was: its
    /// other workers look at it now.
    fn contact_changed(&self, server: &Server);

    /// The thread of `worker` ends. The worker has no job and never gets one again.
    fn ended(&self, worker: WorkerId, server: ServerId);
}
