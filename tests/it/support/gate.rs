//! A gate that holds threads until the test opens it.

use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// Holds each thread that comes until the gate is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    open: bool,
    came: usize,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Waits until the gate is open.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.came += 1;
        changed.notify_all();
        let (state, timed_out) = changed
            .wait_timeout_while(state, 3 * PATIENCE, |state| !state.open)
            .unwrap();
        drop(state);
        assert!(!timed_out.timed_out(), "the gate was never opened");
    }

    /// Lets all threads through, now and later.
    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }

    /// Holds each thread that comes from now on.
    pub(crate) fn close(&self) {
        self.0.0.lock().unwrap().open = false;
    }

    /// How many threads have come so far.
    pub(crate) fn came(&self) -> usize {
        self.0.0.lock().unwrap().came
    }

    /// Waits until `count` threads have come in all.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let (state, timed_out) = changed
            .wait_timeout_while(state, PATIENCE, |state| state.came < count)
            .unwrap();
        assert!(
            !timed_out.timed_out(),
            "only {} of {count} came to the gate",
            state.came
        );
    }
}
