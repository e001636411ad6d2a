//! What changes a cluster: its start and end, reloads, servers that come and go, workers that begin
//! and end, health that is put into effect.
//!
//! All of it happens under the control lock, one change after the other. The data path never takes
//! this lock, and workers know nothing of it: they report to an `Overseer`.

mod buckets;
mod controller;
mod health;
mod life;
mod look;
mod reload;
mod report;
mod roster;
mod servers;
mod staff;

pub use controller::Controller;
pub(super) use roster::is_watched;
