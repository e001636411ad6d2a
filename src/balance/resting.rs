//! Jobs that wait for their next attempt. A retry that backs off rests until its time has come, and
//! delays no other job meanwhile. A resting job has no token and is not in the queue. When its time
//! has come it goes to the head of its bucket.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use super::queue::{IdHasher, Waiting};
use super::{BucketId, ServerId};

/// All jobs that rest.
#[derive(Debug)]
pub(super) struct Resting<J> {
    /// Keyed by the end of the rest (or the deadline if that is earlier) and the number.
    jobs: BTreeMap<(Instant, u64), Waiting<J>>,
    ends: HashMap<u64, Instant, BuildHasherDefault<IdHasher>>,
}

impl<J> Resting<J> {
    pub(super) fn new() -> Self {
        Self {
            jobs: BTreeMap::new(),
            ends: HashMap::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns when the first rest ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.jobs.first_key_value().map(|((end, _), _)| *end)
    }

    /// Lets a job rest for `back_off`.
    pub(super) fn add(&mut self, waiting: Waiting<J>, back_off: Duration, now: Instant) {
        let gives_up = waiting.gives_up();
        let end = now
            .checked_add(back_off)
            .map_or(gives_up, |due| due.min(gives_up));
        let id = waiting.ticket.id;
        self.ends.insert(id, end);
        self.jobs.insert((end, id), waiting);
    }

    /// Removes the job with this number.
    pub(super) fn remove(&mut self, id: u64) -> Option<Waiting<J>> {
        if self.jobs.is_empty() {
            return None;
        }
        let end = self.ends.remove(&id)?;
        self.jobs.remove(&(end, id))
    }

    /// Removes the job whose rest ends first, if it has ended by `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Waiting<J>> {
        let first = self
            .jobs
            .first_entry()
            .filter(|first| first.key().0 <= now)?;
        let waiting = first.remove();
        self.ends.remove(&waiting.ticket.id);
        Some(waiting)
    }

    /// Removes any job, for ending all rests.
    pub(super) fn take_any(&mut self) -> Option<Waiting<J>> {
        let (_, waiting) = self.jobs.pop_first()?;
        self.ends.remove(&waiting.ticket.id);
        Some(waiting)
    }

    /// Moves all jobs of a bucket to another one.
    pub(super) fn move_all(&mut self, from: BucketId, to: BucketId) {
        let own = self
            .jobs
            .values_mut()
            .filter(|job| job.ticket.bucket == from);
        own.for_each(|job| job.ticket.bucket = to);
    }

    /// Ends the avoidance of this server.
    pub(super) fn forget(&mut self, server: ServerId) {
        let avoiding = (self.jobs.values_mut()).filter(|job| job.ticket.avoid == Some(server));
        avoiding.for_each(|job| job.ticket.avoid = None);
    }
}

#[cfg(test)]
impl<J> Resting<J> {
    /// Checks that each job is found by its number.
    pub(super) fn check(&self) {
        assert_eq!(self.jobs.len(), self.ends.len());
        for ((end, id), waiting) in &self.jobs {
            assert_eq!((waiting.ticket.id, self.ends.get(id)), (*id, Some(end)));
            assert!(*end <= waiting.gives_up());
            assert_eq!(waiting.bound, None);
        }
    }
}
