//! Places for requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places for requests at once.
#[derive(Debug)]
pub(super) struct Places {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Places {
    /// The number of places.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: AtomicUsize::new(most),
            taken: AtomicUsize::new(0),
        })
    }

    /// From now on there are so many. Those that are taken stay so.
    pub(super) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Takes a place, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Permit> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        (before < self.most.load(Ordering::Relaxed)).then_some(permit)
    }

    /// Takes a place, whether one is free or not.
    pub(super) fn take_regardless(self: &Arc<Self>) -> Permit {
        self.taken.fetch_add(1, Ordering::Relaxed);
        Permit(Arc::clone(self))
    }

    /// Places that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A place among the requests at once, given back when dropped.
#[derive(Debug)]
#[must_use = "the place is given back at once"]
pub struct Permit(Arc<Places>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_are_taken_than_there_are_but_regardless() {
        let places = Places::new(1);
        let first = places.take().unwrap();
        assert!(places.take().is_none());
        assert_eq!(places.taken(), 1, "what was refused is no place");
        let second = places.take_regardless();
        assert_eq!(places.taken(), 2);
        drop(first);
        assert!(places.take().is_none(), "still one");
        places.set_most(2);
        assert!(places.take().is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
    }
}
