//! The reasons for an early end.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// The reason for the end of a run.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The user has asked for an end.
    Interrupted,
    /// A failure, in words.
    Failed(String),
}

/// The result of most functions here.
pub(crate) type Outcome<T> = Result<T, Problem>;

impl Problem {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Puts the subject in front of an error.
pub(crate) fn about<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Problem {
    move |error| Problem::Failed(format!("{what}: {error}"))
}

/// Whether the user has asked for an end (Ctrl-C, or the signal of a closed terminal or a service
/// manager).
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From here on signals only set a flag. The code that started a child ends it.
    pub(crate) fn install() -> Outcome<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(about("signals"))?;
        }
        Ok(Self(flag))
    }

    pub(crate) fn check(&self) -> Outcome<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Problem::Interrupted);
        }
        Ok(())
    }

    pub(crate) fn sleep(&self, time: Duration) -> Outcome<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}
