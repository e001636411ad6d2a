//! The back: clusters, their workers, and what changes and watches them. But for probes apart, only
//! a worker connects to a server.

mod carrier;
mod cluster;
mod clusters;
mod connection;
mod contact;
mod control;
mod health;
mod lane;
mod link;
mod overseer;
#[cfg(test)]
mod played;
mod question;
mod reaper;
mod relay;
mod resolver;
mod server;
mod slot;
mod speak;
mod tunnel;
mod view;
mod worker;

pub use cluster::Cluster;
pub use clusters::Clusters;
pub use contact::Manner;
pub use control::Controller;
pub use health::Prober;
pub use reaper::Reaper;
pub use view::{BucketView, ClusterView, HealthView, ServerView};
