//! Jobs that are to be tried again, but not yet: a retry that backs off rests until its time has
//! come, and holds up nobody meanwhile. It has no token, and is not in the queue; when its time has
//! come it goes to the head of its bucket.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use super::queue::{IdHasher, Waiting};
use super::{BucketId, Dispatcher, Handout, Refusal, ServerId};

/// All jobs that rest.
#[derive(Debug)]
pub(super) struct Resting<J> {
    /// By the end of its rest, or of its patience if that comes first; and by number.
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

    /// When the shortest rest ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.jobs.first_key_value().map(|((end, _), _)| *end)
    }

    /// A job rests for so long.
    pub(super) fn add(&mut self, waiting: Waiting<J>, back_off: Duration, now: Instant) {
        let gives_up = waiting.gives_up();
        let end = now
            .checked_add(back_off)
            .map_or(gives_up, |due| due.min(gives_up));
        let id = waiting.ticket.id;
        self.ends.insert(id, end);
        self.jobs.insert((end, id), waiting);
    }

    /// Takes out the job of this number.
    fn remove(&mut self, id: u64) -> Option<Waiting<J>> {
        if self.jobs.is_empty() {
            return None;
        }
        let end = self.ends.remove(&id)?;
        self.jobs.remove(&(end, id))
    }

    /// Takes out the job whose rest ends first, if it has ended by then.
    fn take_due(&mut self, now: Instant) -> Option<Waiting<J>> {
        let first = self
            .jobs
            .first_entry()
            .filter(|first| first.key().0 <= now)?;
        let waiting = first.remove();
        self.ends.remove(&waiting.ticket.id);
        Some(waiting)
    }

    /// Any job, to let nobody rest any more.
    fn take_any(&mut self) -> Option<Waiting<J>> {
        let (_, waiting) = self.jobs.pop_first()?;
        self.ends.remove(&waiting.ticket.id);
        Some(waiting)
    }

    /// All jobs of a bucket are another's from now on.
    pub(super) fn move_all(&mut self, from: BucketId, to: BucketId) {
        let own = self
            .jobs
            .values_mut()
            .filter(|job| job.ticket.bucket == from);
        own.for_each(|job| job.ticket.bucket = to);
    }

    /// Nobody avoids this server any more.
    pub(super) fn forget(&mut self, server: ServerId) {
        let avoiding = (self.jobs.values_mut()).filter(|job| job.ticket.avoid == Some(server));
        avoiding.for_each(|job| job.ticket.avoid = None);
    }
}

impl<J> Dispatcher<J> {
    /// Does what is due by now: whose rest is over goes to the head of its bucket (of several the
    /// one whose rest ended first), and to a worker if there is one for it; whose deadline has
    /// passed, resting or waiting, is refused ([`Refusal::QueueTimeout`]).
    pub fn wake(&mut self, now: Instant) -> Handout<J> {
        let mut handout = Handout::default();
        while let Some(slot) = self.queue.first_expired(now)
            && let Some(waiting) = self.withdraw(slot)
        {
            handout.refused.push((Refusal::QueueTimeout, waiting.job));
        }
        let due = std::iter::from_fn(|| self.resting.take_due(now)).collect::<Vec<_>>();
        for waiting in due.into_iter().rev() {
            if waiting.gives_up() <= now {
                self.forgive(&waiting);
                handout.refused.push((Refusal::QueueTimeout, waiting.job));
            } else {
                self.put_back(waiting, None, &mut handout, now);
            }
        }
        self.settle(now, &mut handout);
        handout
    }

    /// When [`Self::wake`] is to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (waiting, resting) = (self.queue.next_deadline(), self.resting.next_end());
        waiting.into_iter().chain(resting).min()
    }

    /// A resting job is over, if the job of this number is one.
    pub(super) fn rouse(&mut self, id: u64) -> Option<J> {
        let waiting = self.resting.remove(id)?;
        self.forgive(&waiting);
        Some(waiting.job)
    }

    /// All resting jobs are over.
    pub(super) fn refuse_resting(&mut self, refusal: Refusal, refused: &mut Vec<(Refusal, J)>) {
        while let Some(waiting) = self.resting.take_any() {
            self.forgive(&waiting);
            refused.push((refusal, waiting.job));
        }
    }
}

#[cfg(test)]
impl<J> Resting<J> {
    /// Whether each is found by its number.
    pub(super) fn check(&self) {
        assert_eq!(self.jobs.len(), self.ends.len());
        for ((end, id), waiting) in &self.jobs {
            assert_eq!((waiting.ticket.id, self.ends.get(id)), (*id, Some(end)));
            assert!(*end <= waiting.gives_up());
            assert_eq!(waiting.bound, None);
        }
    }
}
