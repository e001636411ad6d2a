//! Why a server's state has changed, and how that is displayed.

use std::fmt;

use crate::fault::FaultClass;

/// Why a state has changed. Displayed in words, without a full stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server is new, and its mode trusts it.
    Trusted,
    /// Enough probes succeeded.
    ProbesSucceeded(u32),
    /// Enough probes failed. The class is the last one's.
    ProbesFailed(u32, FaultClass),
    /// Exchanges failed in a row.
    ExchangesFailed(u32, FaultClass),
    /// Too many of the exchanges within the window failed.
    FailureRatio {
        /// The number of exchanges that failed.
        failed: usize,
        /// The number of all exchanges.
        of: usize,
    },
    /// The settings of health checking have changed.
    Reconfigured,
    /// An operator, named here, released the server.
    Released(String),
    /// A cause from a process before this one, in its words.
    Remembered(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trusted => out.write_str("trusted from the start"),
            Self::ProbesSucceeded(1) => out.write_str("1 probe succeeded"),
            Self::ProbesSucceeded(times) => write!(out, "{times} probes succeeded"),
            Self::ProbesFailed(1, class) => write!(out, "1 probe failed: {class}"),
            Self::ProbesFailed(times, class) => {
                write!(out, "{times} probes failed, the last: {class}")
            }
            Self::ExchangesFailed(times, FaultClass::Connect) => {
                write!(
                    out,
                    "{times} attempts in a row failed: {}",
                    FaultClass::Connect
                )
            }
            Self::ExchangesFailed(times, class) => {
                write!(out, "{times} exchanges in a row failed: {class}")
            }
            Self::FailureRatio { failed, of } => write!(out, "{failed} of {of} exchanges failed"),
            Self::Reconfigured => out.write_str("health checking was changed"),
            Self::Released(who) => write!(out, "released by {who}"),
            Self::Remembered(cause) => out.write_str(cause),
        }
    }
}
