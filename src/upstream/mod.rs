//! The back: clusters, their workers, and who watches deadlines. Nothing but a worker ever connects to a server.

mod batch;
mod cluster;
mod connection;
mod reaper;
mod relay;
mod slot;
mod worker;

pub use cluster::Cluster;
pub use reaper::Reaper;
