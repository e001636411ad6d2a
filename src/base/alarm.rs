//! Wakes a thread that looks after something, before it would look by itself.

use std::sync::OnceLock;
use std::thread::Thread;

/// Leads to one thread, once that is there.
#[derive(Debug, Default)]
pub struct Alarm(OnceLock<Thread>);

impl Alarm {
    /// From now on it wakes this thread. Only the first one counts.
    pub fn set(&self, thread: &Thread) {
        self.0.get_or_init(|| thread.clone());
    }

    /// Ends the thread's sleep, or the next one that it begins. A thread that is not there yet
    /// looks when it comes.
    pub fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}
