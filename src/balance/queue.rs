//! Jobs that wait: first in, first out, but for retries, which go to the head.
//!
//! Not every worker may take every job, so the queue has several *lanes*, and each job is numbered on entering:
//!
//! * the jobs that any worker may take, one lane;
//! * for each server, the jobs that avoid it;
//! * for each server, the jobs bound to it (early binding only).
//!
//! The first two kinds are *open*; a heap of their first jobs finds the oldest open one that does not avoid a certain server
//! without looking at the jobs in between, even when half the queue avoids it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use super::heap::IndexedHeap;
use super::{ServerId, Ticket};

/// No slot.
const NONE: u32 = u32::MAX;

/// The lane of jobs that any worker may take.
const ANY: u32 = 0;

/// A queued job's place in memory, valid until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// A job that waits.
#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub(super) job: J,
    pub(super) ticket: Ticket,
    /// It counts against the retry budget.
    pub(super) retry: bool,
}

/// Which end of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Head,
    Tail,
}

/// All queued jobs of a bucket.
#[derive(Debug)]
pub(super) struct Queue<J> {
    entries: Vec<Entry<J>>,
    /// First of the unused entries, linked by `next`.
    free: u32,
    lanes: Vec<Lane>,
    /// The first job of each open lane that has one, by number.
    heads: IndexedHeap<i64>,
    /// Every queued job's deadline: they are not in order, since a retry keeps its old one.
    deadlines: IndexedHeap<Instant>,
    ids: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    /// Numbers given out so far lie between the two.
    before: i64,
    after: i64,
    len: usize,
}

#[derive(Debug)]
struct Entry<J> {
    waiting: Option<Waiting<J>>,
    number: i64,
    lane: u32,
    previous: u32,
    next: u32,
}

#[derive(Debug)]
struct Lane {
    first: u32,
    last: u32,
    /// Jobs in it.
    len: usize,
    /// Where the last job was merged in.
    cursor: u32,
}

impl<J> Queue<J> {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            lanes: vec![Lane::new()],
            heads: IndexedHeap::new(),
            deadlines: IndexedHeap::new(),
            ids: HashMap::default(),
            before: -1,
            after: 0,
            len: 0,
        }
    }

    /// There is one more server.
    pub(super) fn add_server(&mut self) {
        self.lanes.push(Lane::new());
        self.lanes.push(Lane::new());
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Jobs bound to this server.
    pub(super) fn bound_len(&self, server: ServerId) -> usize {
        self.lanes[bound_lane(server) as usize].len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a job, for workers of one server only if it is bound.
    pub(super) fn push(&mut self, end: End, bound: Option<ServerId>, mut waiting: Waiting<J>) {
        // A server that is added later is not the one that was meant.
        waiting.ticket.avoid = waiting
            .ticket
            .avoid
            .filter(|server| (server.0 as usize) < self.lanes.len() / 2);
        let lane = match bound {
            Some(server) => bound_lane(server),
            None => open_lane(waiting.ticket.avoid),
        };
        let Ticket { id, deadline, .. } = waiting.ticket;
        let slot = self.allocate(waiting);
        let number = match end {
            End::Head => &mut self.before,
            End::Tail => &mut self.after,
        };
        self.entries[slot as usize].number = *number;
        let Lane { first, last, .. } = self.lanes[lane as usize];
        match end {
            End::Head => {
                *number -= 1;
                self.link(slot, lane, NONE, first);
            }
            End::Tail => {
                *number += 1;
                self.link(slot, lane, last, NONE);
            }
        }
        self.deadlines.set(slot, deadline);
        self.ids.insert(id, slot);
        self.len += 1;
    }

    /// The first open job.
    pub(super) fn first_open(&self) -> Option<Slot> {
        self.heads.first().map(|(_, lane)| self.first_of(lane))
    }

    /// The first open job that does not avoid this server.
    pub(super) fn first_open_not_avoiding(&self, server: ServerId) -> Option<Slot> {
        self.heads
            .first_except(avoiding_lane(server))
            .map(|(_, lane)| self.first_of(lane))
    }

    /// The first job for a worker of this server: open or bound to it.
    pub(super) fn first_for(&self, server: ServerId, heed_avoidance: bool) -> Option<Slot> {
        let open = if heed_avoidance {
            self.first_open_not_avoiding(server)
        } else {
            self.first_open()
        };
        let bound = self.lanes[bound_lane(server) as usize].first;
        match open {
            open if bound == NONE => open,
            Some(Slot(open)) if self.number(open) < self.number(bound) => Some(Slot(open)),
            _ => Some(Slot(bound)),
        }
    }

    /// The first job of all whose deadline has passed.
    pub(super) fn first_expired(&self, now: Instant) -> Option<Slot> {
        self.deadlines
            .first()
            .filter(|(deadline, _)| *deadline <= now)
            .map(|(_, slot)| Slot(slot))
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| deadline)
    }

    /// Any job, to empty the queue.
    pub(super) fn any(&self) -> Option<Slot> {
        self.deadlines.first().map(|(_, slot)| Slot(slot))
    }

    /// Where the job of this number is.
    pub(super) fn find(&self, id: u64) -> Option<Slot> {
        // With nothing queued (the usual case) there is nothing to hash.
        if self.is_empty() {
            None
        } else {
            self.ids.get(&id).copied().map(Slot)
        }
    }

    /// The ticket of the job in a slot.
    pub(super) fn ticket(&self, slot: Slot) -> Option<&Ticket> {
        self.entries
            .get(slot.0 as usize)?
            .waiting
            .as_ref()
            .map(|waiting| &waiting.ticket)
    }

    /// Takes the job out of a slot.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Waiting<J>> {
        let Slot(slot) = slot;
        let waiting = self.entries.get_mut(slot as usize)?.waiting.take()?;
        self.unlink(slot);
        self.deadlines.remove(slot);
        self.ids.remove(&waiting.ticket.id);
        self.entries[slot as usize].next = self.free;
        self.free = slot;
        self.len -= 1;
        Some(waiting)
    }

    /// Opens the jobs bound to a server to all others, at the place that their numbers give them.
    ///
    /// Linear in the jobs waiting, once for a server that is lost.
    pub(super) fn unbind(&mut self, server: ServerId) {
        let bound = bound_lane(server);
        if self.lanes[bound as usize].first == NONE {
            return;
        }
        for lane in &mut self.lanes {
            lane.cursor = NONE;
        }
        while let slot = self.lanes[bound as usize].first
            && slot != NONE
        {
            let avoid = self.ticket(Slot(slot)).and_then(|ticket| ticket.avoid);
            self.unlink(slot);
            self.merge(slot, open_lane(avoid));
        }
    }

    /// Inserts an entry with a greater number than the one merged before.
    fn merge(&mut self, slot: u32, lane: u32) {
        let number = self.number(slot);
        let Lane { first, cursor, .. } = self.lanes[lane as usize];
        let mut previous = cursor;
        let mut next = if cursor == NONE {
            first
        } else {
            self.entries[cursor as usize].next
        };
        while next != NONE && self.number(next) < number {
            previous = next;
            next = self.entries[next as usize].next;
        }
        self.link(slot, lane, previous, next);
        self.lanes[lane as usize].cursor = slot;
    }

    fn first_of(&self, lane: u32) -> Slot {
        Slot(self.lanes[lane as usize].first)
    }

    fn number(&self, slot: u32) -> i64 {
        self.entries[slot as usize].number
    }

    fn allocate(&mut self, waiting: Waiting<J>) -> u32 {
        let entry = Entry {
            waiting: Some(waiting),
            number: 0,
            lane: ANY,
            previous: NONE,
            next: NONE,
        };
        match self.free {
            NONE => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            slot => {
                self.free = self.entries[slot as usize].next;
                self.entries[slot as usize] = entry;
                slot
            }
        }
    }

    fn link(&mut self, slot: u32, lane: u32, previous: u32, next: u32) {
        let entry = &mut self.entries[slot as usize];
        (entry.lane, entry.previous, entry.next) = (lane, previous, next);
        self.lanes[lane as usize].len += 1;
        match previous {
            NONE => self.lanes[lane as usize].first = slot,
            previous => self.entries[previous as usize].next = slot,
        }
        match next {
            NONE => self.lanes[lane as usize].last = slot,
            next => self.entries[next as usize].previous = slot,
        }
        if previous == NONE {
            self.head_changed(lane);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry {
            lane, previous, next, ..
        } = self.entries[slot as usize];
        self.lanes[lane as usize].len -= 1;
        match previous {
            NONE => self.lanes[lane as usize].first = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => self.lanes[lane as usize].last = previous,
            next => self.entries[next as usize].previous = previous,
        }
        if previous == NONE {
            self.head_changed(lane);
        }
    }

    fn head_changed(&mut self, lane: u32) {
        if is_bound_lane(lane) {
            return;
        }
        match self.lanes[lane as usize].first {
            NONE => self.heads.remove(lane),
            first => self.heads.set(lane, self.number(first)),
        }
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            first: NONE,
            last: NONE,
            len: 0,
            cursor: NONE,
        }
    }
}

fn open_lane(avoid: Option<ServerId>) -> u32 {
    avoid.map_or(ANY, avoiding_lane)
}

fn avoiding_lane(server: ServerId) -> u32 {
    1 + 2 * server.0
}

fn bound_lane(server: ServerId) -> u32 {
    2 + 2 * server.0
}

fn is_bound_lane(lane: u32) -> bool {
    lane != ANY && lane.is_multiple_of(2)
}

/// Mixes a job's number with one multiplication: the numbers are our own, nobody can choose them to collide.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        let product = u128::from(self.0 ^ id) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

#[cfg(test)]
impl<J> Queue<J> {
    /// Whether every structure agrees with every other, and all is free when nothing waits.
    pub(super) fn check(&self) {
        let mut queued = 0;
        let mut heads = 0;
        for (lane, ends) in self.lanes.iter().enumerate() {
            let (mut previous, mut slot) = (NONE, ends.first);
            let before = queued;
            while slot != NONE {
                let entry = &self.entries[slot as usize];
                let waiting = entry.waiting.as_ref().expect("a linked entry holds a job");
                assert_eq!((entry.lane, entry.previous), (lane as u32, previous));
                assert!(
                    previous == NONE || self.number(previous) < entry.number,
                    "a lane is in order"
                );
                assert_eq!(self.ids.get(&waiting.ticket.id), Some(&slot));
                if !is_bound_lane(lane as u32) {
                    assert_eq!(open_lane(waiting.ticket.avoid), lane as u32);
                }
                (previous, slot) = (slot, entry.next);
                queued += 1;
            }
            assert_eq!((ends.last, ends.len), (previous, queued - before));
            heads += usize::from(ends.first != NONE && !is_bound_lane(lane as u32));
        }
        let (mut free, mut slot) = (0, self.free);
        while slot != NONE {
            assert!(self.entries[slot as usize].waiting.is_none());
            slot = self.entries[slot as usize].next;
            free += 1;
        }
        assert_eq!(queued + free, self.entries.len(), "no entry is lost");
        assert_eq!(
            (self.len, self.ids.len(), self.deadlines.len()),
            (queued, queued, queued)
        );
        assert_eq!(self.heads.len(), heads);
    }
}
