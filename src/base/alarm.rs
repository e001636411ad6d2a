//! Wakes a sleeping thread before its next round is due.

use std::sync::OnceLock;
use std::thread::Thread;

/// A way to wake one thread, from the moment that the thread exists.
#[derive(Debug, Default)]
pub struct Alarm(OnceLock<Thread>);

impl Alarm {
    /// Sets the thread to wake. Only the first call counts.
    pub fn set(&self, thread: &Thread) {
        self.0.get_or_init(|| thread.clone());
    }

    /// Ends the thread's sleep, or the next one that it begins. Without a thread this does nothing:
    /// a thread begins with a round.
    pub fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}
