//! Limits and errors of the system.

use std::io;

/// Raises the limit of open files as far as the system allows.
pub(crate) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // On failure there are only fewer connections.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Returns the same error with its subject in front.
pub(crate) fn named(what: &dyn std::fmt::Display, problem: &io::Error) -> io::Error {
    io::Error::new(problem.kind(), format!("{what}: {problem}"))
}
