//! The back: clusters, their workers, and who watches deadlines and health. Nothing but a worker
//! ever connects to a server.

mod batch;
mod cluster;
mod clusters;
mod connection;
mod control;
mod life;
mod link;
#[cfg(test)]
mod played;
mod probe;
mod prober;
mod reaper;
mod relay;
mod resolver;
mod server;
mod slot;
mod speak;
mod watch;
mod worker;

pub use cluster::Cluster;
pub use clusters::Clusters;
pub use prober::Prober;
pub use reaper::Reaper;
