//! A client that asked for another protocol (`Upgrade`, RFC 9110 §7.8): its session waits until the
//! server has decided, and then sends what the client says straight on.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The server's end of a tunnel.
pub trait FarEnd: fmt::Debug + Send + Sync {
    /// Sends all of this, and waits as long as the server goes on taking some.
    fn send(&self, bytes: &[u8]) -> io::Result<()>;

    /// The client sends nothing more.
    fn end(&self);
}

/// What the server has decided.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Nothing yet.
    None,
    /// The connection is a tunnel from here on.
    Tunnel(Arc<dyn FarEnd>),
    /// The exchange is over, with a response or as a tunnel.
    Over,
}

/// What the two threads of an upgrade share.
#[derive(Debug)]
struct Switch {
    decision: Mutex<Decision>,
    decided: Condvar,
}

/// The session's side of an upgrade.
#[derive(Debug)]
pub struct Switched(Arc<Switch>);

/// The exchange's side of an upgrade. Once it is dropped the exchange is over.
#[derive(Debug)]
#[must_use = "the session waits until this is dropped"]
pub struct Switching(Arc<Switch>);

/// Both sides of an upgrade.
pub fn switch() -> (Switching, Switched) {
    let switch = Arc::new(Switch {
        decision: Mutex::new(Decision::None),
        decided: Condvar::new(),
    });
    (Switching(Arc::clone(&switch)), Switched(switch))
}

impl Switched {
    /// Waits for a decision, at most this long.
    pub fn wait(&self, patience: Duration) -> Decision {
        let mut decision = self.0.decision.lock();
        if matches!(*decision, Decision::None) {
            self.0.decided.wait_for(&mut decision, patience);
        }
        decision.clone()
    }

    /// Waits until the exchange is over, at most this long. Returns whether it is.
    pub fn wait_over(&self, patience: Duration) -> bool {
        let mut decision = self.0.decision.lock();
        if !matches!(*decision, Decision::Over) {
            self.0.decided.wait_for(&mut decision, patience);
        }
        matches!(*decision, Decision::Over)
    }
}

impl Switching {
    /// The server has switched protocols.
    pub fn open(&self, far: Arc<dyn FarEnd>) {
        *self.0.decision.lock() = Decision::Tunnel(far);
        self.0.decided.notify_all();
    }
}

impl Drop for Switching {
    fn drop(&mut self) {
        *self.0.decision.lock() = Decision::Over;
        self.0.decided.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nowhere;

    impl FarEnd for Nowhere {
        fn send(&self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn end(&self) {}
    }

    #[test]
    fn a_session_learns_what_the_server_has_decided_and_when_all_is_over() {
        let (switching, switched) = switch();
        assert!(matches!(switched.wait(Duration::ZERO), Decision::None));
        switching.open(Arc::new(Nowhere));
        assert!(matches!(switched.wait(Duration::MAX), Decision::Tunnel(_)));
        assert!(!switched.wait_over(Duration::ZERO));
        drop(switching);
        assert!(switched.wait_over(Duration::MAX));
        // An ordinary response.
        let (switching, switched) = switch();
        drop(switching);
        assert!(matches!(switched.wait(Duration::MAX), Decision::Over));
    }
}
