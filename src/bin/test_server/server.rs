//! What all connections share.

use std::path::PathBuf;

use crate::stats::Stats;

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    /// The name in X-Test-Server.
    pub(crate) name: String,
    /// The served folder, an absolute path without links in it.
    pub(crate) root: Option<PathBuf>,
    /// What has been counted.
    pub(crate) stats: Stats,
}
