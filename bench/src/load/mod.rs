//! Loads that wrk cannot make: arrivals at set times, TLS handshakes, clients beside the load.

pub(crate) mod beside;
pub(crate) mod handshake;
mod latencies;
pub(crate) mod open_loop;
mod response;

use crate::results::Errors;

/// The findings of a load.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    /// The values for `PERCENTILES`.
    pub(crate) latency_us: Vec<u64>,
    pub(crate) errors: Errors,
    /// The share of handshakes that were resumed.
    pub(crate) resumed: Option<f64>,
}

impl Measured {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 {
            self.requests as f64 / self.seconds
        } else {
            0.0
        }
    }
}
