//! Finding out how servers are: when each is probed, over which connection, and how a probe is made
//! apart from the workers.

mod apart;
mod prober;
mod watch;

pub use prober::Prober;
