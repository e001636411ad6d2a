//! Exchanges whose holders have let go of them without an end: by a panic, or by a fault in the
//! program. They are answered and logged like all others.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;

/// An exchange that no thread holds.
pub(super) trait Orphan: fmt::Debug + Send {
    /// Ends it: with 500, or by a cut where the response has begun. A panic in there brings it here
    /// again, and less is tried the next time.
    fn end(self: Box<Self>);
}

/// Exchanges that no thread holds.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<Vec<Box<dyn Orphan>>>);

impl Lost {
    /// Takes one in. No other lock is taken: the thread that lets go of it may hold any.
    pub(super) fn add(&self, exchange: Box<dyn Orphan>) {
        self.0.lock().push(exchange);
    }

    /// Ends all. A panic in one leaves the others to be ended.
    pub(super) fn end_all(&self) {
        loop {
            let Some(exchange) = self.0.lock().pop() else {
                return;
            };
            if catch_unwind(AssertUnwindSafe(|| exchange.end())).is_err() {
                log::warn!("an exchange that was lost could not be answered");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Panicking {
        lost: Arc<Lost>,
        left: usize,
        ended: Arc<AtomicUsize>,
    }

    impl Orphan for Panicking {
        fn end(mut self: Box<Self>) {
            if self.left == 0 {
                self.ended.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.left -= 1;
            let lost = Arc::clone(&self.lost);
            lost.add(self);
            std::panic::resume_unwind(Box::new(()));
        }
    }

    #[test]
    fn every_one_is_ended_though_some_panic() {
        let (lost, ended) = (Arc::<Lost>::default(), Arc::default());
        for left in [0, 2, 1, 0] {
            let (lost, ended) = (Arc::clone(&lost), Arc::clone(&ended));
            Arc::clone(&lost).add(Box::new(Panicking { lost, left, ended }));
        }
        lost.end_all();
        assert_eq!(ended.load(Ordering::Relaxed), 4);
    }
}
